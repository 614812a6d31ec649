"""Those who wait for a turn, in the order in which they get it. Moments are passed in as numbers."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from typing import Protocol, TypeVar

from attrs import define, field

from ...sansio.limits.bucket import Bucket
from ...sansio.limits.ledger import Sent
from .polled_job import Watch

_order = itertools.count()


@define(eq=False, kw_only=True)
class Request:
    """One that waits for a turn, and then has it.

    Attributes:
        rank: the least goes first; then first come, first served.
        place: how many have asked before.
        event: set when there is news: the turn, or that somebody else has to mind the clock.
        granted: whether it has its turn.
        sent: what the bucket noted of it, where there is one.
    """

    rank: int = 0
    place: int = field(factory=lambda: next(_order), init=False)
    event: asyncio.Event = field(factory=asyncio.Event, init=False)
    granted: bool = field(default=False, init=False)
    sent: Sent | None = field(default=None, init=False)


@define(eq=False, kw_only=True)
class PollRequest(Request):
    """One that waits to poll.

    Attributes:
        watch: the job.
        not_before: the earliest moment.
    """

    watch: Watch
    not_before: float


R = TypeVar("R", bound=Request)


class Lane(Protocol[R]):
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


class FirstComeLane:
    """By rank and then first come, first served."""

    def __init__(self, bucket: Bucket | None = None) -> None:
        """Wait for `bucket`; None for a kind of request that has no known rate limit."""
        self.bucket = bucket
        self.held: bool = False
        self._waiting: dict[Request, None] = {}
        self._heap: list[tuple[int, int, Request]] = []

    def enter(self, request: Request, now: float) -> float:
        """Let one more wait."""
        self._waiting[request] = None
        heapq.heappush(self._heap, (request.rank, request.place, request))
        return now

    def withdraw(self, request: Request) -> None:
        """Let one go that no longer waits."""
        self._waiting.pop(request, None)

    def opens(self, now: float) -> float:
        """Return when the bucket opens."""
        self.held = False
        if not self._waiting:
            self._heap.clear()
            return math.inf
        when = now if self.bucket is None else self.bucket.opens(now)
        self.held = when is None or when > now
        return math.inf if when is None else when

    def grant(self, now: float) -> Request:
        """Give the turn to the first in line."""
        while True:
            request = heapq.heappop(self._heap)[2]
            if request in self._waiting:
                break
        self.withdraw(request)
        request.sent = None if self.bucket is None else self.bucket.take(now)
        return request
