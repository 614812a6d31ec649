"""What a journal is to those who use it, and what holds one: a file, or a database of many machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ...errors import JournalError
from ...sansio.job.states import State
from .entries import JournalEntry, Unfinished


class StoreAwayError(JournalError):
    """The database cannot be reached now; it may be back at any moment."""

    hint = "Start the database, or check the way to it"


class LeaseLostError(JournalError):
    """We were taken for dead: whoever works on a job must look at it before it sends anything."""


class JobStore(Protocol):
    """The jobs of an account, whatever holds them; see `Journal`."""

    @property
    def epoch(self) -> int:
        """How often we were taken for dead: whoever worked on a job before must look at it again."""
        ...

    async def begin(self, entry: JournalEntry) -> JournalEntry:
        """Record a job that we watch."""
        ...

    async def record(self, entry_id: str, state: State) -> None:
        """Record the state of a job."""
        ...

    async def withdraw(self, entry_id: str) -> None:
        """Remove an intent."""
        ...

    async def release(self, entry_id: str) -> None:
        """Stop watching a job."""
        ...

    async def pending(self) -> Unfinished:
        """Return the unfinished jobs that we watch or nobody does."""
        ...

    async def adopt(self, entry_id: str | None = None) -> list[JournalEntry]:
        """Take over the unfinished jobs that nobody watches."""
        ...

    async def forget(self, entry_id: str) -> bool:
        """Remove an unfinished job that nobody watches."""
        ...

    async def entry(self, entry_id: str) -> JournalEntry:
        """Return an entry."""
        ...

    async def find(self, key: str) -> JournalEntry | None:
        """Return the job of that key."""
        ...

    async def spent(self, prefix: str) -> float:
        """Return the USD that went into the jobs whose keys begin with `prefix`."""
        ...

    async def aclose(self) -> None:
        """Finish what was begun; our unfinished jobs are anyone's from then on."""
        ...


class Rows(Protocol):
    """What a statement found."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all the rows."""
        ...

    def __iter__(self) -> Any:
        """Iterate over the rows."""
        ...


class Connection(Protocol):
    """An open connection that takes the SQL of `Table`, with `?` or `:name` for values."""

    def execute(self, sql: str, parameters: Any = (), /) -> Rows:
        """Execute a statement within the transaction."""
        ...


Values = Mapping[str, object]
