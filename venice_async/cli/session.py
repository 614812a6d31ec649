"""From options and environment to an open client, or to the journal alone, which needs no key."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import anyio
from attrs import frozen

from ..errors import JournalError, UsageError
from ..io.clock import SystemClock
from ..io.journal import is_postgres, shown
from ..options import Budget, Links, Timeouts
from ..sansio.http.secrets import Secret
from .exit_codes import NoKeyError
from .explain import CHOOSE
from .options import Connection, Journalling
from .screen.questions import consent_asker
from .stdio import as_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import VeniceClient
    from ..io.journal.journal import Journal
    from ..job import VideoJob
    from ..sansio.job.states import State
    from .screen.screen import Screen

_NO_KEY: Final = (
    "Set VENICE_API_KEY (make a key at venice.ai/settings/api), or add --sandbox to try without one"
)


@frozen(kw_only=True)
class Session:
    """An open client, and how it was reached.

    Attributes:
        venice: the client.
        connection: the options it was opened by.
        journalling: the same for its journal.
        journal: the journal's file, or the URI of its database, or None.
        base_url: where the API is.
        api_key: the key.
    """

    venice: VeniceClient
    connection: Connection
    journalling: Journalling
    journal: Path | str | None
    base_url: str
    api_key: Secret

    def again(self, *words: str) -> str:
        """Return the command line of `words` on the same service and journal, without a key."""
        base_url, journal = self.connection.base_url, self.journalling.journal
        options = ["--base-url", base_url] if base_url else []
        options += ["--journal", shown(journal)] if journal else []
        options += [word for network in self.connection.allow for word in ("--allow", network)]
        return as_command(["venice-async", *words, *options])


@asynccontextmanager
async def open_session(
    screen: Screen,
    connection: Connection,
    journalling: Journalling | None = None,
    *,
    seconds: float | None = None,
    on_state: Callable[[VideoJob, State], None] | None = None,
) -> AsyncGenerator[Session]:
    """Open a client, and the embedded sandbox if it is asked for; `seconds` is how long a job may take.

    Without `journalling` no journal is kept.

    Raises:
        VeniceError: there is no key, or an option makes no sense.
    """
    from ..client import VeniceClient  # noqa: PLC0415 - the network is loaded by commands that use it

    journalling = journalling or Journalling(no_journal=True)
    journal = journal_path(connection, journalling)
    async with AsyncExitStack() as stack:
        if connection.sandbox:
            if connection.base_url is not None:
                msg = "--sandbox and --base-url exclude each other"
                raise UsageError(msg)
            check_speed(connection.speed)
            from ..sandbox import Sandbox  # noqa: PLC0415 - a server and a renderer, for those who ask for it

            sandbox = await stack.enter_async_context(Sandbox(speed=connection.speed))
            base_url, key = sandbox.base_url, Secret(sandbox.api_key)
        else:
            base_url, key = connection.url, Secret(connection.api_key or os.environ.get("VENICE_API_KEY", ""))
        if not key.reveal().strip():
            msg = "There is no API key"
            raise NoKeyError(msg, hint=_NO_KEY)
        client = VeniceClient(
            key.reveal(),
            base_url=base_url,
            on_consent=consent_asker(screen),
            on_state=on_state,
            journal=journal,
            budget=Budget() if connection.sandbox else None,  # its money is none
            links=Links(allow=connection.allow),
            timeouts=Timeouts(job=seconds),
            sidecars=not journalling.no_sidecar,
        )
        yield Session(
            venice=await stack.enter_async_context(client),
            connection=connection,
            journalling=journalling,
            journal=journal,
            base_url=base_url,
            api_key=key,
        )


def check_speed(speed: float) -> None:
    """Check that a sandbox can run at `speed`.

    Raises:
        UsageError: it cannot.
    """
    if not 0 < speed < math.inf:
        msg = f"--speed must be a number above 0, not {speed:g}"
        raise UsageError(msg)


def journal_path(connection: Connection, journalling: Journalling) -> Path | str | None:
    """Return the journal's file, or the URI of its database, or None for none.

    Each service has one of its own, in the user's state folder by the XDG Base Directory Specification: a
    ticket is good only where it was given.

    Raises:
        UsageError: the options contradict each other, or the user has no home folder.
    """
    if journalling.no_journal and journalling.journal is not None:
        msg = "--journal and --no-journal exclude each other"
        raise UsageError(msg)
    named = journalling.journal or os.environ.get("VENICE_JOURNAL", "")
    if journalling.no_journal:
        return None
    if named:
        return named if is_postgres(named) else Path(named)
    if connection.sandbox:
        return None
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError:  # no HOME, and a user whom the machine does not know
        folder = Path()
    if not folder.is_absolute():
        msg = "There is no home folder, and so no place for the journal"
        raise UsageError(msg, hint=CHOOSE)
    return folder / "venice-async" / ("jobs.db" if connection.is_live else f"jobs-{connection.host}.db")


@asynccontextmanager
async def open_journal(path: Path | str | None) -> AsyncGenerator[Journal | None]:
    """Open a journal for the block; None for a file that does not exist, which is not made.

    Raises:
        JournalError: it cannot be used.
    """
    try:
        there = path is not None and (isinstance(path, str) or await anyio.Path(path).exists())
    except OSError as error:
        msg = f"The journal {str(path)!r} cannot be used: {error.strerror}"
        raise JournalError(msg) from error
    if path is None or not there:
        yield None
        return
    from ..io.journal.journal import Journal  # noqa: PLC0415 - SQLite is loaded by those who use it

    journal = await Journal.open(path, clock=SystemClock())
    try:
        yield journal
    finally:
        await journal.aclose()


def name_of(journal: Path | str) -> str:
    """Return what a journal is called: its file, or its database without user and password."""
    if not isinstance(journal, str):
        return str(journal)
    parts = urlsplit(journal)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
