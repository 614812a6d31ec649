"""When to poll a job: the times of its model's jobs as a hazard rate, and how urgent a poll is by that.

A job's time is taken as lognormal, with a small constant rate of ending on top: jobs end early when something
was wrong with them, and no estimate is ever so right that a job should not be asked about at all. Times are
seconds since the job was queued; for the notation, f, S and h = f/S are density, survival and hazard of the
job's time.

Sources:
    The best times to inspect: Barlow, Hunter and Proschan, "Optimum Checking Procedures", J. SIAM 11 (1963);
    as a density, the square-root law: Keller, "Optimum Checking Schedules for Systems Subject to Random
    Failure", Management Science 21 (1974), and Munford and Shahani, Operational Research Quarterly 23 (1972).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from attrs import define, field, frozen

from ..options import Polling

ASSUMED_P80 = 120.0  # of a model that has not said; our guess at the vendor's typical 60 to 400 seconds
ASSUMED_SPREAD = 0.5  # sigma before anything is learned; the policy was tuned for 0.3 and 0.6
FLOOR = 1 / 2000  # a second: no job is left alone for good, however late it is
EARLY, EARLY_UNTIL = 0.001, 20.0  # a second more for so long: bad input and content policy end a job early
LONGEST = 7 * 86_400.0  # seconds: nothing is looked for beyond

_Z80 = 0.8416212335729143  # the standard normal's 80 % quantile
_ROOT_TWO = math.sqrt(2)
_LOG_ROOT_TAU = 0.5 * math.log(math.tau)
_TAIL = 8.0  # standard deviations beyond which erfc is replaced by its asymptotic series
_EXP_MOST = 700.0  # just below where exp overflows


@frozen
class JobTimes:
    """What is believed of a model's job times: ln T is normal with mean `location` and deviation `spread`."""

    location: float
    spread: float

    @classmethod
    def from_p80(cls, p80: float = ASSUMED_P80, spread: float = ASSUMED_SPREAD) -> JobTimes:
        """Return the times of which 80 % are at most `p80` seconds: what `average_execution_time` says."""
        return cls(math.log(p80) - _Z80 * spread, spread)

    @property
    def p80(self) -> float:
        """The time in seconds within which 80 % are done."""
        return math.exp(self.location + _Z80 * self.spread)

    def hazards(self, age: float) -> tuple[float, float]:
        """Return h(age), the rate a second at which a job that old ends, and Λ(age) = ∫₀^age h.

        exp(-Λ) of all jobs get that old.
        """
        hazard, cumulative = FLOOR, FLOOR * age
        if age < EARLY_UNTIL:
            hazard, cumulative = hazard + EARLY, cumulative + EARLY * age
        else:
            cumulative += EARLY * EARLY_UNTIL
        if age <= 0:
            return hazard, 0.0
        z = (math.log(age) - self.location) / self.spread
        if z < _TAIL:
            survival = 0.5 * math.erfc(z / _ROOT_TWO)
            density = math.exp(-0.5 * z * z - _LOG_ROOT_TAU) / self.spread / age
            return hazard + density / survival, cumulative - math.log(survival)
        # S = φ(z)/z · series; Abramowitz and Stegun, Handbook of Mathematical Functions, 26.2.12.
        square = 1 / (z * z)
        series = 1 - square * (1 - 3 * square * (1 - 5 * square * (1 - 7 * square)))
        tail = 0.5 * z * z + _LOG_ROOT_TAU + math.log(z / series)
        return hazard + z / self.spread / (age * series), cumulative + tail

    def urgency(self, since: float, age: float) -> float:
        """Return W, what leaving a job alone has cost in seconds of delay: poll it at a poll's price.

        `since` is Λ at the last poll. W = (√(2·exp(H) - 1) - 1)² / 2h with H = Λ(age) - Λ(last) solves the
        recursion of Barlow, Hunter and Proschan for a gap of √(2·price/h); for small H it is h·τ²/2, the
        square-root law.
        """
        hazard, cumulative = self.hazards(age)
        gap = math.expm1(min(max(cumulative - since, 0.0), _EXP_MOST))
        root = 2 * gap / (math.sqrt(1 + 2 * gap) + 1)  # √(2·exp(H) - 1) - 1, without cancellation
        return root * root / (2 * hazard)

    def due(self, last: float, *, price: float, least: float, most: float) -> float:
        """Return the age in `last + least` to `last + most` at which W reaches `price`, to 0.05 s."""
        since = self.hazards(last)[1]
        return _first(lambda age: self.urgency(since, age) >= price, last + least, last + most, within=0.05)

    def remaining(self, age: float) -> float:
        """Return the median of the seconds a job that old will still take."""
        target = self.hazards(age)[1] + math.log(2)
        most = age + math.log(2) / FLOOR
        return _first(lambda later: self.hazards(later)[1] >= target, age, most, within=0.001) - age


