"""What we have sent to one endpoint, and what of it the server may still be counting."""

from __future__ import annotations

import math
from collections import deque

from attrs import frozen

PERIOD = 60.0  # seconds that the vendor's limits span
SLACK = 0.1  # seconds: two clocks do not run alike


@frozen(eq=False)
class Sent:
    """One request that was let out.

    Attributes:
        at: when, in seconds of the monotonic clock.
        before: how many were let out before it.
        answered: how many of those were answered by then.
    """

    at: float
    before: int
    answered: int


class Ledger:
    """Our own account of an endpoint's use: the server counts a request between its start and its answer."""

    def __init__(self) -> None:
        """Start empty."""
        self.sent: int = 0
        self.answered: int = 0
        self.last_sent: float = -math.inf
        self._flying: dict[Sent, None] = {}
        self._departures: deque[float] = deque()  # surely no more than a period ago
        self._arrivals: deque[float] = deque()  # of answers that came within a period and a little

    def take(self, now: float) -> Sent:
        """Enter a request that is about to be sent."""
        sent = Sent(now, self.sent, self.answered)
        self.sent += 1
        self.last_sent = now
        self._flying[sent] = None
        self._departures.append(now)
        return sent

    def give_back(self, sent: Sent) -> None:
        """Strike one that was not sent after all."""
        self.sent -= 1
        del self._flying[sent]
        if sent.at in self._departures:
            self._departures.remove(sent.at)
        self.last_sent = self._departures[-1] if self._departures else -math.inf

    def ended(self, sent: Sent, now: float) -> None:
        """Enter that it was answered, or given up."""
        del self._flying[sent]
        self.answered += 1
        self._arrivals.append(now)

    def room(self, most: float, now: float) -> float | None:
        """Return when fewer than `most` are in any window that holds one more; None: after an answer."""
        self._forget(now)
        excess = len(self._flying) + len(self._arrivals) + 1 - max(math.floor(most), 1)
        if excess <= 0:
            return now
        return self._arrivals[excess - 1] + PERIOD + SLACK if excess <= len(self._arrivals) else None

    def counted_at_most(self, since: float) -> int:
        """Return how many the server can have counted since then, within the last period."""
        return len(self._flying) + sum(at >= since for at in self._arrivals)

    def counted_at_least(self, sent: Sent, first: int, now: float) -> int:
        """Return how many from number `first` and of the last period were surely counted before that one."""
        self._forget(now)
        return max(sent.answered - max(first, self.sent - len(self._departures)), 0)

    def last_flying(self) -> float:
        """Return when the latest of those left that are not answered yet."""
        return max((sent.at for sent in self._flying), default=-math.inf)

    def first_departure(self) -> float:
        """Return when the first of those left that left within the last period."""
        return self._departures[0] if self._departures else math.inf

    def _forget(self, now: float) -> None:
        while self._departures and self._departures[0] + PERIOD - SLACK <= now:
            self._departures.popleft()
        while self._arrivals and self._arrivals[0] + PERIOD + SLACK <= now:
            self._arrivals.popleft()
