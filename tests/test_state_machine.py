"""Whatever happens in whatever order: nothing is charged twice, and nothing that was charged for is lost."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.model import ANSWERS, QUEUE_ANSWERS, World, take_step
from tests.replay import replayable

EXAMPLES = 30
STEPS = 30


class Life(RuleBasedStateMachine):
    """A user, a network, a server and a machine that may do anything at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.world = World(Path(self.stack.enter_context(tempfile.TemporaryDirectory())))
        self.loop = self.stack.enter_context(replayable(self.world.chance))

    def do(self, work: Coroutine[Any, Any, Any]) -> None:
        async def run() -> None:
            await work
            await self.world.settle()

        self.loop.run_until_complete(run())

    def lives(self) -> bool:
        return self.world.process is not None

    @initialize(seed=st.integers(0, 1000))
    def begin(self, seed: int) -> None:
        self.world.chance.seed(seed)
        self.do(self.world.live())

    @precondition(lives)
    @rule(private=st.booleans(), answer=st.just("well") | st.sampled_from(QUEUE_ANSWERS))
    def queue(self, private: bool, answer: str) -> None:
        async def order() -> None:
            self.world.order(private=private, answer=answer)
            await anyio.lowlevel.checkpoint()

        self.do(order())

    @precondition(lives)
    @rule(seconds=st.sampled_from([0.01, 0.5, 2.0, 10.0, 60.0]))
    def poll(self, seconds: float) -> None:
        self.do(anyio.sleep(seconds))

    @precondition(lives)
    @rule(which=st.integers(0, 20))
    def cancel(self, which: int) -> None:
        async def cancel() -> None:
            jobs = self.world.process.started if self.world.process else []
            if jobs:
                jobs[which % len(jobs)].cancel()

        self.do(cancel())

    @rule(faults=st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=4))
    def drop(self, faults: list[str]) -> None:
        self.world.faults += faults

    @rule()
    def complete(self) -> None:
        self.world.complete()

    @precondition(lives)
    @rule()
    def crash(self) -> None:
        self.do(self.world.crash())

    @precondition(lives)
    @rule(points=st.integers(0, 25))
    def crash_soon(self, points: int) -> None:
        assert self.world.process is not None
        self.world.process.crash_in = points

    @precondition(lives)
    @rule()
    def leave(self) -> None:
        self.do(self.world.leave())

    @precondition(lambda self: not self.lives())
    @rule()
    def restart(self) -> None:
        self.do(self.world.live())

    @invariant()
    def nothing_is_wrong_so_far(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        with self.stack:
            if self.world.lives:
                self.do(self.world.finish())


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """Leave out what is logged of jobs that nobody awaits."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_the_same_choices_give_the_same_run(tmp_path: Path) -> None:
    def run(folder: Path) -> list[tuple[float, str]]:
        folder.mkdir()
        world = World(folder, seed=7)

        async def walk() -> None:
            await world.live()
            for _ in range(200):
                await take_step(world, Counter())
            await world.finish()

        with replayable(world.chance) as loop:
            loop.run_until_complete(walk())
        return world.story

    first, second = run(tmp_path / "first"), run(tmp_path / "second")
    assert len(first) > 500
    assert first == second


def test_crashes_in_the_middle_of_a_download_never_use_a_link_more_often_than_it_allows(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)

    async def run() -> None:
        await world.live()
        assert world.process is not None
        await world.order(private=True, answer="well").queued()
        world.complete()
        for _ in range(8):
            world.process.crash_at = "after link"
            await anyio.sleep(300)
            await world.settle()
            if world.process is None:
                await world.live()
        assert [5] == list(world.gets.values())
        await world.leave()

    with replayable(world.chance) as loop:
        loop.run_until_complete(run())
