"""`venice-async quote` and `venice-async models`: what there is, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
from attrs import asdict
from rich.table import Table
from rich.text import Text

from ...errors import VeniceError
from ...formatting import as_usd
from ...requests import VideoRequest
from .. import exits
from ..connection import Connection, opened
from ..options import flag, value
from ..prices import reference_length
from ..request_options import Look, media
from ..screen.screen import printable

if TYPE_CHECKING:
    from ...client import VeniceClient
    from ...models import VideoModel
    from ..interrupts import Interrupts
    from ..screen.screen import Screen

QUOTE_EXAMPLES: Final = """\
venice-async quote -m wan-2-7-text-to-video --duration 10s --resolution 720p
venice-async quote -m topaz-video-upscale --video clip.mp4 --upscale-factor 2 --json
"""
MODELS_EXAMPLES: Final = """\
venice-async models --type text-to-video --private
venice-async models --max-price 0.50
venice-async models --json | jq -r '.[].id'
"""
_AT_ONCE: Final = 8  # questions for prices
_PLACEHOLDER: Final = "-"  # a price does not depend on the prompt, which is not sent


async def quote(
    *,
    screen: Screen,
    interrupts: Interrupts,
    model: Annotated[str, value("--model", "-m", takes="ID", says="The model: see 'venice-async models'.")],
    look: Look,
    connection: Connection,
    video: Annotated[str | None, value(takes="MEDIA", says="The clip to upscale: a file or a URL.")] = None,
    upscale_factor: Annotated[int | None, value(takes="FACTOR", says="1, 2 or 4.")] = None,
    reference_seconds: Annotated[float | None, reference_length()] = None,
) -> int:
    """Show what a clip would cost at this moment. Nothing is queued or reserved."""
    wanted = VideoRequest(
        model=model,
        prompt=_PLACEHOLDER if video is None else None,
        video_url=media("--video", video),
        upscale_factor=upscale_factor,
        **look.values(),
    )
    async with opened(connection) as session:
        usd = (await session.venice.quote(wanted, reference_video_seconds=reference_seconds)).usd
    if screen.as_json:
        screen.emit({"ok": True, "usd": usd, "model": model})
    else:
        screen.result(as_usd(usd))
    return exits.OK


async def models(
    *,
    screen: Screen,
    interrupts: Interrupts,
    connection: Connection,
    kind: Annotated[
        str | None, value("--type", takes="TYPE", says="Such as text-to-video, image-to-video or video.")
    ] = None,
    private: Annotated[
        bool | None, flag("--private/--no-private", says="Whether what is made stays private.")
    ] = None,
    search: Annotated[str | None, value(takes="TEXT", says="A part of the id or the name.")] = None,
    prices: Annotated[bool, flag("--prices", says="Ask what the cheapest clip of each costs.")] = False,
    max_price: Annotated[
        float | None, value(takes="USD", says="The most that the cheapest clip may cost.", min=0)
    ] = None,
    everything: Annotated[bool, flag("--all", says="Those that are offline too.")] = False,
) -> int:
    """List the video models with what each of them takes."""
    async with opened(connection) as session:
        with screen.waiting("asking for the models"):
            found = await session.venice.models()
        shown = [
            item for item in found if _fits(item, kind, private, search) and (everything or not item.offline)
        ]
        known = await cheapest(session.venice, shown) if prices or max_price is not None else {}
    if max_price is not None:
        shown = [item for item in shown if known.get(item.id, math.inf) <= max_price]
    if screen.as_json:
        screen.emit([_as_json(item, known) for item in shown])
    elif screen.out.is_terminal:
        screen.out.print(_table(shown, known, screen.out.width))
        for item in shown:
            if remarks := _remarks(item):
                screen.result(f"{item.id}: {', '.join(remarks)}", "dim")
    else:
        for item in shown:
            screen.row(_row(item, known))
    if not shown:
        screen.note("No model fits.")
    return exits.OK


def shortest(model: VideoModel) -> VideoRequest:
    """Return the request for a clip that is likely the cheapest of a model's: the shortest and smallest."""
    seconds = sorted((item for item in model.durations if item.removesuffix("s").isdecimal()), key=_seconds)
    return VideoRequest(
        model=model.id,
        prompt=_PLACEHOLDER,
        duration=next(iter((*seconds, *model.durations)), None),
        resolution=min(model.resolutions, key=_lines) if model.resolutions else None,
        aspect_ratio=model.aspect_ratios[0] if model.aspect_ratios else None,
        audio=False if model.audio_configurable else None,
    )


