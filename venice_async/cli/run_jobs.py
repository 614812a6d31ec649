"""Runs jobs from their price to their clips; on Ctrl-C or a failure, says how to resume what was paid for."""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
from attrs import define, evolve, field, frozen

from ..errors import QueueOutcomeUnknownError, VeniceError
from ..formatting import as_bytes, as_seconds, as_usd
from ..io.journal import shown
from ..options import Timeouts
from ..sansio.job.states import Failed, Queueing
from . import exit_codes
from .explain import report, succeeded_json, ticket_json
from .prices import ask_price, confirm_price
from .request_options import with_utf8_prompts
from .screen.board import Board
from .session import open_session
from .stdio import STDOUT, destination, from_here

if TYPE_CHECKING:
    from ..job import VideoJob
    from ..requests import VideoRequest
    from ..results import Ticket
    from .options import ClipOptions
    from .screen.screen import Screen
    from .session import Session

ANSWER: Final = Timeouts().connect + 2 * Timeouts().read
"""Seconds in which the answer to a paid request has come, or will not come any more."""


async def run_request(
    request: VideoRequest, screen: Screen, clip: ClipOptions, *, reference_seconds: float | None = None
) -> int:
    """Have the price agreed to, queue all takes of a request, watch their jobs, and return the exit code.

    An order whose key is known has been paid for, so that its price is nobody's concern any more.
    """
    request, to, tags, count = with_utf8_prompts(request), clip.target.place, clip.tags, clip.count
    bound_for = destination(to, screen, clips=count)
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
                # the price is asked, so that spend knows it
                max_usd=math.inf if limit is None else limit / (new or 1),
                reference_video_seconds=length,
                overwrite=clip.target.overwrite,
                key=key,
                tags=tags,
            )
            for number, (take, key) in enumerate(zip(takes, keys, strict=True), start=1)
        ]
        kept = to if count == 1 else None
        return await Watch(session, screen, to=kept, caption=caption, usd=usd).until_the_end(jobs)


