"""Output: results on stdout, everything else on stderr, colours on terminals only."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
import unicodedata
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, TextIO, cast

import anyio
from anyio.abc import TaskStatus
from attrs import define
from cyclopts import Parameter
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.constrain import Constrain
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from ..options import Output
from ..stdio import as_line, write_path

_FRAMES: Final = 8  # frames a second
_CLOSING: Final = 0.5  # seconds for an orderly exit after the second signal
_ECHO: Final = 4  # columns that two echoed ^C take
_GAP: Final = 2  # blanks between the columns of a table
_LEAST, _MOST = 12, 40  # width of a column that may be cut
_BYTE: Final = re.compile("[\udc80-\udcff]")  # a byte of a file name that is not text
_COMMAND: Final = re.compile(r"(?<=: )(?:venice-async|echo) .*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BIDIRECTIONAL: Final = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))


class Screen:
    """The output of a command, for a person or a script.

    Attributes:
        as_json: whether stdout carries JSON.
        quiet: whether nothing but errors and results is said.
        live: whether stderr is a terminal on which a picture can be redrawn.
        err: stderr.
        out: stdout.
        interrupts: what becomes of Ctrl-C and SIGTERM.
    """

    def __init__(self, output: Output) -> None:
        self.as_json: bool = output.json
        self.quiet: bool = output.quiet
        self.err: Console = _console(sys.stderr)
        self.out: Console = _console(sys.stdout)
        self.live: bool = self.err.is_terminal and not self.quiet and os.environ.get("TERM") != "dumb"
        self.interrupts: Interrupts = Interrupts(self)
        self._level = logging.DEBUG if output.verbose else logging.ERROR if output.quiet else logging.WARNING
        self._picture: Any = None
        self._view: Live | None = None
        self._held: list[tuple[str, str]] | None = None
        self._log: logging.Logger | None = None

    @property
    def can_ask(self) -> bool:
        """Whether there is a person to ask."""
        return _is_terminal(sys.stdin) and self.err.is_terminal

    @contextmanager
    def drawing(self, picture: Any) -> Generator[None]:
        """Redraw `picture` at the bottom of a terminal within the block, then erase it."""
        self._picture = picture if self.live else None
        self._start()
        try:
            yield
        finally:
            self._picture = None
            self.wipe()

    @contextmanager
    def waiting(self, text: str) -> Generator[None]:
        """Show a spinner on a terminal within the block."""
        dots = "dots" if self.err.encoding.lower().startswith("utf") else "line"
        with self.drawing(Spinner(dots, Text(text), style="cyan")):
            yield

    @contextmanager
    def alone(self) -> Generator[None]:
        """Hide the picture within the block, for questions; messages are printed after it."""
        self.wipe()
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            for text, style in held:
                _print(self.err, text, style)
            self._start()

    def _start(self) -> None:
        """Draw anew: an old frame would cover what was printed since."""
        if (picture := self._picture) is not None:
            self._view = Live(
                # An echoed ^C stays in its line then: in the next, Live would erase one line too few.
                get_renderable=lambda: Constrain(picture, self.err.width - _ECHO),
                console=self.err,
                refresh_per_second=_FRAMES,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._view.start()

    def wipe(self) -> None:
        """Erase what is drawn."""
        view, self._view = self._view, None
        if view is not None:
            view.stop()

    def end_line(self) -> None:
        """End the line in which the terminal has echoed a Ctrl-C."""
        if self.err.is_terminal and self._view is None and self._log is None:  # a picture is redrawn
            self.err.print()

    def note(self, text: str, style: str = "") -> None:
        """Print a line on stderr."""
        if not self.quiet:
            self.insist(text, style)

    def complain(self, text: str) -> None:
        """Print an error on stderr, also with `--quiet`."""
        self.insist(text, "red")

    def insist(self, text: str, style: str = "") -> None:
        """Print an important line on stderr, also with `--quiet`; on a terminal it is wrapped at words."""
        if self._log is not None:
            self._log.log(logging.ERROR if style == "red" else logging.INFO, text)
        elif self._held is None:
            _print(self.err, text, style)
        else:
            self._held.append((text, style))

    def result(self, text: str, style: str = "", *, hang: int | None = None) -> None:
        """Print a line on stdout, whole; or wrapped at words, with the next lines indented by `hang`."""
        with self._cleared():
            _print(self.out, text, style, hang=hang)

    def path(self, path: Path | str) -> None:
        """Print a path or a URL on stdout, as a script needs it: the bytes of its name."""
        if isinstance(path, str) or self.out.is_terminal:
            self.result(str(path))
        else:
            write_path(path, sys.stdout)

    def emit(self, value: Mapping[str, Any] | list[Any]) -> None:
        """Print JSON on stdout: one value, one line."""
        with self._cleared():
            sys.stdout.write(as_line(value, sys.stdout))
            sys.stdout.flush()

    def table(self, rows: Sequence[Mapping[str, str]], *, cut: str = "", dim: Sequence[bool] = ()) -> None:
        """Print rows on stdout: for scripts whole, parted by tabs; on a terminal the columns that fit.

        The first column is never left out, and no cell is cut but those of the column `cut`: the others are
        there to be copied. Rows that are `dim` are of less interest.
        """
        if not rows:
            return
        if not self.out.is_terminal:
            for row in rows:
                sys.stdout.write("\t".join(_CONTROL.sub(" ", cell) for cell in row.values()) + "\n")
            return
        lines, used = [""] * (len(rows) + 1), 0
        for name in rows[0]:
            shown = [name, *(printable(row[name]).replace("\n", " ") for row in rows)]
            width = max(map(cell_len, shown))
            if name == cut:
                width = min(width, max(_LEAST, min(_MOST, self.out.width - used)))
                shown = [
                    cell if cell_len(cell) <= width else f"{set_cell_size(cell, width - 1).rstrip()}…"
                    for cell in shown
                ]
            if used and used + width > self.out.width:
                continue
            lines = [
                line + cell + " " * (width + _GAP - cell_len(cell))
                for line, cell in zip(lines, shown, strict=True)
            ]
            used += width + _GAP
        for number, line in enumerate(lines):
            faint = "dim" if number and any(dim[number - 1 : number]) else ""
            self.result(line.rstrip(), faint if number else "bold")

    @contextmanager
    def _cleared(self) -> Generator[None]:
        """Hide the picture while stdout is written: it may be the same terminal."""
        drawn = self._view is not None and self.out.is_terminal
        if drawn:
            self.wipe()
        try:
            yield
        finally:
            if drawn:
                self._start()

    @contextmanager
    def logs(self) -> Generator[None]:
        """Show the library's log records as notes within the block, or as `log_as` says."""
        ours, root = logging.getLogger("venice_async"), logging.getLogger()
        before = ours.level, ours.propagate, ours.handlers[:], root.level, root.handlers[:]
        ours.addHandler(_Notes(self))
        ours.setLevel(self._level)
        ours.propagate = False
        try:
            yield
        finally:
            ours.setLevel(before[0])
            root.setLevel(before[3])
            ours.propagate, ours.handlers, root.handlers = before[1], before[2], before[4]

    def log_as(self, formatter: logging.Formatter) -> None:
        """Write log records, of all libraries, and notes as lines on stderr, as long as there are `logs`."""
        ours, root, handler = logging.getLogger("venice_async"), logging.getLogger(), logging.StreamHandler()
        handler.setFormatter(formatter)
        ours.handlers, ours.propagate, root.handlers = [], True, [handler]
        ours.setLevel(min(self._level, logging.INFO))
        root.setLevel(logging.WARNING)
        self._log = ours.getChild("cli")


