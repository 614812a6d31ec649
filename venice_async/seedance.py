"""Seedance's four workflows as requests: refer to media, edit a clip, extend a clip, stitch clips together.

One reference-to-video model does all four and tells them apart by the prompt alone. The builders write the
canonical openings and refuse, before anything is sent, a prompt and references that do not fit each other:

    from venice_async.seedance import audio, change, edit, image, reference, subject

    reference(
        model,
        "the same character walking through a neon-lit street at night",
        refer_to=[f"{subject(1)} in {image(1)}", f"the timbre in {audio(1)}"],
        images=["https://example.com/hero.png"],
        audios=["https://example.com/voice.mp3"],
        duration="5s",
    )
    edit(model, "https://example.com/sunny.mp4", change("weather", to="a heavy rainstorm"), duration="5s")

Checked here: the tags, how many references there are, and the seconds of output, by the family that the
model's id tells. Only the server sees the media itself: reference clips and sounds of 2-15 s (2.5: 2-30),
at most 15 s of either together (30); MP4 or MOV of at most 50 MB; WAV or MP3 of at most 15 MB; images of at
least 300 px a side with a ratio within (0.4, 2.5). Sizes and the length of a prompt: `VideoModel.check`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypedDict, Unpack

from attrs import frozen

from .media import MediaInput
from .requests import CameraPoint, Consent, Element, ImageReference, Keyframe, VideoReference, VideoRequest
from .validators import refuse

__all__ = [
    "FAMILIES",
    "Family",
    "Fields",
    "add",
    "audio",
    "change",
    "edit",
    "extend",
    "family_of",
    "image",
    "reference",
    "remove",
    "replace",
    "stitch",
    "subject",
    "video",
]


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


def family_of(model: str, family: str | Family | None = None) -> Family | None:
    """Return the family that is named, or else told by the model's id; None for one not in `FAMILIES`.

    Raises:
        InvalidRequestError: `family` names none of `FAMILIES`.
    """
    if isinstance(family, Family):
        return family
    if family is not None:
        if family not in FAMILIES:
            refuse(f"family must be one of {', '.join(FAMILIES)}, not {family!r}", "family", tuple(FAMILIES))
        return FAMILIES[family]
    found = _VERSION.search(model) if isinstance(model, str) else None  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
    return FAMILIES.get(f"{found[1]}.{found[2]}") if found else None


_INPUT: Final = "<Video 1>"
_EDITS: Final = ("Strictly edit ", "Add ", "At ", "Remove ", "Replace ")  # openings known to mean an edit


class Fields(TypedDict, total=False):
    """The fields of `VideoRequest` that a builder passes on as they are."""

    duration: str | int | None
    negative_prompt: str | None
    aspect_ratio: str | None
    resolution: str | None
    upscale_factor: int | None
    audio: bool | None
    image_url: MediaInput | None
    end_image_url: MediaInput | None
    audio_url: MediaInput | None
    video_url: MediaInput | None
    reference_document_urls: Sequence[MediaInput]
    elements: Sequence[Element]
    scene_image_urls: Sequence[MediaInput]
    keyframes: Sequence[Keyframe]
    image_references: Sequence[ImageReference]
    video_references: Sequence[VideoReference]
    camera_trajectory: Sequence[CameraPoint]
    image_strength: float | None
    voice_id: str | None
    anon_user_id: str | None
    omni_reference_task_type: str | None
    bitrate_mode: str | None
    consents: Consent | None
    extra: Mapping[str, Any]


def image(number: int) -> str:
    """Return the tag of a reference image, counted from 1: `<Image 1>`."""
    return f"<Image {number}>"


def video(number: int) -> str:
    """Return the tag of a reference clip, counted from 1: `<Video 1>`."""
    return f"<Video {number}>"


def audio(number: int) -> str:
    """Return the tag of a reference sound, counted from 1: `<Audio 1>`."""
    return f"<Audio {number}>"


def subject(number: int) -> str:
    """Return the tag of a subject, counted from 1: `<Subject 1>`; say once which image or clip it is in."""
    return f"<Subject {number}>"


def reference(
    model: str,
    prompt: str,
    *,
    refer_to: str | Sequence[str] = (),
    images: Sequence[MediaInput] = (),
    videos: Sequence[MediaInput] = (),
    audios: Sequence[MediaInput] = (),
    family: str | Family | None = None,
    **fields: Unpack[Fields],
) -> VideoRequest:
    """Return the request for a new clip that takes a subject, action, style or sound from media.

    Either `prompt` is whole, `"Refer to <Subject 1> in <Image 1> to generate …"`, or it says what to generate
    and `refer_to` says from what: `"<Subject 1> in <Image 1>"`, `"the camera scene in <Video 1>"`,
    `"the timbre in <Audio 1>"`. Each reference must be mentioned, and each tag must have its reference.

    Raises:
        InvalidRequestError: with the field and the limit.
    """
    donors = [refer_to] if isinstance(refer_to, str) else list(refer_to)
    text = _words(prompt)
    if bool(donors) == text.startswith("Refer to "):
        msg = "a reference prompt must say once what it refers to"
        how = "Open it with 'Refer to <Subject 1> in <Image 1> to generate', or pass"
        refuse(msg, "prompt", "Refer to … to generate …", f"{how} refer_to=", f"{how} --refer-to")
    if donors:
        *most, last = map(_phrase, donors)
        listed = f"{', '.join(most)} and {last}" if most else last
        text = f"Refer to {listed} to generate {text}"
    return _request(model, text, "reference", family, fields, image=images, video=videos, audio=audios)


def edit(
    model: str,
    video: MediaInput,
    instruction: str,
    *,
    images: Sequence[MediaInput] = (),
    audios: Sequence[MediaInput] = (),
    family: str | Family | None = None,
    **fields: Unpack[Fields],
) -> VideoRequest:
    """Return the request to change one thing in a clip and keep the rest.

    The instruction is one of `change`, `add`, `remove` and `replace`, or words of your own: those that do
    not open like an edit of `<Video 1>` are put behind `Strictly edit <Video 1>:`. What it does not name
    stays. With `duration="auto"` Seedance 2.5 keeps the clip's length; with `aspect_ratio="adaptive"` both
    families keep its shape.

    Raises:
        InvalidRequestError: with the field and the limit.
    """
    text = _words(instruction)
    if not (text.startswith(_EDITS) and _INPUT in text):
        text = f"Strictly edit {_INPUT}: {text}"
    return _request(model, text, "edit", family, fields, image=images, video=[video], audio=audios)


def change(what: str, *, to: str) -> str:
    """Return the instruction that gives something another look: `change("weather", to="snow")`."""
    named = _phrase(what).removeprefix("the ").removeprefix("its ")
    return f"Strictly edit {_INPUT}, changing its {named} to {_words(to)}"


def add(what: str, *, where: str = "", when: str = "") -> str:
    """Return the instruction that adds something: `add("a kite", when="00:02", where="the upper left")`."""
    place = " and ".join(_phrase(part) for part in (when, where) if part)
    return f"At {place} of {_INPUT}, add {_phrase(what)}" if place else f"Add {_phrase(what)} to {_INPUT}"


def remove(what: str) -> str:
    """Return the instruction that removes something: `remove("the red car")`."""
    return f"Remove {_phrase(what)} from {_INPUT}, keeping the rest of the video content unchanged"


def replace(what: str, *, by: str) -> str:
    """Return the instruction that swaps one thing: `replace("the cup", by="the jar in <Image 1>")`."""
    return f"Replace {_phrase(what)} in {_INPUT} with {_words(by)}"


def extend(
    model: str,
    video: MediaInput,
    prompt: str,
    *,
    backward: bool = False,
    keep_input: bool = False,
    family: str | Family | None = None,
    **fields: Unpack[Fields],
) -> VideoRequest:
    """Return the request to go on from a clip's end, or with `backward` to lead up to its start.

    The result holds the new part only, unless `keep_input` asks for the clip with it. A prompt of your own
    that opens with `Extend <Video 1>` is sent as it is.

    Raises:
        InvalidRequestError: with the field and the limit.
    """
    text = _words(prompt)
    whole = text.startswith(f"Extend {_INPUT}")
    if whole and (backward or keep_input):
        msg = "a prompt that opens with 'Extend <Video 1>' says itself where to extend and what to keep"
        refuse(msg, "prompt", None, "Leave out backward and keep_input, or describe only what is new")
    if not whole:
        text = _EXTENSIONS[bool(backward), bool(keep_input)].format(_phrase(text))
    return _request(model, text, "extend", family, fields, video=[video])


_EXTENSIONS: Final = {  # by (backward, keep_input)
    (False, False): f"Extend {_INPUT}, generate {{}}",
    (False, True): f"Extend {_INPUT}, start with {_INPUT}, then {{}}",
    (True, False): f"Extend {_INPUT} backward, {{}}",
    (True, True): f"Extend {_INPUT} backward, {{}}, and then end with {_INPUT}",
}


def stitch(
    model: str,
    videos: Sequence[MediaInput],
    transitions: str | Sequence[str] = "a smooth seamless cut",
    *,
    family: str | Family | None = None,
    **fields: Unpack[Fields],
) -> VideoRequest:
    """Return the request to join clips, in order, by transitions that the model makes up.

    `transitions` says what happens between one clip and the next: one text for them all, or one for each gap.

    Raises:
        InvalidRequestError: with the field and the limit.
    """
    gaps = len(videos) - 1
    if isinstance(videos, str) or gaps < 1:
        refuse("stitching takes a list of two clips or more", "reference_video_urls", 2)
    between = [transitions] * gaps if isinstance(transitions, str) else list(transitions)
    if len(between) != gaps:
        refuse(f"{gaps + 1} clips have {gaps} transitions between them, not {len(between)}", "prompt", gaps)
    joins = [f" + {_phrase(text)} + followed by {video(number)}" for number, text in enumerate(between, 2)]
    return _request(model, _INPUT + "".join(joins), "stitch", family, fields, video=videos)


def _request(
    model: str, prompt: str, workflow: str, family: str | Family | None, fields: Fields, **references: Any
) -> VideoRequest:
    """Return a request, unless no Seedance model, or none of the family, could take it as it was meant."""
    known = family_of(model, family)
    if known is not None and workflow in known.task_types:
        fields.setdefault("omni_reference_task_type", workflow)
    media = {f"reference_{kind}_urls": given for kind, given in references.items()}
    request = VideoRequest(model=model, prompt=prompt, **media, **fields)
    if known is not None:
        for kind, limit in (("Image", known.images), ("Video", known.videos), ("Audio", known.audios)):
            count = len(getattr(request, _FIELDS[kind]))
            if count > limit:
                msg = f"Seedance {known.name} takes at most {limit} reference {kind.lower()}s, not {count}"
                refuse(msg, _FIELDS[kind], limit)
        low, high = known.seconds
        if request.seconds is not None and not low <= request.seconds <= high:
            msg = f"Seedance {known.name} makes clips of {low} to {high} seconds, not {request.duration}"
            refuse(msg, "duration", f"{low}s-{high}s")
        if _follows(request.duration) and not known.follows_source:
            msg = f"Seedance {known.name} cannot follow the length of a clip"
            refuse(msg, "duration", f"{low}s-{high}s", "Give the seconds")
        if request.omni_reference_task_type is not None and not known.task_types:
            msg = f"Seedance {known.name} does not take omni_reference_task_type"
            refuse(msg, "omni_reference_task_type", None, "Leave it out: the prompt tells the workflow")
    shown = ("reference_image_urls", "reference_video_urls", "image_url", "video_url")
    if not any(getattr(request, name) for name in shown):
        hint = "Give an image or a clip; without any, use a text-to-video model"
        refuse("there is nothing to refer to", "reference_image_urls", 1, hint)
    for name in ("duration", "aspect_ratio"):
        if _follows(getattr(request, name)) and not request.reference_video_urls:
            hint = "Give a reference clip, or say what you want"
            refuse(f"{name} cannot follow a clip when there is none", name, None, hint)
    _check_tags(request)
    return request


def _words(value: str) -> str:
    if not isinstance(value, str) or not value.strip(" ."):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        refuse(f"a part of the prompt must be text, not {value!r}", "prompt", 1)
    return value.strip()


def _phrase(value: str) -> str:
    return _words(value).removesuffix(".")


def _follows(value: object) -> bool:
    return str(value).lower() in {"auto", "-1", "adaptive"}


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
            refuse(f"<{kind} {without[0]}> has no reference: {name} has {count}", "prompt", count)
        if unmentioned := sorted(set(range(1, count + 1)) - numbers):
            msg = f"<{kind} {unmentioned[0]}> is given but never mentioned in the prompt"
            refuse(msg, name, None, "Mention it, or leave the reference out")
    sentences = re.split(r"(?<=[.!?;])\s", prompt)
    for number in sorted(number for tag, number in used if tag == "Subject"):
        tag = f"<Subject {number}>"
        if not any(tag in sentence and re.search(r"<(Image|Video) ", sentence) for sentence in sentences):
            msg = f"the prompt does not say where {tag} is"
            refuse(msg, "prompt", f"{tag} in <Image 1>", f"Write '{tag} in <Image 1>' once")
