"""What you get back: tickets, clips, prices, models and questions, all frozen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from attrs import field, frozen

from .errors import UsageError, VeniceError
from .requests import VideoRequest

DEFAULT_PROMPT_LIMIT: Final = 2500  # characters; the vendor's default where a model names none


@frozen(kw_only=True)
class Ticket:
    """The claim check of a queued, paid job: keep it, and the clip can be fetched from any process.

    Attributes:
        model: the model's id.
        queue_id: the job's id.
        download_url: the private link, given once; a secret, valid for at most 24 hours. None for public
            models.
    """

    model: str
    queue_id: str
    download_url: str | None = field(default=None, repr=False)

    def to_json(self) -> str:
        """Return the ticket as JSON. It includes the link: store it like a password."""
        known = {"model": self.model, "queue_id": self.queue_id, "download_url": self.download_url}
        return json.dumps({name: value for name, value in known.items() if value is not None})

    @classmethod
    def from_json(cls, text: str | bytes) -> Ticket:
        """Return the ticket that `to_json` wrote.

        Raises:
            UsageError: it is not such a text.
        """
        values = _ticket_values(text)
        del text  # it holds the link, and a traceback of this frame must not
        if values is None:
            msg = "This is not a ticket: JSON with a model and a queue_id is wanted"
            raise UsageError(msg)
        return cls(**values)


def _ticket_values(text: str | bytes) -> dict[str, str] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    said = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    known = {name: said[name] for name in ("model", "queue_id", "download_url") if said.get(name) is not None}
    sound = all(isinstance(part, str) for part in known.values()) and {"model", "queue_id"} <= known.keys()
    return known if sound else None


@frozen(kw_only=True)
class Video:
    """A clip that arrived whole.

    Attributes:
        path: the file; None when it went to a stream or to memory.
        size: bytes.
        sha256: the digest of the file, in hexadecimal.
        ticket: the job it came from.
    """

    path: Path | None
    size: int
    sha256: str
    ticket: Ticket

    def _repr_html_(self) -> str:
        """Show the clip as a player, in a notebook."""
        from .notebook import video_html  # noqa: PLC0415 - values read no files: only a notebook asks for pictures

        return video_html(self.path, self.size)

    def __fspath__(self) -> str:
        """Let the clip stand wherever a path is wanted."""
        if self.path is None:
            msg = "This clip was streamed and has no path"
            raise UsageError(msg)
        return str(self.path)


@frozen(kw_only=True)
class Quote:
    """A price at this moment; nothing is reserved.

    Attributes:
        usd: the price in USD.
    """

    usd: float


@frozen(kw_only=True)
class ConsentRequest:
    """What the server asks a person before it works on media with faces.

    Attributes:
        flow: whose flow it is, such as `"seedance"`.
        policy_text: the text to show to the person, whole.
        consent_version: the version of that text.
        face_media_roles: which media of the request show faces, such as `("image",)`.
        docs_url: where the provider explains it.
        request: the request at hand.
        message: the server's own words.
    """

    flow: str
    policy_text: str
    consent_version: str
    face_media_roles: tuple[str, ...] = ()
    docs_url: str | None = None
    request: VideoRequest | None = None
    message: str = ""

    @property
    def policy(self) -> str:
        """What tells one policy from another: its flow and version."""
        return f"{self.flow}/{self.consent_version}"


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
        """Say it in one line."""
        return f"{self.field}: {self.message}" + (
            f" (allowed: {', '.join(self.allowed)})" if self.allowed else ""
        )


@frozen(kw_only=True)
class Deprecation:
    """The end of a model.

    Attributes:
        removes_at: when it goes, ISO 8601.
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
    """A model, with what it accepts by the live catalogue.

    Attributes:
        id: what `VideoRequest.model` takes.
        name: its name for people.
        model_type: `"text-to-video"`, `"image-to-video"` or `"video"`.
        privacy: `"private"` or `"anonymized"`.
        aspect_ratios: what `aspect_ratio` may be; empty when the model takes none.
        resolutions: what `resolution` may be; empty when the model takes none.
        durations: what `duration` may be; empty when the model takes none.
        audio: whether it makes sound.
        audio_configurable: whether `audio` may be set.
        prompt_character_limit: characters; 2500 where the catalogue names none.
        offline: whether it is out of service.
        beta: whether it is in beta.
        uncensored: whether it is uncensored.
        description: a text for people.
        region_restrictions: the country codes it is limited to; empty for none.
        deprecation: its end, if one is planned.
        pricing: the price table as the catalogue gives it.
        traits: the catalogue's labels.
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
    description: str = ""
    region_restrictions: tuple[str, ...] = ()
    deprecation: Deprecation | None = None
    pricing: Mapping[str, Any] | None = field(default=None, hash=False)
    traits: tuple[str, ...] = ()

    def check(self, request: VideoRequest) -> list[Problem]:
        """Return every reason why this model would refuse `request`; empty when it should accept it."""
        found = (
            *self._check_service(request),
            *self._check_text(request),
            *self._check_choice("aspect_ratio", request.aspect_ratio, self.aspect_ratios),
            *self._check_choice("resolution", request.resolution, self.resolutions),
            *self._check_duration(request),
            *self._check_media(request),
        )
        return list(found)

    def _check_service(self, request: VideoRequest) -> list[Problem]:
        problems: list[Problem] = []
        if request.model != self.id:
            problems.append(
                Problem(field="model", message=f"the request is for {request.model!r}", allowed=(self.id,))
            )
        if self.offline:
            problems.append(Problem(field="model", message="the model is offline"))
        return problems

    def _check_text(self, request: VideoRequest) -> list[Problem]:
        limit = self.prompt_character_limit
        texts = (("prompt", request.prompt), ("negative_prompt", request.negative_prompt))
        problems = [
            Problem(field=name, message=f"{len(text)} characters, the model takes at most {limit}")
            for name, text in texts
            if text is not None and len(text) > limit
        ]
        if self.model_type == "text-to-video" and request.prompt is None:
            problems.append(Problem(field="prompt", message="the model needs one"))
        if request.audio is not None and not self.audio_configurable:
            problems.append(Problem(field="audio", message="the model does not let one choose"))
        return problems

    def _check_duration(self, request: VideoRequest) -> list[Problem]:
        if request.duration is None and self.durations and request.upscale_factor is None:
            return [Problem(field="duration", message="the model needs one", allowed=self.durations)]
        return self._check_choice("duration", request.duration, self.durations)

    def _check_media(self, request: VideoRequest) -> list[Problem]:
        if self.model_type == "image-to-video" and not (
            request.image_url or request.keyframes or request.elements
        ):
            return [Problem(field="image_url", message="the model needs an image")]
        return []

    @staticmethod
    def _check_choice(name: str, value: object, allowed: Sequence[str]) -> list[Problem]:
        if value is None or str(value).lower() in {choice.lower() for choice in allowed}:
            return []
        message = f"{value!r} is not among what the model takes" if allowed else "the model takes none"
        return [Problem(field=name, message=message, allowed=tuple(allowed))]


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


@frozen(kw_only=True)
class Outcome:
    """How one request of a batch ended: exactly one of `video` and `error` is there.

    Attributes:
        index: the request's place in the batch, from 0.
        request: the request.
        video: the clip.
        error: why there is none.
        usd: what was reserved for it, in USD, when the batch has a budget.
    """

    index: int
    request: VideoRequest
    video: Video | None = None
    error: VeniceError | None = None
    usd: float | None = None
