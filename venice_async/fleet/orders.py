"""The orders of a fleet, in the database of its journal: what was submitted, by whom it is watched, its end.

An order is a row from `submit` on and for good, so that its key stays a key. What it costs, and whether it
was paid for, is known by the journal alone; the row tells followers how far the job has come, and carries
questions, answers and the wish to cancel the other way. The task that hands it to a worker may be lost or
doubled: one that is missing is made again from the row, and two workers with one order meet in the journal.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self, cast

import anyio.to_thread
import psycopg
from attrs import evolve, fields, frozen
from procrastinate import App
from procrastinate.exceptions import ConnectorException
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from ..errors import BudgetExceededError, JobError, JournalError, QueueOutcomeUnknownError, UsageError
from ..io.journal import is_postgres
from ..io.journal.entries import UNFINISHED, StoreAwayError, differing, pack_ended, pack_progress
from ..io.postgres import SCHEMA, name_of, parameters, reason, unusable
from ..requests import Consent, VideoRequest
from ..results import ConsentRequest
from ..sansio.converter import converter, load_state
from ..sansio.http.secrets import Secret
from ..sansio.job.states import Failed, State, Succeeded, ticket_of
from .packing import shown, unpack_request
from .schema import LOCKS, Engine, migrate
from .tasks import Tasks

TASK: Final = "venice_async.clip"
QUEUE: Final = "clips"
ALIVE: Final = 10.0  # seconds without a heartbeat after which a worker's tasks are handed out again
_PATIENCE: Final = 10.0  # seconds to wait for a connection

_NEW: Final = (
    *("account", "key", "queue", "request", "body", "identity", "destination", "overwrite", "max_usd"),
    *("priority", "tags", "budget", "budget_usd"),
)
_INSERT: Final = (
    f"INSERT INTO orders ({', '.join(_NEW)}) VALUES ({', '.join(f'%({name})s' for name in _NEW)})"  # noqa: S608 - constants
    " ON CONFLICT (account, key) DO NOTHING RETURNING id"
)
_ANEW: Final = (
    f"UPDATE orders SET {', '.join(f'{name} = %({name})s' for name in _NEW)},"  # noqa: S608 - constants
    " created = now(), started = NULL, updated = now(), ended = NULL, kind = 'Submitted', state = NULL,"
    " entry = NULL, usd = NULL, cancel = false, question = NULL, answer = NULL WHERE id = %(id)s"
)
# What the journal still holds under a key keeps it: a person may have freed it meanwhile.
_KEPT: Final = """SELECT EXISTS (SELECT FROM jobs WHERE id = %s
    AND (kind <> 'Failed' OR stands = 1) AND kind <> 'Stopped')"""
_WORKED_ON: Final = f"""SELECT EXISTS (SELECT FROM procrastinate_jobs AS task
    JOIN procrastinate_workers AS worker ON worker.id = task.worker_id
    WHERE task.status = 'doing' AND task.task_name = '{TASK}' AND (task.args ->> 'order')::bigint = %s
    AND worker.last_heartbeat > now() - interval '{ALIVE} s')"""  # noqa: S608 - constants
_PAID: Final = f"""SELECT EXISTS (SELECT FROM jobs WHERE key = %s
    AND (kind IN ('Succeeded', {", ".join(map(repr, UNFINISHED))}) OR stands = 1))"""  # noqa: S608 - constants
_WORKERS: Final = f"""SELECT worker.id, extract(epoch FROM now() - worker.last_heartbeat)::float8,
    count(DISTINCT task.id), array_remove(array_agg(DISTINCT jobs.owner), NULL),
    count(DISTINCT jobs.id) FILTER (WHERE jobs.kind = 'Queueing')
    FROM procrastinate_workers AS worker
    LEFT JOIN procrastinate_jobs AS task ON task.worker_id = worker.id AND task.status = 'doing'
    AND task.task_name = '{TASK}'
    LEFT JOIN orders ON orders.id = (task.args ->> 'order')::bigint
    LEFT JOIN jobs ON jobs.key = orders.key AND jobs.owner IS NOT NULL
    GROUP BY worker.id ORDER BY worker.id"""  # noqa: S608 - constants
_LOST: Final = f"""SELECT id, queue, priority FROM orders WHERE ended IS NULL AND id NOT IN
    (SELECT (args ->> 'order')::bigint FROM procrastinate_jobs
    WHERE task_name = '{TASK}' AND status IN ('todo', 'doing')) ORDER BY id LIMIT 500"""  # noqa: S608 - constants
# An order that has ended keeps its body only if the outcome is unknown. It goes on once the journal has a
# ticket: from a worker that was only stopped, or from the account's ledger.
_SETTLED: Final = """UPDATE orders SET ended = NULL, updated = now() FROM jobs
    WHERE orders.ended IS NOT NULL AND orders.body IS NOT NULL AND orders.entry = jobs.id
    AND jobs.job IS NOT NULL AND jobs.kind <> 'Stopped'"""


@frozen(kw_only=True)
class Submitted:
    """Kept in the store; no worker has it yet, and nothing is paid.

    Attributes:
        request: what was asked for, large media by digest only.
    """

    request: VideoRequest


@frozen(kw_only=True)
class WaitingConsent(ConsentRequest):
    """A question that waits for a person's answer; see `Fleet.answer`.

    Attributes:
        key: the job's key.
        account: the job's account.
    """

    key: str
    account: str = ""


@frozen(kw_only=True)
class FleetWorker:
    """A worker of the fleet.

    Attributes:
        number: what tells it from others.
        jobs: how many it works on.
        silent: seconds since its last heartbeat, of which there is one a second.
        owners: how the journal calls it: one name for each account that it works for just now.
        paying: how many of its paid requests are on their way.
    """

    number: int
    jobs: int
    silent: float
    owners: tuple[str, ...] = ()
    paying: int = 0


@frozen(kw_only=True)
class Order:
    """What a worker is to do.

    Attributes:
        id: the row.
        key: what names it, among those of its account.
        account: whose key pays for it.
        request: what to generate, media as `data:` URLs.
        to: an absolute path or a URL.
        overwrite: whether what is there may be replaced.
        max_usd: the most it may cost, in USD.
        priority: those of a higher one go first.
        tags: notes for the journal.
        budget: the name of the budget that it counts against.
        budget_usd: the most that all jobs of this budget may cost, in USD.
        cancel: whether it is to be cancelled.
    """

    id: int
    key: str
    account: str
    request: VideoRequest
    to: str
    overwrite: bool
    max_usd: float | None
    priority: int
    tags: Mapping[str, str]
    budget: str | None
    budget_usd: float | None
    cancel: bool


Connection = psycopg.AsyncConnection[tuple[Any, ...]]


class Orders:
    """The orders in a database; enter it.

    Attributes:
        app: hands out tasks.

    Raises:
        UsageError: `uri` is no URI of Postgres.
    """

    def __init__(self, uri: str) -> None:
        if not is_postgres(uri):
            msg = "A fleet needs the URI of a Postgres"
            raise UsageError(msg, hint="Write postgresql://user:password@host/database")
        self.uri: Secret = Secret(uri)
        self.app: App = App(connector=Engine(self.uri))
        self.app.job_manager = Tasks(self.app.connector)
        self._pool = AsyncConnectionPool[Connection](
            "",
            kwargs={**parameters(self.uri), "autocommit": True, "prepare_threshold": None},
            configure=_configure,
            check=AsyncConnectionPool.check_connection,
            min_size=1,
            max_size=4,
            timeout=_PATIENCE,
            open=False,
        )

    def __repr__(self) -> str:
        return f"Orders({name_of(self.uri)!r})"

    async def __aenter__(self) -> Self:
        """Make the tables, or bring them up to date, and connect.

        Raises:
            JournalError: the database cannot be used.
        """
        await anyio.to_thread.run_sync(migrate, self.uri)
        async with self._explained():
            await self._pool.open(wait=True, timeout=_PATIENCE)
        await self.app.connector.open_async(self._pool)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.close()

    async def submit(self, new: Mapping[str, Any], connection: Connection | None) -> int:
        """Keep a new order and its task, unless its key is taken by the same one; return its id.

        Raises:
            UsageError: another request has the key.
        """
        async with self._transaction(connection) as session:
            number = await _one(session, _INSERT, new)
            if number is None:
                known = "SELECT id, identity, ended IS NOT NULL AND kind <> 'Succeeded', entry FROM orders"
                (number, identity, failed, entry) = await _row(
                    session, f"{known} WHERE account = %(account)s AND key = %(key)s FOR UPDATE", new
                )
                if not failed or await _one(session, _KEPT, (entry,)):
                    if names := differing(identity, new["identity"]):
                        msg = f"Key {new['key']!r} is of another request: it differs in {', '.join(names)}"
                        raise UsageError(msg, hint="Take another key for another request")
                    return int(number)
                await session.execute(_ANEW.encode(), {**new, "id": number})
            await self._defer(number, new["queue"], new["priority"], session)
            return int(number)

    async def look(self, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], State | Submitted]:
        """Return where the orders of these accounts and keys stand."""
        accounts, keys = [name[0] for name in names], [name[1] for name in names]
        found = """SELECT account, key, state, request FROM orders
            JOIN unnest(%s::text[], %s::text[]) AS wanted (account, key) USING (account, key)"""
        async with self._transaction() as session:
            rows = await (await session.execute(found.encode(), (accounts, keys))).fetchall()
        return {
            (account, key): Submitted(request=shown(request)) if state is None else load_state(state)
            for account, key, state, request in rows
        }

    async def cancel(self, account: str, key: str) -> bool | None:
        """Cancel an order that nothing was charged for; None while its worker is asked to.

        Raises:
            UsageError: there is none.
        """
        async with self._transaction() as session:
            found = """SELECT id, state, started IS NOT NULL, ended IS NOT NULL, request FROM orders
                WHERE account = %s AND key = %s FOR UPDATE"""
            row = await _row(session, found, (account, key))
            if row is None:
                raise unknown(key)
            number, text, started, ended, request = row
            state = None if text is None else load_state(text)
            if ended or (state is not None and ticket_of(state) is not None):
                return isinstance(state, Failed) and is_cancelled(state)
            if await _one(session, _WORKED_ON, (number,)):
                await session.execute("UPDATE orders SET cancel = true WHERE id = %s", (number,))
                return None
            if started and await _one(session, _PAID, (key,)):
                return False
            await self._end(session, number, Failed(error=cancelled()), None, shown(request))
            return True

    async def consents(self) -> list[WaitingConsent]:
        """Return the questions that wait for an answer, oldest first."""
        found = """SELECT account, key, question, request FROM orders
            WHERE question IS NOT NULL AND answer IS NULL AND ended IS NULL ORDER BY updated, id"""
        async with self._transaction() as session:
            rows = await (await session.execute(found.encode())).fetchall()
        return [
            WaitingConsent(
                **{
                    item.name: getattr(converter().structure(json.loads(question), ConsentRequest), item.name)
                    for item in fields(ConsentRequest)
                    if item.name != "request"
                },
                request=shown(request),
                key=key,
                account=account,
            )
            for account, key, question, request in rows
        ]

    async def answer(self, account: str, key: str, consent: Consent | None) -> bool:
        """Answer the question of an order; return whether there was one."""
        said = json.dumps({"consent": consent and converter().unstructure(consent)})
        answered = """UPDATE orders SET answer = %s
            WHERE account = %s AND key = %s AND question IS NOT NULL AND answer IS NULL AND ended IS NULL"""
        async with self._transaction() as session:
            return bool((await session.execute(answered.encode(), (said, account, key))).rowcount)

    async def workers(self) -> list[FleetWorker]:
        """Return the workers, also for a while those that were lost."""
        return [
            FleetWorker(number=number, jobs=jobs, silent=silent, owners=tuple(owners), paying=paying)
            for number, silent, jobs, owners, paying in await self.rows(_WORKERS)
        ]

    async def submitted(self) -> int:
        """Return how many orders no worker has yet."""
        waiting = "SELECT count(*) FROM orders WHERE kind = 'Submitted' AND ended IS NULL"
        return int((await self.rows(waiting))[0][0])

    async def start(self, number: int) -> Order | None:
        """Return an order to work on; None for one that has ended."""
        begun = """UPDATE orders SET started = coalesce(started, now()) WHERE id = %s AND ended IS NULL
            RETURNING id, key, account, body, destination, overwrite, max_usd, priority, tags, budget,
            budget_usd, cancel"""
        async with self._transaction() as session:
            row = await _row(session, begun, (number,))
        if row is None:
            return None
        values = dict(zip((item.name for item in fields(Order)), row, strict=True))
        values |= {"request": unpack_request(values["request"]), "tags": json.loads(values["tags"])}
        return Order(**values)

    async def reserve(self, order: Order, usd: float) -> None:
        """Take the price of an order from its budget.

        Raises:
            BudgetExceededError: all jobs of the budget would cost more than it is.
        """
        assert order.budget is not None and order.budget_usd is not None  # noqa: PT018, S101 - it has one
        async with self._transaction() as session:
            lock = "SELECT pg_advisory_xact_lock(%s, hashtext(%s))"
            await session.execute(lock.encode(), (LOCKS + 1, order.budget))
            spent = "SELECT coalesce(sum(usd::numeric), 0)::float8 FROM orders WHERE budget = %s AND id <> %s"
            before = float(await _one(session, spent, (order.budget, order.id)))
            if round(before + usd, 9) > order.budget_usd:
                msg = f"{order.key!r} would cost {usd:g} USD, and budget {order.budget!r} has"
                msg += f" {max(0.0, round(order.budget_usd - before, 9)):g} of {order.budget_usd:g} USD left"
                raise BudgetExceededError(msg, hint="Submit it again with a higher budget")
            await session.execute("UPDATE orders SET usd = %s WHERE id = %s", (usd, order.id))

    async def tell(self, states: Mapping[int, State]) -> None:
        """Tell followers how far orders have come."""
        change = """UPDATE orders SET state = said.state, kind = said.kind, updated = now()
            FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS said (id, state, kind)
            WHERE orders.id = said.id AND ended IS NULL"""
        texts = [pack_progress(state) for state in states.values()]
        kinds = [type(state).__name__ for state in states.values()]
        async with self._transaction() as session:
            await session.execute(change.encode(), ([*states], texts, kinds))

    async def ask(self, number: int, question: ConsentRequest) -> None:
        """Put a question, unless it stands there already, answered or not."""
        text = json.dumps(converter().unstructure(evolve(question, request=None)))
        put = """UPDATE orders SET question = %s, updated = now(),
            answer = CASE WHEN question = %s THEN answer END WHERE id = %s"""
        async with self._transaction() as session:
            await session.execute(put.encode(), (text, text, number))

    async def wishes(self, numbers: Collection[int]) -> list[tuple[int, bool, str | None]]:
        """Return which of the orders are to be cancelled or are answered: id, whether to cancel, answer."""
        found = """SELECT id, cancel, answer FROM orders
            WHERE id = ANY(%s) AND (cancel OR answer IS NOT NULL)"""
        async with self._transaction() as session:
            return cast(
                "list[tuple[int, bool, str | None]]",
                await (await session.execute(found.encode(), ([*numbers],))).fetchall(),
            )

    async def too_late(self, number: int) -> None:
        """Drop the wish to cancel an order, which is paid for, or may be."""
        async with self._transaction() as session:
            await session.execute("UPDATE orders SET cancel = false WHERE id = %s", (number,))

    async def end(self, order: Order, state: Succeeded | Failed, entry: str | None) -> bool:
        """Record how an order ended, and the journal's entry that keeps its key; False if it was recorded."""
        async with self._transaction() as session:
            return await self._end(session, order.id, state, entry, order.request)

    @asynccontextmanager
    async def janitor(self) -> AsyncGenerator[bool]:
        """Tell whether we may tidy up: one process at a time does. One that is killed holds up nobody."""
        async with self._transaction() as session:
            yield bool(await _one(session, f"SELECT pg_try_advisory_xact_lock({LOCKS}, 1)"))

    async def reconcile(self) -> int:
        """Make the tasks that are missing, by the orders that have not ended; return how many there were."""
        async with self._transaction() as session:
            await session.execute(_SETTLED.encode())
            lost = await (await session.execute(_LOST.encode())).fetchall()
            for number, queue, priority in lost:
                await self._defer(number, queue, priority, session)
        return len(lost)

    async def ping(self) -> None:
        """Raise `JournalError` if the database is away."""
        async with self._transaction() as session:
            await session.execute("SELECT 1")

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return what a statement finds."""
        async with self._transaction() as session:
            return await (await session.execute(sql.encode())).fetchall()

    async def _end(
        self,
        session: Connection,
        number: int,
        state: Succeeded | Failed,
        entry: str | None,
        request: VideoRequest,
    ) -> bool:
        free = isinstance(state, Failed) and state.error.charged is False
        unsettled = isinstance(state, Failed) and isinstance(state.error, QueueOutcomeUnknownError)
        change = """UPDATE orders SET state = %s, kind = %s, entry = %s, ended = now(), updated = now(),
            body = CASE WHEN %s THEN body END, request = %s, question = NULL, answer = NULL, cancel = false,
            usd = CASE WHEN %s THEN NULL ELSE usd END WHERE id = %s AND ended IS NULL"""
        known = (pack_progress(state), type(state).__name__, entry)
        values = (*known, unsettled, pack_ended(converter().unstructure(request)), free, number)
        return bool((await session.execute(change.encode(), values)).rowcount)

    async def _defer(self, number: int, queue: str, priority: int, session: Connection) -> None:
        task = self.app.configure_task(
            TASK, allow_unknown=True, queue=queue, priority=priority, connection=session
        )
        await task.defer_async(order=number)

    @asynccontextmanager
    async def _transaction(self, connection: Connection | None = None) -> AsyncGenerator[Connection]:
        """Begin a transaction of our own, or a savepoint within the caller's.

        Raises:
            JournalError: the database cannot be used.
        """
        async with self._explained():
            if connection is None:
                async with self._pool.connection() as session, session.transaction():
                    yield session
                return
            async with connection.cursor(row_factory=tuple_row) as cursor:
                # This begins the caller's transaction where none has begun: a block of psycopg would else be
                # one of its own, and commit.
                await cursor.execute(
                    "SELECT current_setting('search_path'), to_regclass('venice_async.orders')"
                )
                (path, there) = cast("tuple[str, str | None]", await cursor.fetchone())
                if there is None:
                    msg = "connection= is of another database than the fleet's"
                    raise UsageError(msg, hint="Use one database for both, or submit without connection=")
                async with connection.transaction():
                    await cursor.execute(f"SET LOCAL search_path TO {SCHEMA}".encode())
                    yield connection
                    await cursor.execute("SELECT set_config('search_path', %s, true)", (path,))

    @asynccontextmanager
    async def _explained(self) -> AsyncGenerator[None]:
        problem: JournalError
        try:
            yield
        except (PoolTimeout, PoolClosed, TooManyRequests, ConnectorException, psycopg.Error) as error:
            cause = error.__cause__ if isinstance(error, ConnectorException) and error.__cause__ else error
            passing = isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
            why = (
                "it cannot be reached" if isinstance(cause, PoolTimeout) else reason(cast("Exception", cause))
            )
            problem = unusable(self.uri, why)
            if passing:
                problem = StoreAwayError(problem.message)
        else:
            return
        raise problem


def cancelled() -> JobError:
    """Return the error of an order that was cancelled in time."""
    return JobError("The job was cancelled before it was queued", charged=False, hint="Submit it again")


def is_cancelled(state: Failed) -> bool:
    """Tell whether an order ended by being cancelled."""
    return type(state.error) is JobError and state.error.message == cancelled().message


def unknown(key: str) -> UsageError:
    """Return the error for a key of no order."""
    return UsageError(f"The fleet has no job of key {key!r}", hint="Submit it first")


async def _configure(connection: Connection) -> None:
    await connection.execute(f"SET search_path TO {SCHEMA}".encode())


async def _row(session: Connection, sql: str, values: Any = ()) -> Any:
    async with session.cursor(row_factory=tuple_row) as cursor:
        return await (await cursor.execute(sql.encode(), values)).fetchone()


async def _one(session: Connection, sql: str, values: Any = ()) -> Any:
    row = await _row(session, sql, values)
    return None if row is None else row[0]
