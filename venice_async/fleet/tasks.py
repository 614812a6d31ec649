"""What becomes of tasks: written for certain, by the clock of the database."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Awaitable, Callable
from typing import Final, cast

import anyio
from procrastinate import utils
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status
from procrastinate.manager import JobManager
from psycopg.errors import RaiseException
from psycopg_pool import PoolClosed

from .schema import Engine

_PATIENCE: Final = 30.0  # seconds
_PAUSE: Final = 0.5  # seconds

log: logging.Logger = logging.getLogger(__name__)


class Tasks(JobManager):
    """Procrastinate's manager of tasks, in a fleet whose workers are stopped, cut off and have other clocks.

    A task that is over and stayed "doing" would be handed out to nobody for as long as its worker lives.
    """

    async def finish_job_by_id_async(self, job_id: int, status: Status, delete_job: bool) -> None:  # noqa: FBT001 - procrastinate's
        """End a task, unless another worker has."""
        await self._insist(lambda: JobManager.finish_job_by_id_async(self, job_id, status, delete_job))

    async def retry_job_by_id_async(
        self,
        job_id: int,
        retry_at: dt.datetime,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Have a task handed out again, unless another worker has; `retry_at` is by our clock."""
        wait = max(retry_at - utils.utcnow(), dt.timedelta())

        async def retry() -> None:
            row = await self.connector.execute_query_one_async("SELECT clock_timestamp() AS now")
            at = cast("dt.datetime", row["now"]) + wait
            await JobManager.retry_job_by_id_async(self, job_id, at, priority, queue, lock)

        await self._insist(retry)

    async def _insist(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write until the database takes it; if it does not, the worker is to be started again.

        Raises:
            ConnectorException: it did not.
        """
        given_up = anyio.current_time() + _PATIENCE
        while True:
            try:
                return await write()
            except ConnectorException as error:
                if isinstance(error.__cause__, RaiseException):
                    log.debug("Another worker has seen to the task")
                    return None
                if isinstance(error.__cause__, PoolClosed) or anyio.current_time() > given_up:
                    cast("Engine", self.connector).lost.set()
                    raise
            await anyio.sleep(_PAUSE)
