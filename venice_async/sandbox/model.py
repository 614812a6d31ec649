"""What the sandbox knows of a model: what it accepts, what it costs, how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

Delivery = Literal["inline", "link", "url"]
"""How a clip is handed over: as the body of a poll, by a private link, or by a URL in the last answer."""

_CREATED = 1_767_225_600  # 2026-01-01, as good a release date as any
_DISCOUNT_WITHOUT_AUDIO = 0.8
_REFERENCE_RATE = 0.6


@frozen(kw_only=True)
class CatalogueModel:
    """One model of the sandbox's catalogue.

    Attributes:
        id: the model's id.
        name: its name for people.
        kind: `model_type` as the catalogue lists it.
        usd_per_second: price of a second of video in USD by resolution, dearest last; the only entry of a
            model without resolutions is named "any".
        p80: seconds in which 80 of 100 jobs are done, before `speed` compresses them.
        durations: accepted values of `duration`; empty when the model takes none.
        aspect_ratios: accepted values of `aspect_ratio`; empty when the model refuses the field.
        needs: fields that a request must have beside the prompt.
        references: how many entries each list of references may have, where the model allows fewer than the
            vendor's general limits.
        delivery: how the clip is handed over.
        asks_consent: whether it asks for consent when media is given that may show a face.
        needs_aspect_ratio: whether `aspect_ratio` must be given.
        follows_source: whether `auto` and `-1` follow the reference videos.
        upscales: whether it is an upscaler: no prompt, no duration, no resolution.
        audio: whether it can make sound.
        audio_configurable: whether `audio` can be switched off, which is cheaper.
        prompt_limit: characters a prompt may have.
        offline: whether it refuses new jobs.
        replaced_by: the id of the model which replaces it, when it is deprecated.
    """

    id: str
    name: str
    kind: Literal["text-to-video", "image-to-video", "video"]
    usd_per_second: Mapping[str, float]
    p80: float
    durations: tuple[str, ...] = ()
    aspect_ratios: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    references: Mapping[str, int] = field(factory=dict[str, int])
    delivery: Delivery = "inline"
    asks_consent: bool = False
    needs_aspect_ratio: bool = False
    follows_source: bool = False
    upscales: bool = False
    audio: bool = False
    audio_configurable: bool = False
    prompt_limit: int = 2500
    offline: bool = False
    replaced_by: str | None = None

    @property
    def resolutions(self) -> tuple[str, ...]:
        """Accepted values of `resolution`; empty when the model refuses the field."""
        return tuple(name for name in self.usd_per_second if name != "any")

    @property
    def dearest(self) -> str:
        """The resolution that an omitted one stands for."""
        return tuple(self.usd_per_second)[-1]

    def usd(self, *, seconds: float, resolution: str | None, audio: bool, reference_seconds: float) -> float:
        """Return the price of a clip in USD; seconds of reference video cost a part of those generated."""
        rate = self.usd_per_second.get(resolution or self.dearest, self.usd_per_second[self.dearest])
        silent = self.audio_configurable and not audio
        factor = _DISCOUNT_WITHOUT_AUDIO if silent else 1.0
        return round(rate * (seconds + _REFERENCE_RATE * reference_seconds) * factor, 4)

    def listing(self) -> dict[str, Any]:
        """Return its entry in the answer of `GET /models`."""
        return {
            "created": _CREATED,
            "id": self.id,
            "model_spec": self._spec(),
            "object": "model",
            "owned_by": "venice.ai",
            "type": "video",
        }

    def _spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = {
            "name": self.name,
            "privacy": "private" if self.delivery == "link" else "anonymized",
            "offline": self.offline,
            "beta": False,
            "constraints": self._constraints(),
            "pricing": self._pricing(),
            "traits": [],
        }
        if self.replaced_by is not None:
            spec["deprecation"] = _deprecation(self.replaced_by)
        return spec

    def _constraints(self) -> dict[str, Any]:
        return {
            "model_type": self.kind,
            "aspect_ratios": list(self.aspect_ratios),
            "resolutions": list(self.resolutions),
            "durations": list(self.durations),
            "audio": self.audio,
            "audio_configurable": self.audio_configurable,
            "prompt_character_limit": self.prompt_limit,
        }

    def _pricing(self) -> dict[str, Any]:
        tiers = {name: {"usd": usd, "diem": usd} for name, usd in self.usd_per_second.items()}
        return {"per_second": tiers[self.dearest], "resolutions": tiers}


def _deprecation(successor: str) -> dict[str, Any]:
    instant = "2030-01-01T00:00:00.000Z"
    return {"autoRemap": False, "date": instant, "removesAt": instant, "replacementModelId": successor}
