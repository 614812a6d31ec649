"""What was begun is brought to its end, whoever cancels the one that waits for it."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
import threading
from contextvars import ContextVar
from typing import Any, cast

import anyio
import pytest

from venice_async.io.shielding import call_user, in_thread, run_to_completion, worker_threads

PASSES = 20
"""Turns of the loop that the work takes: more than `asyncio.run` needs to cancel its tasks."""


class Work:
    """Something that takes a while."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = asyncio.Event()
        self.error = error
        self.result = ""

    async def __call__(self) -> str:
        self.begun.set()
        for _ in range(PASSES):
            await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.result = "done"
        return self.result


@pytest.mark.anyio
async def test_a_result_and_an_error_pass_through() -> None:
    assert "done" == await run_to_completion(Work()())
    with pytest.raises(ZeroDivisionError):
        await run_to_completion(Work(ZeroDivisionError())())


@pytest.mark.anyio
@pytest.mark.parametrize("error", [None, ZeroDivisionError()])
async def test_a_cancellation_goes_on_once_the_work_is_at_its_end(error: Exception | None) -> None:
    work = Work(error)
    task = asyncio.create_task(run_to_completion(work()))
    await work.begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ("done" if error is None else "") == work.result


@pytest.mark.anyio
async def test_a_cancelled_scope_is_held_off_until_the_work_is_at_its_end() -> None:
    with anyio.CancelScope() as scope:
        work = Work()
        scope.cancel()
        assert "done" == await run_to_completion(work())


def test_asyncio_run_ends_only_after_the_work_though_its_main_task_is_over() -> None:
    found: list[Work] = []

    async def main() -> None:
        found.append(Work())
        waiting = asyncio.create_task(run_to_completion(found[0]()))
        await found[0].begun.wait()
        assert not waiting.done()

    asyncio.run(main())
    assert "done" == found[0].result


def test_work_is_unknown_to_asyncio_which_would_cancel_it_with_all_other_tasks() -> None:
    async def main() -> set[str]:
        work = Work()
        waiting = asyncio.create_task(run_to_completion(work()))
        await work.begun.wait()
        known = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr] # ours have one
        await waiting
        return known

    known = asyncio.run(main())
    assert [] == [name for name in known if "Work.__call__" in name]
    assert [name for name in known if "run_to_completion" in name]


@pytest.mark.anyio
@pytest.mark.parametrize("whole_task", [True, False])
async def test_work_in_a_thread_has_ended_when_its_cancellation_is_raised(*, whole_task: bool) -> None:
    begun, may_end, ended = asyncio.Event(), threading.Event(), list[str]()
    loop, scope, after = asyncio.get_running_loop(), anyio.CancelScope(), list[str]()

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        may_end.wait(timeout=60)
        ended.append("ended")

    async def wait_for_it() -> None:
        with scope:
            try:
                await in_thread(work)
                await in_thread(after.append, "went on")
            finally:
                assert ["ended"] == ended

    task = asyncio.create_task(wait_for_it())
    await begun.wait()
    if whole_task:
        task.cancel()
    else:
        scope.cancel()
    await asyncio.sleep(0)
    may_end.set()
    await asyncio.wait({task})
    assert (whole_task, []) == (task.cancelled(), after)


@pytest.mark.anyio
async def test_work_in_a_thread_sees_the_context_of_its_caller() -> None:
    name: ContextVar[str] = ContextVar("name")
    name.set("order-4711")
    assert "order-4711" == await in_thread(name.get)


@pytest.mark.anyio
async def test_the_threads_of_a_client_end_with_it_and_those_of_another_one_do_the_work() -> None:
    with worker_threads():
        with worker_threads():
            one = await in_thread(threading.current_thread)
        other = await in_thread(threading.current_thread)
    one.join(60)
    other.join(60)
    assert one is not other
    assert (False, False) == (one.is_alive(), other.is_alive())
    assert await in_thread(threading.current_thread) not in {one, other}


@pytest.mark.anyio
async def test_work_that_waits_for_a_descriptor_outlives_the_client_in_whose_threads_it_began() -> None:
    left = iter([OSError(errno.EMFILE, "none is left")])

    def work() -> str:
        for error in left:
            raise error
        return "done"

    with worker_threads():
        working = asyncio.create_task(in_thread(work))
        await in_thread(int)
    assert "done" == await working


FORK = """
import asyncio, os
from venice_async.io.shielding import in_thread, worker_threads

async def pids():
    with worker_threads():
        return await in_thread(os.getpid)

async def main():
    with worker_threads():
        await in_thread(int)
        child = os.fork()
        if child == 0:
            asyncio._set_running_loop(None)
            os._exit(0 if asyncio.run(pids()) == os.getpid() else 1)
        print(os.waitpid(child, 0)[1])

asyncio.run(main())
"""


def test_the_child_of_a_fork_has_threads_of_its_own() -> None:
    command = [sys.executable, "-c", FORK]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own text
    assert ("0\n", 0) == (found.stdout, found.returncode), found.stderr


@pytest.mark.anyio
async def test_a_plain_function_of_the_caller_keeps_its_context_and_may_raise_anything() -> None:
    whose = ContextVar("whose", default="nobody's")
    whose.set("ours")

    def stops(_: object) -> None:
        raise StopIteration

    def fails(_: object) -> None:
        raise KeyError

    assert "ours" == await call_user(lambda _: whose.get(), None)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await call_user(stops, None)
    with pytest.raises(KeyError):
        await call_user(fails, None)


def test_a_program_ends_though_a_person_has_not_answered_yet() -> None:
    program = """
import asyncio, threading
from venice_async.io.shielding import call_user

async def main():
    asked = threading.Event()
    def ask(_):
        asked.set()
        threading.Event().wait()
    question = asyncio.create_task(call_user(ask, None))
    while not asked.is_set():
        await asyncio.sleep(0.01)

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)  # noqa: S603 - our own program


def test_the_threads_of_an_event_loop_that_was_closed_in_mid_work_end_with_the_next_block() -> None:
    tasks, threads = list[asyncio.Task[None]](), list[threading.Thread]()  # tasks as libraries hold them
    begun = asyncio.Event()

    async def work() -> None:
        with worker_threads():
            threads.append(await in_thread(threading.current_thread))
            begun.set()
            await asyncio.sleep(60)

    async def leave() -> None:
        tasks.append(asyncio.ensure_future(work()))
        await begun.wait()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    loop.close()

    async def go_on() -> None:
        with worker_threads():
            await asyncio.to_thread(threads[0].join, 10)

    asyncio.run(go_on())
    assert not threads[0].is_alive()
    for task in tasks:
        cast("Any", task)._log_destroy_pending = False  # asyncio's word about it
        cast("Any", task.get_coro()).close()
