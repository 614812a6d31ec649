"""The journal's thread: it owns the connection, and writes together what was asked for at the same time."""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import sleep
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from anyio.lowlevel import checkpoint_if_cancelled
from attrs import define, field

from ...errors import UsageError, VeniceError
from ..shielding import wait_out
from .entries import StoreAwayError
from .leases import EVERY
from .table import Table

MOST: Final = 50
"""Operations in a transaction: a long one keeps others out, and is given up by a database that is far."""

_AGAIN: Final = 0.6  # seconds after which the database takes a new session, if it is back

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


@define(eq=False)
class Operation(Generic[_T]):
    """Something to do within a transaction, and what came of it; see `Writer.perform`.

    Attributes:
        action: what to do.
        keep: whether it is done later if the database is away.
        error: why it could not be done.
        found: what it gave, which holds once the transaction is over.
    """

    action: Callable[[Table], _T]
    keep: bool = field(default=False, kw_only=True)
    error: Exception | None = None
    found: _T | None = None


class Database(Protocol):
    """What holds the journal. All but `beat_apart` and `epoch` is called in the writer's thread.

    Attributes:
        table: the jobs, within a transaction.
    """

    table: Table

    @property
    def epoch(self) -> int:
        """How often we were taken for dead."""
        ...

    def open(self) -> None:
        """Open it, and make it if it is missing; raise `JournalError`."""
        ...

    def begin(self, *, patient: bool) -> None:
        """Begin a transaction, as one who lives; if need be as a new owner, who has what nobody took."""
        ...

    def commit(self) -> None:
        """Make it durable."""
        ...

    def rollback(self) -> None:
        """Undo it, as far as that is still necessary."""
        ...

    def erase(self) -> None:
        """Erase what the end of a job left elsewhere than in its table."""
        ...

    def beat_apart(self) -> bool:
        """Say that we live, if that needs no transaction, and tell whether it does not."""
        ...

    def explain(self, error: Exception) -> Exception:
        """Return what to raise instead of an error."""
        ...

    def is_passing(self, error: Exception) -> bool:
        """Tell whether all that is waiting fails for the same reason."""
        ...

    def close(self) -> None:
        """Close it; raise nothing."""
        ...


def _beat(journal: weakref.ref[Writer], closed: threading.Event) -> None:
    """Have a journal say each second that it lives, until it is closed or forgotten.

    A thread of its own tells a process that was stopped, or a frozen machine, from a blocked event loop.
    """
    while not closed.wait(EVERY) and (writer := journal()) is not None:
        try:
            writer.beat()
        except Exception:
            _logger.exception("The journal cannot say that it is in use")
        del writer


class Writer:
    """An open journal, used in one thread of its own: `open` it first and `aclose` it in the end.

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
        self._closed = threading.Event()

    async def open(self) -> None:
        """Open the database, and make it if it is missing.

        Raises:
            JournalError: it cannot be used.
        """
        await self._in_thread(self.database.open)
        arguments = weakref.ref(self), self._closed
        threading.Thread(target=_beat, args=arguments, name="venice_async.pulse", daemon=True).start()

    def beat(self) -> None:
        """Say that we live, once a second; called in the thread of the pulse."""

        def speak() -> None:
            if not self._closed.is_set():
                self._waiting.append(Operation(lambda _: None))
                self._drain()

        if not self.database.beat_apart() and not self._closed.is_set():
            with suppress(RuntimeError):  # it was closed just now
                self._thread.submit(speak)

    def seen_by(self, table: Callable[[], Table]) -> View:
        """Return the journal as it is seen through another table in the session, such as an account's."""
        return View(self, table)

    async def perform(
        self,
        action: Callable[[Table], _T],
        *,
        keep: bool = False,
        undo: Callable[[_T], Awaitable[None]] | None = None,
    ) -> _T:
        """Do something within a transaction, and return what it gives once the disk has it.

        It may be done again, after a transaction that failed; with `keep` also later, if the database is
        away. A cancellation goes on only when it is done; `undo` takes back what a cancelled caller will
        never learn of.

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
                with suppress(VeniceError):  # the cancellation matters more
                    await undo(cast("_T", operation.found))
            raise
        if operation.error is not None:
            raise operation.error
        return cast("_T", operation.found)

    def keep(self, action: Callable[[Table], object]) -> None:
        """Have it done before whatever is done next."""
        self._kept.append(Operation(action, keep=True))

    async def aclose(self) -> None:
        """Finish what was begun, and close. May be called more than once."""

        def close() -> None:
            self._drain()
            if self._kept:  # the database may be back just now
                sleep(_AGAIN)
                self._drain()
            for operation in self._kept:
                _logger.error("The journal never learned of a job's last state: %s", operation.error)
            self.database.close()

        if not self._closed.is_set():
            self._closed.set()
            try:
                await self._in_thread(close)
            finally:
                self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        errand = asyncio.get_running_loop().run_in_executor(self._thread, work)
        cancelled = await wait_out(errand)
        problem = errand.exception()
        await checkpoint_if_cancelled()
        if cancelled is not None or problem is not None:
            raise cast("BaseException", cancelled or problem)

    def _drain(self) -> None:
        """Do all that is waiting; those whose turn was later find it done."""
        operations = self._kept + [self._waiting.popleft() for _ in range(len(self._waiting))]
        patient, self._kept = not self._closed.is_set() or bool(self._kept), []
        for start in range(0, len(operations), MOST):
            self._commit(operations[start : start + MOST], patient=patient)
        if operations:
            self.database.erase()

    def _commit(self, operations: list[Operation[Any]], *, patient: bool) -> None:
        """Do it in one transaction, or where that fails in one each, so that nobody suffers for another."""
        try:
            self.database.begin(patient=patient)
            try:
                for operation in operations:
                    operation.found = operation.action(self.database.table)
                self.database.commit()
            except BaseException:
                self.database.rollback()
                raise
            for operation in operations:
                operation.error = None
        except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
            problem = self.database.explain(error)
            if len(operations) == 1 or self.database.is_passing(error):
                for operation in operations:
                    operation.error = problem
                    if operation.keep and isinstance(problem, StoreAwayError):
                        self._kept.append(operation)
                return
            for operation in operations:
                self._commit([operation], patient=patient)


class View:
    """A journal that several accounts keep in one session, as one of them sees it; see `Writer`.

    Closing it lets go of the unfinished jobs of this account; the session is the writer's.

    Attributes:
        database: what holds the journal.
    """

    def __init__(self, writer: Writer, table: Callable[[], Table]) -> None:
        """See it through `table`, which gives the account's within a transaction."""
        self.database: Database = writer.database
        self._writer = writer
        self._table = table
        self._closed = False

    async def open(self) -> None:
        """Do nothing: the session is open."""

    async def perform(
        self,
        action: Callable[[Table], _T],
        *,
        keep: bool = False,
        undo: Callable[[_T], Awaitable[None]] | None = None,
    ) -> _T:
        """Do something within a transaction; see `Writer.perform`."""
        return await self._writer.perform(lambda _: action(self._table()), keep=keep, undo=undo)

    def keep(self, action: Callable[[Table], object]) -> None:
        """Have it done before whatever is done next."""
        self._writer.keep(lambda _: action(self._table()))

    async def aclose(self) -> None:
        """Let go of what is unfinished. May be called more than once."""
        if not self._closed:
            self._closed = True
            with suppress(VeniceError):  # it is done when the database is back
                await self.perform(lambda table: table.release(), keep=True)
