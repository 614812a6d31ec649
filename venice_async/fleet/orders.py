"""The orders of a fleet, in the database of its journal: what was submitted, who works on it, how it ended.

An order keeps its row for good, and its key with it. Only the journal knows whether it was paid for, and what
it cost. The row tells followers the state of the job; questions, answers and the wish to cancel go through it
too. The task that hands it to a worker may be lost or doubled: a missing task is made again from the row, and
of two workers with the same order one follows the other, through the journal.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self, TypeAlias, cast

import anyio.to_thread
import psycopg
from attrs import evolve, field, fields, frozen
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool

from ..errors import BudgetExceededError, JobError, QueueOutcomeUnknownError, UsageError
from ..io.journal.entries import pack_ended, pack_progress
from ..io.journal.postgres import explained
from ..io.postgres import SCHEMA, parameters
from ..requests import Consent, VideoRequest
from ..results import ConsentRequest
from ..sansio.converter import converter, request_fields, set_fields
from ..sansio.http.secrets import Secret
from ..sansio.job.states import Failed, State, Succeeded
from ..validators import is_postgres, without_password
from .engine import Engine, Tasks
from .schema import LOCKS, migrate

TASK: Final = "venice_async.clip"
QUEUE: Final = "clips"
ALIVE: Final = 10.0  # seconds without a heartbeat after which a worker's tasks are handed out again
_PATIENCE: Final = 10.0  # seconds to wait for a connection

_MISSING: Final = f"""SELECT id, queue, priority FROM orders WHERE ended IS NULL AND id NOT IN
    (SELECT (args ->> 'order')::bigint FROM procrastinate_jobs
    WHERE task_name = '{TASK}' AND status IN ('todo', 'doing')) ORDER BY id LIMIT 500"""  # noqa: S608 - constants
# An order that has ended keeps its body only if the outcome is unknown. It goes on once the journal has a
# ticket: from a worker that was only stopped, or from the account's ledger.
_REOPEN: Final = """UPDATE orders SET ended = NULL, updated = now() FROM jobs
    WHERE orders.ended IS NOT NULL AND orders.body IS NOT NULL AND orders.entry = jobs.id
    AND jobs.job IS NOT NULL AND jobs.kind <> 'Stopped'"""

Connection: TypeAlias = psycopg.AsyncConnection[tuple[Any, ...]]
Cursor: TypeAlias = psycopg.AsyncCursor[tuple[Any, ...]]

log: logging.Logger = logging.getLogger(__name__)


def pack_request(encoded: VideoRequest) -> str:
    """Return a request whose media are URLs, whole, as JSON."""
    consents = encoded.consents and converter().unstructure(encoded.consents)
    return json.dumps({"fields": request_fields(encoded), "consents": consents}, default=set_fields)


def unpack_request(text: str) -> VideoRequest:
    """Return the request that `pack_request` wrote."""
    record = json.loads(text)
    known = {item.name for item in fields(VideoRequest)}
    named = {name: value for name, value in record["fields"].items() if name in known}
    extra = {name: value for name, value in record["fields"].items() if name not in known}
    consents = record["consents"] and converter().structure(record["consents"], Consent)
    return VideoRequest(**named, extra=extra, consents=consents)


def shown(text: str) -> VideoRequest:
    """Return a request as followers see it, large media by digest only."""
    return converter().structure(json.loads(text), VideoRequest)


@frozen
class Order:
    """What a worker is to do, as columns of its row; see `Fleet.submit`.

    Attributes:
        request: what to generate, media as `data:` URLs.
        cancel: whether it is to be cancelled.
    """

    id: int
    key: str
    account: str
    request: VideoRequest = field(converter=unpack_request)
    to: str
    overwrite: bool
    max_usd: float | None
    priority: int
    tags: Mapping[str, str] = field(converter=json.loads)
    budget: str | None
    budget_usd: float | None
    cancel: bool


class Orders:
    """The orders in a database; enter it.

    Attributes:
        uri: the database.
        engine: the connector of the tasks.
        app: hands out tasks.

    Raises:
        UsageError: `uri` is no URI of Postgres.
    """

    def __init__(self, uri: str) -> None:
        if not is_postgres(uri):
            msg = "A fleet needs the URI of a Postgres"
            raise UsageError(msg, hint="Write postgresql://user:password@host/database")
        self.uri: Secret = Secret(uri)
        self.engine: Engine = Engine(self.uri)
        self.app: App = App(connector=self.engine)
        self.app.job_manager = Tasks(self.engine)

        async def configure(connection: Connection) -> None:
            isolation = "SET default_transaction_isolation TO 'read committed'"  # whatever the default
            await connection.execute(f"SET search_path TO {SCHEMA}; {isolation}".encode())

        self._pool = AsyncConnectionPool[Connection](
            "",
            kwargs={**parameters(self.uri), "autocommit": True, "prepare_threshold": None},
            configure=configure,
            check=AsyncConnectionPool.check_connection,
            min_size=1,
            max_size=4,
            timeout=_PATIENCE,
            open=False,
        )

    def __repr__(self) -> str:
        return f"Orders({without_password(self.uri.reveal())!r})"

    async def __aenter__(self) -> Self:
        """Make the tables, or bring them up to date, and connect.

        Raises:
            JournalError: the database cannot be used.
        """
        await anyio.to_thread.run_sync(migrate, self.uri)
        async with self._explained():
            await self._pool.open(wait=True, timeout=_PATIENCE)
        await self.engine.open_async(self._pool)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    async def rows(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """Return what a statement finds or returns, in a transaction of its own.

        Raises:
            JournalError: the database cannot be used.
        """
        async with self.transaction() as cursor:
            return await fetched(cursor, sql, values)

    @asynccontextmanager
    async def transaction(self, connection: Connection | None = None) -> AsyncGenerator[Cursor]:
        """Begin a transaction of our own, or a savepoint within that of the caller's connection.

        Raises:
            JournalError: the database cannot be used.
            UsageError: the connection is of another database.
        """
        async with self._explained():
            if connection is None:
                async with self._pool.connection() as ours, ours.transaction(), ours.cursor() as cursor:
                    yield cursor
                return
            async with connection.cursor(row_factory=tuple_row) as cursor:
                # This begins the caller's transaction where none has begun: a block of psycopg would else be
                # one of its own, and commit.
                ((path, there),) = await fetched(
                    cursor, "SELECT current_setting('search_path'), to_regclass('venice_async.orders')"
                )
                if there is None:
                    msg = "connection= is of another database than the fleet's"
                    raise UsageError(msg, hint="Use one database for both, or submit without connection=")
                async with connection.transaction():
                    await cursor.execute(f"SET LOCAL search_path TO {SCHEMA}".encode())
                    yield cursor
                    await cursor.execute("SELECT set_config('search_path', %s, true)", (path,))

    async def defer(self, cursor: Cursor, number: int, queue: str, priority: int) -> None:
        """Make the task of an order, within a transaction."""
        task = self.app.configure_task(
            TASK, allow_unknown=True, queue=queue, priority=priority, connection=cursor.connection
        )
        await task.defer_async(order=number)

    async def start(self, number: int) -> Order | None:
        """Return an order to work on; None for one that has ended."""
        found = await self.rows(
            """UPDATE orders SET started = coalesce(started, now()) WHERE id = %s AND ended IS NULL
            RETURNING id, key, account, body, destination, overwrite, max_usd, priority, tags, budget,
            budget_usd, cancel""",
            (number,),
        )
        return Order(*found[0]) if found else None

    async def reserve(self, order: Order, usd: float) -> None:
        """Take the price of an order from its budget.

        Raises:
            BudgetExceededError: all jobs of the budget would cost more than it is.
        """
        assert order.budget_usd is not None  # noqa: S101 - it has a budget
        async with self.transaction() as cursor:
            lock = "SELECT pg_advisory_xact_lock(%s, hashtext(%s))"
            await cursor.execute(lock, (LOCKS + 1, order.budget))
            spent = "SELECT coalesce(sum(usd::numeric), 0)::float8 FROM orders WHERE budget = %s AND id <> %s"
            ((before,),) = await fetched(cursor, spent, (order.budget, order.id))
            if round(before + usd, 9) > order.budget_usd:
                msg = f"{order.key!r} would cost {usd:g} USD, and budget {order.budget!r} has"
                msg += f" {max(0.0, round(order.budget_usd - before, 9)):g} of {order.budget_usd:g} USD left"
                raise BudgetExceededError(msg, hint="Submit it again with a higher budget")
            await cursor.execute("UPDATE orders SET usd = %s WHERE id = %s", (usd, order.id))

    async def report(self, states: Mapping[int, State]) -> None:
        """Write the states of orders, for those who follow them."""
        await self.rows(
            """UPDATE orders SET state = said.state, kind = said.kind, updated = now()
            FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS said (id, state, kind)
            WHERE orders.id = said.id AND ended IS NULL""",
            (
                [*states],
                [*map(pack_progress, states.values())],
                [type(each).__name__ for each in states.values()],
            ),
        )

    async def ask(self, number: int, question: ConsentRequest) -> None:
        """Store a question; an answer to the same question is kept."""
        text = json.dumps(converter().unstructure(evolve(question, request=None)))
        await self.rows(
            """UPDATE orders SET question = %s, updated = now(),
            answer = CASE WHEN question = %s THEN answer END WHERE id = %s""",
            (text, text, number),
        )

    async def wishes(self, numbers: Collection[int]) -> list[tuple[int, bool, str | None]]:
        """Return the id, the wish to cancel and the answer of those orders that have one of them."""
        return await self.rows(
            "SELECT id, cancel, answer FROM orders WHERE id = ANY(%s) AND (cancel OR answer IS NOT NULL)",
            ([*numbers],),
        )

    async def too_late(self, number: int) -> None:
        """Drop the wish to cancel an order, which is paid for, or may be."""
        await self.rows("UPDATE orders SET cancel = false WHERE id = %s", (number,))

    async def tidy(self) -> None:
        """Hand out again the tasks whose worker is gone, and make those that are missing.

        One process at a time does, and one that is killed holds up nobody.
        """
        manager = self.app.job_manager
        async with self.transaction() as cursor:
            ((ours,),) = await fetched(cursor, f"SELECT pg_try_advisory_xact_lock({LOCKS}, 1)")
            if not ours:
                return
            for job in await manager.get_stalled_jobs(seconds_since_heartbeat=ALIVE):
                log.warning("Job %s is handed out again: its worker is gone", job.id)
                await manager.retry_job(job)
            await cursor.execute(_REOPEN)
            missing = await fetched(cursor, _MISSING)
            for number, queue, priority in missing:
                await self.defer(cursor, number, queue, priority)
        if missing:
            log.warning("%d jobs had lost their tasks, and have new ones", len(missing))

    @asynccontextmanager
    async def _explained(self) -> AsyncGenerator[None]:
        """Translate errors of the database and its pool into `JournalError`."""
        try:
            yield
        except (ConnectorException, psycopg.Error) as error:
            cause = error.__cause__ if isinstance(error, ConnectorException) and error.__cause__ else error
            raise explained(self.uri, cast("Exception", cause)) from None


async def end(
    cursor: Cursor, number: int, state: Succeeded | Failed, request: VideoRequest, entry: str | None = None
) -> bool:
    """Record how an order ended, and the journal's entry that keeps its key; False if it was recorded."""
    free = isinstance(state, Failed) and state.error.charged is False
    unsettled = isinstance(state, Failed) and isinstance(state.error, QueueOutcomeUnknownError)
    change = """UPDATE orders SET state = %s, kind = %s, entry = %s, ended = now(), updated = now(),
        body = CASE WHEN %s THEN body END, request = %s, question = NULL, answer = NULL, cancel = false,
        usd = CASE WHEN %s THEN NULL ELSE usd END WHERE id = %s AND ended IS NULL"""
    known = (pack_progress(state), type(state).__name__, entry)
    values = (*known, unsettled, pack_ended(converter().unstructure(request)), free, number)
    return bool((await cursor.execute(change, values)).rowcount)


async def fetched(cursor: Cursor, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
    """Return the rows that a statement finds or returns; none of one that has no rows."""
    await cursor.execute(sql.encode(), values or None)
    return await cursor.fetchall() if cursor.description else []


def cancelled() -> JobError:
    """Return the error of an order that was cancelled in time."""
    return JobError("The job was cancelled before it was queued", charged=False, hint="Submit it again")


def is_cancelled(state: State) -> bool:
    """Tell whether an order ended by being cancelled."""
    error = state.error if isinstance(state, Failed) else None
    return type(error) is JobError and error.message == cancelled().message
