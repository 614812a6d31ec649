"""The ration in the journal's file: one row for an account, whoever exchanges with it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from tests.io.journal.journals import opened
from venice_async.io.ration import sqlite
from venice_async.io.ration.sqlite import SqliteRation
from venice_async.io.ration.store import account_key
from venice_async.options import Limits
from venice_async.sansio.limits.ration import Answer, Grant, UnknownVersionError, Wish

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio
SLOW = Limits(retrieve_per_minute=1, queue_per_minute=1)


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Return a journal that is there."""
    async with opened(tmp_path / "jobs.db"):
        return tmp_path / "jobs.db"


@asynccontextmanager
async def ration(path: Path, account: str = "a") -> AsyncGenerator[SqliteRation]:
    store = SqliteRation(path, account=account, limits=SLOW)
    try:
        yield store
    finally:
        await store.aclose()


async def ask(store: SqliteRation, process: str, **facts: Any) -> Grant:
    """Return what a process is granted that wants a poll."""
    facts = {"bids": {"polls": ((1e6, 0.0),)}} | facts
    return await store.exchange(Wish(process=process, limits=SLOW, price=0.03, **facts))


def rows(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT account, ration FROM rations"))


def write(path: Path, value: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE rations SET ration = ?", [value])


async def test_what_one_has_taken_the_others_of_its_account_have_not(path: Path) -> None:
    async with ration(path) as first, ration(path) as second, ration(path, "b") as other:
        ((_, token),) = (await ask(first, "1")).turns
        assert () == (await ask(second, "2")).turns
        assert 1 == len((await ask(other, "3")).turns)
        await ask(first, "1", answers=(Answer(token=token, unsent=True),))
    assert {"a", "b"} == set(rows(path))


@pytest.mark.parametrize("size", [0, 8192])
async def test_paid_jobs_are_polled_on_by_a_ration_of_our_own_where_the_file_is_damaged(
    path: Path, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    path.write_bytes(b"x" * size)
    async with ration(path) as store:
        assert 1 == len((await ask(store, "1")).turns)
        assert () == (await ask(store, "1")).turns
    assert 1 == caplog.text.count("The journal is damaged")


async def test_paid_jobs_are_still_polled_while_the_file_cannot_be_written(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with ration(path) as store, ration(path) as other:
        ((_, token),) = (await ask(store, "1")).turns
        connection = store._connection
        assert connection is not None
        connection.execute("PRAGMA query_only = ON")
        assert 1 == len((await ask(store, "1")).turns)
        assert () == (await ask(store, "1")).turns
        assert 1 == caplog.text.count("cannot be written to now")
        connection.execute("PRAGMA query_only = OFF")
        await ask(store, "1", bids={}, answers=(Answer(token=token, unsent=True),))
        assert 1 == len((await ask(other, "2")).turns)


async def test_a_row_stays_when_all_have_left_and_time_goes_on_for_it(path: Path) -> None:
    async with ration(path) as store:
        await ask(store, "1")
    await anyio.sleep(80)  # the dead turn counts for 15 and 60 s
    async with ration(path) as store:
        assert () == (await ask(store, "2")).turns
        await anyio.sleep(61)
        assert 1 == len((await ask(store, "2")).turns)


@pytest.mark.parametrize("value", ["", "{}", '{"version": 1, "ration": 5}', "\0"])
async def test_a_row_that_is_damaged_is_as_a_new_one(path: Path, value: str) -> None:
    async with ration(path) as store:
        await ask(store, "1")
        write(path, value)
        assert 1 == len((await ask(store, "1")).turns)
        assert () == (await ask(store, "1")).turns


async def test_a_row_of_another_version_is_left_alone_and_nothing_is_granted(path: Path) -> None:
    async with ration(path) as store:
        await ask(store, "1")
        (value,) = rows(path).values()
        newer = json.dumps(json.loads(value) | {"version": 99})
        write(path, newer)
        with pytest.raises(UnknownVersionError, match="99"):
            await ask(store, "1")
        assert [newer] == [*rows(path).values()]
        write(path, value)
        assert () == (await ask(store, "1")).turns


async def test_a_clock_that_starts_anew_with_the_machine_makes_the_row_a_new_one(path: Path) -> None:
    async with ration(path) as store:
        await ask(store, "1")
        (value,) = rows(path).values()
        saved = json.loads(value)
        saved["ration"]["latest"] += 1e6
        write(path, json.dumps(saved))
        assert 1 == len((await ask(store, "1")).turns)
        (value,) = rows(path).values()
        assert json.loads(value)["ration"]["latest"] == pytest.approx(anyio.current_time(), abs=5)


async def test_a_file_that_is_removed_serves_those_who_have_it_open(path: Path) -> None:
    async with ration(path) as first, ration(path) as second:
        ((_, token),) = (await ask(first, "1")).turns
        assert () == (await ask(second, "2")).turns
        path.unlink()
        await ask(first, "1", bids={}, answers=(Answer(token=token, unsent=True),))
        assert 1 == len((await ask(second, "2")).turns)
        async with ration(path) as late:
            with pytest.raises(sqlite3.OperationalError, match="unable to open"):
                await ask(late, "3")


async def test_while_another_program_keeps_the_file_locked_there_is_an_error_and_then_a_turn(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_PATIENCE", 0.01)
    async with ration(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                await ask(store, "1")
        assert 1 == len((await ask(store, "1")).turns)


def test_the_name_of_a_row_tells_accounts_apart_and_not_their_keys() -> None:
    urls = ("https://a.example", "https://b.example")
    names = {account_key(url, secret) for url in urls for secret in ("secret", "other")}
    assert 4 == len(names)
    assert all("secret" not in name for name in names)
    assert account_key(urls[0], "secret") in names
