"""The journal in Postgres, for many machines.

It is the table of the file, in SQL that both take, with one writer at a time as there: an advisory lock is
held for the length of each transaction, which is milliseconds, and the account's rate needs a few a second.

| who                                           | how it is known that it lives                        |
|-----------------------------------------------|------------------------------------------------------|
| a process that was killed, or unplugged       | its session has ended, and with it its advisory lock |
| a process that was stopped, a frozen machine  | its last word is older than the lease                |
| all, just after the database was restarted    | who spoke before has a few seconds to come back      |

One that lost its session, or was silent for too long, goes on as a new owner, and keeps the jobs that nobody
has taken meanwhile. Links are encrypted: a dump, a replica or a dead row shows none.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from time import monotonic
from typing import Any, Final, cast

import psycopg
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ...errors import JournalError
from ...sansio.http.secrets import Secret
from ..postgres import SCHEMA, connect, cut, name_of, reason, unusable
from ..postgres import Connection as Session
from .entries import Sealed, StoreAwayError, has_link
from .leases import LEASE, LOST
from .table import Table

VERSION: Final = 1
STUCK: Final = 12.0  # seconds after which a statement is given up
_BACK: Final = 5.0  # seconds that owners have to come back after a restart of the database
_PAUSE: Final = 0.5  # seconds between two tries to connect
_LOCKS: Final = 0x564E4A  # the class of our advisory locks: 0 for the schema and the writers, else owners

_TABLES: Final = (
    "CREATE TABLE meta (version integer NOT NULL)",
    f"INSERT INTO meta VALUES ({VERSION})",  # noqa: S608 - a constant
    "CREATE TABLE rations (account text PRIMARY KEY, ration text NOT NULL)",
    """CREATE TABLE owners (token text PRIMARY KEY, number integer GENERATED ALWAYS AS IDENTITY,
    word timestamptz)""",
    """CREATE TABLE jobs (id text PRIMARY KEY, created float8 NOT NULL, updated float8 NOT NULL, owner text,
    key text, usd float8, destination bytea, overwrite boolean NOT NULL, request text, state text NOT NULL,
    kind text NOT NULL, job text, gets integer NOT NULL, account text NOT NULL DEFAULT '',
    stands integer NOT NULL DEFAULT 0, identity text, answer_by float8, tags text, url text, model text,
    ended float8, size bigint, sha256 text, followed integer NOT NULL DEFAULT 0, progress text, question text,
    answer text, rowid bigint GENERATED ALWAYS AS IDENTITY)""",
    "CREATE INDEX jobs_by_kind ON jobs (kind)",
    "CREATE INDEX jobs_by_key ON jobs (key) WHERE key IS NOT NULL",
    "CREATE INDEX jobs_by_job ON jobs (job) WHERE job IS NOT NULL",
    "CREATE UNIQUE INDEX jobs_of_key ON jobs (account, key) WHERE stands = 1",
    "CREATE INDEX jobs_by_owner ON jobs (owner) WHERE owner IS NOT NULL",
)

_ALIVE: Final = f"""SELECT word > clock_timestamp() - interval '{LEASE} s' AND EXISTS (SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND classid = {_LOCKS} AND objid = CAST(number AS oid)
    AND objsubid = 2 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
    OR (word BETWEEN pg_postmaster_start_time() - interval '1 day' AND pg_postmaster_start_time()
    AND clock_timestamp() < pg_postmaster_start_time() + interval '{_BACK} s')
    FROM owners WHERE token = ?"""  # noqa: S608 - constants

_logger = logging.getLogger(__name__)


class PostgresDatabase:
    """A database at a URI; see `writer.Database`."""

    table: Table

    def __init__(self, uri: str, *, account: str, secret: Secret | None) -> None:
        """Keep the jobs of `account`, with links that only those read who have the `secret`."""
        self._uri = Secret(uri)
        self._account = account
        self._fernet = None if secret is None else _fernet(secret, account)
        self._session: Session | None = None
        self._views: dict[str, Table] = {}
        self._token = ""
        self._spoken = self._tried = 0.0
        self._busy: float | None = None
        self._epoch = 0

    @property
    def epoch(self) -> int:
        """How often we were taken for dead, or may have been."""
        return self._epoch + (self._session is None or monotonic() - self._spoken > LOST)

    def seen_by(self, account: str, secret: Secret) -> Callable[[], Table]:
        """Return what gives the table of another account within a transaction; `secret` is for its links."""
        fernet = _fernet(secret, account)

        def table() -> Table:
            assert self._session is not None  # noqa: S101 - a transaction was begun
            if account not in self._views:
                self._views[account] = self._table(_Connection(self._session, fernet), self._token, account)
            return self._views[account]

        return table

    def open(self) -> None:
        """Connect; make the tables, or bring them up to date, whoever does the same just now.

        Raises:
            JournalError: it cannot be used.
            UsageError: the URI makes no sense.
        """
        problem: Exception
        try:
            self._connect()
        except psycopg.Error as error:
            problem = self.explain(error)
        else:
            return
        raise problem

    def begin(self, *, patient: bool) -> None:
        """Begin a transaction when no other process is in one, as an owner who lives."""
        now = self._busy = monotonic()
        if self._session is not None and now - self._spoken <= LOST:
            spoken = f"UPDATE owners SET word = clock_timestamp() WHERE token = '{self._token}'"  # noqa: S608
            try:
                self._lock(self._session)
                if self._session.execute(spoken.encode()).rowcount:
                    self._spoken = now
                    return
            except psycopg.Error:
                if not self._session.closed:
                    raise
        self._end()
        if not patient or now - self._tried < _PAUSE:
            msg = f"The journal {name_of(self._uri)!r} cannot be reached"
            raise StoreAwayError(msg)
        self._connect()
        assert self._session is not None  # noqa: S101 - it was connected
        self._lock(self._session)

    def commit(self) -> None:
        """Make it durable."""
        assert self._session is not None  # noqa: S101 - a transaction was begun
        self._session.execute("COMMIT")
        self._busy = None

    def rollback(self) -> None:
        """Undo it; a session that cannot is given up."""
        self._busy = None
        if self._session is not None:
            try:
                self._session.execute("ROLLBACK")
            except psycopg.Error:
                self._end()

    def erase(self) -> None:
        """Do nothing: what is left of a link was encrypted."""
        self._busy = None

    def beat_apart(self) -> bool:
        """Give up a statement that hangs; to say that we live takes a transaction."""
        busy, session = self._busy, self._session
        if busy is not None and session is not None and monotonic() - busy > STUCK:
            cut(session)
        return False

    def explain(self, error: Exception) -> Exception:
        """Return what to raise instead of an error of Postgres."""
        if not isinstance(error, psycopg.Error):
            return error
        said = unusable(self._uri, reason(error))
        return StoreAwayError(said.message) if self.is_passing(error) else said

    def is_passing(self, error: Exception) -> bool:
        """Tell whether the database is away, or busy with others."""
        away = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return isinstance(error, StoreAwayError) or away

    def close(self) -> None:
        """Let go of the jobs and close the session."""
        if self._session is not None:
            with suppress(psycopg.Error):
                self._session.execute("DELETE FROM owners WHERE token = %s", [self._token])
        self._end()

    def _connect(self) -> None:
        """Open a session, and go on in it as a new owner, who has what nobody took from the old one."""
        self._tried, before = monotonic(), self._tried
        session = connect(
            self._uri,
            synchronous_commit="on",
            lock_timeout=10_000,
            statement_timeout=10_000,
            idle_in_transaction_session_timeout=5_000,
        )
        try:
            self._lock(session)
            self._make_current(session)
            token, connection = secrets.token_hex(16), _Connection(session, self._fernet)
            spoken = monotonic()
            new = "INSERT INTO owners (token, word) VALUES (%s, clock_timestamp()) RETURNING number"
            (number,) = cast("tuple[int]", session.execute(new, [token]).fetchone())
            taken = session.execute("SELECT pg_backend_pid(), pg_advisory_lock(%s, %s)", [_LOCKS, number])
            (pid, _) = cast("tuple[int, None]", taken.fetchone())
            if not self._token:
                self.table = self._table(connection, token, self._account)
            else:
                self.table.connection = connection
                self.table.succeed(token)
                session.execute("DELETE FROM owners WHERE token = %s", [self._token])
            session.execute("COMMIT")
            self._check_session(session, pid, number)
        except BaseException:
            session.close()
            raise
        if self._token:
            self._epoch += 1
            _logger.warning("The journal's database is back; jobs that others have taken over are theirs")
        self._session, self._token, self._spoken = session, token, spoken
        self._views.clear()
        self._tried = before  # which failed

    def _table(self, connection: _Connection, token: str, account: str) -> Table:
        def alive(owner: str) -> bool:
            found = self.table.connection.execute(_ALIVE, (owner,)).fetchone()
            return found is not None and bool(found[0])

        return Table(
            connection,
            name=name_of(self._uri),
            token=token,
            alive=alive,
            account=account,
            scoped=True,
        )

    def _lock(self, session: Session) -> None:
        session.execute(f"BEGIN; SELECT pg_advisory_xact_lock({_LOCKS}, 0)".encode())

    def _make_current(self, session: Session) -> None:
        (there,) = cast("tuple[str | None]", session.execute("SELECT to_regclass('meta')").fetchone())
        if there is None:
            session.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}".encode())
            for statement in _TABLES:
                session.execute(statement.encode())
        (version,) = cast("tuple[int]", session.execute("SELECT version FROM meta").fetchone())
        if version > VERSION:
            why = f"its version is {version}, newer than {VERSION}"
            raise unusable(self._uri, why, "Update this library")
        session.execute("DELETE FROM owners WHERE word < clock_timestamp() - interval '1 day'")

    def _check_session(self, session: Session, pid: int, number: int) -> None:
        """Refuse a pooler that gives each transaction another session: locks mean nothing there."""
        held = """SELECT pg_backend_pid(), EXISTS (SELECT FROM pg_locks
            WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = %s::integer::oid
            AND pid = pg_backend_pid())"""
        with connect(self._uri) as other:
            other.execute("BEGIN")
            (pid_of_other,) = cast("tuple[int]", other.execute("SELECT pg_backend_pid()").fetchone())
            same = pid != pid_of_other and (pid, True) == session.execute(held, [_LOCKS, number]).fetchone()
            other.execute("ROLLBACK")
        if not same:
            why = "a pooler in transaction mode is in between, and no lock lasts there"
            raise unusable(self._uri, why, "Use a pool in session mode, or the database's own port")

    def _end(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


class _Connection:
    """A session that takes the SQL of `Table`, and keeps what is secret encrypted."""

    def __init__(self, session: Session, fernet: Fernet | None) -> None:
        self._session = session
        self._fernet = fernet

    def execute(self, sql: str, parameters: Sequence[object] | Mapping[str, object] = ()) -> _Rows:
        if isinstance(parameters, Mapping) and "state" in parameters:
            state, fernet = str(parameters["state"]), self._fernet
            if fernet is None and has_link(state):
                msg = "A link cannot be kept without the API key"
                raise JournalError(msg)
            sealed = _with_links(state, lambda link: _sealed(fernet, link) if fernet else "")
            parameters = {**parameters, "state": sealed}
        return _Rows(self._session.execute(_translated(sql), parameters), self._opened)

    def _opened(self, state: str) -> str:
        """Return a state with its links, or without them if another key encrypted them, or we have none."""
        fernet = self._fernet
        try:
            return _with_links(state, lambda link: _plain(fernet, link) if fernet else None)
        except InvalidToken:
            return Sealed(_with_links(state, lambda _: None))


class _Rows:
    """The rows of a statement, with links that can be read."""

    def __init__(self, cursor: psycopg.Cursor[tuple[Any, ...]], opened: Callable[[str], str]) -> None:
        self.rowcount: int = cursor.rowcount
        self._cursor = cursor
        self._opened = opened
        names = [column.name for column in cursor.description or ()]
        self._state = names.index("state") if "state" in names else None

    def fetchone(self) -> tuple[Any, ...] | None:
        row = self._cursor.fetchone()
        return None if row is None else self._read(row)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return [self._read(row) for row in self._cursor.fetchall()]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.fetchall())

    def _read(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        place = self._state
        return row if place is None else (*row[:place], self._opened(row[place]), *row[place + 1 :])


def _sealed(fernet: Fernet, link: str) -> str:
    return fernet.encrypt(link.encode(errors="surrogatepass")).decode()  # a server's JSON may hold anything


def _plain(fernet: Fernet, sealed: str) -> str:
    return fernet.decrypt(sealed.encode()).decode(errors="surrogatepass")


def _with_links(state: str, change: Callable[[str], str | None]) -> str:
    """Return a state with each link changed."""
    if not has_link(state):
        return state
    return json.dumps(_changed(json.loads(state), change))


def _changed(value: object, change: Callable[[str], str | None]) -> object:
    if isinstance(value, dict):
        known = cast("dict[str, object]", value)
        return {
            name: change(part)
            if name in {"download_url", "link"} and isinstance(part, str)
            else _changed(part, change)
            for name, part in known.items()
        }
    if isinstance(value, list):
        return [_changed(part, change) for part in cast("list[object]", value)]
    return value


@lru_cache(maxsize=256)
def _translated(sql: str) -> bytes:
    """Return SQL with `?` and `:name` as psycopg has them."""
    return re.sub(r"\?|:([a-z_0-9]+)", lambda mark: f"%({mark[1]})s" if mark[1] else "%s", sql).encode()


def _fernet(secret: Secret, account: str) -> Fernet:
    derived = HKDF(algorithm=SHA256(), length=32, salt=account.encode(), info=b"venice_async links at rest")
    return Fernet(base64.urlsafe_b64encode(derived.derive(secret.reveal().encode())))
