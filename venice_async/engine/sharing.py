"""What clients of several accounts in one process share: HTTP connections, sessions of the database."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Self

from ..io.aiohttp import AiohttpTransport
from ..io.clock import SystemClock
from ..io.journal.journal import Journal
from ..io.journal.writer import Writer
from ..io.ration.postgres import PostgresSession
from ..options import Links, Timeouts
from ..sansio.http.secrets import Secret


class Sharing:
    """Sockets for many accounts at one place, with one journal in Postgres; enter it.

    Keys stay apart: each request carries the key of its own client, and nothing here has one. Links are
    encrypted by the key of their account, each account sees its own jobs only, and has a ration of its own.
    """

    def __init__(self, *, base_url: str, journal: str, links: Links, timeouts: Timeouts) -> None:
        self.transport: AiohttpTransport = AiohttpTransport(
            base_url=base_url, api_key=Secret(""), timeouts=timeouts, links=links, send_key=False
        )
        self._uri = Secret(journal)
        self.ration: PostgresSession = PostgresSession(journal)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the journal's session; all else is opened when it is needed.

        Raises:
            JournalError: the database cannot be used.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.transport)
            journal = await Journal.open(self._uri.reveal(), clock=SystemClock())
            stack.push_async_callback(journal.aclose)
            self.writer: Writer = journal.writer
            stack.push_async_callback(self.ration.aclose)
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()
