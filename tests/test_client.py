"""The client and its jobs, over real sockets: one driver each, and a block that leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from tests.cases import for_each
from tests.clients import PRIVATE, PUBLIC, client, until, wire
from tests.venice import CLIP, KEY, Venice, endless, fault, html_answer, json_answer, linked, no_capacity
from venice_async import (
    AuthenticationError,
    ConnectError,
    ConsentError,
    DownloadError,
    Downloading,
    JobTimeoutError,
    Limits,
    MemorySink,
    PermissionDeniedError,
    ProtocolError,
    Retries,
    Saved,
    ServerError,
    State,
    Stopped,
    Succeeded,
    Ticket,
    Timeouts,
    UsageError,
    VeniceClient,
    VeniceError,
    VideoJob,
    VideoRequest,
    Waiting,
    __version__,
)
from venice_async.sandbox import Fault, Scenario

pytestmark = pytest.mark.anyio

REFUSED = json_answer({"error": "No such key"}, status=401)
BUSY = no_capacity()
NEWS = json_answer({"status": "PROCESSING", "average_execution_time": 145_000, "execution_duration": 1_000})


async def test_what_nobody_named_is_named_by_what_came_and_what_was_named_keeps_its_name(
    tmp_path: Path,
) -> None:
    mov = CLIP.replace(b"isom", b"qt  ", 1)
    folders = [tmp_path / name for name in ("public", "private", "resumed", "batch", "recovered")]
    for folder in folders:
        folder.mkdir()
    public, private, resumed, batch, recovered = folders
    async with Venice(clip=mov, polls=0) as server:
        async with client(server, journal=tmp_path / "jobs.db") as venice:
            named = await venice.generate(PUBLIC, to=public / "named.mp4")
            await venice.generate(PUBLIC, to=public)
            await venice.generate(PRIVATE, to=private)
            left = venice.generate(PUBLIC, to=resumed / "never.mp4")
            ticket = await left.queued()
            left.cancel()
            await venice.resume(ticket, to=resumed)
            (outcome,) = [outcome async for outcome in venice.batch([PUBLIC], into=batch)]
            late = venice.generate(PUBLIC, to=recovered)
            await late.queued()
            late.cancel()
        async with client(server, journal=tmp_path / "jobs.db") as venice:
            (job,) = await venice.recover()
            video = await job
            again = [outcome async for outcome in venice.batch([PUBLIC], into=batch)]
        charged = len(server.charges)
    assert (public / "named.mp4", mov) == (named.path, (public / "named.mp4").read_bytes())
    for folder in folders:
        assert [".mov"] == [path.suffix for path in folder.iterdir() if path.name != "named.mp4"]
        assert [mov] * len(list(folder.iterdir())) == [path.read_bytes() for path in folder.iterdir()]
    assert [video.path] == list(recovered.iterdir())
    assert outcome.video is not None
    assert [outcome.video.path] == list(batch.iterdir()) == [one.video and one.video.path for one in again]
    assert 6 == charged


@pytest.mark.parametrize("link", ["https://10.0.0.1/clip", "http://example.com/clip", "no url"])
async def test_a_link_that_is_refused_unasked_never_uses_up_its_gets(tmp_path: Path, link: str) -> None:
    async with Venice(queue=[linked(link)], polls=0) as server:
        async with client(server, journal=tmp_path / "jobs.db") as venice:
            job = venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
            for _ in range(7):
                with pytest.raises(DownloadError, match="The server's link") as caught:
                    await job
                assert caught.value.unsent
                (entry,) = await venice.pending()
                assert 0 == getattr(entry.state, "gets", 0)
                (job,) = await venice.recover()
            job.cancel()
        assert [] == server.asked("GET /link")


async def test_a_public_job_takes_one_queue_its_polls_and_one_clean_up(tmp_path: Path) -> None:
    async with Venice(polls=2) as server:
        async with client(server) as venice:
            video = await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert CLIP == (tmp_path / "clip.mp4").read_bytes()
        assert (tmp_path / "clip.mp4", len(CLIP)) == (video.path, video.size)
        assert ["POST /video/queue", *["POST /video/retrieve"] * 3, "POST /video/complete"] == wire(server)
        paid = {"model": "public-model", "prompt": "A gondola at dawn", "duration": "5s"}
        assert [paid] == [charge.request for charge in server.charges]


async def test_a_private_job_is_fetched_once_by_link_and_then_revoked(tmp_path: Path) -> None:
    async with Venice(polls=1) as server:
        async with client(server) as venice:
            video = await venice.generate(PRIVATE, to=tmp_path)
        assert tmp_path / f"A-gondola-at-dawn-{video.ticket.queue_id[:8]}.mp4" == video.path
        polls = ["POST /video/retrieve"] * 2
        assert ["POST /video/queue", *polls, "GET /link", "DELETE /link"] == wire(server)


async def test_the_key_goes_to_the_api_and_never_to_a_link(tmp_path: Path) -> None:
    async with Venice() as server:
        async with client(server) as venice:
            await venice.generate(PRIVATE, to=tmp_path)
        for request in server.requests:
            assert (request.origin == "api") == ("authorization" in request.headers)
            assert (True, False) == (request.status in {200, 204}, "cookie" in request.headers)
        assert [] == server.leaked_keys


async def test_a_job_can_be_awaited_many_times_from_many_tasks_with_one_driver(tmp_path: Path) -> None:
    async with Venice() as server:
        async with client(server) as venice:
            job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
            videos = await asyncio.gather(job, job, job.wait(), asyncio.wait_for(job, 100))
            assert [await job] * 4 == list(videos)
        assert 1 == len(server.charges)


async def test_what_waits_for_futures_takes_a_job(tmp_path: Path) -> None:
    async with Venice(polls=3) as server, client(server) as venice:
        jobs = [venice.generate(PUBLIC, to=tmp_path / f"{index}.mp4") for index in range(2)]
        waiting: Any = jobs
        done, pending = await asyncio.wait(waiting, timeout=0.01)
        assert (set(), set(jobs)) == (done, pending)
        with pytest.raises(asyncio.InvalidStateError):
            jobs[0].result()
        called: list[VideoJob] = []
        jobs[0].add_done_callback(called.append)
        jobs[1].add_done_callback(called.append)
        assert 1 == jobs[1].remove_done_callback(called.append)
        done, pending = await asyncio.wait(waiting)
        assert (set(jobs), set()) == (done, pending)
        assert (set(jobs), set()) == await asyncio.wait(waiting)
        assert jobs[:1] == called
        expected = [job.result() for job in jobs]
        assert [None, None] == [job.exception() for job in jobs]
        assert expected[0] == await asyncio.create_task(jobs[0].wait())
        assert expected[0] == await asyncio.shield(asyncio.ensure_future(jobs[0]))
        assert expected == [await next(asyncio.as_completed([job])) for job in jobs]


async def test_a_job_that_ends_before_its_task_began_is_over_at_once_and_told_to_everybody(
    tmp_path: Path,
) -> None:
    told: list[State] = []

    def tell(_: VideoJob, state: State) -> None:
        told.append(state)

    async with Venice() as server, client(server, on_state=tell) as venice:
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        called: list[VideoJob] = []
        job.add_done_callback(called.append)
        assert job.cancel()
        assert (True, True, False) == (job.done(), job.cancelled(), job.cancel())
        assert [Stopped()] == told
        await asyncio.sleep(0)
        assert [job] == called
        assert [Stopped()] == [state async for state in job.updates()]
        assert [] == server.requests


async def test_a_mistake_in_this_library_ends_the_job_with_its_ticket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def mistake(*_: object) -> None:
        raise LookupError

    async with Venice() as server, client(server, journal=tmp_path / "jobs.db") as venice:
        monkeypatch.setattr("venice_async.engine.retrieval.carries_video", mistake)
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        with pytest.raises(VeniceError, match="Internal error: LookupError") as caught:
            await job
        assert job.ticket is not None
        assert (job.ticket, True) == (caught.value.ticket, caught.value.charged)
        assert isinstance(caught.value.__cause__, LookupError)
        monkeypatch.undo()
        (again,) = await venice.recover()
        assert CLIP == Path(await again).read_bytes()
    assert "by a mistake in this library" in caplog.text


async def test_a_job_that_has_no_clip_says_why_as_a_future_does(tmp_path: Path) -> None:
    async with Venice(queue=[REFUSED]) as server, client(server) as venice:
        refused = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        cancelled = venice.generate(PUBLIC, to=tmp_path / "other.mp4")
        cancelled.cancel()
        waiting: Any = [refused, cancelled]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.ALL_COMPLETED)
        assert 2 == len(done)
        assert isinstance(refused.exception(), AuthenticationError)
        with pytest.raises(AuthenticationError):
            refused.result()
        for ask in (cancelled.result, cancelled.exception):
            with pytest.raises(asyncio.CancelledError):
                ask()


async def test_a_job_runs_without_being_awaited(tmp_path: Path) -> None:
    async with Venice() as server:
        async with client(server) as venice:
            venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert CLIP == (tmp_path / "clip.mp4").read_bytes()


async def test_cancelling_or_timing_out_a_waiter_never_cancels_the_job(tmp_path: Path) -> None:
    async with Venice(polls=5) as server, client(server) as venice:
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job.wait(), 0.5)
        waiter = asyncio.ensure_future(job)
        await asyncio.sleep(0.1)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert not job.done()
        assert isinstance((await job).path, Path)


async def test_updates_end_with_the_state_of_the_job_for_every_reader(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        job = venice.generate(PRIVATE, to=tmp_path / "clip.mp4")

        async def read() -> list[object]:
            return [state async for state in job.updates()]

        first, second = await asyncio.gather(read(), read())
        assert job.state == first[-1] == second[-1]
        kinds = [type(state) for state in first]
        assert kinds == sorted(kinds, key=[*dict.fromkeys(kinds)].index)
        assert {Waiting, Downloading, Saved, Succeeded} <= set(kinds)
        assert [job.state] == await read()


async def test_a_state_tells_elapsed_time_the_servers_estimate_and_an_eta(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        async for state in job.updates():
            if isinstance(state, Waiting) and state.elapsed is not None:
                assert 145.0 == state.average
                assert state.eta is not None
                assert 0 < state.eta < 300
                assert state.progress is not None
                assert 0 <= state.progress < 1
                return
    pytest.fail("no state told how long the server has worked")


async def test_queued_returns_the_ticket_as_soon_as_the_job_is_paid_for(tmp_path: Path) -> None:
    async with Venice(polls=5) as server, client(server) as venice:
        job = venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
        ticket = await job.queued()
        assert ("model-private", server.charges[0].queue_id) == (ticket.model, ticket.queue_id)
        assert ticket.download_url is not None
        assert ticket.download_url not in repr(ticket)
        assert not job.done()
        assert ticket == job.ticket == Ticket.from_json(ticket.to_json())
        await job


async def test_awaiting_a_cancelled_job_raises_cancelled_error_and_the_ticket_stays_good(
    tmp_path: Path,
) -> None:
    async with Venice(polls=3) as server, client(server) as venice:
        job = venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
        ticket = await job.queued()
        assert job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert job.cancelled()
        assert not job.cancel()
        assert [] == list(tmp_path.iterdir())
        assert "DELETE /link" not in wire(server)
        video = await venice.resume(ticket, to=tmp_path / "clip.mp4")
        assert len(CLIP) == video.size
        assert 1 == len(server.charges)


async def test_a_job_cancelled_before_it_is_queued_pays_nothing(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        with pytest.raises(asyncio.CancelledError):
            await job.queued()
        stream = venice.stream(PUBLIC)
        stream.cancel()
        await stream.ended()
        assert [] == server.charges


async def test_a_job_cancelled_during_the_paid_request_still_learns_its_ticket(tmp_path: Path) -> None:
    async with Venice(queue=[fault(delay=20.0)]) as server, client(server) as venice:
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        await until(lambda: len(server.charges) == 1)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert Ticket(model="public-model", queue_id=server.charges[0].queue_id) == job.ticket
        assert ["POST /video/queue"] == wire(server)


async def test_resume_takes_the_json_of_a_ticket_and_pays_nothing(tmp_path: Path) -> None:
    async with Venice(polls=3) as server:
        async with client(server) as venice:
            job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
            text = (await job.queued()).to_json()
            job.cancel()
        async with client(server) as venice:
            video = await venice.resume(text, to=tmp_path / "clip.mp4")
        assert CLIP == Path(video).read_bytes()
        assert 1 == len(server.charges)


async def test_leaving_the_block_waits_for_the_jobs(tmp_path: Path) -> None:
    async with Venice(polls=4) as server:
        async with client(server) as venice:
            jobs = [venice.generate(PUBLIC, to=tmp_path / f"{index}.mp4") for index in range(3)]
        assert [True] * 3 == [job.done() for job in jobs]
        assert 3 == len(list(tmp_path.iterdir()))


async def test_leaving_by_an_error_returns_within_a_second_with_nothing_deleted(tmp_path: Path) -> None:
    async with Venice(polls=1000) as server:
        job: VideoJob | None = None
        started = 0.0
        with pytest.raises(ZeroDivisionError):
            async with client(server) as venice:
                job = venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
                await job.queued()
                started = anyio.current_time()
                raise ZeroDivisionError
        assert anyio.current_time() - started < 1
        assert job is not None
        assert job.cancelled()
        assert "DELETE /link" not in wire(server)


async def test_leaving_by_an_error_during_the_paid_request_returns_within_a_second_and_learns_the_answer(
    tmp_path: Path,
) -> None:
    async with Venice(queue=[fault(delay=10.0)]) as server:
        with pytest.raises(ZeroDivisionError):
            async with client(server) as venice:
                job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
                await until(lambda: len(server.charges) == 1)
                started = anyio.current_time()
                raise ZeroDivisionError
        assert anyio.current_time() - started < 1
        await job.ended()
        assert Ticket(model="public-model", queue_id=server.charges[0].queue_id) == job.ticket


async def test_when_asyncio_run_ends_all_tasks_the_answer_to_the_paid_request_is_still_journalled(
    tmp_path: Path,
) -> None:
    async with Venice(queue=[fault(delay=10.0)]) as server:
        others = asyncio.all_tasks()
        with pytest.raises(ZeroDivisionError):
            async with client(server, journal=tmp_path / "jobs.db") as venice:
                venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
                await until(lambda: len(server.charges) == 1)
                raise ZeroDivisionError
        left = [task for task in asyncio.all_tasks() - others if "RequestHandler" not in repr(task)]
        for task in left:
            task.cancel()  # as asyncio.run does once its main task is over
        await asyncio.wait(left)
        async with client(server, journal=tmp_path / "jobs.db") as venice:
            (entry,) = await venice.pending()
        assert Ticket(model="public-model", queue_id=server.charges[0].queue_id) == entry.ticket


async def test_a_cancelled_block_stops_watching_and_returns_within_a_second(tmp_path: Path) -> None:
    async with Venice(polls=1000) as server:

        async def work() -> None:
            async with client(server) as venice:
                await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")

        task = asyncio.create_task(work())
        await until(lambda: len(server.charges) == 1)
        started = anyio.current_time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert anyio.current_time() - started < 1


async def test_an_error_inside_the_block_comes_out_bare(tmp_path: Path) -> None:
    async with Venice(queue=[REFUSED]) as server:
        with pytest.raises(AuthenticationError) as caught:
            async with client(server) as venice:
                await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert caught.value.charged is False
        assert "No such key" in str(caught.value)


async def test_a_failed_job_that_nobody_awaited_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Venice(queue=[REFUSED]) as server, client(server) as venice:
        venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
    gc.collect()
    found = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert ["venice_async.job"] == [record.name for record in found]
    assert "never awaited" in found[0].getMessage()
    assert "No such key" in found[0].getMessage()


async def test_a_failed_job_that_was_awaited_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Venice(queue=[REFUSED]) as server, client(server) as venice:
        with pytest.raises(VeniceError):
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
    gc.collect()
    assert [] == [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_client_may_be_entered_and_left_by_different_tasks(tmp_path: Path) -> None:
    async with Venice() as server:
        stack = AsyncExitStack()
        venice = await asyncio.create_task(stack.enter_async_context(client(server)))
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        await asyncio.create_task(stack.aclose())
        assert (await job).path == tmp_path / "clip.mp4"


async def test_a_client_without_a_block_is_opened_once_and_closed_for_good(tmp_path: Path) -> None:
    async with Venice() as server:
        venice = await client(server).open()
        assert venice is await venice.open()
        assert (await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")).path == tmp_path / "clip.mp4"
        await venice.aclose()
        with pytest.raises(UsageError, match="once"):
            await venice.open()


async def test_use_outside_the_block_is_a_clear_error(tmp_path: Path) -> None:
    async with Venice() as server:
        venice = client(server)
        with pytest.raises(UsageError, match=r"not open yet.*'async with.*'await venice\.open\(\)'"):
            venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        async with venice:
            pass
        with pytest.raises(UsageError, match="closed"):
            venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        with pytest.raises(UsageError, match="once"):
            async with venice:
                pass


async def test_an_argument_of_no_use_is_a_usage_error_when_it_is_passed(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        anything: Any = "a prompt"
        clip = tmp_path / "clip.mp4"
        with pytest.raises(UsageError, match="must be a VideoRequest, not str"):
            venice.generate(anything, to=clip)
        with pytest.raises(UsageError, match="max_usd"):
            venice.generate(PUBLIC, to=clip, max_usd=anything)
        with pytest.raises(UsageError, match="priority"):
            venice.generate(PUBLIC, to=clip, priority=anything)
        wrong: Any
        for wrong in (anything, None, 5, {"model": "m"}, b"[]"):
            with pytest.raises(UsageError, match="ticket"):
                venice.resume(wrong, to=clip)
        for ask in (venice.quote, venice.complete, venice.revoke):
            with pytest.raises(UsageError):
                await ask(anything)
        assert [] == server.requests


async def test_use_from_another_event_loop_is_a_clear_error(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")

        async def elsewhere() -> None:
            with pytest.raises(UsageError, match="event loop"):
                venice.generate(PUBLIC, to=tmp_path / "other.mp4")
            with pytest.raises(UsageError, match="event loop"):
                await job
            with pytest.raises(UsageError, match="event loop"):
                await venice.aclose()
            with pytest.raises(UsageError, match="event loop"):
                await venice.__aexit__(None, None, None)

        await anyio.to_thread.run_sync(lambda: asyncio.run(elsewhere()))
        await job


def test_a_missing_key_is_a_usage_error_when_the_client_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VENICE_API_KEY", raising=False)
    with pytest.raises(UsageError, match="no API key"):
        VeniceClient()


async def test_key_and_address_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Venice(api_key="from-the-environment") as server:
        monkeypatch.setenv("VENICE_API_KEY", "from-the-environment")
        monkeypatch.setenv("VENICE_BASE_URL", server.base_url)
        async with VeniceClient() as venice:
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert 1 == len(server.charges)


async def test_a_borrowed_session_is_used_and_not_closed(tmp_path: Path) -> None:
    used: list[str] = []

    async def note(_: object, __: object, params: aiohttp.TraceRequestStartParams) -> None:
        used.append(params.url.path)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(note)
    async with Venice() as server, aiohttp.ClientSession(trace_configs=[trace]) as session:
        async with client(server, session=session) as venice:
            await venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
        assert not session.closed
        assert {"/api/v1/video/queue", "/api/v1/video/retrieve"} == set(used)
        paid = server.asked("POST /video/queue")[0].connection
        assert [paid] == [request.connection for request in server.requests if request.connection == paid]


async def test_a_session_that_was_closed_is_refused_when_the_client_is_opened() -> None:
    async with aiohttp.ClientSession() as session:
        pass
    async with Venice() as server:
        with pytest.raises(UsageError, match="The HTTP session is closed"):
            async with client(server, session=session):
                pytest.fail("it was let in")
        assert [] == server.requests


async def test_a_session_that_is_closed_while_a_job_waits_ends_it_at_once_with_its_ticket(
    tmp_path: Path,
) -> None:
    async with (
        Venice(scenarios={"*": Scenario(outcome="never")}) as server,
        aiohttp.ClientSession() as session,
        client(server, session=session) as venice,
    ):
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        ticket = await job.queued()
        await session.close()
        before = anyio.current_time()
        with pytest.raises(UsageError, match="Keep a session of yours open") as caught:
            await job
        assert anyio.current_time() - before < 60
        assert ticket == caught.value.ticket
        with pytest.raises(UsageError, match="The HTTP session is closed") as refused:
            await venice.generate(PUBLIC, to=tmp_path / "other.mp4")
        assert refused.value.charged is False
        assert 1 == len(server.charges)


async def test_a_netrc_for_all_hosts_does_not_replace_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login user password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with (
        Venice() as server,
        aiohttp.ClientSession(trust_env=True) as session,
        client(server, session=session) as venice,
    ):
        await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", max_usd=1)
        assert 1 == len(server.charges)


async def test_what_a_trace_of_a_borrowed_session_raises_is_not_taken_for_a_cut_connection() -> None:
    async def fail(*_: object) -> None:
        raise LookupError

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(fail)
    async with (
        Venice() as server,
        aiohttp.ClientSession(trace_configs=[trace]) as session,
        client(server, session=session) as venice,
    ):
        with pytest.raises(ConnectError, match=r"not sent: The HTTP session failed: LookupError\. Nothing"):
            await venice.quote(PUBLIC)


@for_each(
    "url",
    [
        *("http://user:s3cret@127.0.0.1/v1", "http://:s3cret@127.0.0.1/v1", "http://@127.0.0.1/v1"),
        *("http://127.0.0.1/v1?", "http://127.0.0.1/v1#x", "http://127.0.0.1/v1?a=1", "http://[::1"),
        *("http://a b/v1", "http://a\0/v1", "http://..example/v1", f"http://{'a' * 64}.example/v1"),
    ],
)
def test_a_base_url_that_no_request_can_be_made_of_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match="base_url, or VENICE_BASE_URL") as caught:
        VeniceClient(KEY, base_url=url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # aiohttp is parting with auth=
async def test_a_session_that_authenticates_in_its_own_way_is_refused_at_once() -> None:
    async with Venice() as server, aiohttp.ClientSession(auth=aiohttp.BasicAuth("u", "p")) as session:
        with pytest.raises(UsageError, match="auth= of its own"):
            async with client(server, session=session):
                pytest.fail("it was let in")
        assert [] == server.requests


async def test_a_status_is_an_answer_even_to_a_borrowed_session_that_raises_for_it(tmp_path: Path) -> None:
    forbidden = json_answer({"error": "Not allowed"}, status=403)
    async with (
        Venice(queue=[BUSY, REFUSED], retrieve=[forbidden]) as server,
        aiohttp.ClientSession(raise_for_status=True) as session,
        client(server, session=session) as venice,
    ):
        with pytest.raises(AuthenticationError) as caught:
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert caught.value.charged is False
        with pytest.raises(PermissionDeniedError):
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert 1 == len(server.charges)


async def test_each_paid_request_has_a_connection_of_its_own(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        for index in range(3):
            await venice.generate(PUBLIC, to=tmp_path / f"{index}.mp4")
        paid = [request.connection for request in server.asked("POST /video/queue")]
        polls = {request.connection for request in server.asked("POST /video/retrieve")}
        assert 3 == len(set(paid))
        assert not set(paid) & polls


@pytest.mark.parametrize("problem", ["folder", "exists", "is a folder's file"])
async def test_a_destination_that_cannot_work_is_found_before_anything_is_paid(
    tmp_path: Path, problem: str
) -> None:
    (tmp_path / "there.mp4").write_bytes(b"mine")
    to = {
        "folder": tmp_path / "missing" / "clip.mp4",
        "exists": tmp_path / "there.mp4",
        "is a folder's file": tmp_path / "there.mp4" / "clip.mp4",
    }[problem]
    async with Venice() as server, client(server) as venice:
        with pytest.raises(UsageError) as caught:
            await venice.generate(PUBLIC, to=to)
        assert [] == server.requests
        assert caught.value.hint
    assert b"mine" == (tmp_path / "there.mp4").read_bytes()


async def test_two_jobs_bound_for_the_same_file_are_refused_before_the_second_is_paid(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        first = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        await first.queued()
        with pytest.raises(UsageError, match="Another job"):
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", overwrite=True)
        await first
        await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", overwrite=True)
        assert 2 == len(server.charges)


async def test_two_jobs_bound_for_the_same_file_are_refused_however_its_path_is_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "also").symlink_to(tmp_path / "folder")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "folder" / "clip.mp4")
    others = ["folder/../folder/clip.mp4", "also/clip.mp4", "link.mp4"]
    async with Venice() as server, client(server) as venice:
        first = venice.generate(PUBLIC, to=tmp_path / "folder" / "clip.mp4")
        await first.queued()
        for to in [f"{tmp_path}/{other}" for other in others] + [(tmp_path / "folder/clip.mp4").as_uri()]:
            with pytest.raises(UsageError, match="Another job"):
                await venice.generate(PUBLIC, to=to, overwrite=True)
        await first
        assert 1 == len(server.charges)


async def test_an_existing_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"old")
    async with Venice() as server, client(server) as venice:
        await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", overwrite=True)
    assert CLIP == (tmp_path / "clip.mp4").read_bytes()


async def test_the_deadline_raises_with_the_ticket_and_the_job_can_be_resumed(tmp_path: Path) -> None:
    async with Venice(polls=60) as server:
        async with client(server, timeouts=Timeouts(job=20)) as venice:
            with pytest.raises(JobTimeoutError) as caught:
                await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.charged is True
        assert caught.value.ticket is not None
        async with client(server) as venice:
            video = await venice.resume(caught.value.ticket.to_json(), to=tmp_path / "clip.mp4")
        assert len(CLIP) == video.size


@pytest.mark.parametrize(
    ("request_", "troubles", "said"),
    [
        pytest.param(
            PUBLIC, [BUSY] * 99, "after 8 s; the latest trouble: The model is at capacity", id="polls"
        ),
        pytest.param(PRIVATE, [BUSY], "after 8 s; the latest trouble: The model is at capacity", id="a link"),
        pytest.param(PUBLIC, [], "after 8 s. The job", id="none"),
        pytest.param(PUBLIC, [BUSY, NEWS], "after 8 s. The job", id="none any more"),
    ],
)
async def test_the_deadline_tells_the_latest_trouble(
    tmp_path: Path, request_: VideoRequest, troubles: list[Fault], said: str
) -> None:
    polls = [] if request_ is PRIVATE else [*troubles, *[NEWS] * 99]
    link = troubles if request_ is PRIVATE else []
    async with (
        Venice(retrieve=polls, link=link, polls=0) as server,
        client(server, timeouts=Timeouts(job=8.0)) as venice,
    ):
        with pytest.raises(JobTimeoutError, match=said):
            await venice.generate(request_, to=tmp_path / "clip.mp4")


async def test_a_job_has_a_deadline_of_half_an_hour_when_none_is_given(tmp_path: Path) -> None:
    async with Venice(polls=10**9) as server, client(server) as venice:
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        await job.queued()
        started = anyio.current_time()
        with pytest.raises(JobTimeoutError):
            await job
        assert 1800 == pytest.approx(anyio.current_time() - started, abs=60)


async def test_on_state_is_told_the_states_of_all_jobs_and_may_fail(tmp_path: Path) -> None:
    told: list[tuple[VideoJob, object]] = []

    def note(job: VideoJob, state: object) -> None:
        told.append((job, state))
        assert not isinstance(state, Waiting)

    async with Venice() as server, client(server, on_state=note) as venice:
        jobs = [venice.generate(PUBLIC, to=tmp_path / f"{index}.mp4") for index in range(2)]
        for job in jobs:
            await job
    for job in jobs:
        assert job.state == [state for owner, state in told if owner is job][-1]


async def test_a_listener_that_would_have_to_be_awaited_is_refused() -> None:
    async def note(_job: VideoJob, _state: object) -> None: ...

    with pytest.raises(UsageError, match="on_state must be a plain function"):
        VeniceClient(KEY, on_state=note)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - the very point


async def test_a_job_of_a_model_that_is_known_has_an_estimate_before_its_first_poll(tmp_path: Path) -> None:
    async with Venice(polls=10**9) as server, client(server) as venice:
        first = venice.generate(PUBLIC, to=tmp_path / "first.mp4")
        await until(lambda: isinstance(first.state, Waiting) and first.state.eta is not None)
        second = venice.generate(PUBLIC, to=tmp_path / "second.mp4")
        await second.queued()
        await until(lambda: isinstance(second.state, Waiting) and second.state.eta is not None)
        assert isinstance(second.state, Waiting)
        assert second.state.elapsed is None
        first.cancel()
        second.cancel()


async def test_the_retries_of_a_client_are_rationed() -> None:
    async with Venice(models=[BUSY] * 20) as server:
        async with client(server, retries=Retries(quota=10, cost=5)) as venice:
            for _ in range(3):
                with pytest.raises(ServerError):
                    await venice.models()
        assert 3 + 2 == len(server.requests)


async def test_an_endless_answer_is_read_to_a_limit() -> None:
    async with Venice(models=[endless(b'{"data": "' + b"x" * 1000)]) as server, client(server) as venice:
        with pytest.raises(ProtocolError, match="longer than 16777216 bytes"):
            await venice.models()
        assert 1 == len(server.requests)


async def test_every_request_names_the_library(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        await venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
    assert {f"venice-async/{__version__}"} == {
        request.headers.get("user-agent") for request in server.requests
    }


async def test_a_clip_can_be_streamed_instead_of_saved() -> None:
    async with Venice() as server, client(server) as venice:
        job = venice.stream(PUBLIC)
        assert CLIP == b"".join([chunk async for chunk in job.stream()])
        video = await job
        assert (None, len(CLIP)) == (video.path, video.size)


async def test_a_stream_is_read_once() -> None:
    async with Venice() as server, client(server) as venice:
        job = venice.stream(PUBLIC)
        async for _ in job.stream():
            with pytest.raises(UsageError, match="is being read, or was"):
                await anext(job.stream())


async def test_a_clip_that_its_reader_leaves_at_the_last_chunk_stays_at_the_server(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        job = venice.stream(PUBLIC)
        received = 0
        async with aclosing(job.stream()) as chunks:
            while received < len(CLIP):
                received += len(await anext(chunks))
        with pytest.raises(DownloadError, match="The reader stopped") as caught:
            await job
        assert 0 == len(server.asked("POST /video/complete"))
        assert caught.value.ticket is not None
        video = await venice.resume(caught.value.ticket, to=tmp_path / "clip.mp4")
        assert CLIP == Path(video).read_bytes()


async def test_awaiting_a_clip_that_nobody_reads_is_an_error_at_once_and_pays_nothing(tmp_path: Path) -> None:
    async with Venice() as server:
        with pytest.raises(UsageError, match=r"nobody reads its clip.*async for"):
            async with client(server) as venice:
                await venice.stream(PUBLIC)
        assert [] == server.requests
        async with client(server) as venice:
            job = venice.stream(PUBLIC)
            ticket = await job.queued()
            with pytest.raises(UsageError) as caught:
                await job
            assert "charged" not in str(caught.value)  # it is paid for
            await job.ended()
            with pytest.raises(DownloadError, match="nobody began to read it"):
                await job
            assert CLIP == Path(await venice.resume(ticket, to=tmp_path / "clip.mp4")).read_bytes()


async def test_a_clip_without_a_destination_is_refused_before_anything_is_sent() -> None:
    async with Venice() as server, client(server) as venice:
        nothing: Any = None
        with pytest.raises(TypeError, match="to"):
            venice.generate(PUBLIC)  # type: ignore[call-arg] # the slip
        with pytest.raises(UsageError, match=r"venice\.stream\(request\)"):
            venice.generate(PUBLIC, to=nothing)
        assert [] == server.requests


async def test_a_failed_stream_raises_and_a_reader_never_hangs() -> None:
    async with Venice(queue=[REFUSED]) as server, client(server) as venice:
        with pytest.raises(AuthenticationError):
            async for _ in venice.stream(PUBLIC).stream():
                pytest.fail("nothing was to come")


async def test_drain_awaits_what_is_paid_and_hands_over_the_tickets_of_the_rest(tmp_path: Path) -> None:
    scenarios = {"*": [Scenario(seconds=0, polls=2), Scenario(outcome="never")]}
    async with Venice(scenarios=scenarios) as server, client(server) as venice:
        quick = venice.generate(PUBLIC, to=tmp_path / "quick.mp4")
        await quick.queued()
        slow = venice.generate(PUBLIC, to=tmp_path / "slow.mp4")
        ticket = await slow.queued()
        started = anyio.current_time()
        assert [ticket] == await venice.drain(60)
        assert 61 >= anyio.current_time() - started
        assert isinstance(quick.state, Succeeded)
        with pytest.raises(UsageError, match="draining"):
            venice.generate(PUBLIC, to=tmp_path / "new.mp4")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(json_answer([]), id="a list"),
        pytest.param(json_answer({"status": 7}), id="a number for a status"),
        pytest.param(html_answer(), id="HTML"),
        pytest.param(json_answer({"error": "busy"}, status=503), id="503"),
        pytest.param(json_answer({"error": "edge"}, status=502), id="502"),
    ],
)
async def test_a_poll_without_news_does_not_end_a_job(tmp_path: Path, answer: Fault) -> None:
    async with Venice(retrieve=[answer] * 12) as server, client(server) as venice:
        video = await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert len(CLIP) == video.size
        assert 1 == len(server.charges)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 422])
async def test_a_poll_that_is_refused_ends_the_job_with_the_ticket(tmp_path: Path, status: int) -> None:
    refusal = json_answer({"error": "No"}, status=status)
    async with Venice(retrieve=[refusal]) as server, client(server) as venice:
        with pytest.raises(VeniceError) as caught:
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        charged = None if status == 422 else True  # which says that the job failed: it may be refunded
        assert charged is caught.value.charged
        assert server.charges[0].queue_id == (caught.value.ticket and caught.value.ticket.queue_id)
        assert 1 == len(server.asked("POST /video/retrieve"))


async def test_a_slow_models_clip_may_be_fetched_after_half_an_hour(tmp_path: Path) -> None:
    slow = json_answer(
        {"status": "PROCESSING", "average_execution_time": 3_600_000, "execution_duration": 1000}
    )
    async with Venice(retrieve=[slow] * 400, polls=0) as server, client(server) as venice:
        job = venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
        await job.queued()
        started = anyio.current_time()
        assert len(CLIP) == (await job).size
        assert anyio.current_time() - started > 1800


async def test_a_job_that_is_not_paid_for_when_the_client_drains_fails_and_says_so(tmp_path: Path) -> None:
    full = Limits(queue_per_minute=1)
    async with Venice(polls=0) as server, client(server, limits=full) as venice:
        jobs = [venice.generate(PUBLIC, to=tmp_path / f"{index}.mp4") for index in range(9)]
        first = [asyncio.create_task(job.queued()) for job in jobs]
        # Whichever destination was checked first: that is done in threads.
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        waiting = asyncio.gather(*first, return_exceptions=True)
        await asyncio.sleep(1)
        await venice.drain(10)
        answers = await waiting
        assert len(server.charges) == sum(isinstance(answer, Ticket) for answer in answers)
        unpaid = [answer for answer in answers if isinstance(answer, VeniceError)]
        assert 9 == len(unpaid) + len(server.charges)
        assert "Nothing was charged" in str(unpaid[-1])


async def test_reading_updates_to_the_end_is_looking_at_how_a_job_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Venice(queue=[REFUSED]) as server, client(server) as venice:
        async for _ in venice.generate(PUBLIC, to=tmp_path / "clip.mp4").updates():
            pass
    assert "never awaited" not in caplog.text


async def test_jobs_of_a_model_that_is_done_at_once_wait_for_nothing(tmp_path: Path) -> None:
    async with (
        Venice(polls=0) as server,
        client(server, limits=Limits(queue_per_minute=6000)) as venice,
    ):
        started = anyio.current_time()
        for index in range(5):
            await venice.generate(PUBLIC, to=tmp_path / f"{index}.mp4")
        assert anyio.current_time() - started < 1
        assert 5 == len(server.asked("POST /video/retrieve"))


async def test_a_paid_job_that_is_no_longer_watched_is_named_in_the_log_unless_it_is_kept_or_was_stopped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, options in {"kept": {"journal": tmp_path / "jobs.db"}, "lost": {}}.items():
        async with Venice(polls=10_000) as server:
            with pytest.raises(KeyError):
                async with client(server, **options) as venice:
                    first, second = [venice.generate(PUBLIC, to=tmp_path / f"{name}{n}.mp4") for n in "12"]
                    await second.queued()
                    second.cancel()
                    await first.queued()
                    raise KeyError
        told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert [repr(first.ticket) in text for text in told] == [True] * (name == "lost")


async def test_a_job_whose_task_is_cancelled_while_it_tidies_up_has_ended_and_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    aborting = asyncio.Event()

    class Slow(MemorySink):
        async def abort(self) -> None:
            aborting.set()
            await asyncio.sleep(60)

    async with Venice(polls=10_000) as server:
        venice = await client(server).open()
        job = venice.generate(PUBLIC, to=Slow())
        await job.queued()
        leaving = asyncio.create_task(venice.aclose())
        await aborting.wait()
        for task in asyncio.all_tasks():  # as asyncio.run does at its end
            if task.get_name() == "venice_async.job":
                task.cancel()
        await leaving
    assert job.cancelled()
    assert repr(job.ticket) in caplog.text


async def test_who_leaves_by_an_error_while_a_disk_hangs_is_told_that_it_is_the_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, answers = threading.Event(), threading.Event()
    write = os.write

    def slow_write(descriptor: int, data: bytes) -> int:
        hangs.set()
        answers.wait()
        return write(descriptor, data)

    async with Venice(polls=1) as server:
        with pytest.raises(KeyError):
            async with client(server) as venice:
                job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
                await job.queued()
                monkeypatch.setattr(os, "write", slow_write)
                await until(hangs.is_set)
                raise KeyError
        assert not job.done()
        answers.set()
        await job.ended()
    assert "A disk or a destination does not answer" in caplog.text
    assert "A paid request is still on its way" not in caplog.text
    assert list(tmp_path.iterdir()) == []


async def test_a_function_of_the_caller_that_is_cancelled_on_its_own_stops_no_other_job(
    tmp_path: Path,
) -> None:
    async def is_cancelled(_: object) -> None:
        closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        closed.cancel()
        await closed

    async def cancels_itself(_: object) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.sleep_forever()

    def raises(*_: object) -> None:
        raise asyncio.CancelledError

    question = {
        "error": {"code": "needs_consent"},
        "consent_flow": "seedance",
        "consent": {"policy_text": "P"},
    }
    asks = json_answer(question, status=409)
    functions: list[dict[str, Any]] = [
        *({"on_consent": function} for function in (is_cancelled, cancels_itself, raises)),
        *({"on_done": function} for function in (is_cancelled, raises)),
        {"on_state": raises},
    ]
    for number, options in enumerate(functions):
        folder = tmp_path / str(number)
        folder.mkdir()
        faults = [fault(), asks] if "on_consent" in options else []
        async with Venice(polls=3, queue=faults) as server, client(server, **options) as venice:
            other = venice.generate(PUBLIC, to=folder / "other.mp4")
            await other.queued()
            job = venice.generate(PUBLIC, to=folder / "a.mp4")
            if "on_consent" in options:
                with pytest.raises(ConsentError, match="on_consent failed"):
                    await job
            else:
                assert (await job).size
            assert (await other).size
            assert (await venice.generate(PUBLIC, to=folder / "last.mp4")).size
