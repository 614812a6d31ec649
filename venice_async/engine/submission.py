"""Up to the ticket: the price, a person's consent, and the paid request, which is sent once."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime
from typing import cast

from anyio.lowlevel import checkpoint_if_cancelled
from attrs import evolve

from ..errors import (
    ConsentError,
    ConsentRequiredError,
    QueueOutcomeUnknownError,
    VeniceError,
)
from ..io.caller import Reply, unknown_outcome
from ..io.journal.record import JobRecord
from ..io.pacing.pacer import Turn
from ..io.shielding import run_to_completion
from ..io.uploads import Prepared, inline, prepare
from ..requests import Consent
from ..results import ConsentRequest
from ..sansio.http.wire import consents_of, queue_request
from ..sansio.job.commands import AskPrice, Queue
from ..sansio.job.events import Accepted, Answered, Event, Refused
from ..sansio.job.states import Queueing, Waiting
from ..sansio.retries import Call, Retry, Unknown
from .consent import ask_person
from .spec import JobSpec, Shared

log: logging.Logger = logging.getLogger(__name__)


class Submission:
    """Performs the commands of one job that come before it has a ticket.

    Attributes:
        accepted: the ticket, also where a job was stopped while its paid request was on its way.
    """

    def __init__(self, shared: Shared, spec: JobSpec, record: JobRecord) -> None:
        """Pay for `spec`, journalled on `record`."""
        self.accepted: Accepted | None = None
        self._shared = shared
        self._caller = shared.caller
        self._spec = spec
        self._record = record
        self._prepared: Prepared | None = None
        self._troubles: Counter[object] = Counter()

    async def ask_price(self, command: AskPrice) -> Event:
        """Ask for the price."""
        try:
            return cast("Event", await self._caller.ask(await inline(command)))
        except VeniceError as error:
            return Refused(error)

    async def queue(self, command: Queue) -> Event:
        """Send the paid request at its turn, again only if it provably was not accepted.

        From the intent in the journal to the ticket in it, nothing interrupts, not even the end of
        `asyncio.run`: a cancelled job still learns what it paid for. Waiting for a turn, or for another try,
        can be cancelled.
        """
        try:
            self._prepared = self._prepared or await prepare(command.request)
        except VeniceError as error:
            return Refused(error)
        while True:
            async with self._caller.pacer.queue_turn(
                priority=self._spec.priority, model=command.request.model
            ) as turn:
                await checkpoint_if_cancelled()  # a job may be cancelled before it has waited for anything
                outcome = await run_to_completion(self._pay(command, self._prepared, turn))
            if not isinstance(outcome, Retry):
                return outcome
            log.info("The paid request was not accepted; trying again in %.1f s", outcome.after)
            await self._shared.clock.sleep(outcome.after)

    async def ask_consent(self, question: ConsentRequest) -> Event:
        """Ask a person, holding neither a connection nor a turn."""
        ask = self._spec.on_consent or self._shared.on_consent
        if ask is None:
            attested = question.request is not None and question.request.consents is not None
            beyond = ", beyond what the request attests" if attested else ""
            message = f"The server asks for consent to {question.policy}{beyond}"
            return Refused(ConsentRequiredError(message, consent_request=question))
        try:
            answer = await ask_person(ask, question)
        except Exception as cause:  # noqa: BLE001 - the caller's function: whatever it raises ends the job
            message = f"on_consent failed: {type(cause).__name__}: {cause}"
            error = ConsentError(message, consent_request=question)
            error.__cause__ = cause
            return Refused(error)
        if answer is not None and not isinstance(answer, Consent):
            message = f"on_consent must return a Consent or None, not {type(answer).__name__}"
            return Refused(ConsentError(message, consent_request=question))
        return Answered(answer)

    async def _pay(self, command: Queue, prepared: Prepared, turn: Turn) -> Event | Retry:
        intent = Queueing(request=command.request, consent=command.consent, flow=command.flow)
        try:
            await self._record.begin(intent)
        except VeniceError as error:
            return Refused(error)
        at = datetime.fromtimestamp(self._shared.clock.time(), UTC).isoformat(timespec="seconds")
        reply = await self._caller.pay(queue_request(prepared.body, consents_of(command)), command, turn)
        outcome = self._outcome(reply, prepared, at)
        await self._conclude(outcome, intent)
        return outcome

    def _outcome(self, reply: Reply, prepared: Prepared, at: str) -> Event | Retry:
        answer = cast("Event", reply.answer)
        if not isinstance(answer, Refused):
            return answer
        if isinstance(answer.error, QueueOutcomeUnknownError):
            return Refused(unknown_outcome(answer.error, fingerprint=prepared.fingerprint, at=at))
        if reply.trouble is None:
            return answer
        kind = (reply.trouble.kind, reply.trouble.status)
        self._troubles[kind] += 1
        decided = self._caller.judge(Call.QUEUE, reply.trouble, attempt=self._troubles[kind])
        if isinstance(decided, Unknown):
            return Refused(unknown_outcome(answer.error, fingerprint=prepared.fingerprint, at=at))
        return decided if isinstance(decided, Retry) else answer

    async def _conclude(self, outcome: Event | Retry, intent: Queueing) -> None:
        """Journal what came of it: a ticket is kept, an intent is kept only while its outcome is unknown."""
        if isinstance(outcome, Accepted):
            self.accepted = outcome
            log.info("Queued as %s on %s", outcome.ticket.queue_id, outcome.ticket.model)
            await self._record.record(Waiting(ticket=outcome.ticket))
        elif isinstance(outcome, Refused) and isinstance(outcome.error, QueueOutcomeUnknownError):
            if outcome.error.answer is not None:
                await self._record.record(evolve(intent, answer=outcome.error.answer))
        else:
            await self._record.withdraw()