@define(eq=False)
class Interrupts:
    """What a command does on signals.

    Ctrl-C, SIGTERM and a terminal that is closed (SIGHUP): the first asks to stop, the second insists. After
    the first, a paid request that is on its way comes to its answer. After the second the process ends within
    a second, whatever is on its way: it was journalled before it was sent, so that nothing is forgotten.

    Attributes:
        screen: its terminal.
        code: the exit code, once a signal has come.
        on_stop: called at the first signal instead of stopping at once, while there is work to hand over.
        on_insist: called at the second, before stopping at once.
        farewell: what is said when it stops at once.
    """

    screen: Screen
    code: int | None = None
    on_stop: Callable[[], object] | None = None
    on_insist: Callable[[], object] | None = None
    farewell: str = "Interrupted."

    async def guard(self, work: Callable[[], Awaitable[int]]) -> int:
        """Do `work` and return its exit code, or that of the signal that stopped it."""

        async def listen(*, task_status: TaskStatus[None]) -> None:
            heard = [signal.SIGINT, signal.SIGTERM]
            if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
                heard.append(signal.SIGHUP)  # what nohup starts ignores it
            with anyio.open_signal_receiver(*heard) as signals:
                task_status.started()
                async for number in signals:
                    first, self.code = self.code is None, 128 + number
                    if number == signal.SIGINT:
                        self.screen.end_line()
                    if first and self.on_stop is not None:
                        self.on_stop()
                        continue
                    if not first:
                        self.screen.wipe()
                        if self.on_insist is not None:
                            self.on_insist()
                        asyncio.get_running_loop().call_later(_CLOSING, os._exit, self.code)
                    scope.cancel()

        outcome: int | Exception | None = None
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                await group.start(listen)
                try:
                    outcome = await work()
                except Exception as error:  # noqa: BLE001 - it is raised once it is out of the group, which would wrap it
                    outcome = error
            group.cancel_scope.cancel()
        while isinstance(outcome, ExceptionGroup):  # of any task group: its first error is the reason
            outcome = cast("ExceptionGroup[Exception]", outcome).exceptions[0]
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:
            self.screen.insist(self.farewell)
            return self.code or 128 + signal.SIGINT
        return outcome


ScreenHere = Annotated[Screen, Parameter(parse=False)]
"""The screen that a command is given; no option."""


class _Notes(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.insist(f"{record.levelname.lower()}: {record.getMessage()}", "dim")


def printable(text: str) -> str:
    """Return text without control characters: a server must not control the terminal."""
    shown = _BYTE.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text)
    return "".join(
        letter
        for letter in shown
        if letter in "\n\t"
        or (unicodedata.category(letter) not in {"Cc", "Cs"} and letter not in _BIDIRECTIONAL)
    )


def _print(console: Console, text: str, style: str, *, hang: int | None = 0) -> None:
    text = printable(text)
    if hang is not None and console.is_terminal:
        text = at_words(text, console.width, hang)
    console.print(Text(text, style=style), soft_wrap=True)


def at_words(text: str, width: int, hang: int) -> str:
    """Wrap lines at blanks. A path, and a command at the end, stay whole: they are copied."""
    lines: list[str] = []
    for whole in text.split("\n"):
        command = _COMMAND.search(whole)
        line, *words = (whole[: command.start() - 1] if command else whole).split(" ")
        for word in [*words, command[0]] if command else words:
            room = -cell_len(line) % width - 1
            if line.strip() and room < cell_len(word) <= width - hang:
                lines.append(line)
                line = " " * hang + word
            else:
                line += f" {word}"
        lines.append(line)
    return "\n".join(lines)


def _console(stream: TextIO) -> Console:
    return Console(
        file=stream, force_terminal=_is_terminal(stream), highlight=False, markup=False, emoji=False
    )


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # a stream that was closed
        return False
