from __future__ import annotations

import asyncio
import errno
import gc
import itertools
import math
import random
from contextlib import AsyncExitStack, suppress
from typing import Any, Literal, cast

import anyio
import anyio.lowlevel
import pytest
from attrs import define, field

from tests.windows import EPOCH, Window
from venice_async.io.clock import SystemClock
from venice_async.io.pacing.pacer import Pacer
from venice_async.io.pacing.queues import PAID
from venice_async.io.ration.store import MemoryRation
from venice_async.options import Limits, Polling
from venice_async.sansio.limits.ration import Grant, Lane, Ration, Wish
from venice_async.sansio.polling import PolledJob

pytestmark = pytest.mark.anyio
OK: dict[str, str] = {}


class LoopClock:
    """The event loop's time, from 0, and chance that repeats itself."""

    def __init__(self) -> None:
        self._start = anyio.current_time()
        self._chance = random.Random(2)

    def monotonic(self) -> float:
        return anyio.current_time() - self._start

    def time(self) -> float:
        return EPOCH + self.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def chance(self) -> float:
        return self._chance.random()


@pytest.fixture
async def clock() -> LoopClock:
    return LoopClock()


def make(clock: LoopClock, polling: Polling | None = None, **limits: Any) -> Pacer:
    return Pacer(limits=Limits(**limits), polling=polling or Polling(), clock=clock)


@define
class Jobs:
    """Jobs of one model against a server that keeps a window."""

    clock: LoopClock
    pacer: Pacer
    window: Window
    average: float | None = 145.0
    slowest: float = 0.0
    chance: random.Random = field(factory=lambda: random.Random(4))
    polls: list[float] = field(factory=list[float])
    late: list[float] = field(factory=list[float])

    async def run(self, takes: float, *, start: float = 0.0) -> None:
        """Poll one job that starts at that moment until it is done."""
        await self.clock.sleep(start)
        watch = self.pacer.watch("model")
        while True:
            async with self.pacer.poll_turn(watch) as turn:
                await self._way()
                now = self.clock.monotonic()
                allowed, headers = self.window.count(now)
                self.polls.append(now)
                await self._way()
                turn.answered(200 if allowed else 429, headers)
            age = now - start
            if allowed and age >= takes:
                break
            watch.progressed(age=age, average=self.average)
        watch.completed(age=None)
        watch.close()
        self.late.append(age - takes)

    async def _way(self) -> None:
        if self.slowest:
            await self.clock.sleep(self.chance.uniform(0.025, self.slowest / 2))


@pytest.mark.parametrize("kind", ["fixed", "oldest", "all"])
@pytest.mark.parametrize("slowest", [0.0, 1.0])
@pytest.mark.parametrize("count", [1, 10, 150])
async def test_no_poll_is_ever_refused_however_many_jobs_run(
    clock: LoopClock, kind: Literal["fixed", "oldest", "all"], slowest: float, count: int
) -> None:
    chance = random.Random(count)
    jobs = Jobs(clock, make(clock), Window(kind=kind, phase=chance.uniform(0, 60)), slowest=slowest)
    async with anyio.create_task_group() as group:
        for index in range(count):
            group.start_soon(
                lambda takes, start: jobs.run(takes, start=start), chance.gauss(110, 30), index * 0.3
            )
    assert count == len(jobs.late)
    assert 0 == jobs.window.refused


@pytest.mark.parametrize("average", [10.0, 145.0, None])
@pytest.mark.parametrize("slowest", [0.0, 0.5])
async def test_two_hundred_jobs_at_once_take_as_long_as_the_servers_windows_and_two_polls_each(
    clock: LoopClock, average: float | None, slowest: float
) -> None:
    jobs = Jobs(clock, make(clock), Window(), average=average, slowest=slowest)
    async with anyio.create_task_group() as group:
        for _ in range(200):
            group.start_soon(jobs.run, 10.0)
    assert clock.monotonic() <= 72
    assert len(jobs.polls) <= 400
    assert 0 == jobs.window.refused


async def test_a_job_alone_is_noticed_within_about_a_second() -> None:
    chance, late = random.Random(1), list[float]()
    for _ in range(40):
        clock = LoopClock()
        jobs = Jobs(clock, make(clock), Window())
        await jobs.run(chance.lognormvariate(math.log(145.0) - 0.8416 * 0.3, 0.3))
        late += jobs.late
    assert sum(late) / len(late) <= 1.3
    assert sorted(late)[37] <= 3.0


