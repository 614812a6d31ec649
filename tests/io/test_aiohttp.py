"""The one module that knows aiohttp: what is sent, what is known of a failure, and whose silence counts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.clients import PRIVATE, PUBLIC, client, wire
from tests.venice import KEY, Venice, compressed, fault, json_answer, remade
from tests.virtual_time import VirtualTimeLoop
from venice_async import (
    ConnectError,
    Media,
    QueueOutcomeUnknownError,
    Timeouts,
    VideoRequest,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

pytestmark = pytest.mark.anyio

Handler = aiohttp.ClientHandlerType


async def test_every_call_of_the_api_asks_for_a_plain_answer_on_a_borrowed_session_too(
    tmp_path: Path,
) -> None:
    async def everything(server: Venice, session: aiohttp.ClientSession | None) -> set[str | None]:
        async with client(server, session=session) as venice:
            await venice.models()
            await venice.quote(PUBLIC)
            await venice.generate(PUBLIC, to=tmp_path, overwrite=True)
            await venice.generate(PRIVATE, to=tmp_path, overwrite=True)
        asked = [request for request in server.requests if request.origin == "api"]
        return {request.headers.get("accept-encoding") for request in asked}

    async with Venice() as server, aiohttp.ClientSession(headers={"accept-encoding": "br"}) as session:
        assert {"identity"} == await everything(server, None)
        assert {"identity"} == await everything(server, session)


async def test_what_comes_compressed_all_the_same_is_read(tmp_path: Path) -> None:
    packed = fault(coding="gzip")
    twice = remade(lambda price: compressed(compressed(price)).headed(content_encoding="gzip, gzip"))
    async with Venice(queue=[packed], quote=[packed, twice], retrieve=[packed], polls=1) as server:
        async with client(server) as venice:
            assert [0.25, 0.25] == [(await venice.quote(PUBLIC)).usd for _ in "12"]
            await venice.generate(PUBLIC, to=tmp_path)
        assert 1 == len(server.asked("POST /video/queue"))


async def test_bodies_of_1_3_and_30_megabytes_go_out_as_they_are(tmp_path: Path) -> None:
    async with Venice(polls=0) as server, aiohttp.ClientSession() as session:
        for borrowed in (None, session):
            async with client(server, session=borrowed) as venice:
                for size in (1_000_000, 3_000_000, 30_000_000):
                    image = Media(b"\x89PNG\r\n\x1a\n" + bytes(size * 3 // 4))
                    request = VideoRequest(model="m", prompt="p", duration="5s", image_url=image)
                    await venice.generate(request, to=tmp_path, overwrite=True)
        sizes = [len(request.body) // 1_000_000 for request in server.asked("POST /video/queue")]
    assert [1, 3, 30] * 2 == sizes
    assert {"m"} == {charge.model for charge in server.charges}


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
    connections: list[object] = []

    async def note(*about: object) -> None:
        connections.append(about)

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(note)
    async with (
        Venice() as server,
        aiohttp.ClientSession(middlewares=(failing("before"),), trace_configs=[trace]) as session,
        client(server, session=session) as venice,
    ):
        with pytest.raises(ConnectError, match=r"was not sent.*LookupError") as caught:
            await venice.generate(PUBLIC, to=tmp_path)
        assert (False, [], []) == (caught.value.charged, wire(server), connections)
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
        Venice() as server,
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
        Venice() as server,
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
            url = request.url.with_path("/api/v1/models")
            return await request.session.get(url)
        return await handler(request)

    async with (
        Venice(always=json_answer({"error": "The circuit is open"}, status=502)) as server,
        aiohttp.ClientSession(middlewares=(breaker,)) as session,
        client(server, session=session) as venice,
    ):
        with pytest.raises(Exception, match="circuit is open") as caught:
            await venice.generate(PUBLIC, to=tmp_path)
        assert not isinstance(caught.value, QueueOutcomeUnknownError)
        assert ["GET /models"] * 4 == wire(server)


async def test_each_paid_request_on_a_borrowed_session_has_a_connection_of_its_own(tmp_path: Path) -> None:
    async with Venice(polls=0) as server, aiohttp.ClientSession() as session:
        async with client(server, session=session) as venice:
            for _ in range(3):
                await venice.models()
                await venice.generate(PUBLIC, to=tmp_path, overwrite=True)
        paid = [request.connection for request in server.asked("POST /video/queue")]
        others = [request.connection for request in server.requests if request.connection not in paid]
    assert (3, len(server.requests) - 3) == (len(set(paid)), len(others))
    assert len(others) > len(set(others))


async def stand_still(answer: bytes) -> AsyncGenerator[bytes]:
    """Send an answer; then an hour passes, before anybody has had time to read it."""
    yield answer
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop._jumping._now += 3600


@pytest.mark.parametrize("request_", [PUBLIC, PRIVATE], ids=["inline", "link"])
async def test_an_answer_that_lies_in_the_socket_counts_however_long_the_loop_stood_still(
    tmp_path: Path, request_: VideoRequest
) -> None:
    async with (
        Venice(always=fault(raw=stand_still)) as server,
        client(server, timeouts=Timeouts(job=1e6)) as venice,
    ):
        await venice.generate(request_, to=tmp_path)
        assert (1, "private" in request_.model) == (len(server.charges), server.gets == 1)
