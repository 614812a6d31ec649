"""Work that a cancellation does not interrupt, work in threads, and callbacks of the caller."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from itertools import count
from threading import Thread
from typing import Any, Final, TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

import anyio
from anyio import to_thread

from .disk import pause_for_descriptor

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_AT_ONCE: Final = 8  # a disk gains little by more, and each costs the memory and time of a thread


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns. A cancellation meanwhile, of whatever kind, is raised only after it.

    A shield alone holds off cancel scopes but not `Task.cancel`, by which `asyncio.run` ends all the tasks it
    knows once its main task is over. It does not know the task of `work`, and waits for the calling one.
    """
    task = asyncio.create_task(work)
    asyncio._unregister_task(task)  # noqa: SLF001 - documented in "Extending asyncio", underscore and all
    with anyio.CancelScope(shield=True):
        await wait_out(task)
    return task.result()


async def wait_out(future: asyncio.Future[T]) -> T:
    """Return the result of `future`. A cancellation meanwhile, of whatever kind, is raised only after it."""
    ended = asyncio.Event()
    future.add_done_callback(lambda _: ended.set())
    try:
        await ended.wait()
    except asyncio.CancelledError as error:
        cancelled = error
    else:
        return future.result()
    with anyio.CancelScope(shield=True):  # or a cancelled scope interrupts each turn of the loop
        while not future.done():
            try:
                await ended.wait()
            except asyncio.CancelledError as error:
                cancelled = error
    if not future.cancelled():
        future.exception()  # looked at, or asyncio logs that nobody did
    raise cancelled


_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, list[ThreadPoolExecutor]] = WeakKeyDictionary()
"""The pools that the open clients of an event loop brought; the latest works for all of them."""


@contextmanager
def worker_threads() -> Generator[None]:
    """Bring a thread pool for `in_thread` on this event loop; without any, the loop's own is used."""
    for known in _pools.keyrefs():
        loop = known()
        if loop is not None and loop.is_closed():  # in mid-work: its blocks never end
            for left in _pools.pop(loop, []):
                left.shutdown(wait=False)
    pools = _pools.setdefault(asyncio.get_running_loop(), [])
    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="venice_async")
    pools.append(pool)
    try:
        yield
    finally:
        pools.remove(pool)
        pool.shutdown(wait=False)


async def in_thread(work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """Return what `work` returns in a thread. A cancellation, of whatever kind, is raised only after it.

    If no file descriptor is left, it is called again later: it must open what it needs before it changes
    anything.
    """
    loop = asyncio.get_running_loop()
    call = partial(copy_context().run, work, *arguments)
    attempts = count()
    while True:
        pools = _pools.get(loop)
        try:
            return await wait_out(loop.run_in_executor(pools[-1] if pools else None, call))
        except Exception as error:
            pause = pause_for_descriptor(error, next(attempts))
            if pause is None:
                raise
        await anyio.sleep(pause)


def is_cancellation(error: BaseException) -> bool:
    """Tell whether `error` cancels this task, and must be raised again.

    The caller's code may raise a `CancelledError` of its own, such as by awaiting a task that was cancelled.
    """
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling() > 0)


@contextmanager
def own_cancellation_only() -> Generator[None]:
    """Raise a `CancelledError` of the caller's own as a `RuntimeError`.

    Otherwise it would end this task, and the task group that the task belongs to.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        if is_cancellation(error):
            raise
        msg = "it was cancelled"
        raise RuntimeError(msg) from error


async def call_user(function: Callable[[Any], object], argument: object) -> Any:
    """Return what a callback returns, async or plain; a plain one runs in a thread of its own.

    A cancellation does not wait for the thread: a callback may wait for a person.
    """
    kinds = function, getattr(function, "__call__", None)  # noqa: B004 - its kind is asked
    with own_cancellation_only():
        if any(map(inspect.iscoroutinefunction, kinds)):
            answer = function(argument)
        else:
            context, loop = copy_context(), asyncio.get_running_loop()
            async with to_thread.current_default_thread_limiter():
                answer = await loop.run_in_executor(_daemons, lambda: context.run(function, argument))
        return await answer if inspect.isawaitable(answer) else answer


class _Daemons(Executor):
    """Starts a daemon thread for each call: the interpreter does not wait for those when it exits."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **options: Any) -> Future[T]:
        """Start a thread that calls `fn`."""
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()

        def run() -> None:
            try:
                done.set_result(fn(*args, **options))
            except StopIteration as error:  # a future of asyncio refuses it
                done.set_exception(RuntimeError(f"it raised {error!r}"))
            except BaseException as error:  # noqa: BLE001 - raised where the call is awaited
                done.set_exception(error)

        Thread(target=run, name="venice_async_caller", daemon=True).start()
        return done


_daemons: Final = _Daemons()
