"""How late it is noticed that jobs have ended, which the server does not say."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from attrs import define, field

from ..sansio.job.states import Downloading, Saved, State, Succeeded, Waiting

BOUNDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0)
"""Seconds, within which delays are counted."""


@define
class NoticeDelays:
    """The delays of many jobs.

    Attributes:
        counts: how many were within each of the bounds and not within the one before; the last are above all.
        total: the sum of all, in seconds.
    """

    counts: list[int] = field(factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def note(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


@define
class Notice:
    """One job, which has ended at some moment between two polls: in the middle, as far as anybody knows."""

    _since: float | None = None
    _elapsed: float | None = None
    _noticed: bool = False

    def see(self, state: State, now: float) -> float | None:
        """Take in a state; return the delay in seconds with the first one that follows the end."""
        if isinstance(state, Waiting):
            if self._since is None or state.elapsed != self._elapsed:
                self._since, self._elapsed = now, state.elapsed
            return None
        if self._noticed or self._since is None or not isinstance(state, Downloading | Saved | Succeeded):
            return None
        self._noticed = True
        return (now - self._since) / 2
