"""Tells the caller of each job that has ended, at least once: with a journal, even if the process dies.

The end of a job is journalled together with the fact that it is still to be told, and that is taken back once
`on_done` has come back. If the process dies in between, another one that shares the journal tells it.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
import anyio.to_thread

from ..errors import VeniceError
from ..job import VideoJob
from ..sansio.job.states import Failed, Succeeded
from .driver import Driver
from .spec import JobSpec, Shared

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

OnDone: TypeAlias = Callable[[VideoJob], object]

PATIENCE: Final = 30.0  # seconds that `on_done` gets after the last job, when the client is left normally
EVERY: Final = 30.0  # seconds between two looks for what a process that died has not told

log: logging.Logger = logging.getLogger(__name__)


class Completions:
    """Calls `on_done` for the jobs that end here, and for those that others who died have not told."""

    def __init__(self, on_done: OnDone, shared: Shared) -> None:
        self._patience = PATIENCE
        self._leaving = False
        self._on_done = on_done
        self._shared = shared
        self._looking = anyio.CancelScope()
        self._group: TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Tell what is to be told during the block, and for a while after it unless there is a `hurry`."""
        async with anyio.create_task_group() as self._group:
            if self._shared.journal is not None:
                self._group.start_soon(self._look, name="venice_async.on_done")
            try:
                yield
            finally:
                self._looking.cancel()
                self._leaving = True
                self._group.cancel_scope.deadline = anyio.current_time() + self._patience

    def hurry(self) -> None:
        """Stop telling once the jobs have ended."""
        self._patience = 0.0
        if self._leaving and self._group is not None:
            self._group.cancel_scope.cancel()

    def watch(self, job: VideoJob, driver: Driver) -> None:
        """Tell of a job once it has ended, if it is ours by then and has a result."""

        def ended(job: VideoJob) -> None:
            if driver.performed and isinstance(job.state, Succeeded | Failed):
                self._start(job, driver.entry_id)

        job.add_done_callback(ended)

    async def _look(self) -> None:
        """Take over what is to be told, now and then."""
        assert self._shared.journal is not None  # noqa: S101 - or nobody looks
        with self._looking:
            while True:
                try:
                    entries = await self._shared.journal.adopt_untold()
                except VeniceError as error:
                    entries = []
                    log.debug("Nobody knows now which jobs are still to be told: %s", error)
                for entry in entries:
                    start = entry.state, None
                    spec = JobSpec(
                        start=start, request=entry.request, to=os.devnull, key=entry.key, tags=entry.tags
                    )
                    driver = Driver(self._shared, spec)
                    job = VideoJob(driver)
                    await driver.run()
                    self._start(job, entry.id)
                await self._shared.clock.sleep(EVERY)

    def _start(self, job: VideoJob, entry_id: str) -> None:
        assert self._group is not None  # noqa: S101 - it runs as long as there are jobs
        self._group.start_soon(self._tell, job, entry_id, name="venice_async.on_done")

    async def _tell(self, job: VideoJob, entry_id: str) -> None:
        told: Any = self._on_done
        try:
            kinds = told, getattr(told, "__call__", None)  # noqa: B004 - its kind is asked
            if any(map(inspect.iscoroutinefunction, kinds)):
                await told(job)
            else:
                answer: Any = await anyio.to_thread.run_sync(told, job, abandon_on_cancel=True)
                if inspect.isawaitable(answer):
                    await answer
        except anyio.get_cancelled_exc_class():
            later = "it is called again by the next start" if entry_id else "it is not called again"
            log.warning("on_done had not come back for %r when the client was closed; %s", job, later)
            raise
        except VeniceError as error:
            log.error("on_done failed for %r: %s", job, error)  # noqa: TRY400 - said in full
        except Exception:
            log.exception("on_done failed for %r", job)
        if entry_id and self._shared.journal is not None:
            with suppress(VeniceError):  # then it is told once more
                await self._shared.journal.told(entry_id)
