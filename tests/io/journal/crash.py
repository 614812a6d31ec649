"""Kills a process that uses the journal, at its n-th step or at any moment, and says what is found then.

    python -m tests.io.journal.crash FOLDER steps FIRST STRIDE
    python -m tests.io.journal.crash FOLDER moments COUNT SEED
    python -m tests.io.journal.crash URI steps FIRST STRIDE

Every line is JSON: the number of calls that had returned, and what a process that comes later finds. A step
is an SQL statement, or a file that is opened, locked, linked, changed or removed. The processes are forked
from this one, which has done it all once; so they cost little.
"""

# the connection is traced:
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from venice_async.errors import JobFailedError
from venice_async.io.clock import SystemClock
from venice_async.io.journal import sqlite as database
from venice_async.io.journal.journal import Journal
from venice_async.sansio.http.secrets import Secret
from venice_async.sansio.job.states import Failed, Saved, Succeeded, Waiting
from venice_async.validators import is_postgres

from .journals import (
    INTENT,
    MARK,
    REQUEST,
    VIDEO,
    WAITING,
    bytes_on_disk,
    download,
    job,
    ticket,
)

State = tuple[tuple[str, str, int], ...]

EXPECTED: Final[tuple[State, ...]] = (
    (),  # nothing has returned yet
    (),  # opened
    (("a", "Queueing", 0),),
    (("a", "Waiting", 0),),
    (("a", "Waiting", 0), ("b", "Queueing", 0)),
    (("a", "Waiting", 0),),  # b was withdrawn
    (("a", "Downloading", 1),),
    (("a", "Downloading", 2),),
    (("a", "Saved", 0),),
    (("a", "Saved", 0), ("c", "Queueing", 0)),
    (("c", "Queueing", 0),),  # a succeeded
    (("c", "Waiting", 0),),
    (("c", "Waiting", 0),),  # released
    (("c", "Waiting", 0),),  # adopted
    (),  # c failed for good
    (),  # closed
)
"""What is unfinished after so many calls: destination, state, GETs."""

SUCCEEDED: Final = 10  # calls


async def opened(path: Path | str) -> Journal:
    return await Journal.open(path, clock=SystemClock(), account="a", secret=Secret("a key"))


async def life(path: Path | str) -> AsyncGenerator[None]:
    """Use the journal; yields whenever a call has returned."""
    journal = await opened(path)
    yield
    a = await journal.begin(job(INTENT, request=REQUEST, to="/a", key="a"))
    yield
    await journal.record(a.id, WAITING)
    yield
    b = await journal.begin(job(INTENT, request=REQUEST, to="/b"))
    yield
    await journal.withdraw(b.id)
    yield
    for state in (download(1), download(2), Saved(video=VIDEO)):
        await journal.record(a.id, state)
        yield
    c = await journal.begin(job(INTENT, request=REQUEST, to="/c"))
    yield
    await journal.record(a.id, Succeeded(video=VIDEO))
    yield
    await journal.record(c.id, Waiting(ticket=ticket(1)))
    yield
    await journal.release(c.id)
    yield
    await journal.adopt()
    yield
    error = JobFailedError("no").with_ticket(ticket(1))
    await journal.record(c.id, Failed(error=error, ticket=ticket(1), job_failed=True))
    yield
    await journal.aclose()
    yield


async def aftermath(path: Path | str) -> dict[str, Any]:
    """Return what someone finds who comes later and takes over."""
    journal = await opened(path)
    try:
        found = sorted(
            (str(entry.to)[1:], type(entry.state).__name__, getattr(entry.state, "gets", 0))
            for entry in await journal.adopt()
        )
        named = await journal.find("a")
        succeeded = named is not None and isinstance(named.state, Succeeded)
        leaked = succeeded and MARK in bytes_on_disk(path)  # while it is open: closing would empty the log
    finally:
        await journal.aclose()
    return {
        "unfinished": found,
        "succeeded": succeeded,
        "leaked": leaked,
        "files": sorted(place.name for place in path.parent.iterdir()) if isinstance(path, Path) else [],
    }


