"""A clip on its way into an object store: under a temporary name until it is whole, then under its own.

A store shows an object only once it is complete, but the parts of a large one cannot be put on the condition
that nothing has its name yet, nor carry the digest of what is still to come. So:

| the clip | what is sent |
|---|---|
| up to `WHOLE` bytes | held in memory until it is verified, then put at once, on condition, with its digest |
| larger | parts to `FOLDER/.venice-async/JOB/…`; verified, completed, and then moved, on condition |

What a killed process leaves of a job lies below the job's own temporary prefix, where the next delivery of
the job removes it. Every call runs in tasks of obstore, of which there is one at a time: one that is on its
way when a job is cancelled is waited for before `abort` tidies up.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from ...errors import DownloadError, VeniceError
from ...sansio.clip.mp4 import suffix_of
from ...sansio.naming import Naming
from ..shielding import run_to_completion
from .s3_requests import RefusedError, S3Requests
from .stores import ObjectPlace, asked, listed, reason_of

if TYPE_CHECKING:
    from obstore import AsyncWritableFile

T = TypeVar("T")

WHOLE: Final = 8 << 20
"""Bytes up to which a clip is put at once. Most are smaller."""

PART: Final = 5 << 20
"""Bytes of a part, the least that S3 takes: 10,000 of them are 50 GB."""

AT_ONCE: Final = 2
"""Parts on their way at once: with one being filled, they bound the memory that an upload takes."""

_LONGEST: Final = 5.0  # seconds that a job which is given up waits for what it has on its way
_TYPES: Final = {".mp4": "video/mp4", ".mov": "video/quicktime"}
log: logging.Logger = logging.getLogger(__name__)


class ObjectUpload:
    """A `Sink` that makes an object: whole, verified, and with its digest as metadata, or none.

    Attributes:
        sha256: the digest of the whole clip, in hexadecimal; to be told before `commit`.
    """

    restartable: bool = True
    batch: int = 1 << 20

    def __init__(
        self,
        place: ObjectPlace,
        *,
        overwrite: bool,
        job_key: str,
        resumed: bool = True,
        naming: Naming | None = None,
        queue_id: str = "",
    ) -> None:
        """Make the object of `place`, which has its store; `job_key` marks whose temporary objects are whose.

        Only a `resumed` job can have left something. With a `naming`, `place` is a folder, and the object has
        the first of the names for job `queue_id` that is free, with the suffix of what came: `.mov` if it is
        a QuickTime file.
        """
        self.sha256: str = ""
        self._given = place
        self._naming = naming
        self._queue_id = queue_id
        self._suffix = ".mp4"
        self._place = next(self._places())
        assert place.store is not None  # noqa: S101 - it was opened to check the destination
        self._store = place.store
        self._is_ours = naming is None or naming.names_the_job  # what has the name: no other job may take it
        self._overwrite = overwrite and self._is_ours
        self._folder = place.temporary(job_key)
        self._resumed = resumed
        self._size = 0
        self._held: deque[bytes] = deque()
        self._temporary = ""
        self._writer: AsyncWritableFile | None = None
        self._running: asyncio.Future[Any] | None = None
        self._ended = False

    async def open(self) -> None:
        """Remove what a killed process left of the job."""
        if self._resumed:
            await self._ask(self._remove_leftovers())

    async def write(self, chunks: Sequence[bytes]) -> None:
        """Append the chunks: full parts are uploaded, and waited for if too many are on their way."""
        self._held += chunks
        self._size += sum(map(len, chunks))
        if self._writer is None:
            self._suffix = suffix_of(self._held)
        if self._writer is None and self._size > WHOLE:
            import obstore  # noqa: PLC0415 - it is loaded: the destination was checked with it

            self._temporary = f"{self._folder}/{secrets.token_hex(4)}.part"
            self._writer = obstore.open_writer_async(
                self._store,
                self._temporary,
                attributes={"Content-Type": _TYPES[self._suffix]},
                buffer_size=PART,
                max_concurrency=AT_ONCE,
            )
        while self._writer is not None and self._held:
            await self._ask(self._writer.write(self._held.popleft()))

    async def restart(self) -> None:
        """Forget everything written."""
        await self._discard()
        self._held.clear()
        self._size, self._writer = 0, None

    async def commit(self) -> str:
        """Give the object its name, and return its URL.

        An object of that name which may not be replaced is an error, unless it is this very clip. A
        cancellation leaves the whole object, or none.
        """
        if self._writer is not None:
            await self._ask(self._writer.close())
        await self._ask(self._publish())
        self._ended = True
        self._held.clear()
        return str(self._place)

    async def abort(self) -> None:
        """Remove what was written, in spite of any cancellation; an object that has its final name stays."""
        if not self._ended:
            self._ended = True
            self._held.clear()
            await run_to_completion(self._discard())

    def _places(self) -> Iterator[ObjectPlace]:
        """Yield the places that the object may have, the best first."""
        if self._naming is None:
            yield self._given
        else:
            yield from map(self._given.named, self._naming.names(self._queue_id, self._suffix))

    async def _ask(self, call: Awaitable[T]) -> T:
        """Return the result of a call. A cancellation leaves it running: `abort` waits for it."""
        running: asyncio.Future[T] = asyncio.ensure_future(asked(call, self._place))
        self._running = running
        await asyncio.wait({running})
        return running.result()

    async def _publish(self) -> None:
        """Make the object, under the first of its names that no other object has.

        One of the same bytes was made by this job before a crash, unless its name may be that of another.
        """
        if self._writer is not None:
            stored = (await self._store.head_async(self._temporary))["size"]
            if stored != self._size:
                msg = f"The store has kept {stored} of the {self._size} bytes of the clip"
                raise DownloadError(msg)
        taken: Exception | None = None
        for place in self._places():
            self._place = place
            try:
                if self._writer is not None:
                    return await self._move()
                await self._store.put_async(
                    place.key,
                    list(self._held),
                    attributes={"Content-Type": _TYPES[self._suffix], "sha256": self.sha256},
                    mode="overwrite" if self._overwrite else "create",
                    use_multipart=False,
                )
            except Exception as error:
                if type(error).__name__ != "AlreadyExistsError":
                    raise
                taken = error
            else:
                return None
            if self._is_ours:
                found = await self._store.get_async(place.key)
                digest = hashlib.sha256()
                if found.meta["size"] == self._size:
                    async for chunk in found.stream():
                        digest.update(chunk)
                if digest.hexdigest() == self.sha256:
                    return await self._remove_leftovers()
        assert taken is not None  # noqa: S101 - there is at least one place
        raise taken

    async def _move(self) -> None:
        """Move the temporary object to its name; on S3 with its digest, where we can and may ask for that."""
        s3 = await S3Requests.of(self._store)
        if s3 is not None:
            about = {"content-type": _TYPES[self._suffix], "x-amz-meta-sha256": self.sha256}
            source = self._place.prefix + self._temporary
            try:
                await s3.move(source, self._place.url.key, about, overwrite=self._overwrite)
            except RefusedError as error:
                log.info("The clip is moved without its digest: %s", reason_of(error))
            else:
                return
        await self._store.rename_async(self._temporary, self._place.key, overwrite=self._overwrite)

    async def _discard(self) -> None:
        """End the upload and remove its temporary object, if the store answers in time."""
        running, writer = self._running, self._writer

        async def clean_up() -> None:
            if running is not None:
                await asyncio.wait({running})
            if writer is not None:
                reason = DownloadError("The delivery has ended")
                with suppress(Exception):  # it may be over; what is left then, goes now
                    await writer.__aexit__(type(reason), reason, None)  # pyright: ignore[reportUnknownMemberType]
                await self._remove_leftovers()

        if writer is None and running is None:
            return
        with anyio.move_on_after(_LONGEST):
            try:
                await asked(clean_up(), self._place)
            except VeniceError as error:
                log.warning("A part of a clip is left until its job is resumed: %s", error.message)

    async def _remove_leftovers(self) -> None:
        """Remove the temporary objects of the job, and abort its uploads.

        Where such an object is whole, its move may have been under way, which is an upload of the very name.
        """
        left = await listed(self._store, self._folder)
        key = self._place.url.key
        try:
            if (s3 := await S3Requests.of(self._store)) is not None:
                begun = await s3.uploads(f"{self._place.prefix}{self._folder}/")
                if left:
                    begun += [found for found in await s3.uploads(key) if found[0] == key]
                for name, upload in begun:
                    await s3.abort(name, upload)
        except RefusedError as error:
            log.warning(
                "Uploads that were never completed may be left in %s: %s", self._folder, reason_of(error)
            )
        if left:
            await self._store.delete_async(left)
