"""The one module that knows aiohttp: what is sent, what is known of a failure, and whose silence counts."""

from __future__ import annotations

import asyncio
import gzip
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.clients import KEY, PRIVATE, PUBLIC, client, wire
from tests.faulty import FaultyVenice, Job, Reply, gzipped, json_reply
from venice_async import (
    ConnectError,
    Media,
    QueueOutcomeUnknownError,
    Timeouts,
    VideoRequest,
)
from venice_async.sandbox.virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio

Handler = aiohttp.ClientHandlerType


async def test_every_call_of_the_api_asks_for_a_plain_answer_on_a_borrowed_session_too(
    tmp_path: Path,
) -> None:
    async def everything(server: FaultyVenice, session: aiohttp.ClientSession | None) -> set[str | None]:
        async with client(server, session=session) as venice:
            await venice.models()
            await venice.quote(PUBLIC)
            await venice.generate(PUBLIC, to=tmp_path, overwrite=True)
            await venice.generate(PRIVATE, to=tmp_path, overwrite=True)
        asked = [request for request in server.requests if request.path.startswith("/api/")]
        return {request.headers.get("accept-encoding") for request in asked}

    async with FaultyVenice() as server, aiohttp.ClientSession(headers={"accept-encoding": "br"}) as session:
        assert {"identity"} == await everything(server, None)
        assert {"identity"} == await everything(server, session)


async def test_what_comes_compressed_all_the_same_is_read(tmp_path: Path) -> None:
    queued = gzipped(json_reply({"model": "public-model", "queue_id": "job-1"}))
    price, news = gzipped(json_reply({"quote": 1.0})), gzipped(json_reply({"status": "PROCESSING"}))
    twice = Reply(headers={"content-encoding": "gzip, gzip"}, body=gzip.compress(price.body))
    async with FaultyVenice(queue=[queued], quote=[price, twice], retrieve=[news], polls=0) as server:
        async with client(server) as venice:
            assert [1.0, 1.0] == [(await venice.quote(PUBLIC)).usd for _ in "12"]
            server.jobs["job-1"] = Job(model="public-model", queue_id="job-1", private=False, polls_left=0)
            await venice.generate(PUBLIC, to=tmp_path)
        assert 1 == len(server.asked("POST /video/queue"))


