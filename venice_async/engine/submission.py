"""A job up to its ticket: the price, consent, and the paid request, which is sent once."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import anyio
from anyio.lowlevel import checkpoint_if_cancelled
from attrs import define, evolve, field

from ..errors import (
    ANSWER_KEPT,
    ConsentError,
    ConsentRequiredError,
    JournalError,
    QueueOutcomeUnknownError,
    RateLimitError,
    VeniceError,
)
from ..io.journal.entries import CannotWriteError, LeaseLostError, StoreAwayError
from ..io.journal.record import JobRecord
from ..io.pacing.queues import Turn
from ..io.shielding import own_cancellation_only, run_to_completion
from ..io.uploads import Prepared, encode_media, prepare, price_query
from ..requests import Consent, VideoRequest
from ..results import ConsentRequest
from ..sansio.http.wire import queue_request
from ..sansio.job.commands import AskPrice, Queue
from ..sansio.job.events import Accepted, Answered, ConsentNeeded, Event, Priced, Refused
from ..sansio.job.machine import step
from ..sansio.job.states import AwaitingConsent, Queueing, Waiting
from ..sansio.retries import Attempts, Call, GiveUp, Retry, Unknown, Verdict
from .spec import JobSpec, Shared

AWAY: Final = 1.0  # seconds until a journal that cannot be used is tried again
UNWRITABLE: Final = 10.0  # seconds for which a paid request waits for a file that cannot be written
_NO_TURN: Final = "A paid request has waited %.0f s for its turn, and is given up after as many more"
_MANY: Final = 3  # refusals of a paid request, from which on each is a warning

log: logging.Logger = logging.getLogger(__name__)


@define(eq=False)
class Submission:
    """Performs the commands of one job that come before it has a ticket.

    Attributes:
        outcome: the answer to a paid request that was sent, also of a job that was stopped meanwhile: the
            ticket, or that the outcome is unknown.
        encoded: the request with its media as URLs, until the paid request is made of it.
    """

    _shared: Shared
    _spec: JobSpec
    _record: JobRecord
    encoded: VideoRequest | None = field(init=False, default=None)
    outcome: Accepted | Refused | None = field(init=False, default=None)
    _prepared: Prepared | None = field(init=False, default=None)
    _attempts: Attempts = field(init=False, factory=Attempts)

    async def ask_price(self, command: AskPrice) -> Event:
        """Ask for the price."""
        self.encoded = self.encoded or await encode_media(command.request)
        query = await price_query(command.request, command.reference_video_seconds, encoded=self.encoded)
        usd = (await self._shared.caller.ask(query)).usd
        self._record.entry = evolve(self._record.entry, usd=usd)
        return Priced(usd)

    async def queue(self, command: Queue) -> Event:
        """Send the paid request at its turn, again only if it provably was not accepted.

        From the intent in the journal to the ticket in it, nothing interrupts, not even the end of
        `asyncio.run`: a cancelled job still learns what it paid for. Waiting for a turn, or for another try,
        can be cancelled, and ends after `Timeouts.queue` seconds in all. So long it waits for a database that
        is away; for a file that cannot be written, whose disk may get room, it waits a few seconds.
        """
        if self._prepared is None:
            self._prepared = await prepare(self.encoded or command.request)
            self.encoded = None
        clock, patience = self._shared.clock, self._shared.settings.timeouts.queue
        turns = self._shared.caller.pacer.turn
        deadline = clock.monotonic() + patience
        refusals = 0
        latest: VeniceError | None = None
        writable_at: float | None = None  # when the journal was last, if it is not now
        while True:
            left = deadline - clock.monotonic()
            half_way = asyncio.get_running_loop().call_later(left / 2, log.warning, _NO_TURN, left / 2)
            async with AsyncExitStack() as stack:
                turn: Turn | None = None
                try:
                    with anyio.move_on_after(left):
                        turn = await stack.enter_async_context(
                            turns("queue", priority=self._spec.priority, model=command.request.model)
                        )
                finally:
                    half_way.cancel()
                if turn is None:
                    break
                await checkpoint_if_cancelled()  # a job may be cancelled before it has waited for anything
                began = clock.monotonic()
                event, after = await run_to_completion(self._pay(command, self._prepared, turn))
            if after is None:
                return event
            assert isinstance(event, Refused)  # noqa: S101 - nothing else is sent again
            latest, refusals = event.error, refusals + 1
            if isinstance(latest, CannotWriteError) and not isinstance(latest, StoreAwayError):
                if writable_at is None:
                    writable_at = began
                    log.warning("A paid request waits up to %.0f s: %s", UNWRITABLE, latest.message)
                if clock.monotonic() + after > min(writable_at + UNWRITABLE, deadline):
                    return event
                await clock.sleep(after)
                continue
            writable_at = None
            level = logging.WARNING if refusals >= _MANY else logging.INFO
            log.log(
                level, "A paid request was not accepted (%s); trying again in %.1f s", latest.message, after
            )
            if clock.monotonic() + after >= deadline:
                break
            await clock.sleep(after)
        trouble = self._shared.caller.pacer.trouble
        if latest is None and trouble:
            message = (
                f"A paid request had no turn within {patience:g} s: the journal cannot be used: {trouble}"
            )
            latest = JournalError(message, hint="Look at what is wrong with the journal, and try again")
        elif latest is None:
            message = f"A paid request had no turn within {patience:g} s"
            latest = RateLimitError(message, status=HTTPStatus.TOO_MANY_REQUESTS)
        if isinstance(latest, RateLimitError):
            latest = latest.with_facts(
                hint=f"The paid request was given up after {patience:g} s: pass Timeouts(queue=...) to wait"
                " longer, or start fewer jobs at once, as a batch does"
            )
        return Refused(latest)

    async def ask_consent(self, question: ConsentRequest) -> Event:
        """Ask for consent. No connection and no turn is held meanwhile."""
        ask = self._spec.on_consent or self._shared.settings.on_consent
        if ask is None:
            attested = question.request is not None and question.request.consents is not None
            beyond = ", beyond what the request attests" if attested else ""
            message = f"The server asks for consent to {question.policy}{beyond}"
            return Refused(ConsentRequiredError(message, consent_request=question))
        try:
            with own_cancellation_only():
                answer = await self._shared.questions.put(ask, question)
        except Exception as cause:  # noqa: BLE001 - a callback: whatever it raises ends the job
            message = f"on_consent failed: {type(cause).__name__}: {cause}"
            error = ConsentError(message, hint="Correct the function on_consent", consent_request=question)
            error.__cause__ = cause
            return Refused(error)
        if answer is not None and not isinstance(answer, Consent):
            message = f"on_consent must return a Consent or None, not {type(answer).__name__}"
            hint = "Return a Consent with all three statements True for yes, and None for no"
            return Refused(ConsentError(message, hint=hint, consent_request=question))
        return Answered(answer)

    async def _pay(self, command: Queue, prepared: Prepared, turn: Turn) -> tuple[Event, float | None]:
        """Send the paid request; return the event, and the seconds until a retry, or None for no retry."""
        intent = Queueing(request=command.request, consent=command.consent, flow=command.flow)
        timeouts = self._shared.settings.timeouts
        try:
            await self._record.begin(
                intent, answer_within=timeouts.connect + timeouts.read, batch=self._spec.batch
            )
            self._record.check()
        except VeniceError as failure:
            turn.unsent()
            if isinstance(failure, LeaseLostError):
                await self._record.withdraw()
            if not isinstance(failure, LeaseLostError | CannotWriteError):
                raise
            return Refused(failure), AWAY
        at = datetime.fromtimestamp(self._shared.clock.time(), UTC).isoformat(timespec="seconds")
        paid = queue_request(command, prepared.body)
        untold = VeniceError("The answer was not understood, by a mistake in this library")
        self.outcome = Refused(unknown_outcome(untold, fingerprint=prepared.fingerprint, at=at))
        event = await self._shared.caller.pay(paid, command, turn)
        self.outcome = event if isinstance(event, Accepted) else None
        decided: Verdict = GiveUp()
        if isinstance(event, Refused):
            self._attempts, decided = self._shared.caller.judge(self._attempts, Call.QUEUE, event.error)
        match event, decided:
            case Accepted(ticket), _:
                log.info("Queued as %s on %s%s", ticket.queue_id, ticket.model, self._record.label)
                await self._record.record(Waiting(ticket=ticket))
            case Refused(error), Unknown():
                lost = unknown_outcome(error, fingerprint=prepared.fingerprint, at=at)
                if lost.answer is not None:
                    await self._record.record(evolve(intent, answer=lost.answer))
                self.outcome = Refused(lost)
                return self.outcome, None
            case ConsentNeeded(), _ if isinstance(asking := step(intent, event)[0], AwaitingConsent):
                await self._record.ask(asking)
            case _:
                await self._record.withdraw()
        return event, decided.after if isinstance(decided, Retry) else None


def unknown_outcome(error: VeniceError, *, fingerprint: str, at: str) -> QueueOutcomeUnknownError:
    """Return the error for a paid request whose answer is lost or unreadable."""
    message = f"A paid request was sent and may have been accepted: {error.message}"
    found = QueueOutcomeUnknownError(message, fingerprint=fingerprint, at=at, bytes_sent=True)
    if isinstance(error, QueueOutcomeUnknownError) and error.answer is not None:
        found.answer = error.answer
        return found.with_facts(**ANSWER_KEPT)
    return found
