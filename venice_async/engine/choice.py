"""Chooses a model by what it can do and what it costs at this moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final

import anyio
from attrs import evolve

from ..errors import BudgetExceededError, UsageError, VeniceError
from ..formatting import as_usd
from ..models import VideoModel
from ..requests import VideoRequest
from ..results import Quote

_QUOTES_AT_ONCE: Final = 8


async def cheapest(
    quote: Callable[[VideoRequest], Awaitable[Quote]],
    models: Iterable[VideoModel],
    *,
    accepts: Collection[str],
    max_usd: float | None,
    request: VideoRequest | None,
) -> VideoModel:
    """Return the cheapest model that can do what is wanted, by its `quote`; see `VeniceClient.choose`."""
    wanted: dict[str, tuple[VideoModel, VideoRequest]] = {}
    depends = ""
    for model in models:
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
        msg = f"None of the models accepts {', '.join(sorted(accepts)) or 'the request'}"
        raise UsageError(msg, hint="VideoModel.accepts and VideoModel.check say what each of them takes")
    prices: dict[str, float] = {}
    failures: list[VeniceError] = []

    async def ask(name: str, clip: VideoRequest) -> None:
        async with slots:
            try:
                prices[name] = (await quote(clip)).usd
            except VeniceError as error:
                failures.append(error)

    slots = anyio.Semaphore(_QUOTES_AT_ONCE)
    async with anyio.create_task_group() as group:
        for name, (_, clip) in wanted.items():
            group.start_soon(ask, name, clip)
    if not prices:
        raise failures[0]
    least = min(prices, key=lambda name: prices[name])
    if max_usd is not None and prices[least] > max_usd:
        msg = f"The cheapest of {len(prices)} models, {least}, costs {as_usd(prices[least])}, above the limit"
        msg += f" of {as_usd(max_usd)}"
        raise BudgetExceededError(msg, quoted_usd=prices[least], limit_usd=max_usd)
    return wanted[least][0]
