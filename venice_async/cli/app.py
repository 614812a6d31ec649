"""The commands, and how each is run."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from textwrap import indent
from typing import Annotated, Any, Final

import anyio
import typer
from attrs import frozen

from ..errors import UsageError, VeniceError
from ..version import __version__
from . import exits
from .commands import (
    batch,
    doctor,
    generate,
    jobs,
    quote,
    seedance,
    upscale,
)
from .commands import (
    sandbox as serve,
)
from .failures import as_json as failed_json
from .failures import report
from .groups import expand
from .interrupts import Interrupts
from .screen.screen import Output, Screen
from .screen.streams import prepare
from .teaching import TaughtCommand, TaughtGroup, reflowed

NAME: Final = "venice-async"
# The base of what a wrong command line raises; which module it lives in depends on the version of typer.
_Misuse: Final[type[Exception]] = typer.BadParameter.__mro__[2]

Command = Callable[..., Awaitable[int]]

app: typer.Typer = typer.Typer(
    name=NAME,
    cls=TaughtGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


_INTRODUCTION: Final = """Venice.ai video generation: a prompt in, a verified video file out.

The key is taken from VENICE_API_KEY. What is queued is paid for once: its ticket is in a journal before
anything else happens, and a job that was interrupted goes on with 'venice-async resume'.
"""
_FIRST: Final = f"""First steps, without a key or money
  {NAME} generate --sandbox -m wan-2-7-text-to-video -p "a fox in the snow" --duration 5s -o fox.mp4"""


def _version(value: bool) -> None:  # noqa: FBT001 - typer's callback
    if value:
        sys.stdout.write(f"{NAME} {__version__}\n")
        raise typer.Exit


@app.callback(
    help=reflowed(_INTRODUCTION), epilog=f"{_FIRST}\n\nExit codes\n{indent(exits.listing(), ' ' * 2)}"
)
def _root(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    prepare()
    try:
        code = typer.main.get_command(app).main(args=list(arguments), prog_name=NAME, standalone_mode=False)
        sys.stdout.flush()
    except _Misuse as error:
        return _misused(error, as_json="--json" in arguments)
    except (KeyboardInterrupt, typer.Abort):
        return exits.INTERRUPTED
    except OSError as error:
        return _unheard(error)
    return code if isinstance(code, int) else exits.OK


def _misused(error: Any, *, as_json: bool) -> int:
    if not str(error):  # no arguments at all: the help was printed
        return exits.USAGE
    context = getattr(error, "ctx", None)
    path = context.command_path if context else NAME
    text = " ".join(error.format_message().split()).rstrip(".")
    screen = Screen(Output())
    screen.complain(f"{path}: {text}. Try '{path} --help'.")
    if as_json:
        screen.emit(failed_json(UsageError(text, hint=f"Try '{path} --help'")))
    return exits.USAGE


def _unheard(error: OSError) -> int:
    """Say that stdout takes nothing more, unless it is its reader who left; what is queued is journalled."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the rest of it would fail once more
    if not isinstance(error, BrokenPipeError):
        Screen(Output()).complain(f"{NAME}: The output cannot be written: {error.strerror or error}.")
    return exits.FILES


@frozen
class _Nothing:
    """No options: what stands here is provided."""


def _add(function: Command, *, examples: str, name: str | None = None, to: typer.Typer = app) -> None:
    """Make a command of `function`: its screen and interrupts are provided, its errors are reported."""

    def call(arguments: Mapping[str, Any]) -> int:
        screen = Screen(arguments["screen"])
        with screen.logs():
            try:
                return anyio.run(_guarded, function, {**arguments, "screen": screen})
            except VeniceError as error:
                return report(screen, error)

    provided = {"screen": Output, "interrupts": _Nothing}
    command = expand(function, call, provided=provided)
    epilog = f"Examples\n{indent(examples.strip(), ' ' * 2)}"
    to.command(name, cls=TaughtCommand, epilog=epilog, help=reflowed(function.__doc__ or ""))(command)


async def _guarded(function: Command, arguments: Mapping[str, Any]) -> int:
    interrupts = Interrupts(arguments["screen"].insist)
    return await interrupts.guard(lambda: function(**{**arguments, "interrupts": interrupts}))


_add(generate.generate, examples=generate.EXAMPLES)
_add(batch.batch, examples=batch.EXAMPLES)
_add(quote.quote, examples=quote.QUOTE_EXAMPLES)
_add(quote.models, examples=quote.MODELS_EXAMPLES)
_add(jobs.jobs, examples=jobs.JOBS_EXAMPLES)
_add(jobs.resume, examples=jobs.RESUME_EXAMPLES)
_add(upscale.upscale, examples=upscale.EXAMPLES)
_seedance = typer.Typer(
    cls=TaughtGroup,
    no_args_is_help=True,
    help="Refer to media, edit a clip, extend it, stitch clips together.",
)
_add(seedance.reference, examples=seedance.REFERENCE_EXAMPLES, to=_seedance)
_add(seedance.edit, examples=seedance.EDIT_EXAMPLES, to=_seedance)
_add(seedance.extend, examples=seedance.EXTEND_EXAMPLES, to=_seedance)
_add(seedance.stitch, examples=seedance.STITCH_EXAMPLES, to=_seedance)
app.add_typer(_seedance, name="seedance")
_add(doctor.doctor, examples=doctor.EXAMPLES)
_add(serve.sandbox, examples=serve.EXAMPLES)
