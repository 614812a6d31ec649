"""A rate limit as arithmetic, as strict as the vendor's documents let it be; time is the caller's."""

from __future__ import annotations

import math
from collections import deque
from email.utils import formatdate
from typing import Literal

from attrs import define, field

PERIOD = 60.0  # seconds of a window
FAILURES, FAILURE_PERIOD, BLOCK = (
    20,
    30.0,
    30.0,
)  # more failed requests than that in such a time block for so long
EPOCH = 1_800_000_000.0  # Unix time at moment 0, on the server's clock


@define(kw_only=True)
class Counter:
    """The rate limit of one endpoint.

    Attributes:
        limit: requests in any one window of 60 s.
        window: `fixed` windows follow each other, `sliding` ones end at each request.
        phase: seconds by which the first fixed window is cut short.
        reset: what a sliding window calls its reset: when the oldest request leaves it, or when all have.
    """

    limit: int = 120
    window: Literal["fixed", "sliding"] = "fixed"
    phase: float = 0.0
    reset: Literal["oldest", "all"] = "oldest"
    _taken: deque[float] = field(factory=deque[float], init=False)

    def take(self, now: float) -> tuple[bool, dict[str, str]]:
        """Count one request; return whether it is let in, and the headers."""
        begins = now - PERIOD if self.window == "sliding" else now - (now + self.phase) % PERIOD
        while self._taken and (
            self._taken[0] <= begins if self.window == "sliding" else self._taken[0] < begins
        ):
            self._taken.popleft()
        allowed = len(self._taken) < self.limit
        if allowed:
            self._taken.append(now)
        if self.window == "fixed":
            ends = begins + PERIOD
        else:
            ends = (self._taken[0] if self.reset == "oldest" and self._taken else now) + PERIOD
        return allowed, {
            "date": formatdate(math.floor(EPOCH + now), usegmt=True),
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.limit - len(self._taken)),
            "x-ratelimit-reset-requests": str(math.ceil((EPOCH + ends) * 1000)),
        }


@define
class StrictServer:
    """Takes 120 polls a minute, and blocks a key for 30 s after more than 20 failed requests in 30 s."""

    counter: Counter = field(factory=Counter)
    requests: int = 0
    refused: int = 0
    blocks: int = 0
    _failed: deque[float] = field(factory=deque[float], init=False)
    _blocked_until: float = field(default=-math.inf, init=False)

    def take(self, now: float) -> tuple[int, dict[str, str]]:
        """Count one poll; return its status and headers."""
        self.requests += 1
        if now < self._blocked_until:
            self.refused += 1
            return 429, {}
        allowed, headers = self.counter.take(now)
        if allowed:
            return 200, headers
        self.refused += 1
        self._fail(now)
        return 429, headers

    def _fail(self, now: float) -> None:
        self._failed.append(now)
        while self._failed[0] <= now - FAILURE_PERIOD:
            self._failed.popleft()
        if len(self._failed) > FAILURES:
            self._blocked_until, self.blocks = now + BLOCK, self.blocks + 1
            self._failed.clear()
