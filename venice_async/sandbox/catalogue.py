"""The models that the sandbox offers: what each accepts, what it costs, how long it takes.

Ids, constraints and prices are like the vendor's, and no promise. So are the entries of the catalogue: models
of several kinds are `image-to-video`, prices are not listed, and what tells models apart is in `constraints`
and in their names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from attrs import field, frozen

from .clips.media import reference_seconds, seconds_of

Delivery = Literal["inline", "link", "url"]
"""How a clip is handed over: as the body of a poll, by a private link, or by a URL in the last answer."""

_CREATED = 1_767_225_600  # 2026-01-01, as good a release date as any
_DISCOUNT_WITHOUT_AUDIO = 0.8
_REFERENCE_RATE = 0.6
_FPS = 30.0  # frames a second that a price is for


@frozen(kw_only=True)
class Topaz:
    """What an enhancement model takes beside the clip.

    Attributes:
        models: values of `enhancement_model`, and by how much each is dearer.
        no_upscale_models: of these, those that refuse `upscale_factor`.
        prompt: whether it takes a prompt.
    """

    models: Mapping[str, float] = field(factory=dict[str, float])
    no_upscale_models: tuple[str, ...] = ()
    prompt: bool = False


TOPAZ_SLIDERS: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(
        ("creativity", "realism", "sharp", "compression", "noise", "halo", "recover_detail"), (0.0, 1.0)
    ),
    "grain": (0.0, 0.1),
    "softness": (1.0, 5.0),
}
"""Fields of enhancement models, and what they span."""


@frozen(kw_only=True)
class CatalogueModel:
    """One model of the sandbox's catalogue.

    Attributes:
        id: the model's id.
        name: its name for people.
        kind: `model_type` as the catalogue lists it.
        usd_per_second: price of a second of video in USD by resolution, dearest last; the only entry of a
            model without resolutions is named "any".
        usd_per_image: price of a reference image in USD.
        p80: seconds in which 80 of 100 jobs are done, before `speed` compresses them.
        durations: accepted values of `duration`; empty when the model takes none.
        aspect_ratios: accepted values of `aspect_ratio`; empty when the model refuses the field.
        needs: fields that a request must have beside the prompt.
        references: how many entries each list of references may have, where the model allows fewer than the
            vendor's general limits.
        delivery: how the clip is handed over.
        private: whether it is listed as private; None for those that deliver by a link. Neither implies the
            other.
        asks_consent: whether it asks for consent when media is given that may show a face.
        needs_aspect_ratio: whether `aspect_ratio` must be given, although the sandbox is not strict.
        follows_source: whether `auto` and `-1` follow the reference videos.
        reference_seconds: seconds that all reference videos may last together.
        multi_angle: whether it takes a `camera_trajectory`, and no prompt is needed.
        edits: whether it works on `video_url` and follows its length: `Auto` is listed, and refused.
        upscales: whether it is an upscaler, which edits too: no prompt, no duration, no resolution.
        factors: accepted values of `upscale_factor`; empty when an upscaler keeps the size.
        topaz: what an enhancement model takes; None for others.
        audio_input: whether it takes `audio_url`.
        per_reference_audio: whether each reference may have a voice.
        audio: whether it can make sound.
        audio_configurable: whether `audio` can be switched off, which is cheaper.
        prompt_limit: characters a prompt may have.
        offline: whether it refuses new jobs.
        replaced_by: the id of the model which replaces it, when it is deprecated.
        blocked_in: codes of the countries where it is blocked.
        sets: the catalogue's labels.
    """

    id: str
    name: str
    kind: Literal["text-to-video", "image-to-video", "video"]
    usd_per_second: Mapping[str, float]
    usd_per_image: float = 0.0
    p80: float
    durations: tuple[str, ...] = ()
    aspect_ratios: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    references: Mapping[str, int] = field(factory=dict[str, int])
    delivery: Delivery = "inline"
    private: bool | None = None
    asks_consent: bool = False
    needs_aspect_ratio: bool = False
    follows_source: bool = False
    reference_seconds: float = 150.0
    multi_angle: bool = False
    edits: bool = False
    upscales: bool = False
    factors: tuple[int, ...] = (1, 2, 4)
    topaz: Topaz | None = None
    audio_input: bool = False
    per_reference_audio: bool = False
    audio: bool = False
    audio_configurable: bool = False
    prompt_limit: int = 2500
    offline: bool = False
    replaced_by: str | None = None
    blocked_in: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()

    @property
    def takes_clip(self) -> bool:
        """Whether it works on `video_url` and follows its length."""
        return self.edits or self.upscales

    @property
    def resolutions(self) -> tuple[str, ...]:
        """Accepted values of `resolution`; empty when the model refuses the field."""
        return tuple(name for name in self.usd_per_second if name != "any")

    @property
    def dearest(self) -> str:
        """The resolution that an omitted one stands for."""
        return tuple(self.usd_per_second)[-1]

    def price(self, body: Mapping[str, Any]) -> float:
        """Return the price in USD of a request to generate or to quote.

        A second of reference video costs a part of one generated; options of an enhancement model make it
        dearer. A quote that does not say how many reference images there are is for one.
        """
        rate = self.usd_per_second[self.dearest]
        if self.resolutions:
            rate = self.usd_per_second.get(body.get("resolution") or self.dearest, rate)
        if self.audio_configurable and not body.get("audio", True):
            rate *= _DISCOUNT_WITHOUT_AUDIO
        urls = body.get("reference_image_urls")
        given = len(cast("list[object]", urls)) if isinstance(urls, list) else 1
        images = body.get("reference_image_count", given)
        seconds = seconds_of(body, upscales=self.takes_clip) + _REFERENCE_RATE * reference_seconds(body)
        usd: float = round(rate * seconds + self.usd_per_image * images, 4)
        factor: float = body.get("upscale_factor", 2) if self.upscales and self.factors else 1
        if self.topaz is not None:
            usual, fps = next(iter(self.topaz.models)), body.get("target_fps")
            factor *= self.topaz.models.get(body.get("enhancement_model") or usual, 1.0)
            factor *= (fps / _FPS if fps else 1.0) * (body.get("slowdown_factor") or 1)
        return round(usd * factor, 4)

    def listing(self) -> dict[str, Any]:
        """Return its entry in the answer of `GET /models`."""
        constraints: dict[str, Any] = {
            "model_type": self.kind,
            "aspect_ratios": list(self.aspect_ratios),
            "resolutions": list(self.resolutions),
            "durations": ["Auto"] if self.takes_clip else list(self.durations),
            "audio": self.audio,
            "audio_configurable": self.audio_configurable,
            "audio_input": self.audio_input,
            "per_reference_audio": self.per_reference_audio,
            "video_input": self.takes_clip,
        }
        if self.prompt_limit != _USUAL_PROMPT:
            constraints["prompt_character_limit"] = self.prompt_limit
        if "image_url" in self.needs or "reference" in self.id:
            constraints["reference_image_min_short_side_pixels"] = 300
            constraints["reference_image_min_aspect_ratio"] = 0.4
            constraints["reference_image_max_aspect_ratio"] = 2.5
        if self.topaz is not None:
            constraints["topaz"] = {
                "models": list(self.topaz.models),
                "sliders": list(TOPAZ_SLIDERS),
                "selects": ["enhancement_model", "output_format", "slowdown_factor", "target_fps"],
                "no_upscale_models": list(self.topaz.no_upscale_models),
                "h264_output": True,
                "prompt": self.topaz.prompt,
            }
        private = self.delivery == "link" if self.private is None else self.private
        spec: dict[str, Any] = {
            "privacy": "private" if private else "anonymized",
            "constraints": constraints,
            "model_sets": list(self.sets),
            "name": self.name,
            "offline": self.offline,
            "traits": [],
        }
        if self.blocked_in:
            spec["regionRestrictions"] = list(self.blocked_in)
        if self.replaced_by is not None:
            spec["deprecation"] = {
                "autoRemap": False,
                "date": ENDS,
                "removesAt": ENDS,
                "replacementModelId": self.replaced_by,
            }
        return {
            "created": _CREATED,
            "id": self.id,
            "model_spec": spec,
            "object": "model",
            "owned_by": "venice.ai",
            "type": "video",
        }


ENDS = "2030-01-01T00:00:00.000Z"
"""When a deprecated model goes."""

_USUAL_PROMPT = 2500


def _model(entry: dict[str, Any]) -> CatalogueModel:
    """Return a model by its entry in `catalogue.json`, which has the fields of a `CatalogueModel`.

    `seconds` are the first and the last of its durations, which come before those that are named.
    """
    first, last = entry.pop("seconds", (1, 0))
    named, topaz = entry.pop("durations", ()), entry.pop("topaz", None)
    durations = (*(f"{second}s" for second in range(first, last + 1)), *named)
    fields: dict[str, Any] = {
        name: tuple(cast("list[str]", value)) if isinstance(value, list) else value
        for name, value in entry.items()
    }
    return CatalogueModel(**fields, durations=durations, topaz=None if topaz is None else Topaz(**topaz))


CATALOGUE: tuple[CatalogueModel, ...] = tuple(
    map(_model, json.loads(Path(__file__).with_name("catalogue.json").read_text("utf-8")))
)
"""Text, image, references and keyframes to video; private, consent-asking, upscaling, offline ones."""
