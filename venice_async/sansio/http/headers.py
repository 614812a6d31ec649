"""Reads the headers about rate limits and waiting, where they are credible. Names are in lower case.

There are three sets of them, each about one thing:

* `x-ratelimit-{limit,remaining,reset}-requests`: the rate limit of the endpoint.
* `x-ratelimit-remaining` and `x-ratelimit-resets`: the failure budget, that is how many more requests may
  fail before the key is blocked. They are on most answers, and ask for a wait only on a 429 that says the key
  is blocked.
* `retry-after`: this request. With `MODEL_OVERLOADED` it says when the model may have room again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, Literal

from attrs import frozen

CREDIBLE_RESET = 120.0  # seconds: windows last 60, so a reset that is further away is a mistake
CREDIBLE_WAIT = 300.0  # seconds: longer than any pause the vendor documents (a block lasts 30)
CREDIBLE_LIMIT = 100_000.0  # requests a minute
BLOCK = 30.0  # seconds that the vendor blocks a key for after too many failures
OVERLOADED = 30.0  # seconds that the vendor gives a model without room, where it does not say
_BLOCKED = b"too many failed attempts"  # in the vendor's words, in lower case
_OVERLOADED = b"MODEL_OVERLOADED"  # the vendor's code
_MILLISECONDS = 1e11  # a Unix time above this is in milliseconds: in seconds it would be the year 5138
_UNIX = 1e8  # and a number above this is a Unix time: as a wait it would be three years
_RATE_LIMIT = frozenset(f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset"))
_NUMBER = re.compile(r"\+?\d{1,20}(?:\.\d{1,20})?")


@frozen(kw_only=True)
class Allowance:
    """The state of a rate limit, as one answer gives it.

    Attributes:
        limit: requests a window.
        remaining: of these, how many are left after this one.
        reset: seconds until the window ends, never too few: the server's clock shows whole seconds.
        mark: identifies the window: answers with equal marks are about the same reset; None if unknown.
    """

    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None
    mark: str | None = None


_UNKNOWN: Final = Allowance()


def allowance(headers: Mapping[str, str], now: float) -> Allowance:
    """Read the `x-ratelimit-*-requests` headers; what is absent or absurd is None. `now` is our Unix time."""
    if _RATE_LIMIT.isdisjoint(headers):
        return _UNKNOWN
    limit = _number(headers.get("x-ratelimit-limit-requests"))
    if limit is not None and not 1 <= limit <= CREDIBLE_LIMIT:
        limit = None
    remaining = _number(headers.get("x-ratelimit-remaining-requests"))
    if remaining is not None and limit is not None and remaining > limit:
        remaining = None
    text = headers.get("x-ratelimit-reset-requests")
    mark = text if (_number(text) or 0) > _UNIX else None
    return Allowance(limit=limit, remaining=remaining, reset=_reset(text, headers, now), mark=mark)


@frozen(kw_only=True)
class FailureAllowance:
    """The state of the failure budget, as one answer gives it.

    Attributes:
        remaining: how many more requests may fail before the key is blocked.
        reset: seconds until failures are forgotten.
    """

    remaining: float
    reset: float


def failure_allowance(headers: Mapping[str, str], now: float) -> FailureAllowance | None:
    """Read `x-ratelimit-remaining` and `-resets`; None unless both are credible. `now` is our Unix time."""
    if "x-ratelimit-remaining" not in headers:
        return None
    remaining = _number(headers["x-ratelimit-remaining"])
    reset = _reset(headers.get("x-ratelimit-resets"), headers, now)
    if remaining is None or reset is None:
        return None
    return FailureAllowance(remaining=remaining, reset=reset)


@frozen(kw_only=True)
class Refusal:
    """What a 429 means.

    Attributes:
        reason: `limited`: the rate limit of the endpoint is spent; `blocked`: the key is blocked after too
            many failures; `overloaded`: the model has no room, whatever the limits.
        wait: seconds to wait before trying again, None if the server does not say.
    """

    reason: Literal["limited", "blocked", "overloaded"]
    wait: float | None = None


def refusal(headers: Mapping[str, str], body: bytes, now: float) -> Refusal:
    """Tell what a 429 with these headers and this body means. `now` is our Unix time."""
    asked, told = _asked_wait(headers, now), allowance(headers, now)
    if _BLOCKED in body.lower() or _number(headers.get("x-ratelimit-remaining")) == 0:
        blocked = _reset(headers.get("x-ratelimit-resets"), headers, now)
        return Refusal(reason="blocked", wait=max(asked or 0, blocked or 0) or BLOCK)
    if _OVERLOADED in body and told.remaining != 0:
        return Refusal(reason="overloaded", wait=OVERLOADED if asked is None else asked)
    waits = [wait for wait in (asked, None if told.remaining else told.reset) if wait is not None]
    return Refusal(reason="limited", wait=max(waits, default=None))


def retry_after(status: int, headers: Mapping[str, str], body: bytes, now: float) -> float | None:
    """Return the seconds the server asks to wait before trying again, or None if it does not (credibly).

    Of a 429 it is what the refusal says; the limits on any other answer ask for nothing. Times are relative
    to the server's own `date`, or to `now`, our Unix time, where that is absent.
    """
    limited = status == HTTPStatus.TOO_MANY_REQUESTS
    return refusal(headers, body, now).wait if limited else _asked_wait(headers, now)


def _asked_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that `retry-after` asks for, as a number, also with decimals, or an HTTP date."""
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is None and (until := _http_date(text)) is not None:
        seconds = until - server_time(headers, now)
    return seconds if seconds is not None and 0 <= seconds <= CREDIBLE_WAIT else None


def _reset(text: str | None, headers: Mapping[str, str], now: float) -> float | None:
    """Turn seconds, a Unix time or a Unix time in milliseconds into seconds from the server's present."""
    value = _number(text)
    if value is None:
        return None
    exact = value > _MILLISECONDS
    if value > _UNIX:
        value = (value / 1000 if exact else value) - server_time(headers, now)
    whole = not exact and value == int(value)  # may have been rounded down by up to a second
    return value + whole if 0 <= value <= CREDIBLE_RESET else None


def server_time(headers: Mapping[str, str], now: float) -> float:
    """Return the server's time, in seconds since the Unix epoch; `now` where its `Date` says nothing."""
    date = _http_date(headers.get("date"))
    return now if date is None else date


def balances(headers: Mapping[str, str]) -> dict[str, float]:
    """Return what the account held before the request, by currency: the `x-venice-balance-*` headers."""
    prefix = "x-venice-balance-"
    found: dict[str, float] = {}
    for name, text in headers.items():
        if name.startswith(prefix) and (amount := _number(text)) is not None:
            found[name.removeprefix(prefix).upper()] = amount
    return found


def deprecation(headers: Mapping[str, str]) -> str:
    """Return what is said of the end of the model that was asked for; an empty text for nothing."""
    text = headers.get("x-venice-model-deprecation-warning", "").strip().rstrip(".")
    date = headers.get("x-venice-model-deprecation-date", "").strip().partition("T")[0]
    return f"{text} ({date})" if text and date else text or date


def _number(text: str | None) -> float | None:
    """Read a plain decimal, or the first of a list of them (`120, 120;w=60`)."""
    if not text:
        return None
    first = re.split("[,;]", text, maxsplit=1)[0].strip()
    return float(first) if _NUMBER.fullmatch(first) else None


def _http_date(text: str | None) -> float | None:
    try:
        moment = parsedate_to_datetime(text or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
