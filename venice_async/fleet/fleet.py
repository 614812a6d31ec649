"""What a replica does: submit, follow, answer, cancel. It needs no key of Venice."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import AsyncGenerator, Collection, Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, cast

import psycopg
from attrs import field, frozen

from ..engine.spec import checked_key, checked_name, checked_request, checked_tags, local_or_object
from ..errors import JournalError, UsageError
from ..io.journal.entries import UNFINISHED, differing
from ..io.uploads import encode_media, identify, prepare
from ..options import check_number
from ..requests import Consent, VideoRequest
from ..results import ConsentRequest, Video
from ..sansio.converter import converter, load_state
from ..sansio.job.states import TERMINAL, Failed, State, Succeeded, ticket_of
from ..sansio.naming import is_object_url
from .orders import ALIVE, QUEUE, TASK, Orders, cancelled, end, fetched, is_cancelled, pack_request, shown

EVERY: Final = 0.5  # seconds between two looks at the jobs that are followed
AWAY: Final = 120.0  # seconds for which `FleetJob.updates` waits for a database that is away

# A person may have freed the key in the journal meanwhile.
_HOLDS_KEY: Final = """SELECT EXISTS (SELECT FROM jobs WHERE id = %s
    AND (kind <> 'Failed' OR stands = 1) AND kind <> 'Stopped')"""
_WORKED_ON: Final = f"""SELECT EXISTS (SELECT FROM procrastinate_jobs AS task
    JOIN procrastinate_workers AS worker ON worker.id = task.worker_id
    WHERE task.status = 'doing' AND task.task_name = '{TASK}' AND (task.args ->> 'order')::bigint = %s
    AND worker.last_heartbeat > now() - interval '{ALIVE} s')"""  # noqa: S608 - constants
_PAID: Final = f"""SELECT EXISTS (SELECT FROM jobs WHERE key = %s
    AND (kind IN ('Succeeded', {", ".join(map(repr, UNFINISHED))}) OR stands = 1))"""  # noqa: S608 - constants
_WORKERS: Final = f"""SELECT worker.id, count(DISTINCT task.id),
    extract(epoch FROM now() - worker.last_heartbeat)::float8,
    array_remove(array_agg(DISTINCT jobs.owner), NULL),
    count(DISTINCT jobs.id) FILTER (WHERE jobs.kind = 'Queueing')
    FROM procrastinate_workers AS worker
    LEFT JOIN procrastinate_jobs AS task ON task.worker_id = worker.id AND task.status = 'doing'
    AND task.task_name = '{TASK}'
    LEFT JOIN orders ON orders.id = (task.args ->> 'order')::bigint
    LEFT JOIN jobs ON jobs.key = orders.key AND jobs.owner IS NOT NULL
    GROUP BY worker.id ORDER BY worker.id"""  # noqa: S608 - constants


@frozen(kw_only=True)
class Submitted:
    """Stored; no worker has it yet, and nothing is paid.

    Attributes:
        request: what was asked for, large media by digest only.
    """

    request: VideoRequest


FleetState: TypeAlias = State | Submitted


@frozen(kw_only=True)
class WaitingConsent(ConsentRequest):
    """A question that waits for a person's answer; see `Fleet.answer`.

    Attributes:
        key: the job's key.
        account: the job's account.
    """

    key: str
    account: str = ""


@frozen
class FleetWorker:
    """A worker of the fleet.

    Attributes:
        number: identifies it.
        jobs: how many it works on.
        silent: seconds since its last heartbeat, of which there is one a second.
        owners: its names in the journal: one for each account that it works for at this moment.
        paying: how many of its paid requests are on their way.
    """

    number: int
    jobs: int
    silent: float
    owners: tuple[str, ...] = field(default=(), converter=tuple)
    paying: int = 0


class Fleet:
    """Submits jobs for workers, and follows them, from anywhere: a web replica, a script, a cron job.

    Enter it with `async with`. The tables are made, or brought up to date, on entering.

    Args:
        uri: the Postgres of the workers' journal, such as `"postgresql://user@host/database"`.

    Raises:
        UsageError: it is no URI of Postgres.
    """

    def __init__(self, uri: str) -> None:
        self._orders = Orders(uri)
        self._is_open = False
        self._look: asyncio.Task[Mapping[tuple[str, str], FleetState]] | None = None
        self._wanted: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"<Fleet of {self._orders!r}>"

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            JournalError: the database cannot be used.
        """
        await self._orders.__aenter__()
        self._is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_open = False
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)
        await self._orders.__aexit__()

    async def submit(
        self,
        request: VideoRequest,
        *,
        key: str,
        to: str | os.PathLike[str],
        max_usd: float | None = None,
        priority: int = 0,
        tags: Mapping[str, str] | None = None,
        overwrite: bool = False,
        budget: tuple[str, float] | None = None,
        account: str = "",
        queue: str = QUEUE,
        connection: psycopg.AsyncConnection[Any] | psycopg.AsyncCursor[Any] | None = None,
    ) -> FleetJob:
        """Store a job for the workers, and return it. Files are read now.

        The same request under the same key is the same job, however often it is submitted. A key is free
        again if nothing was charged: the job was cancelled, refused, above its price or without consent.

        Args:
            request: what to generate.
            key: names the order for life, such as `"order-4711"`.
            to: an absolute path on the workers' machines, or a URL such as `s3://bucket/clips/`.
            max_usd: the most it may cost, in USD.
            priority: jobs of a higher one are done first.
            tags: notes for the journal.
            overwrite: whether what is at `to` may be replaced.
            budget: a name, and the most that all jobs of this name may cost together, in USD.
            account: whose key pays, by the name that workers know it by.
            queue: what workers choose by with `--queues`.
            connection: a connection of `psycopg`, or its cursor, in whose transaction the job is submitted.

        Raises:
            UsageError: an argument makes no sense, or the key is of another request.
            InvalidRequestError: a file cannot be read, or the request is above 35 MiB.
            JournalError: the database cannot be used.
        """
        encoded = await encode_media(checked_request(request))
        await prepare(encoded)
        if isinstance(connection, psycopg.AsyncCursor):
            connection = connection.connection
        if connection is not None and not isinstance(cast("object", connection), psycopg.AsyncConnection):
            msg = f"connection= takes an AsyncConnection of psycopg, not {type(connection).__name__}"
            raise UsageError(msg)
        if max_usd is not None:
            check_number("max_usd", max_usd, low=0)
        check_number("priority", priority, low=-(2**31), high=2**31 - 1, whole=True)
        if not isinstance(cast("object", overwrite), bool):
            msg = f"overwrite must be True or False, not {overwrite!r}"
            raise UsageError(msg)
        name, most = _checked_budget(budget)
        new: dict[str, Any] = {
            "account": _checked_account(account),
            "key": checked_key(key),
            "queue": checked_name(queue, "queue"),
            "request": json.dumps(converter().unstructure(request)),
            "body": pack_request(encoded),
            "identity": await identify(encoded),
            "destination": _checked_place(to),
            "overwrite": overwrite,
            "max_usd": max_usd,
            "priority": priority,
            "tags": json.dumps({} if tags is None else checked_tags(tags)),
            "budget": name,
            "budget_usd": most,
        }
        names, values = ", ".join(new), ", ".join(f"%({name})s" for name in new)
        orders = self._opened()
        async with orders.transaction(cast("Any", connection)) as cursor:
            insert = f"INSERT INTO orders ({names}) VALUES ({values})"  # noqa: S608 - constants
            found = await fetched(cursor, f"{insert} ON CONFLICT (account, key) DO NOTHING RETURNING id", new)
            if not found:
                known = """SELECT id, identity, ended IS NOT NULL AND kind <> 'Succeeded', entry FROM orders
                    WHERE account = %(account)s AND key = %(key)s FOR UPDATE"""
                ((number, identity, failed, entry),) = await fetched(cursor, known, new)
                ((holds,),) = await fetched(cursor, _HOLDS_KEY, (entry,))
                if holds or not failed:
                    if differs := differing(identity, new["identity"]):
                        msg = f"Key {key!r} is of another request: it differs in {', '.join(differs)}"
                        raise UsageError(msg, hint="Take another key for another request")
                    return FleetJob(self, key, account)
                anew = f"""UPDATE orders SET ({names}) = ROW ({values}), created = now(), started = NULL,
                    updated = now(), ended = NULL, kind = 'Submitted', state = NULL, entry = NULL, usd = NULL,
                    cancel = false, question = NULL, answer = NULL WHERE id = %(id)s RETURNING id"""  # noqa: S608 - constants
                found = await fetched(cursor, anew, {**new, "id": number})
            await orders.defer(cursor, found[0][0], queue, priority)
        return FleetJob(self, key, account)

    def job(self, key: str, *, account: str = "") -> FleetJob:
        """Return the job of a key, to be awaited or watched, whichever replica submitted it."""
        return FleetJob(self, checked_key(key), _checked_account(account))

    async def consents(self) -> list[WaitingConsent]:
        """Return the questions that wait for a person's answer, oldest first."""
        found = """SELECT account, key, question, request FROM orders
            WHERE question IS NOT NULL AND answer IS NULL AND ended IS NULL ORDER BY updated, id"""
        return [
            converter().structure(
                {**json.loads(question), "request": json.loads(request), "account": account, "key": key},
                WaitingConsent,
            )
            for account, key, question, request in await self._opened().rows(found)
        ]

    async def answer(self, key: str, consent: Consent | None, *, account: str = "") -> None:
        """Answer the question of a job: with what a person attests, or None for no. The first answer counts.

        Raises:
            UsageError: no question waits under this key, or it is answered already.
        """
        if consent is not None and not isinstance(cast("object", consent), Consent):
            msg = f"An answer is a Consent or None, not {type(consent).__name__}"
            raise UsageError(msg)
        said = json.dumps({"consent": consent and converter().unstructure(consent)})
        answered = """UPDATE orders SET answer = %s WHERE account = %s AND key = %s
            AND question IS NOT NULL AND answer IS NULL AND ended IS NULL RETURNING id"""
        if not await self._opened().rows(answered, (said, _checked_account(account), checked_key(key))):
            msg = f"No question waits for an answer under key {key!r}"
            raise UsageError(msg, hint="Look at consents()")

    async def workers(self) -> list[FleetWorker]:
        """Return the workers, idle ones included, and for a while those that were lost."""
        return [FleetWorker(*row) for row in await self._opened().rows(_WORKERS)]

    async def submitted(self) -> int:
        """Return how many jobs wait for a worker."""
        waiting = "SELECT count(*) FROM orders WHERE kind = 'Submitted' AND ended IS NULL"
        ((count,),) = await self._opened().rows(waiting)
        return int(count)

    async def states(self, jobs: Iterable[FleetJob]) -> list[FleetState | None]:
        """Return the states of jobs, by one query."""
        names = [(job.account, job.key) for job in jobs]
        found = await self._states_of(names)
        return [found.get(name) for name in names]

    async def where(self, job: FleetJob) -> FleetState | None:
        """Return the state of a job, by a query that is shared with all followers of this process."""

        async def look_soon() -> Mapping[tuple[str, str], FleetState]:
            await asyncio.sleep(EVERY)
            wanted, self._wanted, self._look = self._wanted, set(), None
            return await self._states_of(wanted)

        self._wanted.add((job.account, job.key))
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(look_soon(), name="venice_async.fleet")
        return (await asyncio.shield(self._look)).get((job.account, job.key))

    async def cancel(self, job: FleetJob) -> bool:
        """Cancel a job; see `FleetJob.cancel`."""
        row = """SELECT id, state, started IS NOT NULL, ended IS NOT NULL, request FROM orders
            WHERE account = %s AND key = %s FOR UPDATE"""
        while True:
            async with self._opened().transaction() as cursor:
                found = await fetched(cursor, row, (job.account, job.key))
                if not found:
                    raise _unknown(job.key)
                ((number, text, started, ended, request),) = found
                state = None if text is None else load_state(text)
                if ended or (state is not None and ticket_of(state) is not None):
                    return state is not None and is_cancelled(state)
                ((worked_on,),) = await fetched(cursor, _WORKED_ON, (number,))
                ((paid,),) = await fetched(cursor, _PAID, (job.key,))
                if not worked_on:
                    if started and paid:
                        return False
                    return await end(cursor, number, Failed(error=cancelled()), shown(request))
                await cursor.execute("UPDATE orders SET cancel = true WHERE id = %s", (number,))
            await asyncio.sleep(EVERY)  # its worker is asked

    def _opened(self) -> Orders:
        if not self._is_open:
            msg = "The fleet is not open"
            raise UsageError(msg, hint="Use it inside 'async with Fleet(...) as fleet:'")
        return self._orders

    async def _states_of(self, names: Collection[tuple[str, str]]) -> dict[tuple[str, str], FleetState]:
        found = """SELECT account, key, state, request FROM orders
            JOIN unnest(%s::text[], %s::text[]) AS wanted (account, key) USING (account, key)"""
        rows = await self._opened().rows(found, ([name[0] for name in names], [name[1] for name in names]))
        return {
            (account, key): Submitted(request=shown(request)) if state is None else load_state(state)
            for account, key, state, request in rows
        }


