"""How batches end: left early, stopped, broken by the caller's own functions, or run twice at once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.clients import client, until
from tests.test_batch import EMPTY, REFUSED, collect, prompts, request, several
from tests.venice import Venice, fault
from venice_async import JournalError, Outcome, UsageError, VideoRequest
from venice_async.io.journal.entries import JournalEntry
from venice_async.io.journal.journal import Journal

pytestmark = pytest.mark.anyio


async def silent_after(count: int, closed: list[bool]) -> AsyncIterator[VideoRequest]:
    """Yield some requests, then wait for one that never comes."""
    try:
        for index in range(count):
            yield request(index)
        await anyio.Event().wait()
    finally:
        closed.append(True)


async def test_leaving_the_loop_early_does_not_wait_for_a_source_that_is_silent(tmp_path: Path) -> None:
    closed: list[bool] = []
    with anyio.fail_after(3600):
        async with Venice() as server, client(server) as venice:
            async for _ in venice.batch(silent_after(2, closed), into=tmp_path):
                break
    assert [True] == closed


async def test_leaving_the_block_ends_a_batch_that_nobody_iterates_any_more(tmp_path: Path) -> None:
    with anyio.fail_after(3600):
        async with Venice() as server, client(server) as venice:
            outcomes = aiter(venice.batch(silent_after(4, []), into=tmp_path, concurrency=2))
            await anext(outcomes)
    assert 3 >= len(server.charges)


async def test_with_stop_a_failure_ends_a_batch_whose_source_is_silent(tmp_path: Path) -> None:
    closed: list[bool] = []
    with anyio.fail_after(3600):
        async with Venice(queue=[REFUSED]) as server, client(server) as venice:
            batch = venice.batch(silent_after(3, closed), into=tmp_path, on_error="stop")
            assert 3 == len(await collect(batch))
    assert [True] == closed


async def test_stopping_a_paused_batch_does_not_wait_for_its_pause(tmp_path: Path) -> None:
    async with Venice(queue=[EMPTY] * 1000) as server, client(server) as venice:
        batch = venice.batch(several(20), into=tmp_path, pause=math.inf)
        taken: list[Outcome] = []

        async def take() -> None:
            taken.extend([outcome async for outcome in batch])

        with anyio.fail_after(3600):
            async with anyio.create_task_group() as group:
                group.start_soon(take)
                await until(lambda: batch.paused)
                assert [] == await venice.drain(10)
        assert [False] * 20 == [outcome.error and outcome.error.charged for outcome in taken]


async def test_a_key_that_raises_is_raised_bare_after_the_outcomes_of_what_was_started(
    tmp_path: Path,
) -> None:
    def key(request: VideoRequest) -> str:
        return {"Gondola 0": "first", "Gondola 1": "second"}[request.prompt or ""]

    taken: list[int] = []
    async with Venice() as server, client(server) as venice:
        with pytest.raises(KeyError):
            async for outcome in venice.batch(several(5), into=tmp_path, key=key):
                taken.append(outcome.index)  # noqa: PERF401 - what came before the error counts
    assert [0, 1] == sorted(taken)
    assert 2 == len(server.charges)


async def test_a_function_for_a_request_that_raises_loses_no_outcome_of_what_was_started(
    tmp_path: Path,
) -> None:
    def fails(request: VideoRequest) -> Any:
        return {"Gondola 0": {}, "Gondola 1": {}}[request.prompt or ""]

    for name in ("tags", "max_each"):
        async with Venice(polls=3) as server, client(server) as venice:
            taken: list[Outcome] = []
            options: dict[str, Any] = {name: fails} if name == "tags" else {name: lambda one: fails(one) or 1}
            with pytest.raises(KeyError):
                async for outcome in venice.batch(several(5), into=tmp_path / name, **options):
                    taken.append(outcome)  # noqa: PERF401 - what came before the error counts
            assert prompts(server) == sorted(one.request.prompt or "" for one in taken if one.video)
            assert ["Gondola 0", "Gondola 1"] == prompts(server)[:2]


async def test_a_limit_for_a_request_that_is_no_price_lets_nothing_through(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        limits: list[Any] = [math.nan, "20", True, -1, (1,)]
        answers = iter(limits)
        outcomes = await venice.batch(several(5), into=tmp_path, max_each=lambda _: next(answers))
        assert [UsageError] * 5 == [type(outcome.error) for outcome in outcomes]
        assert [] == server.charges


async def test_a_source_that_is_cancelled_on_its_own_ends_the_batch_alone(tmp_path: Path) -> None:
    async def is_cancelled() -> AsyncIterator[VideoRequest]:
        yield request(0)
        raise asyncio.CancelledError

    async with Venice(polls=3) as server, client(server) as venice:
        other = venice.generate(request(7), to=tmp_path / "other.mp4")
        taken: list[Outcome] = []
        with pytest.raises(RuntimeError, match="cancelled"):
            async for outcome in venice.batch(is_cancelled(), into=tmp_path / "clips"):
                taken.append(outcome)  # noqa: PERF401 - what came before the error counts
        assert [True] == [outcome.video is not None for outcome in taken]
        assert (await other).size
        assert 2 == len(server.charges)


async def test_a_journal_that_fails_for_one_request_loses_no_outcome_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = Journal.find

    async def fails(self: Journal, key: str) -> JournalEntry | None:
        if "second" in key:
            msg = "The disk is full"
            raise JournalError(msg)
        return await find(self, key)

    monkeypatch.setattr(Journal, "find", fails)
    names = {"Gondola 0": "first", "Gondola 1": "second", "Gondola 2": "third"}
    async with Venice() as server, client(server, journal=tmp_path / "jobs.db") as venice:
        batch = venice.batch(several(3), into=tmp_path, key=lambda one: names[one.prompt or ""])
        outcomes = await collect(batch)
    assert [type(None), JournalError, type(None)] == [type(outcomes[index].error) for index in range(3)]


@pytest.mark.parametrize(
    "options",
    [
        {"max_usd": "20"},
        {"max_usd": math.nan},
        {"max_usd": True},
        {"concurrency": 1.5},
        {"on_error": "ignore"},
        {"key": "name"},
        {"max_each": 1.0},
        {"pause": -1},
        {"pause": math.nan},
    ],
)
async def test_a_batch_that_cannot_go_like_that_is_refused_when_it_is_made(
    options: dict[str, Any], tmp_path: Path
) -> None:
    async with Venice() as server, client(server) as venice:
        with pytest.raises(UsageError, match=next(iter(options))):
            venice.batch(several(1), into=tmp_path, **options)
        with pytest.raises(UsageError, match="iterable"):
            venice.batch(request(0), into=tmp_path)  # type: ignore[arg-type] # the mistake
    assert [] == server.requests


async def test_a_batch_that_runs_twice_at_the_same_time_pays_for_each_clip_once(tmp_path: Path) -> None:
    journal, into = tmp_path / "jobs.db", tmp_path / "clips"
    outcomes: list[Outcome] = []

    async def run() -> None:
        async with client(server, journal=journal) as venice:
            outcomes.extend([outcome async for outcome in venice.batch(several(10), into=into)])

    async with Venice(polls=2) as server:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            group.start_soon(run)
        assert sorted(f"Gondola {index}" for index in range(10)) == prompts(server)
    clips = [outcome.video.path for outcome in outcomes if outcome.video]
    assert (20, 10) == (len(clips), len(set(clips)))


async def test_a_request_whose_answer_another_process_awaits_is_followed(tmp_path: Path) -> None:
    journal, into = tmp_path / "jobs.db", tmp_path / "clips"
    async with Venice(queue=[fault(delay=20)]) as server, client(server, journal=journal) as first:
        async with client(server, journal=journal) as second, anyio.create_task_group() as group:
            group.start_soon(collect, first.batch(several(1), into=into))
            await until(lambda: bool(server.requests))
            outcomes = await collect(second.batch(several(1), into=into))
            await first.drain(0)
        assert [None] == [outcome.error for outcome in outcomes.values()]
        assert 1 == len(server.charges)
