"""What we have sent to one endpoint, and what of it the server may still be counting."""

from __future__ import annotations

import math

from attrs import define, field, frozen

PERIOD = 60.0  # seconds that the vendor's limits span
SLACK = 0.1  # seconds: two clocks do not run alike


@frozen
class Sent:
    """One request that was sent.

    Attributes:
        at: when, in seconds of the monotonic clock.
        before: how many were let out before it.
        answered: how many of those were answered by then.
    """

    at: float
    before: int
    answered: int


@define
class Ledger:
    """Our own account of an endpoint's use: the server counts a request between its start and its answer.

    Attributes:
        sent: how many requests were let out, ever.
        answered: how many of them were answered, or given up.
        last_sent: when the latest was let out.
        flying: those that are not answered yet.
        departures: when requests were let out that surely are no more than a period old.
        arrivals: when answers came, within a period and a little.
    """

    sent: int = 0
    answered: int = 0
    last_sent: float = -math.inf
    flying: list[Sent] = field(factory=list[Sent])
    departures: list[float] = field(factory=list[float])
    arrivals: list[float] = field(factory=list[float])

    def take(self, now: float) -> Sent:
        """Enter a request that is about to be sent."""
        sent = Sent(now, self.sent, self.answered)
        self.sent += 1
        self.last_sent = now
        self.flying.append(sent)
        self.departures.append(now)
        return sent

    def give_back(self, sent: Sent) -> None:
        """Take back one that was not sent."""
        self.sent -= 1
        self.flying.remove(sent)
        if sent.at in self.departures:
            self.departures.remove(sent.at)
        self.last_sent = self.departures[-1] if self.departures else -math.inf

    def ended(self, sent: Sent, now: float) -> None:
        """Enter that it was answered, or given up."""
        self.flying.remove(sent)
        self.answered += 1
        self.arrivals.append(now)

    def room(self, most: float, now: float) -> float | None:
        """Return when fewer than `most` are in any window that holds one more; None: after an answer."""
        self._forget(now)
        excess = len(self.flying) + len(self.arrivals) + 1 - max(math.floor(most), 1)
        if excess <= 0:
            return now
        return self.arrivals[excess - 1] + PERIOD + SLACK if excess <= len(self.arrivals) else None

    def counted_at_most(self, since: float) -> int:
        """Return how many the server can have counted since then, within the last period."""
        return len(self.flying) + sum(at >= since for at in self.arrivals)

    def counted_at_least(self, sent: Sent, first: int, now: float) -> int:
        """Return how many from number `first` and of the last period were surely counted before that one."""
        self._forget(now)
        return max(sent.answered - max(first, self.sent - len(self.departures)), 0)

    def last_flying(self) -> float:
        """Return when the latest of those left that are not answered yet."""
        return max((sent.at for sent in self.flying), default=-math.inf)

    def first_departure(self) -> float:
        """Return when the first of those left that left within the last period."""
        return self.departures[0] if self.departures else math.inf

    def _forget(self, now: float) -> None:
        while self.departures and self.departures[0] + PERIOD - SLACK <= now:
            del self.departures[0]
        while self.arrivals and self.arrivals[0] + PERIOD + SLACK <= now:
            del self.arrivals[0]
