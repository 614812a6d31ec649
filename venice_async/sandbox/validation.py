"""What a request must look like: by the vendor's documents, and by the model's constraints.

The documents are a table of checks, by field; a check yields what is wrong with a value. Whether a model
takes a field is asked only of one that is as the documents want it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from ipaddress import ip_address
from itertools import pairwise
from typing import Any, cast
from urllib.parse import urlsplit

from .catalogue import TOPAZ_SLIDERS, CatalogueModel
from .consent import CONFIRMATIONS
from .records import RecordedRequest
from .replies import Issue, Refused, detailed_error, standard_error

Body = Mapping[str, Any]
Path = tuple[str | int, ...]
Check = Callable[[Path, Any], Iterator[Issue]]

MISSING: Any = object()
"""The value of a field that is needed and not there."""


def string(path: Path, value: object) -> Iterator[Issue]:
    """Check for any text."""
    if not isinstance(value, str):
        yield path, "Required" if value is MISSING else "Expected string"


def url(path: Path, value: object) -> Iterator[Issue]:
    """Check for a URL on a public host or a `data:` URL."""
    if value is None:
        yield path, "Expected string, received null"
        return
    if not isinstance(value, str) or not value.startswith(("http://", "https://", "data:")):
        yield path, "Must be a URL (http/https) or a data URL"
        return
    host, inside = "", False  # a private, loopback, link-local or metadata host
    try:
        host = "" if value.startswith("data:") else urlsplit(value).hostname or ""
        inside = bool(host) and not ip_address(host).is_global
    except ValueError:
        inside = host == "localhost" or host.endswith((".localhost", ".local", ".internal"))
    if inside:
        yield path, "The URL must be on a public host"


def number(low: float, high: float) -> Check:
    """Return a check for a number from `low` to `high`."""

    def check(path: Path, value: object) -> Iterator[Issue]:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            yield path, f"Expected a number from {low:g} to {high:g}"

    return check


def index(path: Path, value: object) -> Iterator[Issue]:
    """Check for a whole number that is not negative."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        yield path, "Expected an integer of at least 0"


def one_of(values: Iterable[object], says: str = "Invalid enum value") -> Check:
    """Return a check for one of some values, of which true is not 1."""
    known = tuple(values)

    def check(path: Path, value: object) -> Iterator[Issue]:
        if not any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in known):
            yield path, says

    return check


def array(of: Check, most: int, *, least: int = 0) -> Check:
    """Return a check for a list of so many things."""

    def check(path: Path, value: object) -> Iterator[Issue]:
        if not isinstance(value, list):
            yield path, "Expected array"
            return
        items = cast("list[object]", value)
        if len(items) > most:
            yield path, f"Array must contain at most {most} element(s)"
        if len(items) < least:
            yield path, f"Array must contain at least {least} element(s)"
        for place, item in enumerate(items):
            yield from of((*path, place), item)

    return check


def record(fields: Mapping[str, Check], needed: Collection[str] = (), *, closed: bool = False) -> Check:
    """Return a check for an object; a closed one has none but these fields."""

    def check(path: Path, value: object) -> Iterator[Issue]:
        if not isinstance(value, dict):
            yield path, "Expected object"
            return
        found = cast("dict[str, object]", value)
        for name, of in fields.items():
            if name in found or name in needed:
                yield from of((*path, name), found.get(name, MISSING))
        for name in sorted(found.keys() - fields.keys()) if closed else ():
            yield (*path, name), "Unrecognized key"

    return check


boolean: Check = one_of((True, False), "Expected boolean")

DURATIONS = frozenset({*(f"{second}s" for second in range(1, 31)), "1 gen", "Auto", "auto", "-1"})
ASPECT_RATIOS = "1:1 2:3 3:2 3:4 4:3 4:5 5:4 9:16 9:21 16:9 21:9 adaptive auto"
RESOLUTIONS = "256p 360p 480p 540p 580p 720p 768P 1080p 1440p 2160p 2K 4k 2x 4x true_1080p 480P 1080P"
TASK_TYPES = "auto reference edit extend editing extension"
LONGEST_PROMPT = 20_000
LONGEST_SOURCE = 300  # seconds of a clip to work on
MOST_DEGREES = 11_520
FRAMES_PER_SECOND = 24
_SECONDS = re.compile(r"(\d{1,4}(?:\.\d{1,6})?)s?", re.ASCII)