@define(eq=False)
class Watch:
    """Shows jobs until all have ended, says how each did, and keeps the tickets of those that are not done.

    Attributes:
        session: what they run in.
        screen: where they are shown.
        to: where their clips go; None where each has a destination of its own in the journal.
        caption: what is said of a single job.
        usd: the price of each that is queued now, where it is known.
    """

    session: Session
    screen: Screen
    to: Path | str | None = None
    caption: str = ""
    usd: float | None = None
    _started: float = field(factory=time.monotonic, init=False)
    _codes: list[int] = field(factory=list[int], init=False)

    async def until_the_end(self, jobs: Sequence[VideoJob]) -> int:
        """Watch the jobs and return the exit code: that of a signal, or the first that is not 0."""
        running = dict(enumerate(jobs))
        board = Board(
            self.screen, running, total=len(jobs), caption=self.caption, queues=self.usd is not None
        )
        interrupts = self.screen.interrupts
        interrupts.farewell = "Interrupted."  # from here on something may have been charged

        def stop() -> None:
            if any(job.ticket is None and isinstance(job.state, Queueing) for job in jobs):
                self.screen.insist(
                    f"Stopping. If the paid request is on its way, its answer is awaited for up to {ANSWER:g}"
                    " s after it is sent, so that no paid job is lost; Ctrl-C again ends at once."
                )
            for job in jobs:
                job.cancel()

        def give_up() -> None:
            if tell_unknown(self.session, self.screen, jobs) and self.screen.as_json:
                self.screen.emit({"ok": False, "stopped": True, "charged": None})

        interrupts.on_stop, interrupts.on_insist = stop, give_up
        try:
            with self.screen.drawing(board):
                async with anyio.create_task_group() as group:
                    for index, job in enumerate(jobs):
                        group.start_soon(self._follow, index, job, running, board)
        finally:
            interrupts.on_stop = interrupts.on_insist = None
        stopped = [job for job in jobs if job.cancelled()]
        if len(jobs) > 1 and not stopped:
            self.screen.note(board.summary())
        if stopped:
            await self._stopped(stopped)
            return interrupts.code or exit_codes.INTERRUPTED
        return next((code for code in self._codes if code), exit_codes.OK)

    async def _follow(self, index: int, job: VideoJob, running: dict[int, VideoJob], board: Board) -> None:
        async for state in job.updates():
            board.heard(job, state)
        running.pop(index)
        if job.cancelled():
            return
        try:
            video = await job
        except VeniceError as error:
            board.failed += 1
            over = error.ticket is None or (isinstance(job.state, Failed) and job.state.job_failed)
            kept_ticket = None
            if not over and job.ticket is not None:  # a later try may still bring its clip
                kept_ticket = await keep_ticket(self.session, self.screen, job.ticket, self.to)
            resume = kept_ticket.command if kept_ticket and kept_ticket.works else None
            self._codes.append(report(self.screen, error, resume=resume))
            if kept_ticket is not None:
                kept_ticket.show(self.screen)
            if isinstance(error, QueueOutcomeUnknownError) and self.session.journal is not None:
                self.screen.insist(f"The attempt is kept in the journal: {self.session.again('jobs')}")
            return
        board.done += 1
        seconds = time.monotonic() - self._started
        if self.screen.as_json:
            self.screen.emit(succeeded_json(video, self.usd, seconds))
            return
        facts = [as_bytes(video.size), as_seconds(seconds)] + (
            [as_usd(self.usd)] if self.usd is not None else []
        )
        place = video.path or video.url
        if place is None:
            self.screen.note(f"sent to stdout: {' · '.join(facts)}, sha256 {video.sha256}")
        elif self.screen.out.is_terminal:
            self.screen.result(f"✓ {' · '.join([from_here(place), *facts])}", "green", hang=2)
        else:
            self.screen.note(f"saved {' · '.join([str(place), *facts])}, sha256 {video.sha256}")
            self.screen.path(place)

    async def _stopped(self, jobs: Sequence[VideoJob]) -> None:
        """Say how each job is resumed; of many in the journal, how all are."""
        tickets = [job.ticket for job in jobs if job.ticket is not None]
        if not tickets:
            self.screen.insist("Stopped before anything was queued. Nothing was charged.")
            if self.screen.as_json:
                self.screen.emit({"ok": False, "stopped": True})
            return
        many = len(tickets) > 1 and self.session.journal is not None
        which = f"{len(tickets)} jobs, which have" if many else "the job, which has"
        self.screen.insist(f"Stopped watching. Venice goes on with {which} been paid for.")
        for ticket in tickets:
            kept_ticket = await keep_ticket(self.session, self.screen, ticket, self.to)
            if kept_ticket and not many:
                kept_ticket.show(self.screen)
            if kept_ticket and self.screen.as_json:
                facts = {"ticket": ticket_json(ticket), "resume": kept_ticket.command}
                self.screen.emit({"ok": False, "stopped": True, **facts})
        if many:
            self.screen.insist(f"Resume: {self.session.again('resume', '--all')}", "bold")


def tell_unknown(session: Session, screen: Screen, jobs: Collection[VideoJob]) -> int:
    """Say of which paid requests nobody will know what came of them; return how many they are."""
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


@frozen(kw_only=True)
class KeptTicket:
    """How to resume a job.

    Attributes:
        ticket: the job.
        kept: where the ticket is, in words, behind a comma.
        command: the command line that resumes it.
        works: whether that command can work: an embedded sandbox ends with its command, and its jobs with it.
    """

    ticket: Ticket
    kept: str
    command: str
    works: bool = True

    def show(self, screen: Screen) -> None:
        """Say where the ticket is and how to go on; the link is not shown."""
        screen.insist(f"Ticket: job {self.ticket.queue_id} on {self.ticket.model}{self.kept}")
        screen.insist(f"Resume: {self.command}", "bold")
        if not self.works:
            screen.insist("        (on the real service; this job ended with the sandbox in this command)")


async def keep_ticket(
    session: Session, screen: Screen, ticket: Ticket, to: Path | str | None
) -> KeptTicket | None:
    """See that a ticket is kept: by the journal, or in a new file; None, and a complaint, if it cannot be."""
    where = [] if to is None else ["-o", str(to)]
    by_id = session.again("resume", ticket.queue_id, *where)
    if session.access.sandbox:
        return KeptTicket(ticket=ticket, kept="", command=by_id, works=False)
    if session.journal is not None:
        return KeptTicket(
            ticket=ticket, kept=f", kept in the journal {shown(session.journal)}", command=by_id
        )
    try:
        path = await anyio.to_thread.run_sync(save_tickets, [ticket], to)
    except OSError as error:
        job = f"job {ticket.queue_id} on {ticket.model}"
        screen.complain(f"The ticket cannot be saved ({error.strerror}): {job}")
        return None
    return KeptTicket(
        ticket=ticket, kept=f", kept in {path}", command=session.again("resume", str(path), *where)
    )


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
