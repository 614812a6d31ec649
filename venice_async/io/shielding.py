"""Work that no cancellation may cut short, work in threads, and the functions of the caller."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar, TypeVarTuple

import anyio
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from .disk import with_descriptors

T = TypeVar("T")


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns. A cancellation meanwhile, of whatever kind, is raised only after it.

    A shield alone holds off cancel scopes but not `Task.cancel`, by which `asyncio.run` ends all the tasks it
    knows once its main task is over. It does not know the task of `work`, and waits for the one that called.
    """
    task = asyncio.create_task(work)
    asyncio._unregister_task(task)  # noqa: SLF001 - documented in "Extending asyncio", underscore and all
    return await wait_out(task)


async def wait_out(future: asyncio.Future[T]) -> T:
    """Return the result of `future`. A cancellation meanwhile, of whatever kind, is raised only after it."""
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait({future})
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is None:
        return future.result()
    if not future.cancelled():
        future.exception()  # looked at, or asyncio logs that nobody did
    raise cancelled


_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")

_AT_ONCE: Final = 8  # a disk gains little by more, and each costs the memory and time of a thread

_limiter: RunVar[CapacityLimiter] = RunVar("venice_async.io.shielding")


async def in_thread(work: Callable[[*_Arguments], _T], *arguments: *_Arguments) -> _T:
    """Return what `work` returns in a thread. A cancellation is raised only after it.

    Where no file descriptor is left it is done again: it must open what it needs before it changes anything.
    """
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = CapacityLimiter(_AT_ONCE)
        _limiter.set(limiter)
    return await with_descriptors(partial(to_thread.run_sync, work, *arguments, limiter=limiter))


async def call_user(function: Callable[[Any], object], argument: object) -> Any:
    """Return what a function of the caller returns, async or plain; a plain one runs in a worker thread.

    A cancellation abandons the thread, for the function may take its time.
    """
    kinds = function, getattr(function, "__call__", None)  # noqa: B004 - its kind is asked
    if any(map(inspect.iscoroutinefunction, kinds)):
        answer = function(argument)
    else:
        answer = await to_thread.run_sync(function, argument, abandon_on_cancel=True)
    return await answer if inspect.isawaitable(answer) else answer
