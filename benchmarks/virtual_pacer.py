"""The real pacer in virtual time: one task a job, against a strict server that is asked without a network."""

from __future__ import annotations

import asyncio
import functools
import math
import random
import time
from collections.abc import Sequence

import anyio

from tests.virtual_time import VirtualTimeLoop
from venice_async.io.pacing.pacer import Pacer
from venice_async.options import Limits, Polling

from .polling_rivals import OK, Outcome
from .strict_server import EPOCH, StrictServer

P80 = 145.0  # seconds, as the server says in any case


class LoopClock:
    """The virtual loop's time, from 0."""

    def __init__(self) -> None:
        """Start now."""
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._chance = random.Random(1)

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self._loop.time() - self._start

    def time(self) -> float:
        """Unix time, in step with the server's."""
        return EPOCH + self.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Let others run meanwhile."""
        await anyio.sleep(seconds)

    def chance(self) -> float:
        """Return a number that is the same in every run."""
        return self._chance.random()


def paced(
    takes: Sequence[float], starts: Sequence[float], server: StrictServer, *, travel: float = 0.0
) -> Outcome:
    """Poll by the pacer."""
    began = time.process_time()
    late, ends = anyio.run(
        functools.partial(_paced, takes, starts, server, travel),
        backend_options={"loop_factory": VirtualTimeLoop},
    )
    cpu = time.process_time() - began
    return Outcome(late, server.requests, server.refused, server.blocks, ends, cpu)


async def _paced(
    takes: Sequence[float], starts: Sequence[float], server: StrictServer, travel: float
) -> tuple[list[float], float]:
    clock = LoopClock()
    pacer = Pacer(limits=Limits(), polling=Polling(), clock=clock)
    late = await watch_all([pacer] * len(takes), takes, starts, server, clock=clock, travel=travel)
    return late, clock.monotonic()


async def watch_all(
    pacers: Sequence[Pacer],
    takes: Sequence[float],
    starts: Sequence[float],
    server: StrictServer,
    *,
    clock: LoopClock,
    travel: float,
) -> list[float]:
    """Watch each job by its pacer until its end is noticed; return how many seconds late that is.

    A poll takes up to `travel` seconds there and back.
    """
    chance, late = random.Random(5), [math.nan] * len(takes)

    async def way() -> None:
        if travel:
            await clock.sleep(chance.uniform(0.025, travel / 2))

    async def job(number: int) -> None:
        start = starts[number]
        done = start + takes[number]
        await clock.sleep(start)
        watch = pacers[number].watch("model")
        while True:
            async with pacers[number].poll_turn(watch) as turn:
                await way()
                now = clock.monotonic()
                status, headers = server.take(now)
                await way()
                turn.answered(status, headers)
            if status == OK and now >= done:
                break
            if status == OK:
                watch.progressed(age=now - start, average=P80)
        watch.completed(age=None)
        watch.close()
        late[number] = clock.monotonic() - done

    async with anyio.create_task_group() as group:
        for number in range(len(takes)):
            group.start_soon(job, number)
    return late
