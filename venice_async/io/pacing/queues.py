"""Those who wait for a turn, in the order in which they get it. Moments are passed in as numbers.

The problem. A kind of request has a limit of its own, and of those who wait for it one has to be first: of
paid requests the one of the highest priority that has waited longest, of polls the one that is the most
urgent.

The idea. A queue tells the pacer what those bid who are ready (`Bid`), the best first, and when the next one
becomes ready. It is told how many turns there are, and picks who has them by what is true then. Ranking is
plain: with 500 jobs it takes a millisecond, and there are two or three turns a second.

| queue   | who is ready                                 | in which order                |
|---------|----------------------------------------------|-------------------------------|
| fifo    | all, but those of a model that is overloaded | priority, then first come     |
| polls   | jobs whose waiting has cost a poll's price   | urgency W (`sansio/polling`)  |

An overloaded model answers a paid request by a 429 that says nothing of our limits. None of its requests goes
for as long as the server asks. Then one tries, and the rest wait for its answer. Those of other models go
meanwhile.

A job that is ready to be polled stays ready. When the times of its model are learned anew, only those who are
not ready yet are rescheduled.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import os
import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

from attrs import define, field

from ...sansio.limits.ration import BIDS, Bid
from .polled_job import ModelTimes, PolledJob

_FRESH: Final = 0.1  # seconds for which what was computed of all jobs is good enough
_order = itertools.count()


@define(eq=False, kw_only=True)
class WaitingRequest:
    """A request that waits for a turn, and then has it.

    Attributes:
        priority: the greatest goes first; then first come, first served.
        model: the model it is for, where that matters.
        since: when it began to wait.
        place: how many have asked before.
        event: set when it has its turn.
        token: the turn; empty before.
        asked_at: when the turn was asked for, by the monotonic and by the wall clock.
    """

    priority: float = 0
    model: str | None = None
    since: float = field(default=0.0, init=False)
    place: int = field(factory=lambda: next(_order), init=False)
    event: asyncio.Event = field(factory=asyncio.Event, init=False)
    token: str = field(default="", init=False)
    asked_at: tuple[float, float] = field(default=(0.0, 0.0), init=False)


@define(eq=False, kw_only=True)
class WaitingPoll(WaitingRequest):
    """A poll that waits for a turn.

    Attributes:
        watch: the job.
        not_before: the earliest moment.
        due: when it is ready.
        version: what was known of the model when `due` was found.
    """

    watch: PolledJob
    not_before: float
    due: float = field(default=math.inf, init=False)
    version: int = field(default=-1, init=False)


R = TypeVar("R", bound=WaitingRequest)


class TurnQueue(Protocol[R]):
    """All that wait for one kind of turn."""

    def enter(self, request: R, now: float) -> Bid:
        """Let one more wait; return what it bids."""
        ...

    def withdraw(self, request: R) -> None:
        """Let one go that no longer waits."""
        ...

    def opens(self, now: float) -> float:
        """Return when somebody is ready: `now` if that is so already, infinity if nobody will be."""
        ...

    def bids(self, now: float) -> tuple[Bid, ...]:
        """Return what those bid who are ready, the best first, and for how long they have waited."""
        ...

    def grant(self, count: int, now: float) -> Sequence[R]:
        """Return those whose turn it is, at most `count`; they wait no longer."""
        ...

    def ended(self, request: R, now: float, *, overloaded_for: float | None) -> None:
        """Take in that a request ended; a model that was overloaded is left alone for so many seconds."""
        ...

    def left(self, request: R) -> None:
        """Take in that all that belongs to a turn is over."""
        ...


class Slots:
    """How many requests may be on their way at once in this process, whichever clients and loops send them.

    Whoever found too few is called in its own event loop once another gives one back.
    """

    def __init__(self, most: float = math.inf) -> None:
        """Start with all of them free."""
        self._most = most
        self._taken = 0
        self._lock = threading.Lock()
        self._users: WeakKeyDictionary[object, tuple[asyncio.AbstractEventLoop, Callable[[], None]]]
        self._users = WeakKeyDictionary()

    @property
    def free(self) -> float:
        """How many are free."""
        return self._most - self._taken

    def join(self, user: object, look: Callable[[], None]) -> None:
        """Have `look` called in the running event loop when another user gives one back."""
        with self._lock:
            self._users[user] = asyncio.get_running_loop(), look

    def leave(self, user: object) -> None:
        """Call it no more."""
        with self._lock:
            self._users.pop(user, None)

    def take(self, count: float) -> int:
        """Take at most so many, and return how many."""
        with self._lock:
            taken = int(max(0, min(count, self.free)))
            self._taken += taken
        return taken

    def give_back(self, user: object, count: int = 1) -> None:
        """Give some back; the `user` itself is not called."""
        with self._lock:
            self._taken -= count
            others = [known for other, known in self._users.items() if other is not user]
        for loop, look in others:
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(look)

    def reset(self) -> None:
        """Begin anew in a child that was forked: what is on its way is the parent's."""
        self.__init__(self._most)  # type: ignore[misc]


