"""The journal in a file, for the processes of one machine.

The file is made whole or not at all, looked at before it is touched, then opened durably.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from collections.abc import Collection
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final
from urllib.parse import quote

from ...errors import JournalError
from ..disk import lasting_names
from ..ration.sqlite import LOG_PAGES
from ..ration.sqlite import TABLE as _RATIONS
from .entries import COLUMNS, UNFINISHED, CannotWriteError, unpack
from .leases import LOST, SUFFIXES, Lease, beside, is_alive, sweep

APPLICATION_ID: Final = 0x564E_4A31  # "VNJ1"
VERSION: Final = 3
"""1 had no table of rations, 2 none of the columns in `_ADDED`; they are added when such a file is opened."""

_PATIENCE: Final = 5.0
"""Seconds to wait for another process while opening. Its transactions take milliseconds."""

_PAUSE: Final = 0.05  # seconds between two tries to open

BUSY_TIMEOUT: Final = 0.25
"""Seconds to wait for another process at one try of a transaction."""

TRIES: Final = 40
"""Tries to begin a transaction, each of `BUSY_TIMEOUT`, while another process keeps the file locked: 10 s."""

_COLUMNS: Final = (
    "id TEXT PRIMARY KEY",
    "created REAL NOT NULL",
    "updated REAL NOT NULL",
    "owner TEXT",  # the token of the owner's lease
    "key TEXT",
    "usd REAL",
    "destination BLOB",  # a path is bytes, and need not be text
    "overwrite INTEGER NOT NULL",
    "request TEXT",
    "state TEXT NOT NULL",
    "kind TEXT NOT NULL",  # which state it is
    "job TEXT",  # names the server's job, once there is one
    "gets INTEGER NOT NULL",  # the most GETs of the job's link in any of its states
)
_ADDED: Final = (
    "account TEXT NOT NULL DEFAULT ''",  # the name of its ration; empty where that is not known
    "stands INTEGER NOT NULL DEFAULT 0",  # whether an intent has its key to itself
    "identity TEXT",  # tells its request from another: its wire fields by digest
    "answer_by REAL",  # until when a paid request may yet be answered
    "tags TEXT",
    "url TEXT",  # the destination, where it is no path
    "model TEXT",
    "ended REAL",
    "size INTEGER",  # of the clip
    "sha256 TEXT",  # of the clip
    "followed INTEGER NOT NULL DEFAULT 0",  # whether another process waits for it
    "progress TEXT",  # what its owner last reported: a state without a link
    "question TEXT",  # the consent that is waited for
    "answer TEXT",  # what a person said to that
)
_INDEXES: Final = (
    "CREATE INDEX jobs_by_kind ON jobs (kind)",
    "CREATE INDEX jobs_by_key ON jobs (key) WHERE key IS NOT NULL",
    "CREATE INDEX jobs_by_job ON jobs (job) WHERE job IS NOT NULL",
)
_NEW_INDEXES: Final = (
    "CREATE UNIQUE INDEX jobs_of_key ON jobs (account, key) WHERE stands = 1",
    "CREATE INDEX jobs_by_owner ON jobs (owner) WHERE owner IS NOT NULL",
)


_SCHEMA: Final = (
    f"CREATE TABLE jobs ({', '.join((*_COLUMNS, *_ADDED))})",
    *(*_INDEXES, _RATIONS, *_NEW_INDEXES),
)
_FIRST: Final = (f"CREATE TABLE jobs ({', '.join(_COLUMNS)})", *_INDEXES)
_OLDER: Final = {1: _FIRST, 2: (*_FIRST, _RATIONS)}
_UPGRADES: Final = {
    1: (_RATIONS,),
    2: (*(f"ALTER TABLE jobs ADD COLUMN {column}" for column in _ADDED), *_NEW_INDEXES),
}
"""What leads from each version to the next."""

_MARKS: Final = (f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {VERSION}")

# fullfsync: on macOS fsync alone does not reach the disk. temp_store: nothing secret in files elsewhere.
_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "fullfsync = ON",
    "checkpoint_fullfsync = ON",
    "secure_delete = ON",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
    f"wal_autocheckpoint = {LOG_PAGES}",
    f"busy_timeout = {BUSY_TIMEOUT * 1000:.0f}",
)

_EMPTY_LOG: Final = "PRAGMA wal_checkpoint(TRUNCATE)"

_REASONS: Final = {
    sqlite3.SQLITE_FULL: ("the disk is full", "Make room on its disk"),
    sqlite3.SQLITE_READONLY: ("it is read-only", "Make it and its folder writable, or name another one"),
    sqlite3.SQLITE_IOERR: ("the disk reports an error or is full", "Check its disk, or name another one"),
    sqlite3.SQLITE_BUSY: ("another program keeps it locked", "End that program, or name another file"),
    sqlite3.SQLITE_LOCKED: ("another program keeps it locked", "End that program, or name another file"),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", JournalError.hint),
    sqlite3.SQLITE_ERROR: ("it is damaged", JournalError.hint),  # what we say makes sense in a sound journal
    sqlite3.SQLITE_NOTADB: ("it is not a journal", JournalError.hint),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "Check the permissions of the file and its folder"),
    sqlite3.SQLITE_PERM: ("there is no permission", "Check the permissions of the file and its folder"),
}

_PASSING: Final = {
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN),
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED),
}
"""Errors that may go away: once there is room again, or another program has ended."""

_logger = logging.getLogger(__name__)


class SqliteDatabase:
    """A file, which `open` makes if it is missing. All but `beat` and `lease` is for the writer's thread.

    Attributes:
        scoped: whether each account sees its own jobs only.
        links: the class that encrypts the links of an account; None where links are stored as they are.
        name: the path or URI, without secrets.
        token: the name of our latest lease, lost or not: the owner of our jobs.
        erased: whether the log is to be emptied: something secret was erased from the table that may still
            stand there, or it takes the room of a full disk.
    """

    scoped = False
    links = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Use the file at `path`.

        Raises:
            JournalError: it is a URI, begins with a `~`, or names no file.
        """
        given = os.fsdecode(path)
        scheme, _, rest = given.partition("://")
        if rest:  # which may hold a password
            msg = f"The journal cannot be used: it may be in a file or in Postgres, not in {scheme!r}"
            raise JournalError(msg, hint="Name a file, such as 'jobs.db', or a postgresql:// URI")
        if given.startswith("~") or "\0" in given or not Path(given).name:
            msg = f"The journal {given!r} cannot be used: it names no file"
            raise JournalError(msg, hint="Name a file; a ~ is expanded by Path('~/jobs.db').expanduser()")
        self._path = Path(os.path.realpath(os.fsdecode(path)))  # where SQLite, too, puts the files beside it
        self.name: str = str(self._path)
        self.token: str = ""
        self.erased: bool = False
        self._lease: Lease | None = None
        self._connection: sqlite3.Connection | None = None

    @property
    def lease(self) -> str:
        """The name of our lease; empty once it is lost, until there is a new one with another name."""
        lease = self._lease
        return "" if lease is None or monotonic() - lease.renewed > LOST else lease.token

    def open(self) -> None:
        """Take a lease, and open the file; it and its folder are made for their owner only.

        Raises:
            JournalError: the file is damaged, foreign or from a newer version; it is as it was.
        """
        folder = self._path.parent
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        for place in reversed(missing):
            with suppress(FileExistsError):
                place.mkdir(mode=0o700)
                place.chmod(0o700)  # whatever the umask
        if not missing and folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            _logger.warning("The folder of the journal, %s, can be written to by others", folder)
        self._lease = Lease(self._path)
        self.token = self._lease.token
        sweep(self._path)
        given_up = monotonic() + _PATIENCE
        while self._connection is None:
            try:
                if not self._path.exists():
                    _create(self._path, self.token)
                version = _inspect(self._path)
                with ExitStack() as undo:
                    connection = undo.enter_context(closing(_connect(self._path, "mode=rw")))
                    connection.execute(_EMPTY_LOG).fetchone()
                    if version < VERSION:
                        _upgrade(connection)
                    for pragma in _PRAGMAS:
                        connection.execute(f"PRAGMA {pragma}")
                    for suffix in SUFFIXES:
                        place = Path(f"{self._path}{suffix}")
                        with suppress(FileNotFoundError, PermissionError):
                            if stat.S_IMODE(place.stat().st_mode) & 0o077:
                                place.chmod(0o600)
                    undo.pop_all()
                    self._connection = connection
            except sqlite3.OperationalError as error:
                # SQLite does not wait, whatever its timeout, for a process that closes or recovers the file.
                if not _is_busy(error) or monotonic() > given_up:
                    raise
                sleep(_PAUSE)
        self._file = self._path.stat()

    def begin(self, *, patient: bool) -> None:
        """Begin a transaction; if our lease was lost, under a new one that gets the jobs that nobody took.

        Wait for other processes only if `patient`, which one that closes is not.
        """
        try:
            is_there = os.path.samestat(self._path.stat(), self._file)
        except OSError:
            is_there = False
        if not is_there:
            reason = "the file was removed or replaced while it was in use"
            gone = _unusable(self._path, reason, "Put it back, or start the program again for a new one")
            raise CannotWriteError(gone.message, hint=gone.hint)
        for left in reversed(range(TRIES)):
            try:
                self.execute("BEGIN IMMEDIATE")
                break
            except sqlite3.OperationalError as error:
                if not left or not patient or not _is_busy(error):
                    raise
        old = self._lease
        if old is None or self.lease:
            return
        new = Lease(self._path)
        try:
            self.execute("UPDATE jobs SET owner = ? WHERE owner = ?", (new.token, old.token))
            self.execute("COMMIT")  # at once, as what the transaction is for may fail
        except BaseException:
            new.release()
            raise
        self._lease, self.token = new, new.token
        old.release()
        _logger.warning("This process was stopped for a while; jobs that others have taken over are theirs")
        self.begin(patient=patient)

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Execute a statement, with `?` or `:name` for values."""
        assert self._connection is not None  # noqa: S101 - it was opened
        return self._connection.execute(sql, parameters)

    def rollback(self) -> None:
        """Undo the transaction; some errors have done so already."""
        with suppress(sqlite3.Error):
            self.execute("ROLLBACK")

    def erase(self) -> None:
        """Empty the log once that is wanted; if it fails, at a later chance."""
        if self.erased:
            with suppress(sqlite3.Error):
                busy, _, _ = self.execute(_EMPTY_LOG).fetchone()
                self.erased = bool(busy)

    def beat(self) -> bool:
        """Renew our lease, in a thread of its own; tell whether that takes a transaction instead."""
        if self._lease is not None:
            self._lease.renew()
        return False

    def alive(self, tokens: Collection[str]) -> set[str]:
        """Return the tokens of those owners that live."""
        return {token for token in tokens if is_alive(self._path, token)}

    def explain(self, error: Exception) -> Exception:
        """Return what to raise instead of an error of SQLite or of the system."""
        if isinstance(error, OSError):
            reason = os.strerror(error.errno or 0), "Check the file, its folder and its disk"
        elif isinstance(error, sqlite3.Error | UnicodeDecodeError):
            self.erased |= _code(error) == sqlite3.SQLITE_FULL
            name = getattr(error, "sqlite_errorname", "nothing")  # its words may quote a row, with its link
            reason = _REASONS.get(_code(error), (f"SQLite says {name}", JournalError.hint))
        else:
            return error
        problem = _unusable(self._path, *reason)
        if isinstance(error, sqlite3.Error) and _code(error) in _PASSING:
            return CannotWriteError(problem.message, hint=problem.hint)
        return problem

    def close(self) -> None:
        """Close the file, and release our lease."""
        try:
            if self._connection is not None:
                self.erase()
                if self.erased:
                    reason = "another process reads it, or the disk is full"
                    _logger.warning("The log of %s could not be emptied: %s", self._path, reason)
                self._connection.close()
            if self._lease is not None:
                self._lease.release()
        except (sqlite3.Error, OSError) as error:
            _logger.warning("%s", self.explain(error))


def _connect(path: Path, options: str) -> sqlite3.Connection:
    address = f"file:{quote(os.fsencode(path))}?{options}"
    return sqlite3.connect(address, timeout=_PATIENCE, isolation_level=None, uri=True)


def _create(path: Path, token: str) -> None:
    """Make a journal under another name and link it into place: at `path` there is never half of one."""
    draft = beside(path, token, "new")
    os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        draft.chmod(0o600)  # whatever the umask
        with closing(_connect(draft, "mode=rw")) as connection:
            connection.executescript("; ".join(("BEGIN", *_MARKS, *_SCHEMA, "COMMIT")))
            connection.execute("PRAGMA journal_mode = WAL")
        with lasting_names(path.parent):
            try:
                path.hardlink_to(draft)
            except FileExistsError:
                pass  # another process was faster, and its file is the one
            except (OSError, NotImplementedError):  # a file system, or a platform, without links
                if not path.exists():
                    draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)


def _inspect(path: Path) -> int:
    """Refuse what is not a sound journal, without changing a byte of it; return its version.

    It is read through SQLite alone: to close a descriptor of it would drop every lock of this process on it.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise _unusable(path, "it is not a file", "Name a file")
    if not path.stat().st_size:
        raise _unusable(path, "it is empty", "Remove the file, and a new journal is made")
    # The file of another program is refused without looking at, or making, files beside it.
    with closing(_connect(path, "mode=ro&immutable=1")) as connection:
        try:
            _version(path, connection)
        except sqlite3.DatabaseError as error:
            if _code(error) != sqlite3.SQLITE_CORRUPT:  # as it also looks while the log holds the rest of it
                raise
    with closing(_connect(path, "mode=ro")) as connection:  # may not write, not even as the last to close
        connection.execute("BEGIN")
        version = _version(path, connection)
        schema = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
        ours = tuple(sql for (sql,) in schema) == _OLDER.get(version, _SCHEMA)
        if not ours or connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            raise _unusable(path, "it is damaged")
        there = {name for _, name, *_ in connection.execute("PRAGMA table_info(jobs)")}
        columns = ", ".join(name if name in there else "NULL" for name in COLUMNS)
        unfinished = f"SELECT {columns} FROM jobs WHERE kind IN {UNFINISHED}"  # noqa: S608 - constants only
        for row in connection.execute(unfinished):
            unpack(row, None)
    return version


def _version(path: Path, connection: sqlite3.Connection) -> int:
    """Return the version of a journal; refuse the file of another program, or of a newer version."""
    marks = ("application_id", "user_version")
    application, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in marks)
    if application != APPLICATION_ID:
        raise _unusable(path, "it belongs to another program")
    if version > VERSION:
        raise _unusable(path, f"its version is {version}, newer than {VERSION}", "Update this library")
    if version < 1:
        raise _unusable(path, "it is damaged")
    return int(version)


def _upgrade(connection: sqlite3.Connection) -> None:
    """Add what a journal of an older version has not; several processes may do so at once."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for statement in [one for older in range(version, VERSION) for one in _UPGRADES[older]]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _unusable(path: Path, reason: str, hint: str = JournalError.hint) -> JournalError:
    """Return the error that says why a journal cannot be used."""
    return JournalError(f"The journal {str(path)!r} cannot be used: {reason}", hint=hint)


def _is_busy(error: sqlite3.Error) -> bool:
    """Tell whether another process was in the way."""
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _code(error: sqlite3.Error | UnicodeDecodeError) -> int:
    """Return the code without its extension; an error that has none is about values that are damaged."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
