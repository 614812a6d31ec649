"""The standard streams: `-` for a file, and what stdout and stderr cannot encode.

Reading and writing never delay an interrupt. File names keep their bytes, and nothing crashes.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import select
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import BufferedWriter, FileIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import anyio

from ..errors import UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT: Final = Path("-")
_UTF16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_PIECE: Final = 1 << 16  # bytes
_SPELT: Final = {"✓": "+", "✗": "x", "·": "-", "…": "...", "━": "-", "╸": "-", "╺": "-"}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")  # a byte of a name that is not UTF-8
_ERRORS: Final = "venice_async"


class StandardOutput:
    """Takes the bytes of a clip: `venice-async generate ... -o - | ffplay -`."""

    def __init__(self) -> None:
        """Write to stdout as it is now."""
        self._descriptor = sys.stdout.fileno()

    async def write(self, data: bytes) -> None:
        """Write all of `data`."""
        left = memoryview(data)
        while left:
            try:  # no more than a pipe that is writable takes without blocking
                await anyio.wait_writable(self._descriptor)
                written = os.write(self._descriptor, left[: select.PIPE_BUF])
            except PermissionError:  # a file, which is always writable and cannot be waited for
                written = await anyio.to_thread.run_sync(os.write, self._descriptor, left)
            left = left[written:]


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
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, ValueError):  # there is none, it is closed, or it is no file
        return b"" if sys.stdin is None else sys.stdin.read().encode()
    pieces: list[bytes] = []
    while not pieces or pieces[-1]:
        with suppress(PermissionError):  # a file or /dev/null: always readable, and cannot be waited for
            await anyio.wait_readable(descriptor)
        pieces.append(os.read(descriptor, _PIECE))
    return b"".join(pieces)


class _Forgiving(FileIO):
    """Stderr that drops what cannot be written, as to a terminal that is gone: no paid job fails by it."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Replace characters that stdout and stderr cannot encode, and drop what stderr cannot write."""

    def otherwise(error: UnicodeError) -> tuple[str | bytes, int]:
        """Encode a byte of a file name as itself, a mark as a similar one, the rest as escapes."""
        if not isinstance(error, UnicodeEncodeError):
            raise error
        letter, end = error.object[error.start], error.start + 1
        if "\udc80" <= letter <= "\udcff":
            return letter.encode("ascii", "surrogateescape"), end
        return _SPELT.get(letter) or letter.encode("ascii", "backslashreplace").decode(), end

    codecs.register_error(_ERRORS, otherwise)
    sys.stdout, sys.stderr = sys.stdout or StringIO(), sys.stderr or StringIO()
    buffer: object = getattr(sys.stderr, "buffer", None)
    raw: object = getattr(buffer, "raw", buffer)  # PYTHONUNBUFFERED leaves out the buffer
    if isinstance(raw, FileIO):
        forgiving = BufferedWriter(_Forgiving(raw.fileno(), "w", closefd=False))
        sys.stderr = TextIOWrapper(forgiving, encoding=sys.stderr.encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def as_command(words: Sequence[str]) -> str:
    """Return a command line to paste into a shell, also where a file name is not text."""
    # A trailing quotation mark makes repr() use apostrophes, as the shell needs: $'caf\xe9'.
    return " ".join(
        "$" + repr(os.fsencode(word) + b'"')[1:-2] + "'" if _SURROGATE.search(word) else shlex.quote(word)
        for word in words
    )


def from_here(place: Path | str | None) -> str:
    """Return a URL as it is, and a path below the current folder relative to it."""
    if isinstance(place, Path) and place.is_relative_to(here := Path.cwd()):
        place = place.relative_to(here)
    return str(place)


def as_line(value: object, stream: TextIO) -> str:
    """Return JSON as a line for `stream`: ASCII where that is not UTF-8, or where a file name is not."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    encoding = codecs.lookup(getattr(stream, "encoding", None) or "utf-8").name
    if encoding != "utf-8" or _SURROGATE.search(text):
        text = json.dumps(value, default=str)
    return f"{text}\n"


def write_path(path: Path, stream: TextIO) -> None:
    """Write a path and a line feed: the bytes of its name, where `stream` takes bytes."""
    stream.flush()
    if (raw := getattr(stream, "buffer", None)) is None:
        stream.write(f"{path}\n")
    else:
        raw.write(os.fsencode(path) + b"\n")
    stream.flush()
