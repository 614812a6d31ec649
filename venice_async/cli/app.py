"""The commands, and how each is run."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from textwrap import indent
from typing import Final, cast

import anyio
from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnusedCliTokensError
from rich.console import Console

from ..errors import UsageError, VeniceError
from ..version import __version__
from . import exit_codes
from .exit_codes import failed_json, report
from .options import MAIN, Output
from .screen.screen import Screen
from .stdio import prepare

NAME: Final = "venice-async"
_DONE: Final = frozenset({"__complete", "--install-completion"})  # what cyclopts does by itself
_NUMBERS: Final = {"int": "a whole number", "float": "a number"}
_HELP: Final = frozenset({"--help", "-h", "--version"})
_INTRODUCTION: Final = """\
Venice.ai video generation: a prompt in, a verified video file out.

The key is taken from VENICE_API_KEY. A job is paid for once: its ticket is
in a journal before anything else happens, and 'venice-async resume' continues
a job that was interrupted.
"""
_FIRST: Final = f"""\
First steps, without a key or money
  {NAME} generate --sandbox -m wan-2-7-text-to-video -p "a fox" --duration 5s --aspect-ratio 16:9 -o fox.mp4

Exit codes
{indent(exit_codes.listing(), "  ")}
"""

app: Final = App(
    name=NAME,
    help=_INTRODUCTION,
    help_epilogue=_FIRST,
    help_format="plaintext",
    version=f"{NAME} {__version__}",
    version_flags=["--version"],
    group_parameters=MAIN,
    default_parameter=Parameter(negative=(), show_default=False),
)
for _command in (
    "generate:generate",
    "batch:batch",
    "generate:quote",
    "models:models",
    "jobs:jobs",
    "jobs:resume",
    "jobs:spend",
    "serve:dashboard",
    "worker:worker",
    "fleet_demo:fleet",
    "jobs:reconcile",
    "generate:upscale",
    "generate:seedance",
    "chain:last_frame",
    "chain:thumbnail",
    "chain:concat",
    "doctor:doctor",
    "serve:sandbox",
):
    app.command(f"{__package__}.commands.{_command}")  # imported by those who ask for it
app.register_install_completion_command(name="--install-completion")  # pyright: ignore[reportUnknownMemberType] - it takes any keywords


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    prepare()
    try:
        if not any(word in app for word in arguments if not word.startswith("-")):
            app.resolved_commands()  # the list of them says what each does
        console = Console(soft_wrap=True)  # the lines of examples are there to be copied
        command, bound, provided = app.parse_args(
            list(arguments), console=console, exit_on_error=False, print_error=False
        )
        if "screen" in provided:
            screen = Screen(bound.arguments.get("output", Output()))
            work = partial(cast("Callable[..., Awaitable[int]]", command), *bound.args, **bound.kwargs)
            with screen.logs():
                try:
                    code = anyio.run(screen.interrupts.guard, partial(work, screen=screen))
                except VeniceError as error:
                    code = report(screen, error)
        else:  # it prints a help page, or the version
            command(*bound.args, **bound.kwargs)
            asked = _HELP.intersection(arguments) or _DONE.intersection(arguments[:1])
            code = exit_codes.OK if asked else exit_codes.USAGE
        sys.stdout.flush()
    except CycloptsError as error:
        path = " ".join([NAME, *(error.command_chain or ())])
        text = " ".join(str(error).partition(" Available commands:")[0].split()).rstrip(".")
        for kind, plain in _NUMBERS.items():
            text = re.sub(rf'unable to convert (".*") into {kind}$', rf"\1 is not {plain}", text)
        if isinstance(error, MissingArgumentError):
            given = error.keyword or (error.argument and error.argument.tokens)
            lacks = "needs a value" if given else "is missing"
            text = re.sub(r'^Command ".*" parameter (\S+) requires an argument', rf"\1 {lacks}", text)
        elif isinstance(error, UnusedCliTokensError):
            text = f"Unexpected: {shlex.join(error.unused_tokens or [])}"
            if any(word.startswith("-") for word in arguments):
                text += ". A text of several words needs quotation marks"
        as_json = "--json" in arguments
        screen = Screen(Output(json=as_json))
        screen.complain(f"{path}: {text}{'' if text.endswith('?') else '.'} Try '{path} --help'.")
        if as_json:
            screen.emit(failed_json(UsageError(text, hint=f"Try '{path} --help'")))
        return exit_codes.USAGE
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except OSError as error:  # stdout takes nothing more; the rest of it would fail once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # its reader has left
            gone = isinstance(error, FileNotFoundError) and error.filename is None
            what = "The current folder is gone" if gone else error.filename or "The output cannot be written"
            Screen(Output()).complain(f"{NAME}: {what}: {error.strerror or error}.")
        return exit_codes.FILES
    return code
