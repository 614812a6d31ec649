"""The loop of a job: perform the command, feed back the event, until there is no command left."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

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
from ..io.journal.entries import (
    Attached,
    BatchShare,
    CannotWriteError,
    JournalEntry,
    KeyTakenError,
    LeaseLostError,
    StoreAwayError,
)
from ..io.journal.record import JobRecord
from ..io.shielding import own_cancellation_only
from ..io.uploads import encode_media, identify
from ..sansio.job.commands import AskConsent, AskPrice, CleanUp, Command, Fetch, Poll, Queue
from ..sansio.job.events import Event, Interrupted, Missed, Refused, StopAsked
from ..sansio.job.machine import Step, receive, resume, step
from ..sansio.job.states import (
    TERMINAL,
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
from ..sansio.retries import Call
from .following import EVERY
from .retrieval import Retrieval
from .sidecar import write_sidecar
from .spec import JobSpec, Shared, recovery
from .submission import AWAY, UNWRITABLE, Submission

LEAST_DEADLINE: Final = 1800.0  # seconds; with the next, the deadline of a job that was given none
DEADLINE_IN_P80: Final = 10.0

_T = TypeVar("_T")

log: logging.Logger = logging.getLogger(__name__)


class Driver:
    """Performs one job to its end, and is the one owner of its state.

    Attributes:
        spec: what the job is to do.
        state: where it stands. It is terminal once everything that belongs to the job is closed.
        placed: set once the job is paid for or has ended: a later job of the same key waits for it.
        begun: whether `run` has begun.
        performed: whether the job is done here, and is not one that ended before or that others do.
        following: whether another process works on the job, and we only watch.
        on_change: called with every new state, and with the first.
    """

    def __init__(self, shared: Shared, spec: JobSpec, *, after: asyncio.Event | None = None) -> None:
        """Drive the job of `spec`, whose key is looked up once `after` is set."""
        self._shared = shared
        self._after = after
        self.spec: JobSpec = spec
        self.state: State = spec.start[0]
        self.placed: asyncio.Event = asyncio.Event()
        self.begun: bool = False
        self.performed: bool = False
        self.following: bool = False
        self.on_change: Callable[[State], None] | None = None
        self._told = False
        self._bind(spec)
        self._born = None if spec.age is None else shared.clock.time() - spec.age
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
        return self._record.entry.id

    def stop(self, reason: VeniceError | None = None) -> None:
        """Stop watching the job; one that is not paid for fails with `reason`."""
        self._reason = reason or self._reason
        self._stop.cancel()
        if not self.begun and not isinstance(self.state, TERMINAL):
            self._publish(self._after_event(StopAsked(self._reason)))

    async def run(self) -> None:
        """Perform the job. It raises nothing but the cancellation of the task it runs in."""
        self.begun = True
        end: State | None = self.state if isinstance(self.state, TERMINAL) else None
        try:
            with self._stop, own_cancellation_only():
                end = end or await self._perform_all()
        except Exception as error:
            log.exception("A job ended by a mistake in this library: %s", type(self.state).__name__)
            hint = "This is a mistake in the library: please report it, with the traceback that was logged"
            internal = VeniceError(f"Internal error: {type(error).__name__}", hint=hint)
            internal.__cause__ = error
            end = self._after_event(Refused(internal))
        finally:
            try:
                with anyio.CancelScope(shield=True):
                    await self._retrieval.tidy()
                    await self._record.release()
            finally:  # `asyncio.run` cancels what it finds at its end, shielded or not
                end = end or self._after_event(StopAsked(self._reason))
                ticket = end.ticket if isinstance(end, Stopped) and self._shared.journal is None else None
                if ticket is not None and not self.stopping:  # whoever stops a job has its ticket
                    link = ", and its link is lost" if ticket.download_url else ""
                    log.warning("A paid job is no longer watched, and no journal has it: %r%s", ticket, link)
                self._publish(end)
                self.on_change = None

    def _bind(self, spec: JobSpec) -> None:
        """Go on with `spec`, and with services of its own."""

        def on_progress(received: int, total: int | None) -> None:
            if self._shared.settings.timeouts.job is None:
                self._deadline.deadline = math.inf  # bytes are coming: the low-speed guard watches from here
            if isinstance(self.state, Waiting | Downloading):
                self._publish(receive(self.state, received=received, total=total))

        def on_estimate(eta: float | None) -> None:
            assert isinstance(self.state, Waiting)  # noqa: S101 - a job that is polled waits
            self._publish(evolve(self.state, eta=eta))

        self.spec = spec
        self._record = JobRecord(self._shared.journal, spec.entry)
        self._submission = Submission(self._shared, spec, self._record)
        self._retrieval = Retrieval(
            self._shared,
            spec,
            on_progress=on_progress,
            on_estimate=on_estimate,
            check=self._record.check,
        )

    async def _perform_all(self) -> State:
        """Perform command after command, and return the state in which none is left."""
        caller = self._shared.caller
        state, command = await self._look_up(self.spec.start)
        while command is not None:
            self._publish(state)
            self.performed = True
            try:
                self._record.check()
                event = await self._perform(command)
            except (KeyTakenError, LeaseLostError):  # another process may have the job by now
                state, command = await self._look_up((self.state, command), again=True)
                continue
            except VeniceError as error:
                if isinstance(command, Queue) and self._submission.outcome is not None:
                    raise  # a mistake of ours after the paid request, whose outcome is what counts
                event = Refused(error)
            if isinstance(event, Refused) and isinstance(command, AskPrice | Queue):
                event = Refused(await caller.explained(event.error, command.request.model))
            state, command = step(self.state, event, chance=self._shared.clock.chance())
            self._trouble = event.error if isinstance(event, Missed | Interrupted) else None
            if self._trouble is not None and isinstance(command, Poll | Fetch):
                call = Call.RETRIEVE if isinstance(command, Poll) else Call.LINK
                after = caller.ration(call, self._trouble, command.after)
                command = evolve(command, after=after)
                kind, what = type(command).__name__, self._trouble.message
                log.info("%s brought nothing (%s); the next one in %.1f s", kind, what, after)
            await self._keep(state)
            if isinstance(state, Failed) and state.job_failed and self._shared.settings.retries.refunded:
                is_new = isinstance(self.spec.start[0], Quoting | Queueing)  # and not one that is resumed
                why = state.error
                refunded = isinstance(why, APIError | JobFailedError) and why.credits_refunded is True
                if is_new and refunded and not self._tried_again:
                    name = state.ticket and state.ticket.queue_id
                    log.info("Job %s failed and was refunded; it is queued once more", name)
                    await self._retrieval.tidy()
                    await self._record.release()
                    self._tried_again, self._started = True, None
                    self._bind(evolve(self.spec, batch=self.spec.batch or BatchShare(prefix="")))
                    state, command = await self._look_up(self.spec.start)
        return state

    async def _perform(self, command: Command) -> Event:
        match command:
            case AskPrice():
                return await self._submission.ask_price(command)
            case Queue():
                return await self._submission.queue(command)
            case AskConsent():
                return await self._submission.ask_consent(command.consent_request)
            case CleanUp():
                return await self._shared.caller.clean_up(command.video.ticket, self._record.check)
            case Poll() | Fetch():
                pass
        now = self._shared.clock.monotonic()
        self._started = now if self._started is None else self._started
        with anyio.CancelScope(deadline=self._started + self._span()) as self._deadline:
            if isinstance(command, Poll):
                return await self._retrieval.poll(command)
            return await self._retrieval.fetch(command)
        waited = self._shared.clock.monotonic() - self._started
        message = f"Job {command.ticket.queue_id} was not done after {waited:.0f} s"
        if self._trouble is not None:
            message += f"; the latest trouble: {self._trouble.message}"
        return Refused(JobTimeoutError(message))

    async def _look_up(self, now: Step, *, again: bool = False) -> Step:
        """Return where to go on by what the journal knows of the job, and check its destination.

        A job that came with its ticket is journalled. One that is looked up `again` was ours, or is an order
        that is not paid for: others may have it by now.
        """
        (state, command), spec = now, self.spec
        ours = again and ticket_of(state) is not None
        if again and not ours:
            await self._record.release()
            self._retrieval.unclaim()
            self.performed = False
        try:
            if ours or (self._shared.journal is not None and spec.key is not None and not spec.entry_id):
                state, command = await self._attach(now, ours=ours)
                if command is None or (ours and self.spec is spec):
                    return state, command
            await self._retrieval.check_target()
            if ticket_of(state) is not None:
                known = await self._patiently(lambda: self._record.begin(state))
                state, command = (state, command) if known == state else resume(known)
        except VeniceError as error:
            state, command = step(state, Refused(error))
        await self._keep(state)
        return state, command

    async def _attach(self, now: Step, *, ours: bool) -> Step:
        """Return where to go on by what the journal knows of the job or its key: `now` if it knows nothing.

        What another process works on is followed until it ends, or until its owner does.
        """
        clock, journal, key = self._shared.clock, self._shared.journal, self.spec.key
        look: Callable[[], Awaitable[Attached | None]] = self._record.regain
        if not ours:
            assert journal is not None  # noqa: S101 - who has a key has a journal
            assert key is not None  # noqa: S101 - nothing else is looked up
            if self.spec.identity is None and self.spec.request is not None:
                encoded = await encode_media(self.spec.request)
                self._bind(evolve(self.spec, identity=await identify(encoded)))
                self._submission.encoded = encoded
            if self._after is not None:
                await self._after.wait()
            again = self.spec.batch is not None
            look = partial(journal.attach, key, self.spec.identity, again=again)
        began = clock.monotonic()
        while found := await self._patiently(look):
            entry = found.entry
            match found.how:
                case "ours":
                    return now if ours else await self._adopt(entry)
                case "ended":
                    self.performed = False
                    return await self._delivered(entry.state), None
                case "works":
                    if ours:
                        await self._retrieval.tidy()
                    ours = False
                    end = await self._follow(entry)
                    if isinstance(end, Failed):
                        return end, None
                case "nobody":
                    waited, answer_by = clock.monotonic() - began, entry.answer_by
                    if (
                        answer_by is None
                        or clock.time() >= answer_by
                        or waited >= answer_by - entry.created  # whatever the clock of its owner says
                    ):
                        return resume(entry.state)
                    self._publish(entry.state)
                    await clock.sleep(EVERY)
        return now

    async def _patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Return what `ask` returns, retried while the journal cannot be used, as before a paid request."""
        clock, warned = self._shared.clock, False
        began = clock.monotonic()
        while True:
            try:
                return await ask()
            except StoreAwayError:
                if clock.monotonic() > began + self._shared.settings.timeouts.queue:
                    raise
            except CannotWriteError as error:
                if clock.monotonic() + AWAY > began + UNWRITABLE:
                    raise
                if not warned:
                    log.warning("A job waits up to %.0f s: %s", UNWRITABLE, error.message)
                    warned = True
            await clock.sleep(AWAY)

    async def _adopt(self, entry: JournalEntry) -> Step:
        """Go on with a job whose owner is gone, to the destination that was given to it first."""
        now = self._shared.clock.time()
        spec = recovery(entry, now)
        spec = evolve(spec, request=spec.request or self.spec.request)
        if entry.to is None:
            spec = evolve(spec, to=self.spec.to, overwrite=self.spec.overwrite)
        else:
            await self._retrieval.tidy()
            if spec.to == self.spec.to:
                spec = evolve(spec, to=self.spec.to)  # which may have come with its store
        self._bind(spec)
        self._born = None if spec.age is None else now - spec.age
        if isinstance(entry.state, Saved):
            end = await self._delivered(entry.state)
            if isinstance(end, Failed):
                return end, None
        return spec.start

    async def _follow(self, entry: JournalEntry) -> State | None:
        """Publish the states of a job that another process works on, as long as one does.

        Return how it ended where nothing is left to look at: the person whom that process asked said no.
        """
        assert self._shared.following is not None  # noqa: S101 - there is a journal
        state: State | None = entry.state
        given_up = self._shared.clock.monotonic() + self._span()
        self.following = True
        while state is not None and not isinstance(state, TERMINAL):
            self._publish(state)
            try:
                state = await self._shared.following.look(entry.id)
            except JournalError:
                if self._shared.clock.monotonic() > given_up:
                    raise
        self.following = False
        return state

    async def _delivered(self, state: State) -> State:
        """Return the end of a job of an earlier call: a clip that is gone was paid for, and is an error."""
        if not isinstance(state, Saved | Succeeded):
            return state
        video, is_there = state.video, False
        try:
            if video.url is not None:
                store = self.spec.to.store if isinstance(self.spec.to, ObjectPlace) else None
                is_there = await size_at(video.url, store) == video.size
            elif video.path is not None:
                is_there = (await anyio.Path(video.path).stat()).st_size == video.size
        except OSError:
            pass
        if is_there:
            return Succeeded(video=video)
        place = video.path or video.url
        what = "went elsewhere" if place is None else f"{str(place)!r} is gone or has changed"
        error = DownloadError(
            f"The clip of this key was delivered before, but {what}",
            charged=True,
            ticket=state.ticket,
            hint="Look for the file, or order it under another key; while Venice still has it,"
            " resume(ticket, to=...) fetches it again",
            cli_hint="Look for the file, or order it under another --key; while Venice still has it,"
            " 'venice-async resume' fetches it again by its ticket",
        )
        return Failed(error=error, ticket=state.ticket)

    async def _keep(self, state: State) -> None:
        """Journal what must survive a crash, before it is published."""
        if isinstance(state, Failed):
            state.error.with_traceback(None)  # its frames hold what the server said
        if isinstance(state, Saved) and self._shared.settings.sidecars:
            now, usd = self._shared.clock.time(), self._record.entry.usd
            await write_sidecar(state.video, self.spec, usd=usd, began=self._born, now=now)
        match state:
            case Failed(ticket=None, error=ConsentDeclinedError()):
                await self._record.decline(state)
            case Saved() | Succeeded() | Downloading(via="link"):
                await self._record.record(state)
            case Failed() if state.ticket is not None:
                await self._record.record(state)
            case _:
                pass

    def _publish(self, state: State) -> None:
        """Enter `state`, and call `on_change`."""
        if state == self.state and self._told:
            return
        self.state, self._told = state, True
        if not isinstance(state, Quoting | Queueing | AwaitingConsent):
            self.placed.set()
        if self.spec.key is not None and self._shared.following is not None and self.entry_id:
            self._shared.following.report(self.entry_id, state)
        if self.on_change is not None:
            self.on_change(state)

    def _after_event(self, event: Event) -> State:
        """Return the state after `event`, and after the outcome of a paid request that was sent."""
        state, outcome = self.state, self._submission.outcome
        if outcome is not None and isinstance(state, Queueing):
            state = step(state, outcome)[0]
        return state if isinstance(state, Failed) else step(state, event)[0]

    def _span(self) -> float:
        """Return the deadline: seconds from the ticket to the clip."""
        if (given := self._shared.settings.timeouts.job) is not None:
            return given
        average = self.state.average if isinstance(self.state, Waiting | Downloading) else None
        return max(LEAST_DEADLINE, DEADLINE_IN_P80 * (average or 0.0))
