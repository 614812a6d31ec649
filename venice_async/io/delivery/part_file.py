"""A clip on its way to disk: a hidden part file beside its target, which takes its name or vanishes."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import sys
import threading
from typing import TYPE_CHECKING, Final

from anyio import CancelScope, get_cancelled_exc_class
from attrs import frozen

from ...errors import DownloadError
from ..shielding import in_thread
from .target import disk_error, is_part_of, part_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

if sys.platform != "win32":
    import fcntl

_MIB: Final = 1 << 20
_NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EMLINK}
)
_NO_FOLDER_SYNC: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.EACCES, errno.EBADF})
_FLAGS: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)


@frozen(kw_only=True)
class _Open:
    part: Path
    descriptor: int


class PartFile:
    """A `Sink` that ends in a file, whole and on stable storage, or in nothing.

    Every system call runs in a worker thread, and one at a time: what a cancelled task has left running ends
    before `abort` tidies up after it. The part file is locked while it lives, so that what a killed process
    left behind can be told from what another one is writing.
    """

    restartable: bool = True
    batch: int = _MIB
    """Bytes at once: a thread costs about 0.1 ms, a MiB about 1 ms to hash and write."""

    def __init__(
        self, path: Path, *, overwrite: bool, job_key: str, resumed: bool = True, hold: int = 0
    ) -> None:
        """Write for `path`, which is replaced only if `overwrite`; `job_key` marks whose part file it is.

        Only a `resumed` job can have left something: for a new one the folder is not read. Up to `hold` bytes
        stay in memory until `commit`, so that a small clip costs one call of a thread instead of three.
        """
        self._path = path
        self._overwrite = overwrite
        self._job_key = job_key
        self._resumed = resumed
        self._hold = hold
        self._held: list[bytes] = []
        self._file: _Open | None = None
        self._ended = False
        self._lock = threading.Lock()

    async def open(self) -> None:
        """Create the part file, and remove what a killed process left of the same job.

        With `hold` that is left to the first bytes that are written to the disk.
        """
        if not self._hold:
            await self._run(self._open)

    async def write(self, chunks: Sequence[bytes]) -> None:
        """Append the chunks."""
        self._held += chunks
        if self._file is not None or sum(map(len, self._held)) > self._hold:
            await self._run(self._write)

    async def restart(self) -> None:
        """Empty the part file."""
        await self._run(self._restart)

    async def commit(self) -> Path:
        """Bring the part file to stable storage and give it its name.

        A file that is in the way and may not be replaced is an error, unless it is this clip, byte by byte.
        When cancelled half-way it still comes about as a whole.
        """
        await self._run(self._commit)
        return self._path

    async def abort(self) -> None:
        """Remove the part file, in spite of any cancellation; a file that has its final name stays."""
        try:
            with CancelScope(shield=True):
                await in_thread(self._abort)
        except get_cancelled_exc_class():  # a task's own cancel() pierces the shield
            self._abort()
            raise

    async def _run(self, operation: Callable[[], None]) -> None:
        try:
            await in_thread(self._guarded, operation)
        except OSError as error:
            raise disk_error(self._path, error) from error.with_traceback(None)  # it holds pieces of the clip

    def _guarded(self, operation: Callable[[], None]) -> None:
        with self._lock:
            if self._ended:
                msg = f"The delivery to {str(self._path)!r} has ended"
                raise DownloadError(msg)
            operation()

    def _open(self) -> None:
        if self._resumed:
            _remove_leftovers(self._path.parent, self._job_key)
        part = part_path(self._path, self._job_key)
        self._file = _Open(part=part, descriptor=os.open(part, _FLAGS, 0o666))
        _try_lock(self._file.descriptor)

    def _write(self) -> None:
        descriptor = self._opened().descriptor
        chunks, self._held = self._held, []
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(descriptor, view) :]

    def _restart(self) -> None:
        self._held = []
        descriptor = self._opened().descriptor
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.ftruncate(descriptor, 0)

    def _commit(self) -> None:
        self._write()
        file = self._opened()
        os.fsync(file.descriptor)
        is_new = _publish(file.part, self._path, overwrite=self._overwrite)
        self._close()
        try:
            _sync_folder(self._path.parent)
        except OSError:
            if is_new:
                _drop(self._path)  # what may be gone after a power failure must not look done
            raise

    def _abort(self) -> None:
        with self._lock:
            if self._file is not None:
                _drop(self._file.part)
            self._close()

    def _opened(self) -> _Open:
        if self._file is None and self._hold:
            self._open()
        if self._file is None:
            msg = f"The delivery to {str(self._path)!r} is not open"
            raise DownloadError(msg)
        return self._file

    def _close(self) -> None:
        self._ended, self._held = True, []
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # fsync has had its say
                os.close(file.descriptor)


def _remove_leftovers(folder: Path, job_key: str) -> None:
    """Remove what killed processes left of a job in `folder`; what a living one is writing stays."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if is_part_of(path.name, job_key):
                _remove_if_dead(path)


def _remove_if_dead(part: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(part, os.O_WRONLY)
        try:
            if _try_lock(descriptor):
                part.unlink()
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Lock a part file for as long as it is open; return False if another one holds it, or none can."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _publish(part: Path, path: Path, *, overwrite: bool) -> bool:
    """Give `part` the name `path`: at any moment there is the old file, the new one, or none.

    Return whether nothing had that name before.
    """
    is_new = not os.path.lexists(path)
    if overwrite:
        part.replace(path)
        return is_new
    try:
        path.hardlink_to(part)
    except FileExistsError:
        _require_same(part, path)
        is_new = False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _publish_without_links(part, path)
        return is_new
    _drop(part)
    return is_new


def _publish_without_links(part: Path, path: Path) -> None:
    """Rename after a look, where the file system has nothing better."""
    if os.path.lexists(path):
        _require_same(part, path)
        _drop(part)
    else:
        part.rename(path)


def _drop(part: Path) -> None:
    with contextlib.suppress(OSError):  # what is left goes with the next delivery of its job
        part.unlink()


def _require_same(part: Path, path: Path) -> None:
    """Refuse a file that is in the way, unless it is this clip: published before a crash, and unrecorded."""
    with contextlib.suppress(OSError):
        if filecmp.cmp(part, path, shallow=False):
            return
    msg = f"A file {str(path)!r} has appeared meanwhile, and was left as it is"
    raise DownloadError(msg, hint="Move it away or choose another place, then call resume(ticket, to=...)")


def _sync_folder(folder: Path) -> None:
    """Make the new name last; some file systems, and folders that one may not list, have no way to."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
