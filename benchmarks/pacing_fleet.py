"""What do several processes of one account cost against one? Pacer and shared ration, in virtual time.

    python -m benchmarks.pacing_fleet            the whole, some ten minutes
    python -m benchmarks.pacing_fleet --quick    the smaller cases, two minutes

Pacer and ration are the real code; the store is one that takes a while: 2 ms there, 2 ms under the lock, 2 ms
back, as a database near by does. Each process has a pacer of its own, and all see one strict server
(`strict_server.py`) that allows 120 polls a minute. Jobs take lognormal times, sigma 0.6, with P80 = 145 s,
and a poll takes up to a second there and back. "refused" has to be 0 in every row.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Literal

import anyio
from attrs import define, field, frozen

from tests.virtual_time import VirtualTimeLoop
from venice_async.io.pacing.pacer import Pacer
from venice_async.io.ration.store import RationStore
from venice_async.options import Limits, Polling
from venice_async.sansio.limits.ration import Grant, Ration, Wish

from .polling_rivals import Z80
from .strict_server import Counter, StrictServer
from .virtual_pacer import P80, LoopClock, watch_all

WAY = 0.002  # seconds to the store, under its lock, and back
Window = Literal["fixed", "sliding"]


@define
class DistantRation:
    """A ration in a place that takes a while to reach, and serves one after the other."""

    clock: LoopClock
    shared: bool = True
    exchanges: int = 0
    ration: Ration = field(factory=lambda: Ration.spent(Limits(), 0.0))
    _lock: asyncio.Lock = field(factory=asyncio.Lock)

    def exchange(self, wish: Wish) -> asyncio.Future[Grant]:
        """Exchange in a task of its own."""
        return asyncio.ensure_future(self._exchange(wish))

    async def _exchange(self, wish: Wish) -> Grant:
        await asyncio.sleep(WAY)
        async with self._lock:
            self.exchanges += 1
            grant = self.ration.exchange(wish, self.clock.monotonic())
            await asyncio.sleep(WAY)
        await asyncio.sleep(WAY)
        return grant

    async def aclose(self) -> None:
        """Stay for the others."""


@frozen(kw_only=True)
class Fleet:
    """One experiment.

    Attributes:
        name: what it shows.
        processes: how many.
        jobs: how many in all.
        home: of a job's number and a random number in [0, 1), the process that watches it.
        start: of a job's number, the moment at which it was queued; 40 a minute otherwise.
        takes: seconds that each job takes, if all take the same.
        shares: whether each process has a fixed share instead of the shared ration.
        repetitions: how often, each with other jobs and another phase.
    """

    name: str
    processes: int
    jobs: int
    home: Callable[[int, float], int] | None = None
    start: Callable[[int], float] | None = None
    takes: float | None = None
    shares: bool = False
    repetitions: int = 1


@frozen
class Result:
    """What all repetitions gave together.

    Attributes:
        late: seconds from a job's end to its notice, by process.
        polls: how many there were.
        refused: of these, by the server.
        ends: when the last job was noticed, on average.
        exchanges: with the store.
        cpu: seconds of processor time.
    """

    late: dict[int, list[float]]
    polls: int
    refused: int
    ends: float
    exchanges: int
    cpu: float


def measure(fleet: Fleet, window: Window) -> Result:
    """Run an experiment."""
    late, polls, refused, ends, exchanges = defaultdict[int, list[float]](list), 0, 0, 0.0, 0
    began = time.process_time()
    for repetition in range(fleet.repetitions):
        chance = random.Random(f"{fleet.jobs} {repetition}")
        location = math.log(P80) - Z80 * 0.6
        takes = [fleet.takes or chance.lognormvariate(location, 0.6) for _ in range(fleet.jobs)]
        starts = [1.5 * job if fleet.start is None else fleet.start(job) for job in range(fleet.jobs)]
        server = StrictServer(Counter(window=window, phase=chance.uniform(0, 60)))
        draws = [chance.random() for _ in range(fleet.jobs)]
        homes = [
            int(draw * fleet.processes) if fleet.home is None else fleet.home(job, draw)
            for job, draw in enumerate(draws)
        ]
        found, end, asked = anyio.run(
            functools.partial(_run, fleet, takes, starts, homes, server),
            backend_options={"loop_factory": VirtualTimeLoop},
        )
        for home, seconds in zip(homes, found, strict=True):
            late[home].append(seconds)
        polls, refused = polls + server.requests, refused + server.refused
        ends, exchanges = ends + end / fleet.repetitions, exchanges + asked
    return Result(dict(late), polls, refused, ends, exchanges, time.process_time() - began)


async def _run(
    fleet: Fleet, takes: Sequence[float], starts: Sequence[float], homes: Sequence[int], server: StrictServer
) -> tuple[list[float], float, int]:
    clock = LoopClock()
    store = DistantRation(clock)
    shared: RationStore | None = store if fleet.processes > 1 and not fleet.shares else None
    limits = Limits(share=1 / fleet.processes) if fleet.shares else Limits()
    pacers = [
        Pacer(limits=limits, polling=Polling(), clock=clock, store=shared) for _ in range(fleet.processes)
    ]
    at_home = [pacers[home] for home in homes]
    late = await watch_all(at_home, takes, starts, server, clock=clock, travel=1.0)
    end = clock.monotonic()
    for pacer in pacers:
        await pacer.aclose()
    return late, end, store.exchanges


MOST, RIPE, TWO = 0.7, 100, 2


def uneven(job: int, draw: float) -> int:
    """Put 70 % of the jobs on one of eight processes."""
    return 0 if draw < MOST else 1 + job % 7


def together(_job: int, _draw: float) -> int:
    """Put all on one process."""
    return 0


def apart(job: int, _draw: float) -> int:
    """Put the first 100 jobs on one process and the others on another."""
    return int(job >= RIPE)


def midway(job: int, draw: float) -> int:
    """Put 50 jobs on one process, and half of the others on one that joins it then."""
    return int(job >= RIPE / 2 and draw < 1 / 2)


def towards_the_end(job: int) -> float:
    """Queue 100 jobs at 40 a minute, and the others when many of these are about to end."""
    return 1.5 * job if job < RIPE else 140.0 + job - RIPE


def at_once(_job: int) -> float:
    """Queue all at once."""
    return 0.0


SMALL = [
    Fleet(name="100 jobs", processes=1, jobs=100, repetitions=3),
    Fleet(name="100 jobs", processes=4, jobs=100, repetitions=3),
    Fleet(
        name="100 ripe, 5 young",
        processes=1,
        jobs=105,
        start=towards_the_end,
        home=together,
        repetitions=3,
    ),
    Fleet(
        name="100 ripe, 5 young apart",
        processes=2,
        jobs=105,
        start=towards_the_end,
        home=apart,
        repetitions=3,
    ),
    Fleet(name="100 jobs, one joins midway", processes=2, jobs=100, home=midway, repetitions=3),
    Fleet(name="200 jobs of 10 s at once", processes=1, jobs=200, takes=10.0, start=at_once, repetitions=3),
    Fleet(name="200 jobs of 10 s at once", processes=4, jobs=200, takes=10.0, start=at_once, repetitions=3),
]
LARGE = [
    Fleet(name="300 jobs", processes=1, jobs=300),
    Fleet(name="300 jobs, 70 % on one", processes=8, jobs=300, home=uneven),
    Fleet(name="300 jobs, 70 % on one, shares of 1/8", processes=8, jobs=300, home=uneven, shares=True),
    Fleet(name="500 jobs", processes=1, jobs=500),
    Fleet(name="500 jobs", processes=4, jobs=500),
    Fleet(name="500 jobs", processes=8, jobs=500),
    Fleet(name="500 jobs", processes=16, jobs=500),
]


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smaller cases only")
    options = parser.parse_args()
    fleets = SMALL if options.quick else SMALL + LARGE
    windows: tuple[Window, ...] = ("fixed", "sliding")
    cases: list[tuple[Fleet, Window]] = [(fleet, window) for fleet in fleets for window in windows]
    print(
        "| jobs | processes | window | mean delay s | p95 s | end s | polls/job | refused | exchanges/poll |"
    )
    print("|---" * 9 + "|")
    with ProcessPoolExecutor() as pool:
        results = pool.map(measure, *zip(*cases, strict=True))
        for (fleet, window), result in zip(cases, results, strict=True):
            print(row(fleet, window, result), flush=True)


def row(fleet: Fleet, window: Window, result: Result) -> str:
    """Show a result as a row of the table; of two processes, the mean delay of each."""
    late = sorted(seconds for part in result.late.values() for seconds in part)
    mean = f"{sum(late) / len(late):.1f}"
    if fleet.processes == TWO:
        means = [sum(part) / len(part) for _, part in sorted(result.late.items())]
        mean += f" ({' and '.join(f'{one:.1f}' for one in means)})"
    cells = (
        fleet.name,
        fleet.processes,
        window,
        mean,
        f"{late[math.ceil(0.95 * len(late)) - 1]:.1f}",
        f"{result.ends:.0f}",
        f"{result.polls / len(late):.1f}",
        result.refused,
        f"{result.exchanges / result.polls:.2f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
