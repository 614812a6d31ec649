"""`venice-async upscale`: a clip made larger."""

from __future__ import annotations

from typing import Annotated, Any, Final

from cyclopts import Parameter

from ...upscaling import upscale as upscaling
from ..completions import Model
from ..options import ClipOptions, Fields, Medium, Output, Text
from ..request_options import medium, named_fields
from ..run_jobs import run_request
from ..screen.screen import ScreenHere
from . import command

EXAMPLES: Final = """\
venice-async upscale clip.mp4 -m topaz-video-upscale --factor 2 -o large.mp4
venice-async upscale clip.mp4 -m topaz-video-interpolate --fps 60 -o smooth.mp4
venice-async upscale old.mp4 -m topaz-video-astra --prompt "sharp eyes" --enhancement-model astra-2 -o new.mp4
"""


@command(EXAMPLES)
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
        factor: How much larger: 2 or 4; 1 only cleans. Left out: 2, if the model takes any.
        prompt: What to look for: Topaz Astra only.
        enhancement_model: One of the model's own; it moves the price.
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
    extra = named_fields(field).get("extra")
    request = upscaling(model, medium("VIDEO", video), factor=factor, prompt=prompt, extra=extra, **options)
    return await run_request(request, screen, clip)
