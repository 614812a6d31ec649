"""`venice-async quote`: what a clip would cost."""

from __future__ import annotations

from typing import Annotated, Final

from cyclopts import Parameter

from ...formatting import as_usd
from ...requests import VideoRequest
from .. import exit_codes
from ..completions import Model
from ..options import Connection, Medium, Output, ReferenceSeconds
from ..request_options import PictureOptions, medium
from ..screen.screen import ScreenHere
from ..session import open_session
from . import command

EXAMPLES: Final = """\
venice-async quote -m wan-2-7-text-to-video --duration 10s --resolution 720p
venice-async quote -m topaz-video-upscale --video clip.mp4 --upscale-factor 2 --json
"""
_PLACEHOLDER: Final = "-"  # a price does not depend on the prompt, which is not sent


@command(EXAMPLES)
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
        prompt=_PLACEHOLDER if video is None else None,
        video_url=None if video is None else medium("--video", video),
        upscale_factor=upscale_factor,
        **picture.values(),
    )
    async with open_session(screen, connection) as session:
        usd = (await session.venice.quote(request, reference_video_seconds=reference_seconds)).usd
    if screen.as_json:
        screen.emit({"ok": True, "usd": usd, "model": model})
    else:
        screen.result(as_usd(usd))
    return exit_codes.OK