async def cheapest(venice: VeniceClient, models: Sequence[VideoModel]) -> dict[str, float]:
    """Return the price of the cheapest clip by model id, in USD; a model without a price is left out."""
    found: dict[str, float] = {}
    slots = anyio.Semaphore(_AT_ONCE)

    async def ask(model: VideoModel) -> None:
        async with slots:
            try:
                found[model.id] = (await venice.quote(shortest(model))).usd
            except VeniceError:
                return

    async with anyio.create_task_group() as group:
        for model in models:
            group.start_soon(ask, model)
    return found


def _seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def _lines(resolution: str) -> int:
    """Return the height that a resolution stands for, roughly: `720p`, `4k`."""
    digits = "".join(letter for letter in resolution if letter.isdecimal())
    return int(digits or 0) * (1000 if resolution[-1:] in "kK" else 1)


def _fits(model: VideoModel, kind: str | None, private: bool | None, search: str | None) -> bool:  # noqa: FBT001 - filters
    return (
        (kind is None or model.model_type == kind)
        and (private is None or (model.privacy == "private") == private)
        and (search is None or search.lower() in f"{model.id} {model.name}".lower())
    )


_WIDE: Final = 120  # columns of a terminal that hold everything
_NARROW: Final = 96  # columns that hold ids, types, and durations or prices
_MANY: Final = 3  # names from which a list is shortened


def _row(model: VideoModel, prices: Mapping[str, float]) -> list[str]:
    price = [as_usd(prices[model.id]) if model.id in prices else "?"] if prices else []
    return [
        model.id,
        model.model_type,
        model.privacy or "",
        " ".join(model.durations),
        " ".join(model.resolutions),
        " ".join(model.aspect_ratios),
        _sound(model),
        *price,
        ", ".join(_remarks(model)),
    ]


def _remarks(model: VideoModel) -> list[str]:
    remarks = ["offline"] if model.offline else []
    remarks += ["beta"] if model.beta else []
    if model.deprecation is not None:
        remarks.append(f"ends {(model.deprecation.removes_at or '')[:10]}".strip())
        remarks += [f"use {model.deprecation.replacement}"] if model.deprecation.replacement else []
    return remarks


def _span(durations: Sequence[str]) -> str:
    """Return `1s-15s` for a long run of seconds, else the list."""
    numbers = [_seconds(item) for item in durations if item.removesuffix("s").isdecimal()]
    others = [item for item in durations if not item.removesuffix("s").isdecimal()]
    whole = len(numbers) > 3 and numbers == list(range(numbers[0], numbers[-1] + 1))  # noqa: PLR2004 - worth it
    return _few([f"{numbers[0]}s-{numbers[-1]}s", *others] if whole else durations)


def _table(models: Sequence[VideoModel], prices: Mapping[str, float], width: int) -> Table:
    """Return the models for people: long lists are shortened, and what does not fit is left to `--json`.

    An id is never cut: it is there to be copied.
    """
    wide, narrow = width >= _WIDE, width < _NARROW
    table = Table(box=None, header_style="bold", padding=(0, 1), pad_edge=False)
    table.add_column("id", overflow="fold")
    brief = narrow and bool(prices)
    more = () if narrow else ("sizes", "ratios", "sound") if wide else ("sizes",)
    for name in ("type", "", *(() if brief else ("durations",)), *more):
        table.add_column(name, no_wrap=True)
    if prices:
        table.add_column("from", justify="right", no_wrap=True)
    for model in models:
        private = "private" if model.privacy == "private" else ""
        shown = [model.id, model.model_type, private]
        shown += [] if brief else [_span(model.durations)]
        shown += [] if narrow else [_ends(model.resolutions)]
        shown += [_few(model.aspect_ratios), _sound(model)] if wide else []
        shown += [as_usd(prices[model.id]) if model.id in prices else "?"] if prices else []
        table.add_row(*(Text(printable(cell)) for cell in shown), style="dim" if model.offline else "")
    return table


def _ends(names: Sequence[str]) -> str:
    return " ".join(names) if len(names) < _MANY else f"{names[0]}…{names[-1]}"


def _few(names: Sequence[str]) -> str:
    return (
        " ".join(names)
        if len(names) <= _MANY
        else f"{' '.join(names[: _MANY - 1])} +{len(names) - _MANY + 1}"
    )


def _sound(model: VideoModel) -> str:
    return "choice" if model.audio_configurable else "yes" if model.audio else "no"


def _as_json(model: VideoModel, prices: Mapping[str, float]) -> dict[str, Any]:
    price = {"from_usd": prices.get(model.id)} if prices else {}
    return asdict(model) | price
