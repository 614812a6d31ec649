"""Reads scenarios and faults from JSON or TOML.

A file is a list of entries, or an object with the lists `scenarios` and `faults`. An entry has the fields of
a `Scenario`, and `model` for the model that it is for, or the fields of a `Fault`, which always has `on`:

    [{"model": "wan-2-7-text-to-video", "outcome": "content_policy"}, {"on": "retrieve", "status": 503}]

`scenarios` may also be an object by model id, as the argument of a `Sandbox` is.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias, TypeVar, cast

from attrs import fields_dict
from cattrs import BaseValidationError, Converter, transform_error
from cattrs.gen import make_dict_structure_fn, override

from ..errors import UsageError
from ..formatting import did_you_mean
from .catalogue import CATALOGUE
from .scenarios import Fault, Scenario

T = TypeVar("T", Scenario, Fault)

_HINT: Final = "The guide's page on tests lists the fields of scenarios and faults"
_LISTS: Final = frozenset({"scenarios", "faults"})
_LITERAL: Final = re.compile(r"(.*) not in literal typing\.Literal\[(.*)\]")
_NAMED: Final = re.compile(r"\w+\.(\w+) must ")
_CALLED: Final = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}

Json: TypeAlias = "bool | float | str | list[Json] | dict[str, Json] | None"
Declared: TypeAlias = tuple[dict[str, list[Scenario]], list[Fault]]


class _FileError(Exception):
    """What is wrong with a file, to be read after its name, and with which field, if with one."""

    def __init__(self, what: str, field: str = "") -> None:
        super().__init__(what.rstrip())
        self.field = field


def parse_scenarios(text: str, name: str) -> Declared:
    """Return the scenarios by model, and the faults, that the text of the file `name` declares.

    Raises:
        UsageError: the text is neither JSON nor TOML, or an entry is wrong; the message names its field, and
            the line where only one has that field.
    """
    scenarios: dict[str, list[Scenario]] = {}
    faults: list[Fault] = []
    models = ["*", *(model.id for model in CATALOGUE)]
    try:
        for place, entry in _entries(_parsed(text, name.lower().rpartition(".")[2])):
            model = entry.get("model", "*")
            if model not in models:
                msg = f": {place}: the sandbox has no model {model!r}. {did_you_mean(str(model), models)}"
                raise _FileError(msg, "model")
            if "on" in entry:
                faults.append(_structured(place, entry, Fault))
            else:
                scenario = {field: value for field, value in entry.items() if field != "model"}
                scenarios.setdefault(str(model), []).append(_structured(place, scenario, Scenario))
        if not scenarios and not faults:
            msg = " declares neither a scenario nor a fault"
            raise _FileError(msg)
    except _FileError as error:
        found = re.finditer(rf"""(?<![\w-]){re.escape(error.field)}["']?\s*[:=]""", text)
        lines = [text.count("\n", 0, match.start()) + 1 for match in found] if error.field else []
        line = f", line {lines[0]}" if len(lines) == 1 else ""
        msg = f"{name}{line}{error}"
        raise UsageError(msg, hint=_HINT) from error
    return scenarios, faults


def _parsed(text: str, suffix: str) -> Json:
    """Parse what the suffix of the file says; without one that says it, JSON, or else TOML."""
    try:
        if suffix != "toml":
            try:
                return cast("Json", json.loads(text))
            except (ValueError, RecursionError):
                if suffix == "json" or text.lstrip()[:1] == "{":
                    raise
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if isinstance(error, tomllib.TOMLDecodeError) else "JSON"
        msg = f" is not {kind}: {error}"
        raise _FileError(msg) from error


def _entries(content: Json) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """Yield each entry, and how a message calls it."""
    lists: Mapping[str, Json] = {"": content}
    if isinstance(content, dict):
        lists = content if _LISTS & content.keys() else {"": [content]}
    for title, entries in lists.items():
        if title not in {"", *_LISTS}:
            msg = f" has {title!r} beside its scenarios and faults"
            raise _FileError(msg)
        if title == "scenarios" and isinstance(entries, dict):
            entries = [  # noqa: PLW2901 - the same, as a list
                {**entry, "model": model} if isinstance(entry, dict) else entry
                for model, found in entries.items()
                for entry in (found if isinstance(found, list) else [found])
            ]
        if not isinstance(entries, list):
            msg = f": {title or 'what it declares'} is no list"
            raise _FileError(msg)
        for number, entry in enumerate(entries, 1):
            place = f"{title.removesuffix('s') or 'entry'} {number}"
            if not isinstance(entry, dict):
                msg = f": {place} is no object"
                raise _FileError(msg)
            if title and ("on" in entry) != (title == "faults"):
                msg = "'on' belongs to a fault" if "on" in entry else "a fault needs 'on'"
                msg = f": {place}: {msg}"
                raise _FileError(msg)
            yield place, entry


def _structured(place: str, entry: Mapping[str, Json], kind: type[T]) -> T:
    known = fields_dict(cast("type[Any]", kind)).keys()
    called = kind.__name__.lower()
    for name in entry.keys() - known:
        msg = f": {place}: {name!r} is no field of a {called}. {did_you_mean(name, known, similar=0.6)}"
        raise _FileError(msg, name)
    try:
        return _CONVERTER.structure(entry, kind)
    except BaseValidationError as error:
        said = transform_error(
            error, path=called, format_exception=lambda error, _: getattr(error, "message", str(error))
        )[0]
        what, _, where = said.rpartition(" @ ")
        what = _LITERAL.sub(r"\1 is none of \2", what)
        field = where.removeprefix(f"{called}.").split("[")[0]
        if field in known:
            what = f"{field!r}: {what}"
        elif named := _NAMED.match(what):  # a validator says it itself
            field = named[1]
        msg = f": {place}: {what}"
        raise _FileError(msg, field) from error


def _as_written(value: Any, kind: Any) -> Any:
    """Take a value for what it is: no text is a number, no number a yes or no."""
    taken = int | float if kind is float else kind
    if not isinstance(value, taken) or (isinstance(value, bool) and kind is not bool):
        msg = f"{_CALLED[kind]} is wanted, not {value!r}"
        raise ValueError(msg)
    return kind(value)


_CONVERTER: Final = Converter()
for _kind in _CALLED:
    _CONVERTER.register_structure_hook(_kind, _as_written)
_CONVERTER.register_structure_hook(
    Fault,
    make_dict_structure_fn(
        Fault, _CONVERTER, raw=override(struct_hook=lambda value, _: str(value).encode("latin-1"))
    ),
)
