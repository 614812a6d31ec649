"""Prices: asked for, shown, and confirmed when they are above a threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from ..errors import BudgetExceededError, VeniceError
from ..formatting import as_usd
from ..io.uploads import reference_seconds
from ..sansio.http.queries import STATED_LENGTH, price_fields
from . import exit_codes
from .exit_codes import exit_code
from .explain import in_words
from .screen.questions import confirmed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from ..client import VeniceClient
    from ..requests import VideoRequest
    from .batch_file import Line
    from .options import Asking
    from .screen.screen import Screen

_T = TypeVar("_T")
_R = TypeVar("_R")
_AT_ONCE: Final = 8  # questions for prices


async def quoted(
    venice: VeniceClient, request: VideoRequest, screen: Screen, length: float | None
) -> tuple[float, float | None]:
    """Return the price in USD, and the seconds of reference clips in it: `length`, or as measured."""
    if length is None and STATED_LENGTH not in request.extra:
        found, unknown = await reference_seconds(request)
        length = found or None
        if unknown:
            which = f"{unknown} of the reference clips" if found else "the reference clips"
            screen.note(f"The price leaves out {which}; tell their length with --reference-seconds")
    with screen.waiting("asking the price"):
        return (await venice.quote(request, reference_video_seconds=length)).usd, length


async def agreed(usd: float, max_usd: float | None, asking: Asking, screen: Screen) -> float | None:
    """Ask for agreement to a price, and return the most that may be charged, in USD; None for no limit.

    Raises:
        BudgetExceededError: it is too much, or nobody agreed to it.
    """
    if max_usd is not None:
        if usd > max_usd:
            msg = f"The price of {as_usd(usd)} is above the limit of {as_usd(max_usd)}"
            raise BudgetExceededError(msg, quoted_usd=usd, limit_usd=max_usd)
        return max_usd
    if usd <= asking.threshold:
        return None
    if not screen.can_ask:
        msg = f"The price is {as_usd(usd)}, and there is no terminal to ask on"
        hint = "Pass --yes, or the most it may cost: --max-usd"
        raise BudgetExceededError(msg, hint=hint, quoted_usd=usd, limit_usd=asking.threshold)
    if not await confirmed(screen, f"This costs {as_usd(usd)}. Go on?"):
        msg = f"The price of {as_usd(usd)} was declined"
        raise BudgetExceededError(msg, hint="", quoted_usd=usd)
    return usd


async def all_prices(venice: VeniceClient, requests: Sequence[VideoRequest]) -> list[float | VeniceError]:
    """Return what each request costs, in USD, or why that is not known; equal ones are asked about once."""
    names = [
        repr((price_fields(request), request.reference_video_urls, request.video_references))
        for request in requests
    ]

    async def ask(request: VideoRequest) -> float | VeniceError:
        try:
            return (await venice.quote(request)).usd
        except VeniceError as error:
            return error

    asked = dict(zip(names, requests, strict=True))
    prices = dict(zip(asked, await each(asked.values(), ask), strict=True))
    return [prices[name] for name in names]


async def total_price(venice: VeniceClient, requests: Sequence[VideoRequest]) -> float:
    """Return what all requests cost, in USD.

    Raises:
        VeniceError: the first that has no price.
    """
    prices = await all_prices(venice, requests)
    for price in prices:
        if isinstance(price, VeniceError):
            raise price
    return math.fsum(price for price in prices if isinstance(price, float | int))


async def each(items: Iterable[_T], ask: Callable[[_T], Awaitable[_R]]) -> list[_R]:
    """Return what `ask` makes of each item, a few at once; the first failure is raised."""
    items = list(items)
    found: dict[int, _R] = {}
    failures: list[Exception] = []
    slots = anyio.Semaphore(_AT_ONCE)

    async def one(index: int, item: _T) -> None:
        async with slots:
            try:
                found[index] = await ask(item)
            except Exception as error:  # noqa: BLE001 - it is raised once it is out of the group, which would wrap it
                failures.append(error)

    async with anyio.create_task_group() as group:
        for index, item in enumerate(items):
            group.start_soon(one, index, item)
    for error in failures[:1]:
        raise error
    return [found[index] for index in range(len(items))]


async def show_prices(
    venice: VeniceClient, lines: Sequence[Line], budget: float | None, screen: Screen
) -> int:
    """Print what all lines cost, by model, and what cannot be priced; return the exit code.

    That is 0 if all of it can be made within the budget.
    """
    with screen.waiting("asking the prices"):
        prices = await all_prices(venice, [line.request for line in lines])
    by_model: dict[str, list[float]] = {}
    unpriced: list[tuple[Line, VeniceError]] = []
    for line, price in zip(lines, prices, strict=True):
        if isinstance(price, VeniceError):
            unpriced.append((line, price))
        else:
            by_model.setdefault(line.request.model, []).append(price)
    total = math.fsum(price for known in by_model.values() for price in known)
    over = [
        line.number
        for line, price in zip(lines, prices, strict=True)
        if line.max_usd is not None and not isinstance(price, VeniceError) and price > line.max_usd
    ]
    if screen.as_json:
        screen.emit(_as_json(by_model, unpriced, total, len(lines)))
    else:
        _show(by_model, unpriced, screen)
        screen.note(
            f"{len(lines) - len(unpriced)} of {len(lines)} clips have a price: {as_usd(total)} in all"
        )
    for said in dict.fromkeys(
        f"line {line.number} cannot be priced: {in_words(error)}" for line, error in unpriced
    ):
        screen.insist(said, "red", wrap=True)
    for number in dict.fromkeys(over):
        screen.insist(f"line {number} costs more than its max_usd", "red")
    if budget is not None and total > budget:
        screen.insist(f"That is {as_usd(total - budget)} above the budget of {as_usd(budget)}.", "red")
    if unpriced:
        return exit_code(unpriced[0][1])
    return exit_codes.PAYMENT if over or (budget is not None and total > budget) else exit_codes.OK


def _show(by_model: dict[str, list[float]], unpriced: list[tuple[Line, VeniceError]], screen: Screen) -> None:
    rows = {model: (len(prices), _span(prices), math.fsum(prices)) for model, prices in by_model.items()}
    missing: dict[str, int] = {}
    for line, _ in unpriced:
        missing[line.request.model] = missing.get(line.request.model, 0) + 1
    columns = {
        "model": [*rows, *missing],
        "clips": [str(row[0]) for row in rows.values()] + [str(count) for count in missing.values()],
        "each": [row[1] for row in rows.values()] + ["?" for _ in missing],
        "total": [as_usd(row[2]) for row in rows.values()] + ["?" for _ in missing],
    }
    screen.table(columns, styles=["" for _ in columns["model"]])


def _span(prices: Sequence[float]) -> str:
    low, high = as_usd(min(prices)), as_usd(max(prices))
    return low if low == high else f"{low} to {high}"


def _as_json(
    by_model: dict[str, list[float]], unpriced: list[tuple[Line, VeniceError]], total: float, clips: int
) -> dict[str, object]:
    return {
        "ok": not unpriced,
        "clips": clips,
        "usd": round(total, 6),
        "models": [
            {"model": model, "clips": len(prices), "usd": round(math.fsum(prices), 6)}
            for model, prices in by_model.items()
        ],
        "unpriced": [{"line": line.number, "error": error.message} for line, error in unpriced],
    }