async def poll(pacer: Pacer, watch: PolledJob, *, average: float | None = None, after: float = 0.0) -> float:
    async with pacer.poll_turn(watch, after=after) as turn:
        turn.answered(200, OK)
    watch.progressed(age=None, average=average)
    return anyio.current_time()


async def test_the_first_job_of_a_model_is_polled_at_once_and_no_other(clock: LoopClock) -> None:
    pacer, start = make(clock), anyio.current_time()
    first, second = pacer.watch("a"), pacer.watch("a")
    assert start == await poll(pacer, first, average=145.0)
    assert start + 2 < await poll(pacer, second)
    start = anyio.current_time()
    assert start + 2 < await poll(pacer, pacer.watch("a"))
    start = anyio.current_time()
    assert start == await poll(pacer, pacer.watch("b"))


async def test_if_the_job_that_probes_is_given_up_the_next_one_probes(clock: LoopClock) -> None:
    pacer, start = make(clock), anyio.current_time()
    first, second = pacer.watch("a"), pacer.watch("a")
    first.close()
    first.close()
    assert start == await poll(pacer, second)


async def test_a_job_of_unknown_age_is_polled_at_once(clock: LoopClock) -> None:
    pacer, start = make(clock), anyio.current_time()
    await poll(pacer, pacer.watch("a"))
    watch = pacer.watch("a", age=None)
    assert watch.eta is None
    assert start == await poll(pacer, watch)


async def test_the_gaps_between_polls_of_a_job_keep_their_bounds(clock: LoopClock) -> None:
    pacer = make(clock, Polling(min_gap=2.0, max_gap=9.0))
    watch = pacer.watch("a")
    times = [await poll(pacer, watch, average=40.0) for _ in range(80)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[20:])]
    assert min(gaps) >= 2.0 - 1e-9
    assert max(gaps) <= 9.0 + 1e-9
    assert 2.0 == pytest.approx(min(gaps), abs=0.1)


async def test_however_dear_polls_are_a_job_past_half_of_its_p80_waits_no_longer_than_the_greatest_gap(
    clock: LoopClock,
) -> None:
    pacer = make(clock, Polling(price=1000.0, max_gap=9.0))
    watch = pacer.watch("a")
    times = [
        await poll(pacer, watch, average=100.0) - anyio.current_time() + clock.monotonic() for _ in range(6)
    ]
    assert [0.0, *(50.0 + 9 * index for index in range(5))] == pytest.approx(times, abs=0.1)


async def test_a_retry_is_not_polled_sooner_than_it_asks(clock: LoopClock) -> None:
    pacer, start = make(clock), anyio.current_time()
    assert start + 50 == pytest.approx(await poll(pacer, pacer.watch("a"), after=50.0))


async def test_the_job_that_has_waited_longest_for_its_age_is_polled_first(clock: LoopClock) -> None:
    pacer, order = make(clock, retrieve_per_minute=1), list[str]()
    await poll(pacer, pacer.watch("a", age=1.0), average=100.0)

    async def wait(name: str, watch: PolledJob) -> None:
        await poll(pacer, watch)
        order.append(name)

    async with anyio.create_task_group() as group:
        for name, age in (("young", 5.0), ("old", 90.0), ("middle", 60.0)):
            group.start_soon(wait, name, pacer.watch("a", age=age))
    assert "old" == order[0]


async def test_what_is_learned_moves_the_turns_of_those_who_wait_already(clock: LoopClock) -> None:
    pacer, times = make(clock), list[float]()
    first, second = pacer.watch("a"), pacer.watch("a")

    async def wait() -> None:
        await poll(pacer, second)
        times.append(clock.monotonic())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await clock.sleep(0.5)
        await poll(pacer, first, average=3.0)
        await poll(pacer, first, after=50.0)
    assert times[0] < 4


async def test_who_minds_the_clock_goes_as_soon_as_an_answer_allows_it(clock: LoopClock) -> None:
    pacer, times = make(clock, failures=2), list[float]()

    async def wait() -> None:
        async with pacer.turn("free") as turn:
            turn.answered(200, OK)
        times.append(clock.monotonic())

    async with anyio.create_task_group() as group, pacer.turn("free") as busy:
        group.start_soon(wait)
        await clock.sleep(1)
        busy.answered(200, OK)
        await clock.sleep(1)
    assert [1.0] == times


