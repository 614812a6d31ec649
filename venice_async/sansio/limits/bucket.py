"""The limits of one endpoint: when the next request may be sent and is not refused.

Two accounts say so, and either suffices, as each is a lower bound of what the server has left. Ours
(`Ledger`): the server counts a request somewhere between its start and its answer, so fewer than the limit
have been counted in the last 60 s. That holds for a fixed window of any phase and for a sliding one. And the
server's (`Belief`): where windows are fixed it allows all of one that is ending and then all of the next. For
a key of which only a share is ours both have to agree; where somebody else is seen to use the key, only the
server's counts. Without a credible account of the server's, requests are spaced evenly, within our own
account. After a 429 one request tries, and the rest wait for its answer.

The server's account is hard to read. An answer tells a limit L, how many requests R remain, and when the
window ends. But R is old when it comes: other requests are on their way, and nobody says which of them it
counts, whether windows are fixed or slide, whether somebody else uses the key, or by which clock the reset is
told.

So number our requests. Let `answered` of them have been answered before request n was sent: when the server
counts n it has counted those for certain, any other perhaps. So n's answer bounds how many may ever be sent:

    lowest  = R + answered + 1      if it counts only what it surely counts, and n
    highest = R + n + 1             if it counts all that were sent before n

We send until the ceiling, which is the best `lowest` of all answers. It stays valid, as the end of a window
only adds to it; but it is never above the `highest` of an answer.

How the end of a window is seen. Let `counted` of ours surely be in the window that n was counted in. R is at
most L - 1 - counted, unless that window has ended. If more is left, and an end was due, a new window has
begun, and the ceiling starts anew. If no end was due, the server's account contradicts ours, and is not
believed for two windows.

| believed? | the answer                                        | means                   | the belief    |
|-----------|---------------------------------------------------|-------------------------|---------------|
| either    | has a part missing, or comes while we distrust    | nothing                 | stays         |
| yes       | its reset is before ours by more than clocks err  | a window that has ended | stays         |
| yes       | R ≤ L - 1 - counted                               | our window              | ceiling moves |
| yes       | R above that, the reset is due                    | a new window            | ceiling anew  |
| yes       | R above that, the reset is not due                | it contradicts us       | distrust      |
| no        | any other                                         | the first account       | ceiling anew  |

A new window is not taken for granted. After its announced start one request goes ahead, and the rest wait for
its answer. As that start is told a little late, one that was sent shortly before and has no answer may be in
the new window: then none goes ahead, and once its answer is lost the account is not known until the next one.

Where answers of one window show more requests than all of ours, somebody else uses the key: for two minutes
then only the server's account counts, and not whichever of both allows more.
"""

from __future__ import annotations

import math
from functools import partial
from http import HTTPStatus

from attrs import define, evolve, field, frozen

from ..http.headers import Allowance, FailureAllowance

PERIOD = 60.0  # seconds that the vendor's limits span
SLACK = 0.1  # seconds: two clocks do not run alike
MARGIN = 0.02  # of the limit, kept back for others who use the key
DISTRUST = 120.0  # seconds for which an account that was wrong is not believed: two windows
REMEMBERED = 120.0  # seconds for which others count who were seen to use the key
RATE = 0.95  # of the limit, evenly spaced, while nothing is known of the server's account
PACE = 1 - MARGIN  # of the limit, evenly spaced, within an account
BURST = 0.05  # of the limit, at once after a pause; with RATE at most the whole limit in any 60 s
CLOSED = 10.0  # seconds to pause after a 429 that does not say how long
OVERLOADED = 1.0  # seconds to pause after a 429 though requests remain: the limit was not this one
CLOSED_MOST = 60.0  # seconds that a pause grows to, doubled while 429s go on: a window's length
FAILURES_PERIOD = 30.0  # seconds in which the vendor counts failures
_GRACE = 10.0  # seconds after a reset for the request that goes ahead
_ROUNDED = 3.0  # seconds that an announced reset may be late: two clocks' whole ones, and the way


