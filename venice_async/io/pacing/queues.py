"""Those who wait for a turn, in the order in which they get it. Moments are passed in as numbers."""

from __future__ import annotations

import asyncio
import bisect
import heapq
import itertools
import math
from typing import Protocol, TypeVar

from attrs import define, field

from ...options import Polling
from ...sansio.limits.bucket import Bucket
from ...sansio.limits.ledger import PERIOD, Sent
from ..transport import Clock
from .polled_job import Demand, ModelTimes, PolledJob

_order = itertools.count()


@define(eq=False, kw_only=True)
class WaitingRequest:
    """One that waits for a turn, and then has it.

    Attributes:
        rank: the least goes first; then first come, first served.
        model: the model it is for, where that matters.
        place: how many have asked before.
        event: set when there is news: the turn, or that somebody else has to mind the clock.
        granted: whether it has its turn.
        sent: what the bucket noted of it, where there is one.
    """

    rank: int = 0
    model: str | None = None
    place: int = field(factory=lambda: next(_order), init=False)
    event: asyncio.Event = field(factory=asyncio.Event, init=False)
    granted: bool = field(default=False, init=False)
    sent: Sent | None = field(default=None, init=False)


@define(eq=False, kw_only=True)
class WaitingPoll(WaitingRequest):
    """One that waits to poll.

    Attributes:
        watch: the job.
        not_before: the earliest moment.
    """

    watch: PolledJob
    not_before: float


R = TypeVar("R", bound=WaitingRequest)


class TurnQueue(Protocol[R]):
    """All that wait for one kind of turn."""

    @property
    def bucket(self) -> Bucket | None:
        """The rate limit they share; None if there is no known one."""
        ...

    @property
    def held(self) -> bool:
        """Whether an answer may let somebody go earlier than `opens` said."""
        ...

    def enter(self, request: R, now: float) -> float:
        """Let one more wait; return the earliest moment at which it may have its turn, as far as known."""
        ...

    def withdraw(self, request: R) -> None:
        """Let one go that no longer waits."""
        ...

    def opens(self, now: float) -> float:
        """Return when to look again: `now` if there is a turn to hand out, infinity if nobody waits."""
        ...

    def grant(self, now: float) -> R:
        """Hand the turn that there is to whom it is due."""
        ...

    def ended(self, request: R, now: float, *, overloaded_for: float | None) -> None:
        """Take in that a request ended; a model that was overloaded is left alone for so many seconds."""
        ...


class FifoQueue:
    """By rank and then first come, first served; a model without room does not hold up the others.

    After a model was overloaded, none of its requests goes for as long as the server asks. Then one tries,
    and the rest wait for its answer.
    """

    def __init__(self, bucket: Bucket | None = None) -> None:
        """Wait for `bucket`; None for a kind of request that has no known rate limit."""
        self.bucket = bucket
        self.held: bool = False
        self._waiting: list[WaitingRequest] = []
        self._overloaded: dict[str | None, float] = {}  # by model, until when; infinity while one tries

    def enter(self, request: WaitingRequest, now: float) -> float:
        """Let one more wait."""
        self._waiting.append(request)
        return now

    def withdraw(self, request: WaitingRequest) -> None:
        """Let one go that no longer waits."""
        if request in self._waiting:
            self._waiting.remove(request)

    def opens(self, now: float) -> float:
        """Return when the bucket opens for one of those who wait."""
        self.held = False
        if not self._waiting:
            return math.inf
        if self._overloaded:
            earliest = min(self._overloaded.get(one.model, now) for one in self._waiting)
            if earliest > now:
                self.held = earliest == math.inf
                return earliest
        when = now if self.bucket is None else self.bucket.opens(now)
        self.held = when is None or when > now
        return math.inf if when is None else when

    def grant(self, now: float) -> WaitingRequest:
        """Give the turn to the first in line."""
        ready = (one for one in self._waiting if self._overloaded.get(one.model, now) <= now)
        request = min(ready, key=lambda one: (one.rank, one.place))
        self.withdraw(request)
        if request.model in self._overloaded:
            self._overloaded[request.model] = math.inf
        request.sent = None if self.bucket is None else self.bucket.take(now)
        return request

    def ended(self, request: WaitingRequest, now: float, *, overloaded_for: float | None) -> None:
        """Take in that a request ended, one that was not sent after all included."""
        if self._overloaded.get(request.model) == math.inf:
            del self._overloaded[request.model]
        if overloaded_for is not None and request.model is not None:
            self._overloaded[request.model] = now + overloaded_for


_KEEP = 0.002  # seconds a job for which a ranking is kept: working it out takes a thousandth of that


