"""The price: shown, and confirmed when it is above a threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
from attrs import frozen

from ..errors import BudgetExceededError, VeniceError
from ..formatting import as_usd
from ..io.uploads import reference_seconds as measured
from ..sansio.http.queries import STATED_LENGTH, price_fields
from .options import flag, value
from .screen.prompts import confirmed

if TYPE_CHECKING:
    from ..client import VeniceClient
    from ..requests import VideoRequest
    from .screen.screen import Screen

_PANEL: Final = "Money"
_AT_ONCE: Final = 8  # questions for prices
_LONGEST: Final = 3600.0  # seconds: more than any model takes


@frozen(kw_only=True)
class Money:
    """What it may cost."""

    max_usd: Annotated[
        float | None, value(takes="USD", says="The most it may cost.", panel=_PANEL, min=0)
    ] = None
    yes: Annotated[bool, flag("--yes", "-y", says="Do not ask, whatever it costs.", panel=_PANEL)] = False
    ask_above: Annotated[
        float,
        value(
            takes="USD",
            says="Ask before spending more than this.",
            panel=_PANEL,
            shown=True,
            min=0,
            envvar="VENICE_ASK_ABOVE",
        ),
    ] = 1.0


async def agreed(
    venice: VeniceClient,
    request: VideoRequest,
    money: Money,
    screen: Screen,
    *,
    reference_seconds: float | None = None,
) -> tuple[float, float | None]:
    """Return the price, in USD, and the most that may be charged: what was agreed to is what may be spent.

    Raises:
        BudgetExceededError: it is too much, or nobody agreed to it.
    """
    if reference_seconds is None and STATED_LENGTH not in request.extra:
        found, unknown = await measured(request)
        reference_seconds = found or None
        if unknown:
            which = f"{unknown} of the reference clips" if found else "the reference clips"
            screen.note(f"The price leaves out {which}; tell their length with --reference-seconds")
    with screen.waiting("asking the price"):
        usd = (await venice.quote(request, reference_video_seconds=reference_seconds)).usd
    limit = await confirmed_price(usd, money, screen)
    return usd, limit


def reference_length() -> Any:
    """Return the option for what a price may depend on, and only the caller knows."""
    return value(
        takes="SECONDS", says="The length of all reference clips together.", panel=_PANEL, min=0, max=_LONGEST
    )


async def confirmed_price(usd: float, money: Money, screen: Screen) -> float | None:
    """Have a price agreed to, and return the most that may be charged; None for no bound."""
    if money.max_usd is not None:
        if usd > money.max_usd:
            msg = f"The price of {as_usd(usd)} is above the limit of {as_usd(money.max_usd)}"
            raise BudgetExceededError(msg, quoted_usd=usd, limit_usd=money.max_usd)
        return money.max_usd
    if money.yes or usd <= money.ask_above:
        return None
    if not screen.can_ask:
        msg = f"The price is {as_usd(usd)}, and there is no terminal to ask on"
        hint = "Pass --yes, or the most it may cost: --max-usd"
        raise BudgetExceededError(msg, hint=hint, quoted_usd=usd, limit_usd=money.ask_above)
    if not await confirmed(screen, f"This costs {as_usd(usd)}. Go on?"):
        msg = f"The price of {as_usd(usd)} was declined"
        raise BudgetExceededError(msg, hint="", quoted_usd=usd)
    return usd


async def total_price(venice: VeniceClient, requests: Sequence[VideoRequest]) -> float:
    """Return what all requests cost; equal ones are asked about once."""
    asked: dict[str, VideoRequest] = {}
    counts: dict[str, int] = {}
    for request in requests:
        name = repr((price_fields(request), request.reference_video_urls, request.video_references))
        asked.setdefault(name, request)
        counts[name] = counts.get(name, 0) + 1
    found: dict[str, float] = {}
    slots = anyio.Semaphore(_AT_ONCE)
    failures: list[VeniceError] = []

    async def ask(name: str, request: VideoRequest) -> None:
        async with slots:
            try:
                found[name] = (await venice.quote(request)).usd
            except VeniceError as error:
                failures.append(error)

    async with anyio.create_task_group() as group:
        for name, request in asked.items():
            group.start_soon(ask, name, request)
    for error in failures[:1]:
        raise error
    return math.fsum(found[name] * count for name, count in counts.items())