@frozen
class Sent:
    """One request that was sent.

    Attributes:
        at: when, in seconds of the monotonic clock.
        before: how many were sent before it.
        answered: how many of those were answered by then.
    """

    at: float
    before: int
    answered: int


@define
class Ledger:
    """Our own account of an endpoint's use: the server counts a request between its start and its answer.

    Attributes:
        sent: how many requests were sent, ever.
        answered: how many of them were answered, or given up.
        last_sent: when the latest was sent.
        flying: those that are not answered yet, the latest last.
        departures: when requests were sent that surely are no more than a period old.
        arrivals: when answers came, within a period and a little.
    """

    sent: int = 0
    answered: int = 0
    last_sent: float = -math.inf
    flying: list[Sent] = field(factory=list[Sent])
    departures: list[float] = field(factory=list[float])
    arrivals: list[float] = field(factory=list[float])

    def ended(self, sent: Sent, now: float) -> None:
        """Record that a request was answered, or given up."""
        self.flying.remove(sent)
        self.answered += 1
        self.arrivals.append(now)

    def opens(self, most: float, now: float) -> float:
        """Return when fewer than `most` are in any window with one more; infinity: once one is answered."""
        self.forget(now)
        excess = len(self.flying) + len(self.arrivals) + 1 - max(math.floor(most), 1)
        if excess > len(self.arrivals):
            return math.inf
        return self.arrivals[excess - 1] + PERIOD + SLACK if excess > 0 else now

    def counted(self, since: float) -> int:
        """Return how many the server can have counted since then, within the last period."""
        return len(self.flying) + sum(at >= since for at in self.arrivals)

    def forget(self, now: float) -> None:
        """Drop what is older than a period."""
        while self.departures and self.departures[0] + PERIOD - SLACK <= now:
            del self.departures[0]
        while self.arrivals and self.arrivals[0] + PERIOD + SLACK <= now:
            del self.arrivals[0]


@frozen(kw_only=True)
class Belief:
    """What we believe of the server's account of one endpoint. Moments are of the caller's clock.

    Attributes:
        limit: requests a window.
        ceiling: how many requests may be sent, counted from the first ever.
        first: the number of the first request that the present window surely counts.
        reset_at: when the window ends, never too early.
        mark: names the window, see `Allowance`.
        fixed: whether windows have been seen to end all at once.
        trusted_until: until when there is an account to go by.
        distrust_until: until when there is none, as it was wrong.
        others_until: until when somebody else is taken to use the key.
    """

    limit: float = math.inf
    ceiling: float = 0.0
    first: int = 0
    reset_at: float = math.inf
    mark: str | None = None
    fixed: bool = False
    trusted_until: float = -math.inf
    distrust_until: float = -math.inf
    others_until: float = -math.inf

    def room(self, sent: int) -> float:
        """Return how many more may be sent when `sent` were."""
        return self.ceiling - math.floor(MARGIN * self.limit) - sent

    def disbelieve(self, now: float) -> Belief:
        """Return the belief that goes without the server's account for a while."""
        return evolve(self, distrust_until=now + DISTRUST, trusted_until=-math.inf)

    def update(self, ledger: Ledger, sent: Sent, told: Allowance, now: float, late: float = 0.0) -> Belief:
        """Return the belief after the answer to `sent`, which came `late` seconds before now."""
        if told.limit is None or told.remaining is None or told.reset is None or now < self.distrust_until:
            return self
        trusted, reset_at = now < self.trusted_until, now + told.reset
        if trusted and reset_at - late + _ROUNDED < self.reset_at:
            return evolve(self, limit=told.limit)  # about a window that has ended
        ledger.forget(now)
        counted = max(sent.answered - max(self.first, ledger.sent - len(ledger.departures)), 0)
        more = told.remaining > told.limit - 1 - counted
        if trusted and more and now < self.reset_at - _ROUNDED:
            return self.disbelieve(now)  # nothing has ended, and yet there is more
        lowest, highest = told.remaining + sent.answered + 1, told.remaining + sent.before + 1
        same_mark = told.mark is not None and told.mark == self.mark
        fixed = self.fixed
        if trusted and not more:
            ceiling, first = min(max(self.ceiling, lowest), highest), self.first
        else:
            ceiling, first = lowest, ledger.sent
        if trusted:
            fixed = fixed or more
            reset_at = min(self.reset_at, reset_at) if same_mark else max(self.reset_at, reset_at)
        elif reset_at - PERIOD < min(ledger.departures, default=-math.inf) - _ROUNDED:
            fixed = True  # it began before we did, and ends as one
        ours = ledger.counted(reset_at - PERIOD - _ROUNDED if same_mark else -math.inf)
        seen_others = told.limit - told.remaining - ours >= 1
        return Belief(
            limit=told.limit,
            ceiling=ceiling,
            first=first,
            reset_at=reset_at,
            mark=told.mark,
            fixed=fixed,
            trusted_until=max(now + PERIOD, reset_at + _GRACE),
            distrust_until=self.distrust_until,
            others_until=now + REMEMBERED if seen_others else min(self.others_until, now + REMEMBERED),
        )


