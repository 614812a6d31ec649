"""Tests of when a job is polled: the times of jobs, and what is learnt of them."""

from __future__ import annotations

import math
import random
from statistics import NormalDist

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.cases import for_each
from venice_async.options import Polling
from venice_async.sansio.polling import (
    EARLY,
    EARLY_UNTIL,
    FEWEST,
    FLOOR,
    LEAST_SPREAD,
    LONGEST,
    MOST_SPREAD,
    JobTimes,
    ModelTimes,
    PolledJob,
    fit,
)

models = st.builds(JobTimes.from_p80, st.floats(5, 2000), st.floats(0.15, 1.2))
ages = st.floats(0, 20_000)


def hazard(times: JobTimes, age: float) -> float:
    return times.hazards(age)[0]


def cumulative(times: JobTimes, age: float) -> float:
    return times.hazards(age)[1]


def integral(times: JobTimes, age: float, steps: int = 4000) -> float:
    """Integrate the hazard by Simpson's rule in the root of time, piecewise about its one jump."""
    total = 0.0
    for low, high in ((0.0, min(age, EARLY_UNTIL)), (EARLY_UNTIL, age)):
        if high <= low:
            continue
        a, b = math.sqrt(low), math.sqrt(high) - 1e-12 * (high == EARLY_UNTIL)
        h = (b - a) / steps
        values = [2 * (a + i * h) * hazard(times, (a + i * h) ** 2) for i in range(steps + 1)]
        total += h / 3 * (values[0] + values[-1] + 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2]))
    return total


@for_each("spread", [0.15, 0.3, 0.6, 1.2])
@for_each("age", [5.0, 19.0, 60.0, 145.0, 400.0, 3000.0])
def test_the_cumulative_hazard_is_the_integral_of_the_hazard(spread: float, age: float) -> None:
    times = JobTimes.from_p80(145.0, spread)
    assert pytest.approx(integral(times, age), rel=1e-4, abs=1e-6) == cumulative(times, age)


@given(times=models, age=st.floats(0.1, 3000))
def test_the_hazard_is_the_lognormals_with_a_floor_and_early_failures(times: JobTimes, age: float) -> None:
    normal = NormalDist(times.location, times.spread)
    survival = 0.5 * math.erfc((math.log(age) - times.location) / times.spread / math.sqrt(2))
    assume(survival > 1e-12)
    floor = FLOOR + (EARLY if age < EARLY_UNTIL else 0.0)
    assert pytest.approx(normal.pdf(math.log(age)) / age / survival + floor, rel=1e-6) == hazard(times, age)


@given(times=models)
def test_a_job_that_was_just_queued_may_end_early_and_none_has_ended(times: JobTimes) -> None:
    assert (FLOOR + EARLY, 0.0) == (hazard(times, 0.0), cumulative(times, 0.0))


@given(times=models)
def test_four_in_five_jobs_are_done_by_the_p80(times: JobTimes) -> None:
    constant = FLOOR * times.p80 + EARLY * min(times.p80, EARLY_UNTIL)
    assert pytest.approx(0.2) == math.exp(constant - cumulative(times, times.p80))


def test_far_in_the_tail_the_series_continues_what_the_error_function_gives() -> None:
    times = JobTimes.from_p80(145.0, 0.5)
    edge = math.exp(times.location + 8.0 * times.spread)
    below, above = edge * (1 - 1e-9), edge * (1 + 1e-9)
    assert pytest.approx(hazard(times, below), rel=1e-5) == hazard(times, above)
    assert pytest.approx(cumulative(times, below), rel=1e-6) == cumulative(times, above)
    assert math.isfinite(cumulative(times, 1e9))


@given(times=models, last=ages, age=ages, later=st.floats(0, 1000))
def test_the_index_rises_the_longer_a_job_was_left_alone(
    times: JobTimes, last: float, age: float, later: float
) -> None:
    assume(last <= age)
    earlier = cumulative(times, max(last - later, 0.0))
    assert times.urgency(cumulative(times, last), age) <= times.urgency(earlier, age)


@given(spread=st.floats(0.15, 1.2), last=st.floats(0, 500), gap=st.floats(1, 1000))
def test_under_a_constant_hazard_the_index_rises_with_waiting(spread: float, last: float, gap: float) -> None:
    times = JobTimes.from_p80(1e9, spread)
    since = cumulative(times, 20 + last)
    assert times.urgency(since, 20 + last + gap) < times.urgency(since, 20 + last + gap + 1)


@given(times=models, age=ages)
def test_no_job_starves_whatever_the_price(times: JobTimes, age: float) -> None:
    assert times.urgency(cumulative(times, age), age + 60_000) > 60


@given(times=models, last=st.floats(0, 6 * 86_400))
def test_the_index_stays_finite_and_is_nothing_at_the_last_poll(times: JobTimes, last: float) -> None:
    assert math.isfinite(times.urgency(0.0, last + 1e6))
    assert 0.0 == times.urgency(cumulative(times, last), last)


