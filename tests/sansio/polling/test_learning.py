from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venice_async.sansio.polling.hazard import JobTimes
from venice_async.sansio.polling.learning import LEAST_SPREAD, MOST_SPREAD, believe, took


def sample(times: JobTimes, count: int) -> list[float]:
    chance = random.Random(3)
    return [chance.lognormvariate(times.location, times.spread) for _ in range(count)]


def test_without_completions_the_p80_is_believed_and_without_a_p80_a_guess() -> None:
    assert pytest.approx(290.0) == believe(290.0, [1.0] * 4).p80
    assert pytest.approx(120.0) == believe(None, ()).p80


@pytest.mark.parametrize("spread", [0.3, 0.6])
@pytest.mark.parametrize("told", [72.0, 145.0, 290.0])
def test_two_hundred_completions_outweigh_a_wrong_p80(spread: float, told: float) -> None:
    true = JobTimes.from_p80(145.0, spread)
    learned = believe(told, sample(true, 200))
    assert pytest.approx(spread, rel=0.15) == learned.spread
    assert pytest.approx(145.0, rel=0.15) == learned.p80


def test_the_estimates_are_the_stated_formulas() -> None:
    times = [math.exp(value) for value in (3.0, 3.5, 4.0, 4.6, 9.0)]
    deviation = 1.4826 * 0.6
    spread = math.sqrt((8 * 0.25 + 5 * deviation**2) / 13)
    learned = believe(145.0, times)
    assert pytest.approx(spread) == learned.spread
    implied = math.log(145.0) - 0.8416212335729143 * spread
    assert pytest.approx((8 * implied + 5 * 4.0) / 13) == learned.location


def test_only_the_last_two_hundred_count() -> None:
    assert believe(145.0, [50.0] * 200) == believe(145.0, [900.0] * 500 + [50.0] * 200)


@given(times=st.lists(st.floats(0, 1e6), max_size=300), p80=st.none() | st.floats(1, 1e5))
def test_belief_is_never_certain_and_never_empty(times: list[float], p80: float | None) -> None:
    learned = believe(p80, times)
    assert LEAST_SPREAD <= learned.spread <= MOST_SPREAD
    assert math.isfinite(learned.location)


@pytest.mark.parametrize(
    ("last", "age", "told", "seconds"),
    [(10.0, 20.0, None, 15.0), (10.0, 20.0, 13.0, 13.0), (10.0, 20.0, 19.5, 15.0), (10.0, 20.0, 4.0, 15.0)],
)
def test_a_job_took_what_the_server_told_if_that_can_be_and_else_the_middle(
    last: float, age: float, told: float | None, seconds: float
) -> None:
    assert seconds == took(last, age, told)
