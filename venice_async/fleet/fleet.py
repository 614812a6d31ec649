"""What a replica does: submit, follow, answer, cancel. It needs no key of Venice."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

import psycopg
from attrs import frozen

from ..engine.arguments import checked_key, checked_name, checked_request, checked_tags, local_or_object
from ..errors import JournalError, UsageError
from ..io.uploads import encode_media, identify, prepare
from ..options import check_number
from ..requests import Consent, VideoRequest
from ..results import Video
from ..sansio.converter import converter
from ..sansio.job.states import TERMINAL, Failed, State, Succeeded
from ..sansio.object_url import is_object_url
from .orders import QUEUE, FleetWorker, Orders, Submitted, WaitingConsent, unknown
from .packing import pack_request

if TYPE_CHECKING:
    from .orders import Connection

EVERY: Final = 0.5  # seconds between two looks at the jobs that are followed
AWAY: Final = 120.0  # seconds for which those who follow a job wait for a database that is away


class Fleet:
    """The jobs that workers do, seen from anywhere: a web replica, a script, a cron job.

    Enter it with `async with`. The tables are made, or brought up to date, on entering.

    Args:
        uri: the Postgres of the workers' journal, such as `"postgresql://user@host/database"`.

    Raises:
        UsageError: it is no URI of Postgres.
    """

    def __init__(self, uri: str) -> None:
        self._orders = Orders(uri)
        self._is_open = False
        self._look: asyncio.Task[Mapping[tuple[str, str], State | Submitted]] | None = None
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)
        await self._orders.__aexit__(kind, error, trace)

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
        """Keep a job in the store, for a worker to do, and return it. Files are read now.

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
        new = {
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
        await self._opened().submit(new, cast("Connection | None", connection))
        return FleetJob(self, key, account)

    def job(self, key: str, *, account: str = "") -> FleetJob:
        """Return the job of a key, to be awaited or watched, whichever replica submitted it."""
        return FleetJob(self, checked_key(key), _checked_account(account))

    async def consents(self) -> list[WaitingConsent]:
        """Return the questions that wait for a person's answer, oldest first."""
        return await self._opened().consents()

    async def answer(self, key: str, consent: Consent | None, *, account: str = "") -> None:
        """Answer the question of a job: with what a person attests, or None for no. The first answer counts.

        Raises:
            UsageError: no question waits under this key, or it is answered already.
        """
        if consent is not None and not isinstance(cast("object", consent), Consent):
            msg = f"An answer is a Consent or None, not {type(consent).__name__}"
            raise UsageError(msg)
        if not await self._opened().answer(_checked_account(account), checked_key(key), consent):
            msg = f"No question waits for an answer under key {key!r}"
            raise UsageError(msg, hint="Look at consents()")

    async def workers(self) -> list[FleetWorker]:
        """Return the workers, idle ones included, and for a while those that were lost."""
        return await self._opened().workers()

    async def submitted(self) -> int:
        """Return how many jobs wait for a worker."""
        return await self._opened().submitted()

    async def states(self, jobs: Iterable[FleetJob]) -> list[State | Submitted | None]:
        """Return where jobs stand, by one look at the store."""
        names = [(job.account, job.key) for job in jobs]
        found = await self._opened().look(names)
        return [found.get(name) for name in names]

    async def where(self, account: str, key: str) -> State | Submitted | None:
        """Return where a job stands, by a look that all who ask just now share."""
        self._wanted.add((account, key))
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._look_soon(), name="venice_async.fleet")
        return (await asyncio.shield(self._look)).get((account, key))

    async def state_of(self, account: str, key: str) -> State | Submitted | None:
        """Return where a job stands, at once."""
        return (await self._opened().look({(account, key)})).get((account, key))

    async def cancel(self, account: str, key: str) -> bool:
        """Cancel a job; see `FleetJob.cancel`."""
        while (done := await self._opened().cancel(account, key)) is None:  # noqa: ASYNC110 - it is in a database
            await asyncio.sleep(EVERY)
        return done

    def _opened(self) -> Orders:
        if not self._is_open:
            msg = "The fleet is not open"
            raise UsageError(msg, hint="Use it inside 'async with Fleet(...) as fleet:'")
        return self._orders

    async def _look_soon(self) -> Mapping[tuple[str, str], State | Submitted]:
        await asyncio.sleep(EVERY)
        wanted, self._wanted, self._look = self._wanted, set(), None
        return await self._opened().look(wanted)


@frozen
class FleetJob:
    """A job in the store, followed from here. Await it for the clip, as often as you like.

    Attributes:
        fleet: where it is.
        key: what names it.
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
        last: State | Submitted | None = None
        async for state in self.updates():
            last = state
        if isinstance(last, Succeeded):
            return last.video
        assert isinstance(last, Failed)  # noqa: S101 - nothing else ends an order
        raise last.error

    async def updates(self) -> AsyncGenerator[State | Submitted]:
        """Yield the state now and whenever it has changed; the last one is where the job ended.

        A database that is away for less than two minutes is waited for.

        Raises:
            UsageError: nothing was submitted under this key.
            JournalError: the database cannot be used.
        """
        seen = state = await self.state()
        failed = 0.0
        while True:
            if state is None:
                raise unknown(self.key)
            if seen is state or seen != state:
                yield state
            if isinstance(state, TERMINAL):
                return
            seen = state
            try:
                state, failed = await self.fleet.where(self.account, self.key), 0.0
            except JournalError:
                failed += EVERY
                if failed > AWAY:
                    raise
                await asyncio.sleep(EVERY)

    async def state(self) -> State | Submitted | None:
        """Return where the job stands; `Submitted` before a worker has it, None for a key of no job."""
        return await self.fleet.state_of(self.account, self.key)

    async def cancel(self) -> bool:
        """Cancel the job, and return whether that was in time: nothing is charged then.

        Awaiting the job raises `JobError` from then on. One that is queued goes on, since it is paid for.

        Raises:
            UsageError: nothing was submitted under this key.
        """
        return await self.fleet.cancel(self.account, self.key)


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
