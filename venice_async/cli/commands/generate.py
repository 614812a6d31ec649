"""The commands that make one clip, or say what it would cost: generate, quote, upscale, seedance ..."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from attrs import evolve, frozen
from cyclopts import App, Parameter

from ... import seedance as builders
from ...errors import UsageError
from ...formatting import as_usd
from ...requests import VideoRequest
from ...upscaling import upscale as upscaling
from .. import exit_codes
from ..completions import Model
from ..options import MAIN, ClipOptions, Connection, Fields, Medium, Output, ReferenceSeconds, Text
from ..request_options import Media_, MediaOptions, PictureOptions, media, medium, named_fields, values
from ..run_jobs import run_request
from ..screen.screen import Screen, ScreenHere
from ..session import open_session
from . import command

GENERATE_EXAMPLES: Final = """\
venice-async generate --sandbox -m wan-2-7-text-to-video -p "fox" --duration 5s --aspect-ratio 16:9 -o fox.mp4
venice-async generate -m wan-2-7-image-to-video -p "she turns" --image portrait.png --duration 5s -o turn.mp4
venice-async generate -m wan-2-7-text-to-video -p "rain" --duration 10s --aspect-ratio 16:9 --max-usd 2 --json
venice-async generate -m wan-2-7-text-to-video -p "rain" --duration 5s --aspect-ratio 16:9 --key order-4711
"""
QUOTE_EXAMPLES: Final = """\
venice-async quote -m wan-2-7-text-to-video --duration 10s --resolution 720p
venice-async quote -m topaz-video-upscale --video clip.mp4 --upscale-factor 2 --json
"""
UPSCALE_EXAMPLES: Final = """\
venice-async upscale clip.mp4 -m topaz-video-upscale --factor 2 -o large.mp4
venice-async upscale clip.mp4 -m topaz-video-interpolate --fps 60 -o smooth.mp4
venice-async upscale old.mp4 -m topaz-video-astra --prompt "sharp eyes" --enhancement-model astra-2 -o new.mp4
"""
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

_Clip = Annotated[Medium, Parameter(metavar="VIDEO")]


@command(GENERATE_EXAMPLES)
async def generate(
    *,
    model: Model,
    prompt: Annotated[Text | None, Parameter(alias="-p")] = None,
    picture: PictureOptions = PictureOptions(),
    media: MediaOptions = MediaOptions(),
    reference_seconds: ReferenceSeconds | None = None,
    clip: ClipOptions = ClipOptions(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Generate a clip and save it, verified, to a file.

    Args:
        model: The model: see 'venice-async models'.
        prompt: What to show.
        reference_seconds: The length of all reference clips together, where they are URLs.
    """
    fields: dict[str, Any] = {"model": model, "prompt": prompt, **values(picture, media)}
    request = VideoRequest(**fields)
    return await run_request(request, screen, clip, reference_seconds=reference_seconds)


