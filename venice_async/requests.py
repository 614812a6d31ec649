"""What you send: a video request, checked before anything is sent."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, cast

from attrs import field, fields, frozen
from attrs.validators import optional

from .formatting import short_repr
from .media import Media, MediaInput
from .validators import (
    LIMITS,
    brief,
    flag,
    list_field,
    media,
    media_field,
    number,
    present,
    refuse,
    text,
    user_id,
    word,
)

_SECONDS: Final = re.compile(r"(\d+(?:\.\d+)?)s?", re.ASCII)
_FEWEST_POINTS: Final = 2


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


@frozen(repr=False)
class Part:
    """A JSON object that is sent: a request, or an object within one. Its repr shows what is set."""

    __repr__ = short_repr


@frozen(kw_only=True, repr=False)
class Element(Part):
    """A character or an object, named `@Element1`, `@Element2`, … in the prompt: images of it, or a clip.

    Attributes:
        frontal_image_url: its front.
        reference_image_urls: at most 3 further views.
        video_url: a clip of it, instead of images.
        audio_url: what it says, for models that take a voice for each reference.
    """

    frontal_image_url: MediaInput | None = media_field()
    reference_image_urls: Sequence[MediaInput] = list_field("elements.reference_image_urls")
    video_url: MediaInput | None = media_field()
    audio_url: MediaInput | None = media_field()

    def __attrs_post_init__(self) -> None:
        """Refuse images beside a clip."""
        if self.video_url is not None and (self.frontal_image_url is not None or self.reference_image_urls):
            msg = "elements hold images or a video_url, never both"
            refuse(msg, "elements", None, "Make two elements of them")


@frozen(kw_only=True, repr=False)
class Keyframe(Part):
    """An image pinned to a frame of the clip.

    Attributes:
        image_url: the image.
        frame_index: the frame, counted from 0 at 24 frames a second.
    """

    image_url: MediaInput = field(validator=media, repr=brief)
    frame_index: int = field(validator=[present, number(0, whole=True)])


@frozen(kw_only=True, repr=False)
class CameraPoint(Part):
    """Where the camera is at a moment of the clip, seen from the subject of `image_url`.

    Attributes:
        time: the moment, from 0 for the start to 1 for the end.
        azimuth: degrees around the subject, signed, counted from the start.
        elevation: degrees above it, from -90 to 90.
        distance: how far away, where 1 is the distance at the start.
    """

    time: float = field(validator=[present, number(0, 1)])
    azimuth: float = field(validator=[present, number(-math.inf)])
    elevation: float = field(validator=[present, number(-90, 90)])
    distance: float = field(validator=[present, number(0, above=True)])


@frozen(kw_only=True, repr=False)
class ImageReference(Part):
    """A reference image with a name, which the prompt mentions as `@ref_name`.

    Attributes:
        image_url: the image.
        type: what it shows: `"subject"` or `"background"`.
        ref_name: its name.
    """

    image_url: MediaInput = field(validator=media, repr=brief)
    type: str | None = field(default=None, validator=optional(word))
    ref_name: str | None = field(default=None, validator=optional(word))


@frozen(kw_only=True, repr=False)
class VideoReference(Part):
    """A reference clip with a name, and a voice for it.

    Attributes:
        video_url: the clip.
        ref_name: its name.
        audio_url: its voice.
    """

    video_url: MediaInput = field(validator=media, repr=brief)
    ref_name: str | None = field(default=None, validator=optional(word))
    audio_url: MediaInput | None = media_field()


def _duration(value: str | int | None) -> str | None:
    """Return a duration as text: a word, and not a negative or empty span."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = "-1" if value == -1 else f"{value}s"
    if value is None:
        return None
    if not (isinstance(value, str) and value.strip()):
        msg = f"duration must be text such as '5s', or whole seconds as an int, not {value!r}"
        refuse(msg, "duration")
    if (value.startswith("-") and value != "-1") or value == "0s":
        refuse(f"duration must be at least one second, not {value!r}", "duration", 1)
    return value


