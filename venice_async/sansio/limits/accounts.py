"""Two accounts of an endpoint's use: our own count, and what the server says is left as far as that agrees.

The problem. An answer tells a limit L, how many requests R remain, and when the window ends. To spend R at
once is quick, where our own account (`Ledger`) allows L in any 60 s. But R is old when it comes: other
requests are on their way, and nobody says which of them it counts, whether windows are fixed or slide,
whether somebody else uses the key, or by which clock the reset is told.

The idea. Number our requests. Let `answered` of them have been answered before request n was sent: when the
server counts n it has counted those for certain, any other perhaps. So n's answer bounds how many may ever be
sent:

    lowest  = R + answered + 1      if it counts only what it surely counts, and n
    highest = R + n + 1             if it counts all that were sent before n

We send until the ceiling, which is the best `lowest` heard. It stays valid, as the end of a window only adds
to it; but it is never above the `highest` of an answer.

How the end of a window is seen. Let `counted` of ours surely be in the window that n was counted in. R is at
most L - 1 - counted, unless that window has ended. If more is left, and an end was due, a new window has
begun, and the ceiling starts anew. If no end was due, the account contradicts ours, and is not believed for
two windows.

| believed? | the answer                                        | means                   | the belief    |
|-----------|---------------------------------------------------|-------------------------|---------------|
| either    | has a part missing, or comes while we distrust    | nothing                 | stays         |
| yes       | its reset is before ours by more than clocks err  | a window that has ended | stays         |
| yes       | R ≤ L - 1 - counted                               | our window              | ceiling moves |
| yes       | R above that, the reset is due                    | a new window            | ceiling anew  |
| yes       | R above that, the reset is not due                | it contradicts us       | distrust      |
| no        | any other                                         | the first word          | ceiling anew  |

A new window is not taken for granted. After its announced start one request goes ahead, and the rest follow
its answer. As that start is told a little late, one that left shortly before and has no answer may be in the
new window: then none goes ahead, and once its answer is lost the account is not known until the next one.

Where answers of one window show more requests than all of ours, somebody else uses the key: for two minutes
then only the server's account counts, and not whichever of both allows more (`bucket`).
"""

from __future__ import annotations

import math

from attrs import define, evolve, field, frozen

from ..http.headers import Allowance

PERIOD = 60.0  # seconds that the vendor's limits span
SLACK = 0.1  # seconds: two clocks do not run alike
MARGIN = 0.02  # of the limit, kept back for what else may use the key
DISTRUST = 120.0  # seconds for which an account that was wrong is not believed: two windows
REMEMBERED = 120.0  # seconds for which others that were seen to use the key are reckoned with
_GRACE = 10.0  # seconds after a reset for the request that goes ahead
_ROUNDED = 3.0  # seconds that an announced reset may be late: two clocks' whole ones, and the way


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
        others_until: until when somebody else is reckoned to use the key.
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

    def trusted(self, now: float) -> bool:
        """Return whether there is an account to go by."""
        return now < self.trusted_until

    def alone(self, now: float) -> bool:
        """Return whether nobody else has been seen to use the key of late."""
        return now >= self.others_until

    def room(self, sent: int) -> float:
        """Return how many more may be sent when `sent` were."""
        return self.ceiling - math.floor(MARGIN * self.limit) - sent

    def opens(self, ledger: Ledger, now: float) -> float:
        """Return when the server takes one more: now, or once a new window begins, if not tried yet."""
        if self.room(ledger.sent) > 0:
            return now
        tried = ledger.last_sent >= self.reset_at or ledger.last_flying() >= self.reset_at - _ROUNDED
        return self.trusted_until if tried else self.reset_at + SLACK

    def spare(self, ledger: Ledger, now: float) -> float:
        """Return the rate a second at which to spend what is left until it lapses; 0 where it does not."""
        left = self.reset_at - _ROUNDED - now
        return self.room(ledger.sent) / left if self.fixed and self.trusted(now) and left > 0 else 0.0

    def lose(self, sent: Sent) -> Belief:
        """Return the belief once `sent` is lost: near the end of a window the account is not known then."""
        return evolve(self, trusted_until=-math.inf) if sent.at >= self.reset_at - _ROUNDED else self

    def disbelieve(self, now: float) -> Belief:
        """Return the belief that goes without the server's account for a while."""
        return evolve(self, distrust_until=now + DISTRUST, trusted_until=-math.inf)

    def hear(self, ledger: Ledger, sent: Sent, told: Allowance, now: float, late: float = 0.0) -> Belief:
        """Return the belief after the answer to `sent`, which came `late` seconds before now."""
        if told.limit is None or told.remaining is None or told.reset is None or now < self.distrust_until:
            return self
        trusted, reset_at = self.trusted(now), now + told.reset
        if trusted and reset_at - late + _ROUNDED < self.reset_at:
            return evolve(self, limit=told.limit)  # about a window that has ended
        lowest, highest = told.remaining + sent.answered + 1, told.remaining + sent.before + 1
        more = told.remaining > told.limit - 1 - ledger.counted_at_least(sent, self.first, now)
        if trusted and more and now < self.reset_at - _ROUNDED:
            return self.disbelieve(now)  # nothing has ended, and yet there is more
        same_mark = told.mark is not None and told.mark == self.mark
        fixed = self.fixed
        if trusted and not more:
            ceiling, first = min(max(self.ceiling, lowest), highest), self.first
        else:
            ceiling, first = lowest, ledger.sent
        if trusted:
            fixed = fixed or more
            reset_at = min(self.reset_at, reset_at) if same_mark else max(self.reset_at, reset_at)
        elif reset_at - PERIOD < ledger.first_departure() - _ROUNDED:
            fixed = True  # it began before we did, and ends as one
        ours = ledger.counted_at_most(reset_at - PERIOD - _ROUNDED if same_mark else -math.inf)
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
            others_until=max(self.others_until, now + REMEMBERED) if seen_others else self.others_until,
        )
