"""The ration in Postgres: one row for an account, exchanged with under its lock, by the database's clock."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.postgres import execute
from venice_async.io.ration.postgres import PostgresRation
from venice_async.options import Limits
from venice_async.sansio.limits.ration import Answer, Grant, UnknownVersionError, Wish

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio
SLOW = Limits(retrieve_per_minute=1, queue_per_minute=1)


@asynccontextmanager
async def ration(uri: str, account: str = "a") -> AsyncGenerator[PostgresRation]:
    store = PostgresRation(uri, account=account, limits=SLOW)
    try:
        yield store
    finally:
        await store.aclose()


async def ask(store: PostgresRation, process: str, **facts: Any) -> Grant:
    """Return what a process is granted that wants a poll."""
    facts = {"bids": {"polls": ((1e6, 0.0),)}} | facts
    return await store.exchange(Wish(process=process, limits=SLOW, price=0.03, **facts))


async def test_what_one_has_taken_the_others_of_its_account_have_not(postgres: str) -> None:
    async with ration(postgres) as first, ration(postgres) as second, ration(postgres, "b") as other:
        ((_, token),) = (await ask(first, "1")).turns
        assert () == (await ask(second, "2")).turns
        assert 1 == len((await ask(other, "3")).turns)
        await ask(first, "1", bids={}, answers=(Answer(token=token, unsent=True),))
        assert 1 == len((await ask(second, "2")).turns)


async def test_processes_that_begin_at_once_on_an_empty_table_share_one_turn(postgres: str) -> None:
    async with ration(postgres) as first, ration(postgres) as second, ration(postgres) as third:
        grants = await asyncio.gather(*(ask(one, str(n)) for n, one in enumerate((first, second, third))))
        assert 1 == sum(len(grant.turns) for grant in grants)


async def test_a_row_of_another_version_is_left_alone_and_one_that_is_lost_starts_anew(postgres: str) -> None:
    async with ration(postgres) as store:
        await ask(store, "1")
        ((value,),) = execute(postgres, "SELECT ration FROM venice_async.rations")
        newer = json.dumps(json.loads(str(value)) | {"version": 99})
        execute(postgres, f"UPDATE venice_async.rations SET ration = '{newer}'")  # noqa: S608 - our own
        with pytest.raises(UnknownVersionError, match="99"):
            await ask(store, "1")
        assert [(newer,)] == execute(postgres, "SELECT ration FROM venice_async.rations")
        execute(postgres, "DELETE FROM venice_async.rations")
        assert 1 == len((await ask(store, "1")).turns)
        assert () == (await ask(store, "1")).turns


async def test_it_is_shared_as_well_where_transactions_are_serializable_by_default(postgres: str) -> None:
    uri = f"{postgres}&options=-c%20default_transaction_isolation%3Dserializable"
    async with ration(uri) as first, ration(uri) as second:
        for _ in range(5):
            await asyncio.gather(*(ask(store, "1", bids={}) for store in (first, second) * 3))


async def test_a_session_that_was_ended_meanwhile_is_replaced_unnoticed(
    postgres: str,
) -> None:
    async with ration(postgres) as store:
        await ask(store, "1")
        execute(
            postgres,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()",
        )
        begun = time.monotonic()
        assert () == (await ask(store, "1")).turns
        assert time.monotonic() - begun < 30
