"""A batch as the person at the terminal sees it, without a batch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
from attrs import define, field

from venice_async import Outcome, Ticket
from venice_async.cli.options import Output
from venice_async.cli.run_jobs import BatchRun
from venice_async.cli.screen.screen import Screen
from venice_async.io.journal.entries import Unfinished
from venice_async.job import VideoJob

pytestmark = pytest.mark.anyio


@define
class Venice:
    """A batch, its client and its session in one: it ends once drained, before its tickets are known."""

    jobs: dict[int, VideoJob] = field(factory=dict[int, VideoJob])
    paused: bool = False
    spent_usd: float = 0.0
    journal: Path | None = Path("jobs.db")
    drained: anyio.Event = field(factory=anyio.Event)

    @property
    def venice(self) -> Any:
        """The client."""
        return self

    async def __aiter__(self) -> AsyncIterator[Outcome]:
        """Yield nothing, until drained."""
        await self.drained.wait()
        return
        yield

    async def pending(self) -> Unfinished:
        """Hold nothing."""
        return Unfinished()

    async def drain(self, grace: float) -> list[Ticket]:
        """Let the batch end, and tell the tickets a second later."""
        self.drained.set()
        await anyio.sleep(grace)
        return [Ticket(model="m", queue_id="q")]


async def test_the_tickets_of_a_drain_are_known_before_the_batch_is_said_to_have_ended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen, venice = Screen(Output()), Venice()
    interrupts = screen.interrupts
    run = BatchRun(screen, [], into=Path(), grace=1.0)

    async def interrupt() -> None:
        while interrupts.on_stop is None:
            await anyio.lowlevel.checkpoint()
        interrupts.code = 130
        interrupts.on_stop()

    async with anyio.create_task_group() as group:
        group.start_soon(interrupt)
        assert 130 == await run.until_the_end(cast("Any", venice), cast("Any", venice), None)
    assert "1 go on at Venice" in capsys.readouterr().err
