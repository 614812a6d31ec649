"""The dashboard of a fleet: its workers, and the questions that they wait for."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.postgres import execute
from venice_async import Consent, Media, VideoRequest
from venice_async.cli.dashboard.feed import Feed, FleetSeen
from venice_async.io.clock import SystemClock
from venice_async.io.journal.journal import Journal
from venice_async.sandbox import Sandbox, tiny_clip

pytest.importorskip("procrastinate")

from venice_async.fleet import Fleet, Worker

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


async def shown(feed: Feed) -> dict[str, Any]:
    await feed.look()
    news = feed.news("")
    assert news is not None
    return dict(json.loads(news.text))


async def test_a_question_that_a_worker_waits_for_is_answered_on_the_page(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From when the database is that of a fleet, which a dashboard does not make it."""
    monkeypatch.setattr("venice_async.cli.dashboard.feed._EVERY", 0.0)
    execute(postgres, "DROP SCHEMA venice_async CASCADE")
    face = Media(b"\x89PNG\r\n\x1a\n" + bytes(20))
    faces = VideoRequest(model="seedance-2-0-image-to-video", prompt="a face", duration="5s", image_url=face)
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(speed=600, clips=tiny_clip(50_000)))
        journal = await Journal.open(postgres, clock=SystemClock())
        stack.push_async_callback(journal.aclose)
        seen = FleetSeen(postgres, stack)
        feed = Feed(journal, "db", seen)
        assert ([], []) == ((found := await shown(feed))["questions"], found["owners"])
        assert [(None,)] == execute(postgres, "SELECT to_regclass('venice_async.fleet')::text")
        fleet = await stack.enter_async_context(Fleet(postgres))
        job = await fleet.submit(faces, key="order-7", to=tmp_path / "a.mp4")
        assert 1 == (await shown(feed))["submitted"]
        worker = Worker(postgres, base_url=sandbox.base_url, keys={"": sandbox.api_key})
        working = await stack.enter_async_context(anyio.create_task_group())
        working.start_soon(worker.run)
        while not (questions := (await shown(feed))["questions"]):  # noqa: ASYNC110 - it is in a database
            await anyio.sleep(0.05)
        assert ("order-7", "a face") == (questions[0]["key"], questions[0]["prompt"])
        assert "Faces were found in: image" in questions[0]["about"]
        statements = {name: True for name, _ in questions[0]["statements"]}
        assert not await seen.answer("another", None)
        assert await seen.answer("order-7", Consent(**statements))
        await job
        assert not await seen.answer("order-7", None)
        while (owners := (await shown(feed))["owners"])[0]["jobs"]:  # noqa: ASYNC110 - see above
            await anyio.sleep(0.05)
        assert [(0, True)] == [(one["jobs"], one["alive"]) for one in owners]
        worker.stop()
