"""What is said, and where: results on stdout, everything else on stderr, colours on terminals only."""

from __future__ import annotations

import logging
import os
import re
import sys
import unicodedata
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

from attrs import frozen
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from ..options import flag
from .streams import as_line, write_path

PANEL: Final = "Output"
_BYTE: Final = re.compile("[\udc80-\udcff]")  # one of a file name that is not text
_FRAMES: Final = 8  # pictures a second
_BIDIRECTIONAL: Final = frozenset(
    map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))
)  # they reorder text


@frozen(kw_only=True)
class Output:
    """How much is said, and to whom."""

    json: Annotated[
        bool, flag("--json", says="Print results and errors as JSON, for scripts.", panel=PANEL)
    ] = False
    quiet: Annotated[bool, flag("--quiet", "-q", says="Say nothing but errors and results.", panel=PANEL)] = (
        False
    )
    verbose: Annotated[bool, flag("--verbose", "-v", says="Say what goes on underneath.", panel=PANEL)] = (
        False
    )


class Screen:
    """Where a command speaks.

    Attributes:
        as_json: whether stdout carries JSON.
        quiet: whether nothing but errors and results is said.
        live: whether stderr is a terminal on which a picture can be redrawn.
        err: stderr.
        out: stdout.
    """

    def __init__(self, output: Output) -> None:
        """Look at stdout and stderr as they are now."""
        self.as_json: bool = output.json
        self.quiet: bool = output.quiet
        self.level = logging.DEBUG if output.verbose else logging.ERROR if output.quiet else logging.WARNING
        self.err: Console = _console(sys.stderr)
        self.out: Console = _console(sys.stdout)
        self._picture: Any = None
        self._view: Live | None = None
        self._held: list[tuple[str, str]] | None = None
        self.live: bool = self.err.is_terminal and not self.quiet and os.environ.get("TERM") != "dumb"

    @property
    def can_ask(self) -> bool:
        """Whether there is a person to ask."""
        return _is_terminal(sys.stdin) and self.err.is_terminal

    @contextmanager
    def drawing(self, picture: Any) -> Generator[None]:
        """Redraw `picture` at the bottom of stderr within the block, then wipe it away."""
        self._picture = picture
        self._start()
        try:
            yield
        finally:
            self._picture = None
            self._stop()

    @contextmanager
    def waiting(self, text: str) -> Generator[None]:
        """Show on a terminal that something is being waited for."""
        with self.drawing(Spinner("dots", Text(text), style="cyan")) if self.live else nullcontext():
            yield

    @contextmanager
    def alone(self) -> Generator[None]:
        """Keep the picture away within the block, in which a person is asked; what is said comes after it."""
        self._stop()
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            for text, style in held:
                self._line(self.err, text, style)
            self._start()

    def _start(self) -> None:
        """Draw from here on, anew: a picture that goes on would cover what was said since."""
        picture = self._picture
        if picture is None:
            return
        self._view = Live(
            get_renderable=lambda: picture,
            console=self.err,
            refresh_per_second=_FRAMES,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._view.start()

    def _stop(self) -> None:
        view, self._view = self._view, None
        if view is not None:
            view.stop()

    def note(self, text: str, style: str = "") -> None:
        """Say a line on stderr."""
        if not self.quiet:
            self.insist(text, style)

    def complain(self, text: str) -> None:
        """Say what is wrong, on stderr, however quiet it is to be."""
        self.insist(text, "red")

    def insist(self, text: str, style: str = "") -> None:
        """Say what must be known, on stderr, however quiet it is to be."""
        if self._held is not None:
            self._held.append((text, style))
            return
        self._line(self.err, text, style)

    def result(self, text: str, style: str = "") -> None:
        """Say a line on stdout."""
        self._line(self.out, text, style)

    def path(self, path: Path | None) -> None:
        """Print a path on stdout, as a script needs it: the bytes of its name."""
        if path is None or self.out.is_terminal:
            self.result(str(path))
        else:
            write_path(path, sys.stdout)

    def row(self, cells: Iterable[str]) -> None:
        """Print a row of a table on stdout, its cells parted by tabs."""
        sys.stdout.write("\t".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", cell) for cell in cells) + "\n")

    def emit(self, value: Mapping[str, Any] | list[Any]) -> None:
        """Print JSON on stdout: one value, one line."""
        sys.stdout.write(as_line(value, sys.stdout))
        sys.stdout.flush()

    @contextmanager
    def logs(self) -> Generator[None]:
        """Show the library's log records as notes within the block."""
        handler = _Notes(self)
        handler.setLevel(self.level)
        logger = logging.getLogger("venice_async")
        level, propagate = logger.level, logger.propagate
        logger.addHandler(handler)
        logger.setLevel(self.level)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate

    @staticmethod
    def _line(console: Console, text: str, style: str) -> None:
        console.print(Text(printable(text), style=style), soft_wrap=True)


class _Notes(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.insist(f"{record.levelname.lower()}: {record.getMessage()}", "dim")


def printable(text: str) -> str:
    """Return text without control characters: what a server sends must not steer the terminal."""
    shown = _BYTE.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text)
    return "".join(letter for letter in shown if letter in "\n\t" or not _steers(letter))


def _steers(letter: str) -> bool:
    return unicodedata.category(letter) in {"Cc", "Cs"} or letter in _BIDIRECTIONAL


def _console(stream: TextIO) -> Console:
    return Console(
        file=stream, force_terminal=_is_terminal(stream), highlight=False, markup=False, emoji=False
    )


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # a stream that was closed
        return False
