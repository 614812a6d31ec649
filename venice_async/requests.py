"""What you send: a video request, checked before anything is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from attrs import Attribute, field, fields, frozen

from .media import MediaInput
from .validators import (
    LIMITS,
    brief,
    check_media,
    duration,
    flag,
    list_field,
    media_field,
    present,
    refuse,
    text,
    whole,
    word,
)

_SECONDS: Final = re.compile(r"(\d+)s", re.ASCII)


@frozen(kw_only=True)
class Consent:
    """Three statements that a person made about the media of a request. There is no default yes.

    Attributes:
        terms_and_privacy: the provider's terms and privacy policy are accepted.
        legal_right: the person has the legal right to use the media.
        screening: the person knows that the media may be screened.
    """

    terms_and_privacy: bool
    legal_right: bool
    screening: bool

    @property
    def complete(self) -> bool:
        """Whether each of the three is literally True."""
        return all(value is True for value in (self.terms_and_privacy, self.legal_right, self.screening))


@frozen(kw_only=True)
class Element:
    """A character or an object, named `@Element1`, `@Element2`, … in the prompt.

    Attributes:
        frontal_image_url: its front.
        reference_image_urls: at most 3 further views.
        video_url: a clip of it.
    """

    frontal_image_url: MediaInput | None = media_field()
    reference_image_urls: Sequence[MediaInput] = list_field("elements.reference_image_urls", check_media)
    video_url: MediaInput | None = media_field()


@frozen(kw_only=True)
class Keyframe:
    """An image pinned to a frame of the clip.

    Attributes:
        image_url: the image.
        frame_index: the frame, counted from 0 at 24 frames a second.
    """

    image_url: MediaInput = field(validator=lambda _, a, value: check_media(a.name, value), repr=brief)
    frame_index: int = field(validator=[present, whole(0)])


def _instance_of(kind: type[Any]) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if not isinstance(value, kind):
            msg = f"{name} takes {kind.__name__}, not {type(value).__name__}"
            raise refuse(msg, name)

    return check


def _consents(instance: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not (isinstance(value, Consent) and value.complete):
        msg = "consents takes a Consent with all three statements True"
        raise refuse(msg, "consents", hint="Leave it out to be asked through on_consent")


def _with_unit(value: str | int | None) -> str | int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return "-1" if value == -1 else f"{value}s"
    return value


def _as_json(value: Any) -> Any:
    """Return a mapping of unknown fields as JSON keeps it: a copy, with lists for tuples."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in cast("Any", value)):
        msg = "extra takes a mapping of field names"
        raise refuse(msg, "extra")
    try:
        return json.loads(json.dumps(dict(cast("Mapping[str, Any]", value)), allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        pass
    msg = "extra holds something that JSON cannot say"
    raise refuse(msg, "extra", hint="Pass numbers, text, lists and mappings; media goes there as a data: URL")


@frozen(kw_only=True)
class VideoRequest:
    """One clip to generate. Fields bear their wire names; one that is left out is absent from what is sent.

    What no model could accept raises `InvalidRequestError` here, before anything is sent; what one model
    accepts is for `VideoModel.check`. Media fields take an http(s) URL, a `data:` URL or `Media`; a plain
    string is never opened as a file.

    Attributes:
        model: the model's id, from `VeniceClient.models`.
        prompt: what to show, 1 to 20 000 characters; most models need it, upscaling takes none.
        duration: such as `"5s"`, or the seconds as an int; `"1 gen"`, `"auto"` and `-1` for models that know
            them.
        negative_prompt: what to keep out, at most 20 000 characters.
        aspect_ratio: such as `"16:9"`.
        resolution: such as `"720p"`; left out it may mean the dearest; not with `upscale_factor`.
        upscale_factor: 1, 2 or 4, for upscale models.
        audio: whether to make sound, for models that let one choose.
        image_url: the first frame, for image-to-video models.
        end_image_url: the last frame.
        audio_url: background music, WAV or MP3.
        video_url: the clip to work on, for video-to-video and upscale models.
        reference_image_urls: at most 30.
        reference_video_urls: at most 10.
        reference_audio_urls: at most 10, and never alone: an image or a clip must be beside them.
        reference_document_urls: at most 1.
        elements: at most 4.
        scene_image_urls: at most 4.
        keyframes: at most 10, with different indexes.
        omni_reference_task_type: `"auto"`, `"reference"`, `"edit"` or `"extend"`, for Seedance 2.5.
        bitrate_mode: `"standard"` or `"high"`.
        consents: what was attested beforehand; left out, `on_consent` is asked when the server asks.
        extra: fields that this version does not know yet, sent as they are.

    Raises:
        InvalidRequestError: with the field and the limit.
    """

    model: str = field(validator=[present, word])
    prompt: str | None = field(default=None, validator=text, repr=brief)
    duration: str | int | None = field(default=None, converter=_with_unit, validator=duration)
    negative_prompt: str | None = field(default=None, validator=text, repr=brief)
    aspect_ratio: str | None = field(default=None, validator=word)
    resolution: str | None = field(default=None, validator=word)
    upscale_factor: int | None = field(default=None, validator=whole(1))
    audio: bool | None = field(default=None, validator=flag)
    image_url: MediaInput | None = media_field()
    end_image_url: MediaInput | None = media_field()
    audio_url: MediaInput | None = media_field()
    video_url: MediaInput | None = media_field()
    reference_image_urls: Sequence[MediaInput] = list_field("reference_image_urls", check_media)
    reference_video_urls: Sequence[MediaInput] = list_field("reference_video_urls", check_media)
    reference_audio_urls: Sequence[MediaInput] = list_field("reference_audio_urls", check_media)
    reference_document_urls: Sequence[MediaInput] = list_field("reference_document_urls", check_media)
    elements: Sequence[Element] = list_field("elements", _instance_of(Element))
    scene_image_urls: Sequence[MediaInput] = list_field("scene_image_urls", check_media)
    keyframes: Sequence[Keyframe] = list_field("keyframes", _instance_of(Keyframe))
    omni_reference_task_type: str | None = field(default=None, validator=word)
    bitrate_mode: str | None = field(default=None, validator=word)
    consents: Consent | None = field(default=None, validator=_consents)
    extra: Mapping[str, Any] = field(factory=dict[str, Any], converter=_as_json, hash=False, repr=brief)

    def __attrs_post_init__(self) -> None:
        """Refuse fields that exclude or need each other."""
        for rule in (_audio_alone, _upscale, _keyframes, _nothing_to_work_on, _extra):
            rule(self)

    @property
    def seconds(self) -> int | None:
        """The duration in seconds, or None where it is not a number of them."""
        match = _SECONDS.fullmatch(str(self.duration))
        return int(match[1]) if match else None


def _audio_alone(request: VideoRequest) -> None:
    beside = (
        request.reference_image_urls,
        request.reference_video_urls,
        request.image_url,
        request.video_url,
    )
    if request.reference_audio_urls and not any(beside):
        msg = "reference_audio_urls cannot stand alone"
        raise refuse(msg, "reference_audio_urls", 1, "Add a reference image or a reference video")


def _upscale(request: VideoRequest) -> None:
    if request.upscale_factor is not None and request.resolution is not None:
        msg = "resolution cannot be combined with upscale_factor"
        raise refuse(msg, "resolution", None, "The size of an upscaled clip follows from its source")


def _keyframes(request: VideoRequest) -> None:
    indexes = [keyframe.frame_index for keyframe in request.keyframes]
    if len(set(indexes)) < len(indexes):
        msg = "keyframes must have different frame_index values"
        raise refuse(msg, "keyframes", "unique frame_index")
    if request.seconds is not None and indexes:
        last = request.seconds * LIMITS["keyframes.per_second"]
        if max(indexes) > last:
            msg = f"keyframes go up to frame {max(indexes)}, but a clip of {request.duration} ends at {last}"
            raise refuse(msg, "keyframes", last)


def _nothing_to_work_on(request: VideoRequest) -> None:
    if request.prompt is None and not request.extra and not any(getattr(request, name) for name in _MATERIAL):
        msg = "prompt is missing, and there is no media to work on either"
        raise refuse(msg, "prompt", 1)


def _extra(request: VideoRequest) -> None:
    for name in request.extra:
        if name in {"consents", "extra"} or (name in _FIELDS and getattr(request, name) not in (None, ())):
            msg = f"extra cannot repeat the field {name!r}"
            raise refuse(msg, "extra", None, f"Pass {name}= itself")


_FIELDS: Final = tuple(item.name for item in fields(VideoRequest))
_MATERIAL: Final = tuple(
    name
    for name in _FIELDS
    if name.endswith(("_url", "_urls")) or name in {"elements", "keyframes", "upscale_factor"}
)
