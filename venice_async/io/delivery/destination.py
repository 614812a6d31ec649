"""Where a clip is to go, a file or an object: checked before it is paid for, filled by its sink."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias
from urllib.request import url2pathname

import anyio
from attrs import evolve, field, frozen

from ...errors import DownloadError, UsageError, VeniceError
from ...results import Ticket
from ...sansio.naming import (
    Naming,
    ObjectUrl,
    checked_pattern,
    filled,
    in_folder,
    is_pattern,
    parse_object_url,
)
from ..disk import absolute
from ..shielding import in_thread
from .part_file import PartFile, disk_error, followed, job_key
from .stores import ObjectPlace, asked, listed, place_in, size_of, stores

if TYPE_CHECKING:
    from .object_store import ObjectUpload

Place: TypeAlias = str | os.PathLike[str] | ObjectPlace
"""A file or folder, or an object or its folder."""

NO_VALUES: Final[Mapping[str, str]] = MappingProxyType({})
"""What is known of a job that nothing is known of."""

_CALLERS_FAULT: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP})


@frozen(kw_only=True)
class Destination:
    """Where a clip is to go, checked before anything is paid for.

    Attributes:
        place: the file, absolute, or the object; with a naming, the folder where it gives the clip a name.
        overwrite: whether what has that name may be replaced.
        naming: what gives a clip in a folder its name.
        url: the `file:` URL of a file or folder, where it was given as one.
        claim: the file, where its folder and links really lead, or the object: no other job may be bound for
            it. None as long as the clip has no name.
    """

    place: Path | ObjectPlace
    overwrite: bool
    naming: Naming | None = None
    url: ObjectUrl | None = None
    claim: str | None = field(default=None, eq=False)

    def sink(self, ticket: Ticket, *, resumed: bool) -> PartFile | ObjectUpload:
        """Return what makes the clip of a job; only a `resumed` one can have left something."""
        options: Any = {
            "overwrite": self.overwrite,
            "job_key": job_key(ticket.model, ticket.queue_id),
            "resumed": resumed,
            "naming": self.naming,
            "queue_id": ticket.queue_id,
        }
        if isinstance(self.place, ObjectPlace):
            from .object_store import ObjectUpload  # noqa: PLC0415 - it loads the network, which files do without

            return ObjectUpload(self.place, **options)
        return PartFile(self.place, url=self.url, **options)


async def check_destination(
    place: Place,
    *,
    overwrite: bool = False,
    recovering: bool = False,
    values: Mapping[str, str] = NO_VALUES,
) -> Destination:
    """Return a place once it is sure that a clip can be put there.

    With `recovering` something may be there already, for it may be the very clip: that is settled in the end.
    `values` are what the fields of a pattern stand for.

    Raises:
        UsageError: it cannot be used, or is taken; the bucket is missing or refuses us; obstore is missing.
        DownloadError: its disk is full or fails, its store cannot be reached.
    """
    url = place.url if isinstance(place, ObjectPlace) and place.url.scheme == "file" else None
    if url is not None or not isinstance(place, ObjectPlace):
        try:
            text = file_of(place.url) if isinstance(place, ObjectPlace) else os.fspath(place)
            may_exist = overwrite or recovering
            check = partial(_checked_path, text, values, overwrite=overwrite, may_exist=may_exist, url=url)
            return await in_thread(check)
        except (TypeError, ValueError):
            _refuse(f"to= is not the path of a file or a folder: {place!r}", "Pass a path like 'clip.mp4'")
    naming: Naming | None = None
    if place.url.is_folder:
        naming = in_folder(values)
    elif is_pattern(place.url.key):
        folder, _, name = checked_pattern(place.url.key).rpartition("/")
        naming = Naming(pattern=name, values=values)
        key = f"{filled(folder, values)}/" if folder else ""
        place = evolve(place, url=evolve(place.url, key=key))
    quick, store = await in_thread(stores, place)
    if not (overwrite or recovering or naming) and await size_of(quick, place) is not None:
        _refuse_taken(str(place))
    await asked(listed(quick, place.temporary("probe")), place, before=True)
    claim = None if naming else str(place)
    return Destination(place=evolve(place, store=store), overwrite=overwrite, naming=naming, claim=claim)


def _checked_path(
    text: str, values: Mapping[str, str], *, overwrite: bool, may_exist: bool, url: ObjectUrl | None
) -> Destination:
    """Return where a path leads, once a file could be written there; `url` is how it was given, if as one.

    The path is that of a file or a folder, or a pattern. A folder exists, or its path ends with a separator.
    The folders of a pattern and of a URL are made.
    """
    if not text:
        _refuse("to= is empty", "Pass a path like 'clip.mp4'")
    place = absolute(text)
    folder, naming = place, None
    if text.endswith(("/", os.sep)) or os.path.isdir(text):  # noqa: PTH112 - unlike Path's it never raises
        naming = in_folder(values)
    else:
        folder = place.parent
        if is_pattern(text):
            if not folder.is_dir():
                above = checked_pattern(text).removesuffix(place.name)
                folder = absolute(filled(above, values))
                try:
                    if is_pattern(above):
                        folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise _unwritable(folder, error) from error
            naming = Naming(pattern=checked_pattern(place.name), values=values)
    if url is not None:
        make_folder(folder)
    file = folder / "clip.mp4" if naming else followed(place) if overwrite else place
    for each in (folder, file.parent):
        mode = _mode(each)
        if mode is None:
            _refuse(f"There is no folder {str(each)!r}", "Create it first, or choose another place")
        if not stat.S_ISDIR(mode):
            _refuse(f"{str(each)!r} is not a folder", "Choose a file in a folder")
    mode = None if naming else _mode(file)
    if mode is not None and not stat.S_ISREG(mode):
        _refuse(f"{str(file)!r} exists and is not a plain file", "Choose another name")
    if mode is not None and not may_exist:
        _refuse_taken(str(file))
    try:
        _probe(file.parent)
        if mode is not None and overwrite:
            around, owner = file.parent.stat(), file.stat().st_uid
            if around.st_mode & stat.S_ISVTX and os.geteuid() not in {0, owner, around.st_uid}:
                raise PermissionError(
                    errno.EPERM, "a sticky folder"
                )  # others' files cannot be replaced there
    except OSError as error:
        raise _unwritable(file, error) from error
    if naming is None:
        return Destination(place=place, overwrite=overwrite, url=url, claim=os.path.realpath(file))
    if url is not None and not url.is_folder:
        url = parse_object_url(f"{folder.as_uri()}/")
    return Destination(place=folder, overwrite=overwrite, naming=naming, url=url)


def file_of(url: ObjectUrl) -> str:
    """Return the path that a `file:` URL stands for; a folder's ends with a slash."""
    return url2pathname(f"/{url.key}")


