"""The loop of a job: perform the command, feed back the event, until there is no command left."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
from attrs import evolve

from ..errors import (
    APIError,
    ConsentDeclinedError,
    DownloadError,
    JobFailedError,
    JobTimeoutError,
    JournalError,
    VeniceError,
)
from ..io.delivery.destination import size_at
from ..io.delivery.stores import ObjectPlace
from ..io.journal.entries import BatchShare, JournalEntry, KeyTakenError, LeaseLostError, StoreAwayError
from ..io.journal.record import JobRecord
from ..io.uploads import encode_media, identify
from ..results import Video
from ..sansio.job.commands import AskConsent, AskPrice, CleanUp, Command, Fetch, Poll, Queue
from ..sansio.job.events import Event, Interrupted, Missed, Refused, StopAsked
from ..sansio.job.machine import Step, estimate, receive, resume, step
from ..sansio.job.states import (
    TERMINAL,
    AwaitingConsent,
    Downloading,
    Failed,
    Queueing,
    Quoting,
    Saved,
    State,
    Succeeded,
    Waiting,
    ticket_of,
)
from ..sansio.retries import Call
from .following import EVERY
from .retrieval import Retrieval
from .sidecar import write_sidecar
from .spec import JobSpec, Shared, born, recovery
from .submission import AWAY, Submission

if TYPE_CHECKING:
    from ..io.journal.store import JobStore

LEAST_DEADLINE: Final = 1800.0  # seconds; with the next, the deadline of a job that was given none
DEADLINE_IN_P80: Final = 10.0

_T = TypeVar("_T")

log: logging.Logger = logging.getLogger(__name__)


class Driver:
    """Performs one job to its end, and is the one owner of its state.

    Attributes:
        spec: what the job is to do.
        state: where it stands. It is terminal once everything that belongs to the job is closed.
        begun: whether `run` has begun.
        performed: whether the job is done here, and is not one that ended before or that others do.
        following: whether another process works on the job, and we only watch.
        on_change: called with every new state, and with the first.
    """

    def __init__(self, shared: Shared, spec: JobSpec) -> None:
        self.spec: JobSpec = spec
        self.state: State = spec.start[0]
        self.begun: bool = False
        self.performed: bool = False
        self.following: bool = False
        self.on_change: Callable[[State], None] | None = None
        self._told = False
        self._shared = shared
        self._bind(spec)
        self._born: float | None = born(spec, shared.clock.time())
        self._placed = asyncio.Event()
        if spec.key is not None:
            first = shared.orders.get(spec.key)
            shared.orders[spec.key] = self._placed if first is None or first.is_set() else first
        self._stop = anyio.CancelScope()
        self._reason: VeniceError | None = None
        self._tried_again = False
        self._started: float | None = None
        self._trouble: VeniceError | None = None
        self._deadline = anyio.CancelScope()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.cancel_called

    @property
    def entry_id(self) -> str:
        """The id of the job's entry in the journal; empty where there is none."""
        return self._record.id

    def stop(self, reason: VeniceError | None = None) -> None:
        """End the job soon: it is no longer watched or, if it is not paid for, fails for `reason`."""
        self._reason = reason or self._reason
        self._stop.cancel()
        if not self.begun and not isinstance(self.state, TERMINAL):
            self._enter(self._stopped())

    async def run(self) -> None:
        """Perform the job. It raises nothing but the cancellation of the task it runs in."""
        self.begun = True
        end: State | None = self.state if isinstance(self.state, TERMINAL) else None
        try:
            with self._stop:
                end = end or await self._perform_all()
        except Exception as error:
            log.exception("A job ended by a mistake in this library: %s", type(self.state).__name__)
            internal = VeniceError(f"Internal error: {type(error).__name__}")
            internal.__cause__ = error
            known = self._known()
            end = known if isinstance(known, Failed) else step(known, Refused(internal))[0]
        finally:
            with anyio.CancelScope(shield=True):
                await self._retrieval.tidy()
                await self._record.release()
            self._enter(end or self._stopped())
            self.on_change = None

    def _bind(self, spec: JobSpec) -> None:
        """Work on `spec` from here on."""
        self.spec = spec
        self._record = JobRecord(self._shared.journal, spec.entry)
        self._submission = Submission(self._shared, spec, self._record)
        self._retrieval = Retrieval(
            self._shared,
            spec,
            on_progress=self._on_progress,
            on_estimate=lambda eta: self._enter(estimate(self.state, eta=eta)),
            check=self._record.check,
        )

    async def _perform_all(self) -> State:
        """Perform command after command, and return the state in which none is left."""
        state, command = await self._first(self.spec.start)
        while command is not None:
            self._enter(state)
            self.performed = True
            try:
                self._record.check()
                event = await self._perform(command)
            except LeaseLostError:
                if ticket_of(state) is None:
                    state, command = await self._begin_again((state, command))
                else:
                    state, command = await self._regain((self.state, command))
                continue
            if isinstance(event, Refused) and isinstance(event.error, KeyTakenError):
                state, command = await self._begin_again((state, command))
                continue
            state, command = step(self.state, event, chance=self._shared.clock.chance())
            self._trouble = event.error if isinstance(event, Missed | Interrupted) else None
            if self._trouble is not None and isinstance(command, Poll | Fetch):
                command = self._rationed(command, self._trouble)
            await self._keep(state)
            if command is None and isinstance(state, Failed) and state.job_failed:
                state, command = await self._try_again(state)
        return state

    async def _try_again(self, state: Failed) -> Step:
        """Begin a failed job anew, once, if it was refunded: the journal has let go of its key."""
        is_new = isinstance(self.spec.start[0], Quoting | Queueing)  # and not one that is resumed
        error = state.error
        refunded = isinstance(error, APIError | JobFailedError) and error.credits_refunded is True
        if self._tried_again or not (is_new and refunded and self._shared.retry_refunded):
            return state, None
        self._tried_again = True
        ticket = ticket_of(self.state)
        log.info("Job %s failed and was refunded; it is queued once more", ticket and ticket.queue_id)
        await self._retrieval.tidy()
        await self._record.release()
        self._started = self._trouble = None
        self._bind(evolve(self.spec, batch=self.spec.batch or BatchShare(prefix="")))
        return await self._first(self.spec.start)

    async def _first(self, start: Step) -> Step:
        """Look up the key, and check before anything is paid; journal a job that came with its ticket."""
        state, command = start
        if command is None:
            return start
        try:
            journal, key = self._shared.journal, self.spec.key
            if journal is not None and key is not None and not self.spec.entry_id:
                state, command = await self._attach(start, journal, key)
                if command is None:
                    return state, None
            await self._retrieval.check_target()
            if ticket_of(state) is not None:
                known = await self._patiently(lambda: self._record.begin(state))
                state, command = (state, command) if known == state else resume(known)
        except VeniceError as error:
            state, command = step(state, Refused(error))
        await self._keep(state)
        return state, command

    async def _begin_again(self, now: Step) -> Step:
        """Look up the key of an order that is not paid for: another may have it by now."""
        await self._record.release()
        self._retrieval.unclaim()
        self.performed = False
        return await self._first(now)

    async def _attach(self, start: Step, journal: JobStore, key: str) -> Step:
        """Return where to go on from by what the journal knows of the key: `start` if it knows nothing.

        What another process works on is followed until it ends, or until its owner does.
        """
        if self.spec.identity is None and self.spec.request is not None:
            encoded = await encode_media(self.spec.request)
            self._bind(evolve(self.spec, identity=await identify(encoded)))
            self._submission.encoded = encoded
        first = self._shared.orders.get(key, self._placed)
        if first is not self._placed:
            await first.wait()
        began = self._shared.clock.monotonic()
        while found := await self._patiently(
            lambda: journal.attach(key, self.spec.identity, again=self.spec.batch is not None)
        ):
            entry, now = found.entry, self._shared.clock.time()
            match found.how:
                case "ours":
                    return await self._adopt(entry, now)
                case "ended":
                    return await self._ended(entry.state), None
                case "works":
                    end = await self._follow(entry)
                    if isinstance(end, Failed):
                        return end, None
                case "nobody" if _answer_is_lost(entry, now, self._shared.clock.monotonic() - began):
                    return resume(entry.state)
                case "nobody":
                    self._enter(entry.state)
                    await self._shared.clock.sleep(EVERY)
        return start

    async def _patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Return what the journal says; while it cannot be reached, ask again until the job's deadline."""
        clock = self._shared.clock
        given_up = clock.monotonic() + self._shared.timeouts.queue
        while True:
            try:
                return await ask()
            except StoreAwayError:
                if clock.monotonic() > given_up:
                    raise
            await clock.sleep(AWAY)

    async def _adopt(self, entry: JournalEntry, now: float) -> Step:
        """Go on with a job of the key whose owner is gone, to the destination that was given to it first."""
        spec = recovery(entry, now)
        if isinstance(spec.to, ObjectPlace) and spec.to == self.spec.to:
            spec = evolve(spec, to=self.spec.to)  # which may have come with its store
        if entry.to is None:
            spec = evolve(spec, to=self.spec.to, overwrite=self.spec.overwrite)
        else:
            await self._retrieval.tidy()
        self._bind(evolve(spec, request=spec.request or self.spec.request))
        self._born = born(spec, now)
        if isinstance(entry.state, Saved) and not await self._is_there(entry.state.video):
            return await self._ended(entry.state), None
        return spec.start

    async def _regain(self, now: Step) -> Step:
        """Look at a job that others may have taken over: go on with it, or follow its new owner."""
        followed = False
        try:
            while True:
                found = await self._patiently(self._record.regain)
                match found.how:
                    case "works":
                        await self._retrieval.tidy()
                        await self._follow(found.entry)
                        followed = True
                    case "ended":
                        self.performed = False
                        return await self._ended(found.entry.state), None
                    case _ if followed:
                        start = resume(found.entry.state)
                        self._bind(evolve(self.spec, entry_id=found.entry.id, start=start, recovering=True))
                        await self._retrieval.check_target()
                        return start
                    case _:
                        return now
        except VeniceError as error:
            return step(self.state, Refused(error))

    async def _follow(self, entry: JournalEntry) -> State | None:
        """Publish the states of a job that another process works on, as long as one does.

        Return how it ended where nothing is left to look at: the person whom that process asked said no.
        """
        assert self._shared.following is not None  # noqa: S101 - there is a journal
        state: State | None = entry.state
        given_up = self._shared.clock.monotonic() + self._span()
        self.following = True
        while state is not None and not isinstance(state, TERMINAL):
            self._enter(state)
            try:
                state = await self._shared.following.look(entry.id)
            except JournalError:
                if self._shared.clock.monotonic() > given_up:
                    raise
        self.following = False
        return state

    async def _perform(self, command: Command) -> Event:
        match command:
            case AskPrice(request=request) | Queue(request=request):
                if isinstance(command, AskPrice):
                    event = await self._submission.ask_price(command)
                else:
                    event = await self._submission.queue(command)
                if isinstance(event, Refused):
                    return Refused(await self._shared.caller.explained(event.error, request.model))
                return event
            case AskConsent():
                return await self._submission.ask_consent(command.consent_request)
            case Poll():
                return await self._within_deadline(self._retrieval.poll(command))
            case Fetch():
                return await self._within_deadline(self._retrieval.fetch(command))
            case CleanUp():
                return await self._shared.caller.clean_up(command.video.ticket, self._record.check)

    def _rationed(self, command: Poll | Fetch, trouble: VeniceError) -> Command:
        """Return the next try after some trouble, later if retries are scarce."""
        call = Call.RETRIEVE if isinstance(command, Poll) else Call.LINK
        after = self._shared.caller.ration(call, trouble, command.after)
        log.info(
            "%s brought nothing (%s); the next one in %.1f s", type(command).__name__, trouble.message, after
        )
        return evolve(command, after=after)

    async def _keep(self, state: State) -> None:
        """Journal what must survive a crash, before it is published."""
        by_link = isinstance(state, Downloading) and state.via == "link"
        paid_failure = isinstance(state, Failed) and state.ticket is not None
        if isinstance(state, Failed):
            state.error.with_traceback(None)  # its frames hold what the server said
        if isinstance(state, Saved) and self._shared.sidecars:
            now, usd = self._shared.clock.time(), self._submission.usd
            await write_sidecar(state.video, self.spec, usd=usd, began=self._born, now=now)
        if by_link or paid_failure or isinstance(state, Saved | Succeeded):
            await self._record.record(state)
        elif isinstance(state, Failed) and isinstance(state.error, ConsentDeclinedError):
            await self._record.decline(state)

    def _enter(self, state: State) -> None:
        if state == self.state and self._told:
            return
        self.state, self._told = state, True
        if not isinstance(state, Quoting | Queueing | AwaitingConsent):
            self._placed.set()
        if self.spec.key is not None and self._shared.following is not None and self._record.id:
            self._shared.following.report(self._record.id, state)
        if self.on_change is not None:
            self.on_change(state)

    def _stopped(self) -> State:
        """Return the last state of a job that is asked to stop."""
        known = self._known()
        return known if isinstance(known, Failed) else step(known, StopAsked(self._reason))[0]

    def _known(self) -> State:
        """Return where the job stands, with what is known of its paid request."""
        outcome = self._submission.outcome
        if outcome is None or not isinstance(self.state, Queueing):
            return self.state
        return step(self.state, outcome)[0]

    def _on_progress(self, received: int, total: int | None) -> None:
        if self._shared.timeouts.job is None:
            self._deadline.deadline = math.inf  # bytes are coming: the low-speed guard watches from here
        if isinstance(self.state, Waiting | Downloading):
            self._enter(receive(self.state, received=received, total=total))

    async def _within_deadline(self, performing: Awaitable[Event]) -> Event:
        now = self._shared.clock.monotonic()
        self._started = now if self._started is None else self._started
        with anyio.CancelScope(deadline=self._started + self._span()) as self._deadline:
            return await performing
        waited = self._shared.clock.monotonic() - self._started
        ticket = ticket_of(self.state)
        message = f"Job {ticket and ticket.queue_id} was not done after {waited:.0f} s"
        if self._trouble is not None:
            message += f"; the latest trouble: {self._trouble.message}"
        return Refused(JobTimeoutError(message))

    def _span(self) -> float:
        """Return the seconds a job may take from its ticket to its clip."""
        if self._shared.timeouts.job is not None:
            return self._shared.timeouts.job
        average = self.state.average if isinstance(self.state, Waiting | Downloading) else None
        return max(LEAST_DEADLINE, DEADLINE_IN_P80 * (average or 0.0))

    async def _ended(self, state: State) -> State:
        """Return how a job of an earlier call ended: a clip that is gone was paid for, and is an error."""
        if not isinstance(state, Saved | Succeeded):
            return state
        if await self._is_there(state.video):
            return Succeeded(video=state.video)
        place = state.video.path or state.video.url
        what = "went elsewhere" if place is None else f"{str(place)!r} is gone or has changed"
        error = DownloadError(
            f"The clip of this key was delivered before, but {what}",
            charged=True,
            ticket=state.ticket,
            hint="Look for the file, or order it under another key; while Venice still has it,"
            " resume(ticket, to=...) fetches it again",
        )
        return Failed(error=error, ticket=state.ticket)

    async def _is_there(self, video: Video) -> bool:
        """Tell whether a clip is where it was put, with its size."""
        try:
            if video.url is not None:
                store = self.spec.to.store if isinstance(self.spec.to, ObjectPlace) else None
                return await size_at(video.url, store) == video.size
            return video.path is not None and (await anyio.Path(video.path).stat()).st_size == video.size
        except OSError:
            return False


def _answer_is_lost(entry: JournalEntry, now: float, waited: float) -> bool:
    """Tell whether no answer to an intent can come any more, whatever the clock of its owner was."""
    return entry.answer_by is None or now >= entry.answer_by or waited >= entry.answer_by - entry.created
