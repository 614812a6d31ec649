"""What a job asks of the journal, and the journal of those who keep none."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from ...errors import VeniceError
from ...requests import VideoRequest
from ...sansio.job.states import State, ticket_of
from .entries import JournalEntry

log: logging.Logger = logging.getLogger(__name__)


class Records(Protocol):
    """Keeps the states of jobs where no crash can reach them. A method completes even if it is cancelled."""

    async def begin(
        self,
        state: State,
        *,
        request: VideoRequest | None,
        to: Path | None,
        overwrite: bool = False,
        key: str | None = None,
        usd: float | None = None,
    ) -> JournalEntry:
        """Start a record and return it, durable. Its state is where to go on from, and may know more."""
        ...

    async def record(self, entry_id: str, state: State) -> None:
        """Replace the state of a record; it is durable."""
        ...

    async def withdraw(self, entry_id: str) -> None:
        """Remove the record of a request that provably was not accepted."""
        ...

    async def release(self, entry_id: str) -> None:
        """Stop owning a record, so that another process may go on with it."""
        ...


class NoRecords:
    """Keeps nothing: tickets live in memory only."""

    async def begin(
        self,
        state: State,
        *,
        request: VideoRequest | None,  # noqa: ARG002 - see Records, as for the rest
        to: Path | None,  # noqa: ARG002
        overwrite: bool = False,  # noqa: ARG002
        key: str | None = None,  # noqa: ARG002
        usd: float | None = None,  # noqa: ARG002
    ) -> JournalEntry:
        """Return a record that is kept nowhere."""
        return JournalEntry(id="", state=state)

    async def record(self, entry_id: str, state: State) -> None:
        """Do nothing."""

    async def withdraw(self, entry_id: str) -> None:
        """Do nothing."""

    async def release(self, entry_id: str) -> None:
        """Do nothing."""


class JobRecord:
    """The journal's record of one job."""

    def __init__(
        self,
        records: Records,
        *,
        to: Path | None,
        overwrite: bool,
        key: str | None,
        usd: float | None,
        entry_id: str | None = None,
    ) -> None:
        """Write to `records`; `entry_id` names a record that stands already."""
        self._records = records
        self._to = to
        self._overwrite = overwrite
        self._key = key
        self._usd = usd
        self._entry_id = entry_id

    async def begin(self, state: State, request: VideoRequest | None) -> State:
        """Start the record, unless it stands already, and return where to go on from.

        Raises:
            JournalError: it could not be made durable.
        """
        if self._entry_id is None:
            entry = await self._records.begin(
                state, request=request, to=self._to, overwrite=self._overwrite, key=self._key, usd=self._usd
            )
            self._entry_id, state = entry.id, entry.state
        return state

    async def record(self, state: State) -> None:
        """Keep a state of a paid job; a journal that fails now is logged, for it must not lose the job."""
        if self._entry_id is None:
            return
        try:
            await self._records.record(self._entry_id, state)
        except VeniceError as error:
            ticket = ticket_of(state)
            log.error("The journal cannot record job %s: %s", ticket and ticket.queue_id, error)  # noqa: TRY400 - said in full

    async def withdraw(self) -> None:
        """Remove the record: nothing was charged."""
        entry_id, self._entry_id = self._entry_id, None
        if entry_id is None:
            return
        try:
            await self._records.withdraw(entry_id)
        except VeniceError as error:
            log.warning("The journal still holds a request that was not accepted: %s", error)

    async def release(self) -> None:
        """Stop owning the record."""
        if self._entry_id is None:
            return
        try:
            await self._records.release(self._entry_id)
        except VeniceError as error:
            log.warning("The journal takes the job for one that is being worked on: %s", error)
