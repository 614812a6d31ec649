"""The journal in Postgres: links that a dump does not show, a database that goes and comes back."""

# sessions are ended from within:
# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import closing
from typing import Any, Self
from urllib.parse import urlsplit

import anyio
import psycopg
import pytest
from attrs import evolve

from tests.postgres import dump, execute
from venice_async.errors import JournalError, UsageError
from venice_async.io.journal import postgres as module
from venice_async.io.journal.entries import StoreAwayError
from venice_async.io.journal.journal import Journal
from venice_async.io.postgres import connect
from venice_async.sansio.http.secrets import Secret
from venice_async.sansio.job.states import Queueing, Succeeded, Waiting
from venice_async.validators import without_password

from .journals import INTENT, MARK, REQUEST, TICKET, VIDEO, WAITING, StoppedClock, download, ids, job, opened

pytestmark = pytest.mark.anyio
OURS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname ="


async def journal_of(uri: str, key: str | None = "a key", account: str = "a") -> Journal:
    secret = None if key is None else Secret(key)
    return await Journal.open(uri, clock=StoppedClock(), account=account, secret=secret)


async def test_a_link_is_in_no_dump_and_read_by_whoever_has_the_key(postgres: str) -> None:
    async with opened(postgres) as journal:
        entry_id = (await journal.begin(job(INTENT, request=REQUEST))).id
        for state in (WAITING, download(1)):
            await journal.record(entry_id, state)
            assert MARK not in dump(postgres)
        assert b"gAAAA" in dump(postgres)
    async with opened(postgres) as journal:
        assert [download(1)] == [entry.state for entry in await journal.adopt()]
        await journal.record(entry_id, Succeeded(video=VIDEO))
        assert b"gAAAA" not in dump(postgres)


async def test_with_another_key_a_job_is_left_alone_and_without_one_it_is_shown_without_its_link(
    postgres: str,
) -> None:
    async with opened(postgres) as journal:
        entry_id = (await journal.begin(job(WAITING))).id
    other = await journal_of(postgres, "another key")
    assert ([], 1, []) == (await other.pending(), (await other.pending()).held, await other.adopt())
    await other.aclose()
    reader = await journal_of(postgres, None, account="")
    (shown,) = await reader.pending()
    assert shown.ticket is not None
    assert (entry_id, None) == (shown.id, shown.ticket.download_url)
    await reader.aclose()


async def test_under_another_key_of_the_account_a_job_with_a_link_is_followed_but_never_taken_over(
    postgres: str,
) -> None:
    other = await journal_of(postgres, "another key")
    async with opened(postgres) as journal:
        await journal.begin(job(WAITING, key="k"))
        found = await other.attach("k", None)
        assert found is not None
        assert ("works", None) == (found.how, found.entry.ticket and found.entry.ticket.download_url)
    with pytest.raises(JournalError, match=r"only another API key.*Run once with the API key") as raised:
        await other.attach("k", None)
    assert (True, TICKET.queue_id) == (
        raised.value.charged,
        raised.value.ticket and raised.value.ticket.queue_id,
    )
    await other.begin(job(Waiting(ticket=evolve(TICKET, download_url=None))))
    await other.aclose()
    async with opened(postgres) as journal:
        assert WAITING in [entry.state for entry in await journal.adopt()]


async def test_the_jobs_and_keys_of_another_account_are_its_own(postgres: str) -> None:
    async with opened(postgres) as journal:
        await journal.begin(job(INTENT, key="k"))
        other = await journal_of(postgres, account="b")
        assert None is await other.find("k")
        assert ([], 0) == (await other.pending(), (await other.pending()).held)
        await other.begin(job(INTENT, key="k"))
        await other.aclose()


async def test_a_session_that_was_lost_comes_back_under_a_new_owner_with_what_nobody_has_taken(
    postgres: str,
) -> None:
    async with opened(postgres) as journal:
        begun = await journal.begin(job(WAITING))
        kept, name = begun.id, urlsplit(postgres).path.lstrip("/")
        execute(postgres, f"{OURS} '{name}'")
        await journal.record(kept, download(1))  # is not lost, whenever it is written
        while True:
            try:
                assert [kept] == await ids(journal)
                break
            except StoreAwayError:
                await anyio.sleep(1)
        assert (False, download(1)) == (journal.owns(begun), (await journal.entry(kept)).state)
        async with opened(postgres) as other:
            assert [] == await other.adopt()


