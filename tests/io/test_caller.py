"""Whose turn it was is told of every answer, and no answer is left open."""

from __future__ import annotations

import asyncio

import pytest

from tests.io.answers import FakeResponse
from venice_async import Limits, Polling, Retries, Ticket
from venice_async.io.caller import Caller
from venice_async.io.clock import SystemClock
from venice_async.io.pacing.pacer import Pacer
from venice_async.io.transport import Content
from venice_async.sansio.http.secrets import Secret
from venice_async.sansio.http.wire import HttpRequest, poll_request

pytestmark = pytest.mark.anyio


class Trickling(FakeResponse):
    """An answer of which only the head comes."""

    async def read(self, limit: int) -> Content:
        await asyncio.Event().wait()
        return await super().read(limit)


class Network:
    """Gives one answer."""

    def __init__(self, response: FakeResponse) -> None:
        self.response = response

    async def send(self, request: HttpRequest) -> FakeResponse:
        assert "/video/retrieve" == request.url
        return self.response


async def test_an_answer_is_closed_if_its_request_is_cancelled_while_the_reason_of_a_refusal_is_read() -> (
    None
):
    response = Trickling([], status=429)
    clock = SystemClock()
    pacer = Pacer(limits=Limits(), polling=Polling(), clock=clock)
    caller = Caller(Network(response), pacer, clock, retries=Retries(), api_key=Secret("key"))
    async with pacer.turn("free") as turn:
        asking = asyncio.create_task(caller.send(poll_request(Ticket(model="m", queue_id="q")), turn))
        await asyncio.sleep(0)
        assert (False, False) == (asking.done(), response.closed)
        asking.cancel()
        await asyncio.wait({asking})
    assert (True, True) == (asking.cancelled(), response.closed)
