"""A clip on its way to disk: a hidden part file beside its target, which is renamed or removed in the end."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import hashlib
import os
import re
import secrets
import stat
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from anyio import CancelScope, get_cancelled_exc_class
from attrs import frozen

from ...errors import DownloadError
from ...sansio.clip.mp4 import is_quicktime
from ...sansio.naming import Naming
from ...sansio.object_url import ObjectUrl
from ..disk import is_out_of_descriptors, lasting_names, sync
from ..shielding import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

if sys.platform != "win32":
    import fcntl

T = TypeVar("T")

_MIB: Final = 1 << 20
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EROFS})
_FLAGS: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
_MOST_UNVERIFIED: Final = 9  # files of one name that are kept for a person
_KEY_LENGTH: Final = 16
_SHOWN: Final = 40  # characters of the final name within the part file's, at most 4 bytes each
_LONG_NAME: Final = 240  # bytes, to which a file system lets us add some
_REASONS: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file system takes no file of that size",
    errno.EACCES: "there is no permission to write there",
    errno.EPERM: "there is no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the disk reports an error",
    errno.ENOENT: "the folder is gone",
}


@frozen(kw_only=True)
class _Open:
    part: Path
    descriptor: int


class PartFile:
    """A `Sink` that writes a file: whole and flushed to disk, or none.

    Every system call runs in a worker thread, and one at a time: what a cancelled task has left running ends
    before `abort` tidies up after it. The part file is locked while it lives, so that what a killed process
    left behind can be told from what another one is writing.

    Attributes:
        url: how the file, or its folder, was given, if by a URL.
    """

    restartable: bool = True
    batch: int = _MIB
    """Bytes at once: a thread costs about 0.1 ms, a MiB about 1 ms to hash and write."""

    def __init__(
        self,
        path: Path,
        *,
        overwrite: bool,
        job_key: str,
        resumed: bool = True,
        naming: Naming | None = None,
        queue_id: str = "",
        url: ObjectUrl | None = None,
    ) -> None:
        """Write for `path`; `job_key` marks whose part file it is; `url` is how it was given, if as one.

        With `overwrite` a file at `path` is replaced, and the new one has its mode; a symbolic link is
        followed, and stays. Only a `resumed` job can have left something: for a new one the folder is not
        read. With a `naming` the file has the first of its names for job `queue_id` that is free, with the
        suffix of what came: `.mov` if it is a QuickTime file. Then a file is replaced only if its name is
        that of the job.
        """
        self.url: ObjectUrl | None = url
        self._path = path
        self._final = path
        self._overwrite = overwrite and (naming is None or naming.names_the_job)
        self._job_key = job_key
        self._resumed = resumed
        self._naming = naming
        self._queue_id = queue_id
        self._is_open = False
        self._file: _Open | None = None
        self._ended = False
        self._lock = threading.Lock()

    async def open(self) -> None:
        """Get ready; the part file is made by the first `write`, with what a killed process left removed."""
        if self._ended:
            raise self._over()
        self._is_open = True

    async def write(self, chunks: Sequence[bytes], *, first: Callable[[], None] | None = None) -> None:
        """Append the chunks, after doing what is to be done in the same thread `first`."""

        def write() -> None:
            descriptor = self._opened().descriptor
            if first is not None:
                first()
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(descriptor, view) :]

        await self._run(write)

    async def restart(self) -> None:
        """Empty the part file."""

        def empty() -> None:
            descriptor = self._opened().descriptor
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.ftruncate(descriptor, 0)

        await self._run(empty)

    async def commit(self) -> Path:
        """Flush the part file to disk and rename it.

        A file that is in the way and may not be replaced is an error, unless it is this clip, byte by byte.
        When cancelled half-way it still comes about as a whole.
        """

        def publish() -> None:
            file = self._opened()
            self._take_suffix(file.part)
            replaced = _found(self._final) if self._overwrite else None
            if replaced is not None and sys.platform != "win32":  # the new file is like it, as far as we may
                with contextlib.suppress(OSError):
                    os.fchown(file.descriptor, replaced.st_uid, replaced.st_gid)
                with contextlib.suppress(OSError):
                    os.fchmod(file.descriptor, stat.S_IMODE(replaced.st_mode) & 0o777)
            sync(file.descriptor)
            is_new = False
            try:
                with lasting_names(self._final.parent):
                    is_new = self._publish(file.part)
                    self._close()
            except OSError:
                if is_new:
                    _drop(self._final)  # what may be gone after a power failure must not look done
                raise

        await self._run(publish)
        return self._path

    async def set_aside(self, *, known_only: bool) -> Path | None:
        """Keep the part file under a name that says that it is not verified, and return that.

        None if it cannot be, or with `known_only` unless a file of such a name has the same bytes.
        """

        def keep() -> Path | None:
            file = self._opened()
            self._take_suffix(file.part)
            for number in range(1, _MOST_UNVERIFIED + 1):
                path = unverified_path(self._final, number)
                if os.path.lexists(path):
                    if _is_same(file.part, path):
                        return path
                elif known_only:
                    return None
                else:
                    sync(file.descriptor)
                    with lasting_names(path.parent):
                        _publish(file.part, path, overwrite=False)
                        self._close()
                    return path
            return None

        try:
            return await self._run(keep)
        except DownloadError:
            return None

    async def abort(self) -> None:
        """Remove the part file, in spite of any cancellation; a file that has its final name stays."""
        try:
            with CancelScope(shield=True):
                await in_thread(self._abort)
        except get_cancelled_exc_class():  # a task's own cancel() pierces the shield
            self._abort()
            raise

    async def _run(self, operation: Callable[[], T]) -> T:
        def guarded() -> T:
            with self._lock:
                if self._ended:
                    raise self._over()
                return operation()

        try:
            return await in_thread(guarded)
        except OSError as error:
            raise disk_error(self._path, error) from error.with_traceback(None)  # it holds pieces of the clip

    def _over(self) -> DownloadError:
        return DownloadError(f"The delivery to {str(self._path)!r} has ended")

    def _opened(self) -> _Open:
        if self._file is not None:
            return self._file
        if not self._is_open:
            msg = f"The delivery to {str(self._path)!r} is not open"
            raise DownloadError(msg)
        if self._overwrite:
            self._final = followed(self._path)
        if self._resumed:  # what killed processes left of the job goes; what a living one is writing stays
            with contextlib.suppress(OSError):
                for path in self._final.parent.iterdir():
                    if is_part_of(path.name, self._job_key):
                        with contextlib.suppress(OSError):
                            descriptor = os.open(path, os.O_WRONLY)
                            try:
                                if _try_lock(descriptor):
                                    path.unlink()
                            finally:
                                os.close(descriptor)
        part = part_path(self._final, self._job_key)
        replaced = _found(self._final) if self._overwrite else None
        mode = 0o666 if replaced is None else stat.S_IMODE(replaced.st_mode) & 0o666
        self._file = _Open(part=part, descriptor=os.open(part, _FLAGS, mode))
        _try_lock(self._file.descriptor)
        return self._file

    def _publish(self, part: Path) -> bool:
        """Give the part file its name, the first that is free, and return whether nothing had it before."""
        names = None if self._naming is None else self._naming.names(self._queue_id, self._path.suffix)
        same_is_ours = self._naming is None or self._naming.names_the_job
        while True:
            try:
                return _publish(part, self._final, overwrite=self._overwrite, same_is_ours=same_is_ours)
            except _TakenError:
                if names is None:
                    raise
            while (path := self._path.with_name(next(names))) == self._path:
                pass
            self._path = self._final = path

    def _take_suffix(self, part: Path) -> None:
        if self._naming is None:
            return
        with part.open("rb") as file:

            def read_at(place: int, count: int) -> bytes:
                file.seek(place)
                return file.read(count)

            if is_quicktime(read_at, part.stat().st_size):
                self._path = self._path.with_name(next(self._naming.names(self._queue_id, ".mov")))
                self._final = followed(self._path) if self._overwrite else self._path

    def _abort(self) -> None:
        with self._lock:
            if self._file is not None:
                _drop(self._file.part)
            self._close()

    def _close(self) -> None:
        self._ended = True
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # fsync has had its say
                os.close(file.descriptor)


def _found(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _try_lock(descriptor: int) -> bool:
    """Lock a part file for as long as it is open; return False if another one holds it, or none can."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class _TakenError(DownloadError):
    """Another file has the name."""


