"""`venice-async worker` and `venice-async fleet migrate`: the processes and the tables of a fleet."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Final, cast

import anyio
from cyclopts import Parameter
from cyclopts.validators import Number

from ...errors import JournalError, UsageError
from ...options import Links
from ...sansio.http.secrets import Secret
from ...validators import is_postgres, without_password
from .. import exit_codes
from ..exit_codes import NoKeyError
from ..options import Access, JournalAccess, LastingAccess, Output, Port
from ..screen.screen import ScreenHere
from . import command

EXAMPLES: Final = """\
venice-async worker --journal postgresql://venice@db/venice
venice-async worker --journal postgresql://venice@db/venice --slots 50 --port 9100 --log-json
"""
MIGRATE_EXAMPLES: Final = """\
venice-async fleet migrate --journal postgresql://venice@db/venice
"""


class _JsonLines(logging.Formatter):
    """A line of JSON for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said)


@command(EXAMPLES)
async def worker(
    *,
    slots: Annotated[int, Parameter(metavar="N", show_default=True, validator=Number(gte=1))] = 100,
    queues: Annotated[tuple[str, ...], Parameter(metavar="NAME")] = (),
    accounts: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    grace: Annotated[float, Parameter(metavar="SECONDS", show_default=True, validator=Number(gte=0))] = 15.0,
    host: Annotated[str | None, Parameter(metavar="ADDRESS")] = None,
    port: Annotated[Port | None, Parameter(show_default=False)] = None,
    log_json: bool = False,
    webhook: Annotated[str | None, Parameter(metavar="URL")] = None,
    access: LastingAccess = LastingAccess(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Do the jobs that a fleet has submitted, until it is stopped.

    It takes the key from VENICE_API_KEY. SIGTERM and Ctrl-C make it give back
    what is not paid for, wait for the rest, and end with 0. It ends with 75
    only if it must be started again: run it under a supervisor.

    Args:
        slots: Jobs at once.
        queues: A queue to take jobs from; all by default. Repeatable.
        accounts: Keys by the name of their account, as JSON; read again when a name is new.
        grace: How long to wait for paid jobs when it is stopped; others fetch their clips after it.
        host: The address of --port; 127.0.0.1 by default.
        port: Serve /healthz, /readyz and /metrics here; 0 takes a free one.
        log_json: Log a line of JSON for each event.
        webhook: Post the end of each job there, signed with VENICE_WEBHOOK_SECRET.
    """
    if log_json:
        screen.log_as(_JsonLines())
    if host is not None and port is None:
        msg = "--host is the address of --port, which is missing"
        raise UsageError(msg, hint="Add --port 9100, or leave --host out")
    secret = os.environ.get("VENICE_WEBHOOK_SECRET", "")
    if webhook is not None and not secret:
        msg = "--webhook needs a secret to sign with"
        raise UsageError(msg, hint="Set VENICE_WEBHOOK_SECRET to the one that the receiver has")
    uri = _database(access)
    from ...fleet import Worker  # noqa: PLC0415 - loaded by those who use it
    from ...fleet.metrics import serving  # noqa: PLC0415 - see above
    from ...webhook import Webhook  # noqa: PLC0415 - see above

    key = Secret(access.api_key or "")
    if accounts is not None:
        _keys(accounts)  # fail now, if it cannot be read

    def key_of(name: str) -> str | None:
        if not name and key.reveal():
            return key.reveal()
        return None if accounts is None else _keys(accounts).get(name)

    try:
        work = Worker(
            uri,
            keys=key_of if accounts is not None else {"": key.reveal()} if key.reveal() else None,
            base_url=access.base_url,
            slots=slots,
            queues=queues,
            grace=grace,
            links=Links(allow=access.allow),
            on_done=None if webhook is None else Webhook(webhook, secret),
        )
    except UsageError as error:
        if "no API key" in error.message:
            raise NoKeyError(
                error.message, hint="Set VENICE_API_KEY, or name a file with --accounts"
            ) from None
        raise

    logged = logging.getLogger("venice_async.fleet").warning
    note, insist = (logged, logged) if log_json else (screen.note, screen.insist)

    def stop() -> None:
        patience = f"paid ones have up to {grace:g} s"
        note(f"Stopping: unpaid jobs go back, {patience}. The same signal again ends at once.")
        work.stop()

    screen.interrupts.on_stop = stop
    screen.interrupts.on_insist = lambda: insist(
        "Ended at once. Other workers go on with what is paid for. Of a paid request that was on its way"
        f" nobody knows whether it was accepted: venice-async jobs --journal {without_password(uri)}"
    )
    async with AsyncExitStack() as stack:
        if port is not None:
            host = host or "127.0.0.1"
            at = await stack.enter_async_context(serving(work, host=host, port=port))
            screen.note(f"Health and metrics: http://{host}:{at}/metrics", "dim")
        screen.note(f"A worker starts on {without_password(uri)}; Ctrl-C ends it.", "dim")
        with _no_file_instead():
            return await work.run()


@command(MIGRATE_EXAMPLES)
async def migrate(
    *,
    access: JournalAccess = JournalAccess(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Make the tables of a fleet, or bring them up to date.

    Workers and replicas do so by themselves; use it where their database user may not.
    """
    uri = _database(access)
    from ...fleet.schema import migrate as make  # noqa: PLC0415 - loaded by those who use it

    with _no_file_instead():
        await anyio.to_thread.run_sync(make, Secret(uri))
    screen.note(f"The tables of {without_password(uri)} are up to date.", "dim")
    return exit_codes.OK


@contextmanager
def _no_file_instead() -> Generator[None]:
    """Drop the hint to use a file as the journal: a fleet cannot."""
    try:
        yield
    except JournalError as error:
        raise error.with_facts(cli_hint=error.hint) from None


def _database(access: Access) -> str:
    if access.sandbox:
        msg = "A fleet takes no --sandbox: each of its processes would have one of its own"
        raise UsageError(msg, hint="Run 'venice-async sandbox', and set the two variables that it prints")
    path = access.journal_path
    if path is None or not is_postgres(path):
        msg = "A fleet needs a Postgres"
        raise UsageError(
            msg, hint="Name it with --journal postgresql://user@host/database, or VENICE_JOURNAL"
        )
    return cast("str", path)


def _keys(file: Path) -> dict[str, str]:
    try:
        known: object = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"The keys cannot be read from {str(file)!r}: {error.strerror}"
        raise UsageError(msg) from error
    except ValueError:
        known = None
    if not isinstance(known, dict):
        msg = f"{str(file)!r} holds no keys"
        raise UsageError(msg, hint='Write a JSON object of names and keys, such as {"acme": "KEY"}')
    return {str(name): str(key) for name, key in cast("dict[object, object]", known).items()}
