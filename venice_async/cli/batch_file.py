"""The requests of a batch, from JSON Lines or CSV, all checked before anything is sent.

A line becomes several where takes or combinations of values are asked for, and its prompt may come from its
columns.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Final, cast

from attrs import field, frozen
from cyclopts import Parameter
from cyclopts.validators import Number

from ..engine.spec import checked_tags
from ..errors import InvalidRequestError, UsageError, VeniceError
from ..requests import VideoRequest
from .options import MAIN, Text
from .request_options import UNDECLARED, as_field, parsed, split_fields

_NAMES: Final = ("key", "id", "name")  # the columns for a key, by which another run finds a line again
_TAG: Final = "tag:"  # the prefix of a column that is a tag
_SHORT: Final = {"image": "image_url", "end_image": "end_image_url", "video": "video_url"}
_TRUE: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_SHOWN: Final = 5  # faults in one message
_NUMBERS: Final = frozenset({"upscale_factor", "seed"})
_TABLES: Final = frozenset({".csv", ".tsv", ".tab"})
_SEPARATOR: Final = re.compile(
    r'"?sep=(.)"?(?:\r\n|\r|\n)', re.IGNORECASE
)  # the first line that a spreadsheet may write
_LINE_END: Final = re.compile(r"[\r\n]")
_LARGEST: Final = 2**31 - 1  # characters of a cell: a `data:` URL is one
_ONE_VALUE: Final = frozenset(
    {
        *("model", "prompt", "negative_prompt", "duration", "aspect_ratio", "resolution", "audio"),
        *("bitrate_mode", "seed", "image", "image_url", "end_image", "end_image_url", "video", "video_url"),
    }
)  # fields that take one value: a list of them stands for as many requests

Row = Mapping[str, Any] | str
"""The fields of a line, or why it cannot be read."""


@frozen(kw_only=True)
class Line:
    """One request of a batch.

    Attributes:
        number: its line in the file, from 1.
        request: the request.
        key: its key, or None.
        variant: what tells it from the other variants of its line.
        max_usd: the most it may cost, in USD, or None.
        tags: its tags for the journal.
        unknown: fields that the library does not know; they are sent as they are.
    """

    number: int
    request: VideoRequest
    key: str | None = None
    variant: str = ""
    max_usd: float | None = None
    tags: Mapping[str, str] = field(factory=dict[str, str])
    unknown: tuple[str, ...] = ()


@Parameter(name="*", group=MAIN)
@frozen(kw_only=True)
class Variants:
    """How a line becomes several.

    Attributes:
        prompt: The prompt of lines without one; {animal} stands for the column animal.
        vary: Make every combination, such as --vary seed=1,2,3 --vary aspect_ratio=16:9,9:16. Repeatable.
        count: Takes of each line; a seed counts up from take to take.
    """

    prompt: Annotated[Text | None, Parameter(alias="-p")] = None
    vary: Annotated[tuple[str, ...], Parameter(metavar="NAME=VALUES", allow_leading_hyphen=True)] = ()
    count: Annotated[int, Parameter(metavar="N", validator=Number(gte=1))] = 1

    def axes(self) -> dict[str, Sequence[object]]:
        """Return the values of each field, of which all combinations are made: of texts or a JSON list.

        Raises:
            UsageError: they make no sense.
        """
        axes: dict[str, Sequence[object]] = {}
        for item in self.vary:
            name, equals, text = item.partition("=")
            said: object = parsed(text)
            many = cast("Sequence[object]", said) if isinstance(said, list) else None
            values = [parsed(part) for part in text.split(",")] if many is None else many
            if not equals or not name.isidentifier() or not text or not values or name in axes:
                msg = f"--vary takes NAME=VALUE,VALUE, each name once, not {item!r}"
                raise UsageError(msg, hint="Such as --vary seed=1,2,3 --vary aspect_ratio=16:9,9:16")
            axes[name] = values
        return axes

    def columns(self) -> set[str]:
        """Return the names of the columns in the prompt.

        Raises:
            UsageError: it is no template.
        """
        hint = "Write {{ and }} for braces that stand for themselves"
        try:
            names = {name for _, name, _, _ in Formatter().parse(self.prompt or "") if name is not None}
        except ValueError as error:
            msg = f"--prompt is no template: {error}"
            raise UsageError(msg, hint=hint) from None
        if wrong := [name for name in names if not name.isidentifier()]:
            msg = f"--prompt: {{{wrong[0]}}} is not the name of a column"
            raise UsageError(msg, hint=hint)
        return names

    def of(self, row: Mapping[str, Any], seed: object) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield the variants of a row, each with a text that tells it from the others.

        Takes of a row with a seed, or with `seed`, have seeds that follow each other. The first has the name
        of the row alone, so that more takes in a later run add to it.
        """
        own = {
            name: cast("Sequence[object]", part)
            for name, part in row.items()
            if name in _ONE_VALUE and part and isinstance(part, list)
        }
        axes, names = {**own, **self.axes()}, self.columns()
        for values, take in product(product(*axes.values()), range(self.count)):
            chosen = dict(zip(axes, values, strict=True))
            made = {**row, **chosen}
            first = made.get("seed", seed)
            if take and isinstance(first, int):
                made["seed"] = first + take
            if self.prompt is not None and made.get("prompt") is None:
                if missing := sorted(names - made.keys()):
                    msg = f"the prompt needs {', '.join(missing)}, which the line does not have"
                    raise InvalidRequestError(msg, field="prompt")
                prompt = self.prompt.format_map({name: str(made[name]) for name in names})
                # Columns that are there for the prompt alone are no fields.
                made = {name: said for name, said in made.items() if name not in names or name in _ONE_VALUE}
                made["prompt"] = prompt
            parts = [f"{axis}={value}" for axis, value in chosen.items()]
            yield made, " ".join([*parts, *([f"take {take + 1}"] if take else [])])


