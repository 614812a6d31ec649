"""One line of a batch becomes several: takes, combinations of values, and prompts from columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from string import Formatter
from typing import Any, Final, cast

from attrs import frozen

from ..errors import InvalidRequestError, UsageError
from .request_options import parsed

_ONE_VALUE: Final = frozenset(
    {
        *("model", "prompt", "negative_prompt", "duration", "aspect_ratio", "resolution", "audio"),
        *("bitrate_mode", "seed", "image", "image_url", "end_image", "end_image_url", "video", "video_url"),
    }
)  # fields that take one value: a list of them stands for as many requests


@frozen(kw_only=True)
class Variants:
    """How each line becomes several.

    Attributes:
        template: the prompt of lines without one; `{animal}` stands for the column of that name.
        vary: the values of each field, of which all combinations are made.
        count: takes of each.
        seed: the seed of lines without one.
    """

    template: str | None = None
    vary: Mapping[str, Sequence[object]] = {}
    count: int = 1
    seed: object = None

    def of(self, row: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield a row as often as it is wanted, each with what tells it from the others.

        Takes of a row with a seed have seeds that follow each other. The first has the name of the row alone,
        so that more takes in a later run add to it.
        """
        own = {name: values for name, part in row.items() if (values := _several(name, part))}
        axes = {**own, **self.vary}
        for values in product(*axes.values()):
            chosen = dict(zip(axes, values, strict=True))
            name = " ".join(f"{axis}={value}" for axis, value in chosen.items())
            for take in range(self.count):
                made = {**row, **chosen}
                seed = made.get("seed", self.seed)
                if take and isinstance(seed, int):
                    made["seed"] = seed + take
                which = " ".join(filter(None, (name, f"take {take + 1}" if take else "")))
                yield self._with_prompt(made), which

    def _with_prompt(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row with its prompt from the template, less the columns that are only there for it."""
        if self.template is None or row.get("prompt") is not None:
            return row
        names = _placeholders(self.template)
        if missing := sorted(names - row.keys()):
            msg = f"the prompt needs {', '.join(missing)}, which the line does not have"
            raise InvalidRequestError(msg, field="prompt")
        text = self.template.format_map({name: str(row[name]) for name in names})
        kept = {name: part for name, part in row.items() if name not in names or name in _ONE_VALUE}
        return {**kept, "prompt": text}


def variants(*, template: str | None, vary: Sequence[str], count: int, seed: object) -> Variants:
    """Return the variants that options ask for; `vary` as `NAME=VALUE,VALUE`, or with a JSON list.

    Raises:
        UsageError: they make no sense.
    """
    if template is not None:
        _placeholders(template)
    axes: dict[str, Sequence[object]] = {}
    for item in vary:
        name, equals, text = item.partition("=")
        said: object = parsed(text)
        values = (
            cast("Sequence[object]", said)
            if isinstance(said, list)
            else [parsed(part) for part in text.split(",")]
        )
        if not equals or not name.isidentifier() or not text or not values or name in axes:
            msg = f"--vary takes NAME=VALUE,VALUE, each name once, not {item!r}"
            raise UsageError(msg, hint="Such as --vary seed=1,2,3 --vary aspect_ratio=16:9,9:16")
        axes[name] = values
    return Variants(template=template, vary=axes, count=count, seed=seed)


def _several(name: str, part: object) -> Sequence[object]:
    return cast("Sequence[object]", part) if isinstance(part, list) and name in _ONE_VALUE else ()


def _placeholders(template: str) -> set[str]:
    try:
        names = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
    except ValueError as error:
        msg = f"--prompt is no template: {error}"
        raise UsageError(msg, hint="Write {{ and }} for braces that stand for themselves") from None
    if wrong := [name for name in names if not name.isidentifier()]:
        msg = f"--prompt: {{{wrong[0]}}} is not the name of a column"
        raise UsageError(msg, hint="Write {{ and }} for braces that stand for themselves")
    return names
