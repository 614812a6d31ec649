"""How many requests may fail before the server blocks the key, as arithmetic.

The vendor's page blocks a key for 30 s after more than 20 failed requests in 30 s; what is seen is 50. What
counts is a status of 4xx other than 429. A request counts until it has a status, as it may yet fail; one that
never gets a status has failed.

Most answers tell the server's own account: how many more may fail. It narrows ours, as others may use the
key: no more requests are on their way than may fail. One is always let out, for the account is no wait.
"""

from __future__ import annotations

import math
from http import HTTPStatus

from attrs import define, field

from ..http.headers import FailureAllowance

PERIOD = 30.0  # seconds in which the vendor counts failures
_SLACK = 0.1  # seconds: two clocks do not run alike


def counts_as_failed(status: int | None) -> bool:
    """Return whether the vendor counts an answer, or None for no answer, as a failed request."""
    if status is None:
        return True
    is_client_error = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return is_client_error and status != HTTPStatus.TOO_MANY_REQUESTS


@define
class FailureBudget:
    """The failures of the last 30 s, which with every request that may yet become one stay under a limit.

    Attributes:
        failed: when requests failed.
        remaining: how many more may fail by the server's account, the least of late.
        remaining_until: until when that account holds.
    """

    failed: list[float] = field(factory=list[float])
    remaining: float = math.inf
    remaining_until: float = -math.inf

    def opens(self, now: float, *, limit: int, flying: int) -> float | None:
        """Return when one more request may be sent, `now` if at once; None if an answer has to come first.

        It stays under `limit`, with so many that are `flying` already.
        """
        self.failed = [at for at in self.failed if at + PERIOD + _SLACK > now]
        if now < self.remaining_until and flying >= max(self.remaining, 1):
            return None
        excess = len(self.failed) + flying + 2 - limit
        if excess <= 0:
            return now
        return self.failed[excess - 1] + PERIOD + _SLACK if excess <= len(self.failed) else None

    def ended(self, now: float, status: int | None, told: FailureAllowance | None = None) -> None:
        """Count the outcome of one that was sent, and take in what the answer told of failures."""
        if counts_as_failed(status):
            self.failed.append(now)
            self.remaining -= 1
        if told is not None and (now >= self.remaining_until or told.remaining <= self.remaining):
            self.remaining, self.remaining_until = told.remaining, now + told.reset
