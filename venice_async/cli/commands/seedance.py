"""`venice-async seedance …`: refer to media, edit a clip, extend it, stitch clips together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from attrs import frozen

from ... import seedance as builders
from ...errors import UsageError
from ..connection import Connection, Journalling, opened
from ..consent import asker
from ..options import argument, flag, value
from ..prices import Money, reference_length
from ..request_options import Look, many, media
from ..running import Target
from .generate import make

if TYPE_CHECKING:
    from ...media import MediaInput
    from ..interrupts import Interrupts
    from ..screen.screen import Screen

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
MODEL: Final = "seedance-2-0-reference-to-video"


@frozen(kw_only=True)
class Seedance:
    """What the four workflows share."""

    model: Annotated[
        str, value("--model", "-m", takes="ID", says="A reference-to-video model.", shown=True)
    ] = MODEL
    family: Annotated[
        str | None, value(takes="2.0|2.5", says="The family, where the model's id does not tell it.")
    ] = None
    reference_seconds: Annotated[float | None, reference_length()] = None


async def reference(
    *,
    screen: Screen,
    interrupts: Interrupts,
    prompt: Annotated[str, argument(takes="PROMPT", says="What to generate.")],
    refer_to: Annotated[
        list[str] | None, value(takes="TEXT", says="Such as '<Subject 1> in <Image 1>'. Repeatable.")
    ] = None,
    image: Annotated[list[str] | None, value(takes="MEDIA", says="A reference image. Repeatable.")] = None,
    video: Annotated[list[str] | None, value(takes="MEDIA", says="A reference clip. Repeatable.")] = None,
    sound: Annotated[list[str] | None, value(takes="MEDIA", says="A reference sound. Repeatable.")] = None,
    seedance: Seedance,
    look: Look,
    target: Target,
    money: Money,
    journalling: Journalling,
    connection: Connection,
) -> int:
    """Make a new clip that takes a subject, an action, a style or a sound from media."""
    wanted = builders.reference(
        seedance.model,
        prompt,
        refer_to=refer_to or (),
        images=many("--image", image),
        videos=many("--video", video),
        audios=many("--sound", sound),
        family=seedance.family,
        **_fields(look),
    )
    on_consent = asker(screen)
    async with opened(connection, journalling, on_consent=on_consent, seconds=target.timeout) as session:
        return await make(
            session,
            screen,
            interrupts,
            wanted,
            target=target,
            money=money,
            reference_seconds=seedance.reference_seconds,
        )


async def edit(
    *,
    screen: Screen,
    interrupts: Interrupts,
    video: Annotated[str, argument(takes="VIDEO", says="The clip: a file or a URL.")],
    instruction: Annotated[str | None, argument(takes="[INSTRUCTION]", says="In words of your own.")] = None,
    change: Annotated[str | None, value(takes="WHAT", says="Give it another look, with --to.")] = None,
    to: Annotated[str | None, value(takes="LOOK", says="The look that --change gives.")] = None,
    add: Annotated[str | None, value(takes="WHAT", says="Add something.")] = None,
    remove: Annotated[str | None, value(takes="WHAT", says="Remove something.")] = None,
    replace: Annotated[str | None, value(takes="WHAT", says="Replace something, with --by.")] = None,
    by: Annotated[str | None, value(takes="WHAT", says="What --replace puts in its place.")] = None,
    image: Annotated[list[str] | None, value(takes="MEDIA", says="A reference image. Repeatable.")] = None,
    sound: Annotated[list[str] | None, value(takes="MEDIA", says="A reference sound. Repeatable.")] = None,
    seedance: Seedance,
    look: Look,
    target: Target,
    money: Money,
    journalling: Journalling,
    connection: Connection,
) -> int:
    """Change one thing in a clip and keep the rest."""
    said = [instruction] if instruction else []
    said += [builders.change(change, to=_needed(to, "--to"))] if change else []
    said += [builders.add(add)] if add else []
    said += [builders.remove(remove)] if remove else []
    said += [builders.replace(replace, by=_needed(by, "--by"))] if replace else []
    if len(said) != 1:
        msg = "edit takes one instruction: words of your own, --change, --add, --remove or --replace"
        raise UsageError(msg)
    wanted = builders.edit(
        seedance.model,
        _clip(video),
        said[0],
        images=many("--image", image),
        audios=many("--sound", sound),
        family=seedance.family,
        **_fields(look),
    )
    on_consent = asker(screen)
    async with opened(connection, journalling, on_consent=on_consent, seconds=target.timeout) as session:
        return await make(
            session,
            screen,
            interrupts,
            wanted,
            target=target,
            money=money,
            reference_seconds=seedance.reference_seconds,
        )


async def extend(
    *,
    screen: Screen,
    interrupts: Interrupts,
    video: Annotated[str, argument(takes="VIDEO", says="The clip: a file or a URL.")],
    prompt: Annotated[str, argument(takes="PROMPT", says="What happens next.")],
    backward: Annotated[bool, flag("--backward", says="Lead up to its start instead.")] = False,
    keep_input: Annotated[bool, flag("--keep-input", says="Have the clip itself in the result.")] = False,
    seedance: Seedance,
    look: Look,
    target: Target,
    money: Money,
    journalling: Journalling,
    connection: Connection,
) -> int:
    """Go on from a clip's end, or lead up to its start."""
    wanted = builders.extend(
        seedance.model,
        _clip(video),
        prompt,
        backward=backward,
        keep_input=keep_input,
        family=seedance.family,
        **_fields(look),
    )
    on_consent = asker(screen)
    async with opened(connection, journalling, on_consent=on_consent, seconds=target.timeout) as session:
        return await make(
            session,
            screen,
            interrupts,
            wanted,
            target=target,
            money=money,
            reference_seconds=seedance.reference_seconds,
        )


async def stitch(
    *,
    screen: Screen,
    interrupts: Interrupts,
    videos: Annotated[list[str], argument(takes="VIDEO VIDEO...", says="The clips in order: files or URLs.")],
    transition: Annotated[
        list[str] | None,
        value(takes="TEXT", says="What happens between clips: one for all, or one for each gap."),
    ] = None,
    seedance: Seedance,
    look: Look,
    target: Target,
    money: Money,
    journalling: Journalling,
    connection: Connection,
) -> int:
    """Join clips by transitions that the model makes up."""
    between: Any = (
        transition if transition and len(transition) > 1 else (transition or ["a smooth seamless cut"])[0]
    )
    wanted = builders.stitch(
        seedance.model, many("VIDEO", videos), between, family=seedance.family, **_fields(look)
    )
    on_consent = asker(screen)
    async with opened(connection, journalling, on_consent=on_consent, seconds=target.timeout) as session:
        return await make(
            session,
            screen,
            interrupts,
            wanted,
            target=target,
            money=money,
            reference_seconds=seedance.reference_seconds,
        )


def _fields(look: Look) -> Any:
    return look.values()


def _clip(path: str) -> MediaInput:
    found = media("VIDEO", path)
    assert found is not None  # noqa: S101 - the argument is required
    return found


def _needed(text: str | None, option: str) -> str:
    if not text:
        msg = f"{option} is missing"
        raise UsageError(msg)
    return text
