"""Hands out turns: one arbiter per client, shared by all its jobs."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any

import anyio

from ...options import Limits, Polling
from ...sansio.http.headers import Refusal, allowance, failure_allowance, refusal
from ...sansio.limits.bucket import Bucket
from ...sansio.limits.failures import FailureBudget
from ...sansio.limits.ledger import Sent
from ..transport import Clock
from .polled_job import PolledJob
from .queues import FifoQueue, R, TurnQueue, UrgencyQueue, WaitingPoll, WaitingRequest

_LEAST_NAP = 0.001  # seconds: a clock of floats can be asked for less than it can show


class Turn:
    """The right to send one request now."""

    def __init__(self, ended: Callable[[int | None, Mapping[str, str], bytes], None]) -> None:
        """Report the outcome to `ended`, once."""
        self._ended: Callable[[int | None, Mapping[str, str], bytes], None] | None = ended

    def answered(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Report the head of the answer as soon as it is read; `headers` have lower-case names.

        Of a 429 the `body` is wanted, too: it tells a spent limit from a block and from an overloaded model.
        A turn that is left without an answer counts as a request that failed.
        """
        self._end(status, headers, body)

    def left(self) -> None:
        """Count the request as failed unless it was answered."""
        self._end(None, {}, b"")

    def _end(self, status: int | None, headers: Mapping[str, str], body: bytes) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(status, headers, body)


