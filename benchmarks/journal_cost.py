"""What does a journal cost one process, and how often does it ask? Instant jobs with each kind of store.

    python -m benchmarks.journal_cost            200 jobs with no journal, a file, and Postgres (extra `test`)

The jobs are done at once, on loopback (`loopback.py`), with limits that never bind: one after the other, so
that nothing is shared between two of them, and all at once. A turn is the right to send one request; a job
like that takes three. An exchange asks the ration for turns. Statements are counted where they are executed,
`BEGIN` and `COMMIT` included. Prints medians of the runs, which take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg

from tests import postgres
from venice_async import Limits, VeniceClient, VideoRequest
from venice_async.io.ration.postgres import PostgresRation
from venice_async.io.ration.sqlite import SqliteRation

from .common import load_note, middle, print_table, serving
from .loopback import Options

TURNS = 3  # of a job that is done at once: to queue, to poll, to clean up
FAST = Limits(queue_per_minute=1e9, retrieve_per_minute=1e9)
counted = Counter[str]()


def count(kind: type, method: str, name: Callable[..., str]) -> None:
    """Count the calls of a method."""
    original = getattr(kind, method)

    def counting(*arguments: Any, **options: Any) -> Any:
        counted[name(*arguments)] += 1
        return original(*arguments, **options)

    setattr(kind, method, counting)


class CountingConnection(sqlite3.Connection):
    """A connection whose statements are counted."""


async def jobs(origin: str, journal: str | None, folder: Path, number: int, *, at_once: bool) -> list[float]:
    """Return milliseconds, and those of CPU, exchanges and statements, for each job."""
    async with VeniceClient(
        "key", base_url=f"{origin}/api/v1", journal=journal, limits=FAST, sidecars=False
    ) as venice:

        async def job(name: str) -> None:
            request = VideoRequest(model="public", prompt="p", duration="5s")
            await venice.generate(request, to=folder / f"{name}.mp4", overwrite=True)

        for warm_up in range(10):
            await job(f"warm-up {warm_up}")
        counted.clear()
        began, cpu = time.perf_counter(), time.process_time()
        if at_once:
            async with asyncio.TaskGroup() as group:
                for index in range(number):
                    group.create_task(job(str(index)))
        else:
            for index in range(number):
                await job(str(index))
        spent = [(time.perf_counter() - began) * 1000, (time.process_time() - cpu) * 1000]
        return [one / number for one in (*spent, counted["exchange"], counted["ration"], counted["journal"])]


def owner(connection: object, *_: object) -> str:
    """Return whose a connection is: the ration's thread has a name."""
    return "ration" if "ration" in threading.current_thread().name else "journal"


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    for ration in (SqliteRation, PostgresRation):
        count(ration, "exchange", lambda *_: "exchange")
    count(CountingConnection, "execute", owner)
    count(psycopg.Connection, "execute", owner)
    connect = sqlite3.connect
    sqlite3.connect = lambda *given, **more: connect(*given, factory=CountingConnection, **more)  # type: ignore[assignment]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = stack.enter_context(postgres.server("journal-cost"))
        stores = {"none": None, "a file": str(folder / "jobs.db")}
        stores["Postgres"] = postgres.new_database(running, "cost")
        origin = stack.enter_context(serving(Options()))
        found = defaultdict[tuple[str, bool], list[list[float]]](list)
        for _ in range(options.runs):
            for name, journal in stores.items():
                for at_once in (False, True):
                    run = jobs(origin, journal, folder, options.jobs, at_once=at_once)
                    found[name, at_once].append(asyncio.run(run))
    print(f"{options.jobs} jobs that are done at once, medians of {options.runs} runs; {load_note()}\n")
    rows = list[list[object]]()
    for (name, at_once), runs in found.items():
        wall, cpu, exchanges, asked, written = map(middle, zip(*runs, strict=True))
        how = "at once" if at_once else "one by one"
        cells = f"{wall:.1f}", f"{cpu:.1f}", f"{exchanges / TURNS:.2f}", f"{asked / TURNS:.1f}"
        rows.append([name, how, *cells, f"{written:.1f}"])
    print_table(
        [
            "journal",
            "jobs",
            "ms a job",
            "CPU ms",
            "exchanges a turn",
            "statements a turn",
            "of the journal a job",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
