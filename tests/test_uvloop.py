"""The whole way under uvloop: a clip by either delivery, a cancel, and leaving by an error."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import socket
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.clients import until
from venice_async import Polling, Stopped, Ticket, Timeouts, VeniceClient, VideoRequest
from venice_async.sandbox import Sandbox, Scenario, tiny_clip

pytest.importorskip("uvloop", reason="uvloop is not made for this platform")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"]),
]

CLIP = tiny_clip(1_000_000)
PUBLIC = "wan-2-7-text-to-video"
PRIVATE = "grok-imagine-text-to-video-private"
SOON = Scenario(seconds=6.0)  # a tenth of a second, at the sandbox's speed


def sandbox(scenario: Scenario) -> Sandbox:
    return Sandbox(clips=CLIP, speed=60.0, scenarios={"*": scenario})


def client(server: Sandbox, *, journal: Path | None = None) -> VeniceClient:
    polling = Polling(min_gap=0.05)
    return VeniceClient(server.api_key, base_url=server.base_url, polling=polling, journal=journal)


def request(model: str) -> VideoRequest:
    return VideoRequest(model=model, prompt="A gondola at dawn", duration="5s")


async def test_this_is_uvloop() -> None:
    assert "uvloop" == type(asyncio.get_running_loop()).__module__


@pytest.mark.parametrize(("model", "last"), [(PUBLIC, "complete"), (PRIVATE, "revoke")])
async def test_a_clip_arrives_whole_by_either_delivery(tmp_path: Path, model: str, last: str) -> None:
    async with sandbox(SOON) as server:
        async with client(server, journal=tmp_path / "jobs.db") as venice:
            video = await venice.generate(request(model), to=tmp_path / "clip.mp4", max_usd=5.0)
        assert CLIP == (tmp_path / "clip.mp4").read_bytes()
        assert (len(CLIP), 1) == (video.size, len(server.charges))
        assert ("quote", "queue", last) == tuple(server.requests[at].point for at in (0, 1, -1))


async def answer_and_stand_still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a paid request within the loop that asks, and block that: no machine is too slow for it."""
    with suppress(asyncio.IncompleteReadError):
        await reader.readuntil(b"}")
        body = b'{"model": "public-model", "queue_id": "job-1"}'
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        os.write(writer.get_extra_info("socket").fileno(), answer)
        time.sleep(0.5)  # noqa: ASYNC251 - the standstill; libuv asks its timers before its sockets
    writer.close()


async def test_an_answer_that_came_while_the_loop_stood_still_counts(tmp_path: Path) -> None:
    timeouts = Timeouts(connect=0.3, read=0.1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        base_url = f"http://127.0.0.1:{listening.getsockname()[1]}/api/v1"
        server = await asyncio.start_server(answer_and_stand_still, sock=listening)
        async with server, VeniceClient("test-key", base_url=base_url, timeouts=timeouts) as venice:
            job = venice.generate(request(PUBLIC), to=tmp_path / "clip.mp4")
            assert "job-1" == (await job.queued()).queue_id
            job.cancel()


async def test_a_connect_that_is_cancelled_closes_no_descriptor_of_others() -> None:
    """An old uvloop leaves a number in the socket that others are given."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as others:
        base_url = f"http://127.0.0.1:{listening.getsockname()[1]}/api/v1"
        async with VeniceClient("test-key", base_url=base_url) as venice:
            for turns in range(4):
                asking = asyncio.create_task(venice.models())
                while not select.select([listening], [], [], 0)[0]:  # noqa: ASYNC110 - to the turn
                    await asyncio.sleep(0)
                others.enter_context(listening.accept()[0])
                for _ in range(turns):
                    await asyncio.sleep(0)
                asking.cancel()
                await asyncio.wait({asking})
                files = [others.enter_context(Path(os.devnull).open()) for _ in range(8)]  # noqa: ASYNC230 - a device
                del asking
                gc.collect()
                for file in files:
                    os.fstat(file.fileno())


async def test_a_clip_streams() -> None:
    async with sandbox(SOON) as server, client(server) as venice:
        chunks = [chunk async for chunk in venice.stream(request(PRIVATE)).stream()]
    assert CLIP == b"".join(chunks)


async def test_a_cancelled_job_keeps_its_ticket_and_is_resumed(tmp_path: Path) -> None:
    async with sandbox(SOON) as server, client(server) as venice:
        job = venice.generate(request(PRIVATE), to=tmp_path)
        ticket = await job.queued()
        assert job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert Stopped(ticket=ticket) == job.state
        video = await venice.resume(ticket.to_json(), to=tmp_path)
        assert [CLIP] == [file.read_bytes() for file in tmp_path.glob("*.mp4")]
        assert (ticket, 1) == (video.ticket, len(server.charges))


async def test_leaving_by_an_error_loses_nothing(tmp_path: Path) -> None:
    tickets: list[Ticket] = []
    async with sandbox(Scenario(outcome="never")) as server:
        with pytest.raises(ZeroDivisionError):
            async with client(server, journal=tmp_path / "jobs.db") as venice:
                tickets.append(await venice.generate(request(PUBLIC), to=tmp_path).queued())
                await until(lambda: server.count("retrieve") > 0)
                raise ZeroDivisionError
        async with client(server, journal=tmp_path / "jobs.db") as venice:
            assert tickets == [entry.ticket for entry in await venice.pending()]
        assert 0 == server.count("complete")
