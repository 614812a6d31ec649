"""The limits as arithmetic: when the next request to an endpoint may be sent and is not refused.

Two accounts say so, and either suffices, as each is a lower bound of what the server has left. Ours
(`Ledger`): fewer of our requests than the limit can have been counted in the last 60 s; true for a fixed
window at any phase and for a sliding one, whenever between sending and answer the server counted. And the
server's (`Belief`): where windows are fixed it lets out all of one that is ending and then all of the
next. For a key that is shared both have to agree; and once others are seen to use a key that was said to be
ours, only the server's counts.

Without a credible account of the server's, requests are spaced evenly, within our own account. After a 429
one request tries, and the rest wait for its answer.

Beside that the vendor counts failures. Its page blocks a key for 30 s after more than 20 failed requests in
30 s; what is seen is 50. What counts is a status of 4xx other than 429. A request counts until it has a
status, as it may yet fail; one that never gets a status has failed. Most answers tell the server's own
account: how many more may fail. It narrows ours, as others may use the key: no more requests are on their way
than may fail. One is always let out, for the account is no wait.
"""

from __future__ import annotations

import math
from http import HTTPStatus

from attrs import Factory, define, evolve, field

from ..http.headers import Allowance, FailureAllowance
from .accounts import MARGIN, PERIOD, Belief, Ledger, Sent

RATE = 0.95  # of the limit, evenly spaced, while nothing is known of the server's account
PACE = 1 - MARGIN  # of the limit, evenly spaced, within an account
BURST = 0.05  # of the limit, at once after a pause; with RATE at most the whole limit in any 60 s
CLOSED = 10.0  # seconds to pause after a 429 that does not say how long
OVERLOADED = 1.0  # seconds to pause after a 429 though requests remain: the limit was not this one
CLOSED_MOST = 60.0  # seconds that a pause grows to, doubled while 429s go on: a window's length


@define
class Gcra:
    """The generic cell rate algorithm: evenly spaced, with a small burst after a pause.

    ITU-T Recommendation I.371, annex A; ATM Forum, Traffic Management Specification 4.1, section 4.4.2.

    Attributes:
        limit: requests a minute.
        rate: the part of it that is spaced evenly.
        due: the standard's theoretical arrival time.
    """

    limit: float
    rate: float = RATE
    due: float = -math.inf

    @property
    def interval(self) -> float:
        """Seconds between two requests."""
        return PERIOD / (self.rate * self.limit)

    @property
    def tolerance(self) -> float:
        """Seconds by which requests may come before they are due."""
        return max(BURST * self.limit - 1, 0.0) * self.interval

    def opens(self) -> float:
        """Return when the next request conforms."""
        return self.due - self.tolerance

    def take(self, now: float) -> None:
        """Count one request, conforming or not."""
        self.due = max(self.due, now) + self.interval

    def give_back(self) -> None:
        """Take back one that was not sent."""
        self.due -= self.interval

    def pause(self, until: float) -> None:
        """Go on evenly from then, without the burst that a pause allows."""
        self.due = max(self.due, until + self.tolerance)

    def forgive(self, now: float) -> None:
        """Forget what was taken ahead of time."""
        self.due = min(self.due, now)


