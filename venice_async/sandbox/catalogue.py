"""The models that the sandbox offers: ids, constraints and prices like the vendor's, and no promise.

`catalogue.json` lists them by the fields of a `CatalogueModel`; `seconds` are the first and the last of its
durations, which come before those that are named.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from .model import CatalogueModel, Topaz


def _model(entry: dict[str, Any]) -> CatalogueModel:
    first, last = entry.pop("seconds", (1, 0))
    named, topaz = entry.pop("durations", ()), entry.pop("topaz", None)
    durations = (*(f"{second}s" for second in range(first, last + 1)), *named)
    fields: dict[str, Any] = {
        name: tuple(cast("list[str]", value)) if isinstance(value, list) else value
        for name, value in entry.items()
    }
    return CatalogueModel(**fields, durations=durations, topaz=None if topaz is None else Topaz(**topaz))


CATALOGUE: tuple[CatalogueModel, ...] = tuple(
    map(_model, json.loads(Path(__file__).with_name("catalogue.json").read_text("utf-8")))
)
"""Text, image, references and keyframes to video; private, consent-asking, upscaling, offline ones."""
