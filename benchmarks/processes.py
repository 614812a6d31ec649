"""Real processes of one account, killed at random: what is paid, refused and delivered.

    python -m benchmarks.processes file              four processes, one journal file
    python -m benchmarks.processes postgres          four processes, one Postgres (of the extra `test`)
    python -m benchmarks.processes file --stop       one is stopped for longer than its lease, not killed
    python -m benchmarks.processes postgres --crash  the database is stopped at once, and started again
    python -m benchmarks.processes file --race --jobs 1000   two processes, nobody is killed, high limits

Every process places all the orders by their keys, so that each is placed by all of them. One after the other
is killed every few seconds, and another takes its place, until all are delivered. The server is a sandbox
with strict limits. "paid twice" and "refused" have to be 0, and what is not delivered has to be unknown.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from http import HTTPStatus
from pathlib import Path

from tests import postgres
from venice_async import Limits, QueueOutcomeUnknownError, VeniceClient, VeniceError, VideoRequest
from venice_async.sandbox import RateLimits, Sandbox, tiny_clip

QUEUE, POLLS, SPEED = 240, 720, 6.0


async def work(arguments: Sequence[str]) -> None:
    """Place all the orders and wait for them."""
    url, key, journal, folder, jobs, faster = arguments
    limits = Limits(queue_per_minute=QUEUE * int(faster), retrieve_per_minute=POLLS * int(faster))
    async with VeniceClient(key, base_url=url, journal=journal, limits=limits) as venice:

        async def order(number: int) -> None:
            request = VideoRequest(
                model="wan-2-7-text-to-video",
                prompt=f"order {number}",
                duration="5s",
                aspect_ratio="16:9",
                resolution="480p",
            )
            try:
                await venice.generate(request, to=f"{folder}/{number}.mp4", key=f"order {number}").wait()
                print("delivered", number, flush=True)
            except QueueOutcomeUnknownError:
                print("unknown", number, flush=True)
            except VeniceError as error:
                print("failed", number, type(error).__name__, str(error)[:200], flush=True)

        async with asyncio.TaskGroup() as group:
            for number in range(int(jobs)):
                group.create_task(order(number))


async def trial(arguments: argparse.Namespace) -> None:
    """Run processes, kill them, and say what came of it."""
    said = dict[int, str]()
    troubles = Counter[str]()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        journal, running = f"{folder}/jobs.db", None
        if arguments.journal == "postgres":
            running = stack.enter_context(postgres.server(f"trial-{os.getpid()}"))
            journal = postgres.new_database(running, "trial")
        count, faster = (2, 100) if arguments.race else (4, 1)
        limits = RateLimits(queue=QUEUE * faster, retrieve=POLLS * faster, window="sliding")
        async with Sandbox(speed=SPEED, limits=limits, clips=tiny_clip(100_000)) as sandbox:
            command = [sys.executable, "-m", __spec__.name, "work", sandbox.base_url, sandbox.api_key]
            command += [journal, folder, str(arguments.jobs), str(faster)]

            async def start() -> asyncio.subprocess.Process:
                process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
                group.create_task(listen(process))
                return process

            async def listen(process: asyncio.subprocess.Process) -> None:
                assert process.stdout is not None  # noqa: S101 - it is a pipe
                async for line in process.stdout:
                    how, number, *rest = line.decode().split(maxsplit=2)
                    said.setdefault(int(number), how)
                    if how == "delivered":
                        said[int(number)] = how
                    if how == "failed":
                        troubles[" ".join(rest)] += 1
                await process.wait()

            begun, kills = time.monotonic(), 0
            async with asyncio.TaskGroup() as group:
                processes = [await start() for _ in range(count)]
                if arguments.stop:
                    await asyncio.sleep(8)
                    processes[0].send_signal(signal.SIGSTOP)
                    await asyncio.sleep(12)
                    processes[0].send_signal(signal.SIGCONT)
                if arguments.crash and running is not None:
                    while len(sandbox.charges) < arguments.jobs // 2:  # noqa: ASYNC110 - of other processes
                        await asyncio.sleep(0.1)
                    await asyncio.to_thread(postgres.control, running, "stop", "-m", "immediate")
                    await asyncio.sleep(5)
                    await asyncio.to_thread(postgres.start_again, running)
                calm = arguments.stop or arguments.crash or arguments.race
                while not calm and time.monotonic() - begun < arguments.seconds:
                    await asyncio.sleep(random.uniform(2, 4))
                    place = random.randrange(4)
                    with suppress(ProcessLookupError):
                        processes[place].kill()
                    kills += 1
                    processes[place] = await start()
            charges, requests = sandbox.charges, sandbox.requests
    refused = sum(one.status == HTTPStatus.TOO_MANY_REQUESTS for one in requests)
    missing = sum(one.status == HTTPStatus.NOT_FOUND for one in requests)
    found = Counter(said.values())
    print(
        f"{arguments.journal}: {arguments.jobs} orders, {kills} kills, {time.monotonic() - begun:.0f} s;"
        f" charges {len(charges)}, delivered {found['delivered']}, unknown {found['unknown']},"
        f" refused {refused}, 404 {missing}"
    )
    for trouble, times in troubles.most_common(5):
        print(f"  {times} x {trouble}")
    paid = Counter(
        one.json["prompt"] for one in requests if one.point == "queue" and one.status == HTTPStatus.OK
    )
    assert len(charges) == paid.total(), "a charge without an answer"  # noqa: S101 - a benchmark
    told = {f"order {number}" for number, how in said.items() if how != "failed"}
    print(f"  paid twice: {paid.total() - len(paid)}; paid and not told of: {len(paid.keys() - told)}")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("journal", choices=["file", "postgres"])
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=20, help="how long somebody is killed now and then")
    parser.add_argument("--stop", action="store_true")
    parser.add_argument("--crash", action="store_true")
    parser.add_argument("--race", action="store_true")
    asyncio.run(trial(parser.parse_args()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["work"]:
        asyncio.run(work(sys.argv[2:]))
    else:
        assert Path("tests").is_dir(), "run it from the root of the repository"  # noqa: S101 - a benchmark
        main()
