"""Counts requests against the rate limits, and blocks a key after too many that failed."""

from __future__ import annotations

import math
from collections import defaultdict, deque

from attrs import define, field

from .options import Options, RateLimits
from .replies import Reply, standard_error

_FAILED = frozenset(range(400, 500)) - {429}  # what the vendor counts towards the block


@define(eq=False)
class RateLimiter:
    """Counts what one key does, from `started` on; `epoch` is the Unix time at zero of the loop's clock."""

    options: Options
    epoch: float
    started: float
    _taken: defaultdict[str, deque[float]] = field(factory=lambda: defaultdict[str, deque[float]](deque))
    _failed: deque[float] = field(factory=deque[float])
    _blocked_until: float = -math.inf

    def blocked(self, now: float) -> Reply | None:
        """Return the answer to any request during a block, None outside one."""
        limits = self.options.limits
        if limits is None or now >= self._blocked_until:
            return None
        message = f"Too many failed attempts (> {limits.failures}) resulting in a non-success status code"
        return _refusal(message, limits, self._blocked_until - now)

    def take(self, kind: str | None, now: float) -> tuple[dict[str, str], Reply | None]:
        """Count one request; return the headers of its limit, if any, and the answer if it is refused.

        A refused request takes nothing from the window.
        """
        limits = self.options.limits
        if limits is None or kind is None:
            return {}, None
        allowed, taken = getattr(limits, kind), self._taken[kind]
        starts = now - limits.period  # of the window
        if limits.window == "fixed":
            first = self.started - limits.phase
            starts = first + math.floor((now - first) / limits.period) * limits.period
        while taken and (taken[0] < starts or (taken[0] == starts and limits.window == "sliding")):
            taken.popleft()
        room: int = allowed - len(taken)
        if room > 0:
            taken.append(now)
        oldest = taken[0] if taken else now
        reset = (starts if limits.window == "fixed" else oldest) + limits.period
        headers = {
            "x-ratelimit-limit-requests": str(allowed),
            "x-ratelimit-remaining-requests": str(max(0, room - 1)),
            "x-ratelimit-reset-requests": self._stamp(limits, reset),
        }
        return headers, None if room > 0 else _refusal("Rate limit exceeded", limits, reset - now)

    def answered(self, status: int | None, now: float) -> dict[str, str]:
        """Count an answer of 4xx other than 429 as a failure; return the headers about failures.

        One failure too many blocks the key. Answers during a block do not count.
        """
        limits = self.options.limits
        if limits is None or limits.failures is None:
            return {}
        blocked = now < self._blocked_until
        failed = status in _FAILED and not blocked
        if failed:
            self._failed.append(now)
        while self._failed and self._failed[0] <= now - limits.failure_period:
            self._failed.popleft()
        if failed and len(self._failed) > limits.failures:
            self._blocked_until = now + limits.block
            self._failed.clear()
            blocked = True
        oldest = self._failed[0] if self._failed else now
        resets = self._blocked_until if blocked else oldest + limits.failure_period
        remaining = 0 if blocked else limits.failures - len(self._failed)
        return {"x-ratelimit-remaining": str(remaining), "x-ratelimit-resets": self._stamp(limits, resets)}

    def _stamp(self, limits: RateLimits, moment: float) -> str:
        factor = 1000 if limits.reset_unit == "milliseconds" else 1
        return str(math.ceil((self.epoch + moment) * factor))


def _refusal(message: str, limits: RateLimits, wait: float) -> Reply:
    plain = standard_error(429, message)
    return plain.with_headers({"Retry-After": str(math.ceil(wait))}) if limits.retry_after else plain
