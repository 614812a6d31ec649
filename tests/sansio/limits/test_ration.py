"""The ration that processes share: never too much, whatever they do, and nobody starves."""

from __future__ import annotations

import heapq
import itertools
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from attrs import define, evolve, field
from hypothesis import given
from hypothesis import strategies as st

from tests.windows import EPOCH, Window
from venice_async.options import Limits
from venice_async.sansio.http.headers import Allowance, Refusal, allowance
from venice_async.sansio.limits.ration import (
    BIDS,
    Answer,
    Bid,
    Lane,
    Ration,
    UnknownVersionError,
    Wish,
    dump,
    load,
)

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = Limits(retrieve_per_minute=120, queue_per_minute=40)
SLOW = Limits(retrieve_per_minute=1, queue_per_minute=1)
STORED = Path(__file__).with_name("ration.json")  # by the version that was first to share one
STALE = 5.0  # seconds after which processes give a turn back

windows = st.builds(
    Window,
    limit=st.sampled_from([1, 3, 10, 40]),
    kind=st.sampled_from(["fixed", "oldest", "all"]),
    phase=st.floats(0, 60),
    unit=st.sampled_from(["milliseconds", "seconds"]),
)
chances = st.integers(0, 2**32).map(random.Random)


def wish(process: str = "a", limits: Limits = LIMITS, **facts: Any) -> Wish:
    return Wish(process=process, limits=limits, price=0.03, **facts)


def polls(*urgencies: float) -> dict[Lane, tuple[Bid, ...]]:
    return {"polls": tuple((urgency, 0.0) for urgency in urgencies)}


def take(ration: Ration, now: float, process: str = "a", lane: Lane = "polls") -> str:
    """Return the token of a turn that is granted, and held beside the others."""
    held = tuple(ration.flights)
    asks = wish(process, ration.limits, bids={lane: ((1e6, 0.0),)}, held=held)
    ((_, token),) = ration.exchange(asks, now).turns
    return token


@define
class Fleet:
    """Processes that want polls without end from one ration, which a window of the server's has to bear.

    They send late, sleep over a turn, die with some on their way, lose the store's answer, and tell nonsense
    of time.
    """

    window: Window
    chance: random.Random
    processes: int
    told: bool = True
    ration: Ration = field(init=False)
    sent: int = 0
    _events: list[tuple[float, int, Callable[[float], None]]] = field(factory=list, init=False)
    _order: itertools.count[int] = field(factory=itertools.count, init=False)
    _held: dict[str, set[str]] = field(factory=dict, init=False)
    _answers: dict[str, list[Answer]] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.ration = Ration.spent(Limits(retrieve_per_minute=self.window.limit), 0.0)

    def run(self, seconds: float) -> None:
        for number in range(self.processes):
            self._at(self.chance.uniform(0, 5), self._born(f"{number}"))
        while self._events and self._events[0][0] <= seconds:
            now, _, act = heapq.heappop(self._events)
            act(now)

    def _at(self, when: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), act))

    def _born(self, name: str) -> Callable[[float], None]:
        self._held[name], self._answers[name] = set(), []
        return lambda now: self._ask(name, now)

    def _ask(self, name: str, now: float) -> None:
        chance = self.chance
        asks = Wish(
            process=name,
            limits=self.ration.limits,
            price=0.03,
            bids=polls(*sorted((chance.expovariate(1) for _ in range(BIDS)), reverse=True)),
            pressure=chance.uniform(0, 3),
            held=tuple(self._held[name]),
            answers=tuple(self._answers[name]),
        )
        self._answers[name] = []
        if self.window.limit < 40 or chance.random() < 1 / 8:  # a large one takes long to write down
            copy = load(dump(self.ration))
            assert copy is not None
            assert copy == self.ration
            self.ration = copy
        grant = self.ration.exchange(asks, now)
        if chance.random() < 0.02:  # the store's answer is lost
            self._at(now + 0.5, lambda now: self._ask(name, now))
            return
        for _, token in grant.turns:
            self._held[name].add(token)
            self._use(name, token, now)
        fate = chance.random()
        if fate < 0.01:  # it dies, and another one is started
            self._at(now + chance.uniform(0, 20), self._born(f"{name}'"))
        else:
            again = min([*grant.again.values(), 1.0]) if not grant.turns else 0.0
            asleep = chance.uniform(0, 40) if fate < 0.03 else 0.0
            self._at(now + again + asleep + chance.uniform(0.001, 0.3), lambda now: self._ask(name, now))

    def _use(self, name: str, token: str, granted: float) -> None:
        """Send a request on a turn, a little later or after a sleep."""
        asleep = self.chance.uniform(0, 30) if self.chance.random() < 0.05 else self.chance.uniform(0, 0.01)
        self._at(granted + asleep, lambda now: self._send(name, token, granted, now))

    def _send(self, name: str, token: str, granted: float, now: float) -> None:
        if now - granted > STALE:
            self._end(name, Answer(token=token, unsent=True))
        else:
            self._at(now + self.chance.uniform(0.01, 0.5), lambda now: self._count(name, token, now))

    def _count(self, name: str, token: str, now: float) -> None:
        self.sent += 1
        allowed, headers = self.window.count(now)
        told = allowance(headers, EPOCH + now) if self.told else Allowance()
        late = self.chance.choice([0.0, 0.3, -5.0, 1e9])  # by a clock that lies
        refused = None if allowed else Refusal(reason="limited")
        answer = Answer(token=token, status=200 if allowed else 429, told=told, refused=refused, late=late)
        if self.chance.random() < 0.02:
            answer = Answer(token=token)  # lost on its way
        self._at(now + self.chance.uniform(0.01, 0.5), lambda _: self._end(name, answer))

    def _end(self, name: str, answer: Answer) -> None:
        self._held[name].discard(answer.token)
        self._answers[name].append(answer)


