"""The requests of a batch, from JSON Lines or CSV, all checked before anything is sent."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeGuard, cast

from attrs import fields as fields_of
from attrs import frozen

from ..errors import InvalidRequestError, UsageError, VeniceError
from ..requests import VideoRequest
from .request_options import duration, media, parsed

_NAMES: Final = ("key", "id")  # what a line may call itself, so that it is known again in another run
_KNOWN: Final = frozenset(item.name for item in fields_of(VideoRequest)) - {"consents"}
_SHORT: Final = {"image": "image_url", "end_image": "end_image_url", "video": "video_url"}
_TRUE: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_SHOWN: Final = 5  # faults told at once
_TABLES: Final = frozenset({".csv", ".tsv", ".tab"})
_SEPARATOR: Final = re.compile(
    r'"?sep=(.)"?(?:\r\n|\r|\n)', re.IGNORECASE
)  # what a spreadsheet may begin with
_LINE_END: Final = re.compile(r"[\r\n]")
_LARGEST: Final = 2**31 - 1  # characters of a cell: a `data:` URL is one


@frozen(kw_only=True)
class Line:
    """One request of a batch.

    Attributes:
        number: its line in the file, from 1.
        request: the request.
        key: what the line calls itself, or None.
        unknown: fields that the library does not know; they are sent as they are.
    """

    number: int
    request: VideoRequest
    key: str | None = None
    unknown: tuple[str, ...] = ()


class _Unreadable:
    """Stands for a line that cannot be read, and says why."""

    def __init__(self, why: str) -> None:
        self.why = why


def read_batch(text: str, path: Path, defaults: Mapping[str, Any]) -> list[Line]:
    """Return the requests in the text of a file: CSV if the name says so, else JSON Lines, as on stdin.

    Media are http(s) or `data:` URLs, or files, relative to the folder of the batch file. `defaults` fill in
    what a line leaves out.

    Raises:
        UsageError: there is no request.
        InvalidRequestError: lines are wrong; the message names them.
    """
    suffix = path.suffix.lower()
    table = suffix in _TABLES or (suffix == ".txt" and text.lstrip()[:1] not in {"{", "#"})
    rows = _csv(text) if table else _json_lines(text)
    folder = Path() if str(path) == "-" else path.parent
    lines: list[Line] = []
    faults: list[str] = []
    for number, row in rows:
        try:
            lines.append(_line(number, row, folder, defaults))
        except VeniceError as error:
            faults.append(f"line {number}: {error.message}")
    if faults:
        raise _faulty(path, faults)
    if not lines:
        msg = f"There is no request in {str(path)!r}"
        raise UsageError(msg)
    _check_keys(path, lines)
    return lines


def strangers(lines: Iterable[Line]) -> list[str]:
    """Return what to say of fields that the library does not know: a slip of the pen would cost money."""
    first: dict[str, int] = {}
    for line in lines:
        for name in line.unknown:
            first.setdefault(name, line.number)
    return [f"line {number}: {name!r} is sent as it is{_meant(name)}" for name, number in first.items()]


def _meant(name: str) -> str:
    near = get_close_matches(name, (*_KNOWN, *_SHORT, *_NAMES), n=1)
    return f"; {near[0]!r} was meant?" if near else ", for no field of that name is known"


def _json_lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            row = parsed(line)
            yield number, row if isinstance(row, dict) else _Unreadable("it is not a JSON object")


def _csv(text: str) -> Iterator[tuple[int, Any]]:
    """Yield the rows of a table as spreadsheets write it: with empty rows, or a first line `sep=;`."""
    said = _SEPARATOR.match(text)
    above = 1 if said else 0
    text = text[said.end() :] if said else text
    header = _LINE_END.split(text.lstrip(), maxsplit=1)[0]
    separator = said[1] if said else max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    limit = csv.field_size_limit(_LARGEST)
    try:
        for row in reader:
            more: Any = row.pop(None, None)  # pyright: ignore[reportArgumentType] - the key of what has no name
            cells = {name.strip(): _cell(name.strip(), cell) for name, cell in row.items() if name and cell}
            if more and any(more):
                yield reader.line_num + above, _Unreadable("it has more cells than the first line")
            elif cells:
                yield reader.line_num + above, cells
    except csv.Error as error:
        yield reader.line_num + above + 1, _Unreadable(f"it is not CSV: {error}")
    finally:
        csv.field_size_limit(limit)


def _cell(name: str, text: str) -> Any:
    """Return what a cell of a table means: lists and objects are JSON, several media are parted by blanks."""
    if name == "audio":
        return _TRUE.get(text.strip().lower(), text)
    if name == "upscale_factor" and text.strip().isdecimal():
        return int(text)
    if text.lstrip()[:1] in {"[", "{"}:
        return parsed(text)
    return text.split() if name.endswith("_urls") else text


def _line(number: int, row: object, folder: Path, defaults: Mapping[str, Any]) -> Line:
    if isinstance(row, _Unreadable):
        raise InvalidRequestError(row.why, field="body")
    said = {
        **defaults,
        **{_SHORT.get(name, name): part for name, part in cast("dict[str, Any]", row).items()},
    }
    names = [said.pop(name) for name in _NAMES if name in said]
    unknown = {name: said.pop(name) for name in list(said) if name not in _KNOWN}
    fields = {
        name: part if name == "extra" else _field(name, part, folder)
        for name, part in said.items()
        if part is not None
    }
    fields["extra"] = {**unknown, **fields.get("extra", {})}
    if "model" not in fields:
        msg = f"it names no model, but {', '.join(map(repr, said)) or 'nothing'}"
        raise InvalidRequestError(msg, field="model", hint="Give it a model, or all of them one with --model")
    return Line(
        number=number,
        request=VideoRequest(**fields),
        key=str(names[0]) if names else None,
        unknown=tuple(name for name in unknown if name not in defaults.get("extra", {})),
    )


def _field(name: str, part: Any, folder: Path) -> Any:
    """Return the value of a field; media files, wherever in lists and objects, are found in `folder`."""
    if name == "duration":
        return duration(part) if isinstance(part, str) else part
    if _is_list(part):
        return [_field(name.removesuffix("s"), item, folder) for item in part]
    if isinstance(part, dict):
        return {inner: _field(inner, item, folder) for inner, item in cast("dict[str, Any]", part).items()}
    is_file = isinstance(part, str) and not part.lower().startswith(("http://", "https://", "data:"))
    return media(name, str(folder / part)) if is_file and name.endswith("_url") else part


def _is_list(part: object) -> TypeGuard[list[Any]]:
    return isinstance(part, list)


def _faulty(path: Path, faults: list[str]) -> InvalidRequestError:
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    message = f"{path}: {'; '.join(faults[:_SHOWN])}{more}"
    return InvalidRequestError(
        message, field="batch", hint="Nothing was sent; correct the file and run it again"
    )


def _check_keys(path: Path, lines: list[Line]) -> None:
    seen: dict[str, int] = {}
    for line in lines:
        if line.key is None:
            continue
        if line.key in seen:
            msg = f"{path}: lines {seen[line.key]} and {line.number} have the same key {line.key!r}"
            raise InvalidRequestError(msg, field="key", hint="Keys tell lines apart in another run")
        seen[line.key] = line.number
