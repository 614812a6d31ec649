"""What Seedance takes: the limits of each family in one table, and the rules of its tags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from attrs import frozen

from ..requests import VideoRequest
from ..validators import refuse


@frozen(kw_only=True)
class Family:
    """The limits of one generation of Seedance.

    Attributes:
        name: its version, such as `"2.0"`.
        seconds: the shortest and the longest output.
        images: reference images at most.
        videos: reference clips at most.
        audios: reference sounds at most.
        follows_source: whether `duration` may be `"auto"` or `-1`, for an output as long as the clip edited.
        task_types: values of `omni_reference_task_type`; empty where the field is refused.
    """

    name: str
    seconds: tuple[int, int]
    images: int
    videos: int
    audios: int
    follows_source: bool = False
    task_types: tuple[str, ...] = ()


FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {
        # Source: the vendor's guide "Seedance 2.0 & 2.5", "Multimodal input limits"; for the task types its
        # OpenAPI file of 2026-08-21, which has them for 2.5 only.
        "2.0": Family(name="2.0", seconds=(4, 15), images=9, videos=3, audios=3),
        "2.5": Family(
            name="2.5",
            seconds=(4, 30),
            images=30,
            videos=10,
            audios=10,
            follows_source=True,
            task_types=("auto", "reference", "edit", "extend"),
        ),
    }
)
"""The families known, by version. A newer one is bound by the limits of `VideoRequest` alone."""

_VERSION: Final = re.compile(r"seedance-(\d+)[-.](\d+)(?!\d)", re.ASCII | re.IGNORECASE)
_TAG: Final = re.compile(r"<(Image|Video|Audio|Subject) ([1-9]\d{0,3})>", re.ASCII)
# Whatever was meant as a tag: <image 1>, <Image1>, < Video 2 >, <Audio>, <Image 1, [Image 1], @Image1.
_MEANT: Final = re.compile(
    r"<\s*(image|video|audio|subject)s?(?![a-z])[\s_#-]*(\d*)\s*>?|[@\[](image|video|audio|subject)[\s_#-]*(\d+)\]?",
    re.IGNORECASE,
)
_FIELDS: Final = {
    "Image": "reference_image_urls",
    "Video": "reference_video_urls",
    "Audio": "reference_audio_urls",
}
_FOLLOW: Final = {"auto", "-1", "adaptive"}


def family_of(model: str, family: str | Family | None = None) -> Family | None:
    """Return the family that is named, or else told by the model's id; None for one not in `FAMILIES`.

    Raises:
        InvalidRequestError: `family` names none of `FAMILIES`.
    """
    if isinstance(family, Family):
        return family
    if family is not None:
        if family not in FAMILIES:
            msg = f"family must be one of {', '.join(FAMILIES)}, not {family!r}"
            refuse(msg, "family", tuple(FAMILIES))
        return FAMILIES[family]
    found = _VERSION.search(model) if isinstance(model, str) else None  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
    return FAMILIES.get(f"{found[1]}.{found[2]}") if found else None


def check(request: VideoRequest, family: Family | None) -> None:
    """Refuse a request that no Seedance model could take as it was meant.

    Raises:
        InvalidRequestError: with the field and the limit.
    """
    if family is not None:
        _check_limits(request, family)
    if not (
        request.reference_image_urls or request.reference_video_urls or request.image_url or request.video_url
    ):
        msg = "there is nothing to refer to"
        refuse(
            msg, "reference_image_urls", 1, "Give an image or a clip; without any, use a text-to-video model"
        )
    for name in ("duration", "aspect_ratio"):
        if _follows(getattr(request, name)) and not request.reference_video_urls:
            msg = f"{name} cannot follow a clip when there is none"
            refuse(msg, name, None, "Give a reference clip, or say what you want")
    _check_tags(request)


def _check_limits(request: VideoRequest, family: Family) -> None:
    for kind, limit in (("Image", family.images), ("Video", family.videos), ("Audio", family.audios)):
        count = len(getattr(request, _FIELDS[kind]))
        if count > limit:
            msg = f"Seedance {family.name} takes at most {limit} reference {kind.lower()}s, not {count}"
            refuse(msg, _FIELDS[kind], limit)
    low, high = family.seconds
    if request.seconds is not None and not low <= request.seconds <= high:
        msg = f"Seedance {family.name} makes clips of {low} to {high} seconds, not {request.duration}"
        refuse(msg, "duration", f"{low}s-{high}s")
    if _follows(request.duration) and not family.follows_source:
        msg = f"Seedance {family.name} cannot follow the length of a clip"
        refuse(msg, "duration", f"{low}s-{high}s", "Give the seconds")
    if request.omni_reference_task_type is not None and not family.task_types:
        msg = f"Seedance {family.name} does not take omni_reference_task_type"
        refuse(msg, "omni_reference_task_type", None, "Leave it out: the prompt tells the workflow")


def _follows(value: object) -> bool:
    return str(value).lower() in _FOLLOW


def _check_tags(request: VideoRequest) -> None:
    """Refuse misspelt tags, tags without a reference, references without a tag, subjects that are nowhere."""
    prompt = request.prompt or ""
    for meant in _MEANT.finditer(prompt):
        if not _TAG.match(prompt, meant.start()):
            number = max(1, int((meant[2] or meant[4] or "1")[:4]))
            tag = f"<{(meant[1] or meant[3]).capitalize()} {number}>"
            msg = f"{meant[0].strip()!r} is not a tag; write {tag}"
            refuse(msg, "prompt", tag, "Tags are case-sensitive and have exactly one space")
    used = {(kind, int(number)) for kind, number in _TAG.findall(prompt)}
    for kind, name in _FIELDS.items():
        numbers, count = {number for tag, number in used if tag == kind}, len(getattr(request, name))
        if without := sorted(number for number in numbers if number > count):
            msg = f"<{kind} {without[0]}> has no reference: {name} has {count}"
            refuse(msg, "prompt", count)
        if unmentioned := sorted(set(range(1, count + 1)) - numbers):
            msg = f"<{kind} {unmentioned[0]}> is given but never mentioned in the prompt"
            refuse(msg, name, None, "Mention it, or leave the reference out")
    sentences = re.split(r"(?<=[.!?;])\s", prompt)
    for number in sorted(number for tag, number in used if tag == "Subject"):
        tag = f"<Subject {number}>"
        if not any(tag in sentence and re.search(r"<(Image|Video) ", sentence) for sentence in sentences):
            msg = f"the prompt does not say where {tag} is"
            refuse(msg, "prompt", f"{tag} in <Image 1>", f"Write '{tag} in <Image 1>' once")
