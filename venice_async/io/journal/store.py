"""What a journal is to those who use it, whatever holds the jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol

from ...sansio.job.states import State
from .entries import Attached, BatchShare, JournalEntry, Unfinished

if TYPE_CHECKING:
    from .history import Paid, Wanted


class JobStore(Protocol):
    """The jobs of an account, whatever holds them: all that engine, batch and client know of a journal.

    Clients and processes may share it: each leaves alone the jobs that another one watches, as their owner.

    A method that writes returns once the disk has it. If it is cancelled it writes all the same, and raises
    the cancellation then. Every method raises `JournalError` when the journal cannot be used, and
    `UsageError` after `aclose`.
    """

    @property
    def epoch(self) -> int:
        """How often we were taken for dead: whoever worked on a job before must look at it again."""
        ...

    async def begin(
        self, entry: JournalEntry, *, answer_within: float | None = None, batch: BatchShare | None = None
    ) -> JournalEntry:
        """Record a job that we watch: an intent (`Queueing`), or one that was queued before (`Waiting`).

        A job that the journal knows and nobody watches keeps its entry. Go on from the state of the returned
        entry: it may know more, which is the link and the GETs that were made of it. An intent that has an id
        replaces the entry of the same order, about which a person was asked.

        The answer to an intent comes within `answer_within` seconds, or is lost; one of a batch is reserved
        from its budget.

        When this raises, be it a cancellation, no intent is left, and a queued job is not watched.

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
        for whoever adopts it, until a person forgets it. A job that ends or stops is released.

        A `JournalError` carries the ticket, which is then known here only; if it is a `StoreAwayError` it is
        written as soon as the database is back.
        """
        ...

    async def adopt_unnotified(self) -> list[JournalEntry]:
        """Take over the ended jobs of which an owner who died has not notified the caller."""
        ...

    async def notified(self, entry_id: str) -> None:
        """Note that the caller was notified of the end of a job."""
        ...

    async def withdraw(self, entry_id: str) -> None:
        """Remove an intent: nothing was charged for certain. A job with a ticket is never removed."""
        ...

    async def release(self, entry_id: str) -> None:
        """Stop watching a job: it stays unfinished, for whoever adopts it."""
        ...

    async def attach(self, key: str, identity: str | None, *, again: bool = False) -> Attached | None:
        """Return the job of a key, from now on ours if nobody watches it; None for a key that is free.

        With `again` a job that failed at the server leaves its key free.

        Raises:
            UsageError: its request is another than that of `identity`; the message names the fields.
        """
        ...

    async def regain(self, entry_id: str) -> Attached:
        """Look again at a job that was ours before we were taken for dead."""
        ...

    async def look(self, entry_ids: Collection[str]) -> dict[str, State]:
        """Return the states of those of the jobs that an owner who lives works on, by id."""
        ...

    async def report(self, states: Mapping[str, State]) -> None:
        """Report the progress of jobs of ours to those who follow them."""
        ...

    async def adopt(self, entry_id: str | None = None) -> list[JournalEntry]:
        """Take over the unfinished jobs that nobody watches, or the one of that id, oldest first.

        Of all who ask at the same time only one is given a job. One that we watch already is not given again.
        """
        ...

    async def forget(self, entry_id: str) -> bool:
        """Remove an unfinished job, or free the key of one that failed; return whether there was one.

        One that somebody watches, whose request may be on its way, stays.
        """
        ...

    async def pending(self) -> Unfinished:
        """Return the unfinished jobs that we watch or nobody does, oldest first; `held` counts the others."""
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
        """Finish what was begun and close; our unfinished jobs are anyone's from then on."""
        ...
