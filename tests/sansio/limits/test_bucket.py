from __future__ import annotations

import math
import random
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import for_each
from tests.windows import Window, drive
from venice_async.sansio.http.headers import Allowance
from venice_async.sansio.limits.bucket import Belief, Bucket, Gcra, Ledger, Sent

windows = st.builds(
    Window,
    limit=st.sampled_from([1, 2, 5, 40, 120]),
    kind=st.sampled_from(["fixed", "oldest", "all"]),
    phase=st.floats(0, 60),
    unit=st.sampled_from(["milliseconds", "seconds", "wait"]),
)
demands = st.lists(st.tuples(st.floats(0, 300), st.integers(1, 200)), min_size=1, max_size=4)
chances = st.randoms(use_true_random=False)


def moments(demand: list[tuple[float, int]]) -> list[float]:
    return [at for at, count in demand for _ in range(count)]


def told(remaining: float | None, *, reset: float | None = 30.0, limit: float | None = 120.0) -> Allowance:
    return Allowance(limit=limit, remaining=remaining, reset=reset, mark=str(reset))


@given(window=windows, demand=demands, chance=chances, slowest=st.floats(0.05, 1.0))
def test_no_kind_of_window_ever_refuses_what_the_bucket_lets_out(
    window: Window, demand: list[tuple[float, int]], chance: random.Random, slowest: float
) -> None:
    drive(Bucket(window.limit), window, moments(demand), chance, slowest=slowest)
    assert 0 == window.refused


@given(
    window=windows,
    demand=demands,
    chance=chances,
    share=st.sampled_from([0.2, 0.5, 1.0]),
    known=st.booleans(),
)
def test_no_minute_holds_more_than_our_share_unless_the_server_said_so(
    window: Window, demand: list[tuple[float, int]], chance: random.Random, share: float, *, known: bool
) -> None:
    told = known and share < 1
    drive(Bucket(window.limit, share=share), window, moments(demand), chance, told=told)
    assert window.most_in_any() <= max(window.limit * share, 1)
    assert 0 == window.refused


@given(window=windows, chance=chances)
def test_every_request_is_let_out_in_the_end(window: Window, chance: random.Random) -> None:
    wanted = [0.0] * (3 * window.limit)
    assert len(wanted) == len(drive(Bucket(window.limit), window, wanted, chance))


@pytest.mark.parametrize(("phase", "seconds"), [(0.0, 62.0), (59.0, 62.0), (20.0, 42.0)])
def test_two_hundred_at_once_take_no_longer_than_the_fixed_windows_that_hold_them(
    phase: float, seconds: float
) -> None:
    window = Window(phase=phase)
    sent = drive(Bucket(120), window, [0.0] * 200, random.Random(1), slowest=0.3)
    assert 200 == len(sent)
    assert sent[-1] <= seconds


@pytest.mark.parametrize("kind", ["oldest", "all"])
def test_two_hundred_at_once_take_little_more_than_a_sliding_window(kind: Literal["oldest", "all"]) -> None:
    sent = drive(Bucket(120), Window(kind=kind), [0.0] * 200, random.Random(1), slowest=0.3)
    assert sent[-1] <= 65


def test_without_an_account_requests_are_evenly_spaced_after_a_small_burst() -> None:
    sent = drive(Bucket(120), Window(), [0.0] * 200, random.Random(1), told=False)
    assert [0.0] * 6 == sent[:6]
    assert pytest.approx(60 / 114, rel=0.01) == sent[8] - sent[7]
    assert sent[-1] == pytest.approx(102, abs=3)


@pytest.mark.parametrize("told", [told(None), told(5, reset=None), told(5, limit=None)])
def test_an_account_with_a_part_missing_is_not_spent(told: Allowance) -> None:
    bucket = Bucket(120)
    bucket.answered(bucket.take(0.0), told, 0.1)
    for _ in range(5):
        bucket.take(0.1)
    opens = bucket.opens(0.1)
    assert 0.1 < opens < math.inf


