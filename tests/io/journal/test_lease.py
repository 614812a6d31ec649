"""A process that is stopped is taken for dead; when it wakes it looks before it sends anything."""

# the lease is made to run out:
# pyright: reportPrivateUsage=false

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.clients import PRIVATE, PUBLIC, client, until
from tests.test_consent import YES, needs_consent
from tests.venice import Venice, fault, json_answer
from venice_async import (
    AwaitingConsent,
    Consent,
    ConsentRequest,
    Downloading,
    JournalError,
    VeniceClient,
    VideoRequest,
)
from venice_async.engine.spec import recovery
from venice_async.io.journal.entries import LeaseLostError
from venice_async.io.journal.journal import Journal
from venice_async.io.journal.leases import LEASE
from venice_async.io.journal.record import JobRecord
from venice_async.io.journal.sqlite import SqliteDatabase
from venice_async.sansio.job.states import Queueing, Waiting

from .journals import INTENT, TICKET, WAITING, both, download, ids, job, opened

pytestmark = pytest.mark.anyio


def stopped(journal: Journal) -> threading.Event:
    """Make it as if the process had said nothing for as long as a lease lasts, until the event is set."""
    database, awake = journal.writer.database, threading.Event()
    begin = database.begin

    def begin_once_awake(*, patient: bool) -> None:
        awake.wait()
        begin(patient=patient)

    database.begin = begin_once_awake  # type: ignore[method-assign]
    if isinstance(database, SqliteDatabase):
        assert database._lease is not None
        database._lease.renewed -= LEASE + 1
        os.utime(database._lease._path, (database._lease.renewed, database._lease.renewed))
    else:
        from tests.postgres import execute  # noqa: PLC0415 - only where there is one
        from venice_async.io.journal.postgres import PostgresDatabase  # noqa: PLC0415 - see above

        assert isinstance(database, PostgresDatabase)
        database._renewed -= LEASE + 1
        execute(
            database._uri.reveal(),
            f"UPDATE venice_async.owners SET word = '-infinity' WHERE token = '{database.token}'",  # noqa: S608
        )
    return awake


@both
async def test_the_jobs_of_a_process_that_is_stopped_are_anyones_and_it_writes_too_late(
    path: Path | str,
) -> None:
    async with opened(path) as first, opened(path) as second:
        begun = await first.begin(job(WAITING))
        mine, intent = begun.id, (await first.begin(job(INTENT))).id
        assert ([], True) == (await second.adopt(), first.owns(begun))
        awake = stopped(first)
        assert [mine, intent] == [entry.id for entry in await second.adopt()]
        awake.set()
        assert not first.owns(begun)
        await first.record(mine, download(3))
        await first.record(intent, Waiting(ticket=TICKET))
        assert not first.owns(begun)
        assert [WAITING, WAITING] == [(await second.entry(name)).state for name in (mine, intent)]
        assert ([], [mine, intent]) == (await first.adopt(), await ids(second))


@both
async def test_a_process_that_wakes_keeps_what_nobody_has_taken(path: Path | str) -> None:
    async with opened(path) as first, opened(path) as second:
        kept, taken = [(await first.begin(job(Queueing(request=INTENT.request)))).id for _ in range(2)]
        awake = stopped(first)
        assert [taken] == [entry.id for entry in await second.adopt(taken)]
        awake.set()
        assert "ours" == (await first.regain(kept)).how
        assert "works" == (await first.regain(taken)).how
        assert [kept] == await ids(first)


@both
async def test_a_job_that_others_have_taken_since_it_was_adopted_is_not_taken_for_ours(
    path: Path | str,
) -> None:
    async with opened(path) as first, opened(path) as second:
        await second.release((await second.begin(job(WAITING))).id)
        (adopted,) = await first.adopt()
        awake = stopped(first)
        (taken,) = await second.adopt()
        awake.set()
        assert [] == await first.adopt()
        with pytest.raises(LeaseLostError):
            JobRecord(first, recovery(adopted, 0).entry).check()
        JobRecord(second, recovery(taken, 0).entry).check()


