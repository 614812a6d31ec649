"""What a batch would cost, before the first dollar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import VeniceError
from ..formatting import as_usd
from . import exit_codes
from .exit_codes import exit_code
from .explain import in_words
from .prices import all_prices

if TYPE_CHECKING:
    from ..client import VeniceClient
    from .batch_file import Line
    from .screen.screen import Screen


async def foresee(venice: VeniceClient, lines: Sequence[Line], budget: float | None, screen: Screen) -> int:
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