def test_an_account_that_contradicts_ours_is_not_believed_for_two_minutes() -> None:
    bucket = Bucket(120)
    bucket.answered(bucket.take(0.0), told(119, reset=58.0), 0.1)
    for now in (1.0, 2.0, 3.0):
        bucket.answered(bucket.take(now), told(119, reset=58.0 - now), now + 0.1)
    for _ in range(20):
        bucket.take(3.2)
    opens = bucket.opens(3.2)
    assert 3.2 < opens < math.inf
    bucket.answered(bucket.take(100.0), told(100, reset=30.0), 100.1)
    for _ in range(20):
        bucket.take(100.2)
    assert bucket.opens(100.2) != 100.2
    bucket.answered(bucket.take(200.0), told(100, reset=30.0), 200.1)
    for _ in range(20):
        bucket.take(200.2)
    assert 200.2 == bucket.opens(200.2)


def test_a_late_answer_about_a_window_that_has_ended_says_nothing() -> None:
    bucket = Bucket(120)
    late = bucket.take(0.0)
    bucket.answered(bucket.take(0.0), told(60, reset=5.0), 0.1)
    bucket.answered(bucket.take(6.0), told(119, reset=59.0), 6.1)
    bucket.answered(late, told(0, reset=0.0), 6.2)
    for _ in range(40):
        bucket.take(6.3)
    assert 6.3 == bucket.opens(6.3)


def test_what_others_use_of_the_window_is_not_ours_and_a_margin_is_kept_back_for_them() -> None:
    bucket = Bucket(120)
    bucket.answered(bucket.take(0.0), told(5, reset=40.0), 0.1)
    for _ in range(3):
        assert 0.2 == bucket.opens(0.2)
        bucket.take(0.2)
    assert pytest.approx(40.2) == bucket.opens(0.2)


@for_each("phase", [0.0, 15.0, 30.0, 45.0])
@for_each("kind", ["fixed", "oldest", "all"])
def test_a_key_that_others_use_too_is_spent_without_a_refusal(
    kind: Literal["fixed", "oldest", "all"], phase: float
) -> None:
    window, chance = Window(kind=kind, phase=phase), random.Random(1)
    others = [5.0 * number for number in range(100)]
    wanted = [2.0 * number for number in range(15)] + [30.0] * 200
    sent = drive(Bucket(120), window, wanted, chance, slowest=0.4, others=others)
    assert 215 == len(sent)
    assert sent[-1] <= 160
    assert 0 == window.refused


def test_after_an_announced_reset_one_request_goes_ahead_and_the_rest_wait_for_its_answer() -> None:
    bucket = Bucket(120)
    bucket.answered(bucket.take(0.0), told(0, reset=10.1), 0.0)
    opens = bucket.opens(5.0)
    assert opens == pytest.approx(10.2)
    bucket.give_back(bucket.take(opens))
    assert opens == bucket.opens(opens)
    ahead = bucket.take(opens)
    later = bucket.opens(opens)
    assert opens + 20 < later < math.inf
    bucket.answered(ahead, told(119, reset=59.0), opens + 0.1)
    assert opens + 0.1 == bucket.opens(opens + 0.1)


@pytest.mark.parametrize(
    ("wait", "remaining", "pause"), [(7.0, 0, 7.5), (None, 0, 10.5), (None, 5, 1.5), (None, None, 10.5)]
)
def test_a_refusal_closes_the_bucket_for_what_it_asks_and_up_to_a_second(
    wait: float | None, remaining: float | None, pause: float
) -> None:
    bucket = Bucket(120)
    bucket.refused(bucket.take(0.0), told(remaining), 1.0, wait=wait, chance=0.5)
    assert pytest.approx(1.0 + pause) == bucket.opens(1.0)


