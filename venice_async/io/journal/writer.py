"""The journal's thread: it owns the connection, and writes together what was asked for at the same time."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, cast

from anyio.lowlevel import checkpoint_if_cancelled

from ...errors import UsageError
from ..shielding import wait_out
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
from .leases import Lease, sweep
from .table import Table

TRIES: Final = 40
"""Tries to begin a transaction, each of `BUSY_TIMEOUT`, while another process keeps the file locked: 10 s."""

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class Operation(Generic[_T]):
    """Something to do within a transaction, and what came of it.

    Attributes:
        action: what to do. It may be done again, after a transaction that failed.
        error: why it could not be done.
    """

    def __init__(self, action: Callable[[Table], _T]) -> None:
        self.action = action
        self.error: Exception | None = None
        self._result: _T | None = None

    def perform(self, table: Table) -> None:
        """Do it; whether it holds is known once the transaction is over."""
        self._result = self.action(table)

    def result(self) -> _T:
        """Return what it gave, or raise its error."""
        if self.error is not None:
            raise self.error
        return cast("_T", self._result)


class Writer:
    """An open journal file, used in one thread of its own: `open` it first and `aclose` it in the end.

    The thread is not one of anyio's, since waiting for those is not proof against `Task.cancel`, by which
    `asyncio.run` ends its tasks: the wait would end before the write, and the next write would run beside it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(os.fsdecode(path))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="venice_async.journal")
        self._waiting: deque[Operation[Any]] = deque()
        self._closed = False
        self._lease: Lease | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the file, and make it if it is missing.

        Raises:
            JournalError: it cannot be used.
        """
        await self._in_thread(self._open)

    async def perform(self, operation: Operation[_T]) -> _T:
        """Do it and return its result once the disk has it; a cancellation goes on only then.

        Raises:
            JournalError: the file cannot be used, and nothing was changed.
            UsageError: the journal is closed.
        """
        if self._closed:
            msg = "The journal is closed"
            raise UsageError(msg)
        self._waiting.append(operation)
        await self._in_thread(self._drain)
        return operation.result()

    async def aclose(self) -> None:
        """Finish what was begun, and close the file. May be called more than once."""
        if not self._closed:
            self._closed = True
            try:
                await self._in_thread(self._close)
            finally:
                self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        errand = asyncio.get_running_loop().run_in_executor(self._thread, work)
        cancelled = await wait_out(errand)
        problem = errand.exception()
        await checkpoint_if_cancelled()
        if cancelled is not None or problem is not None:
            raise cast("BaseException", cancelled or problem)

    def _open(self) -> None:
        problem: Exception
        try:
            self._path = Path(os.path.realpath(self._path))  # where SQLite, too, puts the files beside it
            make_folder(self._path)
            self._lease = Lease.take(self._path)
            sweep(self._path)
            self._connection = open_database(self._path, self._lease.token)
            self._table = Table(self._connection, path=self._path, token=self._lease.token)
            self._file = self._path.stat()
        except FAILURES as error:
            problem = explain(self._path, error)
        else:
            return
        raise problem

    def _close(self) -> None:
        try:
            if self._connection is not None:
                self._erase()
                self._connection.close()
            if self._lease is not None:
                self._lease.release()
        except FAILURES as error:
            _logger.warning("%s", explain(self._path, error))

    def _drain(self) -> None:
        """Do all that is waiting; those whose turn was later find it done."""
        operations = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if operations:
            self._commit(operations)
            self._erase()

    def _commit(self, operations: list[Operation[Any]]) -> None:
        """Do it in one transaction, or where that fails in one each, so that nobody suffers for another."""
        try:
            self._transact(operations)
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            if len(operations) == 1 or is_busy(error):
                problem = explain(self._path, error) if isinstance(error, FAILURES) else error
                for operation in operations:
                    operation.error = problem
                return
            for operation in operations:
                self._commit([operation])

    def _transact(self, operations: list[Operation[Any]]) -> None:
        connection = self._begin()
        try:
            for operation in operations:
                operation.perform(self._table)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # some errors have rolled back already
                connection.execute("ROLLBACK")
            raise

    def _begin(self) -> sqlite3.Connection:
        """Begin a transaction in the file that everybody else sees too."""
        if self._connection is None or not is_same_file(self._path, self._file):
            raise unusable(self._path, "the file was removed or replaced while it was in use")
        for left in reversed(range(TRIES)):
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError as error:
                if not left or self._closed or not is_busy(error):
                    raise
        return self._connection

    def _erase(self) -> None:
        """Empty the log once something was erased from the table; if that fails, at a later chance."""
        if self._connection is not None and self._table.erased:
            with suppress(sqlite3.Error):
                self._table.erased = not truncate_log(self._connection)
            if self._table.erased and self._closed:
                _logger.warning("Another process keeps the log of %s from being emptied", self._path)
