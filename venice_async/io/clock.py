"""Time and chance as they are."""

from __future__ import annotations

import asyncio
import random
import time

import anyio


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