def _publish(part: Path, path: Path, *, overwrite: bool, same_is_ours: bool = True) -> bool:
    """Give `part` the name `path`: at any moment there is the old file, the new one, or none.

    Return whether nothing had that name before. With `same_is_ours` a file of the same bytes is this very
    clip, published before a crash.
    """
    is_new = not os.path.lexists(path)
    if overwrite:
        part.replace(path)
        return is_new
    try:
        path.hardlink_to(part)
    except FileExistsError:
        _require_same(part, path, same_is_ours=same_is_ours)
        is_new = False
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise
        # Whatever it is called, this file system has no links, and nothing better than a look.
        if not os.path.lexists(path):
            part.rename(path)
            return is_new
        _require_same(part, path, same_is_ours=same_is_ours)
    _drop(part)
    return is_new


def _drop(part: Path) -> None:
    with contextlib.suppress(OSError):  # what is left goes with the next delivery of its job
        part.unlink()


def _require_same(part: Path, path: Path, *, same_is_ours: bool) -> None:
    """Refuse a file that is in the way, unless it is this clip: published before a crash, and unrecorded."""
    if not (same_is_ours and _is_same(part, path)):
        msg = f"A file {str(path)!r} has appeared meanwhile, and was left as it is"
        what = "Move it away or choose another place, then"
        raise _TakenError(msg, hint=f"{what} call resume(ticket, to=...)", cli_hint=f"{what} resume the job")