def make_folder(folder: Path) -> None:
    """Make a folder, for a store of files has as little need of one as any other.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"The folder {str(folder)!r} cannot be made: {error.strerror}"
        raise UsageError(msg, hint="Choose another folder") from error


async def size_at(url: str, store: object = None) -> int | None:
    """Return the size in bytes of the clip at a URL, in `store` if one was passed; None if it is gone.

    Raises:
        UsageError: its store cannot be used.
        DownloadError: its store cannot be reached.
        OSError: the file of a `file:` URL cannot be looked at.
    """
    place = ObjectPlace(url=parse_object_url(url)) if store is None else place_in(store, url)
    if place.url.scheme == "file":
        return (await anyio.Path(file_of(place.url)).stat()).st_size
    quick, _ = await in_thread(stores, place)
    return await size_of(quick, place)


def _probe(folder: Path) -> None:
    """Write and remove a file of one byte: permissions, quotas and a full disk show in no other way.

    A process that is killed meanwhile leaves nothing where the file system has files without a name;
    elsewhere it leaves a file that the next check of the folder removes, as it has the same name.

    Raises:
        OSError: no file can be made there.
    """
    named: Path | None = None
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600)
    except (OSError, AttributeError):  # not every file system can, and not every POSIX system
        named = folder / f".venice-async-{os.getuid()}.part"
        descriptor = os.open(named, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        os.write(descriptor, b"\0")
    finally:
        os.close(descriptor)
        if named is not None:
            named.unlink(missing_ok=True)  # another check may have removed it


def _mode(path: Path) -> int | None:
    """Return what is there, if anything; a link that leads nowhere is something."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return path.lstat().st_mode if path.is_symlink() else None
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> VeniceError:
    failure = disk_error(path, error)  # of which the cause tells whether it is tried again
    if error.errno in _CALLERS_FAULT:
        return UsageError(failure.message, hint="Choose another place")
    return DownloadError(failure.message, hint="Make room or choose another place")


def _refuse(message: str, hint: str) -> NoReturn:
    raise UsageError(message, hint=hint)


def _refuse_taken(place: str) -> NoReturn:
    what = "Choose another name, or pass"
    msg = f"{place!r} exists"
    raise UsageError(
        msg, hint=f"{what} overwrite=True to replace it", cli_hint=f"{what} --overwrite to replace it"
    )
