"""The turns that wait, and in which order they are granted. Moments are passed in as numbers.

The problem. Each kind of request has a limit of its own, and of the turns that wait for it one has to be the
next.

The idea. A queue tells the pacer when its first turn is ready, and what the turns that are ready bid, the
best first; of equals the one that came first. What is granted goes to the turns that bid, in that order.
Ranking is plain: with 500 jobs it takes a millisecond, and there are two or three turns a second.

| a turn for        | is ready                             | bids                                     |
|-------------------|--------------------------------------|------------------------------------------|
| a poll            | once waiting has cost a poll's price | urgency W (`sansio/polling`)             |
| any other request | unless its model is overloaded       | its priority, and how long it has waited |

An overloaded model answers a paid request by a 429 that says nothing of our limits. None of its requests is
sent for as long as the server asks. Then one tries, and the rest wait for its answer. Those of other models
are sent meanwhile.

A job that is due for a poll stays due. When the times of its model are learned anew, only the jobs that are
not due yet are rescheduled.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from operator import itemgetter
from typing import Final

from attrs import define, field

from ...sansio.http.headers import allowance, failure_allowance, refusal
from ...sansio.limits.ration import Answer, Bid, Lane
from ...sansio.polling import PolledJob
from ..transport import Clock


class Slots:
    """How many requests may be in flight at once in this process, whichever clients and loops send them.

    What an event loop held that was closed in mid-work is free again: its requests never end.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.reset()

    def reset(self) -> None:
        """Begin anew in a child that was forked: what is in flight is the parent's."""
        self._lock = threading.Lock()
        self._holders: dict[Turn, asyncio.AbstractEventLoop] = {}
        self._waiting: dict[Callable[[], None], asyncio.AbstractEventLoop] = {}

    @property
    def free(self) -> int:
        """How many more may be."""
        return self._most - sum([not loop.is_closed() for loop in list(self._holders.values())])

    def taken(self, look: Callable[[], None]) -> bool:
        """Return whether none is free; if so, `look` is called on this event loop once one is given back."""
        with self._lock:
            taken = not self.free
            if taken:
                self._waiting[look] = asyncio.get_running_loop()
            return taken

    def take(self, turn: Turn) -> bool:
        """Take one for a turn of this event loop, and return whether there was any."""
        with self._lock:
            free = self.free > 0
            if free:
                self._holders = {of: loop for of, loop in self._holders.items() if not loop.is_closed()}
                self._holders[turn] = asyncio.get_running_loop()
            return free

    def give_back(self, turn: Turn) -> None:
        """Give back that of a turn."""
        with self._lock:
            self._holders.pop(turn, None)
            waiting, self._waiting = self._waiting, {}
        for look, loop in waiting.items():
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(look)


PAID: Final = Slots(4)
"""Paid requests: each is an unknown outcome if the process is killed just then."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PAID.reset)


@define(eq=False)
class Turn:
    """A place in a queue, and once it is granted the right to send one request.

    Attributes:
        lane: the kind of request.
        priority: the greatest goes first; then first come, first served.
        model: the model that a paid request is for.
        job: the job that is polled, if it is a poll.
        since: when it began to wait.
        clock: tells the time of an answer.
        report: is told how the turn ended.
        granted: set once it is granted.
        token: its name in the ration; empty until then.
        asked_at: when the ration was asked for it, by the monotonic and by the wall clock.
    """

    lane: Lane
    priority: float
    model: str | None
    job: PolledJob | None
    since: float = field(kw_only=True)
    clock: Clock = field(kw_only=True)
    report: Callable[[Turn, Answer], None] = field(kw_only=True)
    granted: asyncio.Event = field(factory=asyncio.Event, init=False)
    token: str = field(default="", init=False)
    asked_at: tuple[float, float] = field(default=(0.0, 0.0), init=False)

    def bid(self, now: float) -> Bid:
        """Return how much it is wanted."""
        return (self.priority, now - self.since) if self.job is None else (self.job.urgency(now), 0.0)

    def answered(self, status: int | None, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Report the head of the answer as soon as it is read; `headers` have lower-case names.

        Of a 429 the `body` is wanted, too: it tells a spent limit from a block and from an overloaded model.
        None is no status: a turn that is left without an answer counts as a request that failed. Only the
        first report of a turn counts.
        """
        unix = self.clock.time()
        refused = refusal(headers, body, unix) if status == HTTPStatus.TOO_MANY_REQUESTS else None
        answer = Answer(
            token=self.token,
            status=status,
            told=allowance(headers, unix),
            failures=failure_allowance(headers, unix),
            refused=refused,
            chance=self.clock.chance() if refused is not None else 0.0,
        )
        self.report(self, answer)

    def unsent(self) -> None:
        """Give it back: no request was sent."""
        self.report(self, Answer(token=self.token, unsent=True))


@define(eq=False)
class Queue:
    """The turns of one lane that wait, those with the best bids first.

    Attributes:
        look: called once there is a slot again.
        slots: how many turns may be in use at once; None for any number.
        turns: those that wait, in the order in which they came; there may be thousands.
        bidders: those that bid when the ration was asked last, the best first.
        best: what the first of them bid.
        again: when the ration said to ask again.
        overloaded: until when a model is; infinity while one of its turns tries.
    """

    look: Callable[[], None]
    slots: Slots | None = None
    turns: list[Turn] = field(factory=list[Turn])
    bidders: list[Turn] = field(factory=list[Turn])
    best: float = -math.inf
    again: float = -math.inf
    overloaded: dict[str | None, float] = field(factory=dict[str | None, float])

    def opens(self, now: float) -> float:
        """Return when to ask for a turn: by `now` if at once, infinity if that is not known yet."""
        if self.again > now:
            return self.again
        if self.slots is not None and self.slots.taken(self.look):
            return math.inf
        return min(self._ready())

    def bids(self, count: int, now: float) -> tuple[Bid, ...]:
        """Return what the turns that are ready bid, at most `count`, the best first."""
        count = count if self.slots is None else min(count, self.slots.free)
        turns = zip(self._ready(), self.turns, strict=True)
        ready = [(turn.bid(now), turn) for ready_at, turn in turns if ready_at <= now]
        bids, trying = list[Bid](), set[str | None]()
        self.bidders = []
        for bid, turn in sorted(ready, key=itemgetter(0), reverse=True):
            if len(bids) < count and not (turn.model in self.overloaded and turn.model in trying):
                trying.add(turn.model)
                bids.append(bid)
                self.bidders.append(turn)
        self.best = bids[0][0] if bids else -math.inf
        return tuple(bids)

    def grant(self) -> Turn | None:
        """Take out the first of the turns that bid, if any still waits and there is a slot for it."""
        for turn in self.bidders:
            if turn in self.turns and (self.slots is None or self.slots.take(turn)):
                self.turns.remove(turn)
                if turn.model in self.overloaded:
                    self.overloaded[turn.model] = math.inf
                return turn
        return None

    def ended(self, turn: Turn, answer: Answer, now: float) -> None:
        """Take note of how a request ended, one that was not sent included."""
        if self.overloaded.get(turn.model) == math.inf:
            if answer.status is None:  # it does not tell whether there is room: another one tries
                self.overloaded[turn.model] = now
            else:
                del self.overloaded[turn.model]
        if turn.model is not None and answer.refused is not None and answer.refused.reason == "overloaded":
            self.overloaded[turn.model] = now + (answer.refused.wait or 0.0)

    def _ready(self) -> list[float]:
        """Return when each of the turns is ready."""
        known = self.overloaded
        return [turn.job.due if turn.job else known.get(turn.model, -math.inf) for turn in self.turns]