async def test_a_process_that_wakes_and_cannot_write_goes_on_once_it_can(path: Path) -> None:
    async with opened(path) as first, opened(path) as second:
        kept = (await first.begin(job(WAITING))).id
        execute = first.writer.database.execute
        await first.writer._in_thread(partial(execute, "PRAGMA query_only = ON"))
        stopped(first).set()
        with pytest.raises(JournalError, match="read-only"):
            await first.pending()
        await first.writer._in_thread(partial(execute, "PRAGMA query_only = OFF"))
        assert [kept] == await ids(first)
        assert ([], 2) == (await second.adopt(), len(list(path.parent.glob("*.owner"))))


@both
async def test_what_a_process_that_wakes_keeps_stays_its_own_though_its_first_call_fails(
    path: Path | str,
) -> None:
    async with opened(path) as first, opened(path) as second:
        kept = (await first.begin(job(WAITING))).id
        stopped(first).set()
        with pytest.raises(JournalError, match="no entry"):
            await first.entry("nobody")
        assert ([], [kept]) == (await second.adopt(), await ids(first))


@pytest.mark.parametrize("request_", [PUBLIC, PRIVATE])
async def test_a_job_that_was_taken_over_is_followed_to_its_clip_by_the_one_that_wakes(
    tmp_path: Path, request_: VideoRequest
) -> None:
    async with Venice() as server, client(server, journal=tmp_path / "jobs.db") as sleeper:
        async with client(server, journal=tmp_path / "jobs.db") as heir:
            order = sleeper.generate(request_, to=tmp_path / "a.mp4")
            await order.queued()
            awake = stopped(_journal(sleeper))
            (inherited,) = await heir.recover()
            awake.set()
            video = await order
            assert (video.path, video.sha256) == ((await inherited).path, (await inherited).sha256)
        assert (tmp_path / "a.mp4", 1) == (video.path, len(server.charges))
        assert [] == await sleeper.pending()


async def test_the_gets_of_a_link_stay_counted_when_a_job_comes_back_to_the_one_that_wakes(
    tmp_path: Path,
) -> None:
    absent, slow = json_answer({"error": "Not yet"}, status=404), fault(delay=25.0)
    async with (
        Venice(link=[absent, slow]) as server,
        client(server, journal=tmp_path / "jobs.db") as sleeper,
    ):
        async with client(server, journal=tmp_path / "jobs.db") as heir:
            order = sleeper.generate(PRIVATE, to=tmp_path / "a.mp4")
            await order.queued()
            awake = stopped(_journal(sleeper))
            await heir.recover()
            awake.set()
            await until(lambda: server.gets == 1 and isinstance(order.state, Downloading))
            await heir.aclose()
        await until(lambda: server.gets == 2)
        (entry,) = await sleeper.pending()
        assert isinstance(order.state, Downloading)
        assert isinstance(entry.state, Downloading)
        assert order.state.gets == entry.state.gets >= server.gets
        assert (tmp_path / "a.mp4", 1) == ((await order).path, len(server.charges))


async def test_the_answer_of_a_person_comes_too_late_where_another_process_has_asked_meanwhile(
    tmp_path: Path, path: Path | str
) -> None:
    answered = anyio.Event()

    async def ask(_: ConsentRequest) -> Consent:
        await answered.wait()
        return YES

    async with (
        Venice(queue=[needs_consent()] * 2) as server,
        client(server, journal=path, on_consent=ask) as sleeper,
        client(server, journal=path, on_consent=lambda _: YES) as heir,
    ):
        order = sleeper.generate(PUBLIC, to=tmp_path / "a.mp4", key="order")
        await anyio.sleep(20)
        assert isinstance(order.state, AwaitingConsent)
        awake = stopped(_journal(sleeper))
        assert tmp_path / "b.mp4" == (await heir.generate(PUBLIC, to=tmp_path / "b.mp4", key="order")).path
        awake.set()
        answered.set()
        assert (tmp_path / "b.mp4", 1) == ((await order).path, len(server.charges))


async def test_a_process_that_was_stopped_and_lost_nothing_goes_on(tmp_path: Path) -> None:
    async with Venice() as server, client(server, journal=tmp_path / "jobs.db") as sleeper:
        order = sleeper.generate(PUBLIC, to=tmp_path / "a.mp4")
        await order.queued()
        stopped(_journal(sleeper)).set()
        assert tmp_path / "a.mp4" == (await order).path
        assert 1 == len(server.charges)


def _journal(venice: VeniceClient) -> Journal:
    journal = venice._runtime.journal
    assert isinstance(journal, Journal)
    return journal