PAID: Final = Slots(4)
"""Paid requests: each is an unknown outcome if the process is killed just then."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PAID.reset)


def _place(request: WaitingRequest) -> tuple[float, int]:
    return -request.priority, request.place


class FifoQueue:
    """By priority and then first come, first served."""

    def __init__(self, slots: Slots | None = None) -> None:
        """Let those have a turn for whom there are `slots`, where that matters."""
        self._slots = slots or Slots()
        self._out = set[WaitingRequest]()
        self._waiting: list[WaitingRequest] = []  # sorted, as there may be thousands
        self._overloaded: dict[str | None, float] = {}  # by model, until when; infinity while one tries

    def enter(self, request: WaitingRequest, now: float) -> Bid:
        """Let one more wait; return its priority."""
        request.since = now
        insort(self._waiting, request, key=_place)
        return request.priority, 0.0

    def withdraw(self, request: WaitingRequest) -> None:
        """Let one go that no longer waits."""
        at = bisect_left(self._waiting, _place(request), key=_place)
        if self._waiting[at : at + 1] == [request]:
            del self._waiting[at]

    def opens(self, now: float) -> float:
        """Return when the first model is not overloaded; not before a turn is over if there are too many."""
        if self._slots.free < 1:
            return math.inf
        if not self._overloaded:
            return now if self._waiting else math.inf
        return max(
            min((self._overloaded.get(one.model, now) for one in self._waiting), default=math.inf), now
        )

    def bids(self, now: float) -> tuple[Bid, ...]:
        """Return priorities, and how long they have waited."""
        return tuple(
            [(one.priority, now - one.since) for one in self._ready(min(BIDS, self._slots.free), now)]
        )

    def grant(self, count: int, now: float) -> list[WaitingRequest]:
        """Return the first in line."""
        taken = self._slots.take(count)
        first = self._ready(taken, now)
        if len(first) < taken:
            self._slots.give_back(self, taken - len(first))
        for request in first:
            self.withdraw(request)
            self._out.add(request)
            if request.model in self._overloaded:
                self._overloaded[request.model] = math.inf
        return first

    def ended(self, request: WaitingRequest, now: float, *, overloaded_for: float | None) -> None:
        """Take in that a request ended, one that was not sent after all included."""
        if self._overloaded.get(request.model) == math.inf:
            del self._overloaded[request.model]
        if overloaded_for is not None and request.model is not None:
            self._overloaded[request.model] = now + overloaded_for

    def left(self, request: WaitingRequest) -> None:
        """Take in that all that belongs to a turn is over."""
        if request in self._out:
            self._out.remove(request)
            self._slots.give_back(self)

    def _ready(self, count: float, now: float) -> list[WaitingRequest]:
        ready, trying = list[WaitingRequest](), set[str | None]()
        for one in self._waiting:
            if len(ready) >= count:
                break
            if one.model in self._overloaded:
                if self._overloaded[one.model] > now or one.model in trying:
                    continue
                trying.add(one.model)
            ready.append(one)
        return ready


class PollQueue:
    """By urgency, of the jobs for which waiting has cost more than a poll is worth.

    Attributes:
        models: what is known of the models of all jobs.
    """

    def __init__(self) -> None:
        self.models: dict[str, ModelTimes] = {}
        self._waiting: dict[WaitingPoll, None] = {}
        self._earliest: float | None = math.inf  # when the first is due; None for not known
        self._versions = 0
        self._ranked: list[WaitingPoll] | None = None  # the best of those who are ready, as just bid
        self._ranked_at = self._pressed_at = -math.inf
        self._pressure = 0.0

    def model(self, name: str) -> ModelTimes:
        """Return what is known of a model."""
        return self.models.setdefault(name, ModelTimes())

    def pressure(self, now: float) -> float:
        """Return Σ √h of all jobs that are being watched: how much they ask for together.

        It is that of up to `_FRESH` seconds ago, as there may be thousands of jobs.
        """
        if now - self._pressed_at > _FRESH:
            roots = (watch.pressure(now) for model in self.models.values() for watch in model.watches)
            self._pressed_at, self._pressure = now, sum(roots)
        return self._pressure

    def enter(self, request: WaitingPoll, now: float) -> Bid:
        """Let one more wait; return its urgency."""
        request.since = now
        self._waiting[request] = None
        self._schedule(request, now)
        self._earliest = None if self._earliest is None else min(self._earliest, request.due)
        self._ranked = None
        return request.watch.urgency(now), 0.0

    def withdraw(self, request: WaitingPoll) -> None:
        """Let one go that no longer waits."""
        self._waiting.pop(request, None)
        self._earliest = self._ranked = None

    def opens(self, now: float) -> float:
        """Return when the first is due."""
        versions = sum(model.version for model in self.models.values())
        if versions != self._versions:
            self._versions, self._earliest = versions, None
            for request in self._waiting:
                if request.due > now and request.version != request.watch.model.version:
                    self._schedule(request, now)
        if self._earliest is None:
            self._earliest = min((request.due for request in self._waiting), default=math.inf)
        return max(self._earliest, now)

    def bids(self, now: float) -> tuple[Bid, ...]:
        """Return urgencies."""
        best = self._most_urgent(BIDS, now)
        self._ranked, self._ranked_at = [one for *_, one in best], now
        return tuple((urgency, 0.0) for urgency, *_ in best)

    def grant(self, count: int, now: float) -> list[WaitingPoll]:
        """Return the most urgent: those who bid, if that was just now and all of them still wait."""
        ranked = self._ranked if now - self._ranked_at < _FRESH else None
        if ranked is None or len(ranked) < count:
            ranked = [one for *_, one in self._most_urgent(count, now)]
        for request in ranked[:count]:
            self.withdraw(request)
        return ranked[:count]

    def _most_urgent(self, count: int, now: float) -> list[tuple[float, int, WaitingPoll]]:
        """Return those who are ready, with what they bid; of equals first the one that came first."""
        ready = [(one.watch.urgency(now), -one.place, one) for one in self._waiting if one.due <= now]
        return heapq.nlargest(count, ready)

    def ended(self, request: WaitingPoll, now: float, *, overloaded_for: float | None) -> None:
        """Do nothing: a poll that met an overloaded model is a matter of its job alone."""

    def left(self, request: WaitingPoll) -> None:
        """Do nothing: polls may be as many as there are."""

    def _schedule(self, request: WaitingPoll, now: float) -> None:
        request.due = max(request.watch.due(now), request.not_before)
        request.version = request.watch.model.version
