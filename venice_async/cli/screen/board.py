"""Running jobs: a live picture on a terminal; elsewhere, for one job, a line at each change."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from attrs import define, field
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ...formatting import as_bytes, as_seconds, as_usd
from ...options import Limits
from ...sansio.job.states import (
    AwaitingConsent,
    Downloading,
    Failed,
    Queueing,
    Quoting,
    Saved,
    State,
    Stopped,
    Succeeded,
    Waiting,
)
from .screen import printable

if TYPE_CHECKING:
    from ...batch import Batch
    from ...job import VideoJob
    from ..batch_file import Line
    from .screen import Screen

_ROWS_BESIDE: Final = 5  # lines of the terminal for the totals and what is above
_ROWS: Final = 24  # jobs shown at most, however tall the terminal
_WIDE: Final = 72  # columns from which many jobs have a progress bar each
_MINUTE: Final = 60.0
_TELLING: Final = 5  # clips from which the time of the others is estimated
_LIMITS: Final = Limits()
_PHASES: Final[Mapping[type[State], str]] = {
    Quoting: "asking the price",
    Queueing: "queueing",
    AwaitingConsent: "asking for consent",
    Waiting: "working",
    Downloading: "downloading",
    Saved: "cleaning up",
    Succeeded: "done",
    Failed: "failed",
    Stopped: "stopped",
}


@define(eq=False)
class Board:
    """What is shown of jobs.

    Attributes:
        screen: where.
        total: how many there are in all.
        running: the jobs at work, by their place.
        caption: what is said of a single job.
        queues: whether these jobs are queued now, rather than by an earlier process.
        lines: the lines of a batch.
        batch: the batch.
        budget: USD that a batch may spend.
        done: clips that were made.
        there: clips that an earlier run had made.
        failed: jobs that failed.
        paid: USD spent by this run.
    """

    screen: Screen
    total: int
    running: Mapping[int, VideoJob] = {}
    caption: str = ""
    queues: bool = False
    lines: Sequence[Line] = ()
    batch: Batch | None = None
    budget: float | None = None
    done: int = 0
    there: int = 0
    failed: int = 0
    paid: float = 0.0
    _started: float = field(factory=time.monotonic, init=False)
    _heard: dict[VideoJob, tuple[float, State]] = field(
        factory=dict["VideoJob", "tuple[float, State]"], init=False
    )
    _queued: deque[float] = field(factory=deque[float], init=False)
    _polled: deque[float] = field(factory=deque[float], init=False)
    _said: str = field(default="", init=False)

    def heard(self, job: VideoJob, state: State) -> None:
        """Record a state of a job; it also tells which requests were sent."""
        now = time.monotonic()
        _, before = self._heard.get(job, (now, None))
        if isinstance(state, Waiting) and (state.elapsed is not None or state.misses):
            self._polled.append(now)
        elif isinstance(state, Waiting) and self.queues and not isinstance(before, Waiting):
            self._queued.append(now)
        self._heard[job] = now, state
        if isinstance(state, Succeeded | Failed | Stopped):
            del self._heard[job]
            return
        if self.total != 1 or self.screen.live:
            return
        match state:  # a line for each change, not for each poll or byte
            case Waiting():
                said = f"waiting {state.elapsed is None}"
            case Downloading():
                said = f"downloading {state.gets}"
            case _:
                said = phase(state)
        if said != self._said:
            self._said = said
            self.screen.note(f"[{as_seconds(now - self._started):>7}] {line(state)}")

    def totals(self) -> str:
        """Return how it goes, in one line."""
        paused = self.batch is not None and self.batch.paused
        parts = [f"{self.done} of {self.total - self.there} made"]
        parts += [self._there()] if self.there else []
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{len(self.running)} at work"] if self.running else []
        parts += [self._money()]
        parts += ["PAUSED: the balance is used up"] if paused else []
        rest = self.total - self.done - self.there - self.failed
        if rest and not paused:  # by the estimates of all jobs, or by how long others took
            now = time.monotonic()
            known = [_eta(job.state, self._age(job, now)) for job in self.running.values()]
            etas = [eta for eta in known if eta is not None]
            if len(etas) == rest:
                parts.append(f"about {as_seconds(max(1, round(max(etas))))} left")
            elif self.done >= min(_TELLING, self.total):
                each = (now - self._started) / (self.done + self.failed)
                parts.append(f"about {as_seconds(each * rest)} left")
        return " · ".join(filter(None, parts))

    def summary(self) -> str:
        """Return how it went, in one line: `20 made, 10 failed · $5.00 of $20.00`."""
        parts = [f"{self.done} made"] if self.done or not (self.there or self.failed) else []
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self._there()}, {as_usd(self.paid)} now"] if self.there else []
        return " · ".join(filter(None, (", ".join(parts), self._money())))

    def _there(self) -> str:
        return f"{self.there} {'was' if self.there == 1 else 'were'} there already"

    def _money(self) -> str:
        """Return what a batch has spent or set aside, in earlier runs too."""
        if self.batch is None:
            return ""
        bound = "in all" if self.budget is None else f"of {as_usd(self.budget)}"
        return f"{as_usd(self.batch.spent_usd)} {bound}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the jobs that were started first, and below them the caption of one, or the totals of many."""
        jobs = sorted(self.running.items())
        room = max(1, min(_ROWS, console.size.height - _ROWS_BESIDE))
        yield self._rows(jobs[:room], bars=self.total == 1 or console.size.width >= _WIDE)
        elapsed = as_seconds(int(time.monotonic() - self._started))
        if self.total == 1:
            ticket = jobs[0][1].ticket if jobs else None
            said = (self.caption, f"job {ticket.queue_id}" if ticket else "", elapsed)
            yield Text(f"  {' · '.join(filter(None, said))}", style="dim", no_wrap=True, overflow="ellipsis")
            return
        if len(jobs) > room:
            counts = Counter(phase(job.state) for _, job in jobs[room:])
            more = ", ".join(f"{count} {name}" for name, count in counts.items())
            yield Text(f"     and {more}", style="dim")
        totals = Table.grid(padding=(0, 1))
        totals.add_row(
            ProgressBar(total=max(self.total, 1), completed=self.done + self.there + self.failed, width=10),
            Text(self.totals(), style="bold"),
        )
        yield totals
        yield Text(
            f"last minute: {_recent(self._polled)} of {_LIMITS.retrieve_per_minute:g} polls,"
            f" {_recent(self._queued)} of {_LIMITS.queue_per_minute:g} queued · {elapsed}",
            style="dim",
            no_wrap=True,
            overflow="ellipsis",
        )

    def _rows(self, jobs: Sequence[tuple[int, VideoJob]], *, bars: bool) -> Table:
        table = Table.grid(padding=(0, 1), expand=self.total > 1)
        for width in (4, 18, 12, 22) if bars else (4, 18, 22):
            table.add_column(width=width, no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis", style="dim")
        now = time.monotonic()
        for index, job in jobs:
            state, age = job.state, self._age(job, now)
            done = part(state, age)
            figures = left(state, age)
            if isinstance(state, Downloading):
                figures = as_bytes(state.received) + (f" of {as_bytes(state.total)}" if state.total else "")
            number = about = ""
            if self.total > 1:
                line = self.lines[index] if self.lines else None
                number = str(line.number if line else index + 1)
                name = job.ticket.queue_id if job.ticket else ""
                name = (job.request.prompt or job.request.model) if job.request else name
                key = line and (line.key or line.variant)
                about = f"{key}: {name}" if key else name
            bar = ProgressBar(total=1.0, completed=done or 0.0, width=12, pulse=done is None)
            table.add_row(
                Text(number, style="dim", justify="right"),
                Text(phase(state)),
                *([bar] if bars else []),
                Text(figures),
                Text(printable(" ".join(about.split()))),
            )
        return table

    def _age(self, job: VideoJob, now: float) -> float:
        """Return for how many seconds a job has been in its state."""
        return now - self._heard[job][0] if job in self._heard else 0.0


def phase(state: State) -> str:
    """Return a state in a few words."""
    return _PHASES[type(state)]


def line(state: State) -> str:
    """Return a state as a line of a log."""
    match state:
        case Waiting(elapsed=None):
            return f"queued: job {state.ticket.queue_id} on {state.ticket.model}"
        case Waiting():
            return ", ".join(filter(None, ("working", left(state, 0.0))))
        case Downloading(total=int() as total):
            return f"downloading {as_bytes(total)}"
        case Saved() | Succeeded():
            return f"saved and verified, {as_bytes(state.video.size)}"
        case _:
            return phase(state)


def part(state: State, age: float) -> float | None:
    """Return the part of a job that is likely done, in [0, 1], `age` seconds after it came to `state`."""
    match state:
        case Downloading():
            return state.progress
        case Waiting(elapsed=float() as elapsed, eta=float() as eta) if elapsed + eta > 0:
            return min((elapsed + age) / (elapsed + eta), 0.99)
        case Saved() | Succeeded():
            return 1.0
        case _:
            return None


def left(state: State, age: float) -> str:
    """Return how long a job is likely to take still, `age` seconds after it came to `state`."""
    eta = _eta(state, age)
    if eta is None:
        return ""
    return f"about {as_seconds(round(eta))} left" if eta >= 1 else "any moment now"


def _eta(state: State, age: float) -> float | None:
    return state.eta - age if isinstance(state, Waiting) and state.eta is not None else None


def _recent(moments: deque[float]) -> int:
    """Return how many of the moments are in the last minute, and drop the others."""
    while moments and moments[0] <= time.monotonic() - _MINUTE:
        moments.popleft()
    return len(moments)
