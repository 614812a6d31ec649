"""Starting and stopping: in process, across tasks, on any event loop, and for ever."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import re
import subprocess
import sys
import threading
from functools import partial
from io import BytesIO
from types import ModuleType
from typing import Any

import aiohttp
import anyio
import pytest

import venice_async.sandbox
from venice_async.errors import UsageError
from venice_async.sandbox import Fault, Sandbox, Scenario, serve

from .talk import CLIP, IMAGE, PICTURE, PRIVATE, TEXT, Talk, talk

pytestmark = pytest.mark.anyio

REAL = pytest.param("asyncio", id="asyncio")
UVLOOP = pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop")


async def test_its_port_may_be_chosen_and_a_taken_one_is_an_error_that_leaves_nothing_open() -> None:
    async with talk() as venice:
        taken = venice.sandbox.port
        assert f"http://127.0.0.1:{taken}/api/v1" == venice.sandbox.base_url
        with pytest.raises(OSError, match=str(taken)):
            async with Sandbox(port=taken, clips=CLIP):
                pass
    async with talk(port=taken) as venice:
        assert 200 == (await venice.quote()).status


async def test_it_may_be_left_by_another_task_than_entered_it() -> None:
    sandbox = Sandbox(clips=CLIP)
    await asyncio.create_task(sandbox.__aenter__())
    await asyncio.create_task(sandbox.aclose())


async def test_it_can_be_entered_once() -> None:
    async with Sandbox(clips=CLIP) as sandbox:
        with pytest.raises(UsageError):
            await sandbox.__aenter__()


def _no_module(_: str) -> None:
    """Find nothing."""


async def test_without_pyav_it_says_what_to_install_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", _no_module)
    with pytest.raises(UsageError, match=r"venice-async\[sandbox\]"):
        await Sandbox().__aenter__()
    async with Sandbox(clips=CLIP):
        pass


async def test_charges_and_requests_can_be_read_after_it_was_left() -> None:
    async with talk() as venice:
        await venice.queue()
    assert (1, 1) == (len(venice.sandbox.charges), len(venice.sandbox.requests))


async def test_neither_key_nor_link_is_in_its_repr() -> None:
    async with talk() as venice:
        link = (await venice.queue(PRIVATE)).json["download_url"]
        assert venice.sandbox.api_key not in repr(venice.sandbox)
        assert link.partition("signature=")[2] not in repr(venice.sandbox)


@pytest.mark.parametrize("anyio_backend", [REAL, UVLOOP])
async def test_a_job_runs_on_a_real_loop_too() -> None:
    scenarios = {TEXT: Scenario(seconds=3), IMAGE: Scenario(outcome="never")}
    async with talk(scenarios=scenarios) as venice:
        running = await venice.retrieve((await venice.queue(IMAGE, image_url=PICTURE)).json)
        ticket = (await venice.queue()).json
        with anyio.fail_after(600):
            while CLIP != (await venice.retrieve(ticket)).content:  # noqa: ASYNC110 - the very thing under test
                await anyio.sleep(0.06)
    assert "PROCESSING" == running.json["status"]


@pytest.mark.parametrize("anyio_backend", [REAL, UVLOOP])
async def test_cuts_and_resets_work_on_a_real_loop_too() -> None:
    faults = [Fault(on="video", reset_at=100), Fault(on="video", cut_at=100)]
    async with talk(scenarios={"*": Scenario(seconds=0)}, faults=faults) as venice:
        ticket = (await venice.queue()).json
        for _ in faults:
            with pytest.raises(aiohttp.ClientError):
                await venice.retrieve(ticket)
        assert CLIP == (await venice.retrieve(ticket)).content


@pytest.mark.parametrize("anyio_backend", [REAL, UVLOOP])
async def test_it_closes_at_once_whatever_hangs() -> None:
    """It may take a slow machine a while, but what hangs does so for an hour, or for ever."""
    faults = [Fault(on="quote", hang=3600), Fault(on="queue", delay=3600), Fault(on="video", stall_at=5)]
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout) as session, anyio.create_task_group() as tasks:
        with anyio.fail_after(600):
            async with Sandbox(
                clips=CLIP, scenarios={"*": Scenario(seconds=0)}, faults=faults[:1]
            ) as sandbox:
                venice = Talk(sandbox, session)
                ticket = (await venice.queue()).json
                sandbox.inject(*faults[1:])
                for call in (venice.quote, venice.queue, lambda: venice.retrieve(ticket)):
                    tasks.start_soon(_disconnected, call)
                while len(sandbox.requests) < 4:  # noqa: ASYNC110 - the sandbox tells nobody
                    await anyio.sleep(0.01)


async def _disconnected(call: Any) -> None:
    with pytest.raises(aiohttp.ClientError):
        await call()


async def test_serve_announces_itself_at_once_and_runs_until_cancelled() -> None:
    announced: list[tuple[str, str]] = []

    async def run() -> None:
        await serve(port=0, speed=60, clips=CLIP, announce=lambda url, key: announced.append((url, key)))

    async with aiohttp.ClientSession() as session, anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        while not announced:  # noqa: ASYNC110 - `announce` is no coroutine
            await anyio.sleep(0.01)
        ((url, key),) = announced
        async with session.get(url + "/models", headers={"Authorization": f"Bearer {key}"}) as response:
            assert 200 == response.status
        tasks.cancel_scope.cancel()


class Renderer(ModuleType):
    """Stands in for the renderer: waits for `allowed`, and tells which thread it ran in."""

    def __init__(self) -> None:
        super().__init__("venice_async.sandbox.clips.render")
        self.begun = threading.Event()
        self.allowed = threading.Event()
        self.threads: list[threading.Thread] = []
        self.fails = False

    def render_clip(self, **order: Any) -> bytes:
        """Return the order as text."""
        self.threads.append(threading.current_thread())
        self.begun.set()
        assert self.allowed.wait(timeout=60)
        if self.fails:
            raise RuntimeError
        return repr(order).encode()


@pytest.fixture
def renderer(monkeypatch: pytest.MonkeyPatch) -> Renderer:
    """Put a stand-in in the renderer's place."""
    stand_in = Renderer()
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    return stand_in


