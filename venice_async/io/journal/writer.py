"""The journal's thread: it owns the connection, and writes together what was asked for at the same time."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import sleep
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar, cast

from anyio.lowlevel import checkpoint_if_cancelled
from attrs import define, field

from ...errors import UsageError, VeniceError
from ..shielding import wait_out
from .entries import CannotWriteError
from .leases import EVERY

if TYPE_CHECKING:
    from .postgres import PostgresDatabase
    from .sqlite import SqliteDatabase

MOST: Final = 50
"""Operations in a transaction: a long one keeps others out, and is given up by a database that is far."""

_AGAIN: Final = 0.6  # seconds after which the database takes a new session, if it is back

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")

Database: TypeAlias = "SqliteDatabase | PostgresDatabase"
"""What holds the journal, and our lease in it; both have the attributes and methods of `SqliteDatabase`."""


@define(eq=False)
class Operation(Generic[_T]):
    """Something to do within a transaction; see `Writer.perform`.

    Attributes:
        action: what to do.
        keep: whether it is done later if nothing can be written now.
        error: why it could not be done.
        result: what it returned, which holds once the transaction is over.
    """

    action: Callable[[], _T]
    keep: bool = field(default=False, kw_only=True)
    error: Exception | None = None
    result: _T | None = None


class Writer:
    """The thread of an open journal: `open` it first and `aclose` it in the end.

    The thread is not one of anyio's, since waiting for those is not proof against `Task.cancel`, by which
    `asyncio.run` ends its tasks: the wait would end before the write, and the next write would run beside it.

    Attributes:
        database: what holds the journal.
    """

    def __init__(self, database: Database) -> None:
        self.database: Database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="venice_async.journal")
        self._waiting: deque[Operation[Any]] = deque()
        self._kept: list[Operation[Any]] = []
        self._trying_again = False  # whether the thread is to try again what is kept
        self._closed = threading.Event()

    async def open(self) -> None:
        """Open the database.

        Raises:
            JournalError: it cannot be used.
        """
        problem: Exception
        try:
            await self._in_thread(self.database.open)
        except Exception as error:  # noqa: BLE001 - it is raised below, without what it was raised from
            problem = self._explained(error)
        else:
            arguments = weakref.ref(self), self._closed
            threading.Thread(target=_renew, args=arguments, name="venice_async.lease", daemon=True).start()
            return
        raise problem

    def beat(self) -> None:
        """Renew the lease, and try again what is kept; called each second, in a thread of its own."""
        with suppress(RuntimeError):  # it was closed just now
            if self.database.beat():
                self._waiting.append(Operation(lambda: None))
                self._thread.submit(self._drain)
            elif self._kept and not self._trying_again:
                self._trying_again = True
                self._thread.submit(self._try_again)

    async def perform(
        self, action: Callable[[], _T], *, keep: bool = False, undo: Callable[[_T], object] | None = None
    ) -> _T:
        """Do something within a transaction, and return its result once the disk has it.

        It may be done again, after a transaction that failed; with `keep` also later, if nothing can be
        written now. A cancellation is raised only when it is done; `undo` takes back, in a transaction too,
        what a cancelled caller never learns of.

        Raises:
            JournalError: the database cannot be used, and nothing was changed.
            UsageError: the journal is closed.
        """
        if self._closed.is_set():
            msg = "The journal is closed"
            raise UsageError(msg)
        operation = Operation(action, keep=keep)
        self._waiting.append(operation)
        try:
            await self._in_thread(self._drain)
        except asyncio.CancelledError:
            if undo is not None and operation.error is None:
                result = cast("_T", operation.result)
                with suppress(VeniceError):  # the cancellation matters more
                    await self.perform(lambda: undo(result), keep=True)
            raise
        if operation.error is not None:
            raise operation.error
        return cast("_T", operation.result)

    async def aclose(self) -> None:
        """Finish what was begun, and close. May be called more than once."""

        def close() -> None:
            self._drain(again=True)
            if self._kept:  # one more try
                sleep(_AGAIN)
                self._drain(again=True)
            if self._kept:
                why = self._kept[0].error
                reason = why.message if isinstance(why, VeniceError) else why
                text = "%d changes of jobs were never written; the warnings before name the jobs: %s"
                _logger.error(text, len(self._kept), reason)
            self.database.close()

        if not self._closed.is_set():
            self._closed.set()
            try:
                await self._in_thread(close)
            finally:
                self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], object]) -> None:
        await wait_out(asyncio.get_running_loop().run_in_executor(self._thread, work))
        await checkpoint_if_cancelled()

    def _try_again(self) -> None:
        self._trying_again = False
        self._drain(again=True)

    def _drain(self, *, again: bool = False) -> None:
        """Do all that is waiting, and what is kept.

        Who asked for the rest finds it done when this runs for them. Then what is kept is not tried `again`:
        each try may wait long for a file that is locked.
        """
        if not self._waiting and not again:
            return
        operations = self._kept + [self._waiting.popleft() for _ in range(len(self._waiting))]
        patient, self._kept = not self._closed.is_set() or bool(self._kept), []
        for start in range(0, len(operations), MOST):
            self._transact(operations[start : start + MOST], patient=patient)
        if operations:
            self.database.erase()

    def _transact(self, operations: list[Operation[Any]], *, patient: bool) -> None:
        """Do it in one transaction, or where that fails in one each: an error is of one operation."""
        begun = False
        try:
            self.database.begin(patient=patient)
            begun = True
            for operation in operations:
                operation.result = operation.action()
            self.database.execute("COMMIT")
            for operation in operations:
                operation.error = None
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            self.database.rollback()
            problem = self._explained(error)
            later = isinstance(problem, CannotWriteError)
            if begun and not later and len(operations) > 1:
                for operation in operations:
                    self._transact([operation], patient=patient)
                return
            for operation in operations:
                operation.error = problem
                if operation.keep and later:
                    self._kept.append(operation)

    def _explained(self, error: Exception) -> Exception:
        """Return what to raise instead of an error, without a traceback whose frames have links in them."""
        problem = self.database.explain(error)
        return problem.with_traceback(None) if isinstance(problem, VeniceError) else problem


def _renew(journal: weakref.ref[Writer], closed: threading.Event) -> None:
    """Renew the lease of a journal each second, until it is closed or garbage.

    In a thread of its own it goes on while the event loop is blocked, but not while the process is stopped.
    """
    while not closed.wait(EVERY) and (writer := journal()) is not None:
        try:
            writer.beat()
        except Exception:
            _logger.exception("The journal cannot say that it is in use")
        del writer
