"""How a batch is to go, and the requests that it reads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from attrs import field, frozen

from .errors import UsageError
from .requests import VideoRequest

Requests: TypeAlias = Iterable[VideoRequest] | AsyncIterable[VideoRequest]

CONCURRENCY: Final = 200  # jobs at once: twice what 40 a minute fill at a model's usual two to three minutes
PAUSE: Final = 60.0  # seconds between two tries while the balance is used up


def _check_on_error(_: Plan, __: Any, value: object) -> None:
    if value not in {"collect", "stop"}:
        msg = f"on_error must be 'collect' or 'stop', not {value!r}"
        raise UsageError(msg)


def _check_key(_: Plan, __: Any, value: object) -> None:
    if value is not None and not callable(value):
        msg = f"key must be a function of a request, not {value!r}"
        raise UsageError(msg)


def _check_concurrency(_: Plan, __: Any, value: object) -> None:
    if not isinstance(value, int) or value < 1:
        msg = f"concurrency must be a whole number of at least 1, not {value!r}"
        raise UsageError(msg)


def _check_pause(_: Plan, __: Any, value: object) -> None:
    if not isinstance(value, int | float) or not value >= 0:
        msg = f"pause must be a number of seconds, not {value!r}"
        raise UsageError(msg)


@frozen(kw_only=True)
class Plan:
    """How a batch is to go; see `VeniceClient.batch`.

    Raises:
        UsageError: it cannot go like that.
    """

    into: Path
    max_usd: float | None = None
    on_error: Literal["collect", "stop"] = field(default="collect", validator=_check_on_error)
    key: Callable[[VideoRequest], str] | None = field(default=None, validator=_check_key)
    concurrency: int = field(default=CONCURRENCY, validator=_check_concurrency)
    overwrite: bool = False
    pause: float = field(default=PAUSE, validator=_check_pause)


def check_source(requests: object) -> None:
    """See that a batch can read `requests`.

    Raises:
        UsageError: it cannot be iterated.
    """
    if not isinstance(requests, Iterable | AsyncIterable):
        msg = f"batch takes an iterable of VideoRequest, not {type(requests).__name__}"
        raise UsageError(msg)


async def each(requests: Requests) -> AsyncGenerator[VideoRequest]:
    """Yield the requests of any iterable.

    Raises:
        UsageError: one is something else.
    """
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield _checked(request)
        return
    for request in requests:
        yield _checked(request)


def _checked(request: object) -> VideoRequest:
    if not isinstance(request, VideoRequest):
        msg = f"A batch takes VideoRequest, not {type(request).__name__}"
        raise UsageError(msg)
    return request
