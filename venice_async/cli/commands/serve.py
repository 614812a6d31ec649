"""The commands that serve something until Ctrl-C: the dashboard of a journal, and a simulated Venice."""

from __future__ import annotations

import secrets
import shlex
import sys
import webbrowser
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Final

import anyio
from cyclopts import Parameter

from ...errors import UsageError
from ...io.clock import SystemClock
from ...validators import without_password
from .. import exit_codes
from ..options import JournalAccess, Output, Port
from ..screen.screen import ScreenHere
from ..session import check_speed
from ..stdio import read_text
from . import command

DASHBOARD_EXAMPLES: Final = """\
venice-async dashboard --open
venice-async dashboard --journal jobs.db --port 8788
venice-async dashboard --host 0.0.0.0 --token "$(cat /run/secrets/dashboard)"
"""
SANDBOX_EXAMPLES: Final = """\
venice-async sandbox --port 8787 --speed 10
venice-async sandbox --scenario faults.toml -v
"""


@command(DASHBOARD_EXAMPLES)
async def dashboard(
    *,
    host: Annotated[str, Parameter(metavar="ADDRESS", show_default=True)] = "127.0.0.1",
    port: Port = 8788,
    token: Annotated[str | None, Parameter(metavar="TOKEN", env_var="VENICE_DASHBOARD_TOKEN")] = None,
    known_as: Annotated[tuple[str, ...], Parameter(metavar="NAME")] = (),
    open: bool = False,  # noqa: A002 - the name of the option
    access: JournalAccess = JournalAccess(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Show the jobs of a journal on a live page, in a browser.

    It reads the journal and needs no key: clips, progress, failures and what to
    do about them, spend and rate limit, whichever process works. Ctrl-C ends it.

    Args:
        host: The address to listen on; other than loopback only with a token.
        port: The port; 0 takes a free one.
        token: What opens the page; better set VENICE_DASHBOARD_TOKEN. Generated where one is needed.
        known_as: A host name by which a proxy reaches it. Repeatable.
        open: Open the page in your browser.
    """
    path = access.journal_path
    if path is None:
        msg = "There is no journal to look at"
        raise UsageError(msg, hint="Name its file with --journal")
    from ...io.journal.journal import Journal  # noqa: PLC0415 - loaded by those who use it
    from ..dashboard.feed import Feed, FleetSeen  # noqa: PLC0415 - see above
    from ..dashboard.server import is_loopback, serving  # noqa: PLC0415 - see above

    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    async with AsyncExitStack() as stack:
        journal = await Journal.open(path, clock=SystemClock())
        stack.push_async_callback(journal.aclose)
        fleet = FleetSeen(path, stack) if isinstance(path, str) else None
        feed = Feed(journal, without_password(path), fleet)
        async with serving(feed, host=host, port=port, token=token, names=known_as) as at:
            place = f"[{host}]" if ":" in host else host
            url = f"http://{place}:{at}/" + (f"?token={token}" if token else "")
            if screen.as_json:
                screen.emit({"url": url})
            else:
                screen.result(url)
            screen.note(f"The jobs of {without_password(path)}; Ctrl-C ends it.", "dim")
            if token and not is_loopback(host):
                screen.insist("The page is not encrypted: put a proxy with TLS in front of it.", "yellow")
            if open:
                await anyio.to_thread.run_sync(webbrowser.open, url)
            with anyio.CancelScope() as scope:
                screen.interrupts.on_stop = scope.cancel
                await anyio.sleep_forever()
    return exit_codes.OK


@command(SANDBOX_EXAMPLES)
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
