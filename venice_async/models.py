"""The catalogue: what each model takes, why it would refuse a request, and what a key may do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final, cast

from attrs import evolve, field, frozen

from .errors import InvalidRequestError
from .formatting import as_usd, short_repr
from .markup import table_html
from .requests import VideoRequest

DEFAULT_PROMPT_LIMIT: Final = 2500  # characters; the vendor's default where a model names none


@frozen(kw_only=True)
class Problem:
    """One reason why a model would refuse a request.

    Attributes:
        field: the wire name of the field.
        message: what is wrong with it.
        allowed: what the model takes, where it says so.
    """

    field: str
    message: str
    allowed: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" + (
            f" (allowed: {', '.join(self.allowed)})" if self.allowed else ""
        )


@frozen(kw_only=True)
class Deprecation:
    """The planned removal of a model.

    Attributes:
        removes_at: when it is removed, ISO 8601.
        starts_at: when warnings begin, ISO 8601.
        replacement: the id of the model to use instead, where one is named.
        auto_remap: whether the server will use the replacement by itself.
    """

    removes_at: str | None = None
    starts_at: str | None = None
    replacement: str | None = None
    auto_remap: bool = False


@frozen(kw_only=True)
class VideoModel:
    """A model of the live catalogue, with what it accepts.

    Attributes:
        id: what `VideoRequest.model` takes.
        name: its name for people.
        model_type: `"text-to-video"`, `"video"`, or `"image-to-video"`, as reference, transition,
            first-and-last-frame and multi-angle models are called too: `accepts` tells them apart.
        privacy: `"private"` or `"anonymized"`.
        aspect_ratios: what `aspect_ratio` must be one of; empty when the model refuses the field.
        resolutions: what `resolution` may be; empty when the model refuses the field.
        durations: what `duration` may be; `"Auto"` means that it is left out and follows the source.
        audio: whether it makes sound.
        audio_configurable: whether `audio` may be set.
        prompt_character_limit: characters; 2500 where the catalogue names none.
        offline: whether it is out of service.
        beta: whether it is in beta.
        uncensored: whether it is uncensored.
        description: a text for people.
        region_restrictions: the codes of the countries where it is blocked; empty for none.
        deprecation: its removal, if one is planned.
        pricing: the price table as the catalogue gives it; for video it gives none, so ask for a quote.
        traits: the catalogue's labels.
        raw: the whole entry of the catalogue, with fields that this version does not know.
    """

    id: str
    name: str = ""
    model_type: str = "video"
    privacy: str | None = None
    aspect_ratios: tuple[str, ...] = ()
    resolutions: tuple[str, ...] = ()
    durations: tuple[str, ...] = ()
    audio: bool = False
    audio_configurable: bool = False
    prompt_character_limit: int = DEFAULT_PROMPT_LIMIT
    offline: bool = False
    beta: bool = False
    uncensored: bool = False
    description: str = field(default="", repr=False)
    region_restrictions: tuple[str, ...] = ()
    deprecation: Deprecation | None = None
    pricing: Mapping[str, Any] | None = field(default=None, hash=False, repr=False)
    traits: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(factory=dict[str, Any], eq=False, repr=False)

    __repr__ = short_repr

    @property
    def accepts(self) -> frozenset[str]:
        """What the model works on, as far as the catalogue says, by wire names without `_url`.

        Such as `text` (a prompt), `image`, `end_image`, `audio`, `video`, `reference_images`,
        `reference_videos`, `reference_audios`, `elements`, `keyframes`, `video_references`,
        `camera_trajectory`. The catalogue calls several kinds of model `image-to-video`; their ids, names
        and sets tell them apart.
        """
        kinds = self._kinds()
        found = set[str]().union(*(_KINDS[kind][1] for kind in kinds))
        if "upscale" not in kinds or _mapping(self._constraints.get("topaz")).get("prompt"):
            found.add("text")
        if self.model_type == "image-to-video" and not kinds & {"reference", "keyframes"}:
            found.add("image")
        if self._works_on_video(kinds):
            found.add("video")
        flags = {"audio_input": "audio", "per_reference_audio": "video_references"}
        return frozenset(
            found.union(part for flag, part in flags.items() if self._constraints.get(flag) is True)
        )

    def check(self, request: VideoRequest) -> list[Problem]:
        """Return every reason known why this model would refuse `request`; empty when it should accept it."""
        kinds = self._kinds()
        edits = self._works_on_video(kinds)
        found: list[Problem] = []

        def add(name: str, message: str, allowed: Sequence[str] = ()) -> None:
            found.append(Problem(field=name, message=message, allowed=tuple(allowed)))

        if request.model != self.id:
            add("model", f"the request is for {request.model!r}", (self.id,))
        if self.offline:
            add("model", "the model is offline")
        limit = self.prompt_character_limit
        for name in ("prompt", "negative_prompt"):
            text = request.get(name)
            if isinstance(text, str) and len(text) > limit:
                add(name, f"{len(text)} characters, the model takes at most {limit}")
        if self.model_type == "text-to-video" and request.get("prompt") is None:
            add("prompt", "the model needs one")
        if request.get("audio") is not None and not self.audio_configurable:
            add("audio", "the model does not let one choose")

        follows = "reference" in kinds and bool(request.get("reference_video_urls"))
        ratio, resolution = request.get("aspect_ratio"), request.get("resolution")
        if ratio is not None and not (follows and ratio in _FOLLOWING):
            found += self._choice("aspect_ratio", ratio, self.aspect_ratios)
        elif ratio is None and self.aspect_ratios and "multi-angle" not in kinds:
            add("aspect_ratio", "the model needs one", self.aspect_ratios)
        if resolution is not None and "upscale" in kinds:
            add("resolution", "the model takes an upscale_factor instead")
        elif resolution is not None:
            found += self._choice("resolution", resolution, self.resolutions)

        duration = request.get("duration")
        if duration is None:
            optional = edits or request.get("upscale_factor") is not None
            if self.durations and not optional and not any(map(_is_auto, self.durations)):
                add("duration", "the model needs one", self.durations)
        elif edits and _is_auto(str(duration)):
            add("duration", f"{duration!r} is listed but refused; leave it out, and it follows the clip")
        elif not (edits and _SECONDS.fullmatch(str(duration))) and not (follows and duration in _FOLLOWING):
            found += self._choice("duration", duration, self.durations)

        if request.get("upscale_factor") is not None:
            keeping: object = _mapping(self._constraints.get("topaz")).get("no_upscale_models")
            chosen = request.get("enhancement_model")
            if self.model_type in {"text-to-video", "image-to-video"}:
                add("upscale_factor", "only models that upscale take one")
            elif "no-factor" in kinds or (
                isinstance(keeping, list) and chosen is not None and chosen in keeping
            ):
                add("upscale_factor", "the model keeps the size of the clip and takes none")

        given = {name for name in _MEDIA if request.get(name)}
        needed = self._needed_media(kinds, given)
        refused = {name for flag, name in _FLAGS.items() if self._constraints.get(flag) is False} - {*needed}
        if self.model_type == "text-to-video":
            refused |= {"image_url", "end_image_url", "video_url"}
        for name in needed:
            if name not in given:
                add(name, "the model needs it")
        for name in _MEDIA:
            if name in refused & given:
                add(name, "the model takes none")
        if request.get("camera_trajectory") and "multi-angle" not in kinds:
            add("camera_trajectory", "only multi-angle models take one")
        voices = [item.audio_url for item in request.elements]
        voices += [item.audio_url for item in request.video_references]
        if self._constraints.get("per_reference_audio") is False and any(voices):
            add("audio_url", "the model takes no voice for a reference")
        return found

    def _needed_media(self, kinds: set[str], given: set[str]) -> tuple[str, ...]:
        if self._works_on_video(kinds):
            return ("video_url",)
        if "multi-angle" in kinds:
            return ("image_url",)
        if "transition" in kinds and "keyframes" not in given:
            return ("image_url", "end_image_url")
        if "keyframes" in kinds and "image_url" not in given:
            return ("keyframes",)
        if "reference" in kinds and not given - {"audio_url", "reference_audio_urls"}:
            return ("reference_image_urls",)
        if self.model_type == "image-to-video" and not kinds and not given & {"keyframes", "elements"}:
            return ("image_url",)
        return ()

    @property
    def works_on_clip(self) -> bool:
        """Whether it edits or enhances a clip, on which its price depends."""
        return self._works_on_video(self._kinds())

    def shortest(self) -> VideoRequest:
        """Return the request, without its media, for what is likely the model's cheapest clip.

        A model that works on a clip has no price without one.
        """
        seconds = [item for item in self.durations if item.removesuffix("s").isdecimal()]
        duration = min(seconds, key=lambda item: int(item.removesuffix("s")), default=None)
        plain = VideoRequest(model=self.id, prompt="-")  # a price does not depend on the prompt
        try:
            return evolve(
                plain,
                duration=duration or next((item for item in self.durations if not _is_auto(item)), None),
                resolution=min(self.resolutions, key=_lines, default=None),
                aspect_ratio=next(iter(self.aspect_ratios), None),
                audio=False if self.audio_configurable else None,
            )
        except InvalidRequestError:  # by what the catalogue says, such as a clip of 0 s
            return plain

    @property
    def _spec(self) -> Mapping[str, Any]:
        return _mapping(self.raw.get("model_spec"))

    @property
    def _constraints(self) -> Mapping[str, Any]:
        return _mapping(self._spec.get("constraints"))

    def _kinds(self) -> set[str]:
        sets = (part.get("model_sets") for part in (self._spec, self._constraints))
        words = f"{self.id} {self.name} {self.model_type} {[*sets]}".lower()
        found = {kind for kind, (pattern, _) in _KINDS.items() if pattern.search(words)}
        return found | ({"upscale"} if self._constraints.get("topaz") else set())

    def _works_on_video(self, kinds: set[str]) -> bool:
        if kinds & {"upscale", "edit"} or self._constraints.get("video_input") is True:
            return "reference" not in kinds
        return self.model_type == "video" and any(map(_is_auto, self.durations)) and "reference" not in kinds

    def _choice(self, name: str, value: object, allowed: Sequence[str]) -> list[Problem]:
        if value in allowed or (not allowed and self._constraints.get(f"{name}s")):
            return []  # what the catalogue says in a form that nobody knows yet rules nothing out
        message = f"{value!r} is not among what the model takes" if allowed else "the model takes none"
        if spelt := next((choice for choice in allowed if choice.lower() == str(value).lower()), None):
            message = f"{value!r} is spelt {spelt!r}"
        return [Problem(field=name, message=message, allowed=tuple(allowed))]


_FOLLOWING: Final = ("adaptive", "auto", "-1")
_SECONDS: Final = re.compile(r"\d+(\.\d+)?", re.ASCII)
_MEDIA: Final = (
    "image_url",
    "end_image_url",
    "audio_url",
    "video_url",
    "reference_image_urls",
    "reference_video_urls",
    "reference_audio_urls",
    "reference_document_urls",
    "elements",
    "scene_image_urls",
    "keyframes",
    "image_references",
    "video_references",
)
_FLAGS: Final = {"audio_input": "audio_url", "video_input": "video_url"}
# What only a model's id, name, type or sets say, by the names of September 2026, and what it takes then.
_KINDS: Final = {
    kind: (re.compile(pattern), frozenset(takes.split()))
    for kind, pattern, takes in (
        ("reference", r"reference|\br2v\b", "reference_images"),
        ("transition", r"transition|first.?(and.?)?last.?frame", "image end_image"),
        ("keyframes", r"keyframe", "keyframes"),
        ("multi-angle", r"multi.?angle", "image camera_trajectory"),
        ("edit", r"video-to-video|\bv2v\b", "video"),
        ("upscale", r"upscale|topaz", "video"),
        ("no-factor", r"topaz.*(interpolate|hyperion|deblur|colorize)", "video"),
        ("clips", r"(seedance-2|wan-3|minimax-h3(?!.*enhanced)).*reference", "reference_videos"),
        ("sounds", r"(seedance-2|wan-3|minimax-h3).*reference", "reference_audios"),
        ("elements", r"kling-(o3|v3).*reference", "elements scene_images"),
        ("named images", r"pixverse.*reference", "image_references"),
        ("documents", r"wan-3.*reference", "reference_documents"),
    )
}


def _lines(resolution: str) -> int:
    """Return the height that a resolution stands for, roughly: `720p`, `4k`."""
    digits = "".join(letter for letter in resolution if letter.isdecimal())
    return int(digits or 0) * (1000 if resolution[-1:] in "kK" else 1)


def keeps_size(model: str) -> bool:
    """Return whether a model, by its id, refuses an `upscale_factor` although it works on a clip."""
    return _KINDS["no-factor"][0].search(model.lower()) is not None


def _is_auto(duration: str) -> bool:
    return duration.lower() == "auto"


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


@frozen(kw_only=True)
class ModelLimit:
    """One rate limit of a key.

    Attributes:
        model: the model's id, or an empty text for a limit of them all.
        amount: how many.
        type: the unit, such as `"RPM"` for requests a minute.
    """

    model: str
    amount: float
    type: str


@frozen(kw_only=True)
class AccountLimits:
    """What the key may do, and what is left to spend.

    Attributes:
        access_permitted: whether the key may use the API at all.
        tier: the tier's id.
        charged: whether the key pays per use.
        balances: what is left, by currency (`"USD"`, `"DIEM"`).
        key_expires: when the key ends, ISO 8601; None for never.
        limits: the rate limits.
    """

    access_permitted: bool
    tier: str = ""
    charged: bool = True
    balances: Mapping[str, float] = field(factory=dict[str, float], hash=False)
    key_expires: str | None = None
    limits: tuple[ModelLimit, ...] = ()

    def by_model(self) -> dict[str, str]:
        """Return the rate limits of each model in words, such as `40 RPM, 500 RPD`."""
        words: dict[str, str] = {}
        for limit in self.limits:
            said = f"{limit.amount:,.10g} {limit.type}"
            name = limit.model or "all models"
            words[name] = f"{words[name]}, {said}" if name in words else said
        return words

    def __str__(self) -> str:
        """Return the account in a line, then a line for each model that has limits of its own."""
        left = [
            as_usd(amount) if currency == "USD" else f"{amount:,g} {currency}"
            for currency, amount in self.balances.items()
        ]
        facts = (
            "" if self.access_permitted else "no access",
            f"tier {self.tier}" if self.tier else "",
            "" if self.charged else "not charged",
            f"{' and '.join(left)} left" if left else "",
            f"the key expires {self.key_expires}" if self.key_expires else "the key does not expire",
        )
        first = ", ".join(filter(None, facts))
        return "\n".join([first, *(f"{model}: {said}" for model, said in self.by_model().items())])

    def _repr_html_(self) -> str:
        """Show the limits as a table, in a notebook."""
        about, words = str(self).partition("\n")[0], self.by_model()
        table = table_html({"model": list(words), "limit": list(words.values())}) if words else ""
        return f"<div>{escape(about)}</div>{table}"
