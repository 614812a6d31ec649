"""What file systems do differently: making a file last, and making its name last."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

if sys.platform != "win32":
    import fcntl

_FAILED: Final = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


def is_out_of_descriptors(error: BaseException | None) -> bool:
    """Tell whether the process or the system had no file descriptor left, which passes."""
    return isinstance(error, OSError) and error.errno in _OUT_OF_DESCRIPTORS


def sync(descriptor: int) -> None:
    """Bring a file to stable storage; one that cannot be, on a pipe or some network disks, is as it is.

    On macOS, where fsync stops at the drive's cache, the drive is told to empty that too.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None) if sys.platform != "win32" else None
    try:
        if full is not None:
            try:
                fcntl.fcntl(descriptor, full)
            except OSError:
                pass
            else:
                return
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


@contextmanager
def lasting_names(folder: Path) -> Generator[None]:
    """Make what is named within the block last, if the file system can sync a folder and we may open it.

    The folder is opened beforehand: a process that has no descriptor left finds out before anything is named.
    """
    if sys.platform == "win32":
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if is_out_of_descriptors(error):
            raise
        descriptor = None
    try:
        yield
        if descriptor is not None:
            _sync_folder(descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _sync_folder(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in _FAILED:
            raise
