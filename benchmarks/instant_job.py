"""How much does the library add to a job that is done at once? One job on loopback, beside bare aiohttp.

    python -m benchmarks.instant_job             50 jobs of each kind after 10 to warm up
    python -m benchmarks.instant_job --quick     15 after 5
    python -m benchmarks.instant_job --profile   also print where the library's time goes
    python -m benchmarks.instant_job --folder /dev/shm      without the disk's share in it

The server (`loopback.py`, a process of its own) has finished each job by the time it is asked. Bare aiohttp
makes the calls that the library makes: queue, a poll answered with the clip, write the file, complete.
It is shown in three kinds: writing the file and no more; on a fresh connection for the paid request, as the
library has it; and, besides, with what the library does for the file: written in a worker thread under
another name, digested, brought to stable storage, renamed. All kinds take turns, so that they share what
else the machine does. Each job is the first of its model, which is the one that is asked about at once.
"Warm" is on one of some open clients, so that none gets to know many models; "cold" opens a client for the
one job and closes it. Prints medians.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import itertools
import json
import pstats
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from venice_async import Limits, VeniceClient, VideoRequest

from .common import load_note, middle, print_table, serving
from .files import write, write_durably
from .loopback import Options

Work = Callable[[], Awaitable[object]]
MODEL = {"model": "public", "prompt": "p", "duration": "5s"}
FAST = Limits(queue_per_minute=1e9, retrieve_per_minute=1e9)
numbers = itertools.count()


async def bare_job(
    session: aiohttp.ClientSession, paid: aiohttp.ClientSession, base: str, path: Path, *, durable: bool
) -> None:
    """Bring one clip home with nothing but aiohttp."""
    async with paid.post(f"{base}/video/queue", json=MODEL) as response:
        names = {"model": "public", "queue_id": json.loads(await response.read())["queue_id"]}
    async with session.post(f"{base}/video/retrieve", json=names) as response:
        clip = await response.read()
    if durable:
        await asyncio.to_thread(write_durably, path, clip)
    else:
        write(path, clip)
    async with session.post(f"{base}/video/complete", json=names) as response:
        await response.read()


async def bare_cold(base: str, path: Path) -> None:
    """Open a session for one job."""
    async with aiohttp.ClientSession(headers={"authorization": "Bearer key"}) as session:
        await bare_job(session, session, base, path, durable=False)


async def job(venice: VeniceClient, path: Path) -> None:
    """Bring one clip home."""
    model = f"public-{next(numbers)}"
    await venice.generate(VideoRequest(model=model, prompt="p", duration="5s"), to=path, overwrite=True)


async def job_cold(base: str, path: Path) -> None:
    """Open a client for one job."""
    async with VeniceClient("key", base_url=base, limits=FAST) as venice:
        await job(venice, path)


async def timed(work: Work) -> tuple[float, float]:
    """Return the milliseconds it took, and those of this process's CPU."""
    began, cpu = time.perf_counter(), time.process_time()
    await work()
    return (time.perf_counter() - began) * 1000, (time.process_time() - cpu) * 1000


async def measure(origin: str, folder: Path, options: argparse.Namespace) -> None:
    """Let all kinds take turns, and print the table."""
    base, path = f"{origin}/api/v1", folder / "clip.mp4"
    async with AsyncExitStack() as stack:
        plain = await stack.enter_async_context(aiohttp.ClientSession())
        fresh = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        fresh = await stack.enter_async_context(fresh)
        clients = [VeniceClient("key", base_url=base, limits=FAST) for _ in range(options.warm_up)]
        for client in clients:
            await stack.enter_async_context(client)
        in_turn = itertools.cycle(clients)
        kinds: dict[str, Work] = {
            "bare aiohttp, warm": lambda: bare_job(plain, plain, base, path, durable=False),
            "with a fresh connection to pay": lambda: bare_job(plain, fresh, base, path, durable=False),
            "and a file that lasts": lambda: bare_job(plain, fresh, base, path, durable=True),
            "**venice_async**, warm": lambda: job(next(in_turn), path),
            "bare aiohttp, cold": lambda: bare_cold(base, path),
            "**venice_async**, cold": lambda: job_cold(base, path),
        }
        taken = await take_turns(kinds, options.warm_up, options.jobs)
        if options.profile:
            await profile(kinds["**venice_async**, warm"], options.jobs)
    show(taken)


async def take_turns(kinds: dict[str, Work], warm_up: int, jobs: int) -> dict[str, list[tuple[float, float]]]:
    """Return the times of all kinds."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for number in range(warm_up + jobs):
        for name, work in kinds.items():
            found = await timed(work)
            if number >= warm_up:
                taken[name].append(found)
    return taken


def show(taken: dict[str, list[tuple[float, float]]]) -> None:
    """Print medians, and their ratio to bare aiohttp's of the same warmth."""
    medians = {name: [middle(column) for column in zip(*times, strict=True)] for name, times in taken.items()}
    rows: list[list[object]] = []
    for name, (wall, cpu) in medians.items():
        beside = medians["bare aiohttp, cold" if name.endswith("cold") else "bare aiohttp, warm"]
        ratios = [f"{wall / beside[0]:.2f}", f"{cpu / beside[1]:.2f}"]
        rows.append([name, f"{wall:.2f}", ratios[0], f"{cpu:.2f}", ratios[1]])
    print(f"{len(next(iter(taken.values())))} jobs of each kind, medians; {load_note()}\n")
    print_table(["one instantly finished job", "ms", "to bare", "CPU ms", "to bare"], rows)


async def profile(work: Work, jobs: int) -> None:
    """Print what takes the time."""
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(jobs):
        await work()
    profiler.disable()
    statistics = pstats.Stats(profiler)
    statistics.sort_stats("tottime").print_stats(35)
    statistics.sort_stats("cumulative").print_stats(60)


def main() -> None:
    """Read the command line; start the server and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to write")
    options = parser.parse_args()
    options.warm_up = 5 if options.quick else 10
    options.jobs = options.jobs or (15 if options.quick else 50)
    with serving(Options()) as origin, tempfile.TemporaryDirectory(dir=options.folder) as folder:
        asyncio.run(measure(origin, Path(folder), options))


if __name__ == "__main__":
    main()
