"""Rate limits with the vendor's headers, and the block after too many failed requests."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Literal

from attrs import field, frozen
from attrs.validators import ge, gt, in_, optional

from .clock import LoopClock
from .replies import Reply, standard_error

Kind = Literal["queue", "retrieve", "upscale_quote"]

_NONE_OR_COUNT: Any = optional(ge(0))


@frozen(kw_only=True)
class RateLimits:
    """What one key may do, in real seconds whatever the sandbox's `speed`.

    Attributes:
        queue: requests to `/video/queue` in a period; 40 by the vendor's rate limit page.
        retrieve: requests to `/video/retrieve` in a period; 120 by the same page.
        upscale_quote: requests to `/video/quote` for upscaling in a period.
        period: seconds that a window spans.
        window: `fixed` windows follow each other, a `sliding` one ends at every request.
            Which of them the vendor has is not documented.
        phase: seconds by which the first fixed window is cut short.
        reset_unit: what the reset headers count in; documented as a Unix time, seen as milliseconds.
        retry_after: whether a 429 carries `Retry-After` too.
        failures: failed requests (4xx but 429) in `failure_period` that are borne; one more blocks the key.
            None for no block.
        failure_period: seconds in which failures are counted.
        block: seconds that a block lasts.
    """

    queue: int = field(default=40, validator=ge(0))
    retrieve: int = field(default=120, validator=ge(0))
    upscale_quote: int = field(default=40, validator=ge(0))
    period: float = field(default=60.0, validator=gt(0))
    window: Literal["fixed", "sliding"] = field(default="fixed", validator=in_(("fixed", "sliding")))
    phase: float = field(default=0.0, validator=ge(0))
    reset_unit: Literal["milliseconds", "seconds"] = field(
        default="milliseconds", validator=in_(("milliseconds", "seconds"))
    )
    retry_after: bool = False
    failures: int | None = field(default=20, validator=_NONE_OR_COUNT)
    failure_period: float = field(default=30.0, validator=gt(0))
    block: float = field(default=30.0, validator=gt(0))


class RateLimiter:
    """Counts what one key does. `limits` may be exchanged at any time; None switches everything off."""

    def __init__(self, limits: RateLimits | None, clock: LoopClock) -> None:
        self.limits = limits
        self._clock = clock
        self._origin = clock.now()
        self._taken: dict[Kind, deque[float]] = {
            "queue": deque(),
            "retrieve": deque(),
            "upscale_quote": deque(),
        }
        self._failed: deque[float] = deque()
        self._blocked_until = -math.inf

    def blocked(self, now: float) -> Reply | None:
        """Return the answer to any request during a block, None outside one."""
        limits = self.limits
        if limits is None or now >= self._blocked_until:
            return None
        message = f"Too many failed attempts (> {limits.failures}) resulting in a non-success status code"
        return _refusal(message, limits, self._blocked_until - now)

    def failure_headers(self, now: float) -> dict[str, str]:
        """Return the account of failures that comes with every answer."""
        limits = self.limits
        if limits is None or limits.failures is None:
            return {}
        _forget(self._failed, now - limits.failure_period)
        blocked = now < self._blocked_until
        oldest = self._failed[0] if self._failed else now
        resets = self._blocked_until if blocked else oldest + limits.failure_period
        remaining = 0 if blocked else limits.failures - len(self._failed)
        return {"x-ratelimit-remaining": str(remaining), "x-ratelimit-resets": self._stamp(limits, resets)}

    def take(self, kind: Kind, now: float) -> tuple[dict[str, str], Reply | None]:
        """Count one request; return the limit's headers, and the answer if it is refused.

        A refused request takes nothing from the window.
        """
        limits = self.limits
        if limits is None:
            return {}, None
        allowed, taken = getattr(limits, kind), self._taken[kind]
        starts = now - limits.period  # of the window
        if limits.window == "fixed":
            index = math.floor((now - self._origin + limits.phase) / limits.period)
            starts = self._origin - limits.phase + index * limits.period
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

    def failed(self, now: float) -> None:
        """Count one request that was answered 4xx other than 429, and block the key if it is one too many."""
        limits = self.limits
        if limits is None or limits.failures is None or now < self._blocked_until:
            return
        self._failed.append(now)
        _forget(self._failed, now - limits.failure_period)
        if len(self._failed) > limits.failures:
            self._blocked_until = now + limits.block
            self._failed.clear()

    def _stamp(self, limits: RateLimits, moment: float) -> str:
        factor = 1000 if limits.reset_unit == "milliseconds" else 1
        return str(math.ceil(self._clock.unix(moment) * factor))


def _forget(moments: deque[float], until: float) -> None:
    while moments and moments[0] <= until:
        moments.popleft()


def _refusal(message: str, limits: RateLimits, wait: float) -> Reply:
    plain = standard_error(429, message)
    retry = {"Retry-After": str(math.ceil(wait))} if limits.retry_after else {}
    return Reply(status=429, body=plain.body, headers={**plain.headers, **retry})
