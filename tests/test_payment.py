"""The paid request: sent once, again only when it provably was not accepted, and never given up half-way."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import socket
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.clients import PUBLIC, client, until, wire
from tests.venice import (
    KEY,
    MODELS,
    Answer,
    Venice,
    answer,
    compressed,
    endless,
    fault,
    html_answer,
    in_chunks,
    json_answer,
    lost,
    no_capacity,
    rate_limited,
    redirect,
    remade,
)
from venice_async import (
    APIError,
    BudgetExceededError,
    ConnectError,
    InvalidRequestError,
    JournalError,
    Limits,
    Media,
    ProtocolError,
    QueueOutcomeUnknownError,
    RateLimitError,
    ServerError,
    Ticket,
    Timeouts,
    VeniceClient,
    VeniceError,
    VideoRequest,
)
from venice_async.io.journal.entries import CannotWriteError
from venice_async.io.journal.journal import Journal
from venice_async.io.journal.sqlite import SqliteDatabase
from venice_async.io.ration.sqlite import SqliteRation
from venice_async.sandbox import Fault, Sandbox
from venice_async.sansio.limits.ration import Grant

pytestmark = pytest.mark.anyio

LOST = [
    pytest.param(lost(), id="cut before the answer"),
    pytest.param(lost(reset=True), id="reset before the answer"),
    pytest.param(lost(20), id="cut in the head"),
    pytest.param(fault(cut_at=5), id="cut in the body"),
    pytest.param(fault(stall_at=3), id="stalled in the body"),
    pytest.param(fault(delay=3600), id="no answer"),
    pytest.param(json_answer({"error": "failed"}, status=500), id="500"),
    pytest.param(html_answer(status=502), id="502"),
    pytest.param(html_answer(status=504), id="504"),
    pytest.param(json_answer({"error": "Timeout"}, status=408, processed=True), id="408"),
    pytest.param(html_answer(status=499, processed=True), id="499"),
    pytest.param(json_answer({"error": "The model is at capacity"}, status=503), id="503 of somebody"),
    pytest.param(html_answer(status=503), id="503 of an edge"),
    pytest.param(html_answer(), id="a page for an answer"),
    pytest.param(json_answer([1, 2]), id="a list for an answer"),
    pytest.param(answer(b"", "application/json"), id="nothing for an answer"),
    pytest.param(json_answer({"queue_id": " \n"}), id="a blank for an id"),
    pytest.param(endless(b'{"queue_id": "' + b"x" * 100), id="an endless answer"),
]


@pytest.mark.parametrize("said", LOST)
async def test_a_lost_answer_is_an_unknown_outcome_and_the_request_is_never_sent_again(
    tmp_path: Path, said: Fault
) -> None:
    async with Venice(queue=[said]) as server, client(server) as venice:
        with pytest.raises(QueueOutcomeUnknownError) as caught:
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert ["POST /video/queue"] == wire(server)
        error = caught.value
        assert (None, True) == (error.charged, error.bytes_sent)
        assert hashlib.sha256(server.requests[0].body).hexdigest() == error.fingerprint
        assert error.at.endswith("+00:00")
        assert "not known whether" in str(error)


async def test_a_cancelled_job_whose_answer_is_lost_is_not_said_to_be_free_of_charge(tmp_path: Path) -> None:
    async with Venice(queue=[fault(delay=20.0, drop="after")]) as server, client(server) as venice:
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        await until(lambda: len(server.charges) == 1)
        job.cancel()
        with pytest.raises(QueueOutcomeUnknownError) as caught:
            await job
        assert (None, False) == (caught.value.charged, job.cancelled())


async def test_an_answer_that_makes_no_sense_stays_in_the_error_and_the_journal_without_secrets(
    tmp_path: Path,
) -> None:
    def odd(honest: Answer) -> Answer:
        job = {"uuid": json.loads(honest.body)["queue_id"]}
        said = {"job": job, "echo": f"Bearer {KEY}", "get": "https://a.example/?sig=s3cret"}
        return honest.containing(json.dumps(said).encode())

    async with Venice(queue=[remade(odd)], polls=0) as server:
        async with client(server, journal=tmp_path / "jobs.db") as venice:
            with pytest.raises(QueueOutcomeUnknownError) as caught:
                await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        job = server.charges[0].queue_id
        assert re.search(f"{job}.*resume", str(caught.value))
        kept = f'{{"job": {{"uuid": "{job}"}}, "echo": "Bearer [redacted]", "get": "https://a.example/[redacted]"}}'
        assert kept == caught.value.answer
        async with client(server, journal=tmp_path / "jobs.db") as venice:
            (entry,) = await venice.pending()
            (unknown,) = await venice.recover()
            with pytest.raises(QueueOutcomeUnknownError, match="kept") as caught:
                await unknown
            assert (None, kept) == (entry.ticket, caught.value.answer)
            await venice.resume(Ticket(model="public-model", queue_id=job), to=tmp_path / "clip.mp4")
            await venice.forget(entry)
            assert [] == await venice.pending()
        assert 1 == len(server.asked("POST /video/queue"))
        assert KEY.encode() not in (tmp_path / "jobs.db").read_bytes()


@pytest.mark.parametrize("error", [LookupError(), VeniceError("No")])
async def test_a_mistake_of_ours_after_the_paid_request_never_says_that_nothing_was_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def mistake(*_: object, **__: object) -> None:
        raise error

    for broken in ("io.caller.queue_answer", "io.journal.record.JobRecord.record"):
        async with Venice() as server, client(server, journal=tmp_path / f"{broken}.db") as venice:
            with monkeypatch.context() as patched, pytest.raises(VeniceError) as caught:
                patched.setattr(f"venice_async.{broken}", mistake)
                await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
            assert "Nothing was charged" not in str(caught.value)
            assert caught.value.charged is not False
            assert isinstance(caught.value, QueueOutcomeUnknownError) or caught.value.ticket is not None
            assert 1 == len(await venice.pending())
    assert 2 == caplog.text.count("by a mistake in this library:")


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(lambda honest: honest.headed(content_length="999"), id="announced too long"),
        pytest.param(lambda honest: in_chunks(honest, end=b""), id="chunks without an end"),
        pytest.param(
            lambda honest: in_chunks(compressed(honest), end=b""), id="gzip, in chunks without an end"
        ),
    ],
)
async def test_an_answer_that_is_cut_behind_its_ticket_is_an_answer(
    tmp_path: Path, cut: Callable[[Answer], Answer]
) -> None:
    async with Venice(queue=[remade(cut)]) as server, client(server) as venice:
        await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert ["POST /video/queue"] == wire(server)[:1]


async def test_a_paid_answer_with_headers_of_any_edge_is_understood(tmp_path: Path) -> None:
    long = fault(headers={"set-cookie": "edge=" + "x" * 30_000})
    many = fault(headers={f"x-edge-{number}": "x" for number in range(500)})
    async with Venice(queue=[long, many]) as server, client(server) as venice:
        for number in range(2):
            await venice.generate(PUBLIC, to=tmp_path / f"{number}.mp4")
        assert 2 == len(server.charges)


@pytest.mark.parametrize(
    "refusals",
    [
        pytest.param([rate_limited(60)], id="429 once"),
        pytest.param([rate_limited(60)] * 4, id="429 again and again"),
        pytest.param(
            [no_capacity(), no_capacity("MODEL_OFFLINE")] * 2 + [no_capacity()], id="503 five times"
        ),
    ],
)
async def test_a_request_that_was_not_accepted_is_sent_again_and_charged_once(
    tmp_path: Path, refusals: list[Fault]
) -> None:
    async with Venice(queue=refusals) as server, client(server) as venice:
        await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert len(refusals) + 1 == len(server.asked("POST /video/queue"))
        assert 1 == len(server.charges)


async def test_no_capacity_for_long_is_an_error_that_costs_nothing(tmp_path: Path) -> None:
    refusals = [no_capacity()] * 9
    async with Venice(queue=refusals) as server, client(server) as venice:
        with pytest.raises(ServerError, match="at capacity") as caught:
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert (6, [], False) == (len(server.requests), server.charges, caught.value.charged)


async def test_a_paid_request_that_is_limited_for_ever_ends_in_an_error_and_has_warned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Venice(always=rate_limited(60)) as server:
        async with client(server, timeouts=Timeouts(queue=300), journal=tmp_path / "jobs.db") as venice:
            began = anyio.current_time()
            with pytest.raises(RateLimitError, match=r"Nothing was charged.*Timeouts\(queue=") as caught:
                await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
            assert 200 < anyio.current_time() - began <= 300
            assert [] == await venice.pending()
        assert (429, False, []) == (caught.value.status, caught.value.charged, server.charges)
        assert 3 <= len(server.requests) <= 10
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(server.requests) - 2 == len(warnings)


async def test_a_paid_request_waits_for_its_turn_no_longer_than_it_may(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"timeouts": Timeouts(queue=150), "limits": Limits(queue_per_minute=1)}
    async with Venice(polls=0) as server, client(server, **options) as venice:
        jobs = [venice.generate(PUBLIC, to=tmp_path / f"{number}.mp4") for number in range(6)]
        outcomes = await asyncio.gather(*(job.wait() for job in jobs), return_exceptions=True)
        failed = [outcome for outcome in outcomes if isinstance(outcome, RateLimitError)]
        assert len(server.charges) == 6 - len(failed)
        assert 1 <= len(failed) <= 4
        assert {False} == {error.charged for error in failed}
    assert any("has waited 75 s" in record.getMessage() for record in caplog.records)


async def test_a_ticket_that_the_journal_cannot_take_costs_no_clip_and_is_named_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = {CannotWriteError: "is written once the journal takes it", JournalError: "cannot record job"}
    for kind, words in told.items():

        async def fails(*_: object, kind: type[JournalError] = kind) -> None:
            msg = "Something is wrong with its disk"
            raise kind(msg)

        folder = tmp_path / kind.__name__
        folder.mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "record", fails)
            async with Venice() as server, client(server, journal=folder / "jobs.db") as venice:
                video = await venice.generate(PUBLIC, to=folder / "clip.mp4")
        assert any(words in text and video.ticket.queue_id in text for text in caplog.messages)


async def test_a_paid_request_that_has_no_turn_while_the_journal_cannot_be_used_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_locked(*_: object) -> Grant:
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    monkeypatch.setattr(SqliteRation, "_exchange_in_file", is_locked)
    options: dict[str, Any] = {"timeouts": Timeouts(queue=10), "journal": tmp_path / "jobs.db"}
    async with Venice() as server, client(server, **options) as venice:
        with pytest.raises(JournalError, match=r"no turn within 10 s.*locked.*Nothing was charged"):
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert [] == server.requests


def fill_disk(monkeypatch: pytest.MonkeyPatch, *, until: float) -> None:
    """Let the disk of a journal be full until a moment of the event loop."""
    loop, begin = asyncio.get_running_loop(), SqliteDatabase.begin

    def full(database: SqliteDatabase, *, patient: bool) -> None:
        if loop.time() < until:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        begin(database, patient=patient)

    monkeypatch.setattr(SqliteDatabase, "begin", full)


@pytest.mark.parametrize("begun", ["anew", "under a key", "by its ticket"])
@pytest.mark.parametrize("seconds", [4, 3600])
async def test_a_job_waits_some_seconds_for_a_journal_that_cannot_be_written_and_says_why_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
    begun: str,
) -> None:
    loop = asyncio.get_running_loop()
    async with Venice() as server:
        async with client(server) as venice:
            earlier = venice.generate(PUBLIC, to=tmp_path / "earlier.mp4")
            ticket = await earlier.queued()
            earlier.cancel()
        async with client(server, journal=tmp_path / "jobs.db") as venice:
            began = loop.time()
            fill_disk(monkeypatch, until=began + seconds)
            to = tmp_path / "clip.mp4"
            if begun == "by its ticket":
                job = venice.resume(ticket, to=to)
            else:
                job = venice.generate(PUBLIC, to=to, key="order" if begun == "under a key" else None)
            await anyio.sleep(1)
            assert 1 == sum("waits up to 10 s" in line and "disk is full" in line for line in caplog.messages)
            if seconds < 10:
                await job
            else:
                with pytest.raises(JournalError, match="the disk is full"):
                    await job
                assert 8 <= loop.time() - began <= 11
            monkeypatch.undo()
        assert len(server.charges) == 1 + (seconds < 10 and begun != "by its ticket")


async def test_the_log_of_a_full_journal_does_not_say_of_a_paid_job_that_nothing_was_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Venice(polls=1) as server, client(server, journal=tmp_path / "jobs.db") as venice:
        stopped = venice.generate(PUBLIC, to=tmp_path / "1.mp4")
        job = venice.generate(PUBLIC, to=tmp_path / "2.mp4")
        await stopped.queued()
        await job.queued()
        fill_disk(monkeypatch, until=math.inf)
        stopped.cancel()
        await job
        assert "is written once the journal takes it" in caplog.text
        await venice.aclose()
    assert "never written" in caplog.text
    assert "Nothing was charged" not in caplog.text
    assert "being worked on" not in caplog.text


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 413, 415, 422])
async def test_a_refusal_is_final_and_costs_nothing(tmp_path: Path, status: int) -> None:
    async with (
        Venice(queue=[json_answer({"error": "No"}, status=status)]) as server,
        client(server) as venice,
    ):
        with pytest.raises(APIError, match="No") as caught:
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert (status, False, None) == (caught.value.status, caught.value.charged, caught.value.ticket)
        assert ["POST /video/queue"] == wire(server)


async def test_no_connection_means_nothing_was_sent_and_is_tried_a_few_times(
    tmp_path: Path, unused_tcp_port_free: int
) -> None:
    async with VeniceClient("key-123456", base_url=f"http://127.0.0.1:{unused_tcp_port_free}") as venice:
        with pytest.raises(ConnectError) as caught:
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
    assert caught.value.charged is False


@pytest.fixture
def unused_tcp_port_free() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


async def test_the_read_timeout_bounds_the_wait_for_the_answer(tmp_path: Path) -> None:
    async with (
        Venice(queue=[fault(delay=100)]) as server,
        client(server, timeouts=Timeouts(read=5)) as venice,
    ):
        with pytest.raises(QueueOutcomeUnknownError):
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")


async def test_with_a_limit_the_price_is_asked_first_and_an_equal_price_is_allowed(tmp_path: Path) -> None:
    async with Venice(polls=0) as server, client(server) as venice:
        await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", max_usd=0.25)
        assert ["POST /video/quote", "POST /video/queue"] == wire(server)[:2]
        assert {"model": "public-model", "duration": "5s"} == server.requests[0].json


async def test_a_price_above_the_limit_costs_nothing(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        with pytest.raises(BudgetExceededError) as caught:
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", max_usd=0.24)
        assert (0.25, 0.24, False) == (caught.value.quoted_usd, caught.value.limit_usd, caught.value.charged)
        assert ["POST /video/quote"] == wire(server)


@pytest.mark.parametrize("price", [None, "0.10", -1, float("nan"), float("inf"), True, [0.1]])
async def test_an_unusable_price_under_a_limit_is_an_error_and_nothing_is_queued(
    tmp_path: Path, price: object
) -> None:
    async with Venice(quote=[json_answer({"quote": price})]) as server, client(server) as venice:
        with pytest.raises(ProtocolError, match="price"):
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", max_usd=1.0)
        assert [] == server.charges


async def test_media_that_cannot_be_read_or_sent_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "odd.bin").write_bytes(b"what is this?")
    (tmp_path / "notes.txt").write_bytes(b"a fox in the snow")
    (tmp_path / "song.png").write_bytes(b"ID3 whatever it is called")
    with (tmp_path / "huge.mp4").open("wb") as file:
        file.truncate(40_000_000)
    async with Venice() as server, client(server) as venice:
        for name in ("missing.png", "empty.png", "odd.bin", "notes.txt", "song.png", "huge.mp4"):
            request = VideoRequest(model="m", prompt="p", image_url=Media(tmp_path / name))
            with pytest.raises(InvalidRequestError) as caught:
                await venice.generate(request, to=tmp_path / "clip.mp4")
            assert "image_url" == caught.value.field
        assert [] == server.requests


async def test_a_body_of_many_parts_above_the_limit_is_refused(tmp_path: Path) -> None:
    image = Media(b"\x89PNG\r\n\x1a\n" + bytes(6_000_000))
    request = VideoRequest(model="m", prompt="p", reference_image_urls=[image] * 5)
    async with Venice() as server, client(server) as venice:
        with pytest.raises(InvalidRequestError) as caught:
            await venice.generate(request, to=tmp_path / "clip.mp4")
        assert ("body", 35 * 1024 * 1024) == (caught.value.field, caught.value.limit)
        assert [] == server.requests


async def test_a_file_is_sent_as_a_data_url_of_its_own_type(tmp_path: Path) -> None:
    (tmp_path / "named.txt").write_bytes(b"\x89PNG\r\n\x1a\n1234")
    request = VideoRequest(model="m", prompt="p", duration="5s", image_url=Media(tmp_path / "named.txt"))
    async with Venice(polls=0) as server, client(server) as venice:
        await venice.generate(request, to=tmp_path / "clip.mp4")
        assert "data:image/png;base64,iVBORw0KGgoxMjM0" == server.charges[0].request["image_url"]


async def test_a_redirect_of_the_paid_request_is_an_error_and_is_not_followed(tmp_path: Path) -> None:
    moved = redirect("https://elsewhere.example/", status=307)
    async with Venice(queue=[moved]) as server, client(server) as venice:
        with pytest.raises(VeniceError):
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert 1 == len(server.requests)


@pytest.fixture
def venice_sandbox_options() -> dict[str, Any]:
    """Return what the sandbox in a thread, which outlives every loop, has in common with `Venice`."""
    return {"api_key": KEY, "models": MODELS}


def test_the_answer_to_a_paid_request_is_journalled_even_after_the_program_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, venice_sandbox: Sandbox
) -> None:
    monkeypatch.setattr("venice_async.engine.runtime.LEAVING", 0.0)
    asked, told, journal = threading.Event(), threading.Event(), tmp_path / "jobs.db"

    async def late(honest: bytes) -> AsyncGenerator[bytes]:
        asked.set()
        await anyio.to_thread.run_sync(told.wait)
        yield honest

    venice_sandbox.inject(Fault(on="queue", raw=late))

    async def leave_by_error() -> None:
        try:
            async with VeniceClient(KEY, base_url=venice_sandbox.base_url, journal=journal) as venice:
                venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
                await asyncio.to_thread(asked.wait)
                raise ZeroDivisionError
        finally:
            told.set()  # too late for anyone who waits no longer than the block

    async def pending() -> list[Ticket | None]:
        async with VeniceClient(KEY, base_url=venice_sandbox.base_url, journal=journal) as venice:
            return [entry.ticket for entry in await venice.pending()]

    with pytest.raises(ZeroDivisionError):
        asyncio.run(leave_by_error())
    (charge,) = venice_sandbox.charges
    assert [Ticket(model="public-model", queue_id=charge.queue_id)] == asyncio.run(pending())
