"""The real clock and real randomness."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import anyio

_SLICES: Final = 20  # a blocked loop counts as one of so many slices of a timeout at most
_INSTANT: Final = 1e-6  # seconds; less is a rounding error, too small to add to a large clock
_TURNS: Final = 16  # iterations of the loop at the end, for data that is in the socket to reach its reader


@asynccontextmanager
async def running_time(seconds: float) -> AsyncGenerator[None]:
    """Raise `TimeoutError` from a block after `seconds` during which the event loop ran.

    A blocking call, a debugger, Ctrl-Z or a frozen container stops the loop. An ordinary timer is overdue
    afterwards, and would cancel a read whose data is already in the socket.
    """
    loop = asyncio.get_running_loop()
    left, turns, looked_at = seconds, _TURNS, loop.time()
    timer: asyncio.Handle

    def look() -> None:
        nonlocal left, turns, looked_at, timer
        now = loop.time()
        left -= min(now - looked_at, seconds / _SLICES)
        looked_at = now
        if left > _INSTANT:
            timer = loop.call_later(min(left, seconds / _SLICES), look)
        elif turns > 0:
            turns -= 1
            timer = loop.call_soon(look)
        else:
            timeout.reschedule(now)

    async with asyncio.timeout(None) as timeout:
        timer = loop.call_later(seconds / _SLICES, look)
        try:
            yield
        finally:
            timer.cancel()


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