class UrgencyQueue:
    """By urgency, of the jobs for which waiting has cost more than a poll is worth.

    Polls are spaced evenly over the minute, as that serves jobs best that end at any time. What the server
    has left beyond is spent on those jobs only that are worth the price of a poll in the scarcity there is:
    that at which all jobs would together ask for just the rate there is. By the square-root law a job asks
    √(h / 2·price) times a second, so the price is (Σ √h)² / 2·rate²; and at most a window's length, as no job
    waits longer for the next one.
    """

    def __init__(self, bucket: Bucket, *, polling: Polling, clock: Clock) -> None:
        """Share `bucket` among all jobs."""
        self.bucket: Bucket = bucket
        self.held: bool = False
        self._models: dict[str, ModelTimes] = {}
        self._crowd = Demand(self._models)
        self._polling = polling
        self._clock = clock
        self._later: list[tuple[float, int, WaitingPoll]] = []  # a heap, by when they are due
        self._ready: dict[WaitingPoll, None] = {}
        self._waiting: dict[WaitingPoll, None] = {}
        self._has_learned = False
        self._look_at = -math.inf
        self._ranking: list[
            tuple[float, int, WaitingPoll]
        ] = []  # of those who are ready, the most urgent last
        self._ranked_at = -math.inf

    def watch(self, name: str, age: float | None) -> PolledJob:
        """Start watching a job of the model with that name."""
        model = self._models.get(name)
        if model is None:
            model = self._models[name] = ModelTimes(self._note_learned)
        return PolledJob(model, age=age, clock=self._clock, polling=self._polling)

    def price(self) -> float:
        """Return what a poll is worth at present, in seconds of one job's delay."""
        now = self._clock.monotonic()
        scarcity = self._crowd.pressure(now) ** 2 / (2 * self.bucket.spare_rate(now) ** 2)
        return max(min(scarcity, PERIOD), self._polling.price)

    def enter(self, request: WaitingPoll, now: float) -> float:
        """Let one more wait; return the earliest moment at which it may have its turn, as far as known."""
        self._waiting[request] = None
        if self._has_learned:
            self._reschedule(now)
            return now
        due = self._schedule(request, now)
        if not self._ready:
            self._look_at = min(self._look_at, due)
        return max(due, self._look_at)

    def withdraw(self, request: WaitingPoll) -> None:
        """Let one go that no longer waits."""
        self._waiting.pop(request, None)
        self._ready.pop(request, None)

    def opens(self, now: float) -> float:
        """Return when to look again: `now` if there is a turn to hand out, infinity if nobody waits."""
        if self._has_learned:
            self._reschedule(now)
        if self.held or now >= self._look_at:
            self._look_at = self._examine(now)
        return self._look_at

    def grant(self, now: float) -> WaitingPoll:
        """Hand the turn that there is to the most urgent."""
        request = self._rank(now)
        self.withdraw(request)
        request.sent = self.bucket.take(now)
        self._look_at = now
        return request

    def ended(self, request: WaitingPoll, now: float, *, overloaded_for: float | None) -> None:
        """Do nothing: a poll that met an overloaded model is a matter of its job alone."""

    def _schedule(self, request: WaitingPoll, now: float) -> float:
        due = max(request.watch.due(now), request.not_before)
        heapq.heappush(self._later, (due, request.place, request))
        return due

    def _note_learned(self) -> None:
        self._has_learned = True

    def _reschedule(self, now: float) -> None:
        """Find anew when those are due who are not yet; those who are have but another rank."""
        self._has_learned = False
        self._later.clear()
        self._ranked_at = -math.inf
        for request in self._waiting:
            if request not in self._ready:
                self._schedule(request, now)
        self._look_at = now

    def _examine(self, now: float) -> float:
        while self._later and (self._later[0][0] <= now or self._later[0][2] not in self._waiting):
            request = heapq.heappop(self._later)[2]
            if request in self._waiting:
                self._ready[request] = None
                bisect.insort(self._ranking, self._ranked(request, now))
        self.held = False
        if not self._ready:
            return self._later[0][0] if self._later else math.inf
        opens = self.bucket.opens(now)
        if opens is None or opens > now:
            self.held = True
            return math.inf if opens is None else opens
        evenly = self.bucket.pace.opens()
        if evenly <= now or self._rank(now).watch.urgency(now) >= self.price():
            return now
        return min(evenly, now + 1 / self.bucket.rate)

    def _rank(self, now: float) -> WaitingPoll:
        """Return the most urgent of those who are ready; of many, by what was so a moment ago."""
        if now >= self._ranked_at + _KEEP * len(self._ready):
            self._ranking = sorted(self._ranked(request, now) for request in self._ready)
            self._ranked_at = now
        while self._ranking[-1][2] not in self._ready:
            self._ranking.pop()
        return self._ranking[-1][2]

    def _ranked(self, request: WaitingPoll, now: float) -> tuple[float, int, WaitingPoll]:
        return request.watch.urgency(now), -request.place, request