def _first(reached: Callable[[float], bool], low: float, high: float, *, within: float) -> float:
    """Return the least number in [low, high] that has `reached`, or `high`; by bisection."""
    if reached(low):
        return low
    while high - low > within:
        middle = (low + high) / 2
        if reached(middle):
            high = middle
        else:
            low = middle
    return high


REMEMBERED = 200  # completions of a model: five minutes at the queue limit; a changed model is noticed
FEWEST = 5  # completions before they are heard: a median of fewer says little
PRIOR = 8  # completions that the prior weighs as much as
LEAST_SPREAD, MOST_SPREAD = 0.15, 1.2  # of what is believed: never sure, and never without an opinion
_NOTABLE = 0.02  # of the logarithm of a time: an estimate that changes by less stays as it is
_REFIT = 5, 0.1  # completions, and their growth: a new estimate moves the polls of all jobs
_DEVIATION = 1.4826  # sigma by the median absolute deviation: Hampel, J. Am. Stat. Assoc. 69 (1974)
_ROUND_TRIP = 1.0  # seconds, at most: shorter times cannot be told from it


def fit(p80: float | None, times: Sequence[float]) -> JobTimes:
    """Return what to believe of a model that told that P80, or None, after jobs that took `times` seconds.

    Spread and median are the robust estimates of the sample, shrunk to the prior as a conjugate normal prior
    worth `PRIOR` jobs would: (8·0.5² + n·s²) / (8 + n), and the median likewise to the one that P80 and
    spread imply; Gelman et al., Bayesian Data Analysis, 3rd ed. (2013), sections 2.5 and 2.6.
    """
    prior = JobTimes.from_p80(ASSUMED_P80 if p80 is None else p80)
    if len(times) < FEWEST:
        return prior
    logs = [math.log(max(seconds, _ROUND_TRIP)) for seconds in times[-REMEMBERED:]]
    centre = median(logs)
    deviation = _DEVIATION * median(abs(log - centre) for log in logs)
    count, total = len(logs), PRIOR + len(logs)
    spread = math.sqrt((PRIOR * ASSUMED_SPREAD**2 + count * deviation**2) / total)
    spread = min(max(spread, LEAST_SPREAD), MOST_SPREAD)
    implied = JobTimes.from_p80(prior.p80, spread).location
    return JobTimes((PRIOR * implied + count * centre) / total, spread)


@define(eq=False)
class ModelTimes:
    """What is known of the times of a model's jobs; shared by all of them that are being polled.

    Attributes:
        times: the estimate.
        p80: seconds, as the server says.
        completions: how many jobs it was learned from.
        instant: whether its latest job was done as soon as it was queued, so that the next one may be too.
        probed: whether any poll has been answered; until then the first job asks for the model's P80.
        jobs: those that are being polled.
        untold: durations, in seconds, that other processes have not been told.
    """

    times: JobTimes = field(factory=partial(fit, None, ()))
    p80: float | None = None
    completions: int = 0
    instant: bool = False
    probed: bool = False
    jobs: dict[PolledJob, None] = field(factory=dict["PolledJob", None])
    untold: list[float] = field(factory=list[float])
    _durations: deque[float] = field(factory=partial(deque[float], maxlen=REMEMBERED))
    _fitted: int = 0

    def answered(self, average: float | None, *, instant: bool) -> None:
        """Record that a poll was answered, and the P80 it told."""
        self.probed = True
        if instant != self.instant:
            self.instant = instant
            for job in self.jobs:
                job.schedule()
        if average is not None and 0 < average <= LONGEST and average != self.p80:
            self.p80 = average
            self._fit()

    def learn(self, *durations: float) -> None:
        """Record how many seconds jobs took."""
        self._durations.extend(durations)
        self.completions += len(durations)
        least, growth = _REFIT
        if self.completions >= self._fitted + max(least, growth * min(self._fitted, REMEMBERED)):
            self._fitted = self.completions
            self._fit()

    def pressure(self, now: float) -> float:
        """Return Σ √h of the jobs: in proportion to it they ask for polls, whatever these cost."""
        hazards = self.times.hazards
        return sum(math.sqrt(hazards(now - job.born)[0]) for job in self.jobs)

    def _fit(self) -> None:
        times = fit(self.p80, tuple(self._durations))
        if abs(times.location - self.times.location) + abs(times.spread - self.times.spread) > _NOTABLE:
            self.times = times
            for job in self.jobs:
                job.schedule()


