"""The journal in Postgres, for many machines.

It is the table of the file, in SQL that both take, with one writer at a time as there: an advisory lock is
held for the length of each transaction, which is milliseconds, and the account's rate needs a few a second.

| owner                                | how others see whether it lives                               |
|--------------------------------------|---------------------------------------------------------------|
| killed, or unplugged                 | its session has ended, and with it its advisory lock          |
| stopped, or on a frozen machine      | it has not renewed its lease for as long as a lease lasts     |
| any, after a restart of the database | one that renewed its lease before has a few seconds to return |

A process that lost its session, or did not renew its lease in time, goes on under a new lease, and keeps the
jobs that nobody has taken meanwhile. Links are encrypted: a dump, a replica or a dead row shows none.
"""

from __future__ import annotations

import base64
import logging
import re
import secrets
from collections.abc import Collection
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
from ...validators import without_password
from ..postgres import SCHEMA, connect, cut, parameters, reason, unusable
from ..postgres import Connection as Session
from .entries import Rows, StoreAwayError, change_links, has_link
from .leases import LEASE, LOST

VERSION: Final = 1
STUCK: Final = 12.0  # seconds after which a statement is given up
_BACK: Final = 5.0  # seconds that owners have to come back after a restart of the database
_PAUSE: Final = 0.5  # seconds between two tries to connect
_LOCKS: Final = 0x564E4A  # the class of our advisory locks: 0 for the schema and the writers, else owners

_TABLES: Final = (
    f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}",
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

_ALIVE: Final = f"""SELECT token FROM owners WHERE token = ANY(?)
    AND ((word > clock_timestamp() - interval '{LEASE} s' AND EXISTS (SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND classid = {_LOCKS} AND objid = CAST(number AS oid)
    AND objsubid = 2 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())))
    OR (word BETWEEN pg_postmaster_start_time() - interval '1 day' AND pg_postmaster_start_time()
    AND clock_timestamp() < pg_postmaster_start_time() + interval '{_BACK} s'))"""  # noqa: S608 - constants

_BEGIN: Final = f"BEGIN; SELECT pg_advisory_xact_lock({_LOCKS}, 0)"

_logger = logging.getLogger(__name__)


def explained(uri: Secret, error: Exception) -> JournalError:
    """Return what to raise instead of an error of Postgres: it may be away, or busy with others."""
    problem = unusable(uri, reason(error))
    away = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return StoreAwayError(problem.message) if away else problem


class _EncryptedLinks:
    """Encrypts the links of an account with a key made of the API key; see `Links`."""

    def __init__(self, secret: Secret | None, account: str) -> None:
        """Without a secret nothing can be encrypted, and states are read without their links."""
        self._fernet: Fernet | None = None
        if secret is not None:
            salt, info = account.encode(), b"venice_async links at rest"
            key = HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(secret.reveal().encode())
            self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def seal(self, state: str) -> str:
        """Return the text of a state with its links encrypted.

        Raises:
            JournalError: it has some, and there is no secret.
        """
        fernet = self._fernet
        if fernet is None:
            if has_link(state):
                msg = "A link cannot be kept without the API key"
                raise JournalError(msg)
            return state
        # A server's JSON may hold anything, also half a surrogate pair.
        return change_links(state, lambda link: fernet.encrypt(link.encode(errors="surrogatepass")).decode())

    def unseal(self, state: str) -> tuple[str, bool]:
        """Return it with its links; or without them and True, if another API key encrypted them."""
        fernet = self._fernet
        if fernet is not None:
            with suppress(InvalidToken):
                return change_links(
                    state, lambda link: fernet.decrypt(link.encode()).decode(errors="surrogatepass")
                ), False
        return change_links(state, lambda _: None), fernet is not None