@command(QUOTE_EXAMPLES)
async def quote(
    *,
    model: Model,
    picture: PictureOptions = PictureOptions(),
    video: Medium | None = None,
    upscale_factor: Annotated[int | None, Parameter(metavar="FACTOR")] = None,
    reference_seconds: ReferenceSeconds | None = None,
    connection: Connection = Connection(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Show what a clip would cost at this moment. Nothing is queued or reserved.

    Args:
        model: The model: see 'venice-async models'.
        video: The clip to upscale: a file or a URL.
        upscale_factor: 1, 2 or 4.
        reference_seconds: The length of all reference clips together.
    """
    request = VideoRequest(
        model=model,
        prompt="-" if video is None else None,  # a price does not depend on it, and it is not sent
        video_url=None if video is None else medium("--video", video),
        upscale_factor=upscale_factor,
        **values(picture),
    )
    async with open_session(screen, connection) as session:
        usd = (await session.venice.quote(request, reference_video_seconds=reference_seconds)).usd
    if screen.as_json:
        screen.emit({"ok": True, "usd": usd, "model": model})
    else:
        screen.result(as_usd(usd))
    return exit_codes.OK


@command(UPSCALE_EXAMPLES)
async def upscale(
    video: Annotated[Medium, Parameter(metavar="VIDEO")],
    /,
    *,
    model: Annotated[Model, Parameter(show_default=True)] = "topaz-video-upscale",
    factor: Annotated[int | None, Parameter(metavar="FACTOR")] = None,
    prompt: Text | None = None,
    enhancement_model: Annotated[str | None, Parameter(metavar="NAME")] = None,
    fps: Annotated[float | None, Parameter(metavar="FPS")] = None,
    slowdown: Annotated[int | None, Parameter(metavar="FACTOR")] = None,
    prores: bool = False,
    field: Fields = (),
    clip: ClipOptions = ClipOptions(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Make a clip larger, or cleaner at the size it has.

    Args:
        video: The clip: a file or a URL; MP4, MOV or WebM.
        model: An upscaling model.
        factor: How much larger: 2 or 4; 1 only cleans. By default 2, if the model takes any.
        prompt: What to look for: Topaz Astra only.
        enhancement_model: A variant of the model; it changes the price.
        fps: Frames a second, 16 to 120.
        slowdown: Slower by 2, 4 or 8.
        prores: ProRes, as a MOV.
        field: Any other field of the API. Repeatable.
    """
    chosen = {
        "enhancement_model": enhancement_model,
        "target_fps": fps,
        "slowdown_factor": slowdown,
        "output_format": "prores" if prores else None,
    }
    options: Any = {name: part for name, part in chosen.items() if part is not None}
    others = named_fields(field)
    extra = others.pop("extra", None)
    request = upscaling(model, medium("VIDEO", video), factor=factor, prompt=prompt, extra=extra, **options)
    return await run_request(evolve(request, **others), screen, clip)


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

    async def run(self, screen: Screen, build: Callable[..., VideoRequest], *parts: Any, **facts: Any) -> int:
        """Build a request of the model, run it, and return the exit code."""
        request = build(self.model, *parts, **facts, family=self.family, **values(self.picture))
        return await run_request(request, screen, self.clip, reference_seconds=self.reference_seconds)


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
    return await seedance.run(
        screen,
        builders.reference,
        prompt,
        refer_to=refer_to,
        images=media("--image", image),
        videos=media("--video", video),
        audios=media("--sound", sound),
    )


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
    for needed, text, option in ((change, to, "--to"), (replace, by, "--by")):
        if needed and not text:
            msg = f"{option} is missing"
            raise UsageError(msg)
    said = [instruction] if instruction else []
    said += [builders.change(change, to=to or "")] if change else []
    said += [builders.add(add)] if add else []
    said += [builders.remove(remove)] if remove else []
    said += [builders.replace(replace, by=by or "")] if replace else []
    if len(said) != 1:
        msg = "edit takes one instruction: words of your own, --change, --add, --remove or --replace"
        raise UsageError(msg)
    return await seedance.run(
        screen,
        builders.edit,
        medium("VIDEO", video),
        said[0],
        images=media("--image", image),
        audios=media("--sound", sound),
    )


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
    """Continue a clip after its end, or lead up to its start.

    Args:
        video: The clip: a file or a URL.
        prompt: What happens next.
        backward: Lead up to its start instead.
        keep_input: Include the clip itself in the result.
    """
    return await seedance.run(
        screen, builders.extend, medium("VIDEO", video), prompt, backward=backward, keep_input=keep_input
    )


@command(STITCH_EXAMPLES)
async def stitch(
    *videos: _Clip,
    transition: tuple[Text, ...] = ("a smooth seamless cut",),
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
    return await seedance.run(screen, builders.stitch, media("VIDEO", videos), between)


seedance: Final = App(
    name="seedance",
    help="Refer to media, edit a clip, extend it, stitch clips together.",
    help_epilogue="",
    group_parameters=MAIN,
)
for _command in (reference, edit, extend, stitch):
    seedance.command(_command)
