"""What a job asks of the journal, where there is one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from attrs import evolve

from ...errors import VeniceError
from ...sansio.job.states import TERMINAL, AwaitingConsent, Failed, State, ticket_of
from .entries import Attached, BatchShare, JournalEntry, LeaseLostError, StoreAwayError

if TYPE_CHECKING:
    from .store import JobStore

log: logging.Logger = logging.getLogger(__name__)


class JobRecord:
    """The journal's record of one job; without a journal it keeps nothing."""

    def __init__(self, journal: JobStore | None, entry: JournalEntry) -> None:
        """Write `entry` to `journal`; one that has an id stands there already."""
        self._journal = journal
        self._entry = entry
        self._epoch = 0 if journal is None else journal.epoch
        self._asking = self._released = False

    def check(self) -> None:
        """Check that nobody can have taken the job over.

        Raises:
            LeaseLostError: we were taken for dead meanwhile.
        """
        if self._journal is not None and self._entry.id and self._journal.epoch != self._epoch:
            msg = "This process was stopped, or cut off from its journal; others may have its jobs"
            raise LeaseLostError(msg)

    async def regain(self) -> Attached:
        """Look at the job again: it is ours, or has another owner, or has ended."""
        assert self._journal is not None  # noqa: S101 - there was a lease to lose
        found = await self._journal.regain(self._entry.id)
        self._epoch = self._journal.epoch
        return found

    def expect(self, usd: float) -> None:
        """Note what the job will cost, for the entry that is yet to stand there."""
        self._entry = evolve(self._entry, usd=usd)

    @property
    def id(self) -> str:
        """The id of the entry; empty as long as there is none."""
        return self._entry.id

    @property
    def label(self) -> str:
        """The job's key and tags, for a line of the log; empty where it has none."""
        name, tags = self._entry.name, dict(self._entry.tags)
        parts = [f"key={name!r}"] * bool(name) + [f"tags={tags}"] * bool(tags)
        return f" ({', '.join(parts)})" if parts else ""

    async def begin(
        self, state: State, *, answer_within: float | None = None, batch: BatchShare | None = None
    ) -> State:
        """Start the record, unless it stands already, and return where to go on from.

        The answer to a paid request comes within `answer_within` seconds, or is lost.

        Raises:
            KeyTakenError: another job has the key.
            BudgetExceededError: the batch would cost more than it may.
            JournalError: it could not be made durable.
        """
        if self._journal is None or (self._entry.id and not self._asking):
            return state
        entry, self._epoch = evolve(self._entry, state=state), self._journal.epoch
        self._entry = await self._journal.begin(entry, answer_within=answer_within, batch=batch)
        self._asking = False
        return self._entry.state

    async def ask(self, state: AwaitingConsent) -> None:
        """Let an intent that was not charged keep its key while a person is asked: others wait for that."""
        if self._entry.key is None:
            await self.withdraw()
        else:
            await self.record(state)
            self._asking = True

    async def decline(self, state: Failed) -> None:
        """Give the key back, and tell those who waited that the person said no."""
        if self._asking and self._journal is not None and self._journal.epoch == self._epoch:
            self._asking = False
            await self.record(state)

    async def record(self, state: State) -> None:
        """Keep a state of a paid job; a journal that fails now is logged, for it must not lose the job."""
        if self._journal is None or not self._entry.id:
            return
        try:
            await self._journal.record(self._entry.id, state)
            self._released = isinstance(state, TERMINAL)
        except StoreAwayError as error:
            log.warning("A job's state is written once the journal is back: %s", error.message)
        except VeniceError as error:
            ticket = ticket_of(state)
            log.error("The journal cannot record job %s: %s", ticket and ticket.queue_id, error)  # noqa: TRY400 - said in full

    async def withdraw(self) -> None:
        """Remove the record: nothing was charged."""
        if self._journal is None or not self._entry.id:
            return
        entry_id, self._entry = self._entry.id, evolve(self._entry, id="")
        try:
            await self._journal.withdraw(entry_id)
        except VeniceError as error:
            log.warning("The journal still holds a request that was not accepted: %s", error)

    async def release(self) -> None:
        """Stop owning the record; of an order that was not paid for, as a person was asked, none is left."""
        if self._asking:
            self._asking = False
            await self.withdraw()
        if self._journal is None or not self._entry.id or self._released:
            return
        try:
            await self._journal.release(self._entry.id)
        except VeniceError as error:
            log.warning("The journal takes the job for one that is being worked on: %s", error)
