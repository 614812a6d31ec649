"""Options that several commands share, as one value: an attrs class whose fields are the options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any, get_type_hints

import attrs

Call = Callable[[Mapping[str, Any]], int]


def expand(
    function: Callable[..., Any], call: Call, *, provided: Mapping[str, type[Any]]
) -> Callable[..., int]:
    """Return a command with the options of `function`, where an attrs class stands for its fields.

    The command hands `call` the arguments for `function`, the groups made whole again. `provided` names the
    classes of parameters that `call` puts something else in place of.
    """
    names = list(inspect.signature(function).parameters)
    hints = get_type_hints(function, localns=_titles(provided), include_extras=True) | dict(provided)
    groups = {name: hints[name] for name in names if attrs.has(hints[name])}
    options = [option for name in names for option in _options(function, name, hints[name])]

    def command(**values: Any) -> int:
        whole = {name: kind(**_taken(values, kind)) for name, kind in groups.items()}
        return call({name: whole[name] if name in whole else values[name] for name in names})

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__annotations__ = {option.name: option.annotation for option in options}
    command.__signature__ = Signature(options)  # type: ignore[attr-defined] # pyright: ignore[reportFunctionMemberAccess] - inspect reads it
    return command


def _titles(provided: Mapping[str, type[Any]]) -> dict[str, type[Any]]:
    """Return the classes by the names that annotations use for what is provided: `screen: Screen`."""
    return {name.title(): kind for name, kind in provided.items()}


def _taken(values: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in attrs.fields(kind)}


def _options(function: Callable[..., Any], name: str, hint: Any) -> list[Parameter]:
    if not attrs.has(hint):
        return [_option(name, hint, inspect.signature(function).parameters[name].default)]
    types = get_type_hints(hint, include_extras=True)
    fields: Any = attrs.fields(hint)
    return [_option(field.name, types[field.name], _default(field)) for field in fields]


def _default(field: attrs.Attribute[Any]) -> Any:
    return Parameter.empty if field.default is attrs.NOTHING else field.default


def _option(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
