"""One job that is being polled, and what is known of its model."""

from __future__ import annotations

import math
from collections import deque
from functools import partial

from attrs import define, field

from ...options import Polling
from ...sansio.polling.job_times import FEWEST, LONGEST, REMEMBERED, JobTimes, estimate_duration, fit
from ..transport import Clock

_NOTABLE = 0.02  # of the logarithm of a time: an estimate that changes by less stays as it is
_REFIT = 5, 0.1  # completions, and their growth: a new estimate moves the polls of all jobs


@define(eq=False)
class ModelTimes:
    """What is known of the times of a model's jobs; shared by all of them that are being polled.

    Attributes:
        times: the estimate.
        p80: seconds, as the server says.
        completions: how many jobs it was learned from.
        instant: whether its latest job was done as soon as it was queued, so that the next one may be too.
        probed: whether any poll has been answered.
        probing: until then the job whose first poll asks for the model's P80.
        jobs: those that are being polled.
        untold: durations, in seconds, that other processes have not been told.
    """

    times: JobTimes = field(factory=partial(fit, None, ()))
    p80: float | None = None
    completions: int = 0
    instant: bool = False
    probed: bool = False
    probing: PolledJob | None = None
    jobs: dict[PolledJob, None] = field(factory=dict["PolledJob", None])
    untold: list[float] = field(factory=list[float])
    _durations: deque[float] = field(factory=partial(deque[float], maxlen=REMEMBERED))
    _fitted: int = 0

    def answered(self, average: float | None, *, instant: bool) -> None:
        """Record that a poll was answered, and the P80 it told."""
        self.probed, self.probing = True, None
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

    def __init__(self, model: ModelTimes, *, age: float | None, clock: Clock, polling: Polling) -> None:
        """Watch a job that was queued `age` seconds ago, None if that is not known."""
        self.model = model
        self.due = self._not_before = math.inf
        self._clock = clock
        self._polling = polling
        self.born = clock.monotonic() - (age or 0.0)
        self._age_known = age is not None
        self._from_start = age == 0
        self._answered = False
        self._last = 0.0  # the age at the latest answer
        self._since = 0.0  # Λ of it
        self._least = 0.0  # seconds of delay: the urgency of a poll that should not wait
        model.jobs[self] = None
        if not model.probed and model.probing is None:
            model.probing = self

    @property
    def eta(self) -> float | None:
        """Seconds the job will still take, by the median of its model and age; None before both are known."""
        known = self.model.p80 is not None or self.model.completions >= FEWEST
        if not known or not self._age_known:
            return None
        return self.model.times.remaining(self._clock.monotonic() - self.born)

    def progressed(self, *, age: float | None, average: float | None) -> None:
        """Record an answer that says "still going": the job's age and its model's P80, in seconds."""
        now = self._clock.monotonic()
        if age is not None and 0 <= age <= LONGEST:
            self.born = now - age
            self._age_known = True
        self._answered = True
        self._last = now - self.born
        self.model.answered(average, instant=False)

    def completed(self, *, age: float | None) -> None:
        """Record that the job is done, at that age if the answer says so: its model's times are learned."""
        model, elapsed = self.model, self._clock.monotonic() - self.born
        at_first = elapsed < self._polling.min_gap and not self._answered
        model.answered(None, instant=at_first if self._from_start else model.instant)
        if self._from_start or (self._answered and self._age_known):
            seconds = estimate_duration(self._last, elapsed, age)
            model.untold.append(seconds)
            model.learn(seconds)

    def close(self) -> None:
        """Stop watching; may be called more than once."""
        model = self.model
        model.jobs.pop(self, None)
        if model.probing is self:
            model.probing = next(iter(model.jobs), None)
            if model.probing is not None:
                model.probing.schedule()

    def schedule(self, after: float | None = None) -> None:
        """Find when the next poll is due, not before `after` seconds from now.

        None finds it anew, as what is known of the model has changed: a poll that is due stays so.
        """
        now, times, polling, last = self._clock.monotonic(), self.model.times, self._polling, self._last
        if after is not None:
            self.due, self._not_before = math.inf, now + after
        # The first poll should not wait where it tells P80 or an unknown age, or finds the job done.
        at_once = self.model.probing is self or self.model.instant or not self._age_known
        at_once = at_once and not self._answered
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
