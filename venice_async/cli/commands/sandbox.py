"""`venice-async sandbox`: a simulated Venice on loopback."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import anyio

from ...errors import UsageError
from .. import exits
from ..connection import check_speed
from ..options import value

if TYPE_CHECKING:
    from ..interrupts import Interrupts
    from ..screen.screen import Screen

EXAMPLES = """\
venice-async sandbox --port 8787 --speed 10
"""


async def sandbox(
    *,
    screen: Screen,
    interrupts: Interrupts,
    port: Annotated[
        int,
        value(takes="PORT", says="The port on 127.0.0.1; 0 takes a free one.", shown=True, min=0, max=65535),
    ] = 8787,
    speed: Annotated[
        float, value(takes="X", says="How much faster than in reality jobs run.", shown=True)
    ] = 10.0,
) -> int:
    """Serve a simulated Venice on this machine: no key, no money, real clips.

    Paste the lines it prints into another terminal; every client there then talks to it. Ctrl-C ends it.
    """
    check_speed(speed)
    from ...sandbox import serve  # noqa: PLC0415 - a server and a renderer, for those who ask for it

    def announce(base_url: str, api_key: str) -> None:
        if screen.as_json:
            screen.emit({"base_url": base_url, "api_key": api_key})
            return
        lines = (
            f"export VENICE_BASE_URL={shlex.quote(base_url)}",
            f"export VENICE_API_KEY={shlex.quote(api_key)}",
        )
        sys.stdout.write("\n".join((*lines, "")))
        sys.stdout.flush()
        screen.note("The sandbox is up; Ctrl-C ends it.", "dim")

    with anyio.CancelScope() as scope:
        interrupts.on_stop = scope.cancel
        try:
            await serve(port=port, speed=speed, announce=announce)
        except OSError as error:
            msg = f"Port {port} cannot be used: {error.strerror or error}"
            raise UsageError(msg, hint="Choose another one with --port, or 0 for any") from error
    return exits.OK
