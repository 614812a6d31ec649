"""Reads a file, or stdin, which never delays an interrupt."""

from __future__ import annotations

import asyncio
import codecs
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio

from ..errors import UsageError

_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PIECE: Final = 1 << 16  # bytes


async def read_text(path: Path) -> str:
    """Return the text of a file, or of stdin for `-`: UTF-8, or UTF-16 that says so by its first character.

    Raises:
        UsageError: it cannot be read, or is neither.
    """
    try:
        data = await _standard_input() if str(path) == "-" else await anyio.Path(path).read_bytes()
        return data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        msg = f"{str(path)!r} cannot be read: {reason}"
        raise UsageError(msg, hint="" if isinstance(error, OSError) else "Save it as UTF-8") from None


async def _standard_input() -> bytes:
    """Read in a thread that nobody joins: one that waits for its writer would hold up the exit."""
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, ValueError):  # there is none, it is closed, or it is no file
        return b"" if sys.stdin is None else sys.stdin.read().encode()
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    read: list[bytes | OSError] = []

    def work() -> None:
        try:
            while piece := os.read(descriptor, _PIECE):
                read.append(piece)
        except OSError as error:
            read.append(error)
        with suppress(RuntimeError):  # the loop was closed by an interrupt
            loop.call_soon_threadsafe(end.set)

    threading.Thread(target=work, name="stdin", daemon=True).start()
    await end.wait()
    for piece in read:
        if isinstance(piece, OSError):
            raise piece
    return b"".join(piece for piece in read if isinstance(piece, bytes))