async def test_what_the_database_missed_is_written_by_closing_once_it_is_back(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise psycopg.OperationalError

    monkeypatch.setattr(module, "_PAUSE", 0)
    async with opened(postgres) as journal:
        intent = (await journal.begin(job(INTENT))).id
        monkeypatch.setattr(module, "connect", away)
        name = urlsplit(postgres).path.lstrip("/")
        execute(postgres, f"{OURS} '{name}'")
        with pytest.raises(StoreAwayError):
            await journal.record(intent, WAITING)
        monkeypatch.setattr(module, "connect", connect)
    async with opened(postgres) as journal:
        assert [WAITING] == [entry.state for entry in await journal.adopt()]


async def test_a_lock_that_others_held_for_too_long_spoils_no_later_call(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(uri: Secret, **settings: Any) -> Any:
        return connect(uri, **{**settings, "lock_timeout": 50})

    monkeypatch.setattr(module, "connect", impatient)
    async with opened(postgres) as journal:
        lease = journal.writer.database.lease
        with closing(psycopg.connect(postgres)) as other:
            other.execute(f"SELECT pg_advisory_xact_lock({module._LOCKS}, 0)".encode())
            with pytest.raises(StoreAwayError):
                await journal.pending()
        assert ([], lease) == (await journal.pending(), journal.writer.database.lease)


async def test_what_an_intent_says_twice_after_a_lost_answer_stands_there_once(postgres: str) -> None:
    async with opened(postgres) as journal:
        database = journal.writer.database
        execute = database.execute

        def lose_the_answer_to_a_commit(sql: str, *parameters: Any) -> Any:
            found = execute(sql, *parameters)
            if sql != "COMMIT":
                return found
            database.execute = execute  # type: ignore[method-assign]
            msg = "The answer is lost"
            raise StoreAwayError(msg)

        database.execute = lose_the_answer_to_a_commit  # type: ignore[method-assign]
        with pytest.raises(StoreAwayError):
            await journal.begin(job(INTENT, key="k"))
        entry = await journal.begin(job(INTENT, key="k"))
        assert [entry.id] == await ids(journal)


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://someone:S1GN4TUR3@127.0.0.1:1/db",
        "postgres://someone:S1GN4TUR3%zz@127.0.0.1/db",
        "postgresql:///db?host=/nowhere&password=S1GN4TUR3",
        "postgresql://someone:S1GN4TUR3@127.0.0.1:1/db?nonsense=1",
        "postgresql://someone:x@S1GN4TUR3@127.0.0.1:1/db",
        "postgresql://someone:x/S1GN4TUR3@127.0.0.1:1/db",
        "postgres://postgresql://someone:S1GN4TUR3@127.0.0.1:1/db",
    ],
)
async def test_a_database_that_cannot_be_reached_is_an_error_without_its_password(
    uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises((JournalError, UsageError)) as caught:
        await journal_of(uri)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    ours = "".join(
        line for line in shown.splitlines() if "tests/io/journal" not in line and "uri = " not in line
    )
    assert "S1GN4TUR3" not in str(caught.value) + caplog.text
    assert "S1GN4TUR3" not in repr(caught.value.__context__) + repr(caught.value.__cause__)
    assert ours


def test_an_address_is_shown_without_its_password() -> None:
    assert "postgresql://me@host:5/db" == without_password("postgresql://me:S1GN4@TUR3@host:5/db")
    assert "postgresql://me@host:5/db" == without_password("postgresql://me:S1GN4/TUR3@host:5/db")
    assert "postgresql://me@host:5/db" == without_password("postgresql://me:S1GN4?TUR3@host:5/db")
    assert "postgresql://host:5/db?user=a@b" == without_password("postgresql://host:5/db?user=a@b")
    assert "postgres:///db?host=/a&password=..." == without_password(
        "postgres:///db?host=/a&password=S1GN4TUR3"
    )
    assert "a:b@c/jobs.db" == without_password("a:b@c/jobs.db")


@pytest.mark.parametrize("name", ["password", "sslpassword", "pass%77ord"])
def test_a_password_among_the_settings_of_an_address_is_not_shown(name: str) -> None:
    shown = without_password(f"postgresql://host/db?{name}=S1GN4TUR3&sslmode=require")
    assert f"postgresql://host/db?{name}=...&sslmode=require" == shown


async def test_a_pooler_that_gives_each_transaction_another_session_is_refused(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = [connect(Secret(postgres))]

    class Pooled:
        """Shares one session among all connections, as a pooler does between their transactions."""

        def __getattr__(self, name: str) -> object:
            return getattr(sessions[0], name)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def close(self) -> None:
            pass

    monkeypatch.setattr(module, "connect", lambda *_, **__: Pooled())
    with pytest.raises(JournalError, match=r"transaction mode.*session mode"):
        await journal_of(postgres)
    sessions[0].close()


async def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "venice_async.io.journal.postgres")
    monkeypatch.setitem(sys.modules, "venice_async.io.postgres", None)
    with pytest.raises(JournalError, match=r"pip install 'venice-async\[postgres\]'"):
        await journal_of("postgresql:///db")


async def test_a_newer_database_is_left_alone(postgres: str) -> None:
    execute(postgres, "UPDATE venice_async.meta SET version = 99")
    try:
        with pytest.raises(JournalError, match=r"newer than 1.*Update this library"):
            await journal_of(postgres)
    finally:
        execute(postgres, "UPDATE venice_async.meta SET version = 1")


async def test_several_processes_may_make_the_tables_at_once(postgres: str) -> None:
    execute(postgres, "DROP SCHEMA venice_async CASCADE")

    async def use(number: int) -> None:
        async with opened(postgres) as journal:
            await journal.begin(job(Queueing(request=REQUEST), key=str(number)))

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(use, number)
    async with opened(postgres) as journal:
        assert 4 == len(await journal.pending())
