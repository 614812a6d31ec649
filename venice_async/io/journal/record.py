"""The record of one job in the journal."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from ...errors import VeniceError
from ...sansio.job.states import TERMINAL, AwaitingConsent, Failed, State, ticket_of
from .entries import Attached, BatchShare, CannotWriteError, JournalEntry, LeaseLostError

if TYPE_CHECKING:
    from .journal import Journal

log: logging.Logger = logging.getLogger(__name__)


@define(eq=False)
class JobRecord:
    """The journal's entry of one job that we own; without a journal nothing is kept.

    Attributes:
        entry: the entry, which has an id once it is in the journal.
    """

    _journal: Journal | None
    entry: JournalEntry
    _asking: bool = field(init=False, default=False)
    _released: bool = field(init=False, default=False)

    def check(self) -> None:
        """Check that no other process can own the job.

        Raises:
            LeaseLostError: our lease was lost meanwhile.
        """
        if self._journal is not None and self.entry.id and not self._journal.owns(self.entry):
            msg = "This process was stopped, or cut off from its journal; others may have its jobs"
            raise LeaseLostError(msg)

    async def regain(self) -> Attached:
        """Return the job, and own it again if it has no owner."""
        assert self._journal is not None  # noqa: S101 - there was a lease to lose
        found = await self._journal.regain(self.entry.id)
        self.entry = evolve(self.entry, owner=found.entry.owner)
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
        """Make the entry, unless there is one, and return the state to go on from; see `Journal.begin`."""
        if self._journal is None or (self.entry.id and not self._asking):
            return state
        entry = evolve(self.entry, state=state)
        self.entry = await self._journal.begin(entry, answer_within=answer_within, batch=batch)
        self._asking = False
        return self.entry.state

    async def ask(self, state: AwaitingConsent) -> None:
        """Let an intent that was not charged keep its key while it waits for consent."""
        if self.entry.key is None:
            await self.withdraw()
        else:
            await self.record(state)
            self._asking = True

    async def decline(self, state: Failed) -> None:
        """Free the key, and let the followers of the job see that consent was declined."""
        if self._asking and self._journal is not None and self._journal.owns(self.entry):
            self._asking = False
            await self.record(state)

    async def record(self, state: State) -> None:
        """Record a state of a paid job. A journal that fails is logged: it must not cost the job."""
        if self._journal is None or not self.entry.id:
            return
        ticket = ticket_of(state)
        name = ticket and f"{ticket.queue_id} on {ticket.model}"
        try:
            await self._journal.record(self.entry.id, state)
            self._released = isinstance(state, TERMINAL)
        except CannotWriteError as error:
            log.warning("The state of job %s is written once the journal takes it: %s", name, error.message)
        except VeniceError as error:
            log.error("The journal cannot record job %s: %s", name, error)  # noqa: TRY400 - said in full

    async def withdraw(self) -> None:
        """Remove the entry: nothing was charged."""
        if self._journal is None or not self.entry.id:
            return
        entry_id, self.entry = self.entry.id, evolve(self.entry, id="")
        try:
            await self._journal.withdraw(entry_id)
        except VeniceError as error:
            log.warning("The journal still holds a request that was not accepted: %s", error.message)

    async def release(self) -> None:
        """Own the job no longer. The entry of an order that still waits for consent is removed."""
        if self._asking:
            self._asking = False
            await self.withdraw()
        if self._journal is None or not self.entry.id or self._released:
            return
        try:
            await self._journal.release(self.entry.id)
        except CannotWriteError:
            pass  # it is released once the journal takes it
        except VeniceError as error:
            log.warning("The journal takes the job for one that is being worked on: %s", error.message)
