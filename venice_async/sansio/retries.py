"""When a request is sent again after a failure: one table for all calls."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, TypeAlias

from attrs import field, frozen

from ..errors import APIError, ConnectError, DownloadError, TruncatedError, UsageError, VeniceError


class Call(enum.Enum):
    """What a request is for, which decides how it is paced and retried."""

    QUEUE = "queue"  # the paid request
    RETRIEVE = "retrieve"  # a poll
    OTHER = "other"  # quote, models, complete, rate limits
    LINK = "link"  # GET of a private link
    REVOKE = "revoke"  # DELETE of a private link


LINKS: Final = (Call.LINK, Call.REVOKE)  # sent to a link's host, not to the API


@frozen
class Retry:
    """Send it again `after` that many seconds."""

    after: float


@frozen
class GiveUp:
    """Raise the failure."""


@frozen
class Unknown:
    """The request may have been accepted: it must not be sent again."""


Verdict: TypeAlias = Retry | GiveUp | Unknown


@frozen(kw_only=True)
class _Again:
    """Retry up to `times` in a row, after pauses below `first` seconds times `growth`, up to `cap`.

    Where there is a `span`, go on until the pauses have added up to as many seconds, too. The pause is drawn
    from all below its bound, or from the upper half of that if it is `steady`; it is never shorter than
    `least`, or than the server asks: of that, at most `most`. Jitter by M. Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015.
    """

    times: float = math.inf
    span: float = 0.0
    first: float = 1.0
    growth: float = 2.0
    cap: float = 20.0
    steady: bool = False
    least: float = 0.0
    most: float = math.inf


class Kind(enum.Enum):
    """The kinds of failure: the columns of the table."""

    UNSENT = enum.auto()
    INTERRUPTED = enum.auto()
    NONSENSE = enum.auto()  # a success or a redirect that nobody can make sense of
    LIMITED = enum.auto()  # 429
    FAILED = enum.auto()  # 500
    GATEWAY = enum.auto()  # 408, 499, 502, 504, 52x and every other 5xx; a poll's page of an edge
    BUSY = enum.auto()  # 503; on a paid request only one that names the model's lack of capacity
    ABSENT = enum.auto()  # a job or its clip that is not there: not yet, or no longer; 421, 423, 425
    REFUSED = enum.auto()  # every other 4xx


_SERVER_ERRORS = {500: Kind.FAILED, 503: Kind.BUSY}
_CLIENT_GONE: Final = 499  # what an nginx notes, and what some edges answer
_NOT_NOW: Final = frozenset({HTTPStatus.MISDIRECTED_REQUEST, HTTPStatus.LOCKED, HTTPStatus.TOO_EARLY})
_NO_CAPACITY: Final = ("MODEL_OFFLINE", "MODEL_AT_CAPACITY")

# "Request ID is invalid.", in whatever order and spelling.
_UNKNOWN_ID: Final = re.compile(
    r"\b(request|queue|job)[ _-]?id\b.*\b(invalid|unknown|not found|expired)\b"
    r"|\b(invalid|unknown|expired)\b.*\b(request|queue|job)[ _-]?id\b",
    re.IGNORECASE,
)

_NO, _UNKNOWN = GiveUp(), Unknown()
_BLIP = _Again()  # on a poll: however many, they never end a paid job before its deadline
_LINK = _Again(least=10.0)

_TABLE: dict[Call, dict[Kind, _Again | GiveUp | Unknown]] = {
    Call.QUEUE: {
        Kind.UNSENT: _Again(times=3),
        Kind.INTERRUPTED: _UNKNOWN,
        Kind.NONSENSE: _UNKNOWN,
        Kind.LIMITED: _Again(),
        Kind.FAILED: _UNKNOWN,
        Kind.GATEWAY: _UNKNOWN,
        Kind.BUSY: _Again(times=5, cap=60.0),
        Kind.ABSENT: _UNKNOWN,
        Kind.REFUSED: _NO,
    },
    Call.RETRIEVE: {
        Kind.UNSENT: _BLIP,
        Kind.INTERRUPTED: _BLIP,
        Kind.NONSENSE: _BLIP,
        Kind.LIMITED: _BLIP,
        Kind.FAILED: _Again(times=1, least=5.0),  # a failure is recorded, and replayed to the next poll
        Kind.GATEWAY: _BLIP,
        Kind.BUSY: _Again(cap=60.0, most=60.0),
        Kind.ABSENT: _Again(times=4, span=90.0, first=2.0, steady=True),
        Kind.REFUSED: _NO,
    },
    Call.OTHER: {
        Kind.UNSENT: _Again(times=5),
        Kind.INTERRUPTED: _Again(times=5),
        Kind.NONSENSE: _NO,
        Kind.LIMITED: _Again(times=8),
        Kind.FAILED: _Again(times=4),
        Kind.GATEWAY: _Again(times=5),
        Kind.BUSY: _Again(times=8, cap=60.0, most=60.0),
        Kind.ABSENT: _NO,
        Kind.REFUSED: _NO,
    },
    Call.LINK: {  # how many GETs a link gets in all is counted by the job, across restarts
        Kind.UNSENT: _Again(),
        Kind.INTERRUPTED: _Again(growth=3.0, cap=48.0),  # five GETs should outlast the restart of a host
        Kind.NONSENSE: _LINK,
        Kind.LIMITED: _LINK,
        Kind.FAILED: _LINK,
        Kind.GATEWAY: _LINK,
        Kind.BUSY: _LINK,
        Kind.ABSENT: _Again(first=12.0, cap=48.0, steady=True),  # five GETs take one to two minutes
        Kind.REFUSED: _NO,
    },
    Call.REVOKE: {**dict.fromkeys(Kind, _Again(times=1)), Kind.REFUSED: _NO},
}


_FRESH: Final = 1.5  # times the patience with a job that no poll has found yet: not every replica knows it


def is_unknown_id(error: APIError) -> bool:
    """Tell whether the API says that it does not know the job."""
    if error.status == HTTPStatus.BAD_REQUEST:
        return _UNKNOWN_ID.search(error.message) is not None
    return error.status == HTTPStatus.NOT_FOUND


def kind_of(call: Call, error: VeniceError) -> Kind:
    """Return the column of the table that an error belongs to."""
    if isinstance(error, ConnectError):
        return Kind.UNSENT
    if isinstance(error, DownloadError) and not isinstance(error, TruncatedError):
        return Kind.ABSENT  # an answer without the clip it should hold
    if not isinstance(error, APIError):
        return Kind.INTERRUPTED
    status = error.status
    if status < HTTPStatus.BAD_REQUEST:
        return Kind.NONSENSE
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Kind.LIMITED
    if call is Call.QUEUE and status == HTTPStatus.SERVICE_UNAVAILABLE:
        said = f"{error.code} {error.message} {error.details}"
        # Any other is an edge's, of which nobody knows what it hides.
        return Kind.BUSY if any(word in said for word in _NO_CAPACITY) else Kind.GATEWAY
    if status in {HTTPStatus.REQUEST_TIMEOUT, _CLIENT_GONE}:
        return Kind.GATEWAY  # who says so has waited; what came of a paid request behind it is not known
    if call is Call.RETRIEVE and error.by_edge and status != HTTPStatus.SERVICE_UNAVAILABLE:
        return Kind.GATEWAY
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _SERVER_ERRORS.get(status, Kind.GATEWAY)
    if call is Call.RETRIEVE and is_unknown_id(error):
        return Kind.ABSENT
    if call in {Call.RETRIEVE, Call.LINK} and status in _NOT_NOW:
        return Kind.ABSENT
    if call is Call.LINK and status in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
        return Kind.ABSENT  # a store whose objects may not be listed says 403
    return Kind.REFUSED


@frozen
class Attempts:
    """The failures of one job since its last good news: of each kind how many, and the seconds of pauses."""

    seen: Mapping[Kind, tuple[int, float]] = field(factory=dict[Kind, tuple[int, float]], hash=False)

    def judge(
        self, call: Call, error: VeniceError, *, chance: float, fresh: bool = False
    ) -> tuple[Attempts, Verdict]:
        """Return the attempts with one more failure, and whether to send the request again, by the table.

        `chance` is random in [0, 1); `fresh` tells whether the job is yet to be found.
        """
        if isinstance(error, UsageError):  # nothing was sent, and a retry would not help
            return self, GiveUp()
        kind = kind_of(call, error)
        rule = _TABLE[call][kind]
        earlier, paused = self.seen.get(kind, (0, 0.0))
        decided: Verdict
        if not isinstance(rule, _Again):
            decided = rule
        elif earlier >= rule.times and (paused / _FRESH if fresh else paused) >= rule.span:
            decided = GiveUp()
        else:
            bound = min(rule.cap, rule.first * rule.growth ** min(earlier, 30))
            pause = bound * ((1.0 + chance) / 2.0 if rule.steady else chance)
            asked = error.retry_after if isinstance(error, APIError) else None
            decided = Retry(max(rule.least if asked is None else min(asked, rule.most), pause))
            paused += decided.after
        return Attempts({**self.seen, kind: (earlier + 1, paused)}), decided
