"""Where Venice is and who asks: from flags and environment to an open client."""

from __future__ import annotations

import math
import os
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import SplitResult, urlsplit

from attrs import frozen

from ..errors import UsageError
from ..options import BASE_URL, Timeouts
from ..sansio.http.secrets import Secret
from .exits import NoKeyError
from .failures import CHOOSE
from .options import flag, value
from .screen.streams import as_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import VeniceClient
    from ..engine.consent import OnConsent
    from ..io.aiohttp import AiohttpTransport
    from ..job import VideoJob
    from ..sansio.job.states import State

_PANEL: Final = "Connection"
_JOURNAL: Final = "Journal"


@frozen(kw_only=True)
class Connection:
    """Which Venice to talk to."""

    base_url: Annotated[
        str | None,
        value(
            takes="URL", says=f"Where the API is; VENICE_BASE_URL, or {BASE_URL}, by default.", panel=_PANEL
        ),
    ] = None
    api_key: Annotated[
        str | None,
        value(
            takes="KEY",
            says="Better set VENICE_API_KEY: a key that is given here can be seen by others on this machine.",
            panel=_PANEL,
        ),
    ] = None
    sandbox: Annotated[
        bool,
        flag("--sandbox", says="Run on a simulated Venice: no key, no money, real clips.", panel=_PANEL),
    ] = False
    speed: Annotated[
        float,
        value(
            takes="X", says="How much faster than in reality the --sandbox works.", panel=_PANEL, shown=True
        ),
    ] = 60.0

    def __repr__(self) -> str:
        """Show where it leads, without the key."""
        return f"Connection({self.url!r})"

    @property
    def url(self) -> str:
        """The base URL, unless it is an embedded sandbox's."""
        return self.base_url or os.environ.get("VENICE_BASE_URL") or BASE_URL

    @property
    def is_live(self) -> bool:
        """Whether it is the real service."""
        return not self.sandbox and _split(self.url).hostname == urlsplit(BASE_URL).hostname


@frozen(kw_only=True)
class Journalling:
    """Where tickets are kept through a crash."""

    journal: Annotated[
        Path | None,
        value(
            takes="FILE",
            says="The journal, which keeps tickets through a crash; in your state folder by default.",
            panel=_JOURNAL,
            envvar="VENICE_JOURNAL",
            dir_okay=False,
        ),
    ] = None
    no_journal: Annotated[bool, flag("--no-journal", says="Keep no journal.", panel=_JOURNAL)] = False

    def path(self, connection: Connection) -> Path | None:
        """Return the journal's file, or None for none.

        Each service has one of its own: a ticket is good only where it was given.

        Raises:
            UsageError: the options contradict each other.
        """
        if self.no_journal and self.journal is not None:
            msg = "--journal and --no-journal exclude each other"
            raise UsageError(msg)
        if self.no_journal or (connection.sandbox and self.journal is None):
            return None
        return self.journal or state_folder() / _journal_name(connection)


@frozen(kw_only=True)
class Session:
    """An open client, and how it was reached.

    Attributes:
        venice: the client.
        connection: the options it was opened by.
        journal: the journal's file, or None.
        explicit_journal: whether that file was named on the command line.
        base_url: where the API is.
        api_key: the key.
    """

    venice: VeniceClient
    connection: Connection
    journal: Path | None = None
    explicit_journal: bool = False
    base_url: str
    api_key: Secret

    def transport(self) -> AiohttpTransport:
        """Return a way to talk to the service by hand, to be entered."""
        from ..io.aiohttp import AiohttpTransport  # noqa: PLC0415 - aiohttp is loaded by those who talk

        return AiohttpTransport(base_url=self.base_url, api_key=self.api_key, timeouts=Timeouts())

    def again(self, *words: str) -> str:
        """Return the command line of `words` on the same service and journal, without a key."""
        base_url, journal = self.connection.base_url, self.journal if self.explicit_journal else None
        options = ["--base-url", base_url] if base_url else []
        options += ["--journal", str(journal)] if journal else []
        return as_command(["venice-async", *words, *options])


@asynccontextmanager
async def opened(
    connection: Connection,
    journalling: Journalling | None = None,
    *,
    on_consent: OnConsent | None = None,
    on_state: Callable[[VideoJob, State], None] | None = None,
    seconds: float | None = None,
) -> AsyncGenerator[Session]:
    """Open a client, and the embedded sandbox if it is asked for; `seconds` is how long a job may take.

    Raises:
        VeniceError: there is no key, or an option makes no sense.
    """
    from ..client import VeniceClient  # noqa: PLC0415 - the network is loaded by commands that use it

    journal = journalling.path(connection) if journalling else None
    async with AsyncExitStack() as stack:
        base_url, key = await _place(connection, stack)
        client = VeniceClient(
            key.reveal(),
            base_url=base_url,
            on_consent=on_consent,
            on_state=on_state,
            journal=journal,
            timeouts=Timeouts(job=seconds),
        )
        yield Session(
            venice=await stack.enter_async_context(client),
            connection=connection,
            journal=journal,
            explicit_journal=journalling is not None and journalling.journal is not None,
            base_url=base_url,
            api_key=key,
        )


def check_speed(speed: float) -> None:
    """See that a sandbox can run at `speed`.

    Raises:
        UsageError: it cannot.
    """
    if not 0 < speed < math.inf:
        msg = f"--speed must be a number above 0, not {speed:g}"
        raise UsageError(msg)


def state_folder() -> Path:
    """Return where the user's state is kept, by the XDG Base Directory Specification.

    Raises:
        UsageError: the user has no home folder.
    """
    given = os.environ.get("XDG_STATE_HOME", "")
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and a user whom the machine does not know
        home = Path()
    if given.startswith("/"):
        return Path(given) / "venice-async"
    if not home.is_absolute():
        msg = "There is no home folder, and so no place for the journal"
        raise UsageError(msg, hint=CHOOSE)
    return home / ".local" / "state" / "venice-async"


def _journal_name(connection: Connection) -> str:
    if connection.is_live:
        return "jobs.db"
    place = re.sub(r"[^A-Za-z0-9.]+", "-", _split(connection.url).netloc.rpartition("@")[2])
    return f"jobs-{place}.db"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        msg = f"The base URL {url!r} is no URL: {error}"
        raise UsageError(msg, hint=f"It looks like {BASE_URL}") from error


async def _place(connection: Connection, stack: AsyncExitStack) -> tuple[str, Secret]:
    if connection.sandbox:
        return await _sandbox(connection, stack)
    key = connection.api_key or os.environ.get("VENICE_API_KEY", "")
    if not key.strip():
        msg = "There is no API key"
        hint = (
            "Set VENICE_API_KEY (make a key at venice.ai/settings/api), or add --sandbox to try without one"
        )
        raise NoKeyError(msg, hint=hint)
    return connection.url, Secret(key)


async def _sandbox(connection: Connection, stack: AsyncExitStack) -> tuple[str, Secret]:
    if connection.base_url is not None:
        msg = "--sandbox and --base-url exclude each other"
        raise UsageError(msg)
    check_speed(connection.speed)
    from ..sandbox import Sandbox  # noqa: PLC0415 - a server and a renderer, for those who ask for it

    sandbox = await stack.enter_async_context(Sandbox(speed=connection.speed))
    return sandbox.base_url, Secret(sandbox.api_key)
