"""What do a thousand accounts in one worker cost? Memory, CPU, sockets and sessions of the database.

    python -m benchmarks.accounts                  1 000 accounts, a job each
    python -m benchmarks.accounts --accounts 100

A real Postgres, a `loopback` server in a process of its own, and one worker in this process, to which each
account's key is new. All jobs are submitted first. Then the worker works until every clip is there: what is
measured is the worker, which is idle before, and has opened all accounts after. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import tempfile
import threading
import time
from pathlib import Path

from tests import postgres
from venice_async import Polling, VideoRequest
from venice_async.fleet import Fleet, Worker

from .common import memory, print_table, serving
from .loopback import Options

SECONDS = 5.0  # that a job takes


async def measure(uri: str, origin: str, folder: Path, accounts: int) -> dict[str, object]:
    """Have one worker do a job for each account; return what that took."""
    keys = {f"account-{number}": f"key-{number}" for number in range(accounts)}
    request = VideoRequest(model="public-model", prompt="A gondola at dawn", duration="5s")
    async with Fleet(uri) as fleet:
        jobs = [
            await fleet.submit(request, key="order", to=folder / f"{name}.mp4", account=name) for name in keys
        ]
        worker = Worker(
            uri, keys=keys, base_url=f"{origin}/api/v1", slots=accounts, polling=Polling(price=0.1)
        )
        before, began, used = memory(), time.perf_counter(), cpu()
        sockets = 0
        running = asyncio.create_task(worker.run())
        waiting = asyncio.gather(*(job.wait() for job in jobs))
        while not waiting.done():
            await asyncio.sleep(0.5)
            sockets = max(sockets, descriptors())
        ours = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        sessions = postgres.execute(uri, ours)[0][0]
        await waiting
        seconds, busy, grown = time.perf_counter() - began, cpu() - used, memory() - before
        opened = len({video.path for video in waiting.result()})
        threads = threading.active_count()
        worker.stop()
        await running
    return {
        "clips": opened,
        "seconds": round(seconds, 1),
        "CPU, s": round(busy, 1),
        "CPU a clip, ms": round(1000 * busy / accounts, 1),
        "memory, MiB": round(grown, 1),
        "memory an account, KiB": round(1024 * grown / accounts, 1),
        "open sockets at most": sockets,
        "sessions of the database": sessions,
        "threads": threads,
    }


def cpu() -> float:
    """Return the seconds of CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def descriptors() -> int:
    """Return how many sockets are open."""
    found = (entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink())
    return sum("socket" in str(entry.readlink()) for entry in found)


def main() -> None:
    """Read the command line; start database and server, and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--accounts", type=int, default=1_000)
    options = parser.parse_args()
    with (
        postgres.server("accounts") as server,
        serving(Options(seconds=SECONDS, clip_bytes=100_000)) as origin,
    ):
        uri = postgres.new_database(server, f"accounts_{time.time_ns()}")
        with tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(measure(uri, origin, Path(folder), options.accounts))
    print_table(["of one worker", str(options.accounts)], [[name, value] for name, value in found.items()])


if __name__ == "__main__":
    main()
