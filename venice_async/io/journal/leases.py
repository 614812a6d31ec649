"""Tells which processes are alive: each user of a journal locks a file, and the lock ends with the process.

| process                         | how others see it                                     |
|---------------------------------|-------------------------------------------------------|
| ended, or killed                | its file is gone, or is not locked                    |
| stopped, or on a frozen machine | its file was not touched for as long as a lease lasts |

A process id may be used again, and the time of day may be set back; a lock does neither, and tells two
journals of a process apart. A forked child closes its copy of the file, since it may outlive its parent: the
jobs are the parent's alone.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from time import monotonic
from typing import Final
from weakref import WeakSet

EVERY: Final = 1.0  # seconds between two renewals
LEASE: Final = 10.0  # seconds without a renewal after which an owner counts as dead
LOST: Final = 8.0  # the same for the owner itself: it gives up a little earlier than the others take over

SUFFIXES: Final = ("", "-journal", "-wal", "-shm")
"""What SQLite adds to a database's name for the files beside it."""

_TOKEN: Final = r"[0-9a-f]{32}"  # noqa: S105 - the pattern of a public name


class Lease:
    """The proof that a journal is in use, until `release`: `{database}.{token}.owner`, locked.

    Attributes:
        token: the name of the owner, never given twice.
        renewed: when it was renewed, by the machine's monotonic clock. One that was not renewed for `LOST`
            seconds is lost for good: others may have our jobs.
    """

    def __init__(self, database: Path) -> None:
        self.token: str = secrets.token_hex(16)
        self._path = beside(database, self.token, "owner")
        while True:
            self._file = FileIO(os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CREAT, 0o600), "r+")
            with ExitStack() as undo:
                undo.callback(self._file.close)
                os.fchmod(self._file.fileno(), 0o600)  # whatever the umask
                fcntl.flock(self._file, fcntl.LOCK_EX)
                with suppress(FileNotFoundError):  # somebody took it for dead just before, and removed it
                    if os.path.samestat(self._path.stat(), os.fstat(self._file.fileno())):
                        undo.pop_all()
                        break
        self.renewed: float = monotonic()
        self.renew()
        _held.add(self)

    def renew(self) -> None:
        """Renew it, unless it is lost; others see that by the file's time of change."""
        now = monotonic()  # once: this process may be stopped before any of the next lines
        if now - self.renewed <= LOST:
            self.renewed = now
            with suppress(OSError, ValueError):  # in a forked child the file is closed
                os.utime(self._file.fileno(), (now, now))

    def release(self) -> None:
        """Release it: its token counts as dead from now on."""
        if not self._file.closed:
            self._path.unlink(missing_ok=True)
            self._file.close()

    def close(self) -> None:
        """Close the file in a forked child; the parent holds the lease as before."""
        self._file.close()


_held: WeakSet[Lease] = WeakSet()


def leave_to_parent() -> None:
    """Close all leases in a forked child."""
    for lease in list(_held):
        lease.close()


os.register_at_fork(after_in_child=leave_to_parent)


def beside(database: Path, token: str, kind: str) -> Path:
    """Return the name of a file beside the database that belongs to the owner with that token."""
    return database.with_name(f"{database.name}.{token}.{kind}")


def is_alive(database: Path, token: str) -> bool:
    """Tell whether any process holds the lease of `token`; False for what is no token."""
    if not re.fullmatch(_TOKEN, token):  # it comes from the file, and is about to be part of a path
        return False
    path = beside(database, token, "owner")
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
        lease, draft = (beside(database, match[1], kind) for kind in ("owner", "new"))
        with _if_dead(lease) as dead:
            for path in (*(Path(f"{draft}{suffix}") for suffix in SUFFIXES), lease) if dead else ():
                with suppress(OSError):
                    path.unlink(missing_ok=True)


@contextmanager
def _if_dead(lease: Path) -> Generator[bool]:
    """Tell whether no process holds a lease; if so, it is locked within the block."""
    try:
        file = FileIO(os.open(lease, os.O_RDWR | os.O_NOFOLLOW), "r+")
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
