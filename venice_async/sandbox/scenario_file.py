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
from difflib import get_close_matches
from functools import cache
from typing import Any, Final, TypeAlias, TypeVar, cast

from attrs import fields_dict
from cattrs import BaseValidationError, Converter, transform_error
from cattrs.gen import make_dict_structure_fn, override

from ..errors import UsageError
from .catalogue import CATALOGUE
from .scenarios import Fault, Scenario

T = TypeVar("T", Scenario, Fault)

_HINT: Final = "The guide's page on tests lists the fields of scenarios and faults"
_LISTS: Final = frozenset({"scenarios", "faults"})
_LITERAL: Final = re.compile(r"(.*) not in literal typing\.Literal\[(.*)\]")
_NAMED: Final = re.compile(r"'(\w+)' must ")

Json: TypeAlias = "bool | float | str | list[Json] | dict[str, Json] | None"
Declared: TypeAlias = tuple[dict[str, list[Scenario]], list[Fault]]


class _EntryError(Exception):
    """What is wrong with an entry, and with which of its fields."""

    def __init__(self, what: str, field: str) -> None:
        super().__init__(what)
        self.field = field


def parse_scenarios(text: str, name: str) -> Declared:
    """Return the scenarios by model, and the faults, that the text of the file `name` declares.

    Raises:
        UsageError: the text is neither JSON nor TOML, or an entry is wrong; the message names its field, and
            the line where only one has that field.
    """
    scenarios: dict[str, list[Scenario]] = {}
    faults: list[Fault] = []
    for place, entry in _entries(_parsed(text, name), name):
        try:
            if "on" in entry:
                if "model" in entry:
                    _model(entry["model"])
                faults.append(_structured(entry, Fault))
            else:
                model = _model(entry.get("model", "*"))
                scenario = {field: value for field, value in entry.items() if field != "model"}
                scenarios.setdefault(model, []).append(_structured(scenario, Scenario))
        except _EntryError as error:
            found = re.finditer(rf"""(?<![\w-]){re.escape(error.field)}["']?\s*[:=]""", text)
            lines = [text.count("\n", 0, match.start()) + 1 for match in found] if error.field else []
            line = f", line {lines[0]}" if len(lines) == 1 else ""
            msg = f"{name}{line}: {place}: {error}"
            raise UsageError(msg, hint=_HINT) from error
    if not scenarios and not faults:
        msg = f"{name} declares neither a scenario nor a fault"
        raise UsageError(msg, hint=_HINT)
    return scenarios, faults


def _parsed(text: str, name: str) -> Json:
    """Parse what the name says; without a suffix that says it, JSON, or else TOML."""
    suffix = name.lower().rpartition(".")[2]
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
        msg = f"{name} is not {kind}: {error}"
        raise UsageError(msg, hint=_HINT) from error


def _entries(content: Json, name: str) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """Yield each entry, and how a message calls it."""
    lists: Mapping[str, Json] = {"": content}
    if isinstance(content, dict):
        lists = content if _LISTS & content.keys() else {"": [content]}
    if unknown := sorted(lists.keys() - _LISTS - {""}):
        msg = f"{name} has {unknown[0]!r} beside its scenarios and faults"
        raise UsageError(msg, hint=_HINT)
    for title, entries in lists.items():
        if title == "scenarios" and isinstance(entries, dict):
            entries = [  # noqa: PLW2901 - the same, as a list
                {**entry, "model": model} if isinstance(entry, dict) else entry
                for model, found in entries.items()
                for entry in (found if isinstance(found, list) else [found])
            ]
        if not isinstance(entries, list):
            msg = f"{name}: {title or 'what it declares'} is no list"
            raise UsageError(msg, hint=_HINT)
        for number, entry in enumerate(entries, 1):
            place = f"{title.removesuffix('s') or 'entry'} {number}"
            if not isinstance(entry, dict):
                msg = f"{name}: {place} is no object"
                raise UsageError(msg, hint=_HINT)
            if title and ("on" in entry) != (title == "faults"):
                msg = f"{name}: {place}: " + (
                    "'on' belongs to a fault" if "on" in entry else "a fault needs 'on'"
                )
                raise UsageError(msg, hint=_HINT)
            yield place, entry


def _model(wanted: object) -> str:
    known = ["*", *(model.id for model in CATALOGUE)]
    if wanted in known:
        return str(wanted)
    near = get_close_matches(str(wanted), known, n=1)
    meant = f"; {near[0]!r} may be meant" if near else ""
    msg = f"the sandbox has no model {wanted!r}{meant}"
    raise _EntryError(msg, "model")


def _structured(entry: Mapping[str, Json], kind: type[T]) -> T:
    known = fields_dict(cast("type[Any]", kind)).keys()
    called = kind.__name__.lower()
    for name in entry.keys() - known:
        near = get_close_matches(name, known, n=1)
        meant = f"; {near[0]!r} may be meant" if near else ""
        msg = f"{name!r} is no field of a {called}{meant}"
        raise _EntryError(msg, name)
    try:
        return _converter().structure(entry, kind)
    except BaseValidationError as error:
        said = transform_error(error, path=called, format_exception=lambda exc, _: str(exc))[0]
        what, _, where = said.rpartition(" @ ")
        what = _LITERAL.sub(r"\1 is none of \2", what)
        field = where.removeprefix(f"{called}.").split("[")[0]
        if field in known:
            what = f"{field!r}: {what}"
        elif named := _NAMED.match(what):  # a validator says it itself
            field = named[1]
        raise _EntryError(what, field) from error


@cache
def _converter() -> Converter:
    """Return what takes each value for what it is: no text is a number, no number a yes or no."""
    built = Converter()
    for kind, called, taken in (
        (str, "text", str),
        (bool, "true or false", bool),
        (int, "a whole number", int),
        (float, "a number", int | float),
    ):

        def structure(
            value: Any, _: object, kind: Any = kind, called: str = called, taken: Any = taken
        ) -> Any:
            if not isinstance(value, taken) or (isinstance(value, bool) and kind is not bool):
                msg = f"{called} is wanted, not {value!r}"
                raise ValueError(msg)
            return kind(value)

        built.register_structure_hook(kind, structure)
    written = override(struct_hook=lambda value, _: str(value).encode("latin-1"))
    built.register_structure_hook(Fault, make_dict_structure_fn(Fault, built, raw=written))
    return built
