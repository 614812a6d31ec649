"""Reports the progress of our jobs to other processes, and polls the journal for the jobs that we follow."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

import anyio
from attrs import define, field

from ..errors import VeniceError
from ..io.transport import Clock
from ..sansio.job.states import Downloading, State, Waiting

if TYPE_CHECKING:
    from ..io.journal.journal import Journal

EVERY: Final = 1.0  # seconds between two polls of the journal, and between two reports

log: logging.Logger = logging.getLogger(__name__)


@define
class _Look:
    """One poll of the journal for all jobs that are followed; jobs that come meanwhile join it."""

    names: set[str] = field(factory=set[str])
    found: dict[str, State] = field(factory=dict[str, State])
    error: VeniceError | None = None
    done: anyio.Event = field(factory=anyio.Event)


@define(eq=False)
class Following:
    """Progress between the processes that share a journal, both ways, at most once a second.

    It costs nothing where nothing is followed: the journal is polled while a job waits for it, and only the
    progress of jobs that another process follows is written.
    """

    _journal: Journal
    _clock: Clock
    _spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
    _look: _Look | None = field(init=False, default=None)
    _states: dict[str, State] = field(init=False, factory=dict[str, State])
    _reported: float = field(init=False, default=-math.inf)
    _due: asyncio.TimerHandle | None = field(init=False, default=None)

    async def look(self, entry_id: str) -> State | None:
        """Wait a second, and return the state of a job; None once no living process works on it.

        Raises:
            JournalError: the journal cannot be read now.
        """
        look = self._look or _Look()

        async def poll() -> None:
            try:
                await self._clock.sleep(EVERY)
                self._look = None
                look.found = await self._journal.look(look.names)
            except VeniceError as error:
                look.error = error.with_traceback(None)
            finally:
                look.done.set()

        if self._look is None:
            self._look = look
            self._spawn(poll)
        look.names.add(entry_id)
        await look.done.wait()
        if look.error is not None:
            raise look.error
        return look.found.get(entry_id)

    def report(self, entry_id: str, state: State) -> None:
        """Write the state of a job of ours with the next report, for the processes that follow it."""
        if not isinstance(state, Waiting | Downloading):
            self._states.pop(entry_id, None)  # the driver records it itself
            if not self._states:
                self.close()
            return
        self._states[entry_id] = state

        async def report_all() -> None:
            self._due, self._reported = None, self._clock.monotonic()
            try:
                await self._journal.report(dict(self._states))
            except VeniceError as error:
                log.debug("The progress of our jobs was not reported to other processes: %s", error)

        if self._due is None:
            after = self._reported + EVERY - self._clock.monotonic()
            self._due = asyncio.get_running_loop().call_later(max(0.0, after), self._spawn, report_all)

    def close(self) -> None:
        """Cancel the report that is due."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
