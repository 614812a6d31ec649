"""The ration of an account in the journal's own file: for the processes of a machine that share a journal."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ...options import Limits
from ...sansio.limits.ration import Grant, Ration, Wish
from .store import Row

TABLE: Final = "CREATE TABLE rations (account TEXT PRIMARY KEY, ration TEXT NOT NULL)"
"""Made together with the journal's other tables."""

LOG_PAGES: Final = 250
"""Pages of 4 KiB in the log of the file, from which on it is begun again; 1,000 of them fill a small disk."""

_READ: Final = "SELECT ration FROM rations WHERE account = ?"
_WRITE: Final = "INSERT OR REPLACE INTO rations (account, ration) VALUES (?, ?)"
_PATIENCE: Final = 5.0  # seconds to wait for another process, whose transactions take a millisecond
_LEAVING: Final = 0.5  # seconds to wait for the file to be closed

# The last is what SQLite says where our table is missing.
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}

_UNWRITABLE: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR}

_logger = logging.getLogger(__name__)

# The value need not survive a crash of the machine, so nothing waits for the disk; a checkpoint does, as it
# moves the journal's own writes.
_PRAGMAS: Final = (
    "synchronous = NORMAL",
    "fullfsync = OFF",
    "checkpoint_fullfsync = ON",
    "trusted_schema = OFF",
    f"wal_autocheckpoint = {LOG_PAGES}",
)


class SqliteRation:
    """A row of the journal's file, exchanged with in a thread of its own.

    The clock is the event loop's, which is the machine's monotonic one, so that all its processes share it. A
    file that is removed serves those who have it open, since paid jobs are left to be polled. Where it is
    damaged, or cannot be written to now, they are polled by a ration of their process's own; the journal
    takes no new jobs then.
    """

    shared = True

    def __init__(self, path: str | os.PathLike[str], *, account: str, limits: Limits) -> None:
        """Use the journal at `path`, which is there; a row that is not starts with `limits`."""
        self._path = Path(os.path.realpath(os.fsdecode(path)))
        self._account = account
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="venice_async.ration")
        self._connection: sqlite3.Connection | None = None
        self._row = Row(limits)
        self._own: Ration | None = None
        self._damaged = False

    def exchange(self, wish: Wish) -> asyncio.Future[Grant]:
        """Exchange a wish for a grant in one transaction.

        The future raises `sqlite3.Error` when the file cannot be used, and `UnknownVersionError` when another
        version of this library uses the row: then nothing is changed.
        """
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._thread, self._exchange, wish, loop.time)

    async def aclose(self) -> None:
        """Close the file, once what was begun is finished; a lock of others is not waited for."""

        def close() -> None:
            if self._connection is not None:
                with closing(self._connection):
                    self._connection = None

        closed = asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown(wait=False)
        await asyncio.wait({closed}, timeout=_LEAVING)

    def _exchange(self, wish: Wish, clock: Callable[[], float]) -> Grant:
        if not self._damaged:
            try:
                grant = self._exchange_in_file(wish, clock)
            except sqlite3.DatabaseError as error:
                code = error.sqlite_errorcode & 0xFF
                if code not in _DAMAGED | _UNWRITABLE:
                    raise
                self._damaged = code in _DAMAGED
            else:
                self._own = None
                return grant
        if self._own is None:
            what = "is damaged" if self._damaged else "cannot be written to now"
            _logger.error("The journal %s: this process polls its jobs by a ration of its own", what)
            self._own = Ration.spent(self._row.limits, clock())
        return self._own.exchange(wish, clock())

    def _exchange_in_file(self, wish: Wish, clock: Callable[[], float]) -> Grant:
        if self._connection is None:
            address = f"file:{quote(os.fsencode(self._path))}?mode=rw"
            connection = sqlite3.connect(
                address, timeout=_PATIENCE, isolation_level=None, uri=True, check_same_thread=False
            )
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            self._connection = connection
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            now = clock()  # once the lock is had
            found = connection.execute(_READ, [self._account]).fetchone()
            grant, text = self._row.exchange(found and found[0], wish, now)
            connection.execute(_WRITE, [self._account, text])
        return grant
