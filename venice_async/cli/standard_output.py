"""The clip on stdout, for `-o -`: `venice-async generate ... -o - | ffplay -`."""

from __future__ import annotations

import os
import select
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from ..errors import UsageError
from ..io.delivery.sinks import WriterSink

if TYPE_CHECKING:
    from .screen.screen import Screen

STDOUT: Final = Path("-")


class StandardOutput:
    """Takes the bytes of a clip; a reader that is slow never delays an interrupt."""

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


def destination(output: Path | str, screen: Screen) -> Path | str | WriterSink:
    """Return where a clip goes: a file, a folder or a URL, or stdout for `-`.

    Raises:
        UsageError: stdout is a terminal, or carries JSON.
    """
    if output != STDOUT:
        return output
    if screen.out.is_terminal:
        msg = "-o - writes the clip to stdout, which is a terminal"
        raise UsageError(msg, hint="Redirect it, such as: -o - > clip.mp4")
    if screen.as_json:
        msg = "-o - and --json exclude each other: both write to stdout"
        raise UsageError(msg)
    return WriterSink(StandardOutput())
