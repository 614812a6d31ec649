"""Tells which processes are alive: each user of a journal locks a file, and the lock ends with the process.

One that is stopped keeps its lock. So it also leaves word each second, and counts as dead without it.

A process id may be used again, and a time may lie; a lock does neither, and tells two journals of a process
apart. A child that is forked lets go of it, since it may outlive its parent: the jobs are the parent's alone.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from time import monotonic
from typing import Final
from weakref import WeakSet

from .pulse import EVERY, LEASE, LOST

if sys.platform != "win32":
    import fcntl

SUFFIXES: Final = ("", "-journal", "-wal", "-shm")
"""What SQLite adds to a database's name for the files beside it."""

_FLAGS: Final = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_TOKEN: Final = r"[0-9a-f]{32}"  # noqa: S105 - the pattern of a public name


class Lease:
    """The proof that a journal is in use, from `Lease.take` to `release`: `{database}.{token}.owner`, locked.

    Attributes:
        token: the name of the one who holds it, never given twice.
        lost: whether it was noticed that it was not renewed in time.
    """

    def __init__(self, database: Path, token: str, file: FileIO) -> None:
        self.token = token
        self._database = database
        self._file = file
        self.lost: bool = False
        self._renewed = monotonic()
        self._write(self._renewed)
        _held.add(self)

    @classmethod
    def take(cls, database: Path) -> Lease:
        """Take a lease of a token that is new."""
        token = secrets.token_hex(16)
        while (file := _lock(_lease_path(database, token))) is None:
            pass
        return cls(database, token, file)

    def renew(self) -> bool:
        """Leave word that we live; False if that is too late, and for good: others may have our jobs.

        The word is the file's time of change, by the machine's clock that never goes back.
        """
        now = monotonic()
        if self.lost or now - self._renewed > LOST:
            return False
        if now - self._renewed > EVERY / 2:
            self._renewed = now
            self._write(now)
        return True

    def _write(self, now: float) -> None:
        if not self._file.closed:
            with suppress(OSError):
                os.utime(self._file.fileno() if os.utime in os.supports_fd else self._file.name, (now, now))

    def release(self) -> None:
        """Release it: its token counts as dead from now on."""
        if self._file.closed:
            return
        if sys.platform == "win32":
            self._file.close()
        with suppress(FileNotFoundError):
            _lease_path(self._database, self.token).unlink()
        self._file.close()

    def leave_to_parent(self) -> None:
        """Let go of it in a forked child; the parent holds it as before."""
        self._file.close()


_held: WeakSet[Lease] = WeakSet()


def _leave_all_to_parent() -> None:
    for lease in list(_held):
        lease.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all_to_parent)


def draft_path(database: Path, token: str) -> Path:
    """Return the name under which the holder of `token` makes a new database."""
    return database.with_name(f"{database.name}.{token}.new")


def is_alive(database: Path, token: str) -> bool:
    """Tell whether the lease of `token` is held, by whatever process; nobody holds what is no token."""
    if not re.fullmatch(_TOKEN, token):  # it comes from the file, and is about to be part of a path
        return False
    path = _lease_path(database, token)
    with _if_dead(path) as dead:
        if dead:
            return False
    try:
        return monotonic() - path.stat().st_mtime <= LEASE
    except OSError:
        return False


def sweep(database: Path) -> None:
    """Remove what ended processes left beside the database: leases, and unfinished databases."""
    for token in _tokens(database):
        lease = _lease_path(database, token)
        with _if_dead(lease) as dead:
            draft = draft_path(database, token)
            for path in (*(Path(f"{draft}{suffix}") for suffix in SUFFIXES), lease) if dead else ():
                _unlinked(path)


def _lease_path(database: Path, token: str) -> Path:
    return database.with_name(f"{database.name}.{token}.owner")


def _tokens(database: Path) -> Iterator[str]:
    pattern = re.compile(rf"{re.escape(database.name)}\.({_TOKEN})\.owner")
    for path in database.parent.iterdir():
        if match := pattern.fullmatch(path.name):
            yield match[1]


@contextmanager
def _if_dead(lease: Path) -> Generator[bool]:
    """Tell whether nobody holds a lease, and lock it within the block."""
    if sys.platform == "win32":
        yield _unlinked(lease)
        return
    try:
        file = FileIO(os.open(lease, _FLAGS), "r+")
    except OSError as error:  # one that is not ours to open is better taken for held
        yield isinstance(error, FileNotFoundError)
        return
    with file:
        yield _flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _lock(path: Path) -> FileIO | None:
    """Return the file, new and locked; None if someone took it for dead just before, and removed it."""
    file = FileIO(os.open(path, _FLAGS | os.O_CREAT, 0o600), "r+")
    if sys.platform == "win32":  # an open file cannot be removed there: that is the lock
        return file
    with ExitStack() as undo:
        undo.callback(file.close)
        os.fchmod(file.fileno(), 0o600)  # whatever the umask
        fcntl.flock(file, fcntl.LOCK_EX)
        if not _is_at(path, file):
            return None
        undo.pop_all()
    return file


def _flock(file: FileIO, operation: int) -> bool:
    try:
        fcntl.flock(file, operation)
    except OSError:
        return False
    return True


def _is_at(path: Path, file: FileIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _unlinked(path: Path) -> bool:
    """Remove a file, and tell whether it is gone."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True
