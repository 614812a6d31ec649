"""The ration of an account in Postgres: for machines that share a journal there."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, cast

import psycopg

from ...options import Limits
from ...sansio.http.secrets import Secret
from ...sansio.limits.ration import Grant, Wish
from ..postgres import Connection, connect, reason, unusable
from .store import Row

_LEAVING: Final = 0.5  # seconds to wait for the session to be closed
_READ: Final = "SELECT ration FROM rations WHERE account = %s FOR UPDATE"
_NOW: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
_MAKE: Final = "INSERT INTO rations (account, ration) VALUES (%s, '') ON CONFLICT DO NOTHING"
_WRITE: Final = "UPDATE rations SET ration = %s WHERE account = %s"


class PostgresSession:
    """A session and its thread, in which the rations of one or many accounts are exchanged with."""

    def __init__(self, uri: str) -> None:
        """Use the tables at `uri`, which are there."""
        self._uri = Secret(uri)
        self.thread: ThreadPoolExecutor = ThreadPoolExecutor(1, thread_name_prefix="venice_async.ration")
        self._session: Connection | None = None

    async def aclose(self) -> None:
        """Close the session, once what was begun is finished."""
        closed = asyncio.get_running_loop().run_in_executor(self.thread, self._close)
        self.thread.shutdown(wait=False)
        await asyncio.wait({closed}, timeout=_LEAVING)

    def exchange(self, wish: Wish, account: str, row: Row) -> Grant:
        """Exchange a wish for a grant in one transaction, in our thread; see `PostgresRation.exchange`."""
        problem: Exception
        try:
            try:
                return self._transact(wish, account, row)
            except psycopg.OperationalError:
                if self._session is None or not self._session.closed:
                    raise
            self._close()  # somebody in between may have ended it, as it was idle
            return self._transact(wish, account, row)
        except psycopg.Error as error:
            problem = unusable(self._uri, reason(error))
            self._close()
        except BaseException:
            self._close()
            raise
        raise problem

    def _transact(self, wish: Wish, account: str, row: Row) -> Grant:
        if self._session is None:  # the row need not survive a crash, so nothing waits for the disk
            self._session = connect(
                self._uri,
                synchronous_commit="off",
                statement_timeout=1_000,
                idle_in_transaction_session_timeout=1_000,
            )
        session = self._session
        with session.pipeline():
            session.execute("BEGIN")
            found = session.execute(_READ, [account])
            clock = session.execute(_NOW)  # in a statement of its own: once the lock is had
        stored, (now,) = found.fetchone(), cast("tuple[float]", clock.fetchone())
        if stored is None:  # it is new, or somebody has removed it
            session.execute("ROLLBACK")
            session.execute(_MAKE, [account])
            return self._transact(wish, account, row)
        grant, text = row.exchange(stored[0], wish, now)
        with session.pipeline():
            session.execute(_WRITE, [text, account])
            session.execute("COMMIT")
        return grant

    def _close(self) -> None:
        if self._session is not None:
            with suppress(psycopg.Error):
                self._session.close()
            self._session = None


class PostgresRation:
    """A row of the database, exchanged with by the clock of the database; see `RationStore`."""

    shared = True

    def __init__(
        self, uri: str, *, account: str, limits: Limits, within: PostgresSession | None = None
    ) -> None:
        """Use the tables at `uri`, which are there, in a session of our own or `within` that of others.

        A row that is not there starts with `limits`.
        """
        self._account = account
        self._row = Row(limits)
        self._session = within or PostgresSession(uri)
        self._lent = within is not None

    def exchange(self, wish: Wish) -> asyncio.Future[Grant]:
        """Exchange a wish for a grant in one transaction.

        The future raises `JournalError` while the database is away, and `UnknownVersionError` when another
        version of this library uses the row: then nothing is changed.
        """
        session, loop = self._session, asyncio.get_running_loop()
        return loop.run_in_executor(session.thread, session.exchange, wish, self._account, self._row)

    async def aclose(self) -> None:
        """Close the session, if it is ours, once what was begun is finished."""
        if not self._lent:
            await self._session.aclose()