@given(window=windows, chance=chances, processes=st.integers(1, 6), told=st.booleans())
def test_no_window_refuses_a_fleet_whatever_its_processes_do(
    window: Window, chance: random.Random, processes: int, *, told: bool
) -> None:
    fleet = Fleet(window, chance, processes, told=told)
    fleet.run(240.0)
    assert 0 == window.refused
    assert fleet.sent >= window.limit  # a turn of the dead costs those of a limit of one 75 s
    if not told:
        assert window.most_in_any() <= window.limit


@given(
    weights=st.lists(st.floats(0.1, 10), min_size=2, max_size=6),
    chance=chances,
)
def test_whoever_wants_a_turn_more_the_longer_it_waits_has_one_in_the_end(
    weights: list[float], chance: random.Random
) -> None:
    ration, now = Ration(LIMITS), 0.0
    last, longest = dict.fromkeys(range(len(weights)), 0.0), 0.0
    asks = [(0.0, number) for number in last]
    while now < 120:
        now, number = heapq.heappop(asks)
        urgency = weights[number] * (now - last[number])
        held = tuple(token for token, flight in ration.flights.items() if flight.process == f"{number}")
        answers = tuple(Answer(token=token, status=200) for token in held)
        grant = ration.exchange(wish(f"{number}", bids=polls(urgency), pressure=9.0, answers=answers), now)
        if grant.turns:
            longest, last[number] = max(longest, now - last[number]), now
        again = grant.again.get("polls", 0.0)
        heapq.heappush(asks, (now + again + chance.uniform(0.001, 0.02), number))
    assert max(longest, now - min(last.values())) < 2 * sum(weights) / min(weights) + 5


def test_a_turn_is_kept_a_quarter_of_a_second_for_a_higher_bid_and_then_given_to_who_comes() -> None:
    ration = Ration(LIMITS)
    for _ in range(6):
        take(ration, 0.0, "high")
    assert () == ration.exchange(wish("high", bids=polls(9.0), held=tuple(ration.flights)), 0.1).turns
    for now, turns in ((0.55, 0), (0.7, 0), (0.81, 1)):
        assert turns == len(ration.exchange(wish("low", bids=polls(1.0)), now).turns)


def test_who_is_put_off_comes_again_later_the_more_bids_are_above_its_own() -> None:
    def again(*above: float) -> float:
        ration = Ration(LIMITS)
        for _ in range(6):
            take(ration, 0.0, "x")
        ration.exchange(wish("other", bids=polls(*above)), 0.0)
        return ration.exchange(wish(bids=polls(5.0)), 0.3).again["polls"]

    waits = [again(*above) for above in ((1.0,), (9.0,), (9.0, 9.0), (9.0,) * 8)]
    assert [0.23, 0.73, 1.0, 1.0] == pytest.approx(waits, abs=0.01)


def test_bids_and_pressure_of_the_silent_lapse_after_three_seconds() -> None:
    ration = Ration(LIMITS)
    ration.exchange(wish("high", bids=polls(9.0), pressure=1e3), 0.0)
    for _ in range(7):
        ration.polls.take(0.0)
    assert () == ration.exchange(wish("low", bids=polls(1.0)), 0.6).turns
    assert 1 == len(ration.exchange(wish("low", bids=polls(1.0)), 3.1).turns)


def test_the_turns_of_the_dead_end_fifteen_seconds_after_their_last_word_and_count_for_a_minute_more() -> (
    None
):
    ration = Ration(SLOW)
    take(ration, 0.0, "dead")
    grant = ration.exchange(wish("b", SLOW, bids=polls(1.0)), 14.0)
    assert (1, 2, 1.0) == (len(ration.flights), len(ration.processes), grant.again["polls"])
    grant = ration.exchange(wish("b", SLOW, bids=polls(1.0)), 15.0)
    assert ({}, ["b"]) == (ration.flights, list(ration.processes))
    assert pytest.approx(60.1) == grant.again["polls"]


