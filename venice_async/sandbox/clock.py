"""The sandbox's time: the event loop's own, told as Unix time and as HTTP dates too."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate


class LoopClock:
    """Reads the running event loop's clock, so that a loop with virtual time carries the sandbox along."""

    def __init__(self, *, skew: float = 0.0) -> None:
        """Start at the present, `skew` seconds ahead of it where the outside is told."""
        self._loop = asyncio.get_running_loop()
        self._offset = time.time() - self._loop.time() + skew
        self._second = -1
        self._date = ""

    def now(self) -> float:
        """Seconds of the event loop's clock."""
        return self._loop.time()

    def unix(self, moment: float) -> float:
        """Seconds since the Unix epoch, by the server's clock, of a moment of the loop's."""
        return self._offset + moment

    def http_date(self, moment: float) -> str:
        """Return a moment of the loop's clock as an HTTP date."""
        second = int(self.unix(moment))
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True)
        return self._date
