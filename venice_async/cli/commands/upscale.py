"""`venice-async upscale`: a clip made larger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from ...upscaling import upscale as upscaling
from ..connection import Connection, Journalling, opened
from ..consent import asker
from ..options import argument, value
from ..prices import Money
from ..request_options import extra, media
from ..running import Target
from .generate import make

if TYPE_CHECKING:
    from ..interrupts import Interrupts
    from ..screen.screen import Screen

EXAMPLES: Final = """\
venice-async upscale clip.mp4 -m topaz-video-upscale --factor 2 -o large.mp4
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
        int, value(takes="FACTOR", says="How much larger: 2 or 4; 1 only cleans.", shown=True)
    ] = 2,
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
    wanted = upscaling(model, source, factor=factor, extra=extra(field or ()))
    async with opened(connection, journalling, on_consent=asker(screen), seconds=target.timeout) as session:
        return await make(session, screen, interrupts, wanted, target=target, money=money)