class PostgresDatabase:
    """A database at a URI; see `SqliteDatabase` for its attributes and methods."""

    scoped = True
    links = _EncryptedLinks

    def __init__(self, uri: str) -> None:
        self._uri = Secret(uri)
        parameters(self._uri)  # they make sense
        self.name: str = without_password(uri)
        self.token: str = ""
        self.erased: bool = False
        self._session: Session | None = None
        self._renewed = self._tried = 0.0
        self._busy: float | None = None

    @property
    def lease(self) -> str:
        """The name of our lease; empty once it is lost, or may be."""
        return "" if self._session is None or monotonic() - self._renewed > LOST else self.token

    def open(self) -> None:
        """Open a session with a new lease, which gets the jobs that nobody took since the old one was lost.

        The tables are made if they are missing, also if several processes do so at the same time.
        """
        self._tried, before = monotonic(), self._tried
        session = connect(
            self._uri,
            synchronous_commit="on",
            lock_timeout=10_000,
            statement_timeout=10_000,
            idle_in_transaction_session_timeout=5_000,
        )
        try:
            session.execute(_BEGIN.encode())
            if session.execute("SELECT to_regclass('meta')").fetchone() == (None,):
                for statement in _TABLES:
                    session.execute(statement.encode())
            (version,) = cast("tuple[int]", session.execute("SELECT version FROM meta").fetchone())
            if version > VERSION:
                why = f"its version is {version}, newer than {VERSION}"
                raise unusable(self._uri, why, "Update this library")
            session.execute("DELETE FROM owners WHERE word < clock_timestamp() - interval '1 day'")
            token, renewed = secrets.token_hex(16), monotonic()
            new = "INSERT INTO owners (token, word) VALUES (%s, clock_timestamp()) RETURNING number"
            (number,) = cast("tuple[int]", session.execute(new, [token]).fetchone())
            taken = session.execute("SELECT pg_backend_pid(), pg_advisory_lock(%s, %s)", [_LOCKS, number])
            (pid, _) = cast("tuple[int, None]", taken.fetchone())
            if self.token:
                session.execute("UPDATE jobs SET owner = %s WHERE owner = %s", [token, self.token])
                session.execute("DELETE FROM owners WHERE token = %s", [self.token])
            session.execute("COMMIT")
            self._check_session(session, pid, number)
        except BaseException:
            session.close()
            raise
        if self.token:
            _logger.warning("The journal's database is back; jobs that others have taken over are theirs")
        self.token, self._renewed, self._tried = token, renewed, before  # the time of a try that failed
        self._session = session  # last: until then `lease` is empty

    def begin(self, *, patient: bool) -> None:
        """Begin a transaction when no other process is in one, and renew our lease."""
        now = monotonic()
        if self._session is not None and now - self._renewed <= LOST:
            renewal = f"UPDATE owners SET word = clock_timestamp() WHERE token = '{self.token}'"  # noqa: S608 - a constant
            try:
                # One message, as others wait for the lock meanwhile.
                done = cast("psycopg.Cursor[Any]", self.execute(f"{_BEGIN}; {renewal}"))
                while done.nextset():
                    pass
                if done.rowcount:
                    self._renewed = now
                    return
            except psycopg.Error:
                if not self._session.closed:
                    raise
        self._end()
        if not patient or now - self._tried < _PAUSE:
            msg = f"The journal {self.name!r} cannot be reached"
            raise StoreAwayError(msg)
        self.open()
        self.execute(_BEGIN)

    def execute(self, sql: str, parameters: Any = (), /) -> Rows:
        """Execute a statement, with `?` or `:name` for values."""
        assert self._session is not None  # noqa: S101 - it was opened
        self._busy = monotonic()
        try:
            return self._session.execute(_translated(sql), parameters)
        finally:
            self._busy = None

    def rollback(self) -> None:
        """Undo the transaction; a session that cannot is given up."""
        if self._session is not None:
            try:
                self.execute("ROLLBACK")
            except psycopg.Error:
                self._end()

    def erase(self) -> None:
        """Do nothing: what is left of a link was encrypted."""

    def beat(self) -> bool:
        """Give up a statement that hangs; to renew our lease takes a transaction."""
        busy, session = self._busy, self._session
        if busy is not None and session is not None and monotonic() - busy > STUCK:
            cut(session)
        return True

    def alive(self, tokens: Collection[str]) -> set[str]:
        """Return the tokens of those owners that live."""
        return {token for (token,) in self.execute(_ALIVE, ([*tokens],)).fetchall()} if tokens else set()

    def explain(self, error: Exception) -> Exception:
        """Return what to raise instead of an error of Postgres."""
        return explained(self._uri, error) if isinstance(error, psycopg.Error) else error

    def close(self) -> None:
        """Release our lease, and close the session."""
        if self._session is not None:
            with suppress(psycopg.Error):
                self.execute("DELETE FROM owners WHERE token = ?", (self.token,))
        self._end()

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


@lru_cache(maxsize=256)
def _translated(sql: str) -> bytes:
    """Return SQL with `?` and `:name` as psycopg has them."""
    return re.sub(r"\?|:([a-z_0-9]+)", lambda mark: f"%({mark[1]})s" if mark[1] else "%s", sql).encode()
