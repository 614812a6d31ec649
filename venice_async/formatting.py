"""Money, durations, sizes and suggestions as text for people."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Final

from attrs import fields

_MINUTE: Final = 60
_HOUR: Final = 3600
_KILO: Final = 1000
_NEAREST: Final = 2  # names that are suggested
_SIMILAR: Final = 0.7  # how alike a name is to one that was meant


def as_usd(usd: float) -> str:
    """Return a price with two decimals, or four if it needs them: `$0.15`, `$0.0125`, `$1,204.00`."""
    return f"${usd:,.4f}".removesuffix("00")


def as_seconds(seconds: float) -> str:
    """Return a duration in its two largest units: `4.2 s`, `42 s`, `3 min 05 s`, `1 h 04 min`."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{seconds:.1f}".removesuffix(".0") + " s" if seconds < 10 else f"{whole} s"  # noqa: PLR2004 - two digits
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"


def as_bytes(size: float) -> str:
    """Return a size in decimal units: `940 B`, `180 KB`, `12.4 MB`."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < _KILO or unit == "GB":
            return f"{size:.0f} {unit}" if size >= _KILO / 10 or unit == "B" else f"{size:.1f} {unit}"
        size /= _KILO
    raise AssertionError


def did_you_mean(name: str, known: Iterable[str], *, similar: float = _SIMILAR) -> str:
    """Return `Did you mean 'a' or 'b'?` for those of `known` that look like `name`; nothing if none does."""
    near = get_close_matches(name, known, n=_NEAREST, cutoff=similar)
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else ""


def short_repr(self: Any) -> str:
    """Return the repr of an attrs instance with the fields that are not at their defaults; a `__repr__`."""
    shown: list[str] = []
    for item in fields(self.__class__):
        default: Any = item.default
        part = getattr(self, item.name)
        if item.repr and part != (default.factory() if hasattr(default, "factory") else default):
            shown.append(f"{item.name}={item.repr(part) if callable(item.repr) else repr(part)}")
    return f"{type(self).__name__}({', '.join(shown)})"
