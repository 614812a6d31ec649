"""The real clock and real randomness."""

from __future__ import annotations

import asyncio
import random
import time
from types import TracebackType
from typing import Final

import anyio

_SLICES: Final = 20  # a blocked loop counts as one of so many slices of a timeout at most
_INSTANT: Final = 1e-6  # seconds; less is a rounding error, too small to add to a large clock
_TURNS: Final = 16  # iterations of the loop at the end, for data that is in the socket to reach its reader


class running_time:  # noqa: N801 - used like `asyncio.timeout`
    """Raise `TimeoutError` from a block once the event loop has run for so many seconds.

    A blocking call, a debugger, Ctrl-Z or a frozen container stops the loop. An ordinary timer is overdue
    afterwards, and would cancel a read whose data is already in the socket.
    """

    def __init__(self, seconds: float) -> None:
        self._slice = seconds / _SLICES
        self._left = seconds
        self._turns = _TURNS
        self._expired = False

    def __enter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - what waits is a task
        self._task, self._cancelling = task, task.cancelling()
        self._looked_at = self._loop.time()
        self._timer: asyncio.Handle = self._loop.call_later(self._slice, self._look)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _look(self) -> None:
        now = self._loop.time()
        self._left -= min(now - self._looked_at, self._slice)
        self._looked_at = now
        if self._left > _INSTANT:
            self._timer = self._loop.call_later(min(self._left, self._slice), self._look)
        elif self._turns > 0:
            self._turns -= 1
            self._timer = self._loop.call_soon(self._look)
        else:
            self._expired = True
            self._task.cancel()


class SystemClock:
    """The clock of the event loop and of the system, and random numbers; see `transport.Clock`."""

    def monotonic(self) -> float:
        """Seconds of the event loop's clock."""
        return asyncio.get_running_loop().time()

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await anyio.sleep(seconds)

    def chance(self) -> float:
        """Return a random number in [0, 1)."""
        return random.random()  # noqa: S311 - jitter, not cryptography