@define
class Gcra:
    """The generic cell rate algorithm: evenly spaced, with a small burst after a pause.

    ITU-T Recommendation I.371, annex A; ATM Forum, Traffic Management Specification 4.1, section 4.4.2.

    Attributes:
        limit: requests a minute.
        rate: the part of it that is spaced evenly.
        due: the standard's theoretical arrival time.
    """

    limit: float = math.inf
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

    def pause(self, until: float) -> None:
        """Go on evenly from then, without the burst that a pause allows."""
        self.due = max(self.due, until + self.tolerance)


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
    pace: Gcra = field(factory=partial(Gcra, rate=PACE))
    _spacing: Gcra = field(factory=Gcra)
    _ledger: Ledger = field(factory=Ledger)
    _belief: Belief = field(factory=Belief)
    _closed_until: float = -math.inf
    _refusals: int = 0

    def __attrs_post_init__(self) -> None:
        self.change(self.limit, self.share)

    def change(self, limit: float, share: float) -> None:
        """Go on with another limit, or another share of it."""
        self.limit, self.share = limit, share
        self.pace.limit = self._spacing.limit = limit * share

    @property
    def rate(self) -> float:
        """Requests a second that can go on without end."""
        return self.limit * self.share / PERIOD

    def spare_rate(self, now: float) -> float:
        """Return the requests a second to spend at present: `rate`, or more when some would lapse."""
        belief, left = self._belief, self._belief.reset_at - _ROUNDED - now
        if not belief.fixed or now >= belief.trusted_until or left <= 0:
            return self.rate
        return max(self.rate, belief.room(self._ledger.sent) / left * self.share)

    def used(self, since: float) -> int:
        """Return how many of our requests the server can have counted since then, within the last period."""
        return self._ledger.counted(since)

    def opens(self, now: float) -> float:
        """Return `now` if a request may be sent, else when to ask again; infinity: once one is answered."""
        ledger, belief = self._ledger, self._belief
        last_flying = ledger.flying[-1].at if ledger.flying else -math.inf
        if self._refusals and last_flying >= self._closed_until:
            return math.inf  # after a 429 one request tries, and the rest wait for its answer
        when = ledger.opens(self.limit * self.share, now)
        if now >= belief.trusted_until:
            return max(when, self._spacing.opens(), self._closed_until, now)
        if belief.room(ledger.sent) > 0:
            theirs = now
        elif ledger.last_sent >= belief.reset_at or last_flying >= belief.reset_at - _ROUNDED:
            theirs = belief.trusted_until  # one that may be in the new window has no answer yet
        else:
            theirs = belief.reset_at + SLACK
        if self.share < 1:
            when = max(when, theirs)
        else:
            when = min(when, theirs) if now >= belief.others_until else theirs
        return max(when, self._closed_until, now)

    def take(self, now: float) -> Sent:
        """Count a request that is about to be sent."""
        self.pace.take(now)
        self._spacing.take(now)
        ledger = self._ledger
        sent = Sent(now, ledger.sent, ledger.answered)
        ledger.sent += 1
        ledger.last_sent = now
        ledger.flying.append(sent)
        ledger.departures.append(now)
        return sent

    def give_back(self, sent: Sent) -> None:
        """Take back one that was not sent."""
        self.pace.due -= self.pace.interval
        self._spacing.due -= self._spacing.interval
        ledger = self._ledger
        ledger.sent -= 1
        ledger.flying.remove(sent)
        if sent.at in ledger.departures:
            ledger.departures.remove(sent.at)
        ledger.last_sent = ledger.departures[-1] if ledger.departures else -math.inf

    def lost(self, sent: Sent, now: float) -> None:
        """Count that a request was given up without an answer."""
        if sent.at >= self._belief.reset_at - _ROUNDED:  # it may be in the new window, or not
            self._belief = evolve(self._belief, trusted_until=-math.inf)
        self._ledger.ended(sent, now)

    def answered(self, sent: Sent, told: Allowance, now: float, *, late: float = 0.0) -> None:
        """Count an answer that was not a 429, and came `late` seconds before now."""
        if sent.at >= self._closed_until:
            self._refusals = 0
        if told.limit is not None:
            self.change(told.limit, self.share)
        before, self._belief = self._belief, self._belief.update(self._ledger, sent, told, now, late)
        if self._belief.first != before.first:  # a new window owes nothing to the pace of the last
            self.pace.due = min(self.pace.due, now)
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

    def spend(self, now: float) -> None:
        """Go on evenly from now, as if the burst had just been used."""
        self._spacing.pause(now)


