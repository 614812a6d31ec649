"""The destination of a clip, checked before any money is spent."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NoReturn

from attrs import frozen

from ...errors import DownloadError, UsageError, VeniceError
from ...sansio.naming import Naming, checked_pattern, filled, in_folder, is_pattern
from ..shielding import in_thread

NO_VALUES: Final[Mapping[str, str]] = MappingProxyType({})
"""What is known of a job that nothing is known of."""

_KEY_LENGTH: Final = 16
_SHOWN: Final = 40  # characters of the final name within the part file's, at most 4 bytes each
_LONG_NAME: Final = 240  # bytes, to which a file system lets us add some
_CALLERS_FAULT: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP})
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
class Target:
    """The destination of a clip.

    Attributes:
        folder: the existing folder, absolute.
        name: the file's name, or the naming that gives it one.
        overwrite: whether a file of that name may be replaced.
    """

    folder: Path
    name: str | Naming
    overwrite: bool

    def path_for(self, queue_id: str) -> Path:
        """Return the file for a job: the one that was named, else the best that its naming gives."""
        name = self.name if isinstance(self.name, str) else next(self.name.names(queue_id))
        return self.folder / name


async def check_target(
    to: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    recovering: bool = False,
    values: Mapping[str, str] = NO_VALUES,
) -> Target:
    """Return where `to` leads, once it is sure that a file can be made there.

    `to` is a file, or a folder: one that exists, or any text that ends with a separator; or a pattern, of
    whose fields `values` are known, and whose folders are made. With `recovering` a file may be there
    already, for it may be the very clip: that is settled when the clip is published.

    Raises:
        UsageError: the folder is missing or not writable; the file exists, or cannot be one.
        DownloadError: the disk is full or fails.
    """
    return await in_thread(_check, to, overwrite, recovering, values)


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


def _check(
    to: str | os.PathLike[str],
    overwrite: bool,  # noqa: FBT001 - threads are passed positions only
    recovering: bool,  # noqa: FBT001
    values: Mapping[str, str],
) -> Target:
    try:
        return _find(os.fspath(to), values, overwrite=overwrite, may_exist=overwrite or recovering)
    except (TypeError, ValueError):
        _refuse(f"to= is not the path of a file or a folder: {to!r}", "Pass a path like 'clip.mp4'")


def _find(text: str, values: Mapping[str, str], *, overwrite: bool, may_exist: bool) -> Target:
    if not text:
        _refuse("to= is empty", "Pass a path like 'clip.mp4'")
    is_folder = text.endswith(("/", os.sep)) or os.path.isdir(text)  # noqa: PTH112 - unlike Path's it never raises
    name: str | Naming = in_folder(values)
    if is_folder:
        folder = path = Path(text).absolute()
    else:
        path = Path(text).absolute()
        folder, name = path.parent, path.name
        if is_pattern(text):
            if not folder.is_dir():
                folder = _made(checked_pattern(text).removesuffix(name), values)
            name = Naming(pattern=checked_pattern(name), values=values)
    _check_folder(folder)
    file = folder / (name if isinstance(name, str) else "clip.mp4")
    if isinstance(name, str):
        file = followed(path) if overwrite else path
        _check_folder(file.parent)
        _check_file(file, may_exist=may_exist)
    _try_writing(file)
    return Target(folder=folder, name=name, overwrite=overwrite)


def _made(pattern: str, values: Mapping[str, str]) -> Path:
    """Return the folder that a pattern leads to, made if the pattern names it."""
    folder = Path(filled(pattern, values)).absolute()
    try:
        if is_pattern(pattern):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def _check_folder(folder: Path) -> None:
    mode = _mode(folder)
    if mode is None:
        _refuse(f"There is no folder {str(folder)!r}", "Create it first, or choose another place")
    if not stat.S_ISDIR(mode):
        _refuse(f"{str(folder)!r} is not a folder", "Choose a file in a folder")


def _check_file(path: Path, *, may_exist: bool) -> None:
    mode = _mode(path)
    if mode is None:
        return
    if not stat.S_ISREG(mode):
        _refuse(f"{str(path)!r} exists and is not a plain file", "Choose another name")
    if not may_exist:
        _refuse(
            f"{str(path)!r} exists",
            "Choose another name, or pass overwrite=True to replace it",
            "Choose another name, or pass --overwrite to replace it",
        )


def _mode(path: Path) -> int | None:
    """Return what is there, if anything; a link that leads nowhere is something."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return path.lstat().st_mode if path.is_symlink() else None
    except OSError as error:
        raise _unwritable(path, error) from error


def _try_writing(path: Path) -> None:
    """Make a file and remove it: permissions, quotas and read-only mounts show in no other way."""
    probe = part_path(path, "probe")
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> VeniceError:
    failure = disk_error(path, error)  # of which the cause tells whether it is tried again
    if error.errno in _CALLERS_FAULT:
        return UsageError(failure.message, hint="Choose another place")
    return DownloadError(failure.message, hint="Make room or choose another place")


def _refuse(message: str, hint: str, cli_hint: str = "") -> NoReturn:
    raise UsageError(message, hint=hint, cli_hint=cli_hint)