def die_at(step: int, folder: Path | None) -> None:
    """Be killed just before the `step`-th thing done to the journal."""
    taken = 0

    def take(_: object) -> None:
        nonlocal taken
        taken += 1
        if taken == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        ours = event.startswith(("os.", "open")) and str(folder) in str(arguments)
        if event == "fcntl.flock" or (ours and event not in {"os.listdir", "os.scandir"}):
            take(event)

    def connect(path: Path, options: str) -> Any:
        connection = connected(path, options)
        connection.set_trace_callback(take)
        return connection

    def execute(connection: Any, *arguments: Any) -> Any:
        take(None)
        return executed(connection, *arguments)

    if folder is not None:
        connected, database._connect = database._connect, connect
        sys.addaudithook(audit)
        return
    from psycopg import Connection  # noqa: PLC0415 - only where there is one

    executed = Connection.execute
    Connection.execute = execute  # type: ignore[method-assign,assignment]


def child(work: Callable[[], None]) -> int:
    """Do `work` in a process of its own."""
    process = os.fork()
    if process:
        return process
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - the process ends here, whatever happens
        os.write(2, f"{error!r}\n".encode())
        os._exit(1)
    os._exit(0)


def live(path: Path | str, report: int, before: Callable[[], None]) -> None:
    """Use the journal, and write a byte to `report` whenever a call has returned."""

    async def run() -> None:
        async for _ in life(path):
            os.write(report, b".")

    before()
    asyncio.run(run())


def rehearse(path: Path | str) -> None:
    """Use a journal once, so that what is imported and compiled on the way is there in every process."""

    async def run() -> None:
        async for _ in life(path):
            pass

    if isinstance(path, Path):
        path.parent.mkdir()
    asyncio.run(run())
    asyncio.run(aftermath(path))
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()
    if isinstance(path, Path):
        shutil.rmtree(path.parent)


def look(path: Path | str, report: int) -> None:
    os.write(report, json.dumps(asyncio.run(aftermath(path))).encode())


def clear(path: Path | str) -> None:
    """Remove what the one before has left."""
    if isinstance(path, Path):
        for place in path.parent.iterdir():
            place.unlink()
    else:
        from tests.postgres import empty  # noqa: PLC0415 - only where there is one

        empty(path)


def settle(path: Path | str) -> None:
    """Wait until the database has noticed that a session has ended, which it does a moment later."""
    if isinstance(path, str):
        from tests.postgres import execute  # noqa: PLC0415 - only where there is one

        others = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        while execute(path, f"SELECT FROM {others} AND backend_type = 'client backend'"):
            time.sleep(0.005)


def one(path: Path | str, *, before: Callable[[], None], seconds: float | None) -> bool:
    """Let a process live and die, print what came of it, and return whether it was killed."""
    clear(path)
    reading, writing = os.pipe()
    process = child(lambda: live(path, writing, before))
    os.close(writing)
    if seconds is not None:
        time.sleep(seconds)
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    calls = len(_read(reading))
    _, status = os.waitpid(process, 0)
    settle(path)
    reading, writing = os.pipe()
    second = child(lambda: look(path, writing))
    os.close(writing)
    found = _read(reading)
    os.waitpid(second, 0)
    sys.stdout.write(json.dumps({"calls": calls, "status": status, **json.loads(found)}) + "\n")
    return status == signal.SIGKILL


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        return file.read()


def main(place: str, mode: str, first: int, second: int) -> None:
    folder = None if is_postgres(place) else Path(place)
    path = place if folder is None else folder / "jobs.db"
    rehearse(place if folder is None else folder / "rehearsal" / "jobs.db")
    if mode == "steps":
        step = first
        while one(path, before=partial(die_at, step, folder), seconds=None):
            step += second
    else:
        chance = random.Random(second)
        for _ in range(first):
            one(path, before=lambda: None, seconds=chance.random() * 0.05)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
