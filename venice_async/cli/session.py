"""From options and environment to an open client, or to the journal alone, which needs no key."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from http.client import METHOD_NOT_ALLOWED
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
from attrs import frozen

from ..errors import APIError, ConnectError, JournalError, UsageError
from ..io.clock import SystemClock
from ..options import BASE_URL, Budget, Links, Timeouts
from ..sansio.http.secrets import Secret
from ..validators import without_password
from .exit_codes import NoKeyError
from .options import Access
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
        access: the options it was opened by.
        journal: the journal's file, or the URI of its database, or None.
        base_url: where the API is.
        api_key: the key.
    """

    venice: VeniceClient
    access: Access
    journal: Path | str | None
    base_url: str
    api_key: Secret

    def again(self, *words: str) -> str:
        """Return the command line of `words` on the same service and journal, without a key."""
        base_url, journal = self.access.base_url, self.access.journal
        options = ["--base-url", base_url] if base_url else []
        options += ["--journal", without_password(journal)] if journal else []
        options += [word for network in self.access.allow for word in ("--allow", network)]
        return as_command(["venice-async", *words, *options])


@asynccontextmanager
async def open_session(
    screen: Screen,
    access: Access,
    *,
    seconds: float | None = None,
    on_state: Callable[[VideoJob, State], None] | None = None,
) -> AsyncGenerator[Session]:
    """Open a client, and the embedded sandbox if asked for; `seconds` is the deadline of a job.

    Raises:
        VeniceError: there is no key, or an option makes no sense.
    """
    from ..client import VeniceClient  # noqa: PLC0415 - the network is loaded by commands that use it

    journal = access.journal_path
    async with AsyncExitStack() as stack:
        if access.sandbox:
            if access.base_url is not None:
                msg = "--sandbox and --base-url exclude each other"
                raise UsageError(msg)
            check_speed(access.speed)
            from ..sandbox import Sandbox  # noqa: PLC0415 - a server and a renderer, for those who ask for it

            sandbox = await stack.enter_async_context(Sandbox(speed=access.speed))
            base_url, key = sandbox.base_url, Secret(sandbox.api_key)
            screen.note("In the sandbox nothing is charged.", "dim")
        else:
            base_url, key = access.url, Secret(access.api_key or os.environ.get("VENICE_API_KEY", ""))
        if not key.reveal().strip():
            msg = "There is no API key"
            raise NoKeyError(msg, hint=_NO_KEY)
        client = VeniceClient(
            key.reveal(),
            base_url=base_url,
            on_consent=consent_asker(screen),
            on_state=on_state,
            journal=journal,
            budget=Budget() if access.sandbox else None,  # its money is none
            links=Links(allow=access.allow),
            timeouts=Timeouts(job=seconds),
            sidecars=not access.no_sidecar,
        )
        venice = await stack.enter_async_context(client)
        session = Session(venice=venice, access=access, journal=journal, base_url=base_url, api_key=key)
        try:
            yield session
        except (APIError, ConnectError) as error:
            named = "--base-url" if access.base_url else "VENICE_BASE_URL"
            is_set = not access.sandbox and access.url != BASE_URL
            if not is_set or error.ticket is not None:
                raise
            leads = f"{named}, which leads to {access.parts.hostname}"
            if isinstance(error, ConnectError):
                hint = f"Check the connection, and {leads}"
            elif error.status == METHOD_NOT_ALLOWED:
                hint = f"Check {leads}: a base URL usually ends in /api/v1"
            else:
                raise
            raise error.with_facts(cli_hint=hint) from None


def check_speed(speed: float) -> None:
    """Check that a sandbox can run at `speed`.

    Raises:
        UsageError: it cannot.
    """
    if not 0 < speed < math.inf:
        msg = f"--speed must be a number above 0, not {speed:g}"
        raise UsageError(msg)


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