@define
class FailureBudget:
    """The failures of the last 30 s, which with every request that may yet become one stay under a limit.

    The vendor's page blocks a key for 30 s after more than 20 failed requests in 30 s; what is seen is 50.
    What counts is a status of 4xx other than 429. A request counts until it has a status, as it may yet fail;
    one that never gets a status has failed. Most answers tell the server's own account: how many more may
    fail. It narrows ours, as others may use the key: no more requests are on their way than may fail. One is
    always sent, for the account is no wait.

    Attributes:
        failed: when requests failed.
        remaining: how many more may fail by the server's account, the least of late.
        remaining_until: until when that account holds.
    """

    failed: list[float] = field(factory=list[float])
    remaining: float = math.inf
    remaining_until: float = -math.inf

    def opens(self, now: float, *, limit: int, flying: int) -> float:
        """Return when one more request may be sent, `now` if at once; infinity: once one is answered.

        It stays under `limit`, with so many that are `flying` already.
        """
        self.failed = [at for at in self.failed if at + FAILURES_PERIOD + SLACK > now]
        excess = len(self.failed) + flying + 2 - limit
        if excess > len(self.failed) or (now < self.remaining_until and flying >= max(self.remaining, 1)):
            return math.inf
        return self.failed[excess - 1] + FAILURES_PERIOD + SLACK if excess > 0 else now

    def ended(self, now: float, status: int | None, told: FailureAllowance | None = None) -> None:
        """Count the outcome of a request, None for no answer, and what the answer told of failures."""
        client_error = HTTPStatus.BAD_REQUEST <= (status or 0) < HTTPStatus.INTERNAL_SERVER_ERROR
        if status is None or (client_error and status != HTTPStatus.TOO_MANY_REQUESTS):
            self.failed.append(now)
            self.remaining -= 1
        if told is not None and (now >= self.remaining_until or told.remaining <= self.remaining):
            self.remaining, self.remaining_until = told.remaining, now + told.reset
