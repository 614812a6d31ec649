"""Where a clip is to go, a file or an object: checked before it is paid for, filled by its sink."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeAlias
from urllib.request import url2pathname

import anyio
from attrs import evolve, frozen

from ...errors import UsageError
from ...results import Ticket
from ...sansio.naming import Naming, checked_pattern, filled, in_folder, is_pattern
from ...sansio.object_url import ObjectUrl, parse_object_url
from ..shielding import in_thread
from .object_store import check_object, object_size
from .part_file import PartFile
from .sinks import Sink
from .stores import ObjectPlace, place_in
from .target import NO_VALUES, Target, check_target, job_key

Place: TypeAlias = str | os.PathLike[str] | ObjectPlace
"""A file or folder, or an object or its folder."""


class CheckedDestination(Protocol):
    """A destination that was checked before anything is paid for."""

    @property
    def claim(self) -> Path | str | None:
        """What no other job may be bound for; None as long as the clip has no name."""
        ...

    def sink(self, ticket: Ticket, *, resumed: bool) -> Sink:
        """Return what makes the clip of a job; only a `resumed` one can have left something."""
        ...


@frozen(kw_only=True)
class FileDestination:
    """A file, or the folder where it is to be named after the job.

    Attributes:
        target: where it is.
        url: its `file:` URL, where it was given as one.
    """

    target: Target
    url: ObjectUrl | None = None

    @property
    def claim(self) -> Path | None:
        """The file, if it has a name."""
        return self.target.folder / self.target.name if isinstance(self.target.name, str) else None

    def sink(self, ticket: Ticket, *, resumed: bool) -> PartFile:
        """Return what writes the file of a job."""
        return PartFile(
            self.target.path_for(ticket.queue_id),
            overwrite=self.target.overwrite,
            job_key=job_key(ticket.model, ticket.queue_id),
            resumed=resumed,
            naming=self.target.name if isinstance(self.target.name, Naming) else None,
            queue_id=ticket.queue_id,
            url=self.url,
        )


async def check_destination(
    place: Place,
    *,
    overwrite: bool = False,
    recovering: bool = False,
    values: Mapping[str, str] = NO_VALUES,
) -> CheckedDestination:
    """Return a place once it is sure that a clip can be put there.

    With `recovering` something may be there already, for it may be the very clip: that is settled in the end.
    `values` are what the fields of a pattern stand for.

    Raises:
        UsageError: it cannot be used, or is taken.
        DownloadError: its disk is full or fails, its store cannot be reached.
    """
    if not isinstance(place, ObjectPlace):
        target = await check_target(place, overwrite=overwrite, recovering=recovering, values=values)
        return FileDestination(target=target)
    naming: Naming | None = None
    if place.url.is_folder:
        naming = in_folder(values)
    elif is_pattern(place.url.key):
        folder, _, name = checked_pattern(place.url.key).rpartition("/")
        naming = Naming(pattern=name, values=values)
        key = f"{filled(folder, values)}/" if folder else ""
        place = evolve(place, url=evolve(place.url, key=key))
    if place.url.scheme != "file":
        return await check_object(place, overwrite=overwrite, recovering=recovering, naming=naming)
    text = file_of(place.url)
    await in_thread(make_folder, Path(text) if place.url.is_folder else Path(text).parent)
    target = await check_target(text, overwrite=overwrite, recovering=recovering)
    return FileDestination(target=target if naming is None else evolve(target, name=naming), url=place.url)


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
    return await object_size(place)
