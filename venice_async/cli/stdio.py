"""`-` for a file: stdin is read, and the clip goes to stdout. Neither delays an interrupt."""

from __future__ import annotations

import asyncio
import codecs
import os
import select
import stat
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from ..errors import UsageError
from ..io.delivery.sinks import WriterSink

if TYPE_CHECKING:
    from .screen.screen import Screen

STDOUT: Final = Path("-")
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PIECE: Final = 1 << 16  # bytes


class StandardOutput:
    """Takes the bytes of a clip: `venice-async generate ... -o - | ffplay -`."""

    def __init__(self) -> None:
        """Write to stdout as it is now."""
        self._descriptor = sys.stdout.fileno()
        self._is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode) or os.name != "posix"

    async def write(self, data: bytes) -> None:
        """Write all of `data`."""
        left = memoryview(data)
        while left:
            if self._is_file:
                written = await anyio.to_thread.run_sync(os.write, self._descriptor, left)
            else:  # as much as a pipe takes at once when it takes anything
                await anyio.wait_writable(self._descriptor)
                written = os.write(self._descriptor, left[: select.PIPE_BUF])
            left = left[written:]


def destination(output: Path | str, screen: Screen, *, clips: int = 1) -> Path | str | WriterSink:
    """Return where clips go: a file, a folder or a URL, or stdout for `-`.

    Raises:
        UsageError: stdout is a terminal, carries JSON, or would take several clips.
    """
    if output != STDOUT:
        return output
    if clips > 1:
        msg = "-o - takes one clip"
        raise UsageError(msg, hint="Name a folder for several")
    if screen.out.is_terminal:
        msg = "-o - writes the clip to stdout, which is a terminal"
        raise UsageError(msg, hint="Redirect it, such as: -o - > clip.mp4")
    if screen.as_json:
        msg = "-o - and --json exclude each other: both write to stdout"
        raise UsageError(msg)
    return WriterSink(StandardOutput())


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