def _is_same(part: Path, path: Path) -> bool:
    try:
        return filecmp.cmp(part, path, shallow=False)
    except OSError as error:
        if is_out_of_descriptors(error):
            raise
        return False


def job_key(model: str, queue_id: str) -> str:
    """Return a short name for a job, the same in every process, for the names of its part files."""
    return hashlib.sha256(f"{model}\0{queue_id}".encode(errors="surrogatepass")).hexdigest()[:_KEY_LENGTH]


def part_path(path: Path, key: str) -> Path:
    """Return a new, hidden name beside `path` for what is not yet a clip."""
    return path.parent / f".{path.name[:_SHOWN]}.{key}-{secrets.token_hex(4)}.part"


def unverified_path(path: Path, number: int) -> Path:
    """Return the name beside `path` of what came for it and could not be verified, the `number`-th such."""
    name = path.name if len(os.fsencode(path.name)) < _LONG_NAME else path.name[:_SHOWN]
    return path.with_name(f"{name}.unverified" if number == 1 else f"{name}.{number}.unverified")


def followed(path: Path) -> Path:
    """Return the file that is replaced at `path`: the one that a symbolic link there leads to in the end."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def is_part_of(name: str, key: str) -> bool:
    """Tell whether a file of that name is a part file of the job `key`."""
    return re.fullmatch(rf"\..*\.{re.escape(key)}-[0-9a-f]{{8}}\.part", name, re.DOTALL) is not None


def disk_error(path: Path, error: OSError) -> DownloadError:
    """Return what to raise when a file cannot be written: what failed, why, and what to do."""
    reason = _REASONS.get(error.errno or 0, error.strerror or type(error).__name__)
    message = f"The clip cannot be written to {str(path)!r}: {reason}"
    what = "Make room or choose another place, then"
    return DownloadError(
        message, hint=f"{what} call resume(ticket, to=...)", cli_hint=f"{what} resume the job"
    )
