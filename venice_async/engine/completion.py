"""Calls `on_done` for each job that has ended, at least once: with a journal, even if the process dies.

The end of a job is journalled as still to be told, and as told once `on_done` has come back. If the process
dies in between, another one that shares the journal calls it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio
from attrs import define, field

from ..errors import VeniceError
from ..io.shielding import call_user
from ..job import VideoJob
from ..sansio.job.states import Failed, Succeeded
from .driver import Driver
from .spec import JobSpec, Shared

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ..io.journal.journal import Journal

OnDone: TypeAlias = Callable[[VideoJob], object]

PATIENCE: Final = 30.0  # seconds that `on_done` gets after the last job, when the client is left normally
EVERY: Final = 30.0  # seconds between two looks for jobs that a process that died left untold

log: logging.Logger = logging.getLogger(__name__)


@define(eq=False)
class Completions:
    """Calls `on_done` for the jobs that end here, and for those that a process that died left untold."""

    _on_done: OnDone
    _shared: Shared
    _patience: float = field(init=False, default=PATIENCE)
    _leaving: bool = field(init=False, default=False)
    _looking: anyio.CancelScope = field(init=False, factory=anyio.CancelScope)
    _group: TaskGroup = field(init=False)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Call `on_done` during the block, and for `PATIENCE` seconds after it unless there is a `hurry`."""
        async with anyio.create_task_group() as self._group:
            if self._shared.journal is not None:
                self._group.start_soon(self._look, self._shared.journal, name="venice_async.on_done")
            try:
                yield
            finally:
                self._looking.cancel()
                self._leaving = True
                self._group.cancel_scope.deadline = anyio.current_time() + self._patience

    def hurry(self) -> None:
        """Call it no more once the jobs have ended."""
        self._patience = 0.0
        if self._leaving:
            self._group.cancel_scope.cancel()

    def watch(self, job: VideoJob, driver: Driver) -> None:
        """Call `on_done` once a job has ended, if it is ours by then and has a result."""

        def ended(job: VideoJob) -> None:
            if driver.performed and isinstance(job.state, Succeeded | Failed):
                self._group.start_soon(self._tell, job, driver.entry_id, name="venice_async.on_done")

        job.add_done_callback(ended)

    async def _look(self, journal: Journal) -> None:
        """Take over the jobs that were left untold, now and then."""
        with self._looking:
            while True:
                try:
                    entries = await journal.adopt_unnotified()
                except VeniceError as error:
                    entries = []
                    log.debug("Nobody knows now which jobs are still to be told: %s", error)
                for entry in entries:
                    spec = JobSpec(
                        start=(entry.state, None),
                        request=entry.request,
                        to=os.devnull,
                        key=entry.key,
                        tags=entry.tags,
                    )
                    job = VideoJob(Driver(self._shared, spec))
                    self._group.start_soon(self._tell, job, entry.id, name="venice_async.on_done")
                await self._shared.clock.sleep(EVERY)

    async def _tell(self, job: VideoJob, entry_id: str) -> None:
        try:
            await call_user(self._on_done, job)
        except anyio.get_cancelled_exc_class():
            later = "it is called again by the next start" if entry_id else "it is not called again"
            log.warning("on_done had not come back for %r when the client was closed; %s", job, later)
            raise
        except VeniceError as error:
            log.error("on_done failed for %r: %s", job, error)  # noqa: TRY400 - said in full
        except Exception:
            log.exception("on_done failed for %r", job)
        if entry_id and self._shared.journal is not None:
            with suppress(VeniceError):  # then it is called once more
                await self._shared.journal.notified(entry_id)
