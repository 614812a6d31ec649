"""The journal in a file, for the processes of one machine."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from .file import (
    FAILURES,
    explain,
    is_busy,
    is_same_file,
    make_folder,
    open_database,
    truncate_log,
    unusable,
)
from .leases import Lease, is_alive, sweep
from .table import Table

TRIES: Final = 40
"""Tries to begin a transaction, each of `BUSY_TIMEOUT`, while another process keeps the file locked: 10 s."""

_logger = logging.getLogger(__name__)


class SqliteDatabase:
    """A file, which `open` makes if it is missing; see `writer.Database`."""

    table: Table

    def __init__(self, path: str | os.PathLike[str], *, account: str) -> None:
        """Keep the jobs of `account` in the file at `path`."""
        self._path = Path(os.fsdecode(path))
        self._account = account
        self._lease: Lease | None = None
        self._connection: sqlite3.Connection | None = None
        self._deposed = 0

    @property
    def epoch(self) -> int:
        """How often we were taken for dead."""
        self.beat_apart()
        return self._deposed

    def open(self) -> None:
        """Open the file, and make it if it is missing.

        Raises:
            JournalError: it cannot be used.
        """
        problem: Exception
        try:
            self._path = Path(os.path.realpath(self._path))  # where SQLite, too, puts the files beside it
            make_folder(self._path)
            self._lease = Lease.take(self._path)
            sweep(self._path)
            self._connection = open_database(self._path, self._lease.token)
            self.table = Table(
                self._connection,
                name=str(self._path),
                token=self._lease.token,
                alive=lambda token: is_alive(self._path, token),
                account=self._account,
            )
            self._file = self._path.stat()
        except FAILURES as error:
            problem = explain(self._path, error)
        else:
            return
        raise problem

    def begin(self, *, patient: bool) -> None:
        """Begin a transaction in the file that everybody else sees too."""
        if self._connection is None or not is_same_file(self._path, self._file):
            raise unusable(self._path, "the file was removed or replaced while it was in use")
        for left in reversed(range(TRIES)):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError as error:
                if not left or not patient or not is_busy(error):
                    raise
        if self._lease is not None and not self._lease.renew():
            self._succeed(self._lease)

    def commit(self) -> None:
        """Make it durable."""
        assert self._connection is not None  # noqa: S101 - a transaction was begun
        self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """Undo it; some errors have done so already."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def erase(self) -> None:
        """Empty the log once something was erased from the table; if that fails, at a later chance."""
        if self._connection is not None and self.table.erased:
            with suppress(sqlite3.Error):
                self.table.erased = not truncate_log(self._connection)

    def beat_apart(self) -> bool:
        """Leave word at the lease; no transaction is needed for that."""
        if self._lease is not None and not self._lease.renew():
            self._depose(self._lease)
        return True

    def explain(self, error: Exception) -> Exception:
        """Return what to raise instead of an error of SQLite or of the system."""
        return explain(self._path, error) if isinstance(error, FAILURES) else error

    def is_passing(self, error: Exception) -> bool:
        """Tell whether another process is in the way."""
        return is_busy(error)

    def close(self) -> None:
        """Close the file, and let go of the jobs."""
        try:
            if self._connection is not None:
                self.erase()
                if self.table.erased:
                    _logger.warning("Another process keeps the log of %s from being emptied", self._path)
                self._connection.close()
            if self._lease is not None:
                self._lease.release()
        except FAILURES as error:
            _logger.warning("%s", explain(self._path, error))

    def _depose(self, lease: Lease) -> None:
        if not lease.lost:
            lease.lost = True
            self._deposed += 1

    def _succeed(self, lease: Lease) -> None:
        """Go on under a new lease: we were taken for dead, and others may have our jobs."""
        self._depose(lease)
        self._lease = Lease.take(self._path)
        try:
            self.table.succeed(self._lease.token)
        except BaseException:
            self.rollback()
            raise
        lease.release()
        _logger.warning("This process was stopped for a while; jobs that others have taken over are theirs")