@pytest.mark.parametrize("anyio_backend", [REAL])
async def test_a_clip_is_rendered_once_when_it_is_first_asked_for_and_in_another_thread(
    renderer: Renderer,
) -> None:
    async with talk(clips=None, limits=None, scenarios={"*": Scenario(seconds=0)}) as venice:
        ticket, unwanted = [(await venice.queue()).json for _ in range(2)]
        linked = (await venice.queue(PRIVATE)).json
        assert "COMPLETED" == (await venice.retrieve(linked)).json["status"]
        assert [] == renderer.threads
        answers: list[bytes] = []

        async def ask() -> None:
            answers.append((await venice.retrieve(ticket)).content)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            tasks.start_soon(ask)
            await anyio.to_thread.run_sync(renderer.begun.wait, 60)
            assert 200 == (await venice.quote()).status  # the loop goes on meanwhile
            renderer.allowed.set()
        assert unwanted != ticket
    assert (2, 1) == (len(answers), len(set(answers)))
    assert b"a canal at dawn" in answers[0]
    assert [True] == [thread is not threading.main_thread() for thread in renderer.threads]


@pytest.mark.parametrize("anyio_backend", [REAL])
async def test_a_rendering_that_fails_is_an_inference_that_failed(
    renderer: Renderer, caplog: pytest.LogCaptureFixture
) -> None:
    renderer.fails = True
    renderer.allowed.set()
    async with talk(clips=None, limits=None, scenarios={"*": Scenario(seconds=0)}) as venice:
        ticket = (await venice.queue()).json
        assert 500 == (await venice.retrieve(ticket)).status
    assert ticket["queue_id"] in caplog.text


@pytest.mark.parametrize("anyio_backend", [REAL])
async def test_closing_waits_for_the_renderings_under_way_and_drops_the_others(renderer: Renderer) -> None:
    scenarios = {"*": Scenario(seconds=0)}
    async with (
        anyio.create_task_group() as tasks,
        talk(clips=None, limits=None, scenarios=scenarios) as venice,
    ):
        for ticket in [(await venice.queue()).json for _ in range(5)]:
            tasks.start_soon(_disconnected, partial(venice.retrieve, ticket))
        while len(renderer.threads) < 2:  # noqa: ASYNC110 - threads tell nobody
            await anyio.sleep(0.01)
        threading.Timer(0.1, renderer.allowed.set).start()
    assert 2 == len(renderer.threads)


@pytest.mark.parametrize("anyio_backend", [REAL])
async def test_a_rendered_clip_has_the_length_and_size_asked_for() -> None:
    av = pytest.importorskip("av")
    async with talk(clips=None, limits=None, scenarios={"*": Scenario(seconds=0)}) as venice:
        ticket = (await venice.queue(PRIVATE, duration="1s", resolution="480p", aspect_ratio="1:1")).json
        clip = (await venice.fetch("GET", ticket["download_url"])).content
    with av.open(BytesIO(clip)) as container:
        frames = list(container.decode(video=0))
        assert (480, 480) == (frames[0].width, frames[0].height)
        assert abs(container.duration / 1_000_000 - 1) < 0.1


def test_every_public_name_can_be_imported_and_is_listed_in_order() -> None:
    names = venice_async.sandbox.__all__
    assert sorted(names) == names
    assert [] == [name for name in names if getattr(venice_async.sandbox, name, None) is None]
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = venice_async.sandbox.nothing_such  # pyright: ignore[reportAttributeAccessIssue] - that is the test


def test_importing_the_plugin_imports_nothing_else_of_the_sandbox() -> None:
    code = (
        "import sys, venice_async; before = set(sys.modules); import venice_async.sandbox.pytest_plugin;"
        " print(*sorted(name for name in set(sys.modules) - before if name[:6] in {'venice', 'av'}))"
    )
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - the line above
    assert ["venice_async.sandbox", "venice_async.sandbox.pytest_plugin"] == ran.stdout.split()


async def test_requests_are_logged_without_keys_and_links(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "venice_async.sandbox")
    faults = [Fault(on="quote", drop="before")]
    async with talk(scenarios={"*": Scenario(seconds=0)}, faults=faults) as venice:
        ticket = (await venice.queue(PRIVATE)).json
        await venice.fetch("GET", ticket["download_url"])
        await venice.call("GET", f"/{venice.sandbox.api_key}")
        with pytest.raises(aiohttp.ClientError):
            await venice.quote()
    said = [re.sub(r"\d+ ms", "- ms", record.getMessage()) for record in caplog.records]
    assert [
        "POST /api/v1/video/queue: 200 in - ms",
        "GET /media/(link): 200 in - ms",
        "GET /api/v1/(key): 404 in - ms",
        "POST /api/v1/video/quote: no whole answer in - ms",
    ] == said
