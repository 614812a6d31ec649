"""Prices of many requests, and the choice of a model by what it can do and costs at this moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final

import anyio
from attrs import evolve

from ..errors import BudgetExceededError, UsageError, VeniceError
from ..formatting import as_usd
from ..models import VideoModel
from ..options import check_kind
from ..requests import VideoRequest
from ..results import Quote
from .spec import checked_request

_QUOTES_AT_ONCE: Final = 8


async def prices_of(
    requests: Iterable[VideoRequest], quote: Callable[[VideoRequest], Awaitable[Quote]]
) -> list[float | VeniceError]:
    """Return the price of each request in USD by `quote`, or its error; a few are asked at once."""
    prices: dict[int, float | VeniceError] = {}
    slots = anyio.Semaphore(_QUOTES_AT_ONCE)

    async def ask(place: int, request: VideoRequest) -> None:
        async with slots:
            try:
                prices[place] = (await quote(request)).usd
            except VeniceError as error:
                prices[place] = error

    async with anyio.create_task_group() as group:
        for place, request in enumerate(requests):
            group.start_soon(ask, place, request)
    return [prices[place] for place in sorted(prices)]


async def cheapest(
    models: Iterable[VideoModel],
    quote: Callable[[VideoRequest], Awaitable[Quote]],
    *,
    accepts: Collection[str],
    max_usd: float | None,
    request: VideoRequest | None,
) -> VideoModel:
    """Return the cheapest model that can do what is wanted, by its `quote`; see `VeniceClient.choose`."""
    check_kind("models", models, Iterable, what="a list of VideoModel")
    check_kind("accepts", accepts, Collection, what="a set of words")
    if isinstance(accepts, str):
        msg = f"accepts must be a set of words, such as {{{accepts!r}}}, not text"
        raise UsageError(msg)
    if request is not None:
        checked_request(request)
    wanted: dict[str, tuple[VideoModel, VideoRequest]] = {}
    depends = ""
    for model in models:
        check_kind("Each of models", model, VideoModel, what="a VideoModel")
        clip = model.shortest() if request is None else evolve(request, model=model.id)
        fits = request is None or not model.check(clip)
        if fits and not model.offline and model.accepts.issuperset(accepts):
            if request is None and model.works_on_clip:
                depends = model.id
            else:
                wanted[model.id] = model, clip
    if depends and not wanted:
        msg = f"The price of {depends} depends on the clip that it works on"
        raise UsageError(msg, hint="Pass the request, with its clip: choose(request=...)")
    if not wanted:
        msg = f"None of the models accepts {', '.join(sorted(map(str, accepts))) or 'the request'}"
        raise UsageError(msg, hint="VideoModel.accepts and VideoModel.check say what each of them takes")
    asked = await prices_of([clip for _, clip in wanted.values()], quote)
    prices = {name: usd for name, usd in zip(wanted, asked, strict=True) if not isinstance(usd, VeniceError)}
    if not prices:
        raise next(error for error in asked if isinstance(error, VeniceError))
    least = min(prices, key=lambda name: prices[name])
    if max_usd is not None and prices[least] > max_usd:
        msg = f"The cheapest of {len(prices)} models, {least}, costs {as_usd(prices[least])}, above the limit"
        msg += f" of {as_usd(max_usd)}"
        raise BudgetExceededError(msg, quoted_usd=prices[least], limit_usd=max_usd)
    return wanted[least][0]
