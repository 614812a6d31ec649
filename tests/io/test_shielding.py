"""What was begun is brought to its end, whoever cancels the one that waits for it."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from venice_async.io.shielding import run_to_completion

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
