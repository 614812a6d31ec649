"""A batch on the terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import anyio

from ..errors import BudgetExceededError, VeniceError
from ..formatting import as_bytes, as_usd
from ..sansio.job.states import Queueing, State, Waiting
from . import exit_codes
from .exit_codes import exit_code
from .explain import failed_json, in_words, succeeded_json
from .run_jobs import ANSWER, save_tickets, tell_unknown
from .screen.board import Board
from .stdio import as_line, from_here

if TYPE_CHECKING:
    from ..batch import Batch
    from ..job import VideoJob
    from ..results import Outcome, Ticket
    from .batch_file import Line
    from .screen.screen import Screen
    from .session import Session

_TICK: Final = 0.2  # seconds between two looks at the totals


class BatchRun:
    """One run of a batch.

    Attributes:
        results: where outcomes are written as JSON lines; None for stdout.
        outcomes: how lines ended and in how many seconds, by their place; None for what is not known.
    """

    def __init__(self, screen: Screen, lines: Sequence[Line], *, into: Path | str, grace: float) -> None:
        """Run `lines`; on Ctrl-C, wait `grace` seconds for what is nearly done."""
        self.results: TextIO | None = None
        self.outcomes: dict[int, tuple[Outcome, float | None]] = {}
        self._screen = screen
        self._lines = lines
        self._into = into
        self._grace = grace
        numbers = [line.number for line in lines]
        keys = [line.key or line.variant or None for line in lines]
        self._board = Board(screen, {}, total=len(lines), numbers=numbers, keys=keys, queues=True)
        self._queued_at: dict[str, float] = {}
        self._stopped = 0
        self._over = 0  # lines for which the budget was too small
        self._handed_over: dict[str, Ticket] = {}

    def heard(self, job: VideoJob, state: State) -> None:
        """Record a state of a job."""
        self._board.heard(job, state)
        if isinstance(state, Waiting):
            self._queued_at.setdefault(state.ticket.queue_id, time.monotonic())

    async def until_the_end(self, session: Session, batch: Batch, budget: float | None) -> int:
        """Show the batch until it ends, and return the exit code."""
        board, interrupts = self._board, self._screen.interrupts
        board.running, board.budget = batch.jobs, budget
        failure: Exception | None = None

        async def tick() -> None:
            while True:
                board.spent, board.paused = batch.spent_usd, batch.paused
                await anyio.sleep(_TICK)

        async def drain() -> None:
            patience = f"up to {self._grace:g} s for what is nearly done"
            self._screen.insist(f"Stopping: nothing more is queued; {patience}. Ctrl-C again ends at once.")
            self._hand_over(await session.venice.drain(self._grace))
            if unanswered := sum(isinstance(job.state, Queueing) for job in batch.jobs.values()):
                which = "1 paid request" if unanswered == 1 else f"{unanswered} paid requests"
                self._screen.insist(
                    f"Waiting for the answer to {which}, up to {ANSWER:g} s after sending, so that no paid"
                    " job is lost. Ctrl-C again ends at once."
                )

        def give_up() -> None:
            """Say what nobody waits for any longer, and keep what has no journal to be kept in."""
            jobs = list(batch.jobs.values())
            tell_unknown(session, self._screen, jobs)
            self._hand_over([job.ticket for job in jobs if job.ticket is not None])
            if session.journal is None and self._handed_over and not session.access.sandbox:
                self._say_saved(session, save_tickets(list(self._handed_over.values()), self._into))

        async with anyio.create_task_group() as draining:  # its tickets are waited for: they are paid for
            interrupts.on_stop = lambda: draining.start_soon(drain)
            interrupts.on_insist = give_up
            async with anyio.create_task_group() as ticking:
                ticking.start_soon(tick)
                with self._screen.drawing(board):
                    try:
                        async for outcome in batch:
                            board.spent = batch.spent_usd
                            self._take(outcome)
                    except Exception as error:  # noqa: BLE001 - it is raised once it is out of the groups, which would wrap it
                        failure = error
                ticking.cancel_scope.cancel()
            interrupts.on_stop = interrupts.on_insist = None
        board.spent = batch.spent_usd
        if failure is not None:
            raise failure
        await self._sum_up(session)
        if interrupts.code is not None:
            return interrupts.code
        codes = {
            exit_code(outcome.error) for outcome, _ in self.outcomes.values() if outcome.error is not None
        }
        return codes.pop() if len(codes) == 1 else exit_codes.FAILED if codes else exit_codes.OK

    def _take(self, outcome: Outcome) -> None:
        """Count an outcome, say it, and write it down; what cost nothing in this run is summed up later."""
        board, line, screen = self._board, self._lines[outcome.index], self._screen
        video, error = outcome.video, outcome.error
        ticket = video.ticket if video else error.ticket if error else None
        since = self._queued_at.get(ticket.queue_id) if ticket else None
        seconds = None if since is None else time.monotonic() - since
        self.outcomes[outcome.index] = outcome, seconds
        if screen.interrupts.code is not None and type(error) is VeniceError:
            self._stopped += 1  # it did not fail: nobody waits for it any longer
            self._hand_over([] if ticket is None else [ticket])
        else:
            name = " ".join(filter(None, (f"{line.number:>4}", line.key or line.variant)))
            there = outcome.earlier and seconds is None
            board.there += there and video is not None
            board.done += not there and video is not None
            board.failed += video is None
            if not outcome.earlier and (error is None or error.charged is not False):
                board.paid += outcome.usd or 0.0
            if video is not None and not there:
                usd = as_usd(outcome.usd) if outcome.usd is not None else ""
                price = "paid earlier" if outcome.earlier else usd
                facts = (from_here(video.path or video.url), as_bytes(video.size), price)
                screen.note(f"{name} ✓ {' · '.join(filter(None, facts))}", "green")
            elif isinstance(error, BudgetExceededError) and error.limit_usd == board.budget:
                self._over += 1
            elif error is not None:
                screen.insist(f"{name} ✗ {in_words(error)}", "red")
        record: dict[str, Any] = {"line": line.number, "key": line.key, "variant": line.variant or None}
        record = {name: said for name, said in record.items() if said is not None}
        if video is not None:
            record |= succeeded_json(video, outcome.usd, seconds)
        elif error is not None:
            record |= failed_json(error) | ({} if outcome.usd is None else {"usd": outcome.usd})
        if self.results is not None:
            self.results.write(as_line(record, self.results))
            self.results.flush()
        elif screen.as_json or not screen.out.is_terminal:
            screen.emit(record)

    def _hand_over(self, tickets: Sequence[Ticket]) -> None:
        self._handed_over.update({ticket.queue_id: ticket for ticket in tickets})

    def _say_saved(self, session: Session, path: Path) -> None:
        self._screen.insist(f"Resume: {session.again('resume', str(path), '-o', str(self._into))}", "bold")

    async def _sum_up(self, session: Session) -> None:
        """Say how all of it went, and how the rest goes on; without a journal, keep the tickets in a file."""
        screen = self._screen
        screen.insist(self._board.summary())
        if self._over:
            left = f"more than is left of {as_usd(self._board.budget or 0.0)}"
            screen.insist(f"{self._over} would cost {left}, and were not charged: raise --budget.")
        held = (await session.venice.pending()).held if session.journal is not None else 0
        if held:
            screen.insist(f"{held} of the jobs in the journal are being watched by another process.")
        unqueued = len(self._lines) - len(self.outcomes)
        if screen.interrupts.code is None:
            if unqueued:
                screen.insist(f"{unqueued} were not started.")
            return
        waiting = len(self._handed_over)
        screen.insist(f"{waiting} go on at Venice, {unqueued + self._stopped - waiting} were not queued.")
        if session.journal is not None:
            screen.insist("Run the same command again to go on: nothing is paid for twice.", "bold")
        elif waiting and not session.access.sandbox:
            tickets = list(self._handed_over.values())
            self._say_saved(session, await anyio.to_thread.run_sync(save_tickets, tickets, self._into))
