"""Tells which processes are alive: each user of a journal locks a file, and the lock ends with the process.

One that is stopped keeps its lock. So it also leaves word each second, and counts as dead without it.

A thread of its own leaves word, which tells a process that was stopped, or a machine that was frozen, from an
event loop that is blocked.

A process id may be used again, and a time may lie; a lock does neither, and tells two journals of a process
apart. A child that is forked lets go of it, since it may outlive its parent: the jobs are the parent's alone.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import sys
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from time import monotonic
from typing import Final, Protocol
from weakref import WeakSet

if sys.platform != "win32":
    import fcntl

EVERY: Final = 1.0  # seconds
LEASE: Final = 10.0  # seconds without a word after which an owner counts as dead
LOST: Final = 8.0  # the same for the owner itself: it gives up a little earlier than the others take over

SUFFIXES: Final = ("", "-journal", "-wal", "-shm")
"""What SQLite adds to a database's name for the files beside it."""

_FLAGS: Final = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_TOKEN: Final = r"[0-9a-f]{32}"  # noqa: S105 - the pattern of a public name

_logger = logging.getLogger(__name__)


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

    def close(self) -> None:
        """Let go of it in this process alone: in a forked child the parent holds it as before."""
        self._file.close()


_held: WeakSet[Lease] = WeakSet()


def leave_to_parent() -> None:
    """Let go of all leases in a forked child; the parent holds them as before."""
    for lease in list(_held):
        lease.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=leave_to_parent)


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
    pattern = re.compile(rf"{re.escape(database.name)}\.({_TOKEN})\.owner")
    for match in filter(None, [pattern.fullmatch(path.name) for path in database.parent.iterdir()]):
        token = match[1]
        lease = _lease_path(database, token)
        with _if_dead(lease) as dead:
            draft = draft_path(database, token)
            for path in (*(Path(f"{draft}{suffix}") for suffix in SUFFIXES), lease) if dead else ():
                _unlinked(path)


def _lease_path(database: Path, token: str) -> Path:
    return database.with_name(f"{database.name}.{token}.owner")


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
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            free = False
        else:
            free = True
        yield free


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


class Living(Protocol):
    """Something that says that it lives."""

    def beat(self) -> None:
        """Say so."""
        ...


class Pulse:
    """Makes all that is added say each second that it lives."""

    def __init__(self) -> None:
        self._living: WeakSet[Living] = WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._added = threading.Event()

    def add(self, one: Living) -> None:
        """Make it say that it lives from now on."""
        with self._lock:
            self._living.add(one)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="venice_async.pulse", daemon=True)
                self._thread.start()
        self._added.set()

    def discard(self, one: Living) -> None:
        """Let it be silent from now on."""
        with self._lock:
            self._living.discard(one)

    def forget_all(self) -> None:
        """Begin anew in a child that was forked: the parent's thread is not there."""
        self.__init__()  # type: ignore[misc]

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._added.wait()
            with self._lock:
                living = list(self._living)
                if not living:
                    self._added.clear()
            for one in living:
                try:
                    one.beat()
                except Exception:
                    _logger.exception("The journal cannot say that it is in use")
            del living
            pause.wait(EVERY)


PULSE: Final = Pulse()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PULSE.forget_all)