def test_a_turn_whose_grant_was_never_received_ends_with_the_next_wish() -> None:
    ration = Ration(LIMITS)
    lost, kept = take(ration, 0.0), take(ration, 0.0, "b")
    ration.exchange(wish(), 1.0)
    assert [kept] == [*ration.flights]
    ration.exchange(wish(answers=(Answer(token=lost, status=200),)), 2.0)  # which is no news by now
    ration.exchange(wish(answers=(Answer(token=kept, status=200),)), 2.0)  # and this is not its own
    assert [kept] == [*ration.flights]


def test_a_turn_that_is_given_back_leaves_no_trace() -> None:
    ration = Ration(SLOW)
    token = take(ration, 0.0)
    grant = ration.exchange(
        wish("a", SLOW, answers=(Answer(token=token, unsent=True),), bids=polls(1.0)), 1.0
    )
    assert 1 == len(grant.turns)


def test_the_failure_budget_and_the_block_are_everybodys() -> None:
    ration, failed = Ration(LIMITS), Answer(token="", status=404)
    for _ in range(19):
        token = take(ration, 0.0, lane="free")
        ration.exchange(wish(answers=(evolve(failed, token=token),)), 0.0)
    grant = ration.exchange(wish("b", bids={"free": ((0.0, 0.0),)}), 1.0)
    assert ((), True) == (grant.turns, grant.answer_helps)
    token = take(ration, 31.0, lane="free")
    blocked = Refusal(reason="blocked", wait=20.0)
    ration.exchange(wish(answers=(Answer(token=token, status=429, refused=blocked),)), 31.0)
    for lane in ("free", "queue", "polls"):
        assert () == ration.exchange(wish("b", bids={lane: ((1.0, 0.0),)}), 50.9).turns
    assert 1 == len(ration.exchange(wish("b", bids={"free": ((1.0, 0.0),)}), 51.0).turns)
    assert {"blocked": 1} == ration.refusals


def test_clean_ups_get_half_of_the_failure_budget_and_never_hold_up_the_rest() -> None:
    ration = Ration(LIMITS)
    bids: dict[Lane, tuple[Bid, ...]] = {"clean-up": ((0.0, 0.0),) * BIDS}
    first = ration.exchange(wish(bids=bids), 0.0).turns
    second = ration.exchange(wish(bids=bids, held=tuple(token for _, token in first)), 0.0).turns
    assert 9 == len(first) + len(second)
    held = tuple(token for _, token in first + second)
    assert 1 == len(ration.exchange(wish(bids={"free": ((0.0, 0.0),)}, held=held), 0.0).turns)


def test_of_several_limits_the_least_of_the_living_counts() -> None:
    ration = Ration(LIMITS)
    ration.exchange(wish("small", limits=Limits(retrieve_per_minute=12, share=0.5, failures=5)), 0.0)
    ration.exchange(wish("large", limits=Limits(retrieve_per_minute=600, failures=50)), 0.0)
    assert (12, 0.5, 5) == (ration.polls.limit, ration.polls.share, ration.limits.failures)
    ration.exchange(wish("large", limits=Limits(retrieve_per_minute=600, failures=50)), 15.0)
    assert (600, 1.0, 50) == (ration.polls.limit, ration.polls.share, ration.limits.failures)


def test_paid_requests_go_by_priority_and_then_by_who_has_waited_longest_in_any_process() -> None:
    ration = Ration(SLOW)
    token = take(ration, 0.0, "x", "queue")
    ration.exchange(wish("x", SLOW, answers=(Answer(token=token, status=200),)), 0.0)
    wishes = {
        name: wish(name, SLOW, bids={"queue": (bid,)})
        for name, bid in {"urgent": (5.0, 0.0), "patient": (0.0, 50.0), "late": (0.0, 1.0)}.items()
    }
    for one in wishes.values():
        assert () == ration.exchange(one, 63.0).turns
    turns = {name: len(ration.exchange(wishes[name], 63.3).turns) for name in ("late", "patient", "urgent")}
    assert {"late": 0, "patient": 0, "urgent": 1} == turns


def test_what_a_process_learns_of_a_model_is_passed_on_once_and_not_to_itself() -> None:
    ration = Ration(LIMITS)
    ration.exchange(wish("a", completions=(("m", 50.0), ("n", 7.0)), p80s={"m": 60.0}), 0.0)
    heard = ration.exchange(wish("b", completions=(("m", 55.0),)), 1.0)
    assert ((("m", 50.0), ("n", 7.0)), {"m": 60.0}) == (heard.completions, heard.p80s)
    assert () == ration.exchange(wish("b", heard=heard.heard), 2.0).completions
    assert (("m", 55.0),) == ration.exchange(wish("a"), 2.0).completions


