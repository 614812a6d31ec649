"""Flushing files and their names to disk, whatever the file system; waiting for a free file descriptor."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import resource
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ..errors import UsageError

_FAILED: Final = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
_PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8, *[1.0] * 600)  # seconds between two attempts
_WARN_AFTER: Final = 5  # pauses
_SHARE: Final = 4  # of all descriptors, deliveries take two of so many

log: logging.Logger = logging.getLogger(__name__)


def is_out_of_descriptors(error: BaseException | None) -> bool:
    """Tell whether the process or the system had no file descriptor left, which is temporary."""
    return isinstance(error, OSError) and error.errno in _OUT_OF_DESCRIPTORS


def descriptor_error() -> OSError | None:
    """Return the error of a file that cannot be opened, if no file descriptor is left."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error
    return None


def deliveries_at_once() -> int:
    """Return how many clips may come at once: each holds a socket and a file, half stay free."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else max(1, limit // _SHARE)


def pause_for_descriptor(error: Exception, attempt: int) -> float | None:
    """Return the seconds to wait before the next attempt, if `error` says that no file descriptor was left.

    None for any other error, and after ten minutes; `attempt` counts from 0. One that failed so must have
    changed nothing.
    """
    scarce = is_out_of_descriptors(error) or is_out_of_descriptors(error.__cause__)
    if not scarce or attempt == len(_PAUSES):
        return None
    if attempt == _WARN_AFTER:
        log.warning("No file descriptor is left: waiting for one. Raise the limit with ulimit -n")
    return _PAUSES[attempt]


def sync(descriptor: int) -> None:
    """Flush a file to disk. A pipe or a network disk that cannot flush is left as it is.

    On macOS, where fsync stops at the drive's cache, the drive is told to empty that too.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None)
    try:
        if full is not None:
            with suppress(OSError):
                fcntl.fcntl(descriptor, full)
                return
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def sync_soon(descriptor: int, start: int, end: int) -> None:
    """Ask the system to begin flushing these bytes of a file, so that `sync` has little left to wait for.

    Linux does so; other systems ignore the hint or lack it. Bytes that are not flushed yet stay cached.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, start, end - start, os.POSIX_FADV_DONTNEED)


@contextmanager
def lasting_names(folder: Path) -> Generator[None]:
    """Sync a folder after the block, in which a file gets its name, if that is possible and permitted.

    The folder is opened beforehand: without a file descriptor it fails before anything has its name.
    """
    descriptor: int | None = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if is_out_of_descriptors(error):
            raise
    try:
        yield
        if descriptor is not None:
            try:
                os.fsync(descriptor)
            except OSError as error:
                if error.errno in _FAILED:
                    raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path.

    Raises:
        UsageError: it is relative, and the current folder is gone.
    """
    try:
        return Path(path).absolute()
    except FileNotFoundError:
        msg = f"The current folder is gone, in which {os.fspath(path)!r} would be"
        raise UsageError(msg, hint="Go to a folder that exists, or pass an absolute path") from None
