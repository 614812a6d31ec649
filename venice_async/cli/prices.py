"""Prices: asked for, shown, and confirmed when they are above a threshold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..engine.choice import prices_of
from ..errors import BudgetExceededError, VeniceError
from ..formatting import as_usd
from ..io.uploads import reference_seconds
from ..sansio.http.wire import STATED_LENGTH, price_fields
from . import exit_codes
from .exit_codes import exit_code, in_words
from .screen.questions import confirmed

if TYPE_CHECKING:
    from ..client import VeniceClient
    from ..requests import VideoRequest
    from .batch_file import Line
    from .options import ConfirmOptions
    from .screen.screen import Screen


async def ask_price(
    venice: VeniceClient, request: VideoRequest, screen: Screen, length: float | None
) -> tuple[float, float | None]:
    """Return the price in USD, and the seconds of reference clips in it: `length`, or as measured."""
    if length is None and STATED_LENGTH not in request.extra:
        found, unknown = await reference_seconds(request)
        length = found or None
        if unknown:
            which = f"{unknown} of the reference clips" if found else "the reference clips"
            screen.note(f"The price leaves out {which}; give their length with --reference-seconds")
    with screen.waiting("asking the price"):
        return (await venice.quote(request, reference_video_seconds=length)).usd, length


async def confirm_price(
    usd: float, max_usd: float | None, confirm: ConfirmOptions, screen: Screen
) -> float | None:
    """Ask for agreement to a price, and return the most that may be charged, in USD; None for no limit.

    Raises:
        BudgetExceededError: it is too much, or nobody agreed to it.
    """
    if max_usd is not None:
        if usd > max_usd:
            msg = f"The price of {as_usd(usd)} is above the limit of {as_usd(max_usd)}"
            raise BudgetExceededError(msg, quoted_usd=usd, limit_usd=max_usd)
        return max_usd
    if usd <= confirm.threshold:
        return None
    if not screen.can_ask:
        msg = f"The price is {as_usd(usd)}, and there is no terminal to ask on"
        hint = "Pass --yes, or the most it may cost: --max-usd"
        raise BudgetExceededError(msg, hint=hint, quoted_usd=usd, limit_usd=confirm.threshold)
    if not await confirmed(screen, f"This costs {as_usd(usd)}. Go on?"):
        msg = f"The price of {as_usd(usd)} was declined"
        raise BudgetExceededError(msg, hint="", quoted_usd=usd)
    return usd


async def all_prices(venice: VeniceClient, requests: Sequence[VideoRequest]) -> list[float | VeniceError]:
    """Return the price of each request in USD, or its error; equal requests are quoted once."""
    names = [
        repr((price_fields(request), request.reference_video_urls, request.video_references))
        for request in requests
    ]

    asked = dict(zip(names, requests, strict=True))
    prices = dict(zip(asked, await prices_of(asked.values(), venice.quote), strict=True))
    return [prices[name] for name in names]


async def show_prices(
    venice: VeniceClient, lines: Sequence[Line], budget: float | None, screen: Screen
) -> int:
    """Print the prices of all lines by model, and which have none; return the exit code.

    That is 0 if all of it can be made within the budget.
    """
    with screen.waiting("asking the prices"):
        prices = await all_prices(venice, [line.request for line in lines])
    by_model: dict[str, list[float]] = {}
    unpriced: list[tuple[Line, VeniceError]] = []
    over: list[int] = []
    for line, price in zip(lines, prices, strict=True):
        if isinstance(price, VeniceError):
            unpriced.append((line, price))
            continue
        by_model.setdefault(line.request.model, []).append(price)
        if line.max_usd is not None and price > line.max_usd:
            over.append(line.number)
    total = math.fsum(math.fsum(known) for known in by_model.values())
    if screen.as_json:
        screen.emit(
            {
                "ok": not unpriced,
                "clips": len(lines),
                "usd": round(total, 6),
                "models": [
                    {"model": model, "clips": len(known), "usd": round(math.fsum(known), 6)}
                    for model, known in by_model.items()
                ],
                "unpriced": [{"line": line.number, "error": error.message} for line, error in unpriced],
            }
        )
    else:
        rows = [
            {
                "model": model,
                "clips": str(len(known)),
                "each": " to ".join(dict.fromkeys((as_usd(min(known)), as_usd(max(known))))),
                "total": as_usd(math.fsum(known)),
            }
            for model, known in by_model.items()
        ]
        missing = Counter(line.request.model for line, _ in unpriced)
        rows += [
            {"model": model, "clips": str(count), "each": "?", "total": "?"}
            for model, count in missing.items()
        ]
        screen.table(rows)
        screen.note(
            f"{len(lines) - len(unpriced)} of {len(lines)} clips have a price: {as_usd(total)} in all"
        )
    for said in dict.fromkeys(
        f"line {line.number} cannot be priced: {in_words(error)}" for line, error in unpriced
    ):
        screen.insist(said, "red")
    for number in dict.fromkeys(over):
        screen.insist(f"line {number} costs more than its max_usd", "red")
    if budget is not None and total > budget:
        screen.insist(f"That is {as_usd(total - budget)} above the budget of {as_usd(budget)}.", "red")
    if unpriced:
        return exit_code(unpriced[0][1])
    return exit_codes.PAYMENT if over or (budget is not None and total > budget) else exit_codes.OK