def test_a_clock_that_went_back_stops_time_and_gives_nothing() -> None:
    ration = Ration(SLOW)
    take(ration, 1000.0)
    grant = ration.exchange(wish("b", SLOW, bids=polls(1.0)), 3.0)
    assert ((), 1000.0) == (grant.turns, ration.latest)


def test_a_value_that_is_new_starts_evenly_without_its_burst() -> None:
    ration, sent = Ration.spent(LIMITS, 100.0), list[float]()
    for tenth in range(50):
        now = 100 + tenth / 10
        held = tuple(ration.flights)
        sent += [now for _ in ration.exchange(wish(bids=polls(*[1e6] * 8), held=held), now).turns]
    assert [100.0, 100.6, 101.1] == pytest.approx(sent[:3])
    assert 10 >= len(sent)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"version": 1}', '{"version": 1, "ration": {"latest": []}}']
)
def test_a_value_that_is_damaged_is_none(text: str) -> None:
    assert load(text) is None


def test_a_value_of_another_version_is_not_guessed_at() -> None:
    text = json.dumps(json.loads(dump(Ration(LIMITS))) | {"version": 2})
    with pytest.raises(UnknownVersionError, match="has version 2"):
        load(text)


def test_a_value_is_json_of_a_few_thousand_characters_even_when_it_is_busy() -> None:
    ration = Ration(LIMITS)
    for tenth in range(1200):
        answers = tuple(Answer(token=token, status=200) for token in ration.flights)
        ration.exchange(wish(bids=polls(1.0, 2.0), answers=answers, completions=(("m", 3.0),)), tenth / 10)
    text = dump(ration)
    assert len(text) < 12_000
    json.loads(text, parse_constant=pytest.fail)
    assert ration == load(text)


def test_a_value_that_was_stored_before_is_read_and_written_alike() -> None:
    text = STORED.read_text(encoding="utf-8").strip()
    ration = load(text)
    assert ration is not None
    assert text == dump(ration)
    assert (63, 3, 2) == (ration.turns, len(ration.flights), ration.queue.used(1037.0))


def test_a_turn_outside_the_rate_limits_that_was_not_used_leaves_nothing_behind() -> None:
    ration = Ration(LIMITS)
    token = take(ration, 0.0, lane="free")
    ration.exchange(wish(answers=(Answer(token=token, unsent=True),)), 1.0)
    assert {} == ration.flights


@pytest.mark.parametrize(("one_clock", "until"), [(True, 36.0), (False, 40.0)])
def test_a_wait_begins_when_its_answer_came_if_the_clock_of_whoever_reports_it_is_ours(
    *, one_clock: bool, until: float
) -> None:
    ration = Ration(LIMITS, one_clock=one_clock)
    refused = Refusal(reason="blocked", wait=30.0)
    answer = Answer(token=take(ration, 0.0), status=429, refused=refused, late=4.0)
    ration.exchange(wish(answers=(answer,)), 10.0)
    assert until == ration.blocked_until


def test_a_block_holds_everything_back_for_as_long_as_the_server_says() -> None:
    ration = Ration(LIMITS)
    refused = Refusal(reason="blocked", wait=30.0)
    blocked = Answer(token=take(ration, 0.0), status=429, refused=refused)
    ration.exchange(wish(answers=(blocked,)), 1.0)
    assert 30.0 == ration.blocked_until - 1.0
    assert () == ration.exchange(wish(bids=polls(9.0)), 20.0).turns


def test_the_least_of_what_the_living_say_of_the_limits_counts() -> None:
    ration = Ration(LIMITS)
    ration.exchange(wish("a"), 0.0)
    ration.exchange(wish("b", SLOW), 0.5)
    assert (1, 1) == (ration.limits.retrieve_per_minute, ration.limits.queue_per_minute)


def test_the_latest_models_are_remembered_and_no_more() -> None:
    ration = Ration(LIMITS)
    for number in range(60):
        ration.exchange(wish(completions=((f"m{number}", 10.0),)), number / 10)
    assert ("m10", "m59", 50) == (min(ration.models), max(ration.models), len(ration.models))


def test_a_refusal_by_the_rate_limit_closes_its_lane_and_no_other() -> None:
    ration = Ration(LIMITS)
    refused = Answer(
        token=take(ration, 0.0),
        status=429,
        refused=Refusal(reason="limited", wait=20.0),
        told=Allowance(remaining=0, reset=20.0),
    )
    grant = ration.exchange(wish(answers=(refused,), bids=polls(9.0) | {"queue": ((1.0, 0.0),)}), 1.0)
    assert ["queue"] == [lane for lane, _ in grant.turns]
