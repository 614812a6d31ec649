"""A process that is killed at any step never pays twice; what it paid for is brought home by the next one."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from tests.clients import client
from tests.venice import CLIP, KEY, Venice, fault
from tests.virtual_time import real_time
from venice_async import QueueOutcomeUnknownError, VeniceError
from venice_async.sandbox import Fault, RecordedRequest

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked to be killed"),
]

BY_POLL: Final = ("begin Queueing", "record Waiting", "record Saved", "record Succeeded")
BY_LINK: Final = ("begin Queueing", "record Waiting", "record Downloading", *BY_POLL[2:])
STEPS: Final = {
    "model": [
        *(f"{when} {what}" for what in BY_POLL for when in ("before", "after")),
        *("queue", "video", "complete"),
    ],
    "private": [
        *(f"{when} {what}" for what in BY_LINK for when in ("before", "after")),
        *("queue", "retrieve", "link", "revoke"),
    ],
}
UNPAID: Final = ("before begin Queueing", "after begin Queueing")
UNKNOWN: Final = ("after begin Queueing", "queue", "before record Waiting")
"""Steps at which nobody can know any more whether the request was paid for."""


MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a private folder is made in it


@pytest.fixture
def folder() -> Generator[Path]:
    """Return a folder in memory where there is one: what a killed process wrote is there all the same."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as name:
        yield Path(name)


class Deadly(Venice):
    """A Venice that kills its client in the middle of a request, when that is done at the server."""

    def __init__(self, step: str) -> None:
        super().__init__(self._decide, polls=0)
        self.step = step
        self.victim: int | None = None

    def _decide(self, request: RecordedRequest) -> Fault | None:
        deadly = request.point == self.step and self.victim is not None
        return fault(raw=self._kill) if deadly else None

    def _kill(self, answer: bytes) -> bytes:
        assert self.victim is not None
        os.kill(self.victim, signal.SIGKILL)
        return answer


class Killer:
    """The process that runs jobs to be killed."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self.process = process
        self.said = TextReceiveStream(process.stdout)
        self.text = ""

    async def line(self) -> tuple[str, int]:
        while "\n" not in self.text:
            self.text += await self.said.receive()
        line, _, self.text = self.text.partition("\n")
        word, number = line.split()
        return word, int(number)

    async def run(self, server: Deadly, folder: Path, model: str) -> int:
        """Run a job, and return the signal that ended it."""
        task = {
            "base_url": server.base_url,
            "folder": str(folder),
            "model": model,
            "step": server.step,
            "key": KEY,
        }
        assert self.process.stdin is not None
        with real_time():
            await self.process.stdin.send(json.dumps(task).encode() + b"\n")
            _, server.victim = await self.line()
            _, status = await self.line()
        server.victim = None
        return status


@asynccontextmanager
async def killer() -> AsyncGenerator[Killer]:
    command = [sys.executable, "-m", "tests.kill_child"]
    async with await anyio.open_process(command, cwd=Path(__file__).parents[1], stderr=None) as process:
        yield Killer(process)
        process.terminate()
        with real_time():
            await process.wait()


@pytest.mark.parametrize("model", ["model", "private"])
async def test_killed_at_any_step_a_job_is_paid_for_once_and_brought_home_or_reported(
    folder: Path, model: str
) -> None:
    async with killer() as kill:
        for number, step in enumerate(STEPS[model]):
            place = folder / str(number)
            place.mkdir()
            async with Deadly(step) as server:
                assert signal.SIGKILL == await kill.run(server, place, model), step
                assert (step not in UNPAID) == len(server.charges), step
                assert (step in UNKNOWN) == await recovered(server, place), step
                assert (step not in UNPAID) == len(server.charges), f"paid for again: {step}"
                assert 5 >= server.gets
                saved = [] if step in (*UNPAID, *UNKNOWN) else ["clip.mp4", "clip.mp4.json"]
                assert saved == sorted(path.name for path in place.iterdir() if path.name != "private"), step
                assert [CLIP] * bool(saved) == [(place / name).read_bytes() for name in saved[:1]]


async def recovered(server: Venice, folder: Path) -> bool:
    """Take up what the killed process left; return whether an outcome is unknown."""
    unknown = False
    async with client(server, journal=folder / "private" / "jobs.db", sidecars=True) as venice:
        for job in await venice.recover():
            with suppress(VeniceError):
                await job
            unknown |= isinstance(getattr(job.state, "error", None), QueueOutcomeUnknownError)
        assert unknown == bool(await venice.pending())
    return unknown
