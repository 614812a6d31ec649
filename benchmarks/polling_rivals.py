"""Other ways to poll against the same strict server, and what theory allows. Round trips take no time."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Sequence

from attrs import define

from .strict_server import StrictServer

Z80 = 0.8416212335729143
OK = 200
NOBODY = 1e-9  # of all jobs: not worth a poll


@define
class Outcome:
    """What one run gave.

    Attributes:
        late: seconds from each job's end to its notice.
        requests: polls sent.
        refused: of these, answered by a 429.
        blocks: how often the key was blocked.
        ends: the moment of the last notice.
        cpu: seconds of processor time, where measured.
    """

    late: list[float]
    requests: int
    refused: int = 0
    blocks: int = 0
    ends: float = 0.0
    cpu: float = math.nan


class Spaced:
    """A limiter shared by all jobs, first come, first served: 95 % of the limit, and 5 % at once."""

    def __init__(self, rate: float = 1.9, burst: float = 6.0) -> None:
        """Allow `rate` a second."""
        self._interval, self._tolerance, self._due = 1 / rate, (burst - 1) / rate, -math.inf

    def slot(self, now: float) -> float:
        """Take the next slot and return when it is."""
        when = max(now, self._due - self._tolerance)
        self._due = max(self._due, when) + self._interval
        return when


Gap = Callable[[int], float]


def each_for_itself(
    takes: Sequence[float],
    starts: Sequence[float],
    server: StrictServer,
    *,
    first: float,
    gap: Gap,
    limiter: Spaced | None,
) -> Outcome:
    """Poll each job `first` seconds after its start, then after `gap(polls so far)`; a 429 is an answer."""
    late = [math.nan] * len(takes)
    polls = [(start + first, job, 0) for job, start in enumerate(starts)]
    heapq.heapify(polls)
    ends = 0.0
    while polls:
        now, job, count = heapq.heappop(polls)
        now = now if limiter is None else limiter.slot(now)
        status, _ = server.take(now)
        done = starts[job] + takes[job]
        if status == OK and now >= done:
            late[job], ends = now - done, max(ends, now)
        else:
            heapq.heappush(polls, (now + gap(count), job, count + 1))
    return Outcome(late, server.requests, server.refused, server.blocks, ends)


def fixed(takes: Sequence[float], starts: Sequence[float], server: StrictServer) -> Outcome:
    """Poll every 5 s: the vendor's sample."""
    return each_for_itself(takes, starts, server, first=0.0, gap=lambda _: 5.0, limiter=None)


def fixed_limited(takes: Sequence[float], starts: Sequence[float], server: StrictServer) -> Outcome:
    """Poll every 5 s behind a shared limiter."""
    return each_for_itself(takes, starts, server, first=0.0, gap=lambda _: 5.0, limiter=Spaced())


def backoff(takes: Sequence[float], starts: Sequence[float], server: StrictServer) -> Outcome:
    """Poll after 1, 2, 4 … up to 30 s."""
    return each_for_itself(takes, starts, server, first=1.0, gap=lambda n: min(30.0, 2.0**n), limiter=None)


def eta_sleep(takes: Sequence[float], starts: Sequence[float], server: StrictServer) -> Outcome:
    """Sleep for half of the announced P80, then poll every 5 s behind a shared limiter."""
    return each_for_itself(takes, starts, server, first=72.5, gap=lambda _: 5.0, limiter=Spaced())


def oracle(takes: Sequence[float], starts: Sequence[float], server: StrictServer) -> Outcome:
    """Know when each job ends; only the limit binds, evenly spaced."""
    limiter, late, ends = Spaced(2.0, 1.0), list[float](), 0.0
    for end in sorted(start + take for start, take in zip(starts, takes, strict=True)):
        ends = limiter.slot(end)
        server.take(ends)
        late.append(ends - end)
    return Outcome(late, server.requests, server.refused, server.blocks, ends)


def optimum(spread: float, polls: float, *, p80: float = 145.0, step: float = 0.5) -> float:
    """Return the least mean delay in seconds that any schedule of so many polls a job can have.

    The spread is known to it. By dynamic programming over a grid of inspection times (Barlow, Hunter and
    Proschan 1963), at the price that makes the polls what is asked for.
    """
    cheap, dear = (0.3, *_schedule(spread, 0.3, p80, step)), (30.0, *_schedule(spread, 30.0, p80, step))
    for _ in range(7):
        price = math.sqrt(cheap[0] * dear[0])
        point = (price, *_schedule(spread, price, p80, step))
        cheap, dear = (point, dear) if point[1] > polls else (cheap, point)
    (_, more, less_late), (_, fewer, more_late) = cheap, dear
    return more_late + (less_late - more_late) * (polls - fewer) / (more - fewer)


def _schedule(spread: float, price: float, p80: float, step: float) -> tuple[float, float]:
    """Return the mean polls and the mean delay of the schedule that is best at a price."""
    location = math.log(p80) - Z80 * spread
    times = [step * index for index in range(int(10 * p80 / step))]
    alive = [1.0] + [0.5 * math.erfc((math.log(t) - location) / spread / math.sqrt(2)) for t in times[1:]]
    lived = [0.0]
    for before, after in itertools.pairwise(alive):
        lived.append(lived[-1] + (before + after) / 2 * step)
    last = len(times) - 1
    cost, following = [0.0] * len(times), [last] * len(times)
    for i in range(last - 1, -1, -1):
        reach = last + 1 if i == 0 else min(last + 1, i + int(200 / step))
        base = price * alive[i] + lived[i] - times[i] * alive[i]
        options = ((times[j] * alive[i] - lived[j] + cost[j], j) for j in range(i + 1, reach))
        cost[i], following[i] = min(options)
        cost[i] += base
    i, polls, late = 0, 0.0, 0.0
    while i < last and alive[i] > NOBODY:
        j = following[i]
        polls += alive[i]
        late += (times[j] - times[i]) * alive[i] - (lived[j] - lived[i])
        i = j
    return polls, late