@define
class Bucket:
    """What one endpoint still accepts. Moments are seconds of the caller's clock.

    Attributes:
        limit: requests a minute, for the key.
        share: the part of them that is ours.
        pace: even spacing within the account, which it is up to the caller to keep to.
    """

    limit: float
    share: float = 1.0
    pace: Gcra = field(default=Factory(lambda self: Gcra(self.limit * self.share, PACE), takes_self=True))
    _spacing: Gcra = field(default=Factory(lambda self: Gcra(self.limit * self.share), takes_self=True))
    _ledger: Ledger = field(factory=Ledger)
    _belief: Belief = field(
        default=Factory(lambda self: Belief(others_until=_others(self.share)), takes_self=True)
    )
    _closed_until: float = -math.inf
    _refusals: int = 0

    @property
    def rate(self) -> float:
        """Requests a second that can go on without end."""
        return self.limit * self.share / PERIOD

    def spare_rate(self, now: float) -> float:
        """Return the requests a second to spend at present: `rate`, or more when some would lapse."""
        return max(self.rate, self._belief.spare(self._ledger, now) * self.share)

    def used(self, since: float) -> int:
        """Return how many of our requests the server can have counted since then, within the last period."""
        return self._ledger.counted_at_most(since)

    def opens(self, now: float) -> float | None:
        """Return `now` if a request may be sent, else when to ask again; None: after an answer."""
        ours = self._ledger.room(self.limit * self.share, now)
        if not self._belief.trusted(now):
            when = None if ours is None else max(ours, self._spacing.opens())
        else:
            when = self._belief.opens(self._ledger, now)
            if self.share < 1:
                when = None if ours is None else max(ours, when)
            elif ours is not None and self._belief.alone(now):
                when = min(ours, when)
        # After a 429 one request tries if the bucket is open again, and the rest wait for its answer.
        tries = self._refusals > 0 and self._ledger.last_flying() >= self._closed_until
        return None if when is None or tries else max(when, self._closed_until, now)

    def take(self, now: float) -> Sent:
        """Count a request that is about to be sent."""
        self.pace.take(now)
        self._spacing.take(now)
        return self._ledger.take(now)

    def give_back(self, sent: Sent) -> None:
        """Take back one that was not sent."""
        self.pace.give_back()
        self._spacing.give_back()
        self._ledger.give_back(sent)

    def lost(self, sent: Sent, now: float) -> None:
        """Count that a request was given up without an answer."""
        self._belief = self._belief.lose(sent)
        self._ledger.ended(sent, now)

    def answered(self, sent: Sent, told: Allowance, now: float, *, late: float = 0.0) -> None:
        """Take in the head of an answer that was not a 429, and came `late` seconds before now."""
        if sent.at >= self._closed_until:
            self._refusals = 0
        if told.limit is not None:
            self.change(told.limit, self.share)
        before, self._belief = self._belief, self._belief.hear(self._ledger, sent, told, now, late)
        if self._belief.first != before.first:
            self.pace.forgive(now)  # a new window
        self._ledger.ended(sent, now)

    def refused(self, sent: Sent, told: Allowance, now: float, *, wait: float | None, chance: float) -> None:
        """Close after a 429: for the seconds the server asks, None if it does not, and up to one more.

        The pause doubles while what was sent after it is refused, too.
        """
        self._ledger.ended(sent, now)
        if told.limit is not None:
            self.change(told.limit, self.share)
        self._belief = self._belief.disbelieve(now)
        if sent.at >= self._closed_until:
            self._refusals += 1
        first = OVERLOADED if told.remaining or wait is not None else CLOSED
        least = min(first * 2.0 ** min(self._refusals - 1, 10), CLOSED_MOST)
        if wait is None:
            wait = least
        elif self._refusals > 1:
            wait = max(wait, least)
        self._closed_until = max(self._closed_until, now + wait + chance)
        self._spacing.pause(self._closed_until)

    def change(self, limit: float, share: float) -> None:
        """Go on with another limit, or another share of it."""
        if (limit, share) == (self.limit, self.share):
            return
        if share != self.share:
            self._belief = evolve(self._belief, others_until=_others(share))
        self.limit, self.share = limit, share
        self.pace.limit = self._spacing.limit = limit * share

    def spend(self, now: float) -> None:
        """Go on evenly from now, as if the burst had just been used."""
        self._spacing.pause(now)


def _others(share: float) -> float:
    """Return until when others are assumed to use the key: for good, where only a share is ours."""
    return -math.inf if share == 1 else math.inf


FAILURES_PERIOD = 30.0  # seconds in which the vendor counts failures
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
        self.failed = [at for at in self.failed if at + FAILURES_PERIOD + _SLACK > now]
        if now < self.remaining_until and flying >= max(self.remaining, 1):
            return None
        excess = len(self.failed) + flying + 2 - limit
        if excess <= 0:
            return now
        return self.failed[excess - 1] + FAILURES_PERIOD + _SLACK if excess <= len(self.failed) else None

    def ended(self, now: float, status: int | None, told: FailureAllowance | None = None) -> None:
        """Count the outcome of one that was sent, and take in what the answer told of failures."""
        if counts_as_failed(status):
            self.failed.append(now)
            self.remaining -= 1
        if told is not None and (now >= self.remaining_until or told.remaining <= self.remaining):
            self.remaining, self.remaining_until = told.remaining, now + told.reset
