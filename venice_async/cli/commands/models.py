"""`venice-async models`: what there is, what it takes, and what it costs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated, Final

from attrs import asdict
from cyclopts import Parameter

from ...engine.choice import prices_of
from ...errors import UsageError, VeniceError
from ...formatting import as_usd, did_you_mean
from .. import exit_codes
from ..options import Connection, Output, Usd
from ..screen.screen import Screen, ScreenHere
from ..session import open_session
from . import command

EXAMPLES: Final = """\
venice-async models --type text-to-video --private
venice-async models --accepts image --under 0.50
venice-async models --json | jq -r '.[].id'
"""
_MANY: Final = 3  # names from which a list is shortened on a terminal


@command(EXAMPLES)
async def models(
    *,
    kind: Annotated[str | None, Parameter(name="--type", metavar="TYPE")] = None,
    private: Annotated[bool | None, Parameter(negative="--no-private")] = None,
    search: Annotated[str | None, Parameter(metavar="TEXT")] = None,
    accepts: Annotated[tuple[str, ...], Parameter(metavar="WHAT")] = (),
    prices: Annotated[bool, Parameter(negative="--no-prices")] = True,
    under: Annotated[Usd | None, Parameter(alias="--max-price")] = None,
    everything: Annotated[bool, Parameter(name="--all")] = False,
    connection: Connection = Connection(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """List the video models with what each of them takes.

    Args:
        kind: Such as text-to-video, image-to-video or video.
        private: Only models whose clips stay private, or only the others.
        search: A part of the id or the name.
        accepts: What it must work on, such as image, end_image, video or audio. Repeatable.
        prices: Ask what the cheapest clip of each costs.
        under: The most that the cheapest clip may cost.
        everything: Show models that are offline, too.
    """
    async with open_session(screen, connection) as session:
        with screen.waiting("asking for the models"):
            catalogue = await session.venice.models()
            words = sorted(frozenset[str]().union(*(model.accepts for model in catalogue)))
            if unknown := next((word for word in accepts if words and word not in words), None):
                msg = f"No model accepts {unknown!r}"
                raise UsageError(msg, hint=did_you_mean(unknown, words) or f"Some accept {', '.join(words)}")
            found = [
                model
                for model in catalogue
                if model.accepts.issuperset(accepts)
                and (everything or not model.offline)
                and kind in (None, model.model_type)
                and (private is None or (model.privacy == "private") == private)
                and (search or "").lower() in f"{model.id} {model.name}".lower()
            ]
        asked = prices or under is not None
        known: dict[str, float] = {}
        if asked:
            with screen.waiting("asking the prices"):
                clips = {model.id: model.shortest() for model in found if not model.works_on_clip}
                costs = zip(clips, await prices_of(clips.values(), session.venice.quote), strict=True)
                known = {name: usd for name, usd in costs if not isinstance(usd, VeniceError)}
    if under is not None:
        found = [model for model in found if known.get(model.id, math.inf) <= under]
    if screen.as_json:
        screen.emit(
            [
                asdict(model)
                | {"accepts": sorted(model.accepts)}
                | ({"from_usd": known.get(model.id)} if asked else {})
                for model in found
            ]
        )
        return exit_codes.OK
    if not found:
        near = did_you_mean(search or "", [model.id for model in catalogue])
        screen.note(" ".join(filter(None, ("No model fits.", near))))
        return exit_codes.OK
    rows: list[dict[str, str]] = []
    for model in found:
        row = {"id": model.id}
        if asked:  # the price of a model that works on a clip depends on it
            row["from"] = as_usd(known[model.id]) if model.id in known else "by clip"
        numbers = [int(number[0]) if (number := re.search(r"\d+", item)) else 0 for item in model.durations]
        durations = _few(model.durations, screen)
        if len(numbers) > _MANY and numbers == list(range(numbers[0], numbers[-1] + 1)):
            durations = f"{model.durations[0]}-{model.durations[-1]}" if screen.out.is_terminal else durations
        remarks = ["offline"] if model.offline else []
        remarks += ["beta"] if model.beta else []
        if model.region_restrictions:
            remarks.append(f"blocked in {' '.join(model.region_restrictions)}")
        if model.deprecation is not None:
            remarks.append(f"ends {(model.deprecation.removes_at or '')[:10]}".strip())
            remarks += [f"use {model.deprecation.replacement}"] if model.deprecation.replacement else []
        row |= {
            "type": model.model_type,
            "privacy": model.privacy or "",
            "durations": durations,
            "sizes": _few(model.resolutions, screen),
            "ratios": _few(model.aspect_ratios, screen),
            "sound": "choice" if model.audio_configurable else "yes" if model.audio else "no",
            "remarks": ", ".join(remarks),
        }
        rows.append(row)
    screen.table(rows, dim=[model.offline for model in found])
    return exit_codes.OK


def _few(names: Sequence[str], screen: Screen) -> str:
    """Return a list, shortened on a terminal."""
    if len(names) <= _MANY or not screen.out.is_terminal:
        return " ".join(names)
    return f"{' '.join(names[: _MANY - 1])} +{len(names) - _MANY + 1}"