def _unknown_fields(value: object) -> dict[str, Any]:
    """Return a mapping of unknown fields as JSON keeps it: a copy, with lists for tuples. `Media` stays."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in cast("Any", value)):
        refuse("extra takes a mapping of field names", "extra")
    try:
        copied = _copied(dict(cast("Mapping[str, object]", value)))
    except (TypeError, ValueError, RecursionError):
        copied = None
    if copied is None:
        hint = "Pass numbers, text, lists, mappings with text for keys, and media as a URL or Media"
        refuse("extra holds something that JSON cannot say", "extra", hint=hint)
    return cast("dict[str, Any]", copied)


def _copied(value: object) -> object:
    match value:
        case Media() | str() | int() | None:
            return value
        case float() if math.isfinite(value):
            return value
        case list() | tuple():
            return [_copied(item) for item in cast("Sequence[object]", value)]
        case dict():
            known = cast("dict[object, object]", value)
            if all(isinstance(name, str) for name in known):
                return {name: _copied(item) for name, item in known.items()}
        case _:
            pass
    raise TypeError


@frozen(kw_only=True, repr=False)
class VideoRequest(Part):
    """One clip to generate. Fields have the names of the API; a field that is left out is not sent.

    A request that no model could accept raises `InvalidRequestError` here, before anything is sent;
    `VideoModel.check` says what one model accepts. Media fields take an http(s) URL, a `data:` URL or
    `Media`; a plain string is never opened as a file. Lists of objects take mappings too:
    `elements=[{"video_url": "…"}]`.

    Attributes:
        model: the model's id, from `VeniceClient.models`.
        prompt: what to show, 1 to 20 000 characters; most models need it, upscaling takes none.
        duration: such as `"5s"`, or the seconds as an int; `"1 gen"`, `"auto"` and `-1` for models that know
            them; text of seconds such as `"12.5"`, or nothing, for models that work on `video_url`.
        negative_prompt: what to keep out, at most 20 000 characters.
        aspect_ratio: such as `"16:9"`: needed by models that list any, refused by those that list none.
        resolution: such as `"720p"`; the default may be the most expensive; not with `upscale_factor`.
        upscale_factor: 1, 2 or 4, for upscale models.
        audio: whether to make sound, for models that let one choose.
        image_url: the first frame, for image-to-video models.
        end_image_url: the last frame.
        audio_url: background music, WAV or MP3.
        video_url: the clip to work on, for video-to-video and upscale models.
        reference_image_urls: at most 30.
        reference_video_urls: at most 10.
        reference_audio_urls: at most 10, together with an image or a clip.
        reference_document_urls: at most 1.
        elements: at most 4.
        scene_image_urls: at most 4.
        keyframes: at most 10, with different indexes.
        image_references: images with names.
        video_references: clips with names and voices.
        camera_trajectory: 2 to 12 points in order of time, for multi-angle models; needs `image_url`, and the
            aspect ratio follows it.
        image_strength: how closely to keep to the image, from 0 to 1.
        voice_id: a voice of the provider's.
        anon_user_id: your end user's id, at most 128 printable ASCII characters, without `||`.
        omni_reference_task_type: `"auto"`, `"reference"`, `"edit"` or `"extend"`, for Seedance 2.5.
        bitrate_mode: `"standard"` or `"high"`.
        consents: a person's statements, if given in advance; otherwise `on_consent` is asked when needed.
        extra: fields that this version does not know yet, sent as they are; `Media` anywhere in them is read
            and encoded like elsewhere.

    Raises:
        InvalidRequestError: with the field and the limit.
    """

    model: str = field(validator=[present, word])
    prompt: str | None = field(default=None, validator=optional(text), repr=brief)
    duration: str | int | None = field(default=None, converter=_duration)
    negative_prompt: str | None = field(default=None, validator=optional(text), repr=brief)
    aspect_ratio: str | None = field(default=None, validator=optional(word))
    resolution: str | None = field(default=None, validator=optional(word))
    upscale_factor: int | None = field(default=None, validator=optional(number(1, whole=True)))
    audio: bool | None = field(default=None, validator=optional(flag))
    image_url: MediaInput | None = media_field()
    end_image_url: MediaInput | None = media_field()
    audio_url: MediaInput | None = media_field()
    video_url: MediaInput | None = media_field()
    reference_image_urls: Sequence[MediaInput] = list_field("reference_image_urls")
    reference_video_urls: Sequence[MediaInput] = list_field("reference_video_urls")
    reference_audio_urls: Sequence[MediaInput] = list_field("reference_audio_urls")
    reference_document_urls: Sequence[MediaInput] = list_field("reference_document_urls")
    elements: Sequence[Element] = list_field("elements", Element)
    scene_image_urls: Sequence[MediaInput] = list_field("scene_image_urls")
    keyframes: Sequence[Keyframe] = list_field("keyframes", Keyframe)
    image_references: Sequence[ImageReference] = list_field("image_references", ImageReference)
    video_references: Sequence[VideoReference] = list_field("video_references", VideoReference)
    camera_trajectory: Sequence[CameraPoint] = list_field("camera_trajectory", CameraPoint)
    image_strength: float | None = field(default=None, validator=optional(number(0, 1)))
    voice_id: str | None = field(default=None, validator=optional(word))
    anon_user_id: str | None = field(default=None, validator=optional(user_id))
    omni_reference_task_type: str | None = field(default=None, validator=optional(word))
    bitrate_mode: str | None = field(default=None, validator=optional(word))
    consents: Consent | None = None
    extra: Mapping[str, Any] = field(
        factory=dict[str, Any], converter=_unknown_fields, hash=False, repr=brief
    )

    def __attrs_post_init__(self) -> None:
        """Refuse consents that are not given, and fields that exclude or need each other."""
        if self.consents is not None and not (
            isinstance(cast("object", self.consents), Consent) and self.consents.complete
        ):
            msg = "consents takes a Consent with all three statements True"
            refuse(msg, "consents", hint="Leave it out to be asked through on_consent")
        beside = (
            self.reference_image_urls,
            self.reference_video_urls,
            self.image_references,
            self.video_references,
            self.image_url,
            self.video_url,
        )
        if self.reference_audio_urls and not any(beside):
            msg = "reference_audio_urls cannot stand alone"
            refuse(msg, "reference_audio_urls", 1, "Add a reference image or a reference video")
        if self.upscale_factor is not None and self.resolution is not None:
            msg = "resolution cannot be combined with upscale_factor"
            refuse(msg, "resolution", None, "The size of an upscaled clip follows from its source")
        indexes = [keyframe.frame_index for keyframe in self.keyframes]
        if len(set(indexes)) < len(indexes):
            refuse("keyframes must have different frame_index values", "keyframes", "unique frame_index")
        if indexes and self.seconds is not None:
            last = self.seconds * LIMITS["keyframes.per_second"]
            if max(indexes) > last:
                msg = f"keyframes go up to frame {max(indexes)}, but a clip of {self.duration} ends at {last}"
                refuse(msg, "keyframes", last)
        if points := self.camera_trajectory:
            name = "camera_trajectory"
            if len(points) < _FEWEST_POINTS:
                refuse("camera_trajectory needs at least two points", name, _FEWEST_POINTS)
            if any(later.time <= earlier.time for earlier, later in pairwise(points)):
                msg = "camera_trajectory must be in order of time, and no two points at the same time"
                refuse(msg, name, "rising time")
            turned = math.fsum(abs(later.azimuth - earlier.azimuth) for earlier, later in pairwise(points))
            most = LIMITS["camera_trajectory.azimuth"]
            if turned > most:
                refuse(f"camera_trajectory turns by {turned:g} degrees; the limit is {most}", name, most)
            if self.image_url is None and "image_url" not in self.extra:
                refuse("camera_trajectory needs an image_url to start from", "image_url", 1)
            if self.aspect_ratio is not None:
                msg = "aspect_ratio cannot be combined with camera_trajectory"
                refuse(msg, "aspect_ratio", None, "Leave it out: the clip has the shape of image_url")
        if self.prompt is None and not self.extra and not any(getattr(self, name) for name in _MATERIAL):
            refuse("prompt is missing, and there is no media to work on either", "prompt", 1)
        for name in self.extra:
            if name in {"consents", "extra"} or (name in _FIELDS and getattr(self, name) not in (None, ())):
                refuse(f"extra cannot repeat the field {name!r}", "extra", None, f"Pass {name}= itself")

    def get(self, name: str) -> object:
        """Return the value of a field by its wire name, wherever it was given; None where it is not set."""
        known: object = getattr(self, name) if name in _FIELDS else None
        return self.extra.get(name) if known in (None, ()) else known

    @property
    def seconds(self) -> float | None:
        """The duration in seconds, or None where it is not a number of them."""
        match = _SECONDS.fullmatch(str(self.duration))
        if match is None:
            return None
        return float(match[1]) if "." in match[1] else int(match[1])


_FIELDS: Final = tuple(item.name for item in fields(VideoRequest))
_MATERIAL: Final = tuple(
    name
    for name in _FIELDS
    if name.endswith(("_url", "_urls", "_references")) or name in {"elements", "keyframes", "upscale_factor"}
)
