"""What a request must look like: by the vendor's documents, and by the model's constraints."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from .attachments import is_within, media_issues, trajectory_issues, url_issues
from .consent import consent_issues
from .model import TOPAZ_SLIDERS, CatalogueModel
from .records import RecordedRequest
from .replies import Issue, Refused, detailed_error, standard_error

Body = Mapping[str, Any]

DURATIONS = frozenset({*(f"{second}s" for second in range(1, 31)), "1 gen", "Auto", "auto", "-1"})
ASPECT_RATIOS = frozenset(
    "1:1 2:3 3:2 3:4 4:3 4:5 5:4 9:16 9:21 16:9 21:9 adaptive auto".split()  # noqa: SIM905 - as in the document
)
RESOLUTIONS = frozenset(
    "256p 360p 480p 540p 580p 720p 768P 1080p 1440p 2160p 2K 4k 2x 4x true_1080p 480P 1080P".split()  # noqa: SIM905 - as in the document
)
TASK_TYPES = frozenset({"auto", "reference", "edit", "extend", "editing", "extension"})
BITRATE_MODES = frozenset({"standard", "high"})
UPSCALE_FACTORS = (1, 2, 4)
LONGEST_PROMPT = 20_000
LONGEST_SOURCE = 300  # seconds of a clip to work on
_SECONDS = re.compile(r"(\d{1,4}(?:\.\d{1,6})?)s?", re.ASCII)


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
    _raise(
        (
            *_prompt(body, model),
            *_duration(body, model),
            *_choice(body, "resolution", RESOLUTIONS, model.resolutions),
            *_choice(body, "aspect_ratio", ASPECT_RATIOS, model.aspect_ratios),
            *_options(body, model, strict=strict),
            *media_issues(body, model),
            *(((name,), "Required for this model") for name in model.needs if not body.get(name)),
            *(consent_issues(body["consents"]) if "consents" in body else ()),
        )
    )


def check_quote(body: Body, model: CatalogueModel) -> None:
    """Raise `Refused` with all that is wrong with a request for a price.

    Fields that the model or the API does not know are dropped, as the vendor does.
    """
    issues: list[Issue] = [*url_issues(("video_url",), body.get("video_url"))]
    if not model.takes_clip:
        issues += _duration(body, model)
    elif not body.get("video_url"):
        issues.append((("video_url",), "Required for this model"))
    if model.resolutions:
        issues += _choice(body, "resolution", RESOLUTIONS, model.resolutions)
    if model.aspect_ratios:
        issues += _choice(body, "aspect_ratio", ASPECT_RATIOS, model.aspect_ratios)
    if not isinstance(body.get("audio", True), bool):
        issues.append((("audio",), "Expected boolean"))
    if model.factors and model.upscales:
        issues += _factor(body, model)
    issues += _topaz(body, model) if model.topaz is not None else ()
    for name, most in (
        ("reference_video_total_duration", model.reference_seconds),
        ("reference_image_count", model.references.get("reference_image_urls", 30)),
    ):
        stated = body.get(name)
        if stated is not None and not is_within(stated, 0, most):
            issues.append(((name,), f"Expected a number from 0 to {most:g}"))
    _raise(issues)


def check_job(body: Body, *, optional: tuple[str, ...] = ()) -> tuple[str, str]:
    """Return model and queue id of a request about a job; raise `Refused` if it is not one."""
    issues: list[Issue] = [
        ((name,), "Required" if name not in body else "Expected string")
        for name in ("model", "queue_id")
        if not isinstance(body.get(name), str)
    ]
    issues += [((name,), "Unrecognized key") for name in body if name not in {"model", "queue_id", *optional}]
    issues += [
        ((name,), "Expected boolean") for name in optional if not isinstance(body.get(name, False), bool)
    ]
    _raise(issues)
    return body["model"], body["queue_id"]


def _options(body: Body, model: CatalogueModel, *, strict: bool) -> Iterator[Issue]:
    needs_ratio = model.needs_aspect_ratio or (strict and model.aspect_ratios)
    if needs_ratio and "aspect_ratio" not in body:
        yield ("aspect_ratio",), "Required for this model"
    if not isinstance(body.get("audio", True), bool):
        yield ("audio",), "Expected boolean"
    elif "audio" in body and not model.audio_configurable:
        yield ("audio",), "This model does not support audio"
    yield from _factor(body, model)
    yield from _topaz(body, model)
    if "omni_reference_task_type" in body:
        if str(body["omni_reference_task_type"]) not in TASK_TYPES:
            yield ("omni_reference_task_type",), "Invalid enum value"
        elif not model.follows_source:
            yield ("omni_reference_task_type",), "Not supported by this model"
    if "camera_trajectory" in body:
        yield from trajectory_issues(body, multi_angle=model.multi_angle)
    user = body.get("anon_user_id", "")
    if not isinstance(user, str) or not re.fullmatch(r"(?!.*\|\|)[ -~]{0,128}", user):
        yield ("anon_user_id",), "Expected at most 128 printable ASCII characters without ||"
    if not is_within(body.get("image_strength", 0), 0, 1):
        yield ("image_strength",), "Expected a number from 0 to 1"
    if not isinstance(body.get("voice_id", ""), str):
        yield ("voice_id",), "Expected string"
    if "bitrate_mode" in body and str(body["bitrate_mode"]) not in BITRATE_MODES:
        yield ("bitrate_mode",), "Invalid enum value"


def _factor(body: Body, model: CatalogueModel) -> Iterator[Issue]:
    if "upscale_factor" not in body:
        return
    factor = body["upscale_factor"]
    if isinstance(factor, bool) or factor not in UPSCALE_FACTORS:
        yield ("upscale_factor",), "Expected 1, 2 or 4"
    if not model.upscales:
        yield ("upscale_factor",), "Only supported by upscale models"
    elif not model.factors:
        yield ("upscale_factor",), "This model does not support upscale_factor"
    elif model.topaz is not None and body.get("enhancement_model") in model.topaz.no_upscale_models:
        yield ("upscale_factor",), "This enhancement model does not support upscale_factor"


def _topaz(body: Body, model: CatalogueModel) -> Iterator[Issue]:
    """Yield what is wrong with the options of an enhancement model, which others refuse."""
    numbers = {**TOPAZ_SLIDERS, "target_fps": (16, 120)}
    choices: dict[str, tuple[object, ...]] = {
        "enhancement_model": tuple(model.topaz.models) if model.topaz else (),
        "slowdown_factor": (1, 2, 4, 8),
        "output_format": ("mp4", "prores"),
        "h264_output": (True, False),
    }
    for name in body.keys() & (numbers.keys() | choices.keys()):
        value = body[name]
        if model.topaz is None:
            yield (name,), f"This model does not support {name}"
        elif name in choices and (
            value not in choices[name] or isinstance(value, bool) != (name == "h264_output")
        ):
            yield (name,), f"Expected one of {', '.join(map(str, choices[name]))}"
        elif name in numbers and not is_within(value, *numbers[name]):
            yield (name,), f"Expected a number from {numbers[name][0]:g} to {numbers[name][1]:g}"


def _raise(issues: Iterator[Issue] | list[Issue] | tuple[Issue, ...]) -> None:
    found = list(issues)
    if found:
        raise Refused(detailed_error(found))


def _prompt(body: Body, model: CatalogueModel) -> Iterator[Issue]:
    if "prompt" not in body and not (model.upscales or model.multi_angle):
        yield ("prompt",), "Required"
    for name in ("prompt", "negative_prompt"):
        text = body.get(name)
        if text is None and name not in body:
            continue
        if not isinstance(text, str):
            yield (name,), "Expected string"
        elif not text and name == "prompt":
            yield (name,), "String must contain at least 1 character(s)"
        elif len(text) > min(model.prompt_limit, LONGEST_PROMPT):
            yield (name,), f"String must contain at most {model.prompt_limit} character(s)"


def _duration(body: Body, model: CatalogueModel) -> Iterator[Issue]:
    if "duration" not in body:
        if not model.takes_clip:
            yield ("duration",), "Required"
        return
    duration = body["duration"]
    if model.takes_clip:
        if not isinstance(duration, str) or not _SECONDS.fullmatch(duration):
            yield ("duration",), "Expected the seconds as a string; omit it to follow the source"
        elif float(duration.rstrip("s")) > LONGEST_SOURCE:
            yield ("duration",), f"Must be at most {LONGEST_SOURCE} seconds"
    elif not isinstance(duration, str) or duration not in DURATIONS:
        yield ("duration",), "Invalid enum value"
    elif model.durations and duration not in model.durations:
        yield ("duration",), f"Not supported by this model. Supported: {', '.join(model.durations)}"
    elif duration in {"-1", "auto"} and not _has_source(body):
        yield ("duration",), "A source-matched duration needs reference videos"


def _choice(body: Body, name: str, known: frozenset[str], supported: tuple[str, ...]) -> Iterator[Issue]:
    if name not in body:
        return
    value = body[name]
    if not isinstance(value, str) or value not in known:
        yield (name,), "Invalid enum value"
    elif not supported:
        yield (name,), f"{name} is not supported by this model"
    elif value not in supported:
        yield (name,), f"Not supported by this model. Supported: {', '.join(supported)}"
    elif value in {"adaptive", "auto"} and not _has_source(body):
        yield (name,), f"A source-matched {name} needs reference videos"


def _has_source(body: Body) -> bool:
    stated = body.get("reference_video_total_duration")
    return bool(body.get("reference_video_urls") or (is_within(stated, -math.inf, math.inf) and stated))
