"""What an answer's headers say about waiting, believed only where it is credible. Names are in lower case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from attrs import frozen

CREDIBLE_RESET = 120.0  # seconds: windows last 60, so a reset that is further away is a mistake
CREDIBLE_WAIT = 300.0  # seconds: longer than any pause the vendor documents (a block lasts 30)
CREDIBLE_LIMIT = 100_000.0  # requests a minute
_MILLISECONDS = 1e11  # a Unix time above this is in milliseconds: in seconds it would be the year 5138
_UNIX = 1e8  # and a number above this is a Unix time: as a wait it would be three years
_NUMBER = re.compile(r"\+?\d{1,20}(?:\.\d{1,20})?")


@frozen(kw_only=True)
class Allowance:
    """The server's own account of a rate limit, as one answer told it.

    Attributes:
        limit: requests a window.
        remaining: of these, how many are left after this one.
        reset: seconds until the window ends, never too few: the server's clock shows whole seconds.
        mark: names the window: answers with equal marks speak of the same reset; None if they cannot be told.

    """

    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None
    mark: str | None = None


def allowance(headers: Mapping[str, str], now: float) -> Allowance:
    """Read the `x-ratelimit-*-requests` headers; what is absent or absurd is None. `now` is our Unix time."""
    limit = _number(headers.get("x-ratelimit-limit-requests"))
    if limit is not None and not 1 <= limit <= CREDIBLE_LIMIT:
        limit = None
    remaining = _number(headers.get("x-ratelimit-remaining-requests"))
    if remaining is not None and limit is not None and remaining > limit:
        remaining = None
    text = headers.get("x-ratelimit-reset-requests")
    value = _number(text)
    absolute = value is not None and value > _UNIX
    reset = _wait(value, headers, now, at_most=CREDIBLE_RESET)
    return Allowance(limit=limit, remaining=remaining, reset=reset, mark=text if absolute else None)


def blocked_for(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds for which the key is blocked after too many failures (`x-ratelimit-resets`)."""
    return _wait(_number(headers.get("x-ratelimit-resets")), headers, now, at_most=CREDIBLE_RESET)


def asked_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that `retry-after` asks for, as a number, also with decimals, or an HTTP date."""
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is None:
        until = _http_date(text)
        seconds = None if until is None else until - _server_time(headers, now)
    return seconds if seconds is not None and 0 <= seconds <= CREDIBLE_WAIT else None


def _wait(value: float | None, headers: Mapping[str, str], now: float, *, at_most: float) -> float | None:
    """Turn seconds, a Unix time or a Unix time in milliseconds into seconds from the server's present."""
    if value is None:
        return None
    exact = value > _MILLISECONDS
    if value > _UNIX:
        value = (value / 1000 if exact else value) - _server_time(headers, now)
    whole = not exact and value == int(value)  # may have been rounded down by up to a second
    return value + whole if 0 <= value <= at_most else None


def _server_time(headers: Mapping[str, str], now: float) -> float:
    date = _http_date(headers.get("date"))
    return now if date is None else date


def _number(text: str | None) -> float | None:
    """Read a plain decimal, or the first of a list of them (`120, 120;w=60`)."""
    first = re.split("[,;]", text or "", maxsplit=1)[0].strip()
    return float(first) if _NUMBER.fullmatch(first) else None


def _http_date(text: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(text or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
