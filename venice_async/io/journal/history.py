"""Which jobs of a journal are wanted."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final, get_args

from attrs import frozen

from ...errors import UsageError
from ...sansio.job.states import State
from .entries import UNFINISHED, JournalEntry

_KINDS: Final = {kind.__name__.lower(): (kind.__name__,) for kind in get_args(State)}
_STATES: Final = {**_KINDS, "unfinished": UNFINISHED}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


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
    msg = "since must be a datetime with a time zone, a timedelta, a span such as '7d', or a date of ISO 8601"
    raise UsageError(msg, hint="Such as '12h', '7d', '4w' or '2026-11-01', which is UTC")
