"""The real clock and real randomness."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import anyio

_SLICES: Final = 20  # a standstill of the loop counts for one of so many parts of a time at most
_INSTANT: Final = 1e-6  # seconds; less than that is a rest of the arithmetic, which a large clock cannot add
_TURNS: Final = 16  # of the loop, in which what lies in a socket at the end reaches the one that waits for it


@contextmanager
def running_time(seconds: float) -> Generator[anyio.CancelScope]:
    """Cancel a block after `seconds` in which the event loop ran; the scope's `cancelled_caught` tells.

    A loop stands still for a blocking call, a debugger, Ctrl-Z or a frozen container. What came meanwhile is
    in the socket, and an ordinary timer that is due would end the wait for it.
    """
    loop = asyncio.get_running_loop()
    scope = anyio.CancelScope()
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
            scope.cancel()

    timer = loop.call_later(seconds / _SLICES, look)
    with scope:
        try:
            yield scope
        finally:
            timer.cancel()


class SystemClock:
    """The event loop's clock, the wall clock and the system's randomness; see `transport.Clock`."""

    def monotonic(self) -> float:
        """Seconds of the event loop's clock."""
        return asyncio.get_running_loop().time()

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        await anyio.sleep(seconds)

    def chance(self) -> float:
        """Return a random number in [0, 1)."""
        return random.random()  # noqa: S311 - jitter, not cryptography
