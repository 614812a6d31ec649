"""What a job asks of the journal, where there is one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from ...errors import VeniceError
from ...sansio.job.states import TERMINAL, AwaitingConsent, Failed, State, ticket_of
from .entries import Attached, BatchShare, JournalEntry, LeaseLostError, StoreAwayError

if TYPE_CHECKING:
    from .store import JobStore

log: logging.Logger = logging.getLogger(__name__)


@define(eq=False)
class JobRecord:
    """The journal's record of one job; without a journal it keeps nothing.

    Attributes:
        entry: the job as it stands in the journal, or is to stand there: it has an id once it does.
    """

    _journal: JobStore | None
    entry: JournalEntry
    _epoch: int = field(init=False, default=0)
    _asking: bool = field(init=False, default=False)
    _released: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._epoch = 0 if self._journal is None else self._journal.epoch

    def check(self) -> None:
        """Check that nobody can have taken the job over.

        Raises:
            LeaseLostError: we were taken for dead meanwhile.
        """
        if self._journal is not None and self.entry.id and self._journal.epoch != self._epoch:
            msg = "This process was stopped, or cut off from its journal; others may have its jobs"
            raise LeaseLostError(msg)

    async def regain(self) -> Attached:
        """Look at the job again: it is ours, or has another owner, or has ended."""
        assert self._journal is not None  # noqa: S101 - there was a lease to lose
        found = await self._journal.regain(self.entry.id)
        self._epoch = self._journal.epoch
        return found

    @property
    def label(self) -> str:
        """The job's key and tags, for a line of the log; empty where it has none."""
        name, tags = self.entry.name, dict(self.entry.tags)
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
        if self._journal is None or (self.entry.id and not self._asking):
            return state
        entry, self._epoch = evolve(self.entry, state=state), self._journal.epoch
        self.entry = await self._journal.begin(entry, answer_within=answer_within, batch=batch)
        self._asking = False
        return self.entry.state

    async def ask(self, state: AwaitingConsent) -> None:
        """Let an intent that was not charged keep its key while a person is asked: others wait for that."""
        if self.entry.key is None:
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
        if self._journal is None or not self.entry.id:
            return
        try:
            await self._journal.record(self.entry.id, state)
            self._released = isinstance(state, TERMINAL)
        except StoreAwayError as error:
            log.warning("A job's state is written once the journal is back: %s", error.message)
        except VeniceError as error:
            ticket = ticket_of(state)
            log.error("The journal cannot record job %s: %s", ticket and ticket.queue_id, error)  # noqa: TRY400 - said in full

    async def withdraw(self) -> None:
        """Remove the record: nothing was charged."""
        if self._journal is None or not self.entry.id:
            return
        entry_id, self.entry = self.entry.id, evolve(self.entry, id="")
        try:
            await self._journal.withdraw(entry_id)
        except VeniceError as error:
            log.warning("The journal still holds a request that was not accepted: %s", error)

    async def release(self) -> None:
        """Stop owning the record; of an order that was not paid for, as a person was asked, none is left."""
        if self._asking:
            self._asking = False
            await self.withdraw()
        if self._journal is None or not self.entry.id or self._released:
            return
        try:
            await self._journal.release(self.entry.id)
        except VeniceError as error:
            log.warning("The journal takes the job for one that is being worked on: %s", error)