@frozen
class FleetJob:
    """A job in the store. Await it for the clip, as often as you like.

    Attributes:
        fleet: its fleet.
        key: its key.
        account: whose key pays for it; empty for that of the workers.
    """

    fleet: Fleet
    key: str
    account: str = ""

    def __await__(self) -> Generator[Any, Any, Video]:
        """Wait for the clip; see `wait`."""
        return self.wait().__await__()

    async def wait(self) -> Video:
        """Wait for the clip and return it. Cancelling this call does not cancel the job.

        Raises:
            VeniceError: there is no clip; a `JobError` for one that was cancelled before it was queued.
            UsageError: nothing was submitted under this key.
        """
        last: FleetState | None = None
        async for state in self.updates():
            last = state
        if isinstance(last, Succeeded):
            return last.video
        assert isinstance(last, Failed)  # noqa: S101 - nothing else ends an order
        raise last.error

    async def updates(self) -> AsyncGenerator[FleetState]:
        """Yield the state now and whenever it has changed; the last one is where the job ended.

        A database that is away for less than two minutes is waited for.

        Raises:
            UsageError: nothing was submitted under this key.
            JournalError: the database cannot be used.
        """
        seen, state, away = None, await self.state(), 0.0
        while True:
            if state is None:
                raise _unknown(self.key)
            if state != seen:
                yield state
            if isinstance(state, TERMINAL):
                return
            seen = state
            try:
                state, away = await self.fleet.where(self), 0.0
            except JournalError:
                away += EVERY
                if away > AWAY:
                    raise
                await asyncio.sleep(EVERY)

    async def state(self) -> FleetState | None:
        """Return the state of the job; `Submitted` before a worker has it, None if the key is not known."""
        return (await self.fleet.states([self]))[0]

    async def cancel(self) -> bool:
        """Cancel the job, and return whether that was in time: nothing is charged then.

        Awaiting the job raises `JobError` from then on. One that is queued goes on, since it is paid for.

        Raises:
            UsageError: nothing was submitted under this key.
        """
        return await self.fleet.cancel(self)


