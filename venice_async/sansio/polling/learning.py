"""What completed jobs teach about the time their model takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from .hazard import ASSUMED_P80, ASSUMED_SPREAD, JobTimes

REMEMBERED = (
    200  # completions of a model: some five minutes at the queue limit, so that a changed model is noticed
)
FEWEST = 5  # completions before they are heard: a median of fewer says little
PRIOR = 8  # completions that the prior weighs as much as
LEAST_SPREAD, MOST_SPREAD = 0.15, 1.2  # of what is believed: never sure, and never without an opinion
_DEVIATION = (
    1.4826  # sigma of a normal by its median absolute deviation: Hampel, J. Am. Stat. Assoc. 69 (1974)
)
_ROUND_TRIP = 1.0  # seconds, at most: shorter times cannot be told from it


def believe(p80: float | None, times: Sequence[float]) -> JobTimes:
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


def took(last: float, age: float, told: float | None) -> float:
    """Return how long a job took that was not done at age `last` and was at `age`, all in seconds.

    What the server `told` is believed where it lies between the two and is not merely the age when asked;
    otherwise the middle is the best guess.
    """
    if told is not None and last <= told < age - _ROUND_TRIP:
        return told
    return (last + age) / 2
