"""Is the rate limit's window fixed or sliding? The answers tell, if nobody else uses the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, Literal

from attrs import frozen

from ..sansio.http.headers import allowance

Window = Literal["fixed", "sliding"]
_TELLING: Final = 3  # requests within a window's length, below which both kinds look alike


@frozen(kw_only=True)
class Sample:
    """What one answer told of its limit.

    Attributes:
        at: when it came, in seconds.
        limit: requests a window.
        remaining: of these, how many are left.
        reset: seconds until the window ends.
    """

    at: float
    limit: float
    remaining: float
    reset: float


def sample(headers: Mapping[str, str], *, at: float, unix: float) -> Sample | None:
    """Return what an answer's headers tell, or None if they do not tell all of it."""
    told = allowance(headers, unix)
    if told.limit is None or told.remaining is None or told.reset is None:
        return None
    return Sample(at=at, limit=told.limit, remaining=told.remaining, reset=told.reset)


def judge(samples: Sequence[Sample]) -> Window | None:
    """Return which kind of window explains the samples; None if they do not tell.

    When something is given back, a fixed window gives back everything at once: the next answer counts itself
    only. A sliding one gives back what is older than its length, and goes on counting what is younger.
    """
    length = max((item.reset for item in samples), default=0.0)
    for index, (before, after) in enumerate(pairwise(samples), 1):
        if not _gives_back(before, after):
            continue
        younger = sum(after.at - item.at < length for item in samples[: index + 1])
        if younger >= _TELLING:
            return "fixed" if after.limit - after.remaining < younger / 2 else "sliding"
    return None


def _gives_back(before: Sample, after: Sample) -> bool:
    return after.remaining >= before.remaining
