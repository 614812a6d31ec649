"""Work that no cancellation may cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns. A cancellation meanwhile, of whatever kind, goes on only after it.

    A shield alone holds off cancel scopes but not `Task.cancel`, by which `asyncio.run` ends all the tasks it
    knows once its main task is over. It does not know the task of `work`, and waits for the one that called.
    """
    task = asyncio.create_task(work)
    asyncio._unregister_task(task)  # noqa: SLF001 - documented in "Extending asyncio", underscore and all
    cancelled = await settled(task)
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # looked at, or asyncio logs that nobody did
    raise cancelled


async def settled(errand: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until `errand` is done, whatever cancels the wait; return the cancellation that came meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not errand.done():
            try:
                await asyncio.wait({errand})
            except asyncio.CancelledError as error:
                cancelled = error
    return cancelled
