"""One job from its price to its clip, and an orderly way out on Ctrl-C."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from attrs import frozen

from ..errors import QueueOutcomeUnknownError, VeniceError
from ..formatting import as_bytes, as_seconds, as_usd
from ..sansio.job.states import Queueing, State, Stopped
from . import exits
from .failures import report, ticket_json
from .options import flag, value
from .screen.progress import progress
from .screen.screen import PANEL
from .tickets import Handover, hand_over, resumable, show, stopped_json

if TYPE_CHECKING:
    from ..job import VideoJob
    from ..results import Ticket, Video
    from .connection import Session
    from .interrupts import Interrupts
    from .screen.screen import Screen


@frozen(kw_only=True)
class Target:
    """Where the clip goes."""

    output: Annotated[
        Path,
        value(
            "--output",
            "-o",
            takes="FILE",
            says="The clip's file; or a folder, where it is named after its model and job; here by default.",
            panel=PANEL,
        ),
    ] = Path()
    overwrite: Annotated[bool, flag("--overwrite", says="Replace a file that exists.", panel=PANEL)] = False
    timeout: Annotated[
        float | None,
        value(
            takes="SECONDS",
            says="How long to wait for the clip; ten times what is usual, at least 30 minutes, by default.",
            panel=PANEL,
            min=0.001,
        ),
    ] = None


class Run:
    """Watches one job for the person at the terminal."""

    def __init__(self, session: Session, screen: Screen, interrupts: Interrupts, *, to: Path) -> None:
        """Watch a job whose clip goes to `to`."""
        self._session = session
        self._screen = screen
        self._interrupts = interrupts
        self._to = to

    async def watch(self, job: VideoJob, *, caption: str, usd: float | None = None) -> int:
        """Show the job until it ends, say how it did, and return the exit code."""
        started = time.monotonic()
        state = await self._shown(job, caption)
        if isinstance(state, Stopped):
            return await self._stopped(job.ticket)
        try:
            video = await job
        except VeniceError as error:
            return await self._failed(error)
        self._succeeded(video, usd, time.monotonic() - started)
        return exits.OK

    async def _shown(self, job: VideoJob, caption: str) -> State:
        """Show every state and return the last."""
        with progress(self._screen, caption) as show_state:
            self._interrupts.on_stop = lambda: self._stop(job)
            self._interrupts.on_insist = lambda: self._give_up(job)
            try:
                async for state in job.updates():
                    show_state(state)
            finally:
                self._interrupts.on_stop = self._interrupts.on_insist = None
        return job.state

    def _stop(self, job: VideoJob) -> None:
        if job.ticket is None and isinstance(job.state, Queueing):
            self._screen.insist(
                "Stopping. If the paid request is on its way, its answer is awaited, so that no paid job"
                " is lost; Ctrl-C again gives up."
            )
        job.cancel()

    def _give_up(self, job: VideoJob) -> None:
        if job.ticket is None:
            look = "look at your generations on venice.ai before you queue it again"
            if self._session.journal is not None:
                look = f"the attempt is in the journal ({self._session.again('jobs')}); {look}"
            self._screen.insist(f"Gave up. It is not known whether the job was queued and paid for: {look}.")

    async def _stopped(self, ticket: Ticket | None) -> int:
        code = self._interrupts.code or exits.INTERRUPTED
        if ticket is None:
            self._screen.insist("Stopped before anything was queued. Nothing was charged.")
            if self._screen.as_json:
                self._screen.emit({"ok": False, "stopped": True})
            return code
        self._screen.insist("Stopped watching. Venice goes on with the job, which has been paid for.")
        handover = await self._kept(ticket)
        if handover:
            show(self._screen, handover)
        if self._screen.as_json and handover:
            self._screen.emit(stopped_json(handover))
        return code

    async def _failed(self, error: VeniceError) -> int:
        handover = await self._kept(error.ticket) if resumable(error) else None
        command = handover.command if handover and handover.works else None
        code = report(self._screen, error, resume=command)
        if handover:
            show(self._screen, handover)
        if isinstance(error, QueueOutcomeUnknownError) and self._session.journal is not None:
            self._screen.insist(f"The attempt is kept in the journal: {self._session.again('jobs')}")
        return code

    async def _kept(self, ticket: Any) -> Handover | None:
        """See that the ticket is kept."""
        try:
            return await anyio.to_thread.run_sync(hand_over, self._session, ticket, self._to)
        except OSError as error:
            job = f"job {ticket.queue_id} on {ticket.model}"
            self._screen.complain(f"The ticket cannot be saved ({error.strerror}): {job}")
            return None

    def _succeeded(self, video: Video, usd: float | None, seconds: float) -> None:
        if self._screen.as_json:
            self._screen.emit(succeeded_json(video, usd, seconds))
            return
        facts = [str(video.path), as_bytes(video.size), as_seconds(seconds)]
        facts += [as_usd(usd)] if usd is not None else []
        if self._screen.out.is_terminal:
            self._screen.result("✓ " + " · ".join(facts), "green")
            return
        self._screen.note(f"saved {' · '.join(facts)}, sha256 {video.sha256}")
        self._screen.path(video.path)


def succeeded_json(video: Video, usd: float | None = None, seconds: float | None = None) -> dict[str, Any]:
    """Return a clip as JSON values."""
    known = {
        "ok": True,
        "path": str(video.path),
        "size": video.size,
        "sha256": video.sha256,
        "seconds": None if seconds is None else round(seconds, 3),
        "usd": usd,
        **ticket_json(video.ticket),
    }
    return {name: value for name, value in known.items() if value is not None}