def test_refusals_that_go_on_close_it_for_longer_up_to_a_minute_until_something_succeeds() -> None:
    bucket, now, pauses = Bucket(120), 0.0, list[float]()
    for _ in range(5):
        bucket.refused(bucket.take(now), Allowance(), now, wait=None, chance=0.0)
        opens = bucket.opens(now)
        pauses.append(opens - now)
        now = opens
    assert pytest.approx([10.0, 20.0, 40.0, 60.0, 60.0]) == pauses
    bucket.answered(bucket.take(now), Allowance(), now)
    bucket.refused(bucket.take(now), Allowance(), now, wait=None, chance=0.0)
    assert pytest.approx(now + 10) == bucket.opens(now)


def test_a_server_that_refuses_and_asks_for_no_wait_is_asked_less_and_less() -> None:
    bucket, now, pauses = Bucket(120), 0.0, list[float]()
    for _ in range(5):
        bucket.refused(bucket.take(now), Allowance(), now, wait=0.0, chance=0.5)
        opens = bucket.opens(now)
        pauses.append(opens - now)
        now = opens
    assert pytest.approx([0.5, 2.5, 4.5, 8.5, 16.5]) == pauses


def test_refusals_of_what_was_on_its_way_together_count_once() -> None:
    bucket = Bucket(120)
    burst = [bucket.take(0.0) for _ in range(7)]
    for sent in burst[:6]:
        bucket.refused(sent, Allowance(), 0.2, wait=None, chance=0.0)
    bucket.answered(burst[6], Allowance(), 0.3)
    assert pytest.approx(10.2) == bucket.opens(0.3)
    bucket.refused(bucket.take(10.3), Allowance(), 10.3, wait=None, chance=0.0)
    assert pytest.approx(30.3) == bucket.opens(10.3)


def test_after_a_refusal_one_request_tries_and_the_rest_follow_its_answer_evenly() -> None:
    bucket = Bucket(120)
    bucket.refused(bucket.take(0.0), Allowance(), 0.1, wait=5.0, chance=0.0)
    assert pytest.approx(5.1) == bucket.opens(5.0)
    tries = bucket.take(5.2)
    assert math.inf == bucket.opens(5.3)
    bucket.lost(tries, 35.2)
    assert 35.2 == bucket.opens(35.2)
    tries = bucket.take(35.2)
    bucket.answered(tries, Allowance(), 35.3)
    assert pytest.approx(35.3) == bucket.opens(35.3)


def test_a_limit_that_is_raised_or_lowered_holds_at_once() -> None:
    bucket = Bucket(120)
    bucket.answered(bucket.take(0.0), Allowance(limit=240.0), 0.1)
    assert 4.0 == bucket.rate
    bucket.refused(bucket.take(1.0), Allowance(limit=2.0), 1.1, wait=0.0, chance=0.0)
    assert pytest.approx(60.2) == bucket.opens(1.2)


def test_a_request_that_was_not_sent_after_all_leaves_no_trace() -> None:
    bucket = Bucket(1)
    bucket.give_back(bucket.take(0.0))
    assert 0.0 == bucket.opens(0.0)
    kept = bucket.take(0.0)
    bucket.opens(100.0)
    given_back = bucket.take(100.0)
    bucket.opens(200.0)
    bucket.give_back(given_back)
    bucket.lost(kept, 200.0)
    assert pytest.approx(260.1) == bucket.opens(200.0)


def test_while_more_is_on_its_way_than_may_be_an_answer_has_to_come_first() -> None:
    bucket = Bucket(2)
    first = bucket.take(0.0)
    bucket.take(0.0)
    assert math.inf == bucket.opens(500.0)
    bucket.lost(first, 500.0)
    assert pytest.approx(560.1) == bucket.opens(500.0)


