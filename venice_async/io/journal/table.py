"""The journal's table: what is written to it and read from it within a transaction."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from attrs import evolve

from ...errors import BudgetExceededError, JournalError, UsageError
from ...options import Budget
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
from .entries import (
    COLUMNS,
    UNFINISHED,
    UNSENT,
    Attached,
    BatchShare,
    Connection,
    JournalEntry,
    KeyTakenError,
    Mark,
    Sealed,
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
from .history import Paid, spans, total

HISTORY: Final = 400 * 24 * 3600.0
"""Seconds that a finished job without a key stays on record, for people to look at."""

_PART: Final = 500  # jobs that a statement names at most

_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM jobs"  # noqa: S608 - constants
_SELECT_PROGRESS: Final = f"SELECT {', '.join(COLUMNS)}, progress FROM jobs"  # noqa: S608 - constants
_SELECT_WORK: Final = "SELECT state, request, owner, followed FROM jobs WHERE id = ?"
_TELL: Final = "UPDATE jobs SET progress = ? WHERE id = ? AND kind IN ('Waiting', 'Downloading')"

_STATE: Final = COLUMNS.index("state")
_WRITTEN: Final = (*(name for name in COLUMNS if name != "ended"), "gets", "stands", "owner", "updated")
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
_UNTOLD: Final = ", owner = CASE WHEN id = :id THEN owner END"
"""An ended job that has an owner is one whose end is still to be told, by that owner or who outlives it."""

# A clip that is there is the best news of a key, then a job under way; the newest of them.
_BEST: Final = "ORDER BY kind = 'Succeeded' DESC, kind = 'Failed', rowid DESC LIMIT 1"
_BY_KEY: Final = f"key = ? AND kind IN {('Succeeded', *UNFINISHED)} {_BEST}"
_FAILED: Final = "(kind = 'Failed' AND stands = 1)"  # the one of a key that has it still
_HAS_KEY: Final = f"key = ? AND (kind IN {('Succeeded', *UNFINISHED)} OR {_FAILED}) {_BEST}"

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
    """The jobs in an open journal, as one owner sees them. Every method belongs into a transaction.

    Attributes:
        connection: where they are.
        erased: whether something secret was erased that the log may still hold.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        name: str,
        token: str,
        alive: Callable[[str], bool],
        account: str = "",
        scoped: bool = False,
    ) -> None:
        """Speak for the holder of the lease `token` in the journal called `name`.

        Keys are those of `account`, where that is known; so are all jobs of a journal that is `scoped`.
        """
        self.connection: Connection = connection
        self._name = name
        self._token = token
        self._is_alive = alive
        self._of_account = f"account IN ('', {account!r})" if account else "0 = 0"
        self._scoped = scoped
        self._scope = f" AND {self._of_account}" if scoped else ""
        self.erased: bool = False

    def succeed(self, token: str) -> None:
        """Speak for a new lease, and keep what nobody has taken since the old one ended."""
        self.connection.execute("UPDATE jobs SET owner = ? WHERE owner = ?", (token, self._token))
        self._token = token

    def begin(
        self,
        entry: JournalEntry,
        now: float,
        batch: BatchShare | None = None,
        budget: Budget | None = None,
    ) -> JournalEntry:
        """Add a job under our watch, or take over the entry of the same job that nobody watches.

        Raises:
            KeyTakenError: it is an intent, and another job has its key.
            BudgetExceededError: its batch, or the day or the month, would cost more than it may.
        """
        if entry.ticket is not None:
            entry = self._continued(entry)
        elif entry.key and self._holder(entry.key, again=batch is not None, but=entry.id):
            msg = "Another job has this key"
            raise KeyTakenError(msg, hint="Wait for it, or take another key")
        if batch is not None and batch.max_usd is not None and entry.usd is not None:
            Reservations(batch.max_usd, self.spent(batch.prefix)).reserve(entry.usd)
        if budget and entry.ticket is None:
            self._check_budget(budget, entry.usd, now)
        if entry.key is not None:
            freed = (
                "UPDATE jobs SET stands = 0 WHERE key = ? AND stands = 1 AND kind IN ('Failed', 'Stopped')"
            )
            self.connection.execute(freed, (entry.key,))
        self.connection.execute(_INSERT, {**pack(entry), "owner": self._token, "updated": now})
        return entry

    def record(self, name: str, state: State, now: float, *, tell: bool = False) -> None:
        """Write down where a job stands. One that has ended stays as it is: someone beside us came first.

        With `tell` the end of the job is to be told by its owner, who calls `told` then.
        """
        row = self.connection.execute(_SELECT_WORK, (name,)).fetchone()
        if row is None:
            raise self._missing(name)
        text, request, owner, followed = row
        stored, asked = unpack_work(text, request)
        taken_over = owner is not None and owner != self._token and self._is_alive(owner)
        # Even one who writes too late is heard of a ticket, which is kept, and of a clip that is there.
        news = ticket_of(stored) is None and ticket_of(state) is not None
        matters = news or isinstance(state, Saved | Succeeded)
        if isinstance(stored, TERMINAL) or (taken_over and not matters):
            return
        if isinstance(stored, AwaitingConsent) and isinstance(state, TERMINAL) and not followed:
            self.withdraw(name)
            return
        left = state_to_keep(stored, state)
        ended = isinstance(left, TERMINAL)
        change = _UPDATE + (_ENDED if ended else "")
        if isinstance(state, TERMINAL):
            change += _UNTOLD if ended and tell else _RELEASED
        if isinstance(left, Failed) and left.error.charged is False:
            change += ", usd = NULL"
        if isinstance(left, Failed) and left.ticket is None:
            change += ", stands = 0"
        where = "id = :id"
        if isinstance(left, Succeeded):
            where += f" OR (job = :job AND kind IN {UNFINISHED})"
        values: dict[str, Any] = {**pack_state(left), "id": name, "updated": now}
        if ended:
            values["request"] = pack_ended(asked)
        written = self.connection.execute(f"{change} WHERE {where}", values)
        fewer = has_link(text) and not has_link(values["state"])
        self.erased |= fewer or (ended and values["request"] != request) or written.rowcount > 1

    def entry(self, name: str) -> JournalEntry:
        """Return a job's entry."""
        found = self._select("id = ?", name)
        if not found:
            raise self._missing(name)
        return found[0]

    def _missing(self, name: str) -> JournalError:
        msg = f"The journal {self._name!r} has no entry {name!r}"
        return JournalError(msg, hint="It was withdrawn, or it is of another journal")

    def known_jobs(self) -> frozenset[str]:
        """Return the ids of all jobs on record, ended or not."""
        rows = self.connection.execute("SELECT job FROM jobs WHERE job IS NOT NULL")
        return frozenset(json.loads(job)[1] for (job,) in rows)

    def withdraw(self, name: str) -> None:
        """Forget an intent; a job with a ticket stays."""
        self.connection.execute("DELETE FROM jobs WHERE id = ? AND job IS NULL", (name,))

    def forget(self, name: str, now: float) -> bool:
        """Strike off an unfinished job that nobody watches, and tell whether there was one.

        One that failed gives its key back. Of a job with a ticket the GETs of its link stay counted, and what
        it cost.
        """
        alive = self._alive()
        for entry in self._select(f"{self._free(alive)} AND id = ?", *alive, name):
            if entry.ticket is None:
                self.withdraw(name)
            else:
                ended = {**pack_state(Stopped(ticket=entry.ticket)), "id": name, "updated": now}
                _, asked = unpack_work(*self.connection.execute(_SELECT_WORK, (name,)).fetchone()[:2])
                ended["request"] = pack_ended(asked)
                self.connection.execute(f"{_UPDATE}{_ENDED}{_RELEASED}, stands = 0 WHERE id = :id", ended)
                self.erased = True
            return True
        if not self._select("id = ? AND kind = 'Failed' AND stands = 1", name):
            return False
        self.connection.execute("UPDATE jobs SET stands = 0 WHERE id = ?", (name,))
        return True

    def release(self, name: str | None = None) -> None:
        """Stop watching a job, or all of the account."""
        ours = f"owner = ? AND kind IN {(*UNFINISHED, *UNSENT)}{self._scope}"
        one, values = ("", ()) if name is None else (" AND id = ?", (name,))
        self.connection.execute(f"UPDATE jobs SET owner = NULL WHERE {ours}{one}", (self._token, *values))  # noqa: S608 - constants

    def adopt_untold(self) -> list[JournalEntry]:
        """Take the ended jobs whose end somebody who died was to tell, and return them."""
        alive = self._alive()
        where = f"owner IS NOT NULL AND {self._free(alive, ('Succeeded', 'Failed'))}"
        return self._taken(self._select(f"{where} ORDER BY rowid", *alive, readable=True))

    def told(self, name: str) -> None:
        """Note that the end of a job was told."""
        ended = "UPDATE jobs SET owner = NULL WHERE id = ? AND kind IN ('Succeeded', 'Failed')"
        self.connection.execute(ended, (name,))

    def pending(self) -> Unfinished:
        """Return the unfinished jobs that nobody else watches, oldest first."""
        others = self._alive() - {self._token}
        found = Unfinished(self._select(f"{self._free(others)} ORDER BY rowid", *others, readable=True))
        every = self.connection.execute(f"SELECT count(*) FROM jobs WHERE kind IN {UNFINISHED}{self._scope}")  # noqa: S608 - constants
        found.held = every.fetchone()[0] - len(found)
        return found

    def adopt(self, name: str | None) -> list[JournalEntry]:
        """Take the unfinished jobs that nobody watches, all or the one of that name, and return them."""
        alive = self._alive()
        where = self._free(alive) + ("" if name is None else " AND id = ?")
        values = [*alive] if name is None else [*alive, name]
        return self._taken(self._select(f"{where} ORDER BY rowid", *values, readable=True))

    def find(self, key: str) -> JournalEntry | None:
        """Return the entry that says most of a key."""
        return next(iter(self._select(f"0 = 0{self._scope} AND {_BY_KEY}", key)), None)

    def attach(self, key: str, identity: str | None, *, again: bool) -> Attached | None:
        """Find the job of a key, from now on ours if nobody watches it; None for a key that is free.

        With `again` a job that failed at the server leaves its key free.

        Raises:
            UsageError: it is the job of another request.
        """
        entry = self._holder(key, again=again)
        if entry is None:
            return None
        if names := differing(entry.identity, identity):
            msg = f"Key {key!r} is of another request: it differs in {', '.join(names)}"
            raise UsageError(msg, hint="Take another key for another request")
        return self._regained(entry, intents=False)

    def regain(self, name: str) -> Attached:
        """Look again at a job that was ours: it is, or another has taken it over, or it has ended."""
        return self._regained(self.entry(name), intents=True)

    def _regained(self, entry: JournalEntry, *, intents: bool) -> Attached:
        """Take a job that nobody watches; an intent only if it is our own."""
        if isinstance(entry.state, TERMINAL):
            return Attached(entry=entry, how="ended")
        owner = self._owner(entry.id)
        if owner is not None and owner in self._alive() and not (intents and owner == self._token):
            self.connection.execute("UPDATE jobs SET followed = 1 WHERE id = ?", (entry.id,))
            return Attached(entry=entry, how="works")
        if isinstance(entry.state, Queueing) and not intents:
            return Attached(entry=entry if owner else evolve(entry, answer_by=None), how="nobody")
        if entry.sealed:
            msg = (
                f"The clip of key {entry.key!r} has a link that only another API key of the account can read"
            )
            hint = "Run once with the API key that ordered it, or see another process of that key deliver it"
            raise JournalError(msg, hint=hint, ticket=entry.ticket, charged=True)
        self.connection.execute("UPDATE jobs SET owner = ? WHERE id = ?", (self._token, entry.id))
        return Attached(entry=entry, how="ours")

    def look(self, names: Collection[str]) -> dict[str, State]:
        """Return where those of the jobs stand that an owner who lives works on, and which were declined."""
        alive = self._alive() or {self._token}
        marks, owners = ", ".join("?" * len(names)), ", ".join("?" * len(alive))
        works = f"owner IN ({owners}) AND kind IN {(*UNFINISHED, *UNSENT)}"
        where = f"id IN ({marks}) AND ({works} OR (kind = 'Failed' AND job IS NULL))"
        found = self.connection.execute(f"{_SELECT_PROGRESS} WHERE {where}", (*names, *alive)).fetchall()
        entries = unpack(row[:-1] for row in found)
        return {entry.id: unpack_progress(entry, row[-1]) for entry, row in zip(entries, found, strict=True)}

    def report(self, states: Mapping[str, State]) -> None:
        """Write down for those who follow jobs of ours how far these have come."""
        ours = self.connection.execute("SELECT id FROM jobs WHERE owner = ? AND followed = 1", (self._token,))
        for (name,) in ours.fetchall():
            if name in states:
                self.connection.execute(_TELL, (pack_progress(states[name]), name))

    def of_key(self, key: str) -> JournalEntry | None:
        """Return the entry that has a key: as `find` does, or the one that failed and has it still."""
        return next(iter(self._select(f"{self._of_account} AND {_HAS_KEY}", key)), None)

    def marks(self, most: int) -> dict[str, Mark]:
        """Return what tells whether one of the newest `most` jobs, or of the unfinished, has changed."""
        alive = self._alive()
        newest = f"SELECT id FROM jobs ORDER BY created DESC, id LIMIT {int(most)}"  # noqa: S608 - a number
        found = self.connection.execute(
            f"SELECT id, updated, owner, progress FROM jobs WHERE id IN ({newest}) OR kind IN {UNFINISHED}"  # noqa: S608
        )
        return {
            name: (updated, owner if owner in alive else None, progress)
            for name, updated, owner, progress in found
        }

    def entries(self, names: Sequence[str]) -> list[JournalEntry]:
        """Return those of the jobs that are there."""
        return self._select(f"id IN ({', '.join('?' * len(names))})", *names, readable=True)

    def rations(self) -> dict[str, str]:
        """Return the accounts' rations, as they are stored."""
        return dict(self.connection.execute("SELECT account, ration FROM rations").fetchall())

    def spent(self, prefix: str) -> float:
        """Return the USD that went into the jobs whose keys begin with `prefix`."""
        prices = self.connection.execute(
            f"SELECT usd FROM jobs WHERE substr(key, 1, ?) = ? AND usd IS NOT NULL"  # noqa: S608 - constants
            f" AND kind NOT IN {UNSENT}{self._scope}",
            (len(prefix), prefix),
        )
        return float(sum(Decimal(str(usd)) for (usd,) in prices))  # exact in decimals: 3 times 0.1 is 0.3

    def strangers(self, account: str) -> int:
        """Return how many jobs are other accounts' that are unfinished or have a key; 0 if any is ours."""
        counted = f"""SELECT count(CASE WHEN account = ? THEN 1 END),
            count(CASE WHEN account NOT IN ('', ?) AND (key IS NOT NULL OR kind IN {UNFINISHED}) THEN 1 END)
            FROM jobs"""  # noqa: S608 - constants
        ours, theirs = self.connection.execute(counted, (account, account)).fetchone()
        return 0 if ours else theirs

    def paid(self, since: float) -> list[Paid]:
        """Return what was paid, or may have been, for the jobs that began at a moment or later."""
        rows = self.connection.execute(
            f"SELECT usd, created, model, tags, destination, url FROM jobs"  # noqa: S608 - constants
            f" WHERE created >= ? AND usd IS NOT NULL AND kind NOT IN {UNSENT}{self._scope}",
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
            for usd, created, model, tags, destination, url in rows
        ]

    def history(
        self, *, kinds: Collection[str], model: str | None, since: float, limit: int | None
    ) -> list[JournalEntry]:
        """Return the jobs that began at a moment or later, newest first, of some states or of any."""
        where, values = f"created >= ?{self._scope}", [since, *kinds]
        if kinds:
            where += f" AND kind IN ({', '.join('?' * len(kinds))})"
        if model is not None:
            where, values = f"{where} AND model = ?", [*values, model]
        most = "" if limit is None else f" LIMIT {int(limit)}"
        return self._select(f"{where} ORDER BY created DESC, id{most}", *values, readable=True)

    def _check_budget(self, budget: Budget, usd: float | None, now: float) -> None:
        """Check that a paid request may go, by what the day and the month have cost.

        Raises:
            BudgetExceededError: it may not.
        """
        if usd is None:
            msg = "The price is not known, and so not whether the budget allows it"
            raise BudgetExceededError(msg, hint="Pass max_usd=, so that the price is asked first")
        day, month = spans(now)
        paid = self.paid(month)
        for name, most, since in (("daily", budget.daily, day), ("monthly", budget.monthly, month)):
            hint = f"Raise VENICE_{name.upper()}_USD or the client's budget, or wait: days and months are UTC"
            spent = total(one for one in paid if one.at >= since)
            Reservations(most, spent, of=f"the {name} ", hint=hint).reserve(usd)

    def tidy(self, now: float) -> None:
        """Forget old history, and the questions to a person that nobody waits for any more."""
        alive = self._alive()
        ended = "kind IN ('Succeeded', 'Failed', 'Stopped') AND key IS NULL AND updated < ?"
        self.connection.execute(f"DELETE FROM jobs WHERE {ended}", (now - HISTORY,))  # noqa: S608 - constants
        unsent = f"DELETE FROM jobs WHERE {self._free(alive, UNSENT)}"  # noqa: S608 - constants
        self.connection.execute(unsent, [*alive])
        if not self._scoped:  # older versions knew files only
            self.connection.execute(_REVIVE, (now - _KNOWN,))

    def _holder(self, key: str, *, again: bool, but: str = "") -> JournalEntry | None:
        """Return who has a key, other than `but`: no question nobody waits for, nor `again` who failed."""
        kinds = f"kind IN {('Succeeded', *UNFINISHED, *UNSENT)}" + ("" if again else f" OR {_FAILED}")
        mine = f"0 = 0{self._scope}" if again else self._of_account
        found = self._select(f"{mine} AND key = ? AND id <> ? AND ({kinds}) {_BEST}", key, but)
        if not found or not isinstance(found[0].state, AwaitingConsent):
            return found[0] if found else None
        owner = self._owner(found[0].id)
        if owner is not None and (owner == self._token or self._is_alive(owner)):
            return found[0]
        self.withdraw(found[0].id)
        return self._holder(key, again=again, but=but)

    def _taken(self, entries: list[JournalEntry]) -> list[JournalEntry]:
        """Make jobs ours: hundreds with one statement, as each takes its time where the database is far."""
        for start in range(0, len(entries), _PART):
            names = [entry.id for entry in entries[start : start + _PART]]
            marks = ", ".join("?" * len(names))
            self.connection.execute(f"UPDATE jobs SET owner = ? WHERE id IN ({marks})", (self._token, *names))  # noqa: S608 - marks
        return entries

    def _owner(self, name: str) -> str | None:
        """Return who works on a job that is there."""
        owner: str | None = self.connection.execute(
            "SELECT owner FROM jobs WHERE id = ?", (name,)
        ).fetchone()[0]
        return owner

    def _continued(self, entry: JournalEntry) -> JournalEntry:
        """Return `entry` with what is known of its job, as the entry that nobody watches if there is one."""
        job, alive = job_of(entry.state), self._alive()
        known = self._select(f"job = ? AND kind IN {UNFINISHED} ORDER BY rowid DESC", job)
        most = self.connection.execute("SELECT coalesce(max(gets), 0) FROM jobs WHERE job = ?", (job,))
        entry = evolve(entry, state=merge_known(entry.state, known, most.fetchone()[0]))
        under_way = self._free(alive, ("Waiting", "Downloading"))
        for old in self._select(
            f"job = ? AND {under_way} ORDER BY rowid DESC LIMIT 1", job, *alive, readable=True
        ):
            entry = evolve(
                entry,
                id=old.id,
                created=old.created,
                request=entry.request or old.request,
                key=entry.key or old.key,
                usd=old.usd if entry.usd is None else entry.usd,
            )
        return entry

    def _select(self, where: str, *values: object, readable: bool = False) -> list[JournalEntry]:
        """Return the entries, or only those that our key can read."""
        rows = self.connection.execute(f"{_SELECT} WHERE {where}", values)
        return unpack(row for row in rows if not (readable and isinstance(row[_STATE], Sealed)))

    def _alive(self) -> set[str]:
        owners = self.connection.execute("SELECT DISTINCT owner FROM jobs WHERE owner IS NOT NULL")
        return {owner for (owner,) in owners if owner == self._token or self._is_alive(owner)}

    def _free(self, watchers: Collection[str], kinds: tuple[str, ...] = UNFINISHED) -> str:
        """Return the condition that a job is of `kinds`, and of none of the `watchers`, its parameters."""
        marks = ", ".join("?" * len(watchers))
        others = f" OR owner NOT IN ({marks})" if watchers else " OR owner IS NOT NULL"
        return f"kind IN {kinds}{self._scope} AND (owner IS NULL{others})"
