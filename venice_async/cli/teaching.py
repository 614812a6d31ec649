"""Help that teaches: what follows the options is printed as it is, so that examples can be copied."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Callable


class TaughtCommand(TyperCommand):
    """A command whose epilog is not wrapped."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, then the epilog."""
        _print_help(self, lambda: super(TaughtCommand, self).format_help(ctx, formatter))


class TaughtGroup(TyperGroup):
    """A group of commands whose epilog is not wrapped."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, then the epilog."""
        _print_help(self, lambda: super(TaughtGroup, self).format_help(ctx, formatter))


def reflowed(text: str) -> str:
    """Return text with each paragraph on one line, to be wrapped where it is shown."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def _print_help(command: TyperCommand | TyperGroup, print_help: Callable[[], None]) -> None:
    epilog, command.epilog = command.epilog, None
    try:
        print_help()
    finally:
        command.epilog = epilog
    console = Console(highlight=False, markup=False, emoji=False)
    for line in (epilog or "").splitlines():
        console.print(Text(f" {line}", style="" if line.startswith(" ") else "bold"), soft_wrap=True)
    console.print()
