"""Many jobs at once: a table of those at work, and the totals."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from attrs import define, field
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ...formatting import as_bytes, as_seconds, as_usd
from ...options import Limits
from ...sansio.job.states import Downloading, State, Waiting
from .progress import left, part, phase
from .screen import printable

if TYPE_CHECKING:
    from ...job import VideoJob
    from .screen import Screen

_ROWS_BESIDE: Final = 5  # lines of the terminal that are kept for the totals and what stands above
_ROWS: Final = 24  # jobs shown at most, however tall the terminal
_MINUTE: Final = 60.0
_TELLING: Final = 5  # clips that tell how long the others take


class Meter:
    """Counts what was asked of the server in the last minute, by what the jobs tell."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._moments: dict[str, deque[float]] = {"queue": deque(), "polls": deque()}

    def count(self, kind: str, now: float) -> None:
        """Count one request."""
        self._moments[kind].append(now)

    def last_minute(self, kind: str, now: float) -> int:
        """Return how many there were."""
        moments = self._moments[kind]
        while moments and moments[0] <= now - _MINUTE:
            moments.popleft()
        return len(moments)


@define(eq=False)
class Board:
    """What is shown of many jobs.

    Attributes:
        running: the jobs at work, by their place.
        total: how many there are in all.
        done: clips that are there.
        failed: those that failed.
        spent: USD spent or set aside; None where no price is known.
        budget: USD that may be spent.
        paused: whether the balance is used up.
        limits: requests a minute that the key allows.
        queues: whether these jobs were queued just now, rather than by an earlier process.
    """

    running: Mapping[int, VideoJob]
    total: int
    done: int = 0
    failed: int = 0
    spent: float | None = None
    budget: float | None = None
    paused: bool = False
    limits: Limits = field(factory=Limits)
    queues: bool = True
    _meter: Meter = field(factory=Meter, init=False)
    _started: float = field(factory=time.monotonic, init=False)
    _at: WeakKeyDictionary[VideoJob, float] = field(factory=lambda: WeakKeyDictionary(), init=False)  # noqa: PLW0108 - it is typed by its place
    _waited: WeakKeyDictionary[VideoJob, float] = field(factory=lambda: WeakKeyDictionary(), init=False)  # noqa: PLW0108 - it is typed by its place

    def heard(self, job: VideoJob, state: State) -> None:
        """Note that a job has news, which tells what was asked of the server too."""
        now = time.monotonic()
        self._at[job] = now
        if isinstance(state, Waiting) and job not in self._waited:
            self._waited[job] = now
            if self.queues:
                self._meter.count("queue", now)
        elif isinstance(state, Waiting) and (state.elapsed is not None or state.misses):
            self._meter.count("polls", now)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the jobs that were started first, and the totals below them."""
        room = max(1, min(_ROWS, console.size.height - _ROWS_BESIDE))
        jobs = sorted(self.running.items())
        yield self._table(jobs[:room])
        if len(jobs) > room:
            counts = Counter(phase(job.state) for _, job in jobs[room:])
            more = ", ".join(f"{count} {name}" for name, count in counts.items())
            yield Text(f"     and {more}", style="dim")
        yield self._totals()

    def totals(self) -> str:
        """Return how it goes, in one line."""
        ended = self.done + self.failed
        parts = [f"{ended} of {self.total}"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{len(self.running)} at work"] if self.running else []
        parts += [self._money()] if self.spent is not None else []
        parts += ["PAUSED: the balance is used up"] if self.paused else [self._time_left()]
        return " · ".join(part for part in parts if part)

    def _totals(self) -> Table:
        now = time.monotonic()
        ended = self.done + self.failed
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            ProgressBar(total=max(self.total, 1), completed=ended, width=20),
            Text(self.totals(), style="bold"),
        )
        whole = Table.grid()
        whole.add_row(grid)
        polls, queue = self._meter.last_minute("polls", now), self._meter.last_minute("queue", now)
        use = (
            f"in the last minute: {polls} of {self.limits.retrieve_per_minute:g} polls,"
            f" {queue} of {self.limits.queue_per_minute:g} queued · {as_seconds(int(now - self._started))}"
        )
        whole.add_row(Text(use, style="dim"))
        return whole

    def _money(self) -> str:
        bound = f" of {as_usd(self.budget)}" if self.budget is not None else ""
        return f"{as_usd(self.spent or 0.0)}{bound}"

    def _time_left(self) -> str:
        ended = self.done + self.failed
        rest = self.total - ended
        if self.done < min(_TELLING, self.total) or not rest:
            return ""
        return f"about {as_seconds((time.monotonic() - self._started) / ended * rest)} left"

    def _table(self, jobs: list[tuple[int, VideoJob]]) -> Table:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(justify="right", width=4, style="dim")
        table.add_column(width=18, no_wrap=True)
        table.add_column(width=12)
        table.add_column(width=22, no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis", style="dim")
        for index, job in jobs:
            table.add_row(*self._row(index, job))
        return table

    def _row(self, index: int, job: VideoJob) -> tuple[Text | ProgressBar, ...]:
        state = job.state
        age = time.monotonic() - self._at.get(job, time.monotonic())
        done = part(state, age)
        bar = ProgressBar(total=1.0, completed=done or 0.0, width=12, pulse=done is None)
        figures = (
            as_bytes(state.received)
            if isinstance(state, Downloading)
            else left(state, age).removeprefix(", ")
        )
        return Text(str(index + 1)), Text(phase(state)), bar, Text(figures), Text(_about(job))


@contextmanager
def drawn(screen: Screen, board: Board) -> Generator[None]:
    """Show the board within the block, on a terminal."""
    if not screen.live:
        yield
        return
    with screen.drawing(board):
        yield


def _about(job: VideoJob) -> str:
    if job.request is not None:
        return printable(" ".join((job.request.prompt or job.request.model).split()))
    return job.ticket.queue_id if job.ticket else ""
