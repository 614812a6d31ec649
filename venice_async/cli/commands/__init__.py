"""The commands, one module each: a function, its options, and the examples below its help."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from textwrap import indent

from cyclopts import App


def command(examples: str) -> Callable[[Callable[..., Awaitable[int]]], App]:
    """Make a command of a function that does its work and returns the exit code."""

    def made(work: Callable[..., Awaitable[int]]) -> App:
        app = App(name=work.__name__.replace("_", "-"), help_epilogue=f"Examples\n{indent(examples, '  ')}")
        app.default(work)
        return app

    return made
