"""An event loop on which the same choices give the same run, so that a failure can be replayed.

A run depends on more than its input wherever the machine decides: which thread is ready first, what time it
is, in which order a set of tasks is cancelled (by address), and what is drawn at random. Here threads are
timers, the clock jumps, cancel scopes keep an order, and all chance comes from one source.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext
from functools import partialmethod
from importlib import import_module
from random import Random
from typing import Any, TypeVar, TypeVarTuple
from unittest import mock
from weakref import WeakKeyDictionary

import anyio
from anyio import CancelScope, CapacityLimiter

from venice_async.io.clock import SystemClock

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

START = 1_000.0
EPOCH = 1_700_000_000.0
LONGEST_WORK = 0.02
"""Virtual seconds that work in a thread may take."""


class ReplayLoop(asyncio.SelectorEventLoop):
    """An event loop without network, threads and waits; the work of a thread is done on the loop, later."""

    def __init__(self, chance: Random) -> None:
        """Draw how long the work of threads takes from `chance`."""
        self.chance = chance
        self._jumping = _Jumping()
        self._free_at: WeakKeyDictionary[Executor, float] = WeakKeyDictionary()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], T], *args: *Arguments
    ) -> asyncio.Future[T]:
        """Do the work after a time that is drawn; one thread does one thing after the other."""
        result: asyncio.Future[T] = self.create_future()

        def work() -> None:
            try:
                value = func(*args)
            except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                if not result.done():
                    result.set_exception(error)
            else:
                if not result.done():
                    result.set_result(value)

        begin = self.time()
        alone = getattr(executor, "_max_workers", None) == 1
        if executor is not None and alone:
            begin = max(begin, self._free_at.get(executor, 0))
        end = begin + self.chance.random() * LONGEST_WORK
        if executor is not None and alone:
            self._free_at[executor] = end
        self.call_at(end, work)
        return result


class _Jumping(selectors.SelectSelector):
    """A selector that moves the clock to the next timer."""

    now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "every task waits, and no timer will wake one"
        self.now += max(timeout, 0)
        return []


class _Ordered(dict[Any, None]):
    """A set that is iterated in the order of its making, not of addresses."""

    def add(self, item: object) -> None:
        self[item] = None

    def discard(self, item: object) -> None:
        self.pop(item, None)

    remove = dict[Any, None].__delitem__


class ReplayClock(SystemClock):
    """The clock and the chance of a client on a `ReplayLoop`."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def time(self) -> float:
        return EPOCH + self.monotonic()

    def chance(self) -> float:
        return self._chance.random()


@contextmanager
def replayable(chance: Random) -> Generator[ReplayLoop]:
    """Give a loop on which a run depends on `chance` and on what is done, and on nothing else."""
    loop, scope = ReplayLoop(chance), import_module("anyio._backends._asyncio").CancelScope
    gc.collect()
    gc.disable()  # it decides when an abandoned generator is closed
    try:
        with (
            mock.patch("anyio.to_thread.run_sync", _run_sync),
            mock.patch("secrets.token_hex", lambda size: chance.randbytes(size).hex()),
            mock.patch.object(scope, "__init__", partialmethod(_begin_scope, scope.__init__)),
        ):
            yield loop
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
        gc.enable()


async def _run_sync(
    work: Callable[..., T],
    *args: Any,
    abandon_on_cancel: bool = False,
    limiter: CapacityLimiter | None = None,
) -> T:
    """Do what `anyio.to_thread.run_sync` does, with the loop's idea of a thread."""
    await anyio.lowlevel.checkpoint()
    async with limiter or nullcontext():
        with CancelScope(shield=not abandon_on_cancel):
            return await asyncio.get_running_loop().run_in_executor(None, work, *args)
    raise AssertionError  # a shielded scope swallows nothing


def _begin_scope(scope: Any, begin: Callable[..., None], *args: Any, **options: Any) -> None:
    """Begin a cancel scope of anyio which cancels what is in it in the order in which it came."""
    begin(scope, *args, **options)
    scope._tasks, scope._child_scopes = _Ordered(), _Ordered()
