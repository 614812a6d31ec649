"""What the server says is left, believed as far as it agrees with what we know ourselves.

An answer tells how many requests remain. Let `answered` of ours have been answered before that one was sent:
those are in its figure for certain, any other may not be. So remaining + answered + 1 is a ceiling for the
number of requests ever sent. It holds until it is replaced, as the end of a window only ever adds to it.

A new window is not taken for granted: after its announced start one request goes ahead, the rest follow its
answer.
"""

from __future__ import annotations

import math

from ..http.headers import Allowance
from .ledger import PERIOD, SLACK, Ledger, Sent

MARGIN = 0.02  # of the limit, kept back for what else may use the key
DISTRUST = 120.0  # seconds for which an account that was wrong is not believed: two windows
REMEMBERED = 120.0  # seconds for which others that were seen to use the key are reckoned with
_GRACE = 10.0  # seconds after a reset for the request that goes ahead
_ROUNDED = 3.0  # seconds that an announced reset may be late: two clocks' whole ones, and the way


class ServerAccount:
    """The ceiling for the requests sent to one endpoint, from the server's own account."""

    def __init__(self, ledger: Ledger, *, alone: bool) -> None:
        """Compare with `ledger`; `alone` if nobody else is expected to use the key."""
        self._ledger = ledger
        self._limit = math.inf
        self._ceiling = 0.0
        self._first = 0  # the number of the first request that the present window surely counts
        self._others_until = -math.inf if alone else math.inf
        self._trusted_until = -math.inf
        self._distrust_until = -math.inf
        self._reset_at: float = math.inf  # never too early
        self._mark: str | None = None
        self._fixed = False  # whether windows have been seen to end all at once

    def trusted(self, now: float) -> bool:
        """Return whether there is an account to go by."""
        return now < self._trusted_until

    def alone(self, now: float) -> bool:
        """Return whether nobody else has been seen to use the key of late."""
        return now >= self._others_until

    def opens(self, now: float) -> float:
        """Return when the server takes one more: now, or once a new window begins, if not tried yet."""
        if self._room() > 0:
            return now
        ahead = max(self._reset_at + SLACK, self._ledger.last_flying() + _ROUNDED)
        return ahead if self._ledger.last_sent < self._reset_at else self._trusted_until

    def spare(self, now: float) -> float:
        """Return the rate a second at which to spend what is left until it lapses; 0 where it does not."""
        left = self._reset_at - _ROUNDED - now
        return self._room() / left if self._fixed and self.trusted(now) and left > 0 else 0.0

    def hear(self, sent: Sent, told: Allowance, now: float) -> bool:
        """Take in what the answer to `sent` told; return whether a new window has begun."""
        if told.limit is None or told.remaining is None or told.reset is None or now < self._distrust_until:
            return False
        self._limit = told.limit
        reset_at = now + told.reset
        if self.trusted(now) and reset_at + _ROUNDED < self._reset_at:
            return False  # about a window that has ended
        lowest = told.remaining + sent.answered + 1
        counted = self._ledger.counted_at_least(sent, self._first, now)
        turned = not self.trusted(now) or told.remaining > told.limit - 1 - counted
        if not turned:
            self._ceiling = min(max(self._ceiling, lowest), lowest + sent.before - sent.answered)
        elif self.trusted(now) and now < self._reset_at - _ROUNDED:
            self.disbelieve(now)  # nothing has ended, and yet there is more
            return False
        else:
            self._ceiling, self._first = lowest, self._ledger.sent
        self._note(told, reset_at, now, turned=turned)
        return turned

    def disbelieve(self, now: float) -> None:
        """Go without the server's account for a while."""
        self._distrust_until = now + DISTRUST
        self._trusted_until = -math.inf

    def _note(self, told: Allowance, reset_at: float, now: float, *, turned: bool) -> None:
        same = told.mark is not None and told.mark == self._mark
        if self.trusted(now):
            self._fixed = self._fixed or turned
            reset_at = min(self._reset_at, reset_at) if same else max(self._reset_at, reset_at)
        elif reset_at - PERIOD < self._ledger.first_departure() - _ROUNDED:
            self._fixed = True
        self._reset_at, self._mark = reset_at, told.mark
        self._trusted_until = max(now + PERIOD, reset_at + _GRACE)
        ours = self._ledger.counted_at_most(reset_at - PERIOD - _ROUNDED if same else -math.inf)
        if self._limit - (told.remaining or 0.0) - ours >= 1:
            self._others_until = max(self._others_until, now + REMEMBERED)

    def _room(self) -> float:
        return self._ceiling - math.floor(MARGIN * self._limit) - self._ledger.sent
