"""The journal: on disk before money is spent, and after every step that must not be lost."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Mapping
from functools import partial
from importlib import import_module
from time import time
from typing import Final, Self

from anyio import to_thread
from anyio.lowlevel import checkpoint_if_cancelled
from attrs import evolve

from ...errors import JournalError
from ...options import Budget
from ...sansio.http.secrets import Secret
from ...sansio.job.states import State, ticket_of
from ..transport import Clock
from . import is_postgres
from .entries import (
    Attached,
    BatchShare,
    JournalEntry,
    Look,
    Mark,
    Seen,
    StoreAwayError,
    Unfinished,
    unpack_progress,
)
from .history import Paid, Wanted
from .sqlite import SqliteDatabase
from .table import Table
from .writer import View, Writer

_PART: Final = 200  # jobs that an onlooker reads at once


async def _load_postgres() -> None:
    """Load what is only needed for Postgres, not on the event loop.

    Raises:
        JournalError: it is not installed.
    """
    try:
        await to_thread.run_sync(import_module, "venice_async.io.journal.postgres")
    except ImportError as error:
        msg = f"A journal in Postgres needs {error.name or 'psycopg'}, which cannot be loaded"
        hint = "Install it: pip install 'venice-async[postgres]'"
        raise JournalError(msg, hint=hint) from error


class Journal:
    """A file of jobs, which clients and processes may share: each leaves alone what the others are watching.

    A method that writes returns once the disk has it. If it is cancelled it writes all the same, and lets the
    cancellation go on then. What is asked for at once is written together, with one wait for the disk.

    Every method raises `JournalError` when the file cannot be used, and `UsageError` after `aclose`.

    Attributes:
        strangers: how many jobs of other accounts were unfinished or had a key when it was opened; 0 if one
            was ours, and in a shared session.
    """

    def __init__(
        self,
        writer: Writer | View,
        *,
        clock: Clock,
        account: str = "",
        budget: Budget | None = None,
        tells: bool = False,
    ) -> None:
        """Use a writer that is open; `Journal.open` is the way to get one."""
        self._tells = tells
        self._budget = budget
        self._writer: Writer | View = writer
        self._clock = clock
        self._account = account
        self.strangers: int = 0

    @property
    def epoch(self) -> int:
        """How often we were taken for dead: whoever worked on a job before must look at it again."""
        return self._writer.database.epoch

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        *,
        clock: Clock,
        account: str = "",
        secret: Secret | None = None,
        budget: Budget | None = None,
        tells: bool = False,
        within: SharedJournal | None = None,
    ) -> Self:
        """Open the journal at `path`; file and folder are made if they are missing, for their owner only.

        A path that is a URI of Postgres names a database for many machines. The keys of jobs are those of
        `account`; in Postgres the links of clips are readable with the `secret` only. Paid
        requests are kept within `budget`. Where somebody `tells` of the end of a job, it is kept in mind
        until they have. It may be opened `within` the session that accounts of one process share.

        To be closed with `aclose`.

        Raises:
            JournalError: the file is damaged, foreign or of a newer version, and was left as it was; or it
                cannot be used.
        """
        writer: Writer | View
        if within is not None:
            writer = within.seen_by(account, secret or Secret(""))
        elif is_postgres(path):
            await _load_postgres()
            from .postgres import PostgresDatabase  # noqa: PLC0415 - loaded by those who use it

            writer = Writer(PostgresDatabase(str(path), account=account, secret=secret))
        else:
            writer = Writer(SqliteDatabase(path, account=account))
        journal = cls(writer, clock=clock, account=account, budget=budget, tells=tells)

        def begin(table: Table) -> int:
            table.tidy(clock.time())
            return table.strangers(account)

        try:
            await writer.open()
            if within is None:
                journal.strangers = await writer.perform(begin)
        except BaseException:
            await writer.aclose()
            raise
        return journal

    async def begin(
        self, entry: JournalEntry, *, answer_within: float | None = None, batch: BatchShare | None = None
    ) -> JournalEntry:
        """Record a job that we watch: an intent (`Queueing`), or one that was queued before (`Waiting`).

        A job that the journal knows and nobody watches keeps its entry. Go on from the state of the returned
        entry: it may know more, which is the link and the GETs that were made of it. An intent that has an id
        replaces the entry of the same order, about which a person was asked.

        The answer to an intent comes within `answer_within` seconds, or is lost; one of a batch is reserved
        from its budget.

        When this raises, be it a cancellation, no intent is left, and a queued job is not watched.

        Raises:
            KeyTakenError: it is an intent, and another job has its key.
            BudgetExceededError: the batch, the day or the month would cost more than it may.
        """
        await checkpoint_if_cancelled()
        now = self._clock.time()
        answer_by = None if answer_within is None else now + answer_within
        name, account = entry.id or secrets.token_hex(6), self._account
        new = evolve(entry, id=name, created=now, answer_by=answer_by, account=account)
        try:
            return await self._writer.perform(
                lambda table: table.begin(new, now, batch, self._budget), undo=self._let_go
            )
        except StoreAwayError:  # nobody knows whether it stands there, and nothing is sent
            self._writer.keep(lambda table: table.withdraw(name))
            raise

    async def attach(self, key: str, identity: str | None, *, again: bool = False) -> Attached | None:
        """Return the job of a key, from now on ours if nobody watches it; None for a key that is free.

        With `again` a job that failed at the server leaves its key free.

        Raises:
            UsageError: its request is another than that of `identity`; the message names the fields.
        """

        async def let_go(found: Attached | None) -> None:
            if found is not None and found.how == "ours":
                await self._let_go(found.entry)

        return await self._writer.perform(lambda table: table.attach(key, identity, again=again), undo=let_go)

    async def regain(self, entry_id: str) -> Attached:
        """Look again at a job that was ours before we were taken for dead."""
        return await self._writer.perform(lambda table: table.regain(entry_id))

    async def look(self, entry_ids: Collection[str]) -> dict[str, State]:
        """Return where those of the jobs stand that an owner who lives works on, by id."""
        return await self._writer.perform(lambda table: table.look(entry_ids))

    async def report(self, states: Mapping[str, State]) -> None:
        """Tell those who follow jobs of ours how far they have come."""
        await self._writer.perform(lambda table: table.report(states))

    async def record(self, entry_id: str, state: State) -> None:
        """Record the state of a job.

        `Succeeded` erases the link and the request's secrets, from the raw bytes of the file and its log too,
        and ends all that the journal knows of the same job. `Failed` ends the entry if the server said
        that the job failed; else, as after `Stopped`, the job stays unfinished at what was recorded before,
        for whoever adopts it, until a person forgets it.

        A `JournalError` carries the ticket, which is then known here only; if it is a `StoreAwayError` it is
        written as soon as the database is back.
        """
        now = self._clock.time()
        try:
            await self._writer.perform(
                lambda table: table.record(entry_id, state, now, tell=self._tells), keep=True
            )
        except JournalError as error:
            ticket = ticket_of(state)
            raise error if ticket is None else error.with_ticket(ticket)  # noqa: B904 - it is the same error

    async def adopt_untold(self) -> list[JournalEntry]:
        """Take over and return the ended jobs whose end is still to be told by somebody who died."""
        return await self._writer.perform(lambda table: table.adopt_untold())

    async def told(self, entry_id: str) -> None:
        """Note that the end of a job was told."""
        await self._writer.perform(lambda table: table.told(entry_id), keep=True)

    async def withdraw(self, entry_id: str) -> None:
        """Remove an intent, because nothing was charged for certain. A job with a ticket is never removed."""
        await self._writer.perform(lambda table: table.withdraw(entry_id), keep=True)

    async def release(self, entry_id: str) -> None:
        """Stop watching a job: it stays unfinished, for whoever adopts it."""
        await self._writer.perform(lambda table: table.release(entry_id), keep=True)

    async def pending(self) -> Unfinished:
        """Return the unfinished jobs that we watch or nobody does, oldest first; `held` counts the others."""
        return await self._writer.perform(lambda table: table.pending())

    async def adopt(self, entry_id: str | None = None) -> list[JournalEntry]:
        """Take over and return the unfinished jobs that nobody watches, or the one of that id, oldest first.

        Of all who ask at the same time only one is given a job. One that we watch already is not given again.
        """
        return await self._writer.perform(lambda table: table.adopt(entry_id))

    async def forget(self, entry_id: str) -> bool:
        """Remove an unfinished job, or free the key of one that failed; return whether there was one.

        One that somebody watches, whose request may be on its way, stays.
        """
        now = self._clock.time()
        return await self._writer.perform(lambda table: table.forget(entry_id, now))

    async def entry(self, entry_id: str) -> JournalEntry:
        """Return an entry.

        Raises:
            JournalError: there is none of that id.
        """
        return await self._writer.perform(lambda table: table.entry(entry_id))

    async def find(self, key: str) -> JournalEntry | None:
        """Return the job of that key that succeeded, else the newest that is unfinished, else None."""
        return await self._writer.perform(lambda table: table.find(key))

    async def known_jobs(self) -> frozenset[str]:
        """Return the ids of all jobs on record, ended or not."""
        return await self._writer.perform(lambda table: table.known_jobs())

    async def of_key(self, key: str) -> JournalEntry | None:
        """Return the job that has a key: as `find` does, or one that failed and has it still."""
        return await self._writer.perform(lambda table: table.of_key(key))

    async def watch(self, before: Mapping[str, Mark], *, most: int) -> Look:
        """Look at the newest `most` jobs and all unfinished ones: what changed since the marks of `before`.

        Nothing is written. The entries hold links: show nobody more than is meant for people.
        """
        marks = await self._writer.perform(lambda table: table.marks(most))
        names = [name for name, mark in marks.items() if before.get(name) != mark]
        changed = [
            Seen(entry=entry, state=unpack_progress(entry, marks[entry.id][2]), worker=marks[entry.id][1])
            for start in range(0, len(names), _PART)  # others may write between two parts
            for entry in await self._writer.perform(
                partial(Table.entries, names=names[start : start + _PART])
            )
        ]
        return Look(
            changed=changed,
            gone=[name for name in before if name not in marks],
            rations=await self._writer.perform(lambda table: table.rations()),
            marks=marks,
        )

    async def paid(self, since: float = 0.0) -> list[Paid]:
        """Return what was paid, or may have been, since a moment in seconds since the Unix epoch."""
        return await self._writer.perform(lambda table: table.paid(since))

    async def history(self, wanted: Wanted) -> list[JournalEntry]:
        """Return the jobs that are wanted, ended or not, newest first."""
        loose = wanted.key is None and wanted.tag is None
        found = await self._writer.perform(
            lambda table: table.history(
                kinds=wanted.kinds,
                model=wanted.model,
                since=wanted.since,
                limit=wanted.limit if loose else None,
            )
        )
        return [entry for entry in found if wanted.fits(entry)][: wanted.limit]

    async def spent(self, prefix: str) -> float:
        """Return the USD that went into the jobs whose keys begin with `prefix`, by what each was to cost.

        An intent counts as long as its outcome is not known; a job that was refunded does not.
        """
        return await self._writer.perform(lambda table: table.spent(prefix))

    async def aclose(self) -> None:
        """Finish what was begun and close the file. Our unfinished jobs are anyone's from then on."""
        await self._writer.aclose()

    async def _let_go(self, entry: JournalEntry) -> None:
        """Leave a job to whoever wants it; an intent goes, for nothing was sent."""
        await (self.withdraw(entry.id) if entry.ticket is None else self.release(entry.id))


class SharedJournal:
    """A journal in Postgres that clients of several accounts keep in one session and one thread; enter it."""

    def __init__(self, uri: str) -> None:
        self._uri = Secret(uri)

    async def __aenter__(self) -> Self:
        """Open the session.

        Raises:
            JournalError: the database cannot be used.
        """
        await _load_postgres()
        from .postgres import PostgresDatabase  # noqa: PLC0415 - loaded by those who use it

        self._database = PostgresDatabase(self._uri.reveal(), account="", secret=None)
        self._writer = Writer(self._database)
        try:
            await self._writer.open()
            await self._writer.perform(lambda table: table.tidy(time()))  # of all accounts
        except BaseException:
            await self._writer.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._writer.aclose()

    def seen_by(self, account: str, secret: Secret) -> View:
        """Return the journal as an account sees it, whose links are readable with the `secret` only."""
        return self._writer.seen_by(self._database.seen_by(account, secret))