_REFERENCE = {"image_url": url, "video_url": url, "audio_url": url, "ref_name": string}
_POINT = {
    "time": number(0, 1),
    "azimuth": number(-math.inf, math.inf),
    "elevation": number(-90, 90),
    "distance": number(1e-9, math.inf),
}
_CONFIRMED = dict.fromkeys(sorted(CONFIRMATIONS), one_of([True], "Must be true"))
_ELEMENT = {**_REFERENCE, "frontal_image_url": url, "reference_image_urls": array(url, 3)}
_TOPAZ: Mapping[str, Check] = {
    **{name: number(*span) for name, span in TOPAZ_SLIDERS.items()},
    "target_fps": number(16, 120),
    "enhancement_model": string,
    "slowdown_factor": one_of((1, 2, 4, 8), "Expected one of 1, 2, 4, 8"),
    "output_format": one_of(("mp4", "prores"), "Expected one of mp4, prores"),
    "h264_output": one_of((True, False), "Expected one of True, False"),
}
_FIELDS: Mapping[str, Check] = {
    "prompt": string,
    "negative_prompt": string,
    "resolution": one_of(RESOLUTIONS.split()),
    "aspect_ratio": one_of(ASPECT_RATIOS.split()),
    "audio": boolean,
    "upscale_factor": one_of((1, 2, 4), "Expected 1, 2 or 4"),
    "omni_reference_task_type": one_of(TASK_TYPES.split()),
    "bitrate_mode": one_of(("standard", "high")),
    "anon_user_id": string,
    "image_strength": number(0, 1),
    "voice_id": string,
    **dict.fromkeys(("image_url", "end_image_url", "audio_url", "video_url"), url),
    "reference_image_urls": array(url, 30),
    "reference_video_urls": array(url, 10),
    "reference_audio_urls": array(url, 10),
    "reference_document_urls": array(url, 1),
    "scene_image_urls": array(url, 4),
    "elements": array(record(_ELEMENT), 4),
    "keyframes": array(record({"image_url": url, "frame_index": index}, ("image_url", "frame_index")), 10),
    "image_references": array(record(_REFERENCE, ("image_url",)), 30),
    "video_references": array(record(_REFERENCE, ("video_url",)), 30),
    "camera_trajectory": array(record(_POINT, _POINT, closed=True), 12, least=2),
    "consents": record({"seedance": record(_CONFIRMED, _CONFIRMED, closed=True)}, closed=True),
    **_TOPAZ,
}


def parse(request: RecordedRequest) -> dict[str, Any]:
    """Return the JSON object in a request's body.

    Raises:
        Refused: with 415 for another content type, with 400 for anything but a JSON object.
    """
    if "json" not in request.headers.get("content-type", ""):
        raise Refused(standard_error(415, "Unsupported content type. Please use application/json"))
    if request.json is None:
        try:
            json.loads(request.body)
        except (ValueError, RecursionError):
            raise Refused(standard_error(400, "Invalid JSON in request body")) from None
        raise Refused(detailed_error([((), "Expected object")]))
    return cast("dict[str, Any]", request.json)


def check_queue(body: Body, model: CatalogueModel, *, strict: bool = False) -> None:
    """Raise `Refused` with all that is wrong with a request to generate; `strict` as the vendor is."""
    issues: list[Issue] = []
    if "prompt" not in body and not (model.upscales or model.multi_angle):
        issues.append((("prompt",), "Required"))
    if "duration" not in body and not model.takes_clip:
        issues.append((("duration",), "Required"))
    needs_ratio = model.needs_aspect_ratio or (strict and model.aspect_ratios)
    if "aspect_ratio" not in body and needs_ratio:
        issues.append((("aspect_ratio",), "Required for this model"))
    issues += [((name,), "Required for this model") for name in model.needs if not body.get(name)]
    _raise([*issues, *_wrong(body, body, model)])


def check_quote(body: Body, model: CatalogueModel) -> None:
    """Raise `Refused` with all that is wrong with a request for a price.

    Fields that the model or the API does not know are dropped, as the vendor does.
    """
    issues: list[Issue] = [*boolean(("audio",), body.get("audio", True))]
    if model.takes_clip and not body.get("video_url"):
        issues.append((("video_url",), "Required for this model"))
    if not model.takes_clip and "duration" not in body:
        issues.append((("duration",), "Required"))
    images = model.references.get("reference_image_urls", 30)
    for name, check in (
        ("video_url", url),
        ("reference_video_total_duration", number(0, model.reference_seconds)),
        ("reference_image_count", number(0, images)),
    ):
        issues += check((name,), body[name]) if body.get(name) is not None else ()
    taken = {
        "duration": not model.takes_clip,
        "resolution": model.resolutions,
        "aspect_ratio": model.aspect_ratios,
        "upscale_factor": model.upscales and model.factors,
        **dict.fromkeys(_TOPAZ, model.topaz),
    }
    fields = {name: value for name, value in body.items() if taken.get(name)}
    _raise([*issues, *_wrong(fields, body, model)])