async def test_queue_turns_go_first_come_first_served_within_their_priority(clock: LoopClock) -> None:
    pacer, order = make(clock, queue_per_minute=1), list[int]()

    async def queue(number: int, priority: int) -> None:
        async with pacer.turn("queue", priority=priority) as turn:
            turn.answered(200, OK)
        order.append(number)

    async with anyio.create_task_group() as group:
        for number, priority in enumerate((0, 0, 0, 5, 5, -1)):
            group.start_soon(queue, number, priority)
            await anyio.lowlevel.checkpoint()
    assert [0, 3, 4, 1, 2, 5] == order


async def test_forty_can_be_queued_at_once_if_the_server_says_so_and_never_more_in_a_window(
    clock: LoopClock,
) -> None:
    pacer, window, times = make(clock), Window(limit=40, phase=13.0), list[float]()

    async def queue() -> None:
        async with pacer.turn("queue") as turn:
            times.append(clock.monotonic())
            turn.answered(200, window.count(clock.monotonic())[1])

    async with anyio.create_task_group() as group:
        for _ in range(120):
            group.start_soon(queue)
    assert 40 == sum(at < 40 for at in times)
    assert 0 == window.refused
    assert times[-1] == pytest.approx(107.1, abs=2)


async def test_the_clients_of_a_process_have_four_paid_requests_on_their_way_together(
    clock: LoopClock,
) -> None:
    on_their_way, most, paid = 0, 0, list[tuple[int, float]]()

    async def pay(number: int, pacer: Pacer, priority: float) -> None:
        nonlocal on_their_way, most
        async with pacer.turn("queue", priority=priority) as turn:
            on_their_way += 1
            most = max(most, on_their_way)
            paid.append((number, priority))
            await clock.sleep(1)
            on_their_way -= 1
            turn.answered(200, OK)

    pacers = [make(clock, queue_per_minute=60_000) for _ in range(3)]
    async with anyio.create_task_group() as group:
        for number, pacer in enumerate(pacers):
            for priority in range(5):
                group.start_soon(pay, number, pacer, priority)
            await clock.sleep(0.5)  # by then the first has taken all
    assert (4, 15) == (most, len(paid))
    for number in (1, 2):
        assert [4, 3, 2, 1, 0] == [priority for other, priority in paid if other == number]
    assert 4 == PAID.free


def test_a_paid_request_that_is_dropped_with_its_event_loop_frees_its_slot() -> None:
    async def pay(pacer: Pacer) -> None:
        async with pacer.turn("queue"):
            await asyncio.sleep(60)

    async def leave() -> None:
        task = asyncio.ensure_future(pay(Pacer(limits=Limits(), polling=Polling(), clock=SystemClock())))
        cast("Any", task)._log_destroy_pending = False  # asyncio's word about it
        await asyncio.sleep(0)
        assert 3 == PAID.free

    loop = asyncio.new_event_loop()
    loop.run_until_complete(leave())
    loop.close()
    del loop
    gc.collect()
    assert 4 == PAID.free


def test_paid_requests_that_outlive_their_closed_event_loop_hold_no_slot() -> None:
    tasks = list[asyncio.Task[None]]()  # as libraries hold them

    async def pay(pacer: Pacer) -> None:
        async with pacer.turn("queue"):
            await asyncio.sleep(60)

    async def leave() -> None:
        pacer = Pacer(limits=Limits(), polling=Polling(), clock=SystemClock())
        tasks.append(asyncio.ensure_future(pay(pacer)))
        await asyncio.sleep(0)
        assert PAID.free == 3

    for _ in range(5):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(leave())
        loop.close()
        assert PAID.free == 4
    for task in tasks:
        cast("Any", task)._log_destroy_pending = False  # asyncio's word about it
        cast("Any", task.get_coro()).close()
    assert PAID.free == 4


