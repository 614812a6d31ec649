"""`venice-async upscale`: a clip made larger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from ...upscaling import upscale as upscaling
from ..connection import Connection, Journalling, opened
from ..consent import asker
from ..options import argument, flag, value
from ..prices import Money
from ..request_options import extra, media
from ..running import Target
from .generate import make

if TYPE_CHECKING:
    from ..interrupts import Interrupts
    from ..screen.screen import Screen

EXAMPLES: Final = """\
venice-async upscale clip.mp4 -m topaz-video-upscale --factor 2 -o large.mp4
venice-async upscale clip.mp4 -m topaz-video-interpolate --fps 60 -o smooth.mp4
venice-async upscale old.mp4 -m topaz-video-astra --prompt "sharp eyes" --enhancement-model astra-2 -o new.mp4
"""


async def upscale(
    *,
    screen: Screen,
    interrupts: Interrupts,
    video: Annotated[str, argument(takes="VIDEO", says="The clip: a file or a URL; MP4, MOV or WebM.")],
    model: Annotated[str, value("--model", "-m", takes="ID", says="An upscaling model.", shown=True)] = (
        "topaz-video-upscale"
    ),
    factor: Annotated[
        int | None,
        value(
            takes="FACTOR",
            says="How much larger: 2 or 4; 1 only cleans. Left out: 2, if the model takes any.",
        ),
    ] = None,
    prompt: Annotated[str | None, value(takes="TEXT", says="What to look for: Topaz Astra only.")] = None,
    enhancement_model: Annotated[
        str | None, value(takes="NAME", says="One of the model's own; it moves the price.")
    ] = None,
    fps: Annotated[float | None, value(takes="FPS", says="Frames a second, 16 to 120.")] = None,
    slowdown: Annotated[int | None, value(takes="FACTOR", says="Slower by 2, 4 or 8.")] = None,
    prores: Annotated[bool, flag("--prores", says="ProRes, as a MOV.")] = False,
    field: Annotated[
        list[str] | None, value(takes="NAME=JSON", says="Any other field of the API. Repeatable.")
    ] = None,
    target: Target,
    money: Money,
    journalling: Journalling,
    connection: Connection,
) -> int:
    """Make a clip larger, or cleaner at the size it has."""
    source = media("VIDEO", video)
    assert source is not None  # noqa: S101 - the argument is required
    chosen = {
        "enhancement_model": enhancement_model,
        "target_fps": fps,
        "slowdown_factor": slowdown,
        "output_format": "prores" if prores else None,
    }
    options: Any = {name: part for name, part in chosen.items() if part is not None}
    wanted = upscaling(model, source, factor=factor, prompt=prompt, extra=extra(field or ()), **options)
    async with opened(connection, journalling, on_consent=asker(screen), seconds=target.timeout) as session:
        return await make(session, screen, interrupts, wanted, target=target, money=money)
