"""Hands out turns: one pacer per client, shared by all its jobs.

The problem. Every request to the API needs a turn, as the account allows only so many. Many jobs wait at
once, one of them has to be next, and other processes may use the same account.

The idea. The pacer holds those who wait (`queues`), and nothing else: whether there is a turn is the matter
of the ration (`sansio/limits/ration.py`), which lies in a store that processes may share (`io/ration`). The
pacer looks:

    is it time to ask?   no: set a timer for when it is
                         yes: tell the store what our jobs bid and what came of our turns; give each turn that
                              it grants to whom it is due now; look again

It is time to ask when one of these is so:

| what                                           | when                                               |
|------------------------------------------------|----------------------------------------------------|
| somebody is ready                              | at once, or when the store said to come again      |
| somebody new bids more than all others did     | at once                                            |
| an answer came that may open a lane            | at once                                            |
| another answer came, and the store is shared   | 0.3 s later: others may want to know               |
| the store is shared, and we have jobs or turns | every 2 s: who is silent is taken for dead         |
| the store could not be reached                 | half a second later                                |

There is no task: a timer of the loop and the future of the store call back. With a store in memory that
future is done at once, and all happens in one step.

Invariants. Nothing is sent without a turn. A turn has one owner and ends once: answered, lost or given back.
One that was not used within 5 s is given back, for the process may have been asleep. A request that is
cancelled frees its place or its turn at once. While the store is away nothing is sent, nothing is lost, and
everybody waits.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Any

from anyio.lowlevel import checkpoint_if_cancelled
from attrs import evolve

from ...options import Limits, Polling
from ...sansio.http.headers import allowance, failure_allowance, refusal
from ...sansio.limits.ration import Answer, Bid, Grant, Lane, Wish
from ..ration.store import MemoryRation, RationStore
from ..transport import Clock
from .polled_job import PolledJob
from .queues import PAID, FifoQueue, PollQueue, TurnQueue, WaitingPoll, WaitingRequest

REPORT = 0.3  # seconds that an answer waits for company before others are told
STALE = 5.0  # seconds after which a turn that was not used is given back
ALIVE = 2.0  # seconds between two words to the others
RETRY = 0.5  # seconds until a store that could not be reached is tried again
LEAVING = 0.5  # seconds that leaving may take to tell the others
_NO_BID: Bid = (-math.inf, -math.inf)
_LEAST_NAP = 0.001  # seconds: a clock of floats can be asked for less than it can show

log: logging.Logger = logging.getLogger(__name__)


class Turn:
    """The right to send one request now."""

    def __init__(
        self,
        ended: Callable[[int | None, Mapping[str, str], bytes], None],
        given_back: Callable[[], None] = lambda: None,
    ) -> None:
        """Report the outcome to `ended`, or that there is none to `given_back`, once."""
        self._ended: Callable[[int | None, Mapping[str, str], bytes], None] | None = ended
        self._given_back = given_back

    def answered(self, status: int | None, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Report the head of the answer as soon as it is read; `headers` have lower-case names.

        Of a 429 the `body` is wanted, too: it tells a spent limit from a block and from an overloaded model.
        None is no status: a turn that is left without an answer counts as a request that failed.
        """
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(status, headers, body)

    def unsent(self) -> None:
        """Give it back: no request was sent."""
        ended, self._ended = self._ended, None
        if ended is not None:
            self._given_back()


