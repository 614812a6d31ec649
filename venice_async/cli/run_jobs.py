"""Runs jobs, single ones and batches, from their price to their clips.

On Ctrl-C or a failure it says how to resume what was paid for.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import anyio
from attrs import define, evolve, field

from ..errors import BudgetExceededError, QueueOutcomeUnknownError, UsageError, VeniceError
from ..formatting import as_bytes, as_seconds, as_usd
from ..io.delivery.sinks import WriterSink
from ..options import Timeouts
from ..sansio.job.states import Failed, Queueing, State, Waiting
from ..validators import without_password
from . import exit_codes
from .exit_codes import exit_code, failed_json, in_words, report, succeeded_json, ticket_json
from .prices import ask_price, confirm_price
from .request_options import with_utf8_prompts
from .screen.board import Board
from .session import open_session
from .stdio import STDOUT, StandardOutput, as_line, from_here

if TYPE_CHECKING:
    from ..batch import Batch
    from ..job import VideoJob
    from ..requests import VideoRequest
    from ..results import Outcome, Ticket, Video
    from .batch_file import Line
    from .options import ClipOptions
    from .screen.screen import Screen
    from .session import Session

ANSWER: Final = Timeouts().connect + 2 * Timeouts().read
"""Seconds after which the answer to a paid request will not come any more."""


async def run_request(
    request: VideoRequest, screen: Screen, clip: ClipOptions, *, reference_seconds: float | None = None
) -> int:
    """Have the price agreed to, queue all takes of a request, watch their jobs, and return the exit code.

    An order whose key is in the journal is paid for already: its price is not asked for.
    """
    request, to, tags, count = with_utf8_prompts(request), clip.target.place, clip.tags, clip.count
    bound_for = destination(to, screen, clips=count)
    if clip.key is not None and clip.access.journal_path is None:
        msg = "--key needs a journal"
        raise UsageError(msg, hint="Name its file with --journal; --sandbox and --no-journal keep none")
    keys = [clip.key and (clip.key if take == 1 else f"{clip.key}-{take}") for take in range(1, count + 1)]
    async with open_session(screen, clip.access, seconds=clip.target.timeout) as session:
        screen.interrupts.farewell = "Interrupted before anything was queued. Nothing was charged."
        found = [None if key is None else await session.venice.find(key) for key in keys]
        new = found.count(None)
        usd, length, limit = next((one.usd for one in found if one), None), reference_seconds, clip.max_usd
        if new:
            usd, length = await ask_price(session.venice, request, screen, reference_seconds)
            limit = await confirm_price(usd * new, clip.max_usd, clip.confirm, screen)
        costs = [] if usd is None else [as_usd(usd)]
        if usd is not None and count > 1:
            costs = [f"{count} takes", f"{as_usd(usd)} each", f"{as_usd(usd * new)} in all"]
        caption = " · ".join([request.model, *costs])
        if not screen.live or count > 1:
            screen.note(caption)
        seed = request.extra.get("seed")
        takes = [request] * count
        if isinstance(seed, int):
            takes = [evolve(request, extra={**request.extra, "seed": seed + more}) for more in range(count)]
        jobs = [
            session.venice.generate(
                take,
                to=bound_for if count == 1 else clip.target.of_take(number, count),
                # a limit has the price asked for, so that `spend` knows it
                max_usd=math.inf if limit is None else limit / (new or 1),
                reference_video_seconds=length,
                overwrite=clip.target.overwrite,
                key=key,
                tags=tags,
            )
            for number, (take, key) in enumerate(zip(takes, keys, strict=True), start=1)
        ]
        kept = to if count == 1 else None
        return await watch(session, screen, jobs, to=kept, caption=caption, usd=usd)


def destination(output: Path | str, screen: Screen, *, clips: int = 1) -> Path | str | WriterSink:
    """Return where clips go: a file, a folder or a URL, or stdout for `-`.

    Raises:
        UsageError: stdout is a terminal, carries JSON, or would take several clips.
    """
    if output != STDOUT:
        return output
    if clips > 1:
        msg = "-o - takes one clip"
        raise UsageError(msg, hint="Name a folder for several")
    if screen.out.is_terminal:
        msg = "-o - writes the clip to stdout, which is a terminal"
        raise UsageError(msg, hint="Redirect it, such as: -o - > clip.mp4")
    if screen.as_json:
        msg = "-o - and --json exclude each other: both write to stdout"
        raise UsageError(msg)
    return WriterSink(StandardOutput())


async def watch(
    session: Session,
    screen: Screen,
    jobs: Sequence[VideoJob],
    *,
    to: Path | str | None = None,
    caption: str = "",
    usd: float | None = None,
) -> int:
    """Show jobs until all have ended, say how each did, and keep the tickets of those that are not done.

    The exit code is that of a signal, or the first that is not 0.

    Args:
        session: what they run in.
        screen: where they are shown.
        jobs: the jobs.
        to: where their clips go; None where each has a destination of its own in the journal.
        caption: what is said of a single job.
        usd: the price of each that is queued now, where it is known.
    """
    started = time.monotonic()
    running = dict(enumerate(jobs))
    board = Board(screen, len(jobs), running, caption, queues=usd is not None)
    codes: list[int] = []
    interrupts = screen.interrupts
    interrupts.farewell = "Interrupted."  # from here on something may have been charged

    def stop() -> None:
        if any(job.ticket is None and isinstance(job.state, Queueing) for job in jobs):
            screen.insist(
                f"Stopping. If the paid request is on its way, its answer is awaited for up to {ANSWER:g}"
                " s after it is sent, so that no paid job is lost; Ctrl-C again ends at once."
            )
        for job in jobs:
            job.cancel()

    def give_up() -> None:
        if tell_unknown(session, screen, jobs) and screen.as_json:
            screen.emit({"ok": False, "stopped": True, "charged": None})

    async def follow(index: int, job: VideoJob) -> None:
        async for state in job.updates():
            board.heard(job, state)
        running.pop(index)
        if job.cancelled():
            return
        try:
            video = await job
        except VeniceError as error:
            board.failed += 1
            codes.append(await _say_failed(session, screen, job, error, to))
        else:
            board.done += 1
            _say_done(screen, video, usd, time.monotonic() - started)

    interrupts.on_stop, interrupts.on_insist = stop, give_up
    try:
        with screen.drawing(board):
            async with anyio.create_task_group() as group:
                for index, job in enumerate(jobs):
                    group.start_soon(follow, index, job)
    finally:
        interrupts.on_stop = interrupts.on_insist = None
    stopped = [job for job in jobs if job.cancelled()]
    if not stopped:
        if len(jobs) > 1:
            screen.note(board.summary())
        return next((code for code in codes if code), exit_codes.OK)
    tickets = [job.ticket for job in stopped if job.ticket is not None]
    many = len(tickets) > 1 and session.journal is not None
    if tickets:
        which = f"{len(tickets)} jobs, which have" if many else "the job, which has"
        screen.insist(f"Stopped watching. Venice goes on with {which} been paid for.")
    else:
        screen.insist("Stopped before anything was queued. Nothing was charged.")
        if screen.as_json:
            screen.emit({"ok": False, "stopped": True})
    for ticket in tickets:
        resume, said = await keep_ticket(session, screen, ticket, to)
        for line in () if many else said:
            screen.insist(*line)
        if resume and screen.as_json:
            screen.emit({"ok": False, "stopped": True, "ticket": ticket_json(ticket), "resume": resume})
    if many:
        screen.insist(f"Resume: {session.again('resume', '--all')}", "bold")
    return interrupts.code or exit_codes.INTERRUPTED


def _say_done(screen: Screen, video: Video, usd: float | None, seconds: float) -> None:
    if screen.as_json:
        screen.emit(succeeded_json(video, usd, seconds))
        return
    facts = [as_bytes(video.size), as_seconds(seconds), *([] if usd is None else [as_usd(usd)])]
    place = video.path or video.url
    if place is None:
        screen.note(f"sent to stdout: {' · '.join(facts)}, sha256 {video.sha256}")
    elif screen.out.is_terminal:
        screen.result(f"✓ {' · '.join([from_here(place), *facts])}", "green", hang=2)
    else:
        screen.note(f"saved {' · '.join([str(place), *facts])}, sha256 {video.sha256}")
        screen.path(place)


async def _say_failed(
    session: Session, screen: Screen, job: VideoJob, error: VeniceError, to: Path | str | None
) -> int:
    over = error.ticket is None or (isinstance(job.state, Failed) and job.state.job_failed)
    if over or job.ticket is None:
        code = report(screen, error)
    else:  # a later try may still bring its clip
        resume, said = await keep_ticket(session, screen, job.ticket, to)
        code = report(screen, error, resume=None if session.access.sandbox else resume)
        for line in said:
            screen.insist(*line)
    if isinstance(error, QueueOutcomeUnknownError) and session.journal is not None:
        screen.insist(f"The attempt is kept in the journal: {session.again('jobs')}")
    return code


def tell_unknown(session: Session, screen: Screen, jobs: Collection[VideoJob]) -> int:
    """Say which paid requests have an unknown outcome, and return their number."""
    unknown = sum(isinstance(job.state, Queueing) for job in jobs)
    if unknown:
        what, it = ("the job was", "it") if unknown == 1 else (f"{unknown} jobs were", "them")
        look = f"look at your generations on venice.ai before you queue {it} again"
        if session.journal is not None:
            attempts = "the attempt is" if unknown == 1 else "the attempts are"
            look = f"{attempts} in the journal ({session.again('jobs')}); {look}"
        screen.insist(f"Gave up. It is not known whether {what} queued and paid for: {look}.")
        if session.journal is not None:
            screen.insist(f"Resume what is paid for: {session.again('resume', '--all')}", "bold")
    return unknown


async def keep_ticket(
    session: Session, screen: Screen, ticket: Ticket, to: Path | str | None
) -> tuple[str, list[tuple[str, str]]]:
    """Keep a ticket: in the journal, or else in a new file.

    Return the command line that resumes it, and what to say of it, line by line; both are empty, after a
    complaint, if it cannot be kept. The link is not shown.
    """
    where = [] if to is None else ["-o", str(to)]
    resume = session.again("resume", ticket.queue_id, *where)
    job, kept = f"job {ticket.queue_id} on {ticket.model}", ""
    over: list[tuple[str, str]] = []
    if session.access.sandbox:
        over.append(("        (on the real service; this job ended with the sandbox in this command)", ""))
    elif session.journal is not None:
        kept = f", kept in the journal {without_password(session.journal)}"
    else:
        try:
            path = await anyio.to_thread.run_sync(save_tickets, [ticket], to)
        except OSError as error:
            screen.complain(f"The ticket cannot be saved ({error.strerror}): {job}")
            return "", []
        resume, kept = session.again("resume", str(path), *where), f", kept in {path}"
    return resume, [(f"Ticket: {job}{kept}", ""), (f"Resume: {resume}", "bold"), *over]


def save_tickets(tickets: Sequence[Ticket], to: Path | str | None) -> Path:
    """Write tickets, links included, one a line, to a new file in or beside `to`; return its path.

    Only its owner can read it. Where `to` is no path it is made here.

    Raises:
        OSError: it cannot be written.
    """
    if to == STDOUT or not isinstance(to, Path):
        to = Path()
    folder, name = (to, "venice") if to.is_dir() else (to.parent, to.name)
    path = folder / f"{name}.ticket.json"
    if path.exists() or path.is_symlink():
        path = folder / f"{name}.{secrets.token_hex(3)}.ticket.json"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.writelines(ticket.to_json() + "\n" for ticket in tickets)
        file.flush()
        os.fsync(file.fileno())
    return path


@define(eq=False)
class BatchRun:
    """One run of a batch.

    Attributes:
        screen: where it is shown.
        lines: its requests.
        into: where the clips go.
        grace: on Ctrl-C, for how many seconds what is nearly done is waited for.
        results: where outcomes are written as JSON lines; None for stdout.
        outcomes: how lines ended and in how many seconds, by their place; None for what is not known.
    """

    screen: Screen
    lines: Sequence[Line]
    into: Path | str
    grace: float
    results: TextIO | None = None
    outcomes: dict[int, tuple[Outcome, float | None]] = field(
        factory=dict[int, "tuple[Outcome, float | None]"], init=False
    )
    _board: Board = field(init=False)
    _queued_at: dict[str, float] = field(factory=dict[str, float], init=False)
    _stopped: int = field(default=0, init=False)
    _over: int = field(default=0, init=False)  # lines for which the budget was too small
    _handed_over: dict[str, Ticket] = field(factory=dict[str, "Ticket"], init=False)

    def __attrs_post_init__(self) -> None:
        self._board = Board(self.screen, len(self.lines), lines=self.lines, queues=True)

    def heard(self, job: VideoJob, state: State) -> None:
        """Record a state of a job."""
        self._board.heard(job, state)
        if isinstance(state, Waiting):
            self._queued_at.setdefault(state.ticket.queue_id, time.monotonic())

    async def until_the_end(self, session: Session, batch: Batch, budget: float | None) -> int:
        """Show the batch until it ends, and return the exit code."""
        interrupts = self.screen.interrupts
        self._board.running, self._board.batch, self._board.budget = batch.jobs, batch, budget

        async def drain() -> None:
            patience = f"up to {self.grace:g} s for what is nearly done"
            self.screen.insist(f"Stopping: nothing more is queued; {patience}. Ctrl-C again ends at once.")
            self._hand_over(await session.venice.drain(self.grace))
            if unanswered := sum(isinstance(job.state, Queueing) for job in batch.jobs.values()):
                which = "1 paid request" if unanswered == 1 else f"{unanswered} paid requests"
                self.screen.insist(
                    f"Waiting for the answer to {which}, up to {ANSWER:g} s after sending, so that no paid"
                    " job is lost. Ctrl-C again ends at once."
                )

        def give_up() -> None:
            jobs = list(batch.jobs.values())
            tell_unknown(session, self.screen, jobs)
            self._hand_over([job.ticket for job in jobs if job.ticket is not None])
            self._save_tickets(session)

        async with anyio.create_task_group() as draining:  # it waits for the tickets of paid jobs
            interrupts.on_stop = lambda: draining.start_soon(drain)
            interrupts.on_insist = give_up
            with self.screen.drawing(self._board):
                async for outcome in batch:
                    self._take(outcome)
        interrupts.on_stop = interrupts.on_insist = None
        await self._sum_up(session)
        if interrupts.code is not None:
            return interrupts.code
        codes = {
            exit_code(outcome.error) for outcome, _ in self.outcomes.values() if outcome.error is not None
        }
        return codes.pop() if len(codes) == 1 else exit_codes.FAILED if codes else exit_codes.OK

    def _take(self, outcome: Outcome) -> None:
        """Count, print and record an outcome; what cost nothing in this run is in the summary only."""
        board, line, screen = self._board, self.lines[outcome.index], self.screen
        video, error = outcome.video, outcome.error
        ticket = video.ticket if video else error.ticket if error else None
        since = self._queued_at.get(ticket.queue_id) if ticket else None
        seconds = None if since is None else time.monotonic() - since
        self.outcomes[outcome.index] = outcome, seconds
        if screen.interrupts.code is not None and type(error) is VeniceError:
            self._stopped += 1  # it did not fail: it is no longer watched
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

    async def _sum_up(self, session: Session) -> None:
        """Print the summary, and how to go on."""
        screen = self.screen
        screen.insist(self._board.summary())
        if self._over:
            left = f"more than is left of {as_usd(self._board.budget or 0.0)}"
            screen.insist(f"{self._over} would cost {left}, and were not charged: raise --budget.")
        held = (await session.venice.pending()).held if session.journal is not None else 0
        if held:
            screen.insist(f"{held} of the jobs in the journal are being watched by another process.")
        unqueued = len(self.lines) - len(self.outcomes)
        if screen.interrupts.code is None:
            if unqueued:
                screen.insist(f"{unqueued} were not started.")
            return
        waiting = len(self._handed_over)
        screen.insist(f"{waiting} go on at Venice, {unqueued + self._stopped - waiting} were not queued.")
        if session.journal is not None:
            screen.insist("Run the same command again to go on: nothing is paid for twice.", "bold")
        self._save_tickets(session)

    def _save_tickets(self, session: Session) -> None:
        """Without a journal, write the tickets of jobs that go on to a file."""
        if session.journal is None and self._handed_over and not session.access.sandbox:
            path = save_tickets(list(self._handed_over.values()), self.into)
            self.screen.insist(f"Resume: {session.again('resume', str(path), '-o', str(self.into))}", "bold")
