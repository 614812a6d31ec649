"""What to do after trouble: the retry verdicts of every call as one table, and the quota they draw on."""

from __future__ import annotations

import enum
import math
from http import HTTPStatus
from typing import Literal, TypeAlias

from attrs import evolve, field, frozen

from ..options import Retries


class Call(enum.Enum):
    """What a request is for, which decides how it is paced and retried."""

    QUEUE = "queue"  # the paid request
    RETRIEVE = "retrieve"  # a poll
    OTHER = "other"  # quote, models, complete, rate limits
    LINK = "link"  # GET of a private link
    REVOKE = "revoke"  # DELETE of a private link


@frozen
class Trouble:
    """What went wrong with one request.

    Attributes:
        kind: `unsent`: no connection was made; `interrupted`: a timeout or reset after sending; `status`: an
            answer.
        status: the HTTP status, for `status`; one below 400 means that its body made no sense.
        retry_after: seconds the server asked to wait, as read by `headers.retry_after`.

    """

    kind: Literal["unsent", "interrupted", "status"]
    status: int | None = field(default=None, kw_only=True)
    retry_after: float | None = field(default=None, kw_only=True)


@frozen
class Retry:
    """Send it again after that many seconds."""

    after: float


@frozen
class GiveUp:
    """The trouble is the answer."""


@frozen
class Unknown:
    """The request may have been accepted: it must not be sent again."""


Verdict: TypeAlias = Retry | GiveUp | Unknown


@frozen(kw_only=True)
class _Again:
    """Retry up to `times` in a row, after full jitter below `first` seconds, doubled each time up to `cap`.

    Never sooner than `least`, or than the server asks: of that, at most `most`. Jitter by M. Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    times: float = math.inf
    first: float = 1.0
    cap: float = 20.0
    least: float = 0.0
    most: float = math.inf

    def verdict(self, trouble: Trouble, attempt: int, chance: float) -> Verdict:
        if attempt > self.times:
            return GiveUp()
        jitter = chance * min(self.cap, self.first * 2.0 ** min(attempt - 1, 30))
        if trouble.retry_after is None:
            return Retry(max(self.least, jitter))
        return Retry(max(min(trouble.retry_after, self.most), jitter))


class _Kind(enum.Enum):
    """The columns of the table."""

    UNSENT = enum.auto()
    INTERRUPTED = enum.auto()
    NONSENSE = enum.auto()  # a success or a redirect that nobody can make sense of
    LIMITED = enum.auto()  # 429
    FAILED = enum.auto()  # 500
    GATEWAY = enum.auto()  # 502, 504, the 52x of an edge and every other 5xx; and 408: the edge again
    BUSY = enum.auto()  # 503
    REFUSED = enum.auto()  # every other 4xx


_SERVER_ERRORS = {500: _Kind.FAILED, 503: _Kind.BUSY}
_NO, _UNKNOWN = GiveUp(), Unknown()
_BLIP = _Again()  # on a poll: however many, they never end a paid job before its deadline
_LINK = _Again(least=10.0)

_TABLE: dict[Call, dict[_Kind, _Again | GiveUp | Unknown]] = {
    Call.QUEUE: {
        _Kind.UNSENT: _Again(times=3),
        _Kind.INTERRUPTED: _UNKNOWN,
        _Kind.NONSENSE: _UNKNOWN,
        _Kind.LIMITED: _Again(),
        _Kind.FAILED: _UNKNOWN,
        _Kind.GATEWAY: _UNKNOWN,
        _Kind.BUSY: _Again(times=5, cap=60.0),
        _Kind.REFUSED: _NO,
    },
    Call.RETRIEVE: {
        _Kind.UNSENT: _BLIP,
        _Kind.INTERRUPTED: _BLIP,
        _Kind.NONSENSE: _BLIP,
        _Kind.LIMITED: _BLIP,
        _Kind.FAILED: _Again(times=4),
        _Kind.GATEWAY: _BLIP,
        _Kind.BUSY: _Again(cap=60.0, most=60.0),
        _Kind.REFUSED: _NO,
    },
    Call.OTHER: {
        _Kind.UNSENT: _Again(times=5),
        _Kind.INTERRUPTED: _Again(times=5),
        _Kind.NONSENSE: _NO,
        _Kind.LIMITED: _Again(times=8),
        _Kind.FAILED: _Again(times=4),
        _Kind.GATEWAY: _Again(times=5),
        _Kind.BUSY: _Again(times=8, cap=60.0, most=60.0),
        _Kind.REFUSED: _NO,
    },
    Call.LINK: {  # how many GETs a link gets in all is counted by the job, across restarts
        _Kind.UNSENT: _Again(),
        _Kind.INTERRUPTED: _Again(),
        _Kind.NONSENSE: _LINK,
        _Kind.LIMITED: _LINK,
        _Kind.FAILED: _LINK,
        _Kind.GATEWAY: _LINK,
        _Kind.BUSY: _LINK,
        _Kind.REFUSED: _NO,
    },
    Call.REVOKE: {**dict.fromkeys(_Kind, _Again(times=1)), _Kind.REFUSED: _NO},
}


def verdict(call: Call, trouble: Trouble, *, attempt: int, chance: float) -> Verdict:
    """Decide whether to send a request again, from `_TABLE` and nothing else.

    `attempt` counts the troubles of this kind in a row, from 1 for the first; `chance` is random in [0, 1).
    """
    entry = _TABLE[call][_kind(call, trouble)]
    return entry.verdict(trouble, attempt, chance) if isinstance(entry, _Again) else entry


def _kind(call: Call, trouble: Trouble) -> _Kind:
    if trouble.kind != "status":
        return _Kind.UNSENT if trouble.kind == "unsent" else _Kind.INTERRUPTED
    status = trouble.status or 0
    if status == HTTPStatus.REQUEST_TIMEOUT and call is not Call.QUEUE:
        return _Kind.GATEWAY
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _SERVER_ERRORS.get(status, _Kind.GATEWAY)
    if status >= HTTPStatus.BAD_REQUEST:
        return _Kind.LIMITED if status == HTTPStatus.TOO_MANY_REQUESTS else _Kind.REFUSED
    return _Kind.NONSENSE


@frozen
class RetryQuota:
    """The retries a client may still send, so that a server in trouble is not met by a storm of them."""

    retries: Retries
    tokens: float

    @classmethod
    def full(cls, retries: Retries) -> RetryQuota:
        """Return a quota of which nothing is spent."""
        return cls(retries, retries.quota)

    def spent(self) -> RetryQuota | None:
        """Return what is left after one retry, or None if there is not enough for it."""
        left = self.tokens - self.retries.cost
        return evolve(self, tokens=left) if left >= 0 else None

    def refunded(self) -> RetryQuota:
        """Return what is there after one success."""
        return evolve(self, tokens=min(self.retries.quota, self.tokens + self.retries.refund))
