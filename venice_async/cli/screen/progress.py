"""One job on its way: a live picture on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ...formatting import as_bytes, as_seconds
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
    ticket_of,
)

if TYPE_CHECKING:
    from .screen import Screen

Show = Callable[[State], None]


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


def phase(state: State) -> str:
    """Return in a few words what is going on."""
    return _PHASES[type(state)]


def line(state: State) -> str:
    """Return a state as a line of a log."""
    match state:
        case Waiting(elapsed=None):
            return f"queued: job {state.ticket.queue_id} on {state.ticket.model}"
        case Waiting():
            return f"working{_left(state.eta)}"
        case Downloading(total=None):
            return "downloading"
        case Downloading():
            return f"downloading {as_bytes(state.total or 0)}"
        case Saved() | Succeeded():
            return f"saved and verified, {as_bytes(state.video.size)}"
        case _:
            return phase(state)


class Lines:
    """Says a line at each change."""

    def __init__(self, screen: Screen) -> None:
        """Start the clock."""
        self._screen = screen
        self._started = time.monotonic()
        self._said = ""

    def show(self, state: State) -> None:
        """Say how things are, unless that was said."""
        text = line(state)
        kind = text if not isinstance(state, Waiting | Downloading) else f"{phase(state)} {_news(state)}"
        if isinstance(state, Failed | Stopped) or kind == self._said:
            return
        self._said = kind
        self._screen.note(f"[{as_seconds(time.monotonic() - self._started):>7}] {text}")


def _news(state: Waiting | Downloading) -> object:
    return state.elapsed is None if isinstance(state, Waiting) else state.gets


class Picture:
    """Draws a job as it is at this moment."""

    def __init__(self, caption: str) -> None:
        """Start the clock; `caption` tells the job."""
        self._caption = caption
        self._started = time.monotonic()
        self._at = self._started
        self._state: State | None = None
        self._spinner = Spinner("dots", style="cyan")
        self._first: tuple[float, int] | None = None

    def show(self, state: State) -> None:
        """Draw this state from now on."""
        self._state, self._at = state, time.monotonic()
        if isinstance(state, Downloading) and self._first is None:
            self._first = self._at, state.received

    def __rich__(self) -> Any:
        """Return the picture."""
        state = self._state
        if state is None:
            return Text()
        now = time.monotonic()
        done = part(state, now - self._at)
        bar = ProgressBar(total=1.0, completed=done or 0.0, width=30, pulse=done is None)
        row = Table.grid(padding=(0, 1))
        row.add_row(self._spinner, Text(phase(state), style="bold"), bar, Text(self._figures(state, now)))
        ticket = ticket_of(state)
        caption = f"  {self._caption}" + (f" · job {ticket.queue_id}" if ticket else "")
        return Group(row, Text(caption, style="dim", no_wrap=True, overflow="ellipsis"))

    def _figures(self, state: State, now: float) -> str:
        if isinstance(state, Downloading):
            return self._bytes(state, now)
        return f"{as_seconds(int(now - self._started))}{left(state, now - self._at)}"

    def _bytes(self, state: Downloading, now: float) -> str:
        since, before = self._first or (now, state.received)
        rate = (state.received - before) / (now - since) if now - since > _SETTLED else 0.0
        total = f" of {as_bytes(state.total)}" if state.total else ""
        return f"{as_bytes(state.received)}{total}" + (f", {as_bytes(rate)}/s" if rate else "")


_SETTLED: Final = 0.5  # seconds after which a rate means something


@contextmanager
def progress(screen: Screen, caption: str) -> Generator[Show]:
    """Show the states that are handed to what is yielded."""
    if screen.quiet:
        yield lambda _: None
    elif screen.live:
        picture = Picture(caption)
        with screen.drawing(picture):
            yield picture.show
    else:
        yield Lines(screen).show


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
    return _left(state.eta - age) if isinstance(state, Waiting) and state.eta is not None else ""


def _left(eta: float | None) -> str:
    if eta is None:
        return ""
    return f", about {as_seconds(round(eta))} left" if eta >= 1 else ", any moment now"
