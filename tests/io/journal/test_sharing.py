"""Clients and processes that share a journal: each job is watched by one of them, or by nobody."""

# a moment between two steps is made to happen:
# pyright: reportPrivateUsage=false

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import anyio
import anyio.to_thread
import pytest

from tests.forks import start
from venice_async.io.journal.leases import Lease, is_alive, sweep
from venice_async.io.journal.writer import MOST
from venice_async.sansio.job.states import Waiting

from .journals import INTENT, WAITING, both, ids, job, opened, ticket

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nursery")]

NEIGHBOUR = """
import anyio, json, os, signal, sys
from pathlib import Path
from tests.io.journal.journals import *

async def main():
    async with opened(sys.argv[1]) as journal:
        for command in iter(sys.stdin.readline, ""):
            match command.strip():
                case "begin": answer = (await journal.begin(job(WAITING))).id
                case "adopt": answer = [entry.id for entry in await journal.adopt()]
                case "pending": answer = await ids(journal)
                case "fork": answer = os.fork() or signal.pause()
            print(json.dumps(answer), flush=True)

anyio.run(main)
"""


class Neighbour:
    """Another process with the same journal."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    async def ask(self, command: str) -> object:
        return (await self.ask_all([self], command))[0]

    @staticmethod
    async def ask_all(neighbours: list[Neighbour], command: str) -> list[object]:
        for neighbour in neighbours:
            _pipe(neighbour.process.stdin).write(f"{command}\n")
            _pipe(neighbour.process.stdin).flush()
        read = [_pipe(neighbour.process.stdout).readline for neighbour in neighbours]
        return [json.loads(await anyio.to_thread.run_sync(line)) for line in read]


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@contextmanager
def neighbour(path: Path | str) -> Generator[Neighbour]:
    command = [sys.executable, "-c", NEIGHBOUR, str(path)]
    root = Path(__file__).parents[2]
    pipe = subprocess.PIPE
    with start(command, cwd=root, env=os.environ, stdin=pipe, stdout=pipe, text=True) as process:
        yield Neighbour(process)
        _pipe(process.stdin).close()


@both
async def test_two_clients_of_one_process_leave_each_others_jobs_alone(path: Path | str) -> None:
    async with opened(path) as first, opened(path) as second:
        mine = (await first.begin(job(WAITING))).id
        assert ([mine], []) == (await ids(first), await ids(second))
        assert [] == await second.adopt()
        assert [] == await second.adopt(mine)
        await first.release(mine)
        assert [mine] == await ids(second)
        assert [mine] == [entry.id for entry in await second.adopt()]
        assert ([], []) == (await first.adopt(), await ids(first))


@both
async def test_the_jobs_of_a_client_that_closes_are_anyones(path: Path | str) -> None:
    async with opened(path) as second:
        async with opened(path) as first:
            mine = (await first.begin(job(INTENT))).id
        assert [mine] == [entry.id for entry in await second.adopt()]


@both
async def test_a_known_ticket_that_another_client_watches_is_entered_again(path: Path | str) -> None:
    async with opened(path) as first, opened(path) as second:
        mine = await first.begin(job(WAITING))
        theirs = await second.begin(job(WAITING))
        assert mine.id != theirs.id


async def test_another_process_keeps_its_jobs_until_it_is_killed(path: Path) -> None:
    with neighbour(path) as other:
        theirs = await other.ask("begin")
        async with opened(path) as journal:
            assert ([], []) == (await journal.pending(), await journal.adopt())
            assert [theirs] == await other.ask("pending")
            mine = (await journal.begin(job(Waiting(ticket=ticket(1))))).id
            assert [] == await other.ask("adopt")
            other.process.send_signal(signal.SIGKILL)
            other.process.wait()
            assert [theirs, mine] == await ids(journal)
            assert [theirs] == [entry.id for entry in await journal.adopt()]
    assert ["jobs.db"] == [place.name for place in path.parent.iterdir() if place.suffix != ".owner"]
    async with opened(path):
        pass
    assert ["jobs.db"] == [place.name for place in path.parent.iterdir()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked")
async def test_a_forked_child_does_not_keep_the_jobs_of_its_parent_and_leaves_them_while_it_lives(
    path: Path,
) -> None:
    with neighbour(path) as other:
        theirs = await other.ask("begin")
        child = cast("int", await other.ask("fork"))
        try:
            async with opened(path) as journal:
                assert ([], 1) == (found := await journal.pending(), found.held)
                other.process.send_signal(signal.SIGKILL)
                other.process.wait()
                os.kill(child, 0)  # it lives
                found = await journal.pending()
                assert ([theirs], 0) == ([entry.id for entry in found], found.held)
        finally:
            os.kill(child, signal.SIGKILL)


@both
async def test_processes_that_adopt_at_once_get_each_job_once(path: Path | str) -> None:
    async with opened(path) as journal:
        found = [(await journal.begin(job(Waiting(ticket=ticket(number))))).id for number in range(30)]
    with neighbour(path) as first, neighbour(path) as second, neighbour(path) as third:
        answers = await Neighbour.ask_all([first, second, third], "adopt")
    adopted = [entry_id for answer in answers for entry_id in cast("list[str]", answer)]
    assert sorted(found) == sorted(adopted)


@both
async def test_many_clients_write_at_once_and_nothing_is_lost(path: Path | str) -> None:
    async def work(number: int) -> None:
        async with opened(path) as journal:
            entry = await journal.begin(job(INTENT, key=str(number)))
            await journal.record(entry.id, Waiting(ticket=ticket(number)))

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(work, number)
    async with opened(path) as journal:
        assert {ticket(number) for number in range(8)} == {entry.ticket for entry in await journal.adopt()}


@both
async def test_many_who_write_at_once_share_transactions_but_none_is_long(path: Path | str) -> None:
    async with opened(path) as journal:
        database, transactions = journal.writer.database, list[bool]()
        begin = database.begin

        def counted(*, patient: bool) -> None:
            transactions.append(patient)
            begin(patient=patient)

        database.begin = counted  # type: ignore[method-assign]
        async with anyio.create_task_group() as group:
            for number in range(2 * MOST):
                group.start_soon(journal.begin, job(INTENT, key=str(number)))
        assert 2 <= len(transactions) <= MOST
        database.begin = begin  # type: ignore[method-assign]
        assert 2 * MOST == len(await journal.pending())


def test_a_lease_lives_until_it_is_released(path: Path) -> None:
    lease = Lease(path)
    assert is_alive(path, lease.token)
    sweep(path)
    assert is_alive(path, lease.token)
    lease.release()
    assert not is_alive(path, lease.token)
    assert [] == list(path.parent.iterdir())


def test_what_is_no_token_is_nobodys(path: Path) -> None:
    (path.parent / "jobs.db.x").mkdir()
    (path.parent / "jobs.db.x" / "y.owner").touch()
    assert [False, False] == [is_alive(path, token) for token in ("x/y", "")]
    assert (path.parent / "jobs.db.x" / "y.owner").exists()


def test_a_lease_taken_for_dead_while_it_was_made_is_made_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked: list[int] = []

    def removed_first(file: FileIO, how: int) -> None:
        locked.append(how)
        if len(locked) == 1:
            next(path.parent.glob("*.owner")).unlink()
        flock(file, how)

    flock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", removed_first)
    lease = Lease(path)
    assert [fcntl.LOCK_EX] * 2 == locked
    assert is_alive(path, lease.token)
    lease.release()


def test_a_child_process_does_not_keep_a_lease_alive(path: Path) -> None:
    lease = Lease(path)
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:  # noqa: S603 - our own code
        lease._file.close()
        assert not is_alive(path, lease.token)
        child.kill()
    lease.release()