class PolledJob:
    """One job that is being polled: report to it what the answers say, and `close` it in the end.

    Attributes:
        model: what is known of its model.
        born: when it was queued, by the clock.
        due: when its next poll is worth its price, by the clock.
    """

    def __init__(
        self, model: ModelTimes, *, age: float | None, clock: Callable[[], float], polling: Polling
    ) -> None:
        """Watch a job that was queued `age` seconds ago by the `clock`, None if that is not known."""
        self.model = model
        self.due: float = math.inf
        self._not_before = math.inf
        self._clock = clock
        self._polling = polling
        self.born: float = clock() - (age or 0.0)
        self._age_known = age is not None
        self._from_start = age == 0
        self._last: float | None = None  # the age at the latest answer
        self._since = 0.0  # Λ of it
        self._least = 0.0  # seconds of delay: the urgency of a poll that should not wait
        model.jobs[self] = None

    @property
    def eta(self) -> float | None:
        """Seconds the job will still take, by the median of its model and age.

        None before both are known, and before a first poll that does not wait: it tells more.
        """
        known = self.model.p80 is not None or self.model.completions >= FEWEST
        if not known or not self._age_known or self._at_once:
            return None
        return self.model.times.remaining(self._clock() - self.born)

    def progressed(self, *, age: float | None, average: float | None) -> None:
        """Record an answer that says "still going": the job's age and its model's P80, in seconds."""
        now = self._clock()
        if age is not None and 0 <= age <= LONGEST:
            self.born = now - age
            self._age_known = True
        self._last = now - self.born
        self.model.answered(average, instant=False)

    def completed(self, *, age: float | None) -> None:
        """Record that the job is done: how long it took is learned of its model.

        It ended between the last two answers. The `age` that the server tells is believed where it lies
        between them and is not merely the age when asked; otherwise the middle is the best guess.
        """
        model, last, elapsed = self.model, self._last or 0.0, self._clock() - self.born
        at_first = elapsed < self._polling.min_gap and self._last is None
        model.answered(None, instant=at_first if self._from_start else model.instant)
        if self._from_start or (self._last is not None and self._age_known):
            seconds = (last + elapsed) / 2
            if age is not None and last <= age < elapsed - _ROUND_TRIP:
                seconds = age
            model.untold.append(seconds)
            model.learn(seconds)

    def close(self) -> None:
        """Stop watching; may be called more than once."""
        jobs = self.model.jobs
        jobs.pop(self, None)
        if jobs and not self.model.probed:
            next(iter(jobs)).schedule()

    @property
    def _at_once(self) -> bool:
        """Whether its first poll should not wait: it tells P80 or an unknown age, or finds the job done."""
        probing = not self.model.probed and next(iter(self.model.jobs), None) is self
        return self._last is None and (probing or self.model.instant or not self._age_known)

    def schedule(self, after: float | None = None) -> None:
        """Find when the next poll is due, not before `after` seconds from now.

        None finds it anew, as what is known of the model has changed: a poll that is due stays so.
        """
        now, times, polling, last = self._clock(), self.model.times, self._polling, self._last or 0.0
        if after is not None:
            self.due, self._not_before = math.inf, now + after
        at_once = self._at_once
        self._since = times.hazards(last)[1]
        self._least = polling.price if at_once else 0.0
        if self.due <= now:
            return
        due = now
        if not at_once:
            most = max(polling.max_gap, times.p80 / 2 - last)
            least = min(max(polling.min_gap, now - self.born - last), most)  # not in the past
            due = self.born + times.due(last, price=polling.price, least=least, most=most)
        self.due = max(due, self._not_before)

    def urgency(self, now: float) -> float:
        """Return what not polling has cost since the last answer, in seconds of delay."""
        return max(self.model.times.urgency(self._since, now - self.born), self._least)