async def test_bodies_of_1_3_and_30_megabytes_go_out_as_they_are(tmp_path: Path) -> None:
    async with FaultyVenice(polls=0) as server, aiohttp.ClientSession() as session:
        for borrowed in (None, session):
            async with client(server, session=borrowed) as venice:
                for size in (1_000_000, 3_000_000, 30_000_000):
                    image = Media(b"\x89PNG\r\n\x1a\n" + bytes(size * 3 // 4))
                    request = VideoRequest(model="m", prompt="p", image_url=image)
                    await venice.generate(request, to=tmp_path, overwrite=True)
        sizes = [len(request.body) // 1_000_000 for request in server.asked("POST /video/queue")]
    assert [1, 3, 30] * 2 == sizes
    assert {"m"} == {charge["model"] for charge in server.charges}


def failing(when: str) -> Callable[[aiohttp.ClientRequest, Handler], Awaitable[aiohttp.ClientResponse]]:
    """Return a middleware of a borrowed session that raises before or after it sends the paid request."""

    async def middleware(request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        if not request.url.path.endswith("/queue"):
            return await handler(request)
        if when == "after it looked":
            await request.body.as_bytes()  # type: ignore[union-attr]
        if when == "after":
            (await handler(request)).close()
        if when == "twice":
            (await handler(request)).close()
            return await handler(request)
        message = f"no signature for {request.headers['authorization']}"
        raise LookupError(message)

    return middleware


async def test_a_middleware_that_raises_before_anything_is_sent_costs_nothing_and_is_tried_again(
    tmp_path: Path,
) -> None:
    async with (
        FaultyVenice() as server,
        aiohttp.ClientSession(middlewares=(failing("before"),)) as session,
        client(server, session=session) as venice,
    ):
        with pytest.raises(ConnectError, match=r"was not sent.*LookupError") as caught:
            await venice.generate(PUBLIC, to=tmp_path)
        assert (False, [], 0) == (caught.value.charged, wire(server), server.connections)
        assert KEY not in repr(caught.value)
        assert caught.value.__cause__ is caught.value.__context__ is None


async def test_a_warning_turned_into_an_error_before_anything_is_sent_is_a_connection_that_was_not_made(
    tmp_path: Path,
) -> None:
    tries: list[str] = []

    async def warns_once(request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        tries.append(request.url.name)
        if len(tries) == 1:
            message = "a warning"
            raise ResourceWarning(message)
        return await handler(request)

    async with (
        FaultyVenice() as server,
        aiohttp.ClientSession(middlewares=(warns_once,)) as session,
        client(server, session=session) as venice,
    ):
        await venice.generate(PUBLIC, to=tmp_path)
        assert (["queue", "queue"], 1) == (tries[:2], len(server.charges))


@pytest.mark.parametrize("when", ["after", "after it looked", "twice"])
async def test_a_middleware_that_may_have_sent_the_paid_request_leaves_its_outcome_unknown(
    tmp_path: Path, when: str
) -> None:
    async with (
        FaultyVenice() as server,
        aiohttp.ClientSession(middlewares=(failing(when),)) as session,
        client(server, session=session) as venice,
    ):
        with pytest.raises(QueueOutcomeUnknownError) as caught:
            await venice.generate(PUBLIC, to=tmp_path)
        assert (None, True) == (caught.value.charged, caught.value.bytes_sent)
        assert 1 >= len(wire(server)) == len(server.charges)


async def test_a_refusal_by_a_middleware_is_not_the_servers(tmp_path: Path) -> None:
    async def breaker(request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        if request.url.path.endswith("/queue"):
            url = request.url.with_path("/broken")
            return await request.session.get(url)
        return await handler(request)

    async with (
        FaultyVenice(always=json_reply({"error": "The circuit is open"}, status=502)) as server,
        aiohttp.ClientSession(middlewares=(breaker,)) as session,
        client(server, session=session) as venice,
    ):
        with pytest.raises(Exception, match="circuit is open") as caught:
            await venice.generate(PUBLIC, to=tmp_path)
        assert not isinstance(caught.value, QueueOutcomeUnknownError)
        assert ["GET /broken"] * 4 == wire(server)


async def test_each_paid_request_on_a_borrowed_session_has_a_connection_of_its_own(tmp_path: Path) -> None:
    async with FaultyVenice(polls=0) as server, aiohttp.ClientSession() as session:
        async with client(server, session=session) as venice:
            for _ in range(3):
                await venice.models()
                await venice.generate(PUBLIC, to=tmp_path, overwrite=True)
        paid = [request.connection for request in server.asked("POST /video/queue")]
        others = [request.connection for request in server.requests if request.connection not in paid]
    assert (3, len(server.requests) - 3) == (len(set(paid)), len(others))
    assert len(others) > len(set(others))


class StandsStill(FaultyVenice):
    """A Venice after each of whose answers an hour passes, before anybody has had time to read it."""

    async def _send(self, reply: Reply, writer: asyncio.StreamWriter) -> None:
        writer.write(reply.head(formatdate(self.now(), usegmt=True)) + reply.body)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop._jumping._now += 3600


@pytest.mark.parametrize("request_", [PUBLIC, PRIVATE], ids=["inline", "link"])
async def test_an_answer_that_lies_in_the_socket_counts_however_long_the_loop_stood_still(
    tmp_path: Path, request_: VideoRequest
) -> None:
    async with StandsStill() as server, client(server, timeouts=Timeouts(job=1e6)) as venice:
        await venice.generate(request_, to=tmp_path)
        assert (1, "private" in request_.model) == (len(server.charges), server.gets == 1)
