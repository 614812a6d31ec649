"""What must be true of the files, elements and keyframes that are sent along."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

from .model import CatalogueModel
from .replies import Issue

FRAMES_PER_SECOND = 24

_SINGLE = ("image_url", "end_image_url", "audio_url", "video_url")
_LISTS: Mapping[str, int] = {
    "reference_image_urls": 30,
    "reference_video_urls": 10,
    "reference_audio_urls": 10,
    "reference_document_urls": 1,
    "scene_image_urls": 4,
}
_SCHEMES = ("http://", "https://", "data:")


def media_issues(body: Mapping[str, Any], model: CatalogueModel) -> Iterator[Issue]:
    """Yield what is wrong with everything that is sent along."""
    yield from _media(body)
    yield from _references(body, model)
    yield from _elements(body)
    yield from _keyframes(body)


def url_issues(path: tuple[str | int, ...], value: object) -> Iterator[Issue]:
    """Yield what is wrong with a reference to a file; None is none."""
    if value is not None and (not isinstance(value, str) or not value.startswith(_SCHEMES)):
        yield path, "Must be a URL (http/https) or a data URL"


def _media(body: Mapping[str, Any]) -> Iterator[Issue]:
    for name in _SINGLE:
        if name in body and body[name] is None:
            yield (name,), "Expected string, received null"
        yield from url_issues((name,), body.get(name))


def _references(body: Mapping[str, Any], model: CatalogueModel) -> Iterator[Issue]:
    for name, general in _LISTS.items():
        if name in body:
            yield from _url_list((name,), body[name], model.references.get(name, general))
    if body.get("reference_audio_urls") and not (
        body.get("reference_image_urls") or body.get("reference_video_urls")
    ):
        yield ("reference_audio_urls",), "Must be paired with at least one reference image or reference video"


def _url_list(path: tuple[str | int, ...], value: object, most: int) -> Iterator[Issue]:
    if not isinstance(value, list):
        yield path, "Expected array"
        return
    items = cast("list[object]", value)
    if len(items) > most:
        yield path, f"Array must contain at most {most} element(s)"
    for index, item in enumerate(items):
        yield from url_issues((*path, index), item if item is not None else 0)


def _objects(
    body: Mapping[str, Any], name: str, most: int
) -> tuple[list[Issue], list[tuple[int, dict[str, Any]]]]:
    """Return what is wrong with a list of objects as such, and the objects in it by their index."""
    value = body.get(name, [])
    if not isinstance(value, list):
        return [((name,), "Expected array")], []
    items = list(enumerate(cast("list[object]", value)))
    issues: list[Issue] = [
        ((name, index), "Expected object") for index, item in items if not isinstance(item, dict)
    ]
    if len(items) > most:
        issues.append(((name,), f"Array must contain at most {most} element(s)"))
    return issues, [(index, cast("dict[str, Any]", item)) for index, item in items if isinstance(item, dict)]


def _elements(body: Mapping[str, Any]) -> Iterator[Issue]:
    issues, elements = _objects(body, "elements", 4)
    yield from issues
    for index, element in elements:
        place = ("elements", index)
        yield from url_issues((*place, "frontal_image_url"), element.get("frontal_image_url"))
        yield from url_issues((*place, "video_url"), element.get("video_url"))
        if "reference_image_urls" in element:
            yield from _url_list((*place, "reference_image_urls"), element["reference_image_urls"], 3)


def _keyframes(body: Mapping[str, Any]) -> Iterator[Issue]:
    issues, keyframes = _objects(body, "keyframes", 10)
    yield from issues
    last = _last_frame(body)
    seen: set[int] = set()
    for index, keyframe in keyframes:
        yield from url_issues(("keyframes", index, "image_url"), keyframe.get("image_url", 0))
        frame = keyframe.get("frame_index")
        if not isinstance(frame, int) or isinstance(frame, bool) or frame < 0:
            yield ("keyframes", index, "frame_index"), "Expected an integer of at least 0"
            continue
        if frame in seen or frame > last:
            yield ("keyframes", index, "frame_index"), "Must be unique and at most duration x 24"
        seen.add(frame)


def _last_frame(body: Mapping[str, Any]) -> float:
    duration = body.get("duration")
    digits = duration[:-1] if isinstance(duration, str) else ""
    return int(digits) * FRAMES_PER_SECOND if digits.isdigit() else math.inf