@given(times=models, last=st.floats(0, 2000), price=st.floats(0.001, 60))
def test_the_index_solves_the_inspection_recursion_for_a_constant_hazard(
    times: JobTimes, last: float, price: float
) -> None:
    age = last + 20
    rate = hazard(times, age)
    gap = math.sqrt(2 * price / rate)
    waited = math.log(((1 + rate * gap) ** 2 + 1) / 2)
    assume(waited < cumulative(times, age))
    assert pytest.approx(price, rel=1e-6) == times.urgency(cumulative(times, age) - waited, age)


@given(times=models, last=st.floats(0, 1000), price=st.floats(0.001, 60), least=st.floats(0.1, 5))
def test_gaps_stay_within_their_bounds(times: JobTimes, last: float, price: float, least: float) -> None:
    due = times.due(last, price=price, least=least, most=least + 25)
    assert last + least <= due <= last + least + 25 + 1e-9


@given(times=models, last=st.floats(0, 1000))
def test_a_poll_is_due_when_it_is_worth_its_price(times: JobTimes, last: float) -> None:
    due = times.due(last, price=1.0, least=0.1, most=5000.0)
    since = cumulative(times, last)
    assert times.urgency(since, due) >= 1.0
    assert due == last + 0.1 or times.urgency(since, max(due - 0.06, last)) < 1.0


@given(times=models)
def test_a_poll_that_is_worth_its_price_already_is_due_after_the_least_gap(times: JobTimes) -> None:
    assert 105.0 == times.due(100.0, price=1e-12, least=5.0, most=60.0)


@given(times=models, age=ages)
def test_half_of_all_jobs_of_an_age_outlast_what_is_said_to_remain(times: JobTimes, age: float) -> None:
    remaining = times.remaining(age)
    assert 0 <= remaining
    passed = cumulative(times, age + remaining) - cumulative(times, age)
    assert pytest.approx(math.log(2), abs=0.01) == passed


def test_what_remains_of_a_job_is_the_median_less_its_age_at_first() -> None:
    times = JobTimes.from_p80(145.0, 0.5)
    assert pytest.approx(math.exp(times.location), rel=0.08) == times.remaining(0.0)


def sample(times: JobTimes, count: int) -> list[float]:
    chance = random.Random(3)
    return [chance.lognormvariate(times.location, times.spread) for _ in range(count)]


def test_without_completions_the_p80_is_believed_and_without_a_p80_a_guess() -> None:
    assert pytest.approx(290.0) == fit(290.0, [1.0] * 4).p80
    assert pytest.approx(120.0) == fit(None, ()).p80


@pytest.mark.parametrize("spread", [0.3, 0.6])
@pytest.mark.parametrize("told", [72.0, 145.0, 290.0])
def test_two_hundred_completions_outweigh_a_wrong_p80(spread: float, told: float) -> None:
    true = JobTimes.from_p80(145.0, spread)
    learned = fit(told, sample(true, 200))
    assert pytest.approx(spread, rel=0.15) == learned.spread
    assert pytest.approx(145.0, rel=0.15) == learned.p80


def test_the_estimates_are_the_stated_formulas() -> None:
    times = [math.exp(value) for value in (3.0, 3.5, 4.0, 4.6, 9.0)]
    deviation = 1.4826 * 0.6
    spread = math.sqrt((8 * 0.25 + 5 * deviation**2) / 13)
    learned = fit(145.0, times)
    assert pytest.approx(spread) == learned.spread
    implied = math.log(145.0) - 0.8416212335729143 * spread
    assert pytest.approx((8 * implied + 5 * 4.0) / 13) == learned.location


def test_only_the_last_two_hundred_count() -> None:
    assert fit(145.0, [50.0] * 200) == fit(145.0, [900.0] * 500 + [50.0] * 200)


@given(times=st.lists(st.floats(0, 1e6), max_size=300), p80=st.none() | st.floats(1, 1e5))
def test_belief_is_never_certain_and_never_empty(times: list[float], p80: float | None) -> None:
    learned = fit(p80, times)
    assert LEAST_SPREAD <= learned.spread <= MOST_SPREAD
    assert math.isfinite(learned.location)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def watched(
    model: ModelTimes, clock: Clock, *, age: float | None = 0.0, polling: Polling | None = None
) -> PolledJob:
    return PolledJob(model, age=age, clock=clock, polling=polling or Polling())


def test_the_first_job_of_a_model_is_polled_at_once_to_learn_its_p80_and_the_others_wait(
    clock: Clock,
) -> None:
    model = ModelTimes()
    first, second = watched(model, clock), watched(model, clock)
    for job in (first, second):
        job.schedule(0.0)
    assert clock.now == first.due < second.due
    assert Polling().price == first.urgency(clock.now) > second.urgency(clock.now)


def test_a_job_that_is_gone_leaves_the_first_poll_to_the_next_one(clock: Clock) -> None:
    model = ModelTimes()
    first, second = watched(model, clock), watched(model, clock)
    second.schedule(0.0)
    assert second.due > clock.now
    first.close()
    first.close()
    assert clock.now == second.due
    second.close()
    assert {} == model.jobs


