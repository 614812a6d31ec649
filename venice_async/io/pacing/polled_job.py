"""One job that is being polled, and what is known of its model."""

from __future__ import annotations

import math
from collections import deque

from ...options import Polling
from ...sansio.polling.job_times import FEWEST, LONGEST, REMEMBERED, JobTimes, estimate_duration, fit
from ..transport import Clock

_CREDIBLE = LONGEST  # seconds: ages and averages beyond are mistakes
_NOTABLE = 0.02  # of the logarithm of a time: what is believed does not change for less
_RELEARN = 5, 1.1  # completions, and their growth: learning moves every job's turn, and soon says little new


class ModelTimes:
    """What the jobs of one model have taught; shared by all that are being watched.

    Attributes:
        times: what is believed of its job times.
        version: goes up whenever `times` changes.
        probing: the watch whose first poll asks for the model's P80, until one has been answered.
        instant: whether its latest job was done as soon as it was queued, so that the next one may be too.
        watches: the jobs that are being watched.
        p80: seconds, as the server says.
        untold: completions, in seconds, of which other processes have not been told.
    """

    def __init__(self) -> None:
        self.times: JobTimes = fit(None, ())
        self.version: int = 0
        self.probing: PolledJob | None = None
        self.instant: bool = False
        self.watches: dict[PolledJob, None] = {}
        self.p80: float | None = None
        self.untold: list[float] = []
        self._probed = False
        self._took: deque[float] = deque(maxlen=REMEMBERED)
        self._completions = self._believed = 0

    @property
    def known(self) -> bool:
        """Whether `times` is more than a guess."""
        return self.p80 is not None or self._completions >= FEWEST

    def enter(self, watch: PolledJob) -> None:
        """Watch one more job; the first of all is the one to probe."""
        self.watches[watch] = None
        if not self._probed and self.probing is None:
            self.probing = watch

    def leave(self, watch: PolledJob) -> None:
        """Watch one job fewer; if it was to probe and has not, another one is."""
        self.watches.pop(watch, None)
        if self.probing is watch:
            self.probing = next(iter(self.watches), None)
            self.version += 1

    def answered(self, average: float | None) -> None:
        """Take in that a poll was answered, and the P80 it told."""
        self._probed, self.probing = True, None
        if average is not None and 0 < average <= _CREDIBLE and average != self.p80:
            self.p80 = average
            self._believe()

    def hear(self, p80: float) -> None:
        """Take in the P80 that another process was told, if the server has not told us."""
        if self.p80 is None:
            self.answered(p80)

    def completed(self, seconds: float) -> None:
        """Take in how long a job of ours took."""
        self.untold.append(seconds)
        self.learn(seconds)

    def learn(self, seconds: float) -> None:
        """Take in how long a job took."""
        self._took.append(seconds)
        self._completions += 1
        least, growth = _RELEARN
        if self._completions >= max(
            self._believed + least, min(self._believed, REMEMBERED) * (growth - 1) + self._believed
        ):
            self._believed = self._completions
            self._believe()

    def note_instant(self, *, instant: bool) -> None:
        """Take in whether a job was done as soon as it was queued."""
        if instant != self.instant:
            self.instant = instant
            self.version += 1

    def _believe(self) -> None:
        times = fit(self.p80, tuple(self._took))
        if abs(times.location - self.times.location) + abs(times.spread - self.times.spread) > _NOTABLE:
            self.times = times
            self.version += 1


class PolledJob:
    """One job that is being polled: report to it what the answers say, and `close` it in the end."""

    def __init__(
        self,
        model: ModelTimes,
        *,
        age: float | None,
        clock: Clock,
        polling: Polling,
    ) -> None:
        """Watch a job that was queued `age` seconds ago, None if that is not known."""
        self.model = model
        self._clock = clock
        self._polling = polling
        self._born = clock.monotonic() - (age or 0.0)
        self._age_known = age is not None
        self._from_start = age == 0
        self._answered = False
        self._last = 0.0  # the age at the latest answer
        self._since = 0.0  # Λ of it
        self._version = model.version
        model.enter(self)

    @property
    def eta(self) -> float | None:
        """Seconds the job will still take, by the median of its model and age; None before both are known."""
        if not self.model.known or not self._age_known:
            return None
        return self.model.times.remaining(self.age(self._clock.monotonic()))

    def progressed(self, *, age: float | None, average: float | None) -> None:
        """Take in an answer that says "still going": the job's age and its model's P80, in seconds."""
        now = self._clock.monotonic()
        if age is not None and 0 <= age <= _CREDIBLE:
            self._born = now - age
            self._age_known = True
        self._answered = True
        self._last = self.age(now)
        self.model.note_instant(instant=False)
        self.model.answered(average)
        self._remember()

    def completed(self, *, age: float | None) -> None:
        """Take in that the job is done, at that age if the answer says so: its model's times are learned."""
        self.model.answered(None)
        if self._from_start:
            young = self.age(self._clock.monotonic()) < self._polling.min_gap
            self.model.note_instant(instant=young and not self._answered)
        if self._from_start or (self._answered and self._age_known):
            self.model.completed(estimate_duration(self._last, self.age(self._clock.monotonic()), age))

    def close(self) -> None:
        """Stop watching; may be called more than once."""
        self.model.leave(self)

    def age(self, now: float) -> float:
        """Return the job's age at a moment of the clock."""
        return max(now - self._born, 0.0)

    def due(self, now: float) -> float:
        """Return the moment from now on at which a poll is worth its price."""
        if self._at_once:
            return now
        if self._version != self.model.version:
            self._remember()
        polling, times = self._polling, self.model.times
        most = max(self._last + polling.max_gap, times.p80 / 2) - self._last
        least = min(max(polling.min_gap, self.age(now) - self._last), most)  # the past is not searched
        return self._born + times.due(self._last, price=polling.price, least=least, most=most)

    def urgency(self, now: float) -> float:
        """Return what not polling has cost since the last answer, in seconds of delay."""
        if self._version != self.model.version:
            self._remember()
        urgency = self.model.times.urgency(self._since, now - self._born)
        return max(urgency, self._polling.price) if self._at_once else urgency

    def pressure(self, now: float) -> float:
        """Return √h, the polls the job asks for but for the price."""
        return math.sqrt(self.model.times.hazard(self.age(now)))

    @property
    def _at_once(self) -> bool:
        """Whether the first poll should not wait: it tells P80 or an unknown age, or finds the job done."""
        first = self.model.probing is self or self.model.instant or not self._age_known
        return first and not self._answered

    def _remember(self) -> None:
        self._version = self.model.version
        self._since = self.model.times.cumulative(self._last)
