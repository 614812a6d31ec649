"""The loop of a job: perform the command, feed back the event, until there is no command left."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from ..errors import JobTimeoutError, VeniceError
from ..sansio.job.commands import AskConsent, AskPrice, CleanUp, Command, Fetch, Poll, Queue
from ..sansio.job.events import Event, Interrupted, Missed, Refused
from ..sansio.job.machine import Step, estimate, receive, resume, step
from ..sansio.job.states import (
    Downloading,
    Failed,
    Saved,
    State,
    Succeeded,
    Waiting,
    ticket_of,
)
from .retrieval import Retrieval
from .spec import JobSpec, Shared
from .submission import Submission

LEAST_DEADLINE: Final = 1800.0  # seconds; with the next, the deadline of a job that was given none
DEADLINE_IN_P80: Final = 10.0

log: logging.Logger = logging.getLogger(__name__)


class Driver:
    """Performs one job to its end."""

    def __init__(self, shared: Shared, spec: JobSpec, publish: Callable[[State], None]) -> None:
        """Perform `spec`; `publish` is told every state."""
        self._shared = shared
        self._spec = spec
        self._publish = publish
        self._record = spec.record(shared.records)
        self._submission = Submission(shared, spec, self._record, publish)
        self._retrieval = Retrieval(
            shared, spec, on_progress=self._on_progress, on_estimate=self._on_estimate
        )
        self._state: State = spec.start[0]
        self._started: float | None = None
        self._trouble: VeniceError | None = None
        self._scope = anyio.CancelScope()

    async def run(self) -> State:
        """Perform the job, and return the state it ends in."""
        try:
            state, command = await self._begin()
            while command is not None:
                event = await self._perform(command)
                state, command = step(self._state, event, chance=self._shared.clock.chance())
                self._note(event, command)
                await self._enter(state)
        finally:
            with anyio.CancelScope(shield=True):
                await self._retrieval.tidy()
                await self._record.release()
        return state

    async def _begin(self) -> Step:
        """Find what can be known to fail before anything is paid; journal a job that came with its ticket."""
        state, command = self._spec.start
        if command is None:
            return state, None
        try:
            await self._retrieval.check_target()
            if ticket_of(state) is not None:
                known = await self._record.begin(state, self._spec.request)
                state, command = (state, command) if known == state else resume(known)
        except VeniceError as error:
            state, command = step(state, Refused(error))
        await self._enter(state)
        return state, command

    async def _perform(self, command: Command) -> Event:
        match command:
            case AskPrice():
                return await self._submission.ask_price(command)
            case Queue():
                return await self._submission.queue(command)
            case AskConsent():
                return await self._submission.ask_consent(command.consent_request)
            case Poll():
                return await self._within_deadline(lambda: self._retrieval.poll(command))
            case Fetch():
                return await self._within_deadline(lambda: self._retrieval.fetch(command))
            case CleanUp():
                return await self._shared.clean_ups.clean_up(command.video.ticket)

    def _note(self, event: Event, command: Command | None) -> None:
        """Keep the latest trouble for the deadline to tell, and log it with the pause that follows."""
        self._trouble = event.error if isinstance(event, Missed | Interrupted) else None
        if self._trouble is not None and isinstance(command, Poll | Fetch):
            kind, message = type(command).__name__, self._trouble.message
            log.info("%s brought nothing (%s); the next one in %.1f s", kind, message, command.after)

    async def _enter(self, state: State) -> None:
        """Journal what must outlive a crash, then make it known."""
        by_link = isinstance(state, Downloading) and state.via == "link"
        paid_failure = isinstance(state, Failed) and state.ticket is not None
        if isinstance(state, Failed):
            state.error.with_traceback(None)  # its frames hold what the server said
        if by_link or paid_failure or isinstance(state, Saved | Succeeded):
            await self._record.record(state)
        self._set(state)

    def _set(self, state: State) -> None:
        self._state = state
        self._publish(state)

    def _on_progress(self, received: int, total: int | None) -> None:
        if self._shared.timeouts.job is None:
            self._scope.deadline = math.inf  # bytes are coming: the low-speed guard watches from here
        if isinstance(self._state, Waiting | Downloading):
            self._set(receive(self._state, received=received, total=total))

    def _on_estimate(self, eta: float | None) -> None:
        self._set(estimate(self._state, eta=eta))

    async def _within_deadline(self, perform: Callable[[], Awaitable[Event]]) -> Event:
        now = self._shared.clock.monotonic()
        self._started = now if self._started is None else self._started
        with anyio.CancelScope(deadline=self._started + self._span()) as self._scope:
            return await perform()
        waited = self._shared.clock.monotonic() - self._started
        ticket = ticket_of(self._state)
        message = f"Job {ticket and ticket.queue_id} was not done after {waited:.0f} s"
        if self._trouble is not None:
            message += f"; the latest trouble: {self._trouble.message}"
        return Refused(JobTimeoutError(message))

    def _span(self) -> float:
        """Return the seconds a job may take from its ticket to its clip."""
        if self._shared.timeouts.job is not None:
            return self._shared.timeouts.job
        average = self._state.average if isinstance(self._state, Waiting | Downloading) else None
        return max(LEAST_DEADLINE, DEADLINE_IN_P80 * (average or 0.0))
