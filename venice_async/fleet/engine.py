"""The engine that hands out tasks: procrastinate, with guards that its defaults do not give."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, cast

import anyio
import psycopg
from procrastinate import BaseRetryStrategy, PsycopgConnector, RetryDecision, utils
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager
from psycopg.errors import RaiseException
from psycopg.sql import SQL, Identifier
from psycopg_pool import PoolClosed

from ..errors import VeniceError
from ..io.postgres import parameters
from ..sansio.http.secrets import Secret

_PATIENCE: Final = 30.0  # seconds
_PAUSE: Final = 0.5  # seconds

log: logging.Logger = logging.getLogger(__name__)


class NotNowError(Exception):
    """The task is to be handed out again: the attempt ends, the job does not."""


class Engine(PsycopgConnector):
    """Procrastinate's connector; its loss of the LISTEN connection is an error, not a pause.

    Attributes:
        lost: whether it is lost.
    """

    def __init__(self, uri: Secret) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType] - its options are untyped
        self._uri = uri
        self.lost: asyncio.Event = asyncio.Event()

    async def listen_notify(self, on_notification: Any, channels: Iterable[str]) -> None:
        """Listen until the connection is lost.

        Raises:
            ConnectorException: it is.
        """
        try:
            async with await psycopg.AsyncConnection.connect(
                "", autocommit=True, **parameters(self._uri)
            ) as connection:
                for name in channels:
                    await connection.execute(SQL("LISTEN {}").format(Identifier(name)))
                await self._loop_notify(on_notification=on_notification, connection=connection)
        except psycopg.Error as error:
            log.debug("LISTEN: %s", type(error).__name__)
        self.lost.set()
        msg = "The connection that listens for new jobs was lost"
        raise ConnectorException(msg)


class Tasks(JobManager):
    """Procrastinate's manager of tasks, which insists that the end of a task is written.

    A task that has ended and stayed "doing" would be handed out to nobody for as long as its worker lives.
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
        """Hand out a task again, unless another worker has; `retry_at` is by our clock, the row by theirs."""
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
        deadline = anyio.current_time() + _PATIENCE
        while True:
            try:
                return await write()
            except ConnectorException as error:
                if isinstance(error.__cause__, RaiseException):
                    log.debug("Another worker has seen to the task")
                    return None
                if isinstance(error.__cause__, PoolClosed) or anyio.current_time() > deadline:
                    cast("Engine", self.connector).lost.set()
                    raise
            await anyio.sleep(_PAUSE)


class Again(BaseRetryStrategy):
    """Hands out again whatever did not end its order, also what was aborted when a worker left."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:
        """Return when: at once if a worker left, else later each time, up to a minute."""
        if isinstance(exception, Exception) and not isinstance(exception, ConnectorException):
            known = isinstance(exception, NotNowError | VeniceError)
            log.log(logging.INFO if known else logging.ERROR, "Job %s: %r", job.id, exception)
            return RetryDecision(retry_in={"seconds": min(60, 2**job.attempts)})
        return RetryDecision(retry_in={"seconds": 0})
