"""How urgent a poll is: the times of a model's jobs as a hazard rate, and the index that follows from it.

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
from collections.abc import Callable, Sequence
from statistics import median

from attrs import frozen

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


def estimate_duration(last: float, age: float, told: float | None) -> float:
    """Return how long a job took that was not done at age `last` and was at `age`, all in seconds.

    What the server `told` is believed where it lies between the two and is not merely the age when asked;
    otherwise the middle is the best guess.
    """
    if told is not None and last <= told < age - _ROUND_TRIP:
        return told
    return (last + age) / 2