def read_batch(
    text: str, path: Path, defaults: Mapping[str, Any], variants: Variants = Variants()
) -> list[Line]:
    """Return the requests in the text of a file: CSV if the name says so, else JSON Lines, as on stdin.

    Each line becomes as many as `variants` say. Media are http(s) or `data:` URLs, or files, relative to the
    folder of the batch file. `defaults` fill in what a line leaves out.

    Raises:
        UsageError: there is no request, or the variants make no sense.
        InvalidRequestError: lines are wrong; the message names them.
    """
    suffix = path.suffix.lower()
    table = suffix in _TABLES or (suffix == ".txt" and text.lstrip()[:1] not in {"{", "#"})
    folder = Path() if str(path) == "-" else path.parent
    variants.axes()  # a fault in them is no fault of a line
    variants.columns()
    seed = defaults.get("extra", {}).get("seed")
    lines: list[Line] = []
    faults: list[str] = []
    keys: dict[str, int] = {}
    for number, row in _rows(text, table=table):
        try:
            if isinstance(row, str):
                raise InvalidRequestError(row, field="body")
            found = [_line(number, part, folder, defaults, name) for part, name in variants.of(row, seed)]
        except VeniceError as error:
            faults.append(f"line {number}: {error.message}")
            continue
        lines += found
        faults += [
            f"lines {keys[key]} and {number} have the same key {key!r}"
            for key in (line.key for line in found if line.key is not None)
            if keys.setdefault(key, number) != number
        ]
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        msg = f"{path}: {'; '.join(faults[:_SHOWN])}{more}"
        raise InvalidRequestError(msg, field="batch", hint="Correct the file and run it again")
    if not lines:
        msg = f"There is no request in {str(path)!r}"
        raise UsageError(msg)
    return lines


def unknown_fields(lines: Iterable[Line]) -> list[str]:
    """Return a warning for each field that the library does not know."""
    first: dict[str, int] = {}
    for line in lines:
        for name in line.unknown:
            first.setdefault(name, line.number)
    return [
        f"line {number}: {name!r} is sent as it is, for no field of that name is known"
        for name, number in first.items()
    ]


def _rows(text: str, *, table: bool) -> Iterator[tuple[int, Row]]:
    """Yield rows: JSON, or those of a table as spreadsheets write it, with empty rows or a first `sep=;`."""
    if not table:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                said = parsed(line)
                yield number, said if isinstance(said, dict) else "it is not a JSON object"
        return
    first = _SEPARATOR.match(text)
    above = 1 if first else 0
    text = text[first.end() :] if first else text
    header = _LINE_END.split(text.lstrip(), maxsplit=1)[0]
    separator = first[1] if first else max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    limit = csv.field_size_limit(_LARGEST)
    try:
        for row in reader:
            more: Any = row.pop(None, None)  # pyright: ignore[reportArgumentType] - the key of what has no name
            cells = {name.strip(): _cell(name.strip(), cell) for name, cell in row.items() if name and cell}
            if more and any(more):
                yield reader.line_num + above, "it has more cells than the first line"
            elif cells:
                yield reader.line_num + above, cells
    except csv.Error as error:
        yield reader.line_num + above + 1, f"it is not CSV: {error}"
    finally:
        csv.field_size_limit(limit)


def _cell(name: str, text: str) -> Any:
    """Return what a cell of a table means: lists and objects are JSON, media are separated by blanks."""
    if name == "audio":
        return _TRUE.get(text.strip().lower(), text)
    if name in _NUMBERS and text.strip().isdecimal():
        return int(text)
    if text.lstrip()[:1] in {"[", "{"}:
        return parsed(text)
    return text.split() if name.endswith("_urls") else text


def _line(
    number: int, row: Mapping[str, Any], folder: Path, defaults: Mapping[str, Any], variant: str
) -> Line:
    said = {**defaults, **{_SHORT.get(name, name): part for name, part in row.items() if part is not None}}
    names = [said.pop(name) for name in _NAMES if name in said]
    price: object = said.pop("max_usd", None)
    try:
        max_usd = None if price is None else float(str(price).strip().removeprefix("$"))
    except ValueError:
        max_usd = math.nan
    if not (max_usd is None or 0 <= max_usd < math.inf):
        msg = f"max_usd is no sum of USD: {price!r}"
        raise InvalidRequestError(msg, field="max_usd")
    columns = {name.removeprefix(_TAG): str(said.pop(name)) for name in list(said) if name.startswith(_TAG)}
    try:
        tags = checked_tags({**checked_tags(said.pop("tags", {})), **columns})
    except UsageError as error:
        raise InvalidRequestError(error.message, field="tags") from None
    filled = defaults.get("extra", {})
    known, extra = split_fields(said, (*_SHORT, *_NAMES, "max_usd", "tags"))
    if "model" not in known:
        msg = f"no model is named, only {', '.join(map(repr, known)) or 'nothing'}; --model sets one for all"
        raise InvalidRequestError(msg, field="model")
    return Line(
        number=number,
        request=VideoRequest(
            **{name: as_field(name, part, folder) for name, part in known.items()}, extra={**filled, **extra}
        ),
        key=" ".join(filter(None, (str(names[0]), variant))) if names else None,
        variant=variant,
        max_usd=max_usd,
        tags=tags,
        unknown=tuple(name for name in said if name in extra and name not in (*filled, *UNDECLARED)),
    )
