"""What the rest of the library knows of a journal: its operations, and the record of one job in it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol

from attrs import define, evolve, field

from ...errors import VeniceError
from ...sansio.job.states import TERMINAL, AwaitingConsent, Failed, State, ticket_of
from .entries import Attached, BatchShare, JournalEntry, LeaseLostError, StoreAwayError, Unfinished

if TYPE_CHECKING:
    from .history import Paid, Wanted

log: logging.Logger = logging.getLogger(__name__)


class JobStore(Protocol):
    """The jobs of an account: all that engine, batch and client know of a journal.

    Clients and processes may share it. A job belongs to the client that works on it, its owner, until it
    ends, it is released, or its owner is closed or dead; an owner holds a lease, which it may lose.

    A method that writes returns once the disk has it. If it is cancelled it writes all the same, and raises
    the cancellation then. Every method raises `JournalError` when the journal cannot be used, and
    `UsageError` after `aclose`.
    """

    @property
    def epoch(self) -> int:
        """How often our lease was lost: others may have the jobs that we owned before, see `regain`."""
        ...

    async def begin(
        self, entry: JournalEntry, *, answer_within: float | None = None, batch: BatchShare | None = None
    ) -> JournalEntry:
        """Record a job that we own: an intent (`Queueing`), or one that was queued before (`Waiting`).

        A job that the journal knows, and that has no owner, keeps its entry. Go on from the state of the
        returned entry: it may know more, which is the link and the GETs that were made of it. An intent that
        has an id replaces the entry of the same order, which waited for consent.

        The answer to an intent comes within `answer_within` seconds, or is lost. The price of one of a batch
        is reserved from the batch's budget.

        When this raises, be it a cancellation, no intent is left, and a queued job has no owner.

        Raises:
            KeyTakenError: it is an intent, and another job has its key.
            BudgetExceededError: the batch, the day or the month would cost more than it may.
        """
        ...

    async def record(self, entry_id: str, state: State) -> None:
        """Record the state of a job.

        `Succeeded` erases the link and the request's secrets, from the raw bytes of the file and its log too,
        and ends all that the journal knows of the same job. `Failed` ends the entry if the server said
        that the job failed; else, as after `Stopped`, the job stays unfinished at what was recorded before,
        for any client to adopt, until a person forgets it. A job that ends or stops is released.

        A `JournalError` carries the ticket, which is then known here only; if it is a `StoreAwayError` it is
        written as soon as the database is back.
        """
        ...

    async def adopt_unnotified(self) -> list[JournalEntry]:
        """Own and return the ended jobs of which a dead owner has not notified the caller."""
        ...

    async def notified(self, entry_id: str) -> None:
        """Note that the caller was notified of the end of a job."""
        ...

    async def withdraw(self, entry_id: str) -> None:
        """Remove an intent: nothing was charged for certain. A job with a ticket is never removed."""
        ...

    async def release(self, entry_id: str) -> None:
        """Own a job no longer: it stays unfinished, for any client to adopt."""
        ...

    async def attach(self, key: str, identity: str | None, *, again: bool = False) -> Attached | None:
        """Return the job of a key, and own it if it has no owner; None for a key that is free.

        With `again` a job that failed at the server leaves its key free.

        Raises:
            UsageError: its request is another than that of `identity`; the message names the fields.
        """
        ...

    async def regain(self, entry_id: str) -> Attached:
        """Return a job that we owned before our lease was lost, and own it again if it has no owner."""
        ...

    async def look(self, entry_ids: Collection[str]) -> dict[str, State]:
        """Return the states of those of the jobs that have an owner, by id."""
        ...

    async def report(self, states: Mapping[str, State]) -> None:
        """Report the progress of jobs that we own to their followers in other processes."""
        ...

    async def adopt(self, entry_id: str | None = None) -> list[JournalEntry]:
        """Own the unfinished jobs that have no owner, or the one of that id; return them, oldest first.

        A job is given to one of all clients that ask at the same time, and not again to its owner.
        """
        ...

    async def forget(self, entry_id: str) -> bool:
        """Remove an unfinished job, or free the key of one that failed; return whether there was one.

        One that has an owner stays: its request may be on its way.
        """
        ...

    async def pending(self) -> Unfinished:
        """Return the unfinished jobs that no other client owns, oldest first; `held` counts the others."""
        ...

    async def find(self, key: str, *, failed: bool = False) -> JournalEntry | None:
        """Return the job of a key that succeeded, else the newest that is unfinished, else None.

        With `failed` it may be one that failed and still has the key, and only one of our account.
        """
        ...

    async def known_jobs(self) -> frozenset[str]:
        """Return the server's ids of all jobs on record, ended or not."""
        ...

    async def history(self, wanted: Wanted) -> list[JournalEntry]:
        """Return the jobs that are wanted, ended or not, newest first."""
        ...

    async def paid(self, since: float = 0.0) -> list[Paid]:
        """Return what was paid, or may have been, since a moment in seconds since the Unix epoch."""
        ...

    async def spent(self, prefix: str) -> float:
        """Return the USD that went into the jobs whose keys begin with `prefix`, by what each was to cost.

        An intent counts as long as its outcome is not known; a job that was refunded does not.
        """
        ...

    async def aclose(self) -> None:
        """Finish what was begun and close. Our unfinished jobs have no owner from then on."""
        ...


@define(eq=False)
class JobRecord:
    """The journal's entry of one job that we own; without a journal nothing is kept.

    Attributes:
        entry: the entry, which has an id once it is in the journal.
    """

    _journal: JobStore | None
    entry: JournalEntry
    _epoch: int = field(init=False, default=0)
    _asking: bool = field(init=False, default=False)
    _released: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._epoch = 0 if self._journal is None else self._journal.epoch

    def check(self) -> None:
        """Check that no other process can own the job.

        Raises:
            LeaseLostError: our lease was lost meanwhile.
        """
        if self._journal is not None and self.entry.id and self._journal.epoch != self._epoch:
            msg = "This process was stopped, or cut off from its journal; others may have its jobs"
            raise LeaseLostError(msg)

    async def regain(self) -> Attached:
        """Return the job, and own it again if it has no owner."""
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
        """Make the entry, unless there is one, and return the state to go on from; see `JobStore.begin`."""
        if self._journal is None or (self.entry.id and not self._asking):
            return state
        entry, self._epoch = evolve(self.entry, state=state), self._journal.epoch
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
        if self._asking and self._journal is not None and self._journal.epoch == self._epoch:
            self._asking = False
            await self.record(state)

    async def record(self, state: State) -> None:
        """Record a state of a paid job. A journal that fails is logged: it must not cost the job."""
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
        """Remove the entry: nothing was charged."""
        if self._journal is None or not self.entry.id:
            return
        entry_id, self.entry = self.entry.id, evolve(self.entry, id="")
        try:
            await self._journal.withdraw(entry_id)
        except VeniceError as error:
            log.warning("The journal still holds a request that was not accepted: %s", error)

    async def release(self) -> None:
        """Own the job no longer. The entry of an order that still waits for consent is removed."""
        if self._asking:
            self._asking = False
            await self.withdraw()
        if self._journal is None or not self.entry.id or self._released:
            return
        try:
            await self._journal.release(self.entry.id)
        except VeniceError as error:
            log.warning("The journal takes the job for one that is being worked on: %s", error)
