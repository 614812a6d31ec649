"""The fixture that a user gets from the pytest plugin."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from venice_async import VeniceClient, VideoRequest
from venice_async.sandbox import Sandbox, Scenario, tiny_clip

from .talk import TEXT, Talk, order

CLIP = tiny_clip(100_000)


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


async def program(folder: Path) -> bytes:
    """Do as a program that reads its environment."""
    async with VeniceClient() as venice:
        request = VideoRequest(model=TEXT, prompt="a canal", duration="5s", aspect_ratio="16:9")
        await venice.generate(request, to=folder / "clip.mp4")
    return (folder / "clip.mp4").read_bytes()


def test_a_program_finds_the_sandbox_in_its_environment_and_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("VENICE_JOURNAL", "the journal of whoever runs the test")
    sandbox: Sandbox = request.getfixturevalue("venice_env")
    assert {"VENICE_API_KEY", "VENICE_BASE_URL"} == {
        name for name in os.environ if name.startswith("VENICE_")
    }
    assert CLIP == asyncio.run(program(tmp_path))
    assert ["queue", "video", "complete"] == [request.point for request in sandbox.requests]


class TestRendering:
    @pytest.fixture
    def venice_sandbox_options(self) -> dict[str, Any]:
        return {"clips": None, "scenarios": {"*": Scenario(seconds=0)}}

    def test_clips_are_rendered_on_demand(self, venice_sandbox: Sandbox) -> None:
        assert venice_sandbox.clips is None


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_serves_an_async_test(venice_sandbox: Sandbox) -> None:
    assert CLIP == await fetch(venice_sandbox)
    assert ["queue", "video"] == [request.point for request in venice_sandbox.requests]
