"""A clip on its way to disk: a hidden part file beside its target, which is renamed or removed in the end."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import filecmp
import hashlib
import os
import re
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import anyio

from ...errors import DownloadError
from ...sansio.clip.mp4 import suffix_of
from ...sansio.naming import Naming, ObjectUrl
from ..disk import is_out_of_descriptors, lasting_names, sync, sync_soon
from ..shielding import in_thread, run_to_completion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EROFS})
_MOST_UNVERIFIED: Final = 9  # files of one name that are kept for a person
_FLUSHED: Final = 8 << 20  # bytes after which a flush is begun; a disk prefers long runs
_HEAD: Final = 256  # bytes: enough to tell the type of the file
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


class PartFile:
    """A `Sink` that writes a file: whole and flushed to disk, or none.

    All system calls run in worker threads, one at a time: one task uses it, and waits for its thread even if
    it is cancelled. The part file is locked while it is open, so that one that a killed process left can be
    told from one that another process is writing.
    """

    restartable: bool = True
    batch: int = 3 << 18
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
        read. With a `naming`, `path` is a folder, and the file has the first of the names for job `queue_id`
        that is free, with the suffix of what came: `.mov` if it is a QuickTime file. Then a file is replaced
        only if its name is that of the job.
        """
        self._given = path
        self._is_ours = naming is None or naming.names_the_job  # what has the name: no other job may take it
        self._overwrite = overwrite and self._is_ours
        self._job_key = job_key
        self._resumed = resumed
        self._naming = naming
        self._queue_id = queue_id
        self._path = path if naming is None else path / next(naming.names(queue_id))
        self._url = url
        self._part: Path | None = None
        self._descriptor = -1
        self._flushed = 0  # bytes whose flush was begun
        self._ended = False

    async def open(self) -> None:
        """Do nothing: the first `write` creates the part file, and removes those of killed processes."""

    async def write(self, chunks: Sequence[bytes], *, first: Callable[[], None] | None = None) -> None:
        """Call `first`, then append the chunks, both in one worker thread."""

        def append() -> None:
            self._opened()
            if first is not None:
                first()
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[os.write(self._descriptor, view) :]
            written = os.lseek(self._descriptor, 0, os.SEEK_CUR) // _FLUSHED * _FLUSHED
            if written > self._flushed:
                sync_soon(self._descriptor, self._flushed, written)
                self._flushed = written

        await self._run(append)

    async def restart(self) -> None:
        """Empty the part file."""

        def empty() -> None:
            self._opened()
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.ftruncate(self._descriptor, 0)
            self._flushed = 0

        await self._run(empty)

    async def commit(self) -> Path | str:
        """Flush the part file to disk and rename it; return its path, or its URL if it was given as one.

        A file of that name which may not be replaced is an error, unless it is this clip, byte by byte. A
        cancellation does not stop it half-way.
        """

        def publish() -> None:
            part = self._opened()
            paths = self._paths()
            path = next(paths)
            final = self._target(path)
            if self._overwrite and (replaced := _found(final)):  # the new file is like it, as far as we may
                with contextlib.suppress(OSError):
                    os.fchown(self._descriptor, replaced.st_uid, replaced.st_gid)
                with contextlib.suppress(OSError):
                    os.fchmod(self._descriptor, stat.S_IMODE(replaced.st_mode) & 0o777)
            sync(self._descriptor)
            is_new = False
            try:
                with lasting_names(final.parent):
                    if self._overwrite:
                        is_new = not os.path.lexists(final)
                        part.replace(final)
                    else:
                        while not (is_new := _took(part, final)):
                            if self._is_ours and _is_same(part, final):  # published before a crash
                                _drop(part)
                                break
                            try:
                                path = final = next(paths)
                            except StopIteration:
                                raise _taken(final) from None
                    self._close()
            except OSError:
                if is_new:
                    _drop(final)  # a name that a power failure may undo must not look done
                raise
            self._path = path

        with anyio.CancelScope(shield=True):  # a file that has its final name is reported
            await self._run(publish)
        return self._path if self._url is None else str(self._url.named(self._path.name))

    async def set_aside(self, *, known_only: bool) -> Path | None:
        """Rename the part file to a name that says it is not verified, and return that path.

        None if that fails. With `known_only` nothing is renamed: None unless such a file has the same bytes.
        """

        def keep() -> Path | None:
            part = self._opened()
            path = self._target(next(self._paths()))  # on the part file's own file system
            for number in range(1, _MOST_UNVERIFIED + 1):
                kept = unverified_path(path, number)
                if os.path.lexists(kept):
                    if _is_same(part, kept):
                        return kept
                elif known_only:
                    return None
                else:
                    sync(self._descriptor)
                    with lasting_names(kept.parent):
                        _took(part, kept)
                        self._close()
                    return kept
            return None

        with contextlib.suppress(DownloadError):
            return await self._run(keep)
        return None

    async def abort(self) -> None:
        """Remove the part file, in spite of any cancellation; a file that has its final name stays."""

        def end() -> None:
            if self._part is not None:
                _drop(self._part)
            self._close()

        await run_to_completion(in_thread(end))

    async def _run(self, operation: Callable[[], T]) -> T:
        """Return what `operation` returns in a worker thread, unless the delivery has ended."""
        if self._ended:
            msg = f"The delivery to {str(self._path)!r} has ended"
            raise DownloadError(msg)
        try:
            return await in_thread(operation)
        except OSError as error:
            raise disk_error(self._path, error) from error.with_traceback(None)  # it holds pieces of the clip

    def _opened(self) -> Path:
        """Return the part file, which the first call creates."""
        if self._part is not None:
            return self._part
        final = self._target(self._path)
        if self._resumed:  # remove part files of the job that killed processes left: nobody locks them
            with contextlib.suppress(OSError):
                for path in final.parent.iterdir():
                    if is_part_of(path.name, self._job_key):
                        with contextlib.suppress(OSError):
                            descriptor = os.open(path, os.O_WRONLY)
                            try:
                                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                                path.unlink()
                            finally:
                                os.close(descriptor)
        part = part_path(final, self._job_key)
        replaced = _found(final) if self._overwrite else None
        mode = 0o666 if replaced is None else stat.S_IMODE(replaced.st_mode) & 0o666
        self._descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)
        self._part = part
        with contextlib.suppress(OSError):  # without locks no file that is left is ever removed
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return part

    def _target(self, path: Path) -> Path:
        """Return the file at `path`, or the one that a symbolic link there leads to if it is replaced."""
        return followed(path) if self._overwrite else path

    def _paths(self) -> Iterator[Path]:
        """Yield the paths that the file, which is written, may have: the best first."""
        if self._naming is None:
            yield self._given
        else:
            suffix = suffix_of([os.pread(self._descriptor, _HEAD, 0)])
            yield from map(self._given.joinpath, self._naming.names(self._queue_id, suffix))

    def _close(self) -> None:
        self._ended = True
        if self._part is not None:
            self._part = None
            with contextlib.suppress(OSError):  # fsync has reported what there is to report
                os.close(self._descriptor)


def _found(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _took(part: Path, path: Path) -> bool:
    """Give `part` the name `path`, if nothing has it, and tell whether."""
    try:
        path.hardlink_to(part)
    except FileExistsError:
        return False
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise
        # Whatever the error is, this file system has no links: check, then rename, is all that is left.
        if os.path.lexists(path):
            return False
        part.rename(path)
    else:
        _drop(part)
    return True


def _drop(part: Path) -> None:
    with contextlib.suppress(OSError):  # the next delivery of the job removes it
        part.unlink()


def _taken(path: Path) -> DownloadError:
    msg = f"A file {str(path)!r} has appeared meanwhile, and was left as it is"
    what = "Move it away or choose another place, then"
    return DownloadError(msg, hint=f"{what} call resume(ticket, to=...)", cli_hint=f"{what} resume the job")


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


def part_path(path: Path, key: str, token: str | None = None) -> Path:
    """Return a hidden name beside `path` for what is not there yet: a new one without a `token`."""
    return path.parent / f".{path.name[:_SHOWN]}.{key}-{token or secrets.token_hex(4)}.part"


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
