"""How options are declared, so that all of them read alike in `--help`."""

from __future__ import annotations

from typing import Any

import typer


def flag(*names: str, says: str, panel: str | None = None) -> Any:
    """Return an option that is there or not."""
    return typer.Option(*names, metavar="", help=says, rich_help_panel=panel, show_default=False)


def value(
    *names: str, takes: str, says: str, panel: str | None = None, shown: bool = False, **rules: Any
) -> Any:
    """Return an option with a value, called `takes` in the help; `shown` says whether its default is told."""
    return typer.Option(*names, metavar=takes, help=says, rich_help_panel=panel, show_default=shown, **rules)


def argument(*, takes: str, says: str, **rules: Any) -> Any:
    """Return an argument, called `takes` in the help."""
    return typer.Argument(metavar=takes, help=says, show_default=False, **rules)