def test_what_would_lapse_with_a_window_may_be_spent_faster_once_windows_are_known_to_be_fixed() -> None:
    fixed, sliding = Bucket(120), Bucket(120)
    fixed.answered(fixed.take(0.0), told(119, reset=23.0), 0.1)
    sliding.answered(sliding.take(0.0), told(119, reset=60.0), 0.1)
    assert pytest.approx(117 / 10, rel=0.02) == fixed.spare_rate(10.0)
    assert fixed.rate == fixed.spare_rate(22.0)
    assert sliding.rate == sliding.spare_rate(10.0)


@given(limit=st.floats(1, 1000), gaps=st.lists(st.floats(0, 5), max_size=300))
def test_even_spacing_keeps_any_minute_within_the_limit_or_one_more_than_its_rate(
    limit: float, gaps: list[float]
) -> None:
    spacing, now, taken = Gcra(limit), 0.0, list[float]()
    for gap in gaps:
        now = max(now + gap, spacing.opens())
        spacing.take(now)
        taken.append(now)
    assert all(
        sum(at <= other < at + 60 for other in taken) <= max(limit, 1 + 0.95 * limit) for at in taken[:20]
    )


def test_answers_that_overtake_each_other_do_not_bring_a_reset_forward() -> None:
    bucket = Bucket(120)
    late = bucket.take(0.0)
    bucket.answered(bucket.take(0.0), told(0, reset=10.0), 0.0)
    bucket.answered(late, told(0, reset=8.5), 0.5)
    assert pytest.approx(10.1) == bucket.opens(1.0)


def test_a_share_is_spent_only_as_far_as_the_server_has_something_left() -> None:
    bucket = Bucket(120, share=0.5)
    bucket.answered(bucket.take(0.0), told(100, reset=50.0), 0.1)
    assert 0.2 == bucket.opens(0.2)
    bucket.answered(bucket.take(1.0), told(2, reset=49.0), 1.0)
    assert pytest.approx(50.1, abs=0.2) == bucket.opens(1.2)


def test_an_answer_that_took_longer_than_a_window_does_not_show_that_windows_are_fixed() -> None:
    bucket = Bucket(120)
    bucket.answered(bucket.take(0.0), told(119, reset=30.0), 70.0)
    assert bucket.rate == bucket.spare_rate(80.0)


def test_a_window_that_turned_all_at_once_shows_that_windows_are_fixed() -> None:
    bucket = Bucket(120)
    for _ in range(3):
        bucket.answered(bucket.take(0.0), told(60, reset=60.0), 0.0)
    assert bucket.rate == bucket.spare_rate(50.0)
    bucket.answered(bucket.take(59.0), told(119, reset=50.0), 59.0)
    assert bucket.spare_rate(100.0) > 9 * bucket.rate


def test_a_new_window_is_not_held_back_by_what_was_spent_ahead_of_its_pace() -> None:
    bucket = Bucket(120)
    for _ in range(60):
        bucket.answered(bucket.take(0.0), told(60, reset=5.0), 0.0)
    assert bucket.pace.opens() > 20
    bucket.answered(bucket.take(5.0), told(119, reset=60.0), 5.0)
    assert bucket.pace.opens() <= 5.0


def test_one_that_left_just_before_the_reset_may_be_in_the_new_window_until_its_answer_tells() -> None:
    def left(at: float) -> tuple[Bucket, Sent]:
        bucket = Bucket(3.0, share=0.99)
        bucket._ledger = Ledger(sent=2, answered=2)
        bucket._belief = Belief(limit=3.0, ceiling=2.0, first=1, reset_at=60.0, trusted_until=120.0)
        return bucket, bucket.take(at)

    bucket, early = left(50.0)
    assert pytest.approx(60.1) == bucket.opens(55.0)
    bucket.lost(early, 55.0)
    assert pytest.approx(60.1) == bucket.opens(55.0)
    bucket, late = left(59.0)
    assert 120.0 == bucket.opens(60.3)
    bucket.lost(late, 70.0)
    assert 120.0 > bucket.opens(70.0)


def test_what_was_sent_is_counted_from_a_moment_on() -> None:
    bucket = Bucket(120)
    assert 0 == bucket.used(0.0)
