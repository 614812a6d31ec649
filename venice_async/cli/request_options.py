"""Every field of a request as an option; media may be files or URLs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, cast

from attrs import fields as fields_of
from attrs import frozen

from ..errors import InvalidRequestError
from ..media import Media, MediaInput
from ..requests import Element, Keyframe, VideoRequest
from .options import flag, value

_PICTURE: Final = "Picture and sound"
_MEDIA: Final = "Media (FILE or URL)"
_MORE: Final = "More fields"


def _media(says: str) -> Any:
    return value(takes="MEDIA", says=says, panel=_MEDIA)


@frozen(kw_only=True)
class Look:
    """Fields that all ways of making a clip share."""

    duration: Annotated[str | None, value(takes="SECONDS", says="Its length: 5s, or 5.", panel=_PICTURE)] = (
        None
    )
    aspect_ratio: Annotated[str | None, value(takes="W:H", says="Such as 16:9.", panel=_PICTURE)] = None
    resolution: Annotated[
        str | None,
        value(takes="SIZE", says="Such as 720p; left out it may mean the dearest.", panel=_PICTURE),
    ] = None
    audio: Annotated[
        bool | None, flag("--audio/--no-audio", says="With or without sound.", panel=_PICTURE)
    ] = None
    negative_prompt: Annotated[str | None, value(takes="TEXT", says="What to keep out.", panel=_PICTURE)] = (
        None
    )
    bitrate_mode: Annotated[str | None, value(takes="MODE", says="standard or high.", panel=_PICTURE)] = None
    field: Annotated[
        list[str] | None,
        value(
            takes="NAME=JSON",
            says="Any other field of the API, such as --field seed=7. Repeatable.",
            panel=_MORE,
        ),
    ] = None

    def values(self) -> dict[str, Any]:
        """Return what was set, by the names of `VideoRequest`."""
        known = {
            "duration": duration(self.duration),
            "aspect_ratio": self.aspect_ratio,
            "resolution": self.resolution,
            "audio": self.audio,
            "negative_prompt": self.negative_prompt,
            "bitrate_mode": self.bitrate_mode,
            "extra": extra(self.field or ()),
        }
        return {name: found for name, found in known.items() if found not in (None, {})}


@frozen(kw_only=True)
class Material:
    """Fields that carry media."""

    image: Annotated[str | None, _media("The first frame.")] = None
    end_image: Annotated[str | None, _media("The last frame.")] = None
    video: Annotated[str | None, _media("The clip to work on.")] = None
    music: Annotated[str | None, _media("Background music (audio_url).")] = None
    reference_image: Annotated[list[str] | None, _media("Repeatable.")] = None
    reference_video: Annotated[list[str] | None, _media("Repeatable.")] = None
    reference_audio: Annotated[
        list[str] | None, _media("Repeatable; needs an image or a clip beside it.")
    ] = None
    reference_document: Annotated[list[str] | None, _media("A document.")] = None
    scene_image: Annotated[list[str] | None, _media("Repeatable.")] = None
    keyframe: Annotated[
        list[str] | None,
        value(
            takes="MEDIA@FRAME",
            says="An image pinned to a frame, counted from 0 at 24 a second. Repeatable.",
            panel=_MEDIA,
        ),
    ] = None
    element: Annotated[
        list[str] | None,
        value(
            takes="JSON",
            says='A character or an object: {"frontal_image_url": "hero.png"}. Repeatable.',
            panel=_MEDIA,
        ),
    ] = None
    upscale_factor: Annotated[
        int | None, value(takes="FACTOR", says="1, 2 or 4, for upscale models.", panel=_MORE)
    ] = None
    task_type: Annotated[
        str | None, value(takes="TYPE", says="Seedance 2.5: auto, reference, edit or extend.", panel=_MORE)
    ] = None

    def values(self) -> dict[str, Any]:
        """Return what was set, by the names of `VideoRequest`.

        Raises:
            InvalidRequestError: a file is missing, or a value cannot be read.
        """
        known = {
            "image_url": media("--image", self.image),
            "end_image_url": media("--end-image", self.end_image),
            "video_url": media("--video", self.video),
            "audio_url": media("--music", self.music),
            "reference_image_urls": many("--reference-image", self.reference_image),
            "reference_video_urls": many("--reference-video", self.reference_video),
            "reference_audio_urls": many("--reference-audio", self.reference_audio),
            "reference_document_urls": many("--reference-document", self.reference_document),
            "scene_image_urls": many("--scene-image", self.scene_image),
            "keyframes": [_keyframe(text) for text in self.keyframe or ()],
            "elements": [element(text) for text in self.element or ()],
            "upscale_factor": self.upscale_factor,
            "omni_reference_task_type": self.task_type,
        }
        return {name: found for name, found in known.items() if found not in (None, [])}


def media(option: str, given: str | None) -> MediaInput | None:
    """Return a URL as it is, and a path as the file it names.

    Raises:
        InvalidRequestError: there is no such file.
    """
    if given is None or given.lower().startswith(("http://", "https://", "data:")):
        return given
    if not Path(given).is_file():
        msg = f"{option}: there is no file {given!r}"
        raise InvalidRequestError(msg, field=option, hint="Name a file, or an http(s) URL")
    return Media(Path(given))


def many(option: str, values: Sequence[str] | None) -> list[MediaInput]:
    """Return each of `values` as `media` does."""
    return [found for found in (media(option, given) for given in values or ()) if found is not None]


def duration(text: str | None) -> str | int | None:
    """Return a length as the request takes it: a bare number is seconds."""
    return int(text) if text is not None and text.removeprefix("-").isdecimal() and text.isascii() else text


def extra(items: Sequence[str]) -> dict[str, Any]:
    """Return fields given as `name=json`; what is not JSON is text.

    Raises:
        InvalidRequestError: one has no name.
    """
    found: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier():
            msg = f"--field takes NAME=JSON, not {item!r}"
            raise InvalidRequestError(msg, field="extra", hint="Such as --field seed=7")
        found[name] = parsed(text)
    return found


def element(given: str | Mapping[str, Any]) -> Element:
    """Return a character or an object given as JSON, its media files or URLs.

    Raises:
        InvalidRequestError: it is not one.
    """
    said = parsed(given) if isinstance(given, str) else given
    known = {item.name for item in fields_of(Element)}
    if not isinstance(said, Mapping) or not known.issuperset(cast("Mapping[str, Any]", said)):
        msg = f"--element takes JSON with {', '.join(sorted(known))}, not {given!r}"
        raise InvalidRequestError(msg, field="elements")
    return Element(**{name: _part(name, part) for name, part in cast("Mapping[str, Any]", said).items()})


def _part(name: str, given: Any) -> Any:
    return many("--element", given) if name.endswith("s") else media("--element", given)


def request(model: str, prompt: str | None, look: Look, material: Material) -> VideoRequest:
    """Return the request.

    Raises:
        InvalidRequestError: with the field and the limit.
    """
    return VideoRequest(model=model, prompt=prompt, **look.values(), **material.values())


def _keyframe(text: str) -> Keyframe:
    source, _, frame = text.rpartition("@")
    if not source or not frame.isdecimal():
        msg = f"--keyframe takes MEDIA@FRAME, not {text!r}"
        raise InvalidRequestError(msg, field="keyframes", hint="Such as --keyframe start.png@0")
    image = media("--keyframe", source)
    assert image is not None  # noqa: S101 - there is a source
    return Keyframe(image_url=image, frame_index=int(frame))


def parsed(text: str) -> Any:
    """Return what JSON says; text that is no JSON, or too deep, stays text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
