"""What people ask of a journal: which jobs there were, and what was paid. Days and months are of UTC."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Final, get_args

from attrs import frozen

from ...errors import UsageError
from ...sansio.job.states import State
from ...sansio.naming import is_pattern
from .entries import UNFINISHED, JournalEntry

_KINDS: Final = {kind.__name__.lower(): (kind.__name__,) for kind in get_args(State)}
_STATES: Final = {**_KINDS, "unfinished": UNFINISHED}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

WAYS: Final = ("model", "day", "folder", "tag")
_SUFFIXES: Final = frozenset({".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi"})


@frozen(kw_only=True)
class Wanted:
    """Which jobs are wanted; what is None is no condition.

    Attributes:
        kinds: the names of their states; empty for any.
        model: the model's id.
        key: the key, of a batch's job the one of its line.
        tag: the name of a tag, or name and text as `"project=dawn"`.
        since: when they began or later, in seconds since the Unix epoch.
        limit: how many at most, the newest.
    """

    kinds: tuple[str, ...] = ()
    model: str | None = None
    key: str | None = None
    tag: str | None = None
    since: float = 0.0
    limit: int | None = None

    def fits(self, entry: JournalEntry) -> bool:
        """Tell whether a job is one of those, by key and tag."""
        name, sep, text = (self.tag or "").partition("=")
        tagged = self.tag is None or (entry.tags.get(name) == text if sep else name in entry.tags)
        return tagged and (self.key is None or self.key in {entry.key, entry.name})


def kinds_of(state: object) -> tuple[str, ...]:
    """Return the names of the states that are meant: a state's class or its name, or `"unfinished"`.

    Raises:
        UsageError: there is no such state.
    """
    name = state.__name__ if isinstance(state, type) else state
    if name is None:
        return ()
    if isinstance(name, str) and (found := _STATES.get(name.lower())):
        return found
    msg = f"There is no state {state!r}; there are {', '.join(_STATES)}"
    raise UsageError(msg)


def moment(since: object, now: float) -> float:
    """Return when a span before `now` began, or a moment, in seconds since the Unix epoch.

    Raises:
        UsageError: it is neither a `datetime`, a `timedelta`, a span such as `"7d"`, nor a date in ISO 8601.
    """
    if since is None:
        return 0.0
    given = since
    if isinstance(since, str):
        span = _SPAN.fullmatch(since.strip())
        try:
            if span is not None:
                since = timedelta(**{_UNITS[span[2]]: float(span[1])})
            else:
                since = datetime.fromisoformat(since.strip())
                since = since if since.tzinfo else since.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            since = None
    if isinstance(since, timedelta):
        return now - since.total_seconds()
    if isinstance(since, datetime) and since.tzinfo is not None:
        return since.timestamp()
    msg = (
        f"{given!r} is neither a span of time nor a date"
        if isinstance(given, str)
        else "since must be a datetime with a time zone, a timedelta, a span or a date in ISO 8601"
    )
    raise UsageError(msg, hint="Write '12h', '7d', '4w' or '2026-11-01', which is UTC")


@frozen(kw_only=True)
class Paid:
    """What one job cost, or may have cost.

    Attributes:
        usd: the price, in USD.
        at: when its paid request was sent, in seconds since the Unix epoch.
        model: the model's id.
        tags: what the caller noted about it.
        to: the destination, or None.
    """

    usd: float
    at: float
    model: str | None = None
    tags: Mapping[str, str] = {}
    to: str | None = None

    def shares(self, by: str) -> list[str]:
        """Return what it counts under: one name, or of tags each; a job without any counts under none: ""."""
        match by.partition(":"):
            case "model", "", _:
                return [self.model or ""]
            case "day", "", _:
                return [datetime.fromtimestamp(self.at, UTC).date().isoformat()]
            case "folder", "", _:  # of a file, or a pattern of files, what it is in; or a folder itself
                above, sep, name = (self.to or "").rpartition("/")
                is_file = is_pattern(name) or PurePath(name).suffix.lower() in _SUFFIXES
                return [(above or sep) if is_file or not name else self.to or ""]
            case "tag", "", _:
                return [f"{name}={value}" for name, value in self.tags.items()] or [""]
            case "tag", _, name:
                return [self.tags.get(name, "")]
            case _:
                msg = f"Spend is counted by {', '.join(WAYS)} or tag:NAME, not by {by!r}"
                raise UsageError(msg)


def grouped(paid: Iterable[Paid], by: str) -> dict[str, float]:
    """Return the USD by name, the dearest first, days in their order.

    Raises:
        UsageError: `by` is no way to count.
    """
    Paid(usd=0, at=0).shares(by)  # also where nothing was paid
    sums: dict[str, Decimal] = {}
    for one in paid:
        for name in one.shares(by):
            sums[name] = sums.get(name, Decimal()) + Decimal(str(one.usd))
    ordered = sorted(sums.items(), key=lambda item: (item[0],) if by == "day" else (-item[1], item[0]))
    return {name: float(usd) for name, usd in ordered}


def total(paid: Iterable[Paid]) -> float:
    """Return the USD of all, exact in decimals: 3 times 0.1 is 0.3."""
    return float(sum(Decimal(str(one.usd)) for one in paid))


def spans(now: float) -> tuple[float, float]:
    """Return when the day and the month of a moment began."""
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day.timestamp(), day.replace(day=1).timestamp()
