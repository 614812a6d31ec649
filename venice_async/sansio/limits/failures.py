"""How many requests may fail before the server blocks the key, as arithmetic."""

from __future__ import annotations

from collections import deque

PERIOD = 30.0  # seconds; the vendor blocks a key for 30 s after more than 20 failed requests in 30 s
_SLACK = 0.1  # seconds: two clocks do not run alike


class FailureBudget:
    """Keeps the failures of the last 30 s, with every request that may yet become one, under a limit."""

    def __init__(self, limit: int) -> None:
        """Stay under `limit`."""
        self._limit = limit
        self._failed: deque[float] = deque()
        self._waiting = 0

    def opens(self, now: float) -> float | None:
        """Return when one more request may be sent, `now` if at once; None if an answer has to come first."""
        while self._failed and self._failed[0] + PERIOD + _SLACK <= now:
            self._failed.popleft()
        excess = len(self._failed) + self._waiting + 2 - self._limit
        if excess <= 0:
            return now
        return self._failed[excess - 1] + PERIOD + _SLACK if excess <= len(self._failed) else None

    def take(self) -> None:
        """Count a request that is about to be sent."""
        self._waiting += 1

    def give_back(self) -> None:
        """Take back one that was not sent after all."""
        self._waiting -= 1

    def ended(self, now: float, *, failed: bool) -> None:
        """Count the outcome of one that was sent; one that never got a status has failed."""
        self._waiting -= 1
        if failed:
            self._failed.append(now)