class Pacer:
    """One budget for all jobs of a key: of those that wait for a turn, the most urgent gets the next.

    It has no task of its own. Of the requests that wait, one sleeps until the next turn can be had and hands
    out what there is then; the others wait for theirs. A request that is cancelled frees its place at once.
    """

    def __init__(self, *, limits: Limits, polling: Polling, clock: Clock) -> None:
        """Start with `limits`, which the answers' headers correct."""
        self._clock = clock
        self._failures = FailureBudget(limits.failures)
        retrieve, queue = limits.retrieve_per_minute, limits.queue_per_minute
        self._polls = UrgencyQueue(Bucket(retrieve, share=limits.share), polling=polling, clock=clock)
        self._queue = FifoQueue(Bucket(queue, share=limits.share))
        self._free = FifoQueue()
        self._lanes: list[TurnQueue[Any]] = [
            self._free,
            self._queue,
            self._polls,
        ]  # the last served comes last
        self._waiting: dict[WaitingRequest, None] = {}
        self._blocked_until = -math.inf
        self._answer_helps = False  # whether an answer may let somebody go before `_wake_at`
        self._wake_at = math.inf
        self._leader: WaitingRequest | None = None  # of those who wait, the one who minds the clock
        self._nap = anyio.CancelScope()  # in which the leader sleeps
        self._nap_until = -math.inf

    def watch(self, model: str, *, age: float | None = 0.0) -> PolledJob:
        """Start watching a job of `model` that was queued `age` seconds ago; None if that is not known."""
        return self._polls.watch(model, age)

    def queue_turn(self, *, priority: int = 0, model: str | None = None) -> AbstractAsyncContextManager[Turn]:
        """Wait for the right to queue: the highest `priority` first, then first come, first served.

        While `model` is overloaded, requests for others go ahead.
        """
        return self._turn(self._queue, WaitingRequest(rank=-priority, model=model))

    def poll_turn(self, watch: PolledJob, *, after: float = 0.0) -> AbstractAsyncContextManager[Turn]:
        """Wait for the right to poll, not before `after` seconds from now: the most urgent job first."""
        return self._turn(self._polls, WaitingPoll(watch=watch, not_before=self._clock.monotonic() + after))

    def free_turn(self) -> AbstractAsyncContextManager[Turn]:
        """Wait for the right to send a request of no known rate: only the failure budget applies."""
        return self._turn(self._free, WaitingRequest())

    @asynccontextmanager
    async def _turn(self, lane: TurnQueue[R], request: R) -> AsyncGenerator[Turn]:
        await self._wait(lane, request)
        turn = Turn(partial(self._ended, lane, request))
        try:
            yield turn
        finally:
            turn.left()

    async def _wait(self, lane: TurnQueue[R], request: R) -> None:
        self._waiting[request] = None
        earliest = lane.enter(request, self._clock.monotonic())
        if self._leader is None or earliest < self._wake_at:
            self._hand_out()
        try:
            while not request.granted:
                await self._mind(request)
        except BaseException:
            self._withdraw(lane, request)
            raise
        finally:
            self._appoint()

    async def _mind(self, request: WaitingRequest) -> None:
        """Sleep until there may be a turn to hand out, if nobody else does; otherwise until there is news."""
        if self._leader is not None:
            await request.event.wait()
            if not request.granted:
                request.event.clear()
            return
        self._leader = request
        try:
            with anyio.CancelScope() as self._nap:
                await self._sleep()
        finally:
            self._leader = None
        if not request.granted:
            self._hand_out()

    async def _sleep(self) -> None:
        self._nap_until = self._wake_at
        if self._wake_at == math.inf:
            await anyio.sleep_forever()
        await self._clock.sleep(max(self._wake_at - self._clock.monotonic(), _LEAST_NAP))

    def _appoint(self) -> None:
        """Have somebody who waits mind the clock."""
        if self._leader is None and self._waiting:
            next(iter(self._waiting)).event.set()

    def _withdraw(self, lane: TurnQueue[R], request: R) -> None:
        self._waiting.pop(request, None)
        if not request.granted:
            lane.withdraw(request)
            return
        self._failures.give_back()
        lane.ended(request, self._clock.monotonic(), overloaded_for=None)
        if lane.bucket is not None and request.sent is not None:
            lane.bucket.give_back(request.sent)
        self._hand_out()

    def _hand_out(self) -> None:
        """Give every turn that there is, and note when to look again."""
        now = self._clock.monotonic()
        while (lane := self._open_lane(now)) is not None:
            self._grant(lane, now)
        if self._leader is not None and self._wake_at < self._nap_until:
            self._nap.cancel()

    def _open_lane(self, now: float) -> TurnQueue[Any] | None:
        """Return the lane that is due a turn; None if there is none to be had, and note when there may be."""
        budget = self._failures.opens(now)
        opens = [lane.opens(now) for lane in self._lanes]
        self._answer_helps = budget is None or budget > now or any(lane.held for lane in self._lanes)
        self._wake_at = max(math.inf if budget is None else budget, min(opens), self._blocked_until)
        if self._wake_at > now:
            return None
        return next(lane for lane, when in zip(self._lanes, opens, strict=True) if when <= now)

    def _grant(self, lane: TurnQueue[Any], now: float) -> None:
        self._lanes.remove(lane)
        self._lanes.append(lane)
        request: WaitingRequest = lane.grant(now)
        self._failures.take()
        del self._waiting[request]
        request.granted = True
        request.event.set()
        if request is self._leader:
            self._nap.cancel()

    def _ended(
        self, lane: TurnQueue[R], request: R, status: int | None, headers: Mapping[str, str], body: bytes
    ) -> None:
        now, unix = self._clock.monotonic(), self._clock.time()
        refused = refusal(headers, body, unix) if status == HTTPStatus.TOO_MANY_REQUESTS else None
        self._failures.ended(now, status, failure_allowance(headers, unix))
        if refused is not None and refused.reason == "blocked":
            self._blocked_until = max(self._blocked_until, now + (refused.wait or 0.0))
        if lane.bucket is not None and request.sent is not None:
            self._account(lane.bucket, request.sent, status, headers, refused)
        overloaded = refused is not None and refused.reason == "overloaded"
        lane.ended(request, now, overloaded_for=refused.wait if refused is not None and overloaded else None)
        if self._answer_helps and self._waiting:
            self._hand_out()

    def _account(
        self,
        bucket: Bucket,
        sent: Sent,
        status: int | None,
        headers: Mapping[str, str],
        refused: Refusal | None,
    ) -> None:
        now, told = self._clock.monotonic(), allowance(headers, self._clock.time())
        if status is None or (refused is not None and refused.reason == "blocked"):
            bucket.lost(sent, now)
        elif refused is not None and refused.reason == "limited":
            bucket.refused(sent, told, now, wait=refused.wait, chance=self._clock.chance())
        else:
            bucket.answered(sent, told, now)
