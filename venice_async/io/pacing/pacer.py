"""Hands out turns: one pacer per client, shared by all its jobs.

The problem. Every request to the API needs a turn, as the account allows only so many. Many requests wait at
once, one of them has to be next, and other processes may use the same account.

The idea. The pacer holds the turns that wait (`queues`), and nothing else: whether one may be granted is the
matter of the ration (`sansio/limits/ration.py`), which lies in a store that processes may share
(`io/ration`). The pacer looks:

    is it time to ask?   no: set a timer for when it is
                         yes: tell the store what our turns bid and how others ended; grant the turns that it
                              allows to those that bid; look again

It is time to ask when one of these is so:

| what                                           | when                                               |
|------------------------------------------------|----------------------------------------------------|
| a turn is ready                                | at once, or when the store said to come again      |
| a new turn bids more than all others did       | at once                                            |
| an answer came that may open a lane            | at once                                            |
| another answer came, and the store is shared   | 0.3 s later: others may want to know               |
| the store is shared, and we wait or have jobs  | every 2 s: a process that is silent counts as dead |
| the store could not be reached                 | half a second later                                |

There is no task: a timer of the loop and the future of the store call back.

Invariants. Nothing is sent without a turn. A turn ends once: answered, lost or given back. One that was not
used within 5 s is given back, for the process may have been asleep. A request that is cancelled leaves its
queue, or gives its turn back, at once. While the store cannot be reached nothing is sent, nothing is lost,
and everything waits.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial

from anyio.lowlevel import checkpoint_if_cancelled
from attrs import evolve

from ...options import Limits, Polling
from ...sansio.limits.ration import BIDS, LANES, Answer, Bid, Grant, Lane, Wish
from ...sansio.polling import ModelTimes, PolledJob
from ..ration.store import MemoryRation, RationStore
from ..transport import Clock
from .queues import PAID, Queue, Turn

REPORT = 0.3  # seconds after which a shared store is told of an answer, with others that came meanwhile
STALE = 5.0  # seconds after which a turn that was not used is given back
ALIVE = 2.0  # seconds after which a shared store is told that we are alive
RETRY = 0.5  # seconds until a store that could not be reached is tried again
FRESH = 0.1  # seconds for which the pressure of all jobs is not computed again: there may be hundreds
LEAVING = 0.5  # seconds that closing may take to tell a shared store
_LEAST_NAP = 0.001  # seconds: a clock of floats can be asked for less than it can show

log: logging.Logger = logging.getLogger(__name__)


class Pacer:
    """The waiting list of a client: of the turns that wait, the most urgent is granted next.

    Attributes:
        trouble: why the store cannot be reached now, so that nothing is granted; empty while it can be.
    """

    def __init__(
        self, *, limits: Limits, polling: Polling, clock: Clock, store: RationStore | None = None
    ) -> None:
        """Start with `limits`, which the answers correct. Without a store nobody else uses the key."""
        self._limits = limits
        self._polling = polling
        self._clock = clock
        self._store = store or MemoryRation(limits, clock)
        self._process = secrets.token_hex(8)
        self._models = defaultdict[str, ModelTimes](ModelTimes)
        self._queues: dict[Lane, Queue] = {
            lane: Queue(self._look, PAID if lane == "queue" else None) for lane in LANES
        }
        self._held: set[str] = set()  # the tokens of turns that have not ended
        self._answers: list[tuple[Answer, float]] = []  # with the moment at which each came
        self._told_p80s: dict[str, float] = {}
        self._grant = Grant()
        self._answer_helps = False  # whether an answer may open a lane earlier
        self._asking: asyncio.Future[Grant] | None = None
        self._asked_at = -math.inf, -math.inf  # by the monotonic and by the wall clock
        self._report_at = math.inf  # when the store has to be told of answers
        self._retry_at = self._pressed_at = -math.inf
        self._pressure = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.trouble: str = ""
        self._closed = False

    def watch(self, model: str, *, age: float | None = 0.0) -> PolledJob:
        """Start watching a job of `model` that was queued `age` seconds ago; None if that is not known."""
        return PolledJob(self._models[model], age=age, clock=self._clock.monotonic, polling=self._polling)

    def poll_turn(self, job: PolledJob, *, after: float = 0.0) -> AbstractAsyncContextManager[Turn]:
        """Wait for the right to poll, not before `after` seconds from now: the most urgent job first."""
        job.schedule(after)
        return self.turn("polls", job=job)

    @asynccontextmanager
    async def turn(
        self, lane: Lane, *, priority: float = 0, model: str | None = None, job: PolledJob | None = None
    ) -> AsyncGenerator[Turn]:
        """Wait for the right to send a request: the highest `priority` first, then first come, first served.

        A paid request takes a turn of "queue"; while its `model` is overloaded, requests for others go ahead.
        Only the failure budget applies to "free", for requests of no known rate. "clean-up" gets half of that
        budget at most: a clean-up may fail.
        """
        clock, queue, since, fresh = self._clock, self._queues[lane], self._clock.monotonic(), False
        while not fresh:
            turn = Turn(lane, priority, model, job, since=since, clock=clock, report=self._report)
            queue.turns.append(turn)
            try:
                if turn.bid(since)[0] > queue.best:
                    queue.again = -math.inf  # it may be granted though the others were not
                self._look()
                await turn.granted.wait()
                await checkpoint_if_cancelled()  # a turn that comes too late is given back, not wasted
                monotonic, wall = turn.asked_at
                fresh = max(clock.monotonic() - monotonic, clock.time() - wall) <= STALE
                if fresh:  # else the process may have been asleep
                    yield turn
            finally:
                if not turn.token:
                    queue.turns.remove(turn)
                else:
                    if not fresh:
                        turn.unsent()
                    elif turn.token in self._held:
                        turn.answered(None, {})
                    if queue.slots is not None:
                        queue.slots.give_back(turn)

    async def aclose(self) -> None:
        """Tell the others how our turns ended, so that they need not wait for us; then close the store."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            if self._store.shared and self._asked_at[0] > -math.inf:
                with suppress(Exception):
                    async with asyncio.timeout(LEAVING):
                        if self._asking is not None:
                            await asyncio.shield(self._asking)
                        self._held.clear()
                        wish = self._wish({}, self._clock.monotonic())
                        await self._store.exchange(evolve(wish, pressure=0.0))
        finally:  # a cancellation, as of `asyncio.run` at its end, leaves no file open
            await self._store.aclose()

    def _look(self) -> None:
        """Ask for turns if it is time to, else set the timer for when it is."""
        now = self._clock.monotonic()
        while self._asking is None and not self._closed:
            ask_at, alive = self._report_at, bool(self._held)
            for queue in self._queues.values():
                if queue.turns:
                    ask_at, alive = min(ask_at, queue.opens(now)), True
            if self._store.shared and (alive or any(model.jobs for model in self._models.values())):
                ask_at = min(ask_at, self._asked_at[0] + ALIVE)
            ask_at = max(ask_at, self._retry_at)
            if self._timer is not None:
                self._timer.cancel()
            if ask_at > now:
                if ask_at < math.inf:
                    nap = max(ask_at - now, _LEAST_NAP)
                    self._timer = asyncio.get_running_loop().call_later(nap, self._look)
                return
            bids: dict[Lane, tuple[Bid, ...]] = {}
            for lane, queue in self._queues.items():
                # Other processes have to know what we bid; alone, we do not rank turns of a closed lane.
                if queue.turns and (self._store.shared or queue.again <= now):
                    bids[lane] = queue.bids(BIDS, now)
            wish = self._wish(bids, now)
            self._asked_at, self._report_at = (now, self._clock.time()), math.inf
            asked = self._store.exchange(wish)
            if asked.done():  # by a store in memory: who has just asked has its turn before it waits
                self._settle(wish, asked, now)
            else:
                self._asking = asked
                asked.add_done_callback(partial(self._answered, wish))

    def _wish(self, bids: Mapping[Lane, tuple[Bid, ...]], now: float) -> Wish:
        if now - self._pressed_at > FRESH:
            self._pressed_at = now
            self._pressure = sum([model.pressure(now) for model in self._models.values()])
        completions, p80s = list[tuple[str, float]](), dict[str, float]()
        for name, model in self._models.items():
            for seconds in model.untold:
                completions.append((name, seconds))
            if model.p80 is not None and model.p80 != self._told_p80s.get(name):
                p80s[name] = model.p80
        return Wish(
            process=self._process,
            limits=self._limits,
            price=self._polling.price,
            bids=bids,
            pressure=self._pressure,
            held=tuple(self._held),
            answers=tuple([evolve(answer, late=now - came) for answer, came in self._answers]),
            completions=tuple(completions),
            p80s=p80s,
            heard=self._grant.heard,
        )

    def _answered(self, wish: Wish, asked: asyncio.Future[Grant]) -> None:
        self._asking = None
        self._settle(wish, asked, self._clock.monotonic())
        self._look()

    def _settle(self, wish: Wish, asked: asyncio.Future[Grant], now: float) -> None:
        """Take in what the store said to a wish, and grant turns."""
        failure = "it was cancelled" if asked.cancelled() else asked.exception()
        if failure is not None:
            if self._retry_at == -math.inf:
                log.warning("Nothing is sent until the ration can be reached: %s", failure)
            self._retry_at, self._report_at, self.trouble = now + RETRY, now, str(failure)
            return
        if self._retry_at > -math.inf:
            log.info("The ration can be reached again")
        self._retry_at, self._grant, self.trouble = -math.inf, asked.result(), ""
        del self._answers[: len(wish.answers)]
        self._told_p80s.update(wish.p80s)
        for name, _ in wish.completions:
            del self._models[name].untold[0]
        for name, p80 in self._grant.p80s.items():
            model = self._models[name]
            if model.p80 is None:
                model.answered(p80, instant=model.instant)
        for name in {name for name, _ in self._grant.completions}:
            self._models[name].learn(*(took for of, took in self._grant.completions if of == name))
        skipped = [lane for lane, queue in self._queues.items() if queue.turns and lane not in wish.bids]
        self._answer_helps = self._grant.answer_helps or (self._answer_helps and bool(skipped))
        if self._answers and self._answer_helps:
            self._report_at = now  # it came meanwhile
        for lane in wish.bids:
            self._queues[lane].again = -math.inf
        for lane, wait in self._grant.again.items():
            self._queues[lane].again = now + max(wait, _LEAST_NAP)
        for lane, token in self._grant.turns:
            turn = self._queues[lane].grant()
            if turn is None:  # whoever bid for it is gone
                self._answers.append((Answer(token=token, unsent=True), now))
                self._report_at = now
            else:
                self._held.add(token)
                turn.token, turn.asked_at = token, self._asked_at
                turn.granted.set()

    def _report(self, turn: Turn, answer: Answer) -> None:
        """Have the store told of an answer, at once if that may help somebody, else with the next wish."""
        if turn.token not in self._held:
            return  # it has ended before
        self._held.remove(turn.token)
        try:
            now = self._clock.monotonic()
        except RuntimeError:  # the event loop was closed before the request ended: nobody is left to tell
            return
        queue = self._queues[turn.lane]
        queue.ended(turn, answer, now)
        self._answers.append((answer, now))
        if answer.unsent or answer.refused is not None or self._answer_helps:
            self._report_at = now
            for each in self._queues.values():
                each.again = -math.inf
        elif self._store.shared:
            self._report_at = min(self._report_at, now + REPORT)
        self._look()