def test_what_remains_is_told_once_a_p80_and_the_age_are_known(clock: Clock) -> None:
    model = ModelTimes()
    job, old = watched(model, clock), watched(model, clock, age=None)
    assert [None, None] == [job.eta, old.eta]
    clock.now += 20
    old.progressed(age=50.0, average=100.0)
    assert model.times.remaining(20) == job.eta
    assert model.times.remaining(50) == old.eta
    assert watched(model, clock, age=None).eta is None


def test_there_is_no_eta_before_a_first_poll_that_is_made_at_once(clock: Clock) -> None:
    model = ModelTimes(probed=True, p80=100.0, instant=True)
    job = watched(model, clock)
    assert job.eta is None
    job.progressed(age=None, average=None)
    assert model.times.remaining(0) == job.eta


@pytest.mark.parametrize("age", [None, -1.0, LONGEST + 1])
def test_an_age_that_cannot_be_is_not_believed(clock: Clock, age: float | None) -> None:
    job = watched(ModelTimes(), clock)
    clock.now += 5
    job.progressed(age=age, average=None)
    assert clock.now - 5 == job.born


@pytest.mark.parametrize("average", [None, 0.0, -1.0, LONGEST + 1])
def test_a_p80_that_cannot_be_is_not_believed(average: float | None) -> None:
    model = ModelTimes()
    model.answered(average, instant=False)
    assert (None, fit(None, ())) == (model.p80, model.times)


def test_a_new_p80_moves_the_polls_of_jobs_that_are_not_due(clock: Clock) -> None:
    model = ModelTimes(probed=True)
    job = watched(model, clock)
    job.schedule(0.0)
    before = job.due
    model.answered(10.0, instant=False)
    assert (10.0, fit(10.0, ())) == (model.p80, model.times)
    assert job.due < before
    learned = model.times
    model.answered(10.1, instant=False)  # hardly another
    assert learned == model.times


def test_a_job_that_is_due_stays_due_and_one_that_may_not_be_polled_yet_waits(clock: Clock) -> None:
    model = ModelTimes(probed=True)
    job = watched(model, clock)
    job.schedule(7.0)
    assert job.due >= clock.now + 7
    clock.now = due = job.due
    model.answered(600.0, instant=False)
    assert due == job.due


def test_after_a_job_that_was_done_at_once_the_next_one_is_asked_at_once(clock: Clock) -> None:
    model = ModelTimes(probed=True)
    first, second = watched(model, clock), watched(model, clock)
    second.schedule(0.0)
    assert second.due > clock.now
    clock.now += 0.5
    first.completed(age=None)
    assert model.instant
    assert clock.now == second.due
    clock.now += 60
    second.completed(age=None)
    assert not model.instant


def test_what_jobs_took_is_learned_and_passed_on_unless_their_age_is_not_known(clock: Clock) -> None:
    model = ModelTimes(probed=True)
    job, resumed, unknown = (watched(model, clock, age=age) for age in (0.0, 30.0, None))
    clock.now += 10
    job.completed(age=8.0)
    resumed.completed(age=None)  # its first poll: it may have been done long ago
    unknown.progressed(age=None, average=None)
    unknown.completed(age=None)
    assert ([8.0], 1) == (model.untold, model.completions)
    known = watched(model, clock, age=30.0)
    clock.now += 10
    known.progressed(age=None, average=None)
    clock.now += 10
    known.completed(age=None)
    assert [8.0, 45.0] == model.untold


@pytest.mark.parametrize(
    ("last", "age", "told", "seconds"),
    [(10.0, 20.0, None, 15.0), (10.0, 20.0, 13.0, 13.0), (10.0, 20.0, 19.5, 15.0), (10.0, 20.0, 4.0, 15.0)],
)
def test_a_job_took_as_long_as_the_server_says_if_that_is_possible_and_else_the_middle(
    clock: Clock, last: float, age: float, told: float | None, seconds: float
) -> None:
    model = ModelTimes()
    job = watched(model, clock)
    clock.now += last
    job.progressed(age=None, average=None)
    clock.now += age - last
    job.completed(age=told)
    assert [seconds] == model.untold


def test_the_times_are_estimated_anew_after_five_jobs_and_then_as_they_grow_by_a_tenth() -> None:
    model = ModelTimes()
    model.learn(*[10.0] * (FEWEST - 1))
    assert fit(None, ()) == model.times
    model.learn(10.0)
    assert fit(None, [10.0] * FEWEST) == model.times


def test_the_pressure_is_the_sum_of_the_roots_of_the_hazards(clock: Clock) -> None:
    model = ModelTimes()
    for age in (10.0, 100.0):
        watched(model, clock, age=age)
    expected = sum(math.sqrt(hazard(model.times, age)) for age in (10.0, 100.0))
    assert pytest.approx(expected) == model.pressure(clock.now)