class Pacer:
    """The waiting list of a client: of those that wait for a turn, the most urgent gets the next."""

    def __init__(
        self, *, limits: Limits, polling: Polling, clock: Clock, store: RationStore | None = None
    ) -> None:
        """Start with `limits`, which the answers correct. Without a store nobody else uses the key."""
        self._limits = limits
        self._polling = polling
        self._clock = clock
        self._store = store or MemoryRation(limits, clock)
        self._process = secrets.token_hex(8)
        self._polls = PollQueue()
        self._paid = FifoQueue(PAID)
        self._queues: dict[Lane, TurnQueue[Any]] = {
            "free": FifoQueue(),
            "queue": self._paid,
            "polls": self._polls,
            "clean-up": FifoQueue(),
        }
        self._held: dict[str, None] = {}
        self._answers: list[tuple[Answer, float]] = []  # with the moment at which each came
        self._report_at = math.inf
        self._told_p80s: dict[str, float] = {}
        self._grant = Grant()
        self._again: dict[Lane, float] = {}
        self._asked_at = -math.inf
        self._retry_at = -math.inf
        self._asking: asyncio.Future[Grant] | None = None
        self._best: dict[Lane, Bid] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._closed = False

    def watch(self, model: str, *, age: float | None = 0.0) -> PolledJob:
        """Start watching a job of `model` that was queued `age` seconds ago; None if that is not known."""
        times = self._polls.model(model)
        return PolledJob(times, age=age, clock=self._clock, polling=self._polling)

    def queue_turn(
        self, *, priority: float = 0, model: str | None = None
    ) -> AbstractAsyncContextManager[Turn]:
        """Wait for the right to queue: the highest `priority` first, then first come, first served.

        While `model` is overloaded, requests for others go ahead.
        """
        PAID.join(self._paid, self._look_again)
        return self._turn("queue", WaitingRequest(priority=priority, model=model))

    def poll_turn(self, watch: PolledJob, *, after: float = 0.0) -> AbstractAsyncContextManager[Turn]:
        """Wait for the right to poll, not before `after` seconds from now: the most urgent job first."""
        return self._turn("polls", WaitingPoll(watch=watch, not_before=self._clock.monotonic() + after))

    def free_turn(self) -> AbstractAsyncContextManager[Turn]:
        """Wait for the right to send a request of no known rate: only the failure budget applies."""
        return self._turn("free", WaitingRequest())

    def clean_up_turn(self) -> AbstractAsyncContextManager[Turn]:
        """Wait for the right to clean up, which gets half of the failure budget at most: it may fail."""
        return self._turn("clean-up", WaitingRequest())

    async def aclose(self) -> None:
        """Tell the others what came of our turns, so that they need not wait for our word; then let go."""
        self._closed = True
        PAID.leave(self._paid)
        if self._timer is not None:
            self._timer.cancel()
        if self._store.shared and self._asked_at > -math.inf:
            with suppress(Exception):
                async with asyncio.timeout(LEAVING):
                    if self._asking is not None:
                        await asyncio.shield(self._asking)
                    self._held.clear()
                    await self._store.exchange(self._wish(self._clock.monotonic(), leaving=True))
        await self._store.aclose()

    @asynccontextmanager
    async def _turn(self, lane: Lane, request: WaitingRequest) -> AsyncGenerator[Turn]:
        while True:
            await self._wait(lane, request)
            monotonic, wall = request.asked_at
            if max(self._clock.monotonic() - monotonic, self._clock.time() - wall) <= STALE:
                break
            self._give_back(lane, request)
        turn = Turn(partial(self._ended, lane, request), partial(self._give_back, lane, request))
        try:
            yield turn
        finally:
            turn.answered(None, {})
            self._queues[lane].left(request)
            self._look_again()

    async def _wait(self, lane: Lane, request: WaitingRequest) -> None:
        queue, now = self._queues[lane], self._clock.monotonic()
        bid = queue.enter(request, now)
        if bid > self._best.get(lane, _NO_BID):
            self._again.pop(lane, None)  # it may be worth a turn that the others were not
        self._look()
        try:
            await request.event.wait()
            await checkpoint_if_cancelled()  # a turn that comes too late is given back, not wasted
        except BaseException:
            if not request.token:
                queue.withdraw(request)
            else:
                self._give_back(lane, request)
            raise

    def _look(self) -> None:
        """Ask for turns if it is time to, else set the timer for when it is; one that is earlier stays."""
        while self._asking is None and not self._closed:
            now = self._clock.monotonic()
            ask_at = self._report_at
            for lane, queue in self._queues.items():
                ask_at = min(ask_at, max(queue.opens(now), self._again.get(lane, now)))
            if self._store.shared and (self._held or any(one.watches for one in self._polls.models.values())):
                ask_at = min(ask_at, self._asked_at + ALIVE)
            ask_at = max(ask_at, self._retry_at)
            if ask_at > now:
                if ask_at < self._timer_at:
                    if self._timer is not None:
                        self._timer.cancel()
                    after, loop = max(ask_at - now, _LEAST_NAP), asyncio.get_running_loop()
                    self._timer, self._timer_at = loop.call_later(after, self._on_timer), ask_at
                return
            wish, asked_at = self._wish(now), (now, self._clock.time())
            self._asked_at, self._report_at = now, math.inf
            self._best = {lane: bids[0] for lane, bids in wish.bids.items()}
            answers, self._answers = self._answers, []
            self._asking = self._store.exchange(wish)
            if not self._asking.done():
                self._asking.add_done_callback(partial(self._answered, wish, answers, asked_at))
                return
            self._settle(wish, answers, asked_at)

    def _on_timer(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._look()

    def _wish(self, now: float, *, leaving: bool = False) -> Wish:
        models = self._polls.models
        queues = {} if leaving else self._queues
        return Wish(
            process=self._process,
            limits=self._limits,
            price=self._polling.price,
            bids={lane: queue.bids(now) for lane, queue in queues.items() if queue.opens(now) <= now},
            pressure=0.0 if leaving else self._polls.pressure(now),
            held=tuple(self._held),
            answers=tuple(evolve(answer, late=now - came) for answer, came in self._answers),
            completions=tuple((name, seconds) for name, model in models.items() for seconds in model.untold),
            p80s={
                name: model.p80
                for name, model in models.items()
                if model.p80 is not None and model.p80 != self._told_p80s.get(name)
            },
            heard=self._grant.heard,
        )

    def _answered(
        self,
        wish: Wish,
        answers: list[tuple[Answer, float]],
        asked_at: tuple[float, float],
        _: asyncio.Future[Grant],
    ) -> None:
        self._settle(wish, answers, asked_at)
        self._look()

    def _settle(self, wish: Wish, answers: list[tuple[Answer, float]], asked_at: tuple[float, float]) -> None:
        """Take in what the store said."""
        asked, self._asking = self._asking, None
        assert asked is not None  # noqa: S101 - this is what became of it
        if asked.cancelled() or asked.exception() is not None:
            self._answers, self._report_at = answers + self._answers, self._clock.monotonic()
            if self._retry_at == -math.inf:
                log.warning("Nothing is sent until the ration can be reached: %s", asked.exception())
            self._retry_at = self._clock.monotonic() + RETRY
            return
        if self._retry_at > -math.inf:
            log.info("The ration can be reached again")
        self._retry_at = -math.inf
        now = self._clock.monotonic()
        grant = self._grant = asked.result()
        self._told_p80s.update(wish.p80s)
        for name in {name for name, _ in wish.completions}:
            told = sum(name == other for other, _ in wish.completions)
            del self._polls.models[name].untold[:told]
        for name, p80 in grant.p80s.items():
            self._polls.model(name).hear(p80)
        for name, seconds in grant.completions:
            self._polls.model(name).learn(seconds)
        for lane in self._queues:
            tokens = [token for of_lane, token in grant.turns if of_lane == lane]
            if tokens:
                self._give(lane, tokens, now, asked_at)
        self._again = {lane: now + after for lane, after in grant.again.items()}

    def _give(self, lane: Lane, tokens: list[str], now: float, asked_at: tuple[float, float]) -> None:
        """Give turns to whom they are due; those who asked may be gone."""
        self._held.update(dict.fromkeys(tokens))
        requests = self._queues[lane].grant(len(tokens), now)
        for request, token in zip(requests, tokens, strict=False):
            request.token, request.asked_at = token, asked_at
            request.event.set()
        for token in tokens[len(requests) :]:
            self._report(Answer(token=token, unsent=True))

    def _give_back(self, lane: Lane, request: WaitingRequest) -> None:
        self._queues[lane].ended(request, self._clock.monotonic(), overloaded_for=None)
        self._queues[lane].left(request)
        self._report(Answer(token=request.token, unsent=True))
        request.token = ""
        request.event.clear()

    def _ended(
        self,
        lane: Lane,
        request: WaitingRequest,
        status: int | None,
        headers: Mapping[str, str],
        body: bytes,
    ) -> None:
        now, unix = self._clock.monotonic(), self._clock.time()
        refused = refusal(headers, body, unix) if status == HTTPStatus.TOO_MANY_REQUESTS else None
        overloaded = refused is not None and refused.reason == "overloaded"
        self._queues[lane].ended(
            request, now, overloaded_for=refused.wait if refused and overloaded else None
        )
        answer = Answer(
            token=request.token,
            status=status,
            told=allowance(headers, unix),
            failures=failure_allowance(headers, unix),
            refused=refused,
            chance=self._clock.chance() if refused is not None else 0.0,
        )
        self._report(answer)

    def _report(self, answer: Answer) -> None:
        """Have the store told of an answer, at once if that may help somebody, else with the next wish."""
        now = self._clock.monotonic()
        self._held.pop(answer.token, None)
        self._answers.append((answer, now))
        if answer.unsent or answer.refused is not None or self._grant.answer_helps:
            self._report_at = now
            self._again.clear()
        elif self._store.shared:
            self._report_at = min(self._report_at, now + REPORT)
        self._look_again()

    def _look_again(self) -> None:
        with suppress(RuntimeError):  # the loop is closing, and nobody waits
            self._look()
