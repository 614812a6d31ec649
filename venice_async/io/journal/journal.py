"""The journal: on disk before money is spent, and after every step that must not be lost."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial, update_wrapper
from importlib import import_module
from types import CoroutineType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from anyio.lowlevel import checkpoint_if_cancelled
from attrs import define, evolve, field

from ...errors import JournalError, VeniceError
from ...options import Budget
from ...sansio.http.secrets import Secret
from ...sansio.job.states import State, ticket_of
from ...validators import is_postgres
from ..shielding import in_thread
from ..transport import Clock
from .entries import (
    Attached,
    BatchShare,
    CannotWriteError,
    JournalEntry,
    Look,
    Mark,
    StoreAwayError,
    unpack_progress,
)
from .sqlite import SqliteDatabase
from .table import Table
from .writer import Writer

_PART: Final = 200  # jobs that the dashboard reads in a transaction

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _operation(
    action: Callable[Concatenate[Table, _P], _T], *, keep: bool = False
) -> Callable[Concatenate[Journal, _P], CoroutineType[Any, Any, _T]]:
    """Return the method of a journal that does `action` in a transaction; see `Writer.perform`."""

    async def method(self: Journal, /, *arguments: _P.args, **options: _P.kwargs) -> _T:
        return await self.writer.perform(lambda: action(self.table, *arguments, **options), keep=keep)

    update_wrapper(method, action)
    # Of an async function mypy says that it returns a Coroutine, pyright a CoroutineType.
    return method  # type: ignore[return-value]


@define(eq=False, auto_attribs=False)  # else attrs would take what is Final for fields
class Journal:
    """The jobs of accounts, in a file or in a database for many machines; get one by `Journal.open`.

    Clients and processes may share it. A job belongs to the client that works on it, its owner, until it
    ends, it is released, or its owner is closed or dead; an owner holds a lease, which it may lose.

    Its operations are those of `Table`, each in a transaction: what is asked for at the same time is written
    together, with one wait for the disk. A method that writes returns once the disk has it. If it is
    cancelled it writes all the same, and raises the cancellation then. Every method raises `JournalError`
    when the journal cannot be used, and `UsageError` after `aclose`.

    Attributes:
        writer: its thread, in which transactions are made.
        table: the jobs as our account sees them.
        is_lent: whether the writer belongs to another journal, which closes it.
        strangers: how many jobs of other accounts were unfinished or had a key when it was opened; 0 if one
            was ours, and in a shared session.
    """

    writer: Writer = field()
    table: Table = field()
    is_lent: bool = field()
    strangers: int = field(default=0)

    def owns(self, entry: JournalEntry) -> bool:
        """Tell whether a job is still ours, by the lease that it had when it was read; else see `regain`."""
        return entry.owner == self.writer.database.lease

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        clock: Clock,
        account: str = "",
        secret: Secret | None = None,
        budget: Budget | None = None,
        notifies: bool = False,
        within: Writer | None = None,
    ) -> Self:
        """Open the journal at `path`; file and folder are made if they are missing, for their owner only.

        A path that is a URI of Postgres names a database for many machines. The keys of jobs are those of
        `account`; in Postgres the links of clips are readable with the `secret` only. Paid requests are kept
        within `budget`. A client that `notifies` its caller of each job that ends says so, as another one
        does it if this one dies. It may be opened `within` the session of another journal's writer.

        To be closed with `aclose`.

        Raises:
            JournalError: the file is damaged, foreign or of a newer version, and was left as it was; or it
                cannot be used.
        """
        if within is not None:
            writer = within
        elif is_postgres(path):
            try:  # loaded only where it is used, and not on the event loop
                await in_thread(import_module, "venice_async.io.journal.postgres")
                from .postgres import PostgresDatabase  # noqa: PLC0415 - see above
            except ImportError as error:
                msg = f"A journal in Postgres needs {error.name or 'psycopg'}, which cannot be loaded"
                hint = "Install it: pip install 'venice-async[postgres]'"
                raise JournalError(msg, hint=hint) from error
            writer = Writer(PostgresDatabase(str(path)))
        else:
            writer = Writer(SqliteDatabase(path))
        table = Table(
            writer.database, clock=clock, account=account, secret=secret, budget=budget, notifies=notifies
        )
        journal = cls(writer, table, is_lent=within is not None)
        if within is None:
            try:
                await writer.open()
                journal.strangers = await writer.perform(table.tidy)
            except BaseException:
                await writer.aclose()
                raise
        return journal

    async def begin(
        self, entry: JournalEntry, *, answer_within: float | None = None, batch: BatchShare | None = None
    ) -> JournalEntry:
        """Record a job that we own: an intent (`Queueing`), or one that was queued before (`Waiting`).

        A job that the journal knows, and that has no owner, keeps its entry. Go on from the state of the
        returned entry: it may know more, which is the link and the GETs that were made of it. An intent that
        has an id replaces the entry of the same order, which waited for consent.

        The answer to an intent comes within `answer_within` seconds, or is lost. The price of one of a batch
        is reserved from the batch's budget.

        If this raises, a cancellation included, no intent is left, and a queued job has no owner.

        Raises:
            KeyTakenError: it is an intent, and another job has its key.
            BudgetExceededError: the batch, the day or the month would cost more than it may.
        """
        await checkpoint_if_cancelled()
        now = self.table.clock.time()
        answer_by = None if answer_within is None else now + answer_within
        new = evolve(entry, id=entry.id or secrets.token_hex(6), created=now, answer_by=answer_by)
        try:
            return await self.writer.perform(
                partial(self.table.begin, new, batch), undo=lambda begun: self.table.drop(begun.id)
            )
        except StoreAwayError:  # it may have been written, and nothing is sent
            with suppress(VeniceError):
                await self.withdraw(new.id)
            raise

    async def attach(self, key: str, identity: str | None, *, again: bool = False) -> Attached | None:
        """Return the job of a key, and own it if it has no owner; see `Table.attach`.

        The error of a journal that can only be read carries the ticket of a job that was paid for before.
        """
        seen: Attached | None = None

        def attach() -> Attached | None:
            nonlocal seen
            seen = self.table.attach(key, identity, again=again)
            return seen

        def undo(found: Attached | None) -> None:
            if found is not None and found.how == "ours":
                self.table.drop(found.entry.id)

        try:
            return await self.writer.perform(attach, undo=undo)
        except CannotWriteError as error:
            ticket = None if seen is None else seen.entry.ticket
            raise error if ticket is None else error.with_ticket(ticket)  # noqa: B904 - it is the same error

    async def record(self, entry_id: str, state: State) -> None:
        """Record the state of a job.

        `Succeeded` erases the link and the request's secrets, from the raw bytes of the file and its log too,
        and ends all that the journal knows of the same job. `Failed` ends the entry if the server said
        that the job failed; else, as after `Stopped`, the job stays unfinished at what was recorded before,
        for any client to adopt, until a person forgets it. A job that ends or stops is released.

        A `JournalError` carries the ticket, which is then known here only; if it is a `CannotWriteError`, the
        ticket is written as soon as it can be.
        """
        now = self.table.clock.time()
        try:
            await self.writer.perform(partial(self.table.record, entry_id, state, now), keep=True)
        except JournalError as error:
            ticket = ticket_of(state)
            raise error if ticket is None else error.with_ticket(ticket)  # noqa: B904 - it is the same error

    withdraw: Final = _operation(Table.withdraw, keep=True)
    release: Final = _operation(Table.release, keep=True)
    regain: Final = _operation(Table.regain)
    adopt: Final = _operation(Table.adopt)
    adopt_unnotified: Final = _operation(Table.adopt_unnotified)
    notified: Final = _operation(Table.notified, keep=True)
    look: Final = _operation(Table.look)
    report: Final = _operation(Table.report)
    forget: Final = _operation(Table.forget)
    entry: Final = _operation(Table.entry)
    pending: Final = _operation(Table.pending)
    find: Final = _operation(Table.find)
    known_jobs: Final = _operation(Table.known_jobs)
    history: Final = _operation(Table.history)
    paid: Final = _operation(Table.paid)
    spent: Final = _operation(Table.spent)
    _marks = _operation(Table.marks)
    _entries = _operation(Table.entries)

    async def watch(self, before: Mapping[str, Mark], *, most: int) -> Look:
        """Look at the newest `most` jobs and all unfinished ones: what changed since the marks of `before`.

        Nothing is written. The entries hold links, which must not be shown.
        """
        marks, rations = await self._marks(most)
        names = [name for name, mark in marks.items() if before.get(name) != mark]
        changed: list[JournalEntry] = []
        for start in range(0, len(names), _PART):  # others may write between two parts
            for entry in await self._entries(names[start : start + _PART]):
                _, owner, progress = marks[entry.id]
                changed.append(evolve(entry, state=unpack_progress(entry, progress), owner=owner))
        gone = [name for name in before if name not in marks]
        return Look(changed=changed, gone=gone, rations=rations, marks=marks)

    async def aclose(self) -> None:
        """Finish what was begun and close. Our unfinished jobs have no owner from then on."""
        if not self.is_lent:
            await self.writer.aclose()
            return
        with suppress(VeniceError):  # it is done when the database is back
            await self.writer.perform(self.table.release, keep=True)