async def test_a_pacer_that_is_cancelled_while_it_closes_closes_its_store_all_the_same(
    clock: LoopClock,
) -> None:
    class Silent(MemoryRation):
        shared = True
        closed = False

        def exchange(self, wish: Wish) -> asyncio.Future[Grant]:  # noqa: ARG002 - the signature of the base
            return asyncio.get_running_loop().create_future()

        async def aclose(self) -> None:
            self.closed = True

    store = Silent(Limits(), clock)
    pacer = Pacer(limits=Limits(), polling=Polling(), clock=clock, store=store)
    with anyio.move_on_after(0.01):
        async with pacer.turn("free"):
            pass
    closing = asyncio.create_task(pacer.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait({closing})
    assert closing.cancelled()
    assert store.closed


async def test_a_waiter_that_is_cancelled_frees_its_place_at_once(clock: LoopClock) -> None:
    pacer, done = make(clock, queue_per_minute=1), list[float]()

    async def queue(scope: anyio.CancelScope) -> None:
        with scope:
            async with pacer.turn("queue") as turn:
                turn.answered(200, OK)
            done.append(clock.monotonic())

    scopes = [anyio.CancelScope() for _ in range(4)]
    async with anyio.create_task_group() as group:
        for scope in scopes:
            group.start_soon(queue, scope)
        await clock.sleep(30)
        scopes[1].cancel()  # the one that minds the clock
        scopes[2].cancel()
    assert [0.0, pytest.approx(63.2, abs=0.1)] == done


async def test_a_turn_that_comes_as_its_waiter_is_cancelled_goes_to_the_next(clock: LoopClock) -> None:
    pacer, got = make(clock, failures=2, queue_per_minute=1), list[str]()
    scope = anyio.CancelScope()

    async def wait(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            async with pacer.turn("queue") as turn:
                turn.answered(200, OK)
                got.append(name)

    async with anyio.create_task_group() as group, AsyncExitStack() as stack:
        busy = await stack.enter_async_context(pacer.turn("free"))
        group.start_soon(wait, "cancelled", scope)
        await anyio.lowlevel.checkpoint()
        group.start_soon(wait, "next", anyio.CancelScope())
        await clock.sleep(1)
        busy.answered(200, OK)
        scope.cancel()
    assert ["next"] == got
    assert clock.monotonic() < 2


async def test_a_429_closes_the_endpoint_until_its_reset_and_up_to_a_second(clock: LoopClock) -> None:
    pacer, watch = make(clock), make(clock).watch("x")
    watch = pacer.watch("a")
    async with pacer.poll_turn(watch) as turn:
        turn.answered(429, {"retry-after": "20"})
    async with pacer.turn("queue") as turn:
        turn.answered(200, OK)
        assert 0.0 == clock.monotonic()
    await poll(pacer, watch)
    assert 20 <= clock.monotonic() <= 21


async def test_a_block_of_the_key_stops_everything(clock: LoopClock) -> None:
    pacer = make(clock)
    async with pacer.turn("free") as turn:
        turn.answered(429, {"x-ratelimit-resets": "29"}, b'{"error": "Too many failed attempts (> 20)"}')
    async with pacer.turn("queue") as turn:
        turn.answered(200, OK)
    assert pytest.approx(30.0) == clock.monotonic()


FAILURES_SPENT = {"x-ratelimit-remaining": "0", "x-ratelimit-resets": f"{(EPOCH + 29) * 1000:.0f}"}


async def test_the_account_of_failures_stops_nothing_on_any_other_answer(clock: LoopClock) -> None:
    pacer = make(clock, queue_per_minute=1000)
    failures = FAILURES_SPENT | {"x-ratelimit-remaining": "3"}
    for status, headers in ((502, FAILURES_SPENT), (200, FAILURES_SPENT), (429, failures)):
        async with pacer.turn("queue") as turn:
            turn.answered(status, headers)
        async with pacer.turn("free") as turn:
            turn.answered(200, OK)
        assert 0.0 == clock.monotonic()
    async with pacer.turn("free") as turn:
        turn.answered(429, FAILURES_SPENT)
    async with pacer.turn("free") as turn:
        turn.answered(200, OK)
    assert pytest.approx(29.0) == clock.monotonic()


OVERLOADED = b'{"error": {"code": "MODEL_OVERLOADED"}}'


async def test_an_overloaded_model_holds_up_its_own_jobs_only_and_then_one_of_them_tries(
    clock: LoopClock,
) -> None:
    pacer, sent = make(clock), list[tuple[str, float]]()

    async def queue(model: str, *answers: int) -> None:
        for status in answers:
            async with pacer.turn("queue", model=model) as turn:
                sent.append((model, round(clock.monotonic(), 1)))
                await clock.sleep(0.5)
                turn.answered(status, {"retry-after": "20"} if status == 429 else OK, OVERLOADED)

    async with anyio.create_task_group() as group:
        group.start_soon(queue, "busy", 429, 429, 200)
        await clock.sleep(1)
        for model in ("busy", "busy", "idle"):
            group.start_soon(queue, model, 200)
    assert ("idle", 1.0) == sent[1]
    tries = [at for name, at in sent if name == "busy"]
    assert [0.0, 20.5, 41.0, 41.5] == pytest.approx(tries[:4], abs=0.1)


async def test_a_request_that_is_cancelled_as_it_tries_an_overloaded_model_leaves_it_to_the_next(
    clock: LoopClock,
) -> None:
    pacer, sent = make(clock), list[float]()

    async def queue(scope: anyio.CancelScope) -> None:
        with scope:
            async with pacer.turn("queue", model="busy") as turn:
                sent.append(clock.monotonic())
                await clock.sleep(5)
                turn.answered(200, OK)

    async with pacer.turn("queue", model="busy") as turn:
        turn.answered(429, OK, OVERLOADED)
    async with anyio.create_task_group() as group:
        scopes = [anyio.CancelScope() for _ in range(2)]
        for scope in scopes:
            group.start_soon(queue, scope)
        await clock.sleep(32)
        scopes[0].cancel()
    assert [30.0, 32.0] == pytest.approx(sent)


async def test_after_an_attempt_without_an_answer_one_request_tries_an_overloaded_model_again(
    clock: LoopClock,
) -> None:
    pacer, sent = make(clock), list[float]()

    async def queue(number: int) -> None:
        async with pacer.turn("queue", model="busy") as turn:
            sent.append(clock.monotonic())
            await clock.sleep(5)
            if number == 0:
                turn.unsent()
            elif number > 1:  # the second one is lost
                turn.answered(200, OK)

    async with pacer.turn("queue", model="busy") as turn:
        turn.answered(429, OK, OVERLOADED)
    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(queue, number)
            await anyio.lowlevel.checkpoint()
    assert [30.0, 35.0, 40.0, 45.0, 45.0] == pytest.approx(sent)


@pytest.mark.parametrize("hang", [0.0, 10.0])
async def test_a_server_that_fails_everything_never_sees_twenty_failures_in_thirty_seconds(
    clock: LoopClock, hang: float
) -> None:
    pacer, failures, waiting = make(clock), list[float](), list[int]([0])

    async def fail(kind: Lane) -> None:
        watch = pacer.watch("a")
        while clock.monotonic() < 300:
            async with pacer.poll_turn(watch) if kind == "polls" else pacer.turn(kind) as turn:
                waiting[0] += 1
                recent = sum(at > clock.monotonic() - 30 for at in failures)
                assert recent + waiting[0] < 20
                await clock.sleep(hang)
                waiting[0] -= 1
                failures.append(clock.monotonic())
                if hang:
                    turn.answered(404, OK)

    async with anyio.create_task_group() as group:
        kinds: tuple[Lane, ...] = ("queue", "free", "polls")
        for kind in kinds:
            for _ in range(10):
                group.start_soon(fail, kind)
    assert len(failures) >= 19 * 9


async def test_kinds_take_turns_where_the_failure_budget_lets_few_through(clock: LoopClock) -> None:
    pacer, order = make(clock, failures=2), list[str]()

    async def send(kind: Lane) -> None:
        async with pacer.turn(kind) as turn:
            order.append(kind)
            turn.answered(404, OK)

    async with anyio.create_task_group() as group:
        kinds: tuple[Lane, ...] = ("free", "free", "free", "queue", "queue", "queue")
        for kind in kinds:
            group.start_soon(send, kind)
    assert ["free", "queue"] * 3 == order


async def test_a_turn_that_is_left_without_an_answer_counts_as_failed(clock: LoopClock) -> None:
    pacer = make(clock, failures=2)
    with suppress(OSError):
        async with pacer.turn("free"):
            raise OSError
    with anyio.CancelScope() as scope:
        async with pacer.turn("free"):
            assert pytest.approx(30.1, abs=0.01) == clock.monotonic()
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    async with pacer.turn("free") as turn:
        assert pytest.approx(60.2, abs=0.01) == clock.monotonic()
        turn.answered(200, OK)
        turn.answered(404, OK)
    async with pacer.turn("free") as turn:
        assert pytest.approx(60.2, abs=0.01) == clock.monotonic()
        turn.answered(200, OK)


@pytest.mark.parametrize("limit", [600, 12])
async def test_a_changed_limit_holds_at_once_and_only_for_its_endpoint(clock: LoopClock, limit: int) -> None:
    pacer = make(clock)
    sent: dict[str, int] = {"queue": 0, "poll": 0}

    async def queue() -> None:
        async with pacer.turn("queue") as turn:
            turn.answered(200, {"x-ratelimit-limit-requests": f"{limit}"})
            sent["queue"] += 1

    async def send() -> None:
        async with pacer.poll_turn(pacer.watch("a", age=None)) as turn:
            turn.answered(200, OK)
            sent["poll"] += 1

    with anyio.move_on_after(60):
        async with anyio.create_task_group() as group:
            for _ in range(limit + 100):  # more than the limit lets out
                group.start_soon(queue)
            for _ in range(150):
                group.start_soon(send)
    assert pytest.approx(limit, rel=0.1) == sent["queue"]
    assert pytest.approx(120, rel=0.05) == sent["poll"]


async def test_the_eta_is_the_models_and_unknown_until_it_is_known(clock: LoopClock) -> None:
    pacer = make(clock)
    watch = pacer.watch("a")
    assert watch.eta is None
    watch.progressed(age=30.0, average=145.0)
    assert watch.eta == pytest.approx(62, abs=3)
    watch.progressed(age=math.inf, average=math.inf)
    watch.progressed(age=-1.0, average=-5.0)
    assert watch.eta == pytest.approx(62, abs=3)
    await clock.sleep(20)
    assert watch.eta == pytest.approx(50, abs=3)


async def test_completions_are_learned_but_not_of_jobs_whose_start_was_not_seen(clock: LoopClock) -> None:
    pacer = make(clock)
    for age in (None, 700.0):
        for _ in range(20):
            watch = pacer.watch("a", age=age)
            watch.completed(age=None)
            watch.close()
    assert pacer.watch("a").eta is None
    watches = [pacer.watch("a") for _ in range(40)]
    await clock.sleep(30)
    for watch in watches:
        watch.progressed(age=29.0, average=None)
    await clock.sleep(2)
    for watch in watches:
        watch.completed(age=30.0)
    assert pacer.watch("a").eta == pytest.approx(33, abs=4)


@define
class Store:
    """A ration in another place: half of `takes` seconds away, each way."""

    clock: LoopClock
    takes: float = 0.01
    away: bool = False
    shared: bool = True
    exchanges: int = 0
    ration: Ration = field(factory=lambda: Ration(Limits()))

    def exchange(self, wish: Wish) -> asyncio.Future[Grant]:
        return asyncio.ensure_future(self._exchange(wish))

    async def _exchange(self, wish: Wish) -> Grant:
        await self.clock.sleep(self.takes / 2)
        if self.away:
            raise OSError(errno.EIO, "the disk is away")
        self.exchanges += 1
        grant = self.ration.exchange(wish, self.clock.monotonic())
        await self.clock.sleep(self.takes / 2)
        return grant

    async def aclose(self) -> None:
        pass


def sharing(store: Store) -> Pacer:
    return Pacer(limits=Limits(), polling=Polling(), clock=store.clock, store=store)


@pytest.mark.parametrize("lane", ["free", "queue"])
async def test_a_turn_that_comes_too_late_to_be_fresh_is_given_back_and_asked_for_anew(
    clock: LoopClock, lane: Lane
) -> None:
    store = Store(clock, takes=6.0)
    pacer = sharing(store)

    async def hurry() -> None:
        await clock.sleep(4)
        store.takes = 0.1

    async with anyio.create_task_group() as group:
        group.start_soon(hurry)
        async with pacer.turn(lane) as turn:
            assert 6 <= clock.monotonic() <= 6.5
            turn.answered(200, OK)
    await pacer.aclose()
    assert ({}, 4) == (store.ration.flights, PAID.free)


async def test_while_the_store_is_away_nothing_is_sent_and_afterwards_nothing_is_lost(
    clock: LoopClock, caplog: pytest.LogCaptureFixture
) -> None:
    store, sent = Store(clock), list[float]()
    pacer = sharing(store)

    async def send() -> None:
        async with pacer.turn("queue") as turn:
            sent.append(clock.monotonic())
            turn.answered(200, OK)

    async with anyio.create_task_group() as group, pacer.turn("free") as turn:
        store.away = True
        turn.answered(200, OK)
        for _ in range(2):
            group.start_soon(send)
        await clock.sleep(30)
        assert [] == sent
        store.away = False
    assert 30 <= min(sent) <= max(sent) <= 31
    await pacer.aclose()
    assert {} == store.ration.flights
    says = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert ["Nothing is sent until the ration can be reached: [Errno 5] the disk is away"] == says


async def test_a_waiter_that_is_cancelled_while_its_turn_is_under_way_gives_it_back(clock: LoopClock) -> None:
    store = Store(clock, takes=1.0)
    pacer = sharing(store)
    with anyio.move_on_after(0.7):
        async with pacer.poll_turn(pacer.watch("a")):
            pytest.fail("it was cancelled before")
    await clock.sleep(3)
    assert {} == store.ration.flights
    for _ in range(6):  # the whole burst is there
        async with pacer.poll_turn(pacer.watch("a", age=None)) as turn:
            turn.answered(200, OK)
    await pacer.aclose()


async def test_who_has_jobs_or_turns_gives_word_every_two_seconds_and_the_idle_are_silent(
    clock: LoopClock,
) -> None:
    store = Store(clock)
    pacer = sharing(store)
    async with pacer.turn("free") as turn:
        await clock.sleep(30)
        assert 15 <= store.exchanges <= 17
        turn.answered(200, OK)
    await clock.sleep(1)
    before = store.exchanges
    await clock.sleep(60)
    assert before == store.exchanges
    await pacer.aclose()


async def test_a_process_that_waits_for_a_turn_reports_too_so_that_its_bid_counts(clock: LoopClock) -> None:
    store = Store(clock)
    pacer = Pacer(limits=Limits(queue_per_minute=1), polling=Polling(), clock=clock, store=store)
    for _ in range(2):
        async with pacer.turn("queue") as turn:
            turn.answered(200, OK)
    assert 63 <= clock.monotonic() <= 64
    assert 30 <= store.exchanges <= 36
    await pacer.aclose()


async def test_one_process_learns_from_the_polls_of_another(clock: LoopClock) -> None:
    store = Store(clock)
    old, new = sharing(store), sharing(store)
    for _ in range(10):
        watch = old.watch("model")
        async with old.poll_turn(watch) as turn:
            await clock.sleep(20)
            turn.answered(200, OK)
        watch.progressed(age=None, average=40.0)
        await clock.sleep(1)
        watch.completed(age=None)
        watch.close()
    async with new.turn("free") as turn:
        turn.answered(200, OK)
    eta = new.watch("model").eta
    assert eta is not None
    assert eta == pytest.approx(old.watch("model").eta, rel=0.1)
    await old.aclose()
    await new.aclose()


async def test_leaving_withdraws_the_bids_that_others_would_wait_for(clock: LoopClock) -> None:
    store = Store(clock)
    pacer = sharing(store)
    with anyio.move_on_after(1):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(_poll_for_ever, pacer)
    await pacer.aclose()
    await pacer.aclose()
    assert {} == store.ration.flights
    assert [{}] == [process.bids for process in store.ration.processes.values()]


async def test_leaving_while_the_store_is_asked_gives_back_what_it_grants(clock: LoopClock) -> None:
    store = Store(clock, takes=0.2)
    pacer = sharing(store)
    with anyio.move_on_after(0.05):
        async with pacer.turn("free"):
            pytest.fail("it was cancelled before")
    await pacer.aclose()
    assert (2, {}) == (store.exchanges, store.ration.flights)


async def _poll_for_ever(pacer: Pacer) -> None:
    while True:
        async with pacer.poll_turn(pacer.watch("a", age=None)) as turn:
            turn.answered(200, OK)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})])
async def test_it_hands_out_turns_on_uvloop(anyio_backend: object) -> None:
    clock = LoopClock()
    pacer, times = make(clock, Polling(min_gap=0.01, price=1e-6)), list[float]()

    async def job() -> None:
        watch = pacer.watch("a")
        for _ in range(3):
            times.append(await poll(pacer, watch, average=1.0))

    async with anyio.create_task_group() as group:
        group.start_soon(job)
        group.start_soon(job)
    assert 6 == len(times)
