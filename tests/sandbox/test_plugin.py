"""The fixture that a user gets from the pytest plugin."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

import aiohttp
import pytest

from venice_async.sandbox import Sandbox, Scenario

from .talk import CLIP, TEXT, Talk, order


@pytest.fixture
def venice_sandbox_options() -> dict[str, Any]:
    """Use tiny clips, at once."""
    return {"clips": CLIP, "scenarios": {"*": Scenario(seconds=0)}}


def test_it_serves_a_test_that_knows_no_event_loop(venice_sandbox: Sandbox) -> None:
    headers = {"Authorization": f"Bearer {venice_sandbox.api_key}", "Content-Type": "application/json"}
    data = json.dumps(order()).encode()
    request = urllib.request.Request(venice_sandbox.base_url + "/video/queue", data, headers)  # noqa: S310 - http, on loopback
    with urllib.request.urlopen(request) as response:  # noqa: S310 - http, on loopback
        assert TEXT == json.load(response)["model"]
    assert [TEXT] == [charge.model for charge in venice_sandbox.charges]
    assert 1 == venice_sandbox.count("/video/queue", status=200)


async def fetch(sandbox: Sandbox) -> bytes:
    """Queue a job and fetch its clip."""
    async with aiohttp.ClientSession() as session:
        venice = Talk(sandbox, session)
        return (await venice.retrieve((await venice.queue()).json)).content


def test_it_serves_a_test_that_runs_a_loop_of_its_own(venice_sandbox: Sandbox) -> None:
    assert CLIP == asyncio.run(fetch(venice_sandbox))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_serves_an_async_test(venice_sandbox: Sandbox) -> None:
    assert CLIP == await fetch(venice_sandbox)
    assert ["queue", "video"] == [request.point for request in venice_sandbox.requests]