def check_job(body: Body, *, optional: tuple[str, ...] = ()) -> tuple[str, str]:
    """Return model and queue id of a request about a job; raise `Refused` if it is not one."""
    named: dict[str, Check] = {"model": string, "queue_id": string}
    _raise(list(record({**named, **dict.fromkeys(optional, boolean)}, named, closed=True)((), body)))
    return body["model"], body["queue_id"]


def _raise(issues: list[Issue]) -> None:
    if issues:
        raise Refused(detailed_error(issues))


def _wrong(fields: Body, body: Body, model: CatalogueModel) -> Iterator[Issue]:
    """Yield what is wrong with some fields of a body: by the documents, or else why the model takes none."""
    topaz = model.topaz
    refused = {
        "audio": not model.audio_configurable,
        "image_url": model.kind == "text-to-video",
        "audio_url": not model.audio_input,
        "video_url": not model.takes_clip,
        "camera_trajectory": not model.multi_angle,
        **dict.fromkeys(_TOPAZ, topaz is None),
        "upscale_factor": not model.factors and model.upscales,
    }
    for name, value in fields.items():
        path = (name,)
        issues = list(_FIELDS[name](path, value)) if name in _FIELDS else []
        if not issues and refused.get(name):
            issues = [(path, f"This model does not support {name}")]
        if issues:
            yield from issues
            continue
        match name:
            case "prompt" if not value:
                yield path, "String must contain at least 1 character(s)"
            case "prompt" | "negative_prompt" if len(value) > min(model.prompt_limit, LONGEST_PROMPT):
                yield path, f"String must contain at most {model.prompt_limit} character(s)"
            case "anon_user_id" if not re.fullmatch(r"(?!.*\|\|)[ -~]{0,128}", value):
                yield path, "Expected at most 128 printable ASCII characters without ||"
            case "duration" if model.takes_clip:
                if not isinstance(value, str) or not _SECONDS.fullmatch(value):
                    yield path, "Expected the seconds as a string; omit it to follow the source"
                elif float(value.rstrip("s")) > LONGEST_SOURCE:
                    yield path, f"Must be at most {LONGEST_SOURCE} seconds"
            case "duration" if not isinstance(value, str) or value not in DURATIONS:
                yield path, "Invalid enum value"
            case "duration" | "resolution" | "aspect_ratio":
                supported: tuple[str, ...] = getattr(model, f"{name}s")
                stated = body.get("reference_video_total_duration")
                follows = body.get("reference_video_urls") or (isinstance(stated, int | float) and stated)
                if not supported and name != "duration":
                    yield path, f"{name} is not supported by this model"
                elif supported and value not in supported:
                    yield path, f"Not supported by this model. Supported: {', '.join(supported)}"
                elif value in {"adaptive", "auto", "-1"} and not follows:
                    yield path, f"A source-matched {name} needs reference videos"
            case "upscale_factor" if not model.upscales:
                yield path, "Only supported by upscale models"
            case "upscale_factor" if topaz and body.get("enhancement_model") in topaz.no_upscale_models:
                yield path, "This enhancement model does not support upscale_factor"
            case "enhancement_model" if topaz and value not in topaz.models:
                yield path, f"Expected one of {', '.join(topaz.models)}"
            case "omni_reference_task_type" if not model.follows_source:
                yield path, "Not supported by this model"
            case _ if name in model.references and len(value) > model.references[name]:
                yield path, f"Array must contain at most {model.references[name]} element(s)"
            case "reference_audio_urls" if value:
                if not (body.get("reference_image_urls") or body.get("reference_video_urls")):
                    yield path, "Must be paired with at least one reference image or reference video"
            case "elements" | "image_references" | "video_references":
                for place, entry in enumerate(body[name]):
                    images = entry.get("frontal_image_url") or entry.get("reference_image_urls")
                    if images and entry.get("video_url"):
                        yield (name, place), "An element takes images or a video, not both"
                    if "audio_url" in entry and not model.per_reference_audio:
                        yield (
                            (name, place, "audio_url"),
                            "This model does not support a voice for a reference",
                        )
            case "keyframes":
                digits = str(body.get("duration"))[:-1]
                last = int(digits) * FRAMES_PER_SECOND if digits.isdigit() else math.inf
                seen: set[int] = set()
                for place, keyframe in enumerate(body[name]):
                    frame = keyframe["frame_index"]
                    if frame in seen or frame > last:
                        yield (name, place, "frame_index"), "Must be unique and at most duration x 24"
                    seen.add(frame)
            case "camera_trajectory":
                pairs: list[tuple[Body, Body]] = list(pairwise(body[name]))
                if any(later["time"] <= earlier["time"] for earlier, later in pairs):
                    yield path, "time must be strictly increasing"
                if sum(abs(later["azimuth"] - earlier["azimuth"]) for earlier, later in pairs) > MOST_DEGREES:
                    yield path, f"The camera may turn by at most {MOST_DEGREES} degrees"
            case _:
                pass
