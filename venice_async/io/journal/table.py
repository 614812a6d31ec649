"""The journal's table: what is written to it and read from it within a transaction."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from attrs import evolve

from ...errors import BudgetExceededError, JournalError, UsageError
from ...options import Budget
from ...sansio.converter import converter
from ...sansio.http.secrets import Secret
from ...sansio.job.states import (
    TERMINAL,
    AwaitingConsent,
    Failed,
    Queueing,
    Saved,
    State,
    Stopped,
    Succeeded,
    ticket_of,
)
from ...sansio.limits.budget import Reservations
from ..transport import Clock
from .entries import (
    COLUMNS,
    UNFINISHED,
    UNSENT,
    Attached,
    BatchShare,
    JournalEntry,
    KeyTakenError,
    Mark,
    Unfinished,
    differing,
    has_link,
    job_of,
    merge_known,
    pack,
    pack_ended,
    pack_progress,
    pack_state,
    state_to_keep,
    unpack,
    unpack_progress,
    unpack_work,
)
from .history import Paid, Wanted, spans, total
from .writer import Database

HISTORY: Final = 400 * 24 * 3600.0
"""Seconds that a finished job without a key stays on record, for people to look at."""

_PART: Final = 500  # jobs that a statement names at most

_SELECT: Final = f"SELECT {', '.join(COLUMNS)}, progress FROM jobs"  # noqa: S608 - constants
_TELL: Final = "UPDATE jobs SET progress = ? WHERE id = ? AND kind IN ('Waiting', 'Downloading')"

_WRITTEN: Final = (*(name for name in COLUMNS if name != "ended"), "gets", "stands", "updated")
_REPLACED: Final = ", ".join(f"{name} = excluded.{name}" for name in _WRITTEN if name != "id")
_INSERT: Final = (
    f"INSERT INTO jobs ({', '.join(_WRITTEN)}) VALUES ({', '.join(f':{name}' for name in _WRITTEN)})"  # noqa: S608 - constants
    f" ON CONFLICT (id) DO UPDATE SET {_REPLACED}"
)
_UPDATE: Final = (
    "UPDATE jobs SET state = :state, kind = :kind, job = coalesce(:job, job),"
    " model = coalesce(:model, model), size = :size, sha256 = :sha256,"
    " gets = CASE WHEN gets > :gets AND :kind <> 'Downloading' THEN gets ELSE :gets END,"
    " updated = :updated, progress = NULL"
)
_RELEASED: Final = ", owner = NULL"
_ENDED: Final = ", request = :request, ended = :updated"
_UNNOTIFIED: Final = ", owner = CASE WHEN id = :id THEN owner END"
"""An ended job has an owner until `on_done` was called for it, by that owner or by one that outlives it."""

# A clip that is there is the best news of a key, then a job under way; the newest of them.
_BEST: Final = "ORDER BY kind = 'Succeeded' DESC, kind = 'Failed', rowid DESC LIMIT 1"
_FAILED: Final = "(kind = 'Failed' AND stands = 1)"  # the one of a key that has it still

_KNOWN: Final = 24 * 3600.0  # seconds for which the server knows a job

# Version 0.1.0 ended a job when the server did not know it, or its link, for a moment. It may have been paid
# for, so it is pending again: while its id is known, or if a batch that is run again would pay for it again.
_REVIVE: Final = (
    "UPDATE jobs SET kind = 'Waiting',"
    " state = json_object('state', 'Waiting', 'ticket', json(json_extract(state, '$.ticket')))"
    " WHERE kind = 'Failed' AND job IS NOT NULL AND json_type(state, '$.job_failed') IS NULL"
    " AND json_extract(state, '$.error.kind') NOT IN ('ContentPolicyError', 'JobFailedError')"
    " AND (updated > ? OR key IN"
    " (SELECT key FROM jobs GROUP BY key HAVING sum(kind NOT IN ('Failed', 'Stopped')) = 0))"
)


class Table:
    """The jobs in an open journal, as one owner of one account sees them.

    Every method belongs into a transaction; a `Journal` makes one for each of its operations.

    Attributes:
        clock: tells when a job began or changed.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        account: str = "",
        secret: Secret | None = None,
        budget: Budget | None = None,
        notifies: bool = False,
    ) -> None:
        """Keep the keys of `account`, where that is known, and paid requests within `budget`.

        Where links are encrypted, only a client with the `secret` can read them. If the client `notifies`
        its caller of each job that ends, it owns the job until `notified`.
        """
        self._database = database
        self._execute = database.execute
        self.clock: Clock = clock
        self._links = None if database.links is None else database.links(secret, account)
        self._budget = budget
        self._notifies = notifies
        self._account = account
        self._of_account = f"account IN ('', {account!r})" if account else "0 = 0"
        self._in_scope = self._of_account if database.scoped else "0 = 0"
        self._unfinished = f"kind IN {UNFINISHED} AND {self._in_scope}"

    def begin(self, entry: JournalEntry, batch: BatchShare | None) -> JournalEntry:
        """Add a job that we own, or go on with its entry if that has no owner; see `Journal.begin`."""
        now = entry.created
        entry = evolve(entry, account=self._account, owner=self._database.token)
        if entry.ticket is not None:
            entry = self._continued(entry)
        elif entry.key and self._holder(entry.key, again=batch is not None, but=entry.id):
            msg = "Another job has this key"
            raise KeyTakenError(msg, hint="Wait for it, or take another key")
        if batch is not None and batch.max_usd is not None and entry.usd is not None:
            Reservations(batch.max_usd, self.spent(batch.prefix)).reserve(entry.usd)
        if self._budget and entry.ticket is None:
            if entry.usd is None:
                msg = "The price is not known, and so not whether the budget allows it"
                raise BudgetExceededError(msg, hint="Pass max_usd=, so that the price is asked first")
            day, month = spans(now)
            paid = self.paid(month)
            budgets = ("daily", self._budget.daily, day), ("monthly", self._budget.monthly, month)
            for name, most, since in budgets:
                raised = f"Raise VENICE_{name.upper()}_USD or the client's budget"
                hint = f"{raised}, or wait: days and months are UTC"
                spent = total(one for one in paid if one.at >= since)
                Reservations(most, spent, of=f"the {name} ", hint=hint).reserve(entry.usd)
        if entry.key is not None:
            freed = (
                "UPDATE jobs SET stands = 0 WHERE key = ? AND stands = 1 AND kind IN ('Failed', 'Stopped')"
            )
            self._execute(freed, (entry.key,))
        self._execute(_INSERT, {**pack(entry, self._links), "updated": now})
        return entry

    def record(self, entry_id: str, state: State, now: float) -> None:
        """Write a job's state, unless another owner came first and it has ended; see `Journal.record`."""
        found = self._execute("SELECT state, request, owner, followed FROM jobs WHERE id = ?", (entry_id,))
        row = found.fetchone()
        if row is None:
            raise self._missing(entry_id)
        text, request, owner, followed = row
        stored, asked = unpack_work(text, request, self._links)
        taken_over = owner not in {None, self._database.token} and bool(self._database.alive([owner]))
        # Even of a former owner a ticket is kept, and a clip that is there.
        news = ticket_of(stored) is None and ticket_of(state) is not None
        matters = news or isinstance(state, Saved | Succeeded)
        if isinstance(stored, TERMINAL) or (taken_over and not matters):
            return
        if isinstance(stored, AwaitingConsent) and isinstance(state, TERMINAL) and not followed:
            self.withdraw(entry_id)
            return
        left = state_to_keep(stored, state)
        ended = isinstance(left, TERMINAL)
        change = _UPDATE + (_ENDED if ended else "")
        if isinstance(state, TERMINAL):
            change += _UNNOTIFIED if ended and self._notifies else _RELEASED
        if isinstance(left, Failed) and left.error.charged is False:
            change += ", usd = NULL"
        if isinstance(left, Failed) and left.ticket is None:
            change += ", stands = 0"
        where = "id = :id"
        if isinstance(left, Succeeded):
            where += f" OR (job = :job AND kind IN {UNFINISHED})"
        values: dict[str, Any] = {**pack_state(left, self._links), "id": entry_id, "updated": now}
        if ended:
            values["request"] = pack_ended(asked)
        written = self._execute(f"{change} WHERE {where}", values)
        fewer = has_link(text) and not has_link(values["state"])
        self._database.erased |= fewer or (ended and values["request"] != request) or written.rowcount > 1

    def entry(self, entry_id: str) -> JournalEntry:
        """Return a job's entry.

        Raises:
            JournalError: there is none of that id.
        """
        found = self._select("id = ?", entry_id)
        if not found:
            raise self._missing(entry_id)
        return found[0]

    def _missing(self, entry_id: str) -> JournalError:
        msg = f"The journal {self._database.name!r} has no entry {entry_id!r}"
        return JournalError(msg, hint="It was withdrawn, or it is of another journal")

    def known_jobs(self) -> frozenset[str]:
        """Return the server's ids of all jobs on record, ended or not."""
        rows = self._execute("SELECT job FROM jobs WHERE job IS NOT NULL").fetchall()
        return frozenset(json.loads(job)[1] for (job,) in rows)

    def withdraw(self, entry_id: str) -> None:
        """Remove an intent: nothing was charged for certain. A job with a ticket is never removed."""
        self._execute("DELETE FROM jobs WHERE id = ? AND job IS NULL", (entry_id,))

    def forget(self, entry_id: str) -> bool:
        """Remove an unfinished job, or free the key of one that failed; return whether there was one.

        One that has an owner stays: its request may be on its way. Of a job with a ticket the GETs of its
        link stay counted, and what it cost.
        """
        for entry in self._select(f"{self._unfinished} AND id = ?", entry_id, besides=self._alive()):
            if entry.ticket is None:
                self.withdraw(entry_id)
                return True
            ended = pack_state(Stopped(ticket=entry.ticket), self._links)
            request = None if entry.request is None else pack_ended(converter().unstructure(entry.request))
            values = {**ended, "id": entry_id, "updated": self.clock.time(), "request": request}
            self._execute(f"{_UPDATE}{_ENDED}{_RELEASED}, stands = 0 WHERE id = :id", values)
            self._database.erased = True
            return True
        freed = f"UPDATE jobs SET stands = 0 WHERE id = ? AND {_FAILED}"  # noqa: S608 - constants
        return self._execute(freed, (entry_id,)).rowcount > 0

    def release(self, entry_id: str | None = None) -> None:
        """Release a job, or all of ours: it stays unfinished, for any client to adopt."""
        ours = f"owner = ? AND kind IN {(*UNFINISHED, *UNSENT)} AND {self._in_scope}"
        one, values = ("", ()) if entry_id is None else (" AND id = ?", (entry_id,))
        self._execute(f"UPDATE jobs SET owner = NULL WHERE {ours}{one}", (self._database.token, *values))  # noqa: S608 - constants

    def drop(self, entry_id: str) -> None:
        """Take back that we own a job: an intent is removed, as nothing was sent; another job is released."""
        self.withdraw(entry_id)
        self.release(entry_id)

    def adopt(self, entry_id: str | None = None) -> list[JournalEntry]:
        """Own the unfinished jobs that have no owner, or the one of that id; return them, oldest first.

        A job is given to one of all clients that ask at the same time, and not again to its owner.
        """
        one, values = ("", ()) if entry_id is None else (" AND id = ?", (entry_id,))
        where = f"{self._unfinished}{one} ORDER BY rowid"
        return self._owned(self._select(where, *values, besides=self._alive(), readable=True))

    def adopt_unnotified(self) -> list[JournalEntry]:
        """Own and return the ended jobs of which a dead owner has not notified the caller."""
        where = f"kind IN ('Succeeded', 'Failed') AND {self._in_scope} AND owner IS NOT NULL ORDER BY rowid"
        return self._owned(self._select(where, besides=self._alive(), readable=True))

    def notified(self, entry_id: str) -> None:
        """Note that the caller was notified of the end of a job."""
        ended = "UPDATE jobs SET owner = NULL WHERE id = ? AND kind IN ('Succeeded', 'Failed')"
        self._execute(ended, (entry_id,))

    def pending(self) -> Unfinished:
        """Return the unfinished jobs that no other client owns, oldest first; `held` counts the others."""
        others = {*self._alive(), ""} - {self._database.token}
        where = f"{self._unfinished} ORDER BY rowid"
        found = Unfinished(self._select(where, besides=others, readable=True))
        every = f"SELECT count(*) FROM jobs WHERE {self._unfinished}"  # noqa: S608 - constants
        found.held = self._execute(every).fetchone()[0] - len(found)
        return found

    def find(self, key: str, *, failed: bool = False) -> JournalEntry | None:
        """Return the job of a key that succeeded, else the newest that is unfinished, else None.

        With `failed` it may be one that failed and still has the key, and only one of our account.
        """
        return self._best(key, UNFINISHED, failed=failed)

    def attach(self, key: str, identity: str | None, *, again: bool) -> Attached | None:
        """Return the job of a key, and own it if it has no owner; None for a key that is free.

        With `again` a job that failed at the server leaves its key free.

        Raises:
            UsageError: its request is another than that of `identity`; the message names the fields.
        """
        entry = self._holder(key, again=again)
        if entry is None:
            return None
        if names := differing(entry.identity, identity):
            msg = f"Key {key!r} is of another request: it differs in {', '.join(names)}"
            raise UsageError(msg, hint="Take another key for another request")
        return self._regained(entry, intents=False)

    def regain(self, entry_id: str) -> Attached:
        """Return a job that we owned before our lease was lost, and own it again if it has no owner."""
        return self._regained(self.entry(entry_id), intents=True)

    def _regained(self, entry: JournalEntry, *, intents: bool) -> Attached:
        """Own a job that has no owner; an intent only if it is our own."""
        if isinstance(entry.state, TERMINAL):
            return Attached(entry=entry, how="ended")
        token, owner = self._database.token, entry.owner
        if owner is not None and owner in self._alive() and not (intents and owner == token):
            self._execute("UPDATE jobs SET followed = 1 WHERE id = ?", (entry.id,))
            return Attached(entry=entry, how="works")
        if isinstance(entry.state, Queueing) and not intents:
            return Attached(entry=entry if owner else evolve(entry, answer_by=None), how="nobody")
        if entry.sealed:
            msg = (
                f"The clip of key {entry.key!r} has a link that only another API key of the account can read"
            )
            hint = "Run once with the API key that ordered it, or see another process of that key deliver it"
            raise JournalError(msg, hint=hint, ticket=entry.ticket, charged=True)
        return Attached(entry=self._owned([entry])[0], how="ours")

    def look(self, entry_ids: Collection[str]) -> dict[str, State]:
        """Return the states of those of the jobs that have an owner, or whose consent was declined, by id."""
        alive = self._alive()
        marks, owners = ", ".join("?" * len(entry_ids)), ", ".join("?" * len(alive))
        works = f"owner IN ({owners}) AND kind IN {(*UNFINISHED, *UNSENT)}"
        where = f"id IN ({marks}) AND ({works} OR (kind = 'Failed' AND job IS NULL))"
        found = self._execute(f"{_SELECT} WHERE {where}", (*entry_ids, *alive)).fetchall()
        entries = [unpack(row, self._links) for row in found]
        return {entry.id: unpack_progress(entry, row[-1]) for entry, row in zip(entries, found, strict=True)}

    def report(self, states: Mapping[str, State]) -> None:
        """Report the progress of jobs that we own to their followers in other processes."""
        ours = "SELECT id FROM jobs WHERE owner = ? AND followed = 1"
        for (name,) in self._execute(ours, (self._database.token,)).fetchall():
            if name in states:
                self._execute(_TELL, (pack_progress(states[name]), name))

    def marks(self, most: int) -> tuple[dict[str, Mark], dict[str, str]]:
        """Return what tells whether one of the newest `most` jobs, or of the unfinished, has changed.

        Return also the accounts' rations, as they are stored.
        """
        alive = self._alive()
        newest = f"SELECT id FROM jobs ORDER BY created DESC, id LIMIT {int(most)}"  # noqa: S608 - a number
        found = self._execute(
            f"SELECT id, updated, owner, progress FROM jobs WHERE id IN ({newest}) OR kind IN {UNFINISHED}"  # noqa: S608
        )
        marks: dict[str, Mark] = {
            name: (updated, owner if owner in alive else None, progress)
            for name, updated, owner, progress in found.fetchall()
        }
        return marks, dict(self._execute("SELECT account, ration FROM rations").fetchall())

    def entries(self, names: Sequence[str]) -> list[JournalEntry]:
        """Return those of the jobs that are there."""
        return self._select(f"id IN ({', '.join('?' * len(names))})", *names, readable=True)

    def spent(self, prefix: str) -> float:
        """Return the USD that went into the jobs whose keys begin with `prefix`, by what each was to cost.

        An intent counts as long as its outcome is not known; a job that was refunded does not.
        """
        prices = self._execute(
            f"SELECT usd FROM jobs WHERE substr(key, 1, ?) = ? AND usd IS NOT NULL"  # noqa: S608 - constants
            f" AND kind NOT IN {UNSENT} AND {self._in_scope}",
            (len(prefix), prefix),
        )
        return float(sum(Decimal(str(usd)) for (usd,) in prices.fetchall()))  # exact: 3 times 0.1 is 0.3

    def paid(self, since: float = 0.0) -> list[Paid]:
        """Return what was paid, or may have been, since a moment in seconds since the Unix epoch."""
        rows = self._execute(
            f"SELECT usd, created, model, tags, destination, url FROM jobs"  # noqa: S608 - constants
            f" WHERE created >= ? AND usd IS NOT NULL AND kind NOT IN {UNSENT} AND {self._in_scope}",
            (since,),
        )
        return [
            Paid(
                usd=usd,
                at=created,
                model=model,
                tags={} if tags is None else json.loads(tags),
                to=url if destination is None else os.fsdecode(destination),
            )
            for usd, created, model, tags, destination, url in rows.fetchall()
        ]

    def history(self, wanted: Wanted) -> list[JournalEntry]:
        """Return the jobs that are wanted, ended or not, newest first."""
        where, values = f"created >= ? AND {self._in_scope}", [wanted.since, *wanted.kinds]
        if wanted.kinds:
            where += f" AND kind IN ({', '.join('?' * len(wanted.kinds))})"
        if wanted.model is not None:
            where, values = f"{where} AND model = ?", [*values, wanted.model]
        where += " ORDER BY created DESC, id"
        if wanted.limit is not None and wanted.key is None and wanted.tag is None:
            where += f" LIMIT {int(wanted.limit)}"
        found = self._select(where, *values, readable=True)
        return [entry for entry in found if wanted.fits(entry)][: wanted.limit]

    def tidy(self) -> int:
        """Remove old history, and the orders that waited for consent and have no owner.

        Return how many jobs other accounts have that are unfinished or have a key; 0 if any job is ours.
        """
        now = self.clock.time()
        ended = "kind IN ('Succeeded', 'Failed', 'Stopped') AND key IS NULL AND updated < ?"
        self._execute(f"DELETE FROM jobs WHERE {ended}", (now - HISTORY,))  # noqa: S608 - constants
        alive = self._alive()
        unsent = f"kind IN {UNSENT} AND {self._in_scope} AND {_owned_by_none_of(alive)}"
        self._execute(f"DELETE FROM jobs WHERE {unsent}", [*alive])  # noqa: S608 - constants
        if not self._database.scoped:  # older versions knew files only
            self._execute(_REVIVE, (now - _KNOWN,))
        counted = f"""SELECT count(CASE WHEN account = ? THEN 1 END),
            count(CASE WHEN account NOT IN ('', ?) AND (key IS NOT NULL OR kind IN {UNFINISHED}) THEN 1 END)
            FROM jobs"""  # noqa: S608 - constants
        ours, theirs = self._execute(counted, (self._account, self._account)).fetchone()
        return 0 if ours else theirs

    def _holder(self, key: str, *, again: bool, but: str = "") -> JournalEntry | None:
        """Return the job that has a key, other than `but`, and with `again` other than one that failed.

        One that waited for consent, and whose owner is dead, is removed.
        """
        found = self._best(key, (*UNFINISHED, *UNSENT), failed=not again, but=but)
        asks = found is not None and isinstance(found.state, AwaitingConsent)
        if found is None or not asks or found.owner in self._alive():
            return found
        self.withdraw(found.id)
        return self._holder(key, again=again, but=but)

    def _best(self, key: str, kinds: tuple[str, ...], *, failed: bool, but: str = "") -> JournalEntry | None:
        """Return the best job of a key: one that succeeded or is of `kinds`; `failed` as for `find`."""
        mine, or_failed = (self._of_account, f" OR {_FAILED}") if failed else (self._in_scope, "")
        where = f"{mine} AND key = ? AND id <> ? AND (kind IN {('Succeeded', *kinds)}{or_failed}) {_BEST}"
        return next(iter(self._select(where, key, but)), None)

    def _owned(self, entries: list[JournalEntry]) -> list[JournalEntry]:
        """Own jobs: hundreds with one statement, as each takes its time where the database is far."""
        for start in range(0, len(entries), _PART):
            names = [entry.id for entry in entries[start : start + _PART]]
            owned = f"UPDATE jobs SET owner = ? WHERE id IN ({', '.join('?' * len(names))})"  # noqa: S608 - marks
            self._execute(owned, (self._database.token, *names))
        return [evolve(entry, owner=self._database.token) for entry in entries]

    def _continued(self, entry: JournalEntry) -> JournalEntry:
        """Return `entry` with what is known of its job, under the id of an entry of it without an owner."""
        job = job_of(entry.state)
        known = self._select(f"job = ? AND kind IN {UNFINISHED} ORDER BY rowid DESC", job)
        most = self._execute("SELECT coalesce(max(gets), 0) FROM jobs WHERE job = ?", (job,))
        entry = evolve(entry, state=merge_known(entry.state, known, most.fetchone()[0]))
        where = f"job = ? AND kind IN ('Waiting', 'Downloading') AND {self._in_scope} ORDER BY rowid DESC"
        for old in self._select(where, job, besides=self._alive(), readable=True)[:1]:
            entry = evolve(
                entry,
                id=old.id,
                created=old.created,
                request=entry.request or old.request,
                key=entry.key or old.key,
                usd=old.usd if entry.usd is None else entry.usd,
            )
        return entry

    def _select(
        self,
        where: str,
        *values: object,
        besides: Collection[str] = (),
        readable: bool = False,
    ) -> list[JournalEntry]:
        """Return the entries that no owner of `besides` owns; or only those that our key can read."""
        if besides:
            where, values = f"{_owned_by_none_of(besides)} AND {where}", (*besides, *values)
        rows = self._execute(f"{_SELECT} WHERE {where}", values).fetchall()
        entries = [unpack(row, self._links) for row in rows]
        return [entry for entry in entries if not (readable and entry.sealed)]

    def _alive(self) -> set[str]:
        """Return the tokens of the owners that live, ours among them."""
        ours = self._database.token
        others = self._execute(
            "SELECT DISTINCT owner FROM jobs WHERE owner IS NOT NULL AND owner <> ?", (ours,)
        )
        return {ours, *self._database.alive([name for (name,) in others.fetchall()])}


def _owned_by_none_of(owners: Collection[str]) -> str:
    """Return the condition that a job has no owner, or another one than its parameters, the `owners`."""
    return f"(owner IS NULL OR owner NOT IN ({', '.join('?' * len(owners))}))"
