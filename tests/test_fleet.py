"""A fleet: submitted anywhere, done by workers, followed from anywhere; any of them may go at any time."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
from anyio.abc import Process
from psycopg.conninfo import conninfo_to_dict

from tests.clients import until
from tests.postgres import execute
from venice_async import (
    AuthenticationError,
    BudgetExceededError,
    ConnectError,
    Consent,
    ConsentDeclinedError,
    DownloadError,
    Failed,
    JobError,
    JournalError,
    Limits,
    Media,
    Polling,
    QueueOutcomeUnknownError,
    State,
    Succeeded,
    UsageError,
    VeniceClient,
    Video,
    VideoJob,
    VideoRequest,
    Waiting,
)
from venice_async.sandbox import Fault, Sandbox, Scenario, tiny_clip

pytest.importorskip("procrastinate")

from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Status

from venice_async.fleet import RESTART, Fleet, Submitted, Worker
from venice_async.fleet.engine import NotNowError
from venice_async.fleet.metrics import Totals, exposition
from venice_async.fleet.orders import Orders
from venice_async.fleet.schema import migrate
from venice_async.io.journal.entries import StoreAwayError
from venice_async.io.journal.journal import Journal
from venice_async.sansio.http.secrets import Secret

PATIENCE = 120.0  # seconds until a test gives up what never comes; how long a machine takes is no matter

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),  # databases do not live in virtual time
    pytest.mark.patience(PATIENCE),
]

GENEROUS = Limits(queue_per_minute=60_000, retrieve_per_minute=120_000)
EAGER = Polling(price=1e-6, min_gap=0.05, max_gap=0.2)
CLIP = tiny_clip(50_000)
KEY = "order-4711"


def asked(prompt: str = "A gondola at dawn", **fields: Any) -> VideoRequest:
    return VideoRequest(model="wan-2-7-text-to-video", prompt=prompt, duration="5s", **fields)


@pytest.fixture
async def sandbox() -> AsyncGenerator[Sandbox]:
    async with Sandbox(speed=600, clips=CLIP) as running:
        yield running


@pytest.fixture
def uri(postgres: str) -> str:
    """Return a database with the tables of a fleet, and nothing in them."""
    migrate(Secret(postgres))
    return postgres


def worker(uri: str, sandbox: Sandbox, **options: Any) -> Worker:
    known: dict[str, Any] = {"keys": {"": sandbox.api_key}, "limits": GENEROUS, "polling": EAGER}
    return Worker(uri, base_url=sandbox.base_url, **(known | options))


@asynccontextmanager
async def working(uri: str, sandbox: Sandbox, **options: Any) -> AsyncGenerator[Worker]:
    """Run a worker within the block, and fail the block if the worker ends or logs an error meanwhile."""
    one = worker(uri, sandbox, **options)
    errors: asyncio.Queue[str] = asyncio.Queue()
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: errors.put_nowait(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("venice_async.fleet")

    async def watch() -> None:
        raise AssertionError(await errors.get())

    async def run() -> None:
        if (code := await one.run()) or not leaving:
            errors.put_nowait(f"The worker has ended with {code}")

    leaving = False
    logger.addHandler(handler)
    try:
        async with anyio.create_task_group() as watching:
            watching.start_soon(watch)
            async with anyio.create_task_group() as running:
                running.start_soon(run)
                try:
                    yield one
                finally:
                    leaving = True
                    one.stop()
            watching.cancel_scope.cancel()
    finally:
        logger.removeHandler(handler)


async def test_a_job_that_one_replica_submits_is_followed_to_its_clip_by_another(
    uri: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    async with Fleet(uri) as one, Fleet(uri) as other:
        job = await one.submit(asked(), key=KEY, to=tmp_path / "clip.mp4", max_usd=1.0)
        assert Submitted(request=asked()) == await job.state()
        assert await other.job("another").state() is None
        async with working(uri, sandbox):
            states = [state async for state in other.job(KEY).updates()]
            assert (Submitted, Succeeded) == (type(states[0]), type(states[-1]))
        assert (tmp_path / "clip.mp4") == (await job).path
        assert CLIP == (tmp_path / "clip.mp4").read_bytes()
        await one.submit(asked(), key=KEY, to=tmp_path / "other.mp4")
        assert (tmp_path / "clip.mp4") == (await other.job(KEY)).path
    assert 1 == len(sandbox.charges)
    assert [] == execute(uri, "SELECT * FROM venice_async.procrastinate_jobs")


async def test_a_key_is_of_one_request_and_a_destination_is_good_on_every_machine(
    uri: str, tmp_path: Path
) -> None:
    async with Fleet(uri) as fleet:
        for _ in range(2):
            await fleet.submit(asked(), key=KEY, to="s3://bucket/clips/")
        with pytest.raises(UsageError, match="differs in prompt"):
            await fleet.submit(asked("Another"), key=KEY, to="s3://bucket/clips/")
        with pytest.raises(UsageError, match="absolute path or a URL"):
            await fleet.submit(asked(), key="another", to="clip.mp4")
        with pytest.raises(UsageError, match="no job of key"):
            await fleet.job("another")
        senseless: dict[str, dict[str, Any]] = {
            "key": {"key": "a\x00b"},
            "account": {"account": None},
            "queue": {"queue": ""},
            "budget": {"budget": ("", 1.0)},
            "overwrite": {"overwrite": "no"},
            "to=": {"to": "/srv/\udcff.mp4"},
        }
        sound: dict[str, Any] = {"key": "another", "to": "/srv/a.mp4"}
        for named, fields in senseless.items():
            with pytest.raises(UsageError, match=f"{named}.* must be"):
                await fleet.submit(asked(), **(sound | fields))
    with pytest.raises(UsageError, match="not open"):
        await fleet.job(KEY)
    with pytest.raises(JournalError, match="no such database"):
        await Fleet(uri.replace("/venice_", "/not_venice_")).__aenter__()
    options: list[dict[str, Any]] = [{"queues": "clips"}, {"queues": [""]}, {"keys": "key"}]
    for fields in options:
        with pytest.raises(UsageError, match="must be"):
            Worker(uri, **fields)
    for one in (Fleet, Worker):
        with pytest.raises(UsageError, match="needs the URI of a Postgres"):
            one("host=127.0.0.1 dbname=venice")
    assert [(1,)] == execute(uri, "SELECT count(*) FROM venice_async.procrastinate_jobs")


async def test_a_job_is_there_if_the_transaction_of_its_caller_is_and_only_then(
    uri: str, tmp_path: Path
) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(400_000))
    portrait = VideoRequest(model="m", prompt="p", duration="5s", image_url=Media(image))
    async with Fleet(uri) as fleet, await psycopg.AsyncConnection.connect(uri) as connection:
        job = await fleet.submit(portrait, key=KEY, to=tmp_path / "a.mp4", connection=connection)
        assert await job.state() is None
        await connection.rollback()
        assert await job.state() is None
        before = await (await connection.execute("SHOW search_path")).fetchone()
        await fleet.submit(portrait, key=KEY, to=tmp_path / "a.mp4", connection=connection)
        assert before == await (await connection.execute("SHOW search_path")).fetchone()
        await connection.rollback()
        assert await job.state() is None
        await fleet.submit(portrait, key=KEY, to=tmp_path / "a.mp4", connection=connection.cursor())
        await connection.commit()
        assert Submitted(request=portrait) == await job.state()
    (arguments,) = execute(uri, "SELECT args FROM venice_async.procrastinate_jobs")[0]
    assert ["order"] == [*arguments]  # type: ignore[misc]


async def test_a_job_is_cancelled_in_time_or_not_and_its_key_is_free_if_it_was(
    uri: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    async with Fleet(uri) as fleet:
        job = await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4")
        assert await job.cancel()
        with pytest.raises(JobError, match="cancelled before it was queued"):
            await job
        async with working(uri, sandbox):
            await (await fleet.submit(asked("Another"), key=KEY, to=tmp_path / "a.mp4"))
            assert not await job.cancel()
    assert 1 == len(sandbox.charges)


async def test_a_named_budget_holds_over_many_jobs(uri: str, sandbox: Sandbox, tmp_path: Path) -> None:
    async with Fleet(uri) as fleet, working(uri, sandbox):
        jobs = [
            await fleet.submit(asked(f"{n}"), key=f"{n}", to=tmp_path / f"{n}.mp4", budget=("dawn", 1.6))
            for n in range(4)
        ]
        ends = await asyncio.gather(*(job.wait() for job in jobs), return_exceptions=True)
    dear = [end for end in ends if isinstance(end, BudgetExceededError)]
    assert (len(ends) - len(dear)) == len(sandbox.charges)
    assert sum(charge.usd for charge in sandbox.charges) <= 1.6
    assert dear


async def test_a_question_waits_in_the_store_for_whoever_answers_it(
    uri: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(20)
    faces = VideoRequest(
        model="seedance-2-0-image-to-video", prompt="a face", duration="5s", image_url=Media(png)
    )
    async with Fleet(uri) as fleet, working(uri, sandbox):
        job = await fleet.submit(faces, key=KEY, to=tmp_path / "a.mp4")
        await fleet.submit(faces, key="no", to=tmp_path / "no.mp4")
        while len(questions := await fleet.consents()) < 2:  # noqa: ASYNC110 - it is in a database
            await anyio.sleep(0.05)
        assert {KEY, "no"} == {question.key for question in questions}
        assert faces == questions[0].request
        await fleet.answer(KEY, Consent(terms_and_privacy=True, legal_right=True, screening=True))
        await fleet.answer("no", None)
        with pytest.raises(UsageError, match="No question waits"):  # the first answer counts
            await fleet.answer("no", Consent(terms_and_privacy=True, legal_right=True, screening=True))
        await job
        with pytest.raises(ConsentDeclinedError):
            await fleet.job("no")
        await fleet.submit(asked(), key="no", to=tmp_path / "no.mp4")
        await fleet.job("no")


async def test_a_worker_that_leaves_hands_its_jobs_to_the_next_whatever_its_clock_and_nothing_is_paid_twice(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = timedelta(hours=1)
    monkeypatch.setattr("procrastinate.utils.utcnow", lambda: datetime.now(UTC) + ahead)
    async with Sandbox(speed=60, clips=CLIP) as slow, Fleet(uri) as fleet:
        async with working(uri, slow, grace=0.0):
            job = await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4")
            while not slow.charges:  # noqa: ASYNC110 - a server sets no event
                await anyio.sleep(0.05)
        assert [("todo",)] == execute(uri, "SELECT status::text FROM venice_async.procrastinate_jobs")
        async with working(uri, slow):
            await job
        assert 1 == len(slow.charges)


@pytest.mark.parametrize("hangs", [False, True])  # until procrastinate aborts its task
async def test_a_worker_that_is_stopped_while_it_opens_an_account_queues_nothing(
    uri: str, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, hangs: bool
) -> None:
    opening, go_on, opened = asyncio.Event(), asyncio.Event(), VeniceClient.open

    async def open_slowly(client: VeniceClient, **options: Any) -> VeniceClient:
        opening.set()
        await go_on.wait()
        return await opened(client, **options)

    monkeypatch.setattr(VeniceClient, "open", open_slowly)
    async with Fleet(uri) as fleet, working(uri, sandbox, grace=0) as one:
        await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4")
        await opening.wait()
        one.stop()
        while one.ready:  # noqa: ASYNC110 - a worker sets no event
            await asyncio.sleep(0)
        if not hangs:
            go_on.set()
    assert [] == sandbox.charges
    assert [("todo",)] == execute(uri, "SELECT status::text FROM venice_async.procrastinate_jobs")


async def test_a_job_that_costs_nothing_yet_outlasts_a_store_that_is_away(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet(uri) as fleet, Orders(uri) as orders:
        job = await fleet.submit(asked(), key=KEY, to="/srv/a.mp4")
        (number,) = execute(uri, "SELECT id FROM venice_async.orders")[0]
        order = await orders.start(int(str(number)))
        assert order is not None
        one = Worker(uri, keys={})
        monkeypatch.setattr(one, "orders", orders)
        state = Failed(error=DownloadError("The store cannot be reached", charged=False))
        for attempts in range(8):
            with pytest.raises(NotNowError):
                await one._end(order, state, None, attempts)
        await one._end(order, state, None, 8)
        with pytest.raises(DownloadError):
            await job


async def test_a_job_with_a_budget_outlasts_a_venice_that_is_away_when_it_is_asked_for_the_price(
    uri: str, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, quoted = [ConnectError("Venice cannot be reached")], VeniceClient.quote

    async def hesitating(*arguments: Any) -> Any:
        if away:
            raise away.pop()
        return await quoted(*arguments)

    monkeypatch.setattr(VeniceClient, "quote", hesitating)
    async with Fleet(uri) as fleet, working(uri, sandbox):
        await (await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4", budget=("dawn", 1.6)))
    assert [] == away


async def test_an_order_of_unknown_outcome_goes_on_once_the_ledger_names_its_job(
    uri: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.inject(Fault(on="queue", drop="after"))
    async with Fleet(uri) as fleet, working(uri, sandbox):
        job = await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4")
        with pytest.raises(QueueOutcomeUnknownError):
            await job
        async with VeniceClient(sandbox.api_key, base_url=sandbox.base_url, journal=uri) as venice:
            assert ["charged"] == [one.finding for one in await venice.reconcile(admin_key=sandbox.admin_key)]
        while not isinstance(await job.state(), Succeeded):  # noqa: ASYNC110 - it is in a database
            await anyio.sleep(0.05)
    assert CLIP == (tmp_path / "a.mp4").read_bytes()
    assert 1 == len(sandbox.charges)


async def test_a_worker_tells_the_end_of_each_of_its_jobs(uri: str, sandbox: Sandbox, tmp_path: Path) -> None:
    told: asyncio.Queue[VideoJob] = asyncio.Queue()
    async with Fleet(uri) as fleet, working(uri, sandbox, on_done=told.put):
        job = await fleet.submit(asked(), key=KEY, to=tmp_path / "clip.mp4", tags={"customer": "acme"})
        video, ended = await job, await told.get()
        assert (KEY, {"customer": "acme"}, video) == (ended.key, ended.tags, ended.result())


@pytest.mark.parametrize(
    "loss",
    ["DELETE FROM procrastinate_jobs", "UPDATE procrastinate_jobs SET status = 'doing'"],
    ids=["its task is lost", "its worker is gone"],
)
async def test_an_order_is_handed_out_again_if(uri: str, sandbox: Sandbox, tmp_path: Path, loss: str) -> None:
    async with Fleet(uri) as fleet:
        job = await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4")
        execute(uri, f"SET search_path TO venice_async; {loss}")
        async with working(uri, sandbox):
            assert await job


async def test_what_became_of_a_task_is_written_once_the_database_takes_it_unless_another_was_first(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Fleet(uri) as fleet, Orders(uri) as orders:
        await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4")
        (number,) = execute(uri, "SELECT id FROM venice_async.procrastinate_jobs")[0]
        write, away = orders.app.connector.execute_query_async, [psycopg.OperationalError()]

        async def hesitating(*arguments: Any, **more: Any) -> None:
            if away:
                raise ConnectorException from away.pop()
            await write(*arguments, **more)

        monkeypatch.setattr(orders.app.connector, "execute_query_async", hesitating)
        for _ in range(2):
            await orders.app.job_manager.finish_job_by_id_async(
                int(str(number)), Status.SUCCEEDED, delete_job=True
            )
    assert [] == execute(uri, "SELECT * FROM venice_async.procrastinate_jobs")


async def test_a_worker_that_no_longer_hears_of_jobs_asks_to_be_started_again(
    uri: str, sandbox: Sandbox
) -> None:
    one = worker(uri, sandbox)
    running = asyncio.create_task(one.run())
    ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'"
    ends += " AND datname = current_database()"
    while not execute(uri, ends):  # noqa: ASYNC110 - it is in a database
        await anyio.sleep(0.05)
    assert RESTART == await running


async def test_accounts_share_sockets_and_have_keys_jobs_and_rations_of_their_own(
    uri: str, tmp_path: Path
) -> None:
    names = ["acme", "globex", "initech", "umbrella"]
    async with Sandbox(speed=600, clips=CLIP, api_key="key-acme") as acme, Fleet(uri) as fleet:
        keys: dict[str, str] = {name: f"key-{name}" for name in names}
        async with working(uri, acme, keys=keys.get) as one:
            jobs = [
                await fleet.submit(asked(), key=KEY, to=tmp_path / f"{name}.mp4", account=name)
                for name in names
            ]
            video, *refused = await asyncio.gather(*(job.wait() for job in jobs), return_exceptions=True)
            assert isinstance(video, Video)
            assert [AuthenticationError] * 3 == [type(error) for error in refused]  # of the others' keys
            assert 4 == len(one._accounts)
            threads = [thread.name.partition("_0")[0] for thread in threading.enumerate()]
            for each in ("journal", "ration"):  # a thread for each session of the database
                assert 1 == threads.count(f"venice_async.{each}")
        assert [(4,)] == execute(uri, "SELECT count(*) FROM venice_async.rations")
        assert [(1,)] == execute(uri, "SELECT count(*) FROM venice_async.jobs")
    assert 1 == len(acme.charges)


async def test_an_account_that_is_closed_as_idle_while_its_worker_leaves_does_not_make_that_fail(
    uri: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = VeniceClient.aclose
    async with working(uri, sandbox, keys=lambda _: sandbox.api_key) as one:
        await until(lambda: one.ready)
        async with one._client_of("acme"), one._client_of("globex"):
            pass

        async def closing(client: VeniceClient) -> None:
            one._accounts.clear()  # as if all had been idle for a minute just now
            await close(client)

        monkeypatch.setattr(VeniceClient, "aclose", closing)


async def test_an_account_whose_journal_was_away_when_it_was_first_opened_is_opened_for_the_next_try(
    uri: str, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, opened = [StoreAwayError("it cannot be reached")], Journal.open

    async def hesitating(*arguments: Any, **options: Any) -> Journal:
        if away and options.get("within") is not None:
            raise away.pop()
        return await opened(*arguments, **options)

    monkeypatch.setattr(Journal, "open", hesitating)
    async with Fleet(uri) as fleet, working(uri, sandbox):
        await (await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4"))
    assert [] == away


async def test_a_worker_that_is_cut_off_waits_for_the_database_until_it_is_told_to_stop(
    uri: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, asked = worker(uri, sandbox), asyncio.Event()

    async def away(*_: object) -> None:
        asked.set()
        msg = "it cannot be reached"
        raise StoreAwayError(msg)

    monkeypatch.setattr(Orders, "rows", away)
    running = asyncio.create_task(one.run())
    while not one.ready:  # noqa: ASYNC110 - a worker sets no event
        await anyio.sleep(0.05)
    one.orders.engine.lost.set()
    await asked.wait()
    one.stop()
    assert 0 == await running


async def test_a_worker_asks_to_be_started_again_if_a_task_of_its_own_fails(
    uri: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: Orders) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Orders, "tidy", broken)
    assert RESTART == await worker(uri, sandbox).run()
    assert "ZeroDivisionError" in caplog.text


async def test_the_keys_of_a_worker_come_before_the_environment(
    uri: str, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENICE_API_KEY", "of-another-account")
    async with Fleet(uri) as fleet, working(uri, sandbox):
        await (await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4"))


@pytest.mark.parametrize("when", ["at first", "in the middle"])
async def test_a_worker_whose_own_key_is_refused_says_so_and_leaves_its_jobs_to_others(
    uri: str, sandbox: Sandbox, tmp_path: Path, when: str
) -> None:
    async with Fleet(uri) as fleet:
        keys = {"": "another-key" if when == "at first" else sandbox.api_key}
        running = asyncio.create_task(worker(uri, sandbox, keys=keys).run())
        if when == "in the middle":
            while not sandbox.count("rate_limits"):  # noqa: ASYNC110 - a server sets no event
                await anyio.sleep(0.05)
            sandbox.inject(lambda request: None if running.done() else Fault(on="queue", status=401))
        job = await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4")
        with pytest.raises(AuthenticationError, match="Start the worker with another key"):
            await running
        assert not isinstance(await job.state(), Failed)
        async with working(uri, sandbox):
            await job
    assert 1 == len(sandbox.charges)


async def test_a_worker_process_with_a_key_that_is_refused_ends_with_the_exit_code_of_a_key(
    uri: str, sandbox: Sandbox
) -> None:
    async with worker_process(uri, sandbox, VENICE_API_KEY="another-key") as process:
        assert process.stderr is not None
        said = b"".join([part async for part in process.stderr])
        assert (4, True) == (await process.wait(), b"Start the worker with another key" in said)


async def test_a_key_that_a_model_does_not_take_ends_the_job_and_not_the_worker(
    uri: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.inject(Fault(on="queue", status=401))
    async with Fleet(uri) as fleet, working(uri, sandbox):
        with pytest.raises(AuthenticationError):
            await (await fleet.submit(asked(), key="refused", to=tmp_path / "a.mp4"))
        await (await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4"))


async def test_a_worker_takes_jobs_of_its_queues_only(uri: str, sandbox: Sandbox, tmp_path: Path) -> None:
    async with Fleet(uri) as fleet, working(uri, sandbox, queues=["fast", "slow"]):
        other = await fleet.submit(asked(), key="other", to=tmp_path / "b.mp4", queue="other")
        await (await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4", queue="slow"))
        assert Submitted(request=asked()) == await other.state()


async def test_tables_are_made_by_several_at_once(uri: str) -> None:
    execute(uri, "DROP SCHEMA venice_async CASCADE")
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(anyio.to_thread.run_sync, migrate, Secret(uri))
    await anyio.run_process([sys.executable, "-m", "venice_async", "fleet", "migrate", "--journal", uri])


@asynccontextmanager
async def worker_process(
    uri: str, sandbox: Sandbox, *options: str, **variables: str
) -> AsyncGenerator[Process]:
    """Run `venice-async worker`, with the key of the sandbox unless the variables say another."""
    environment = {"VENICE_API_KEY": sandbox.api_key, "VENICE_BASE_URL": sandbox.base_url, **variables}
    command = [sys.executable, "-m", "venice_async", "worker", "--journal", uri, *options]
    async with await anyio.open_process(command, env={**os.environ, **environment}, stdout=None) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()


async def test_a_worker_process_that_is_killed_loses_nothing_and_another_leaves_in_peace(
    uri: str, tmp_path: Path
) -> None:
    async with Sandbox(speed=30, clips=CLIP) as slow, Fleet(uri) as fleet:
        job = await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4")
        async with worker_process(uri, slow):
            while not isinstance(await job.state(), Waiting):  # noqa: ASYNC110 - it is in a database
                await anyio.sleep(0.05)
        async with worker_process(uri, slow, "--log-json") as second:
            await job
            second.terminate()
            assert 0 == await second.wait()
            assert second.stderr is not None
            said = b"".join([part async for part in second.stderr]).splitlines()
        assert 1 == len(slow.charges)
        assert "venice_async.fleet.worker" in {json.loads(line)["logger"] for line in said}


@pytest.mark.parametrize(("grace", "state"), [("0", Waiting), ("60", Succeeded)])
async def test_a_worker_process_that_is_stopped_waits_for_paid_jobs_as_long_as_its_grace(
    uri: str, tmp_path: Path, grace: str, state: type[State]
) -> None:
    held = Scenario(seconds=1e9, estimate=4.0)
    async with Sandbox(speed=60, clips=CLIP, scenarios={"*": [held]}) as slow, Fleet(uri) as fleet:
        job = await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4")
        async with worker_process(uri, slow, "--grace", grace) as process:
            while not isinstance(await job.state(), Waiting):  # noqa: ASYNC110 - it is in a database
                await anyio.sleep(0.05)
            process.terminate()
            assert process.stderr is not None
            async for said in process.stderr:
                if f"up to {grace} s".encode() in said:
                    break
            polls = slow.count("retrieve")
            if grace != "0":
                assert slow._venice is not None
                running = slow._venice.jobs.find(slow.charges[0].queue_id)
                assert running is not None
                running.execution = 0.0
            assert 0 == await process.wait()
        assert state is type(await job.state())
    assert 1 == len(slow.charges)
    assert slow.count("retrieve") - polls <= 1


async def test_a_worker_process_takes_the_key_of_each_account_from_a_file_also_of_one_that_is_added(
    uri: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    file, keys = tmp_path / "keys.json", {"acme": sandbox.api_key}
    file.write_text(json.dumps(keys))
    async with Fleet(uri) as fleet:

        async def end_of(account: str) -> object:
            to = tmp_path / f"{account}.mp4"
            job = await fleet.submit(asked(), key=KEY, to=to, account=account)
            return (await asyncio.gather(job.wait(), return_exceptions=True))[0]

        async with worker_process(uri, sandbox, "--accounts", str(file), VENICE_API_KEY=""):
            assert isinstance(await end_of("acme"), Video)
            assert isinstance(await end_of("globex"), UsageError)
            file.write_text(json.dumps({**keys, "globex": "another-key"}))
            assert isinstance(await end_of("globex"), AuthenticationError)  # the sandbox knows one key only
    assert (1, CLIP) == (len(sandbox.charges), (tmp_path / "acme.mp4").read_bytes())


@pytest.mark.skipif(sys.platform != "linux", reason="sockets are looked at as Linux shows them")
async def test_every_connection_of_a_worker_notices_a_database_that_is_gone_within_11_s(
    uri: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    known = conninfo_to_dict(uri)

    relays: list[asyncio.Task[Any]] = []

    async def relay(from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_unix_connection(f"{known['host']}/.s.PGSQL.5432")

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while part := await source.read(1 << 16):
                    sink.write(part)
                    await sink.drain()
            sink.close()
            with suppress(ConnectionError):
                await sink.wait_closed()

        relays.extend(
            map(asyncio.ensure_future, (pump(from_client, to_server), pump(from_server, to_client)))
        )

    async with await asyncio.start_server(relay, "127.0.0.1") as server:
        place = server.sockets[0].getsockname()
        by_tcp = (
            f"postgresql://{known['user']}@127.0.0.1:{place[1]}/{known['dbname']}?application_name=by-tcp"
        )
        async with Fleet(uri) as fleet, working(by_tcp, sandbox):
            await (await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4"))
            ours = "SELECT pid FROM pg_stat_activity WHERE application_name = 'by-tcp'"
            while not execute(uri, f"{ours} AND query LIKE 'LISTEN %'"):  # noqa: ASYNC110 - it is in a database
                await anyio.sleep(0.05)
            sessions = len(execute(uri, ours))
            found = patience_with(place)
        await asyncio.gather(*relays)
    assert sessions <= len(found)
    assert {(1, 5, 3, 2, 11_000)} == {*found}


def patience_with(place: tuple[str, int]) -> list[tuple[int, ...]]:
    """Return how long each of our connections to a place waits for it: keepalives, and for what was sent."""
    keepalives = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
    options = [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        *((socket.IPPROTO_TCP, option) for option in keepalives),
    ]
    found: list[tuple[int, ...]] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # it was that of this very listing, or is not connected
            if not str(descriptor.readlink()).startswith("socket:"):
                continue
            with socket.fromfd(int(descriptor.name), socket.AF_INET, socket.SOCK_STREAM) as one:
                if one.getpeername() == place:
                    found.append(tuple(one.getsockopt(*option) for option in options))
    return found


async def test_a_worker_tells_over_http_whether_it_is_ready_and_its_figures(
    uri: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    one = worker(uri, sandbox)
    assert "venice_worker_ready 0" in (await exposition(one, Totals())).splitlines()
    async with Fleet(uri) as fleet:
        job = await fleet.submit(asked(), key=KEY, to=tmp_path / "a.mp4", max_usd=1.0)
        running = asyncio.create_task(one.run())
        await job
        figures = (await exposition(one, Totals())).splitlines()
        one.stop()
        assert 0 == await running
    assert {'venice_fleet_jobs{state="Succeeded"} 1', "venice_worker_ready 1"} <= {*figures}
    assert 'venice_worker_ended_total{outcome="Succeeded"} 1' in figures
    assert "venice_worker_notice_delay_seconds_count 1" in figures
    assert 'venice_worker_notice_delay_seconds_bucket{le="+Inf"} 1' in figures
    (used,) = (line for line in figures if line.startswith("venice_fleet_ration_used") and "queue" in line)
    assert used.endswith('limit="queue"} 1')
    assert used.replace("_used", "_limit").removesuffix("1") + "40" in figures  # as the server says
    assert 3 == sum(line.startswith("venice_fleet_refusals_total") for line in figures)


async def test_a_scrape_does_not_soon_count_all_jobs_again_if_that_took_long(
    uri: str, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, totals, look, counted = worker(uri, sandbox), Totals(), Orders.rows, list[str]()

    async def slowly(orders: Orders, sql: str) -> list[tuple[Any, ...]]:
        if "ended IS NOT NULL" in sql:
            counted.append(sql)
            await anyio.sleep(0.5)  # good for 50 s
        return await look(orders, sql)

    monkeypatch.setattr(Orders, "rows", slowly)
    async with Fleet(uri) as fleet, one.orders:
        await (await fleet.submit(asked(), key="cancelled", to=tmp_path / "a.mp4")).cancel()
        for waiting in (1, 2):
            await fleet.submit(asked(), key=f"{waiting}", to=tmp_path / "b.mp4")
            figures = (await exposition(one, totals)).splitlines()
            name = "venice_fleet_jobs"
            jobs = [line.removeprefix(name) for line in figures if line.startswith(f"{name}{{")]
            assert ['{state="Failed"} 1', f'{{state="Submitted"}} {waiting}'] == jobs
    assert 1 == len(counted)
