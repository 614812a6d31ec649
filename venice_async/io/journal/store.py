"""What the rest of the library knows of a journal, whether it is a file or a database."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol

from ...sansio.job.states import State
from .entries import Attached, BatchShare, JournalEntry, Unfinished

if TYPE_CHECKING:
    from .history import Paid, Wanted


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
