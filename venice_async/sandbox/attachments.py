"""What must be true of the files, elements, keyframes and camera paths that are sent along."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from itertools import pairwise
from typing import Any, cast
from urllib.parse import urlsplit

from .model import CatalogueModel
from .replies import Issue

FRAMES_PER_SECOND = 24
_MOST_DEGREES = 11_520

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
    for name in _SINGLE:
        if name in body and body[name] is None:
            yield (name,), "Expected string, received null"
        yield from url_issues((name,), body.get(name))
    for name, taken in (
        ("audio_url", model.audio_input),
        ("video_url", model.takes_clip),
        ("image_url", model.kind != "text-to-video"),
    ):
        if body.get(name) and not taken and (name == "audio_url" or not list(url_issues((), body[name]))):
            yield (name,), f"This model does not support {name}"
    for name, general in _LISTS.items():
        if name in body:
            yield from _url_list((name,), body[name], model.references.get(name, general))
    if body.get("reference_audio_urls") and not (
        body.get("reference_image_urls") or body.get("reference_video_urls")
    ):
        yield ("reference_audio_urls",), "Must be paired with at least one reference image or reference video"
    yield from _elements(body, model)
    yield from _keyframes(body)
    yield from _named(body, model, "image_references", "image_url")
    yield from _named(body, model, "video_references", "video_url")


def url_issues(path: tuple[str | int, ...], value: object) -> Iterator[Issue]:
    """Yield what is wrong with a reference to a file; None is none."""
    if value is None:
        return
    if not isinstance(value, str) or not value.startswith(_SCHEMES):
        yield path, "Must be a URL (http/https) or a data URL"
    elif not value.startswith("data:") and _is_inside(value):
        yield path, "The URL must be on a public host"


def _is_inside(url: str) -> bool:
    """Whether a URL names a private, loopback, link-local or metadata host."""
    host = ""
    try:
        host = urlsplit(url).hostname or ""
        return not ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal"))


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


def _elements(body: Mapping[str, Any], model: CatalogueModel) -> Iterator[Issue]:
    issues, elements = _objects(body, "elements", 4)
    yield from issues
    for index, element in elements:
        place = ("elements", index)
        yield from url_issues((*place, "frontal_image_url"), element.get("frontal_image_url"))
        yield from url_issues((*place, "video_url"), element.get("video_url"))
        if "reference_image_urls" in element:
            yield from _url_list((*place, "reference_image_urls"), element["reference_image_urls"], 3)
        if element.get("video_url") and (
            element.get("frontal_image_url") or element.get("reference_image_urls")
        ):
            yield place, "An element takes images or a video, not both"
        yield from _voice((*place, "audio_url"), element.get("audio_url"), model)


def _named(body: Mapping[str, Any], model: CatalogueModel, name: str, url: str) -> Iterator[Issue]:
    issues, entries = _objects(body, name, 30)
    yield from issues
    for index, entry in entries:
        yield from url_issues((name, index, url), entry.get(url, 0))
        yield from _voice((name, index, "audio_url"), entry.get("audio_url"), model)
        if not isinstance(entry.get("ref_name", ""), str):
            yield (name, index, "ref_name"), "Expected string"


def _voice(path: tuple[str | int, ...], value: object, model: CatalogueModel) -> Iterator[Issue]:
    yield from url_issues(path, value)
    if value is not None and not model.per_reference_audio:
        yield path, "This model does not support a voice for a reference"


def trajectory_issues(body: Mapping[str, Any], *, multi_angle: bool) -> Iterator[Issue]:
    """Yield what is wrong with a camera path."""
    if not multi_angle:
        yield ("camera_trajectory",), "This model does not support camera_trajectory"
        return
    issues, points = _objects(body, "camera_trajectory", 12)
    yield from issues
    if len(points) < 2:  # noqa: PLR2004 - a path has two ends
        yield ("camera_trajectory",), "Array must contain at least 2 element(s)"
    spans = {
        "time": (0, 1),
        "azimuth": (-math.inf, math.inf),
        "elevation": (-90, 90),
        "distance": (1e-9, math.inf),
    }
    sound: list[dict[str, Any]] = []
    for index, point in points:
        place = ("camera_trajectory", index)
        wrong = [name for name, (low, high) in spans.items() if not is_within(point.get(name), low, high)]
        for name in wrong:
            yield (*place, name), f"Expected a number from {spans[name][0]:g} to {spans[name][1]:g}"
        for name in point.keys() - spans.keys():
            yield (*place, name), "Unrecognized key"
        sound += [] if wrong else [point]
    if any(later["time"] <= earlier["time"] for earlier, later in pairwise(sound)):
        yield ("camera_trajectory",), "time must be strictly increasing"
    if sum(abs(later["azimuth"] - earlier["azimuth"]) for earlier, later in pairwise(sound)) > _MOST_DEGREES:
        yield ("camera_trajectory",), f"The camera may turn by at most {_MOST_DEGREES} degrees"


def is_within(value: object, low: float, high: float) -> bool:
    """Whether a value is a number from `low` to `high`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _keyframes(body: Mapping[str, Any]) -> Iterator[Issue]:
    issues, keyframes = _objects(body, "keyframes", 10)
    yield from issues
    duration = body.get("duration")
    digits = duration[:-1] if isinstance(duration, str) else ""
    last = int(digits) * FRAMES_PER_SECOND if digits.isdigit() else math.inf
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