def _unknown(key: str) -> UsageError:
    return UsageError(f"The fleet has no job of key {key!r}", hint="Submit it first")


def _checked_account(account: object) -> str:
    return (
        ""
        if account == ""
        else checked_name(account, "account", hint="Leave it out for the key of the workers")
    )


def _checked_place(to: object) -> str:
    if isinstance(to, str | os.PathLike):
        place = os.fspath(cast("str | os.PathLike[str]", to))
        if not isinstance(cast("object", place), str) or not place.isprintable():
            msg = f"to= must be text that every machine reads alike, not {place!r}"
            raise UsageError(msg, hint="Pass a path or a URL without control characters and stray bytes")
        if is_object_url(place) or Path(place).is_absolute():
            local_or_object(cast("str | os.PathLike[str]", to))
            return place
    msg = f"to= must be an absolute path or a URL, not {to!r}: workers have other folders"
    raise UsageError(msg, hint="Pass to='/srv/clips/a.mp4' or to='s3://bucket/clips/'")


def _checked_budget(budget: object) -> tuple[str | None, float | None]:
    match budget:
        case None:
            return None, None
        case (str() as name, int() | float() as usd):
            check_number("budget", usd, low=0, high=math.inf)
            return checked_name(name, "the name of the budget"), float(usd)
        case _:
            msg = f"budget= takes a name and a sum in USD, not {budget!r}"
            raise UsageError(msg, hint="Pass budget=('campaign', 100.0)")
