"""`venice-async sandbox`: a simulated Venice on loopback."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from ...errors import UsageError
from .. import exit_codes
from ..options import Output, Port
from ..screen.screen import ScreenHere
from ..session import check_speed
from ..stdio import read_text
from . import command

EXAMPLES = """\
venice-async sandbox --port 8787 --speed 10
venice-async sandbox --scenario faults.toml -v
"""


@command(EXAMPLES)
async def sandbox(
    *,
    port: Port = 8787,
    speed: Annotated[float, Parameter(metavar="X", show_default=True)] = 10.0,
    scenario: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Serve a simulated Venice on this machine: no key, no money, real clips.

    Paste the lines it prints into another terminal; every client there then
    talks to it. Ctrl-C ends it. With -v each request is logged.

    Args:
        port: The port on 127.0.0.1; 0 takes a free one.
        speed: How much faster than in reality jobs run.
        scenario: How jobs go, and what goes wrong: a list of scenarios and faults, as JSON or TOML.
    """
    check_speed(speed)
    from ...sandbox import serve  # noqa: PLC0415 - a server and a renderer, for those who ask for it
    from ...sandbox.scenario_file import Declared, parse_scenarios  # noqa: PLC0415 - see above

    declared: Declared = ({}, [])
    if scenario is not None:
        declared = parse_scenarios(await read_text(scenario), str(scenario))

    def announce(base_url: str, api_key: str) -> None:
        if screen.as_json:
            screen.emit({"base_url": base_url, "api_key": api_key})
            return
        for name, value in {"VENICE_BASE_URL": base_url, "VENICE_API_KEY": api_key}.items():
            sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
        sys.stdout.flush()
        screen.note("The sandbox is up; Ctrl-C ends it.", "dim")

    with anyio.CancelScope() as scope:
        screen.interrupts.on_stop = scope.cancel
        try:
            await serve(port=port, speed=speed, announce=announce, scenarios=declared[0], faults=declared[1])
        except OSError as error:
            msg = f"Port {port} cannot be used: {error.strerror or error}"
            raise UsageError(msg, hint="Choose another one with --port, or 0 for any") from error
    return exit_codes.OK
