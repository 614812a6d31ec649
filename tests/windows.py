"""Rate limits as servers keep them: for driving what must never be refused."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from email.utils import formatdate
from typing import TYPE_CHECKING, Literal

from attrs import define, field

from venice_async.sansio.http.headers import Allowance, allowance

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping

    from venice_async.sansio.limits.bucket import Bucket, Sent

EPOCH = 1_800_000_000.0  # Unix time at the server's moment 0


@define(kw_only=True)
class Window:
    """At most `limit` requests in any of its 60-second windows.

    Attributes:
        limit: requests in a window.
        kind: fixed, or sliding, named by what it calls its reset: the oldest request's leaving, or all's.
        phase: seconds by which the first fixed window is cut short.
        unit: what the reset header counts in; a whole second may be rounded down.
        taken: moments of the requests that were let in.
        refused: how many were not.
    """

    limit: int = 120
    kind: Literal["fixed", "oldest", "all"] = "fixed"
    phase: float = 0.0
    unit: Literal["milliseconds", "seconds", "wait"] = "milliseconds"
    taken: deque[float] = field(factory=deque[float])
    refused: int = 0

    def count(self, now: float) -> tuple[bool, dict[str, str]]:
        """Let one request in, or refuse it; return whether, and the headers."""
        fixed = self.kind == "fixed"
        begins = now - (now + self.phase) % 60 if fixed else now - 60
        used = [at for at in self.taken if (at >= begins if fixed else at > begins)]
        allowed = len(used) < self.limit
        if allowed:
            self.taken.append(now)
            used.append(now)
        self.refused += not allowed
        ends = {"fixed": begins, "oldest": used[0], "all": now}[self.kind] + 60
        return allowed, {
            "date": formatdate(math.floor(EPOCH + now), usegmt=True),
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.limit - len(used)),
            "x-ratelimit-reset-requests": self._reset(now, ends),
        }

    def _reset(self, now: float, ends: float) -> str:
        if self.unit == "wait":
            return str(math.floor(ends - now))
        scale = 1000 if self.unit == "milliseconds" else 1
        return str(math.floor((EPOCH + ends) * scale))

    def most_in_any(self, seconds: float = 60.0) -> int:
        """Return the most requests let in within that time, wherever it starts."""
        taken = list(self.taken)
        return max((sum(start <= at < start + seconds for at in taken) for start in taken), default=0)


def drive(
    bucket: Bucket,
    window: Window,
    wanted: Iterable[float],
    chance: random.Random,
    *,
    slowest: float = 1.0,
    told: bool = True,
    until: float = 600.0,
    others: Iterable[float] = (),
) -> list[float]:
    """Send a request for each of the moments `wanted`, as soon as the bucket opens, until `until`.

    It is counted and answered after up to `slowest` seconds in all, so that requests overtake each other.
    At the moments `others` somebody else uses the key. Return when ours were sent.
    """
    strangers = deque(sorted(others))
    order = itertools.count()
    queue = sorted(wanted, reverse=True)
    events: list[tuple[float, int, str, Sent, Mapping[str, str]]] = []
    now, left = 0.0, list[float]()
    while now < until and (queue or events):
        ready = max(now, queue[-1]) if queue else now
        opens = bucket.opens(ready) if queue else math.inf
        if opens < math.inf and (not events or opens <= events[0][0]):
            now = opens
            if opens > ready:
                continue  # to ask again then
            queue.pop()
            left.append(now)
            arrives = now + chance.uniform(0.025, 0.5) * slowest
            heapq.heappush(events, (arrives, next(order), "count", bucket.take(now), {}))
        elif events:
            now, _, what, sent, headers = heapq.heappop(events)
            if what == "count":
                while strangers and strangers[0] <= now:
                    let_in, _ = window.count(strangers.popleft())
                    window.refused -= not let_in
                _, headers = window.count(now)
                back = now + chance.uniform(0.025, 0.5) * slowest
                heapq.heappush(events, (back, next(order), "answer", sent, headers))
            else:
                bucket.answered(sent, allowance(headers, EPOCH + now) if told else Allowance(), now)
        else:
            msg = "waits for an answer that is not on its way"
            raise AssertionError(msg)
    return left
