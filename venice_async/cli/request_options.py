"""Every field of a request as an option; media may be files or URLs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, cast

from attrs import asdict, evolve, fields, frozen
from cyclopts import Parameter

from ..errors import InvalidRequestError
from ..media import Media, MediaInput
from ..requests import VideoRequest
from .options import MAIN, MEDIA, MORE, PICTURE, Fields, Medium, Text

KNOWN: Final = frozenset(item.name for item in fields(VideoRequest)) - {"consents", "extra"}
UNDECLARED: Final = ("seed",)  # fields of the API that are no attributes of a request
_SIMILAR: Final = 0.8  # how alike a name is to one that was meant
_URLS: Final = ("http://", "https://", "data:")
_NAMES: Final = {  # options with another name than their field
    "image": "image_url",
    "end_image": "end_image_url",
    "video": "video_url",
    "music": "audio_url",
    "reference_image": "reference_image_urls",
    "reference_video": "reference_video_urls",
    "reference_audio": "reference_audio_urls",
    "reference_document": "reference_document_urls",
    "scene_image": "scene_image_urls",
    "task_type": "omni_reference_task_type",
}

Media_ = tuple[Medium, ...]


@Parameter(name="*", group=PICTURE)
@frozen(kw_only=True)
class PictureOptions:
    """Fields that all ways of making a clip share.

    Attributes:
        duration: Its length: 5s, or 5.
        aspect_ratio: Such as 16:9.
        resolution: Such as 720p; the model's default may be the most expensive.
        audio: With or without sound.
        negative_prompt: What to keep out.
        bitrate_mode: standard or high.
        field: Any other field of the API, such as --field seed=7. Repeatable.
    """

    duration: Annotated[str | None, Parameter(metavar="SECONDS", group=MAIN, allow_leading_hyphen=True)] = (
        None
    )
    aspect_ratio: Annotated[str | None, Parameter(metavar="W:H", group=MAIN)] = None
    resolution: Annotated[str | None, Parameter(metavar="SIZE", group=MAIN)] = None
    audio: Annotated[bool | None, Parameter(negative="--no-audio", group=MAIN)] = None
    negative_prompt: Text | None = None
    bitrate_mode: Annotated[str | None, Parameter(metavar="MODE")] = None
    field: Annotated[Fields, Parameter(group=MORE)] = ()


@Parameter(name="*", group=MEDIA)
@frozen(kw_only=True)
class MediaOptions:
    """Fields that carry media.

    Attributes:
        image: The first frame: a file or a URL.
        end_image: The last frame.
        video: The clip to work on.
        music: Background music (audio_url).
        reference_image: Repeatable.
        reference_video: Repeatable.
        reference_audio: Repeatable; needs an image or a clip beside it.
        reference_document: A document.
        scene_image: Repeatable.
        keyframe: An image pinned to a frame, counted from 0 at 24 a second. Repeatable.
        element: A character or an object: {"frontal_image_url": "hero.png"}. Repeatable.
        upscale_factor: 1, 2 or 4, for upscale models.
        task_type: Seedance 2.5: auto, reference, edit or extend.
    """

    image: Annotated[Medium | None, Parameter(group=MAIN)] = None
    end_image: Medium | None = None
    video: Medium | None = None
    music: Medium | None = None
    reference_image: Media_ = ()
    reference_video: Media_ = ()
    reference_audio: Media_ = ()
    reference_document: Media_ = ()
    scene_image: Media_ = ()
    keyframe: Annotated[tuple[str, ...], Parameter(metavar="MEDIA@FRAME")] = ()
    element: Annotated[tuple[str, ...], Parameter(metavar="JSON")] = ()
    upscale_factor: Annotated[int | None, Parameter(metavar="FACTOR", group=MORE)] = None
    task_type: Annotated[str | None, Parameter(metavar="TYPE", group=MORE)] = None


def values(*groups: PictureOptions | MediaOptions) -> dict[str, Any]:
    """Return the values that were given, by the names of `VideoRequest`.

    Raises:
        InvalidRequestError: a file is missing, or a value cannot be read.
    """
    found: dict[str, Any] = {}
    options = [item for group in groups for item in asdict(group, recurse=False).items()]
    for option, given in options:
        says = f"--{option.replace('_', '-')}"
        if given in (None, ()):
            continue
        if option == "field":
            found |= named_fields(given)
        elif option == "keyframe":
            keyframes: list[dict[str, Any]] = []
            for text in given:
                source, _, frame = text.rpartition("@")
                if not source or not frame.isdecimal():
                    msg = f"{says} takes MEDIA@FRAME, not {text!r}"
                    raise InvalidRequestError(msg, field="keyframes", hint=f"Such as {says} start.png@0")
                keyframes.append({"image_url": medium(says, source), "frame_index": int(frame)})
            found["keyframes"] = keyframes
        elif option == "element":
            elements: list[Any] = []
            for text in given:
                said = parsed(text)
                if not isinstance(said, dict):
                    msg = f"{says} takes a JSON object, not {text!r}"
                    hint = 'Such as {"frontal_image_url": "hero.png"}'
                    raise InvalidRequestError(msg, field="elements", hint=hint)
                elements.append(as_field("element", said, says=says))
            found["elements"] = elements
        else:
            name = _NAMES.get(option, option)
            found[name] = as_field(name, given, says=says)
    return found


def named_fields(items: Iterable[str]) -> dict[str, Any]:
    """Return fields given as `name=json`; what is not JSON is text, and what is no field of ours is `extra`.

    Raises:
        InvalidRequestError: one has no name, or one like a field of ours, or its file is missing.
    """
    said: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier():
            msg = f"--field takes NAME=JSON, not {item!r}"
            raise InvalidRequestError(msg, field="extra", hint="Such as --field seed=7")
        said[name] = parsed(text)
    known, extra = split_fields(said)
    found = {name: as_field(name, part) for name, part in known.items()}
    return {**found, "extra": extra} if extra else found


def split_fields(said: Mapping[str, Any], near: Iterable[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields that the library knows, and those that it does not, which are sent as they are.

    Raises:
        InvalidRequestError: one of those is probably a slip: it is like a known one, or one of `near`; or
            "extra", which holds more of them, is no mapping.
    """
    forced: object = said.get("extra", {})
    if not isinstance(forced, Mapping):
        msg = f'"extra" must be an object that holds fields, not {forced!r}'
        raise InvalidRequestError(msg, field="extra")
    known = {name: part for name, part in said.items() if name in KNOWN}
    extra = {name: part for name, part in said.items() if name not in KNOWN and name != "extra"}
    for name in extra:
        meant = get_close_matches(name, (*KNOWN, *UNDECLARED, *near), n=1, cutoff=_SIMILAR)
        if meant and name not in meant:
            msg = f"{name!r} is no known field, and {meant[0]!r} may be meant"
            msg = f'{msg}; put it into "extra" to send it as it is'
            raise InvalidRequestError(msg, field=name)
    return known, {**cast("Mapping[str, Any]", forced), **extra}


