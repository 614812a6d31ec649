"""What does one more job cost? 10 to 5 000 in flight, in CPU and memory; and the pacer's CPU for each turn.

    python -m benchmarks.scaling                 10, 100, 1 000 and 5 000 jobs, some five minutes
    python -m benchmarks.scaling --quick         10, 100 and 1 000, a minute

The jobs were queued before: a client in a fresh interpreter resumes their tickets on a strict server
(`loopback.py`, a process of its own, 120 polls a minute), which is not done with them while they are watched.
The first half of that time is for starting; over the second the CPU is counted, and divided by jobs and by
minutes. It falls with the number of jobs, for there are no more than 120 polls a minute however many wait.
The memory is what the process grew by once all were resumed, by jobs. Then as many jobs finish on a server
without a limit: "to the end" is CPU from the tickets to all clips saved, by jobs.

The pacer's own CPU is that of the real code in virtual time (`virtual_pacer.py`), by turns handed out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from venice_async import Limits, Ticket, VeniceClient, VideoJob

from .common import MIB, in_process, load_note, memory, print_table, reset, serving
from .loopback import Options
from .strict_server import StrictServer
from .virtual_pacer import P80, paced

NEVER = 1e6  # seconds
QUICK, FULL = (10, 100, 1000), (10, 100, 1000, 5000)
IN_FLIGHT, TO_THE_END = "in-flight", "to-the-end"


def resume_all(venice: VeniceClient, jobs: int, folder: Path) -> list[VideoJob]:
    """Go on with jobs that were queued elsewhere."""
    tickets = (Ticket(model="public", queue_id=f"elsewhere-{number}") for number in range(jobs))
    return [venice.resume(ticket, to=folder) for ticket in tickets]


async def in_flight(base: str, jobs: int, seconds: float, folder: Path) -> dict[str, float]:
    """Watch jobs that do not end; return MiB in all, and the CPU seconds of the second half."""
    async with VeniceClient("key", base_url=base) as venice:
        await venice.models()  # everything is imported, and a connection is open
        before = memory()
        running = resume_all(venice, jobs, folder)
        await asyncio.sleep(seconds / 2)
        grown, cpu, began = memory() - before, time.process_time(), time.monotonic()
        await asyncio.sleep(seconds / 2)
        cpu, watched = time.process_time() - cpu, time.monotonic() - began
        for job in running:
            job.cancel()
    return {"mib": grown, "cpu": cpu, "seconds": watched}


async def to_the_end(base: str, jobs: int, folder: Path) -> dict[str, float]:
    """Bring home jobs that are done; return CPU seconds in all."""
    limits = Limits(retrieve_per_minute=1e9)
    async with VeniceClient("key", base_url=base, limits=limits) as venice:
        await venice.models()
        began, cpu = time.monotonic(), time.process_time()
        for job in resume_all(venice, jobs, folder):
            await job
        return {"cpu": time.process_time() - cpu, "seconds": time.monotonic() - began, "mib": memory("VmHWM")}


def run_client(kind: str, origin: str, jobs: int, seconds: float = 0) -> dict[str, Any]:
    """Run one of both in a fresh interpreter."""
    options = json.dumps({"kind": kind, "base": f"{origin}/api/v1", "jobs": jobs, "seconds": seconds})
    return in_process("scaling", "--client", options)


def client(options: dict[str, Any]) -> None:
    """Do what the parent asked for."""
    with tempfile.TemporaryDirectory() as name:
        base, jobs, folder = options["base"], options["jobs"], Path(name)
        if options["kind"] == IN_FLIGHT:
            found = asyncio.run(in_flight(base, jobs, options["seconds"], folder))
        else:
            found = asyncio.run(to_the_end(base, jobs, folder))
    print(json.dumps(found))


def show_jobs(numbers: tuple[int, ...], seconds: float) -> None:
    """Print what jobs cost."""
    rows: list[list[object]] = []
    done = Options(seconds=0, p80=P80, clip_bytes=MIB // 64)
    waiting = Options(seconds=NEVER, p80=P80, retrieve_limit=120)
    with serving(waiting) as never, serving(done) as at_once:
        for jobs in numbers:
            reset(never)
            running = run_client(IN_FLIGHT, never, jobs, seconds)
            counts = reset(never)
            ended = run_client(TO_THE_END, at_once, jobs)
            minutes = running["seconds"] / 60
            rows.append(
                [
                    f"{jobs:,}".replace(",", " "),
                    f"{running['cpu'] / running['seconds'] * 100:.1f} %",
                    f"{running['cpu'] / jobs / minutes * 1000:.2f}",
                    f"{running['mib'] * 1024 / jobs:.1f}",
                    counts.polls,
                    counts.refused,
                    f"{ended['cpu'] / jobs * 1000:.2f}",
                ]
            )
    print(f"each watched for {seconds:g} s; {load_note()}\n")
    head = "jobs in flight|CPU of one core|CPU ms per job-minute|KiB per job|polls|429s|CPU ms to the end"
    print_table(head.split("|"), rows)


def show_pacer(numbers: tuple[int, ...]) -> None:
    """Print what the pacer costs a turn."""
    rows: list[list[object]] = []
    for jobs in numbers:
        chance = random.Random(7)
        takes = [chance.lognormvariate(4.7, 0.5) for _ in range(jobs)]
        found = paced(takes, [0.0] * jobs, StrictServer())
        rows.append([jobs, found.requests, found.refused, f"{found.cpu / found.requests * 1000:.3f}"])
    print_table(["jobs at once, virtual time", "turns", "429s", "CPU ms a turn, all included"], rows)


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, help="to watch jobs in flight")
    parser.add_argument("--client", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        client(options.client)
        return
    show_jobs(QUICK if options.quick else FULL, options.seconds or (20.0 if options.quick else 60.0))
    show_pacer((10, 100, 500) if options.quick else (10, 100, 500, 2000))


if __name__ == "__main__":
    main()
