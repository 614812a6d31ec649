"""A batch as the person at the terminal sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import anyio

from ..errors import VeniceError
from ..formatting import as_bytes, as_usd
from ..sansio.converter import request_key
from ..sansio.job.states import State, Waiting
from . import exits
from .exits import exit_code
from .failures import as_json, in_words
from .running import succeeded_json
from .screen.board import Board, drawn
from .screen.streams import as_line
from .tickets import save_all

if TYPE_CHECKING:
    from ..batch import Batch
    from ..client import VeniceClient
    from ..job import VideoJob
    from ..requests import VideoRequest
    from ..results import Outcome, Ticket
    from .batchfile import Line
    from .connection import Session
    from .interrupts import Interrupts
    from .screen.screen import Screen

_TICK: Final = 0.2  # seconds between two looks at the totals


class BatchRun:
    """One run of a batch, as the person at the terminal sees it.

    Attributes:
        results: where outcomes are written as JSON lines; None for stdout.
    """

    def __init__(
        self, screen: Screen, interrupts: Interrupts, lines: Sequence[Line], *, into: Path, grace: float
    ) -> None:
        """Get ready."""
        self.results: TextIO | None = None
        self._screen = screen
        self._interrupts = interrupts
        self._lines = lines
        self._into = into
        self._grace = grace
        self._board = Board({}, total=len(lines))
        self._queued_at: dict[str, float] = {}
        self._outcomes: dict[int, tuple[Outcome, float | None]] = {}
        self._stopped = 0
        self._handed_over: list[Ticket] = []

    def heard(self, job: VideoJob, state: State) -> None:
        """Take note of a state of a job."""
        self._board.heard(job, state)
        if isinstance(state, Waiting):
            self._queued_at.setdefault(state.ticket.queue_id, time.monotonic())

    def key(self) -> Callable[[VideoRequest], str] | None:
        """Return what names a request across runs: the key of its line, where lines have any."""
        if all(line.key is None for line in self._lines):
            return None
        keys = {id(line.request): line.key for line in self._lines}
        return lambda request: keys.get(id(request)) or request_key(request)

    async def watch(self, session: Session, batch: Batch, budget: float | None) -> int:
        """Show the batch until it ends, and return the exit code."""
        self._board.running, self._board.budget = batch.jobs, budget
        failure: Exception | None = None
        async with anyio.create_task_group() as draining:  # its tickets are waited for: they are paid for
            self._interrupts.on_stop = lambda: draining.start_soon(self._drain, session.venice)
            async with anyio.create_task_group() as ticking:
                ticking.start_soon(self._tick, batch)
                with drawn(self._screen, self._board):
                    failure = await self._take_all(batch)
                ticking.cancel_scope.cancel()
            self._interrupts.on_stop = None
        self._board.spent = batch.spent_usd
        if failure is not None:
            raise failure
        return await self._ended(session)

    async def _take_all(self, batch: Batch) -> Exception | None:
        """Take every outcome; return what ended the batch early, which no task group shall wrap."""
        try:
            async for outcome in batch:
                self._board.spent = batch.spent_usd
                self._take(outcome)
        except Exception as error:  # noqa: BLE001 - it is raised again, once it is out of the group
            return error
        return None

    def outcome(self, index: int) -> tuple[Outcome | None, float | None]:
        """Return how a line ended, and in how many seconds; None for what is not known."""
        return self._outcomes.get(index, (None, None))

    def _take(self, outcome: Outcome) -> None:
        """Count an outcome, say it, and write it down."""
        ticket = outcome.video.ticket if outcome.video else outcome.error.ticket if outcome.error else None
        since = self._queued_at.get(ticket.queue_id) if ticket else None
        seconds = None if since is None else time.monotonic() - since
        self._outcomes[outcome.index] = outcome, seconds
        if self._interrupts.code is not None and type(outcome.error) is VeniceError:
            self._stopped += 1  # it did not fail: nobody waits for it any longer
        else:
            self._board.done += outcome.video is not None
            self._board.failed += outcome.video is None
            self._say(outcome)
        record = self._as_json(outcome, seconds)
        if self.results is not None:
            self.results.write(as_line(record, self.results))
            self.results.flush()
        elif self._screen.as_json or not self._screen.out.is_terminal:
            self._screen.emit(record)

    def _say(self, outcome: Outcome) -> None:
        number = f"{self._lines[outcome.index].number:>4}"
        if outcome.video is not None:
            price = f" · {as_usd(outcome.usd)}" if outcome.usd is not None else ""
            self._screen.note(
                f"{number} ✓ {outcome.video.path} · {as_bytes(outcome.video.size)}{price}", "green"
            )
        elif outcome.error is not None:
            self._screen.insist(f"{number} ✗ {in_words(outcome.error)}", "red")

    def _as_json(self, outcome: Outcome, seconds: float | None) -> Mapping[str, Any]:
        line = self._lines[outcome.index]
        known = {"line": line.number, **({"key": line.key} if line.key else {})}
        if outcome.video is not None:
            return {**known, **succeeded_json(outcome.video, outcome.usd, seconds)}
        assert outcome.error is not None  # noqa: S101 - an outcome has one of the two
        price = {"usd": outcome.usd} if outcome.usd is not None else {}
        return {**known, **as_json(outcome.error), **price}

    async def _tick(self, batch: Batch) -> None:
        while True:
            self._board.spent, self._board.paused = batch.spent_usd, batch.paused
            await anyio.sleep(_TICK)

    async def _drain(self, venice: VeniceClient) -> None:
        patience = f"up to {self._grace:g} s for what is nearly done"
        self._screen.insist(f"Stopping: nothing more is queued; {patience}. Ctrl-C again: at once.")
        self._handed_over = await venice.drain(self._grace)

    async def _ended(self, session: Session) -> int:
        self._screen.insist(self._board.totals())
        if self._interrupts.code is not None:
            await self._hand_over(session)
            return self._interrupts.code
        errors = [outcome.error for outcome, _ in self._outcomes.values() if outcome.error is not None]
        codes = {exit_code(error) for error in errors}
        if len(self._outcomes) < len(self._lines):
            self._screen.insist(f"{len(self._lines) - len(self._outcomes)} were not started.")
        return codes.pop() if len(codes) == 1 else exits.FAILED if codes else exits.OK

    async def _hand_over(self, session: Session) -> None:
        """Say how the rest goes on; without a journal, keep the tickets in a file."""
        waiting = len(self._handed_over)
        unqueued = len(self._lines) - len(self._outcomes) + self._stopped - waiting
        self._screen.insist(f"{waiting} go on at Venice, {unqueued} were not queued.")
        if session.journal is not None:
            self._screen.insist("Run the same command again to go on: nothing is paid for twice.", "bold")
        elif waiting and not session.connection.sandbox:
            path = await anyio.to_thread.run_sync(save_all, self._handed_over, self._into)
            self._screen.insist(
                f"Resume: {session.again('resume', str(path), '-o', str(self._into))}", "bold"
            )
