"""`venice-async seedance …`: refer to media, edit a clip, extend it, stitch clips together."""

from __future__ import annotations

from typing import Annotated, Final

from attrs import frozen
from cyclopts import App, Parameter

from ... import seedance as builders
from ...errors import UsageError
from ..completions import Model
from ..options import MAIN, ClipOptions, Medium, Output, ReferenceSeconds, Text
from ..request_options import Media_, PictureOptions, media, medium
from ..run_jobs import run_request
from ..screen.screen import ScreenHere
from . import command

REFERENCE_EXAMPLES: Final = """\
venice-async seedance reference "the same hero runs through rain" --refer-to "<Subject 1> in <Image 1>" \\
    --image hero.png --duration 5s --resolution 720p -o rain.mp4
"""
EDIT_EXAMPLES: Final = """\
venice-async seedance edit sunny.mp4 --change weather --to "a heavy rainstorm" --duration 5s -o rain.mp4
venice-async seedance edit street.mp4 --remove "the red car" --duration 5s -o empty.mp4
venice-async seedance edit desk.mp4 "Replace the cup in <Video 1> with the jar in <Image 1>" --image jar.png
"""
EXTEND_EXAMPLES: Final = """\
venice-async seedance extend walk.mp4 "she opens the door" --duration 5s -o door.mp4
venice-async seedance extend walk.mp4 "she gets out of bed" --backward --keep-input --duration 5s
"""
STITCH_EXAMPLES: Final = """\
venice-async seedance stitch one.mp4 two.mp4 three.mp4 --transition "a whip pan" --duration 10s -o all.mp4
"""
_SEAMLESS: Final = "a smooth seamless cut"

_Clip = Annotated[Medium, Parameter(metavar="VIDEO")]


@Parameter(name="*")
@frozen(kw_only=True)
class Seedance:
    """What the four workflows share.

    Attributes:
        model: A reference-to-video model.
        family: The family, where the model's id does not tell it.
        reference_seconds: The length of all reference clips together, where they are URLs.
    """

    model: Annotated[Model, Parameter(show_default=True)] = "seedance-2-0-reference-to-video"
    family: Annotated[str | None, Parameter(metavar="2.0|2.5")] = None
    reference_seconds: ReferenceSeconds | None = None
    picture: PictureOptions = PictureOptions()
    clip: ClipOptions = ClipOptions()


@command(REFERENCE_EXAMPLES)
async def reference(
    prompt: Annotated[str, Parameter(metavar="PROMPT")],
    /,
    *,
    refer_to: tuple[Text, ...] = (),
    image: Media_ = (),
    video: Media_ = (),
    sound: Media_ = (),
    seedance: Seedance = Seedance(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Make a new clip that takes a subject, an action, a style or a sound from media.

    Args:
        prompt: What to generate.
        refer_to: Such as '<Subject 1> in <Image 1>'. Repeatable.
        image: A reference image. Repeatable.
        video: A reference clip. Repeatable.
        sound: A reference sound. Repeatable.
    """
    request = builders.reference(
        seedance.model,
        prompt,
        refer_to=refer_to,
        images=media("--image", image),
        videos=media("--video", video),
        audios=media("--sound", sound),
        family=seedance.family,
        **seedance.picture.values(),
    )
    return await run_request(request, screen, seedance.clip, reference_seconds=seedance.reference_seconds)


@command(EDIT_EXAMPLES)
async def edit(
    video: _Clip,
    instruction: Annotated[str | None, Parameter(metavar="INSTRUCTION")] = None,
    /,
    *,
    change: Text | None = None,
    to: Text | None = None,
    add: Text | None = None,
    remove: Text | None = None,
    replace: Text | None = None,
    by: Text | None = None,
    image: Media_ = (),
    sound: Media_ = (),
    seedance: Seedance = Seedance(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Change one thing in a clip and keep the rest.

    Args:
        video: The clip: a file or a URL.
        instruction: What to change, in words of your own.
        change: Give it another look, with --to.
        to: The look that --change gives.
        add: Add something.
        remove: Remove something.
        replace: Replace something, with --by.
        by: What --replace puts in its place.
        image: A reference image. Repeatable.
        sound: A reference sound. Repeatable.
    """
    said = [instruction] if instruction else []
    said += [builders.change(change, to=_needed(to, "--to"))] if change else []
    said += [builders.add(add)] if add else []
    said += [builders.remove(remove)] if remove else []
    said += [builders.replace(replace, by=_needed(by, "--by"))] if replace else []
    if len(said) != 1:
        msg = "edit takes one instruction: words of your own, --change, --add, --remove or --replace"
        raise UsageError(msg)
    request = builders.edit(
        seedance.model,
        medium("VIDEO", video),
        said[0],
        images=media("--image", image),
        audios=media("--sound", sound),
        family=seedance.family,
        **seedance.picture.values(),
    )
    return await run_request(request, screen, seedance.clip, reference_seconds=seedance.reference_seconds)


@command(EXTEND_EXAMPLES)
async def extend(
    video: _Clip,
    prompt: Annotated[str, Parameter(metavar="PROMPT")],
    /,
    *,
    backward: bool = False,
    keep_input: bool = False,
    seedance: Seedance = Seedance(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Go on from a clip's end, or lead up to its start.

    Args:
        video: The clip: a file or a URL.
        prompt: What happens next.
        backward: Lead up to its start instead.
        keep_input: Have the clip itself in the result.
    """
    request = builders.extend(
        seedance.model,
        medium("VIDEO", video),
        prompt,
        backward=backward,
        keep_input=keep_input,
        family=seedance.family,
        **seedance.picture.values(),
    )
    return await run_request(request, screen, seedance.clip, reference_seconds=seedance.reference_seconds)


@command(STITCH_EXAMPLES)
async def stitch(
    *videos: _Clip,
    transition: tuple[Text, ...] = (_SEAMLESS,),
    seedance: Seedance = Seedance(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Join clips by transitions that the model makes up.

    Args:
        videos: The clips in order: files or URLs.
        transition: What happens between clips: one for all, or one for each gap.
    """
    between = transition if len(transition) > 1 else "".join(transition)
    request = builders.stitch(
        seedance.model, media("VIDEO", videos), between, family=seedance.family, **seedance.picture.values()
    )
    return await run_request(request, screen, seedance.clip, reference_seconds=seedance.reference_seconds)


def _needed(text: str | None, option: str) -> str:
    if not text:
        msg = f"{option} is missing"
        raise UsageError(msg)
    return text


seedance: Final = App(
    name="seedance",
    help="Refer to media, edit a clip, extend it, stitch clips together.",
    help_epilogue="",
    group_parameters=MAIN,
)
for _command in (reference, edit, extend, stitch):
    seedance.command(_command)
