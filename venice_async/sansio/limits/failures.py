"""How many requests may fail before the server blocks the key, as arithmetic.

The vendor's page blocks a key for 30 s after more than 20 failed requests in 30 s; what is seen is 50. What
counts is a status of 4xx other than 429. A request counts until it has a status, as it may yet fail; one that
never gets a status has failed.

Most answers tell the server's own account: how many more may fail. It narrows ours, as others may use the
key: no more requests are on their way than may fail. One is always let out, for the account is no wait.
"""

from __future__ import annotations

import math
from collections import deque
from http import HTTPStatus

from ..http.headers import FailureAllowance

PERIOD = 30.0  # seconds in which the vendor counts failures
_SLACK = 0.1  # seconds: two clocks do not run alike


def counts_as_failed(status: int | None) -> bool:
    """Return whether the vendor counts an answer, or None for no answer, as a failed request."""
    if status is None:
        return True
    is_client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return is_client_error and status != HTTPStatus.TOO_MANY_REQUESTS


class FailureBudget:
    """Keeps the failures of the last 30 s, with every request that may yet become one, under a limit."""

    def __init__(self, limit: int) -> None:
        """Stay under `limit`."""
        self._limit = limit
        self._failed: deque[float] = deque()
        self._waiting = 0
        self._remaining = math.inf  # by the server's account, the least of late
        self._remaining_until = -math.inf

    def opens(self, now: float) -> float | None:
        """Return when one more request may be sent, `now` if at once; None if an answer has to come first."""
        while self._failed and self._failed[0] + PERIOD + _SLACK <= now:
            self._failed.popleft()
        if now < self._remaining_until and self._waiting >= max(self._remaining, 1):
            return None
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

    def ended(self, now: float, status: int | None, told: FailureAllowance | None = None) -> None:
        """Count the outcome of one that was sent, and take in what the answer told of failures."""
        self._waiting -= 1
        if counts_as_failed(status):
            self._failed.append(now)
            self._remaining -= 1
        if told is not None and (now >= self._remaining_until or told.remaining <= self._remaining):
            self._remaining, self._remaining_until = told.remaining, now + told.reset
