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

    `Journal` is the one for users' jobs, over a file or a database; its methods say more.
    """

    @property
    def epoch(self) -> int:
        """How often we were taken for dead: whoever worked on a job before must look at it again."""
        ...

    async def begin(
        self, entry: JournalEntry, *, answer_within: float | None = None, batch: BatchShare | None = None
    ) -> JournalEntry:
        """Record a job that we watch, before it is paid for; raise `KeyTakenError`, `BudgetExceededError`."""
        ...

    async def record(self, entry_id: str, state: State) -> None:
        """Record the state of a job."""
        ...

    async def adopt_untold(self) -> list[JournalEntry]:
        """Take over the ended jobs whose end somebody who died was to tell."""
        ...

    async def told(self, entry_id: str) -> None:
        """Note that the end of a job was told."""
        ...

    async def withdraw(self, entry_id: str) -> None:
        """Remove an intent: nothing was charged for certain."""
        ...

    async def release(self, entry_id: str) -> None:
        """Stop watching a job."""
        ...

    async def attach(self, key: str, identity: str | None, *, again: bool = False) -> Attached | None:
        """Return the job of a key, from now on ours if nobody watches it; None for a key that is free."""
        ...

    async def regain(self, entry_id: str) -> Attached:
        """Look again at a job that was ours before we were taken for dead."""
        ...

    async def look(self, entry_ids: Collection[str]) -> dict[str, State]:
        """Return where those of the jobs stand that an owner who lives works on, by id."""
        ...

    async def report(self, states: Mapping[str, State]) -> None:
        """Tell those who follow jobs of ours how far they have come."""
        ...

    async def adopt(self, entry_id: str | None = None) -> list[JournalEntry]:
        """Take over the unfinished jobs that nobody watches, or the one of that id."""
        ...

    async def forget(self, entry_id: str) -> bool:
        """Remove an unfinished job that nobody watches, or free the key of one that failed."""
        ...

    async def pending(self) -> Unfinished:
        """Return the unfinished jobs that we watch or nobody does."""
        ...

    async def find(self, key: str) -> JournalEntry | None:
        """Return the job of a key that succeeded or is unfinished."""
        ...

    async def of_key(self, key: str) -> JournalEntry | None:
        """Return the job that has a key, be it one that failed."""
        ...

    async def known_jobs(self) -> frozenset[str]:
        """Return the server's ids of all jobs on record."""
        ...

    async def history(self, wanted: Wanted) -> list[JournalEntry]:
        """Return the jobs that are wanted, ended or not, newest first."""
        ...

    async def paid(self, since: float = 0.0) -> list[Paid]:
        """Return what was paid, or may have been, since a moment in seconds since the Unix epoch."""
        ...

    async def spent(self, prefix: str) -> float:
        """Return the USD that went into the jobs whose keys begin with `prefix`."""
        ...

    async def aclose(self) -> None:
        """Finish what was begun; our unfinished jobs are anyone's from then on."""
        ...