def as_field(name: str, part: Any, folder: Path | None = None, *, says: str = "") -> Any:
    """Return the value of a field; media files, wherever in lists and objects, are found in `folder`.

    `says` is what the person calls the field.

    Raises:
        InvalidRequestError: there is no such file.
    """
    says = says or name
    if name == "duration" and isinstance(part, str):
        return int(part) if part.removeprefix("-").isdecimal() and part.isascii() else part
    if isinstance(part, list | tuple):
        items = cast("Sequence[Any]", part)
        return [as_field(name.removesuffix("s"), item, folder, says=says) for item in items]
    if isinstance(part, dict):
        inner = cast("dict[str, Any]", part)
        return {key: as_field(key, item, folder, says=f"{says}: {key}") for key, item in inner.items()}
    return medium(says, part, folder) if name.endswith("_url") and isinstance(part, str) else part


def medium(says: str, given: str, folder: Path | None = None) -> MediaInput:
    """Return a URL as it is, and a path as the file it names.

    Raises:
        InvalidRequestError: there is no such file.
    """
    if given.lower().startswith(_URLS):
        return given
    path = Path(given) if folder is None else folder / given
    if not path.is_file():
        msg = f"{says}: there is no file {str(path)!r}"
        raise InvalidRequestError(msg, field=says, hint="Name a file, or an http(s) URL")
    return Media(path)


def media(says: str, given: Iterable[str]) -> list[MediaInput]:
    """Return each of `given` as `medium` does."""
    return [medium(says, one) for one in given]


def parsed(text: str) -> Any:
    """Return what JSON says; text that is no JSON, or too deep, stays text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def with_utf8_prompts(request: VideoRequest) -> VideoRequest:
    """Return a request whose prompts are text, where the locale could not read the UTF-8 that was typed.

    Raises:
        InvalidRequestError: they are no text in UTF-8 either.
    """
    try:
        prompt, negative = (
            text and text.encode(errors="surrogateescape").decode()
            for text in (request.prompt, request.negative_prompt)
        )
    except UnicodeError as error:
        msg = "The prompt is no text in UTF-8"
        hint = "Use a UTF-8 locale, such as LC_ALL=C.UTF-8"
        raise InvalidRequestError(msg, field="prompt", hint=hint) from error
    return evolve(request, prompt=prompt, negative_prompt=negative)
