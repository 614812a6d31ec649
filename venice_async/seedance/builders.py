"""The builders of Seedance requests, one for each workflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict, Unpack

from ..media import MediaInput
from ..requests import (
    CameraPoint,
    Consent,
    Element,
    ImageReference,
    Keyframe,
    VideoReference,
    VideoRequest,
)
from ..validators import refuse
from .rules import Family, check, family_of

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
    return _request(model, text, "reference", images, videos, audios, family, fields)


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
    return _request(model, text, "edit", images, [video], audios, family, fields)


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
    return _request(model, text, "extend", (), [video], (), family, fields)


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
        msg = "stitching takes a list of two clips or more"
        refuse(msg, "reference_video_urls", 2)
    between = [transitions] * gaps if isinstance(transitions, str) else list(transitions)
    if len(between) != gaps:
        msg = f"{gaps + 1} clips have {gaps} transitions between them, not {len(between)}"
        refuse(msg, "prompt", gaps)
    joins = [f" + {_phrase(text)} + followed by {video(number)}" for number, text in enumerate(between, 2)]
    return _request(model, _INPUT + "".join(joins), "stitch", (), videos, (), family, fields)


def _request(  # noqa: PLR0917 - what the four workflows differ in
    model: str,
    prompt: str,
    workflow: str,
    images: Sequence[MediaInput],
    videos: Sequence[MediaInput],
    audios: Sequence[MediaInput],
    family: str | Family | None,
    fields: Fields,
) -> VideoRequest:
    known = family_of(model, family)
    if known is not None and workflow in known.task_types:
        fields.setdefault("omni_reference_task_type", workflow)
    request = VideoRequest(
        model=model,
        prompt=prompt,
        reference_image_urls=images,
        reference_video_urls=videos,
        reference_audio_urls=audios,
        **fields,
    )
    check(request, known)
    return request


def _words(value: str) -> str:
    if not isinstance(value, str) or not value.strip(" ."):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        msg = f"a part of the prompt must be text, not {value!r}"
        refuse(msg, "prompt", 1)
    return value.strip()


def _phrase(value: str) -> str:
    return _words(value).removesuffix(".")
