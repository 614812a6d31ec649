"""Questions on the terminal, asked without blocking the event loop: a signal still gets through."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import anyio
from rich.text import Text

from .screen import printable

if TYPE_CHECKING:
    from .screen import Screen

_YES: Final = frozenset({"y", "yes"})
_LONGEST: Final = 4096  # bytes of a line that a terminal hands over at once


async def confirmed(screen: Screen, question: str) -> bool:
    """Ask a question that is answered by y or n; anything but yes is a no, and so is the end of the input."""
    screen.err.print(Text(f"{printable(question)} [y/N] "), end="")
    answer = await _line()
    return answer.strip().lower() in _YES


async def _line() -> str:
    await anyio.wait_readable(sys.stdin)
    return os.read(sys.stdin.fileno(), _LONGEST).decode(errors="replace")
