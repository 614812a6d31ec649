"""One clip on its way to one sink, over as many answers as it takes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio
from attrs import frozen

from ...errors import (
    DownloadError,
    NotAVideoError,
    ProtocolError,
    TransportError,
    TruncatedError,
    VeniceError,
)
from ...sansio.clip.ranges import (
    FromStart,
    NothingMissing,
    Onward,
    Unusable,
    judge,
    request_headers,
)
from .reading import (
    ChunkBuffer,
    Chunks,
    Progress,
    Reading,
    SpeedFloor,
    SpeedGuard,
    closing,
    split,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from anyio.abc import TaskGroup
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from ..transport import Clock, Response
    from .sinks import Sink

    Batches: TypeAlias = MemoryObjectReceiveStream[Chunks]
    BatchesOnward: TypeAlias = MemoryObjectSendStream[Chunks]

SMALL: Final = 1 << 18  # bytes: to work on them at the same time gains less than its tasks and threads cost
CAN_GO_ON: Final = (TransportError, ProtocolError, TruncatedError, NotAVideoError)
"""After these another answer may bring the rest."""


@frozen(kw_only=True)
class SavedFile:
    """A clip that arrived whole.

    Attributes:
        path: the file; None if the sink is not a file.
        size: bytes.
        sha256: the digest of the clip, in hexadecimal.
    """

    path: Path | None
    size: int
    sha256: str


class Delivery:
    """Fills a sink from one answer after another until the clip is whole and verified.

    Give each answer to `receive`, ask for the next one with `headers_for_next`, and `finish` once `receive`
    has returned. Who gives up instead calls `abort`; a failure for good, or a cancellation, has done so.

    Attributes:
        gained: bytes that the last answer brought beyond all before it.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        clock: Clock,
        on_progress: Callable[[int, int | None], None] | None = None,
        floor: SpeedFloor = SpeedFloor(),  # noqa: B008 - frozen
    ) -> None:
        """Fill `sink`; `on_progress` is told the bytes received and announced, some four times a second."""
        self.gained: int = 0
        self._sink = sink
        self._clock = clock
        self._floor = floor
        self._progress = Progress(clock, on_progress)
        self._kept = Reading(FromStart())
        self._opened = False
        self._whole = False
        self._failure: DownloadError | None = None
        self._furthest = 0

    @property
    def received(self) -> int:
        """Bytes of the clip, from its start, that are here."""
        return self._kept.walk.offset

    @property
    def total(self) -> int | None:
        """The size of the clip in bytes, where it was announced."""
        return self._kept.total

    def headers_for_next(self) -> dict[str, str]:
        """Return the headers for the next GET of a link: a range after a cut, if that is safe."""
        return request_headers(self._kept.held)

    async def receive(self, response: Response) -> None:
        """Take what one answer brings; return once the clip is whole and verified.

        Raises:
            TransportError: it was cut, or too slow.
            TruncatedError: it ended too early.
            NotAVideoError: it is something else, or damaged.
            ProtocolError: it does not fit what was asked for. After this and those above another answer may
                follow; what is safe to build on is kept.
            DownloadError: the sink failed, or cannot take back what has changed. This is the end.
        """
        try:
            await self._receive(response)
        except BaseException as error:
            self._add_facts(error)
            if not isinstance(error, CAN_GO_ON):
                await self.abort()
            raise
        finally:
            self.gained = max(0, self.received - self._furthest)
            self._furthest = max(self._furthest, self.received)
            self._progress.report(self.received, self.total)

    async def finish(self) -> SavedFile:
        """Make the clip final and return it.

        Raises:
            TruncatedError: `receive` has not returned yet.
            DownloadError: the sink failed, and is left empty.
        """
        if not self._whole:
            msg = "The clip is not whole yet"
            raise TruncatedError(msg, received=self.received, total=self.total)
        try:
            path = await self._sink.commit()
        except Exception as error:  # noqa: BLE001 - a sink may be anybody's
            await self.abort()
            failure = _named(error)
            self._add_facts(failure)
            raise failure from failure.__cause__
        except BaseException:
            await self.abort()
            raise
        return SavedFile(path=path, size=self.received, sha256=self._kept.sha256.hexdigest())

    async def abort(self) -> None:
        """Leave nothing behind; harmless at any time, also after `finish`."""
        await self._sink.abort()

    async def _receive(self, response: Response) -> None:
        match judge(self._kept.held, response.status, response.headers):
            case FromStart() as source:
                await self._take(Reading(source), response)
            case Onward(total=total):
                self._kept.go_on(total)
                await self._take(self._kept, response)
            case NothingMissing():
                self._kept.go_on(self.received)
                self._verify(self._kept)
            case Unusable(reason, foreign):
                self._kept.validator = None
                raise NotAVideoError(reason) if foreign else ProtocolError(reason)

    async def _take(self, reading: Reading, response: Response) -> None:
        """Read, digest and store the body."""
        is_small = reading.total is not None and reading.total <= min(SMALL, self._sink.batch)
        cut = await (self._take_small if is_small else self._take_staged)(reading, response)
        if self._failure is not None:
            raise self._failure
        if cut is not None and not (reading.is_full and isinstance(cut, TransportError)):
            raise cut
        self._verify(reading)

    async def _take_small(self, reading: Reading, response: Response) -> VeniceError | None:
        """Take the body in one batch, one thing after the other."""

        async def keep(batch: Chunks) -> None:
            try:
                if self._failure is None and (new := await self._digest(reading, batch)):
                    await self._sink.write(new)
            except Exception as error:  # noqa: BLE001 - a sink may be anybody's
                self._failure = _named(error)

        return await self._read(reading, response, keep)

    async def _take_staged(self, reading: Reading, response: Response) -> VeniceError | None:
        """Take the body in three stages, each at work on a batch of its own."""
        cut: VeniceError | None = None
        seen, to_digest = anyio.create_memory_object_stream[Chunks](0)
        digested, to_store = anyio.create_memory_object_stream[Chunks](0)
        with seen, to_digest, digested, to_store:
            async with anyio.create_task_group() as group:
                group.start_soon(self._stage, group, partial(self._digest_all, reading, to_digest, digested))
                group.start_soon(self._stage, group, partial(self._store_all, to_store))
                with seen:
                    cut = await self._read(reading, response, seen.send)
        return cut

    async def _read(
        self, reading: Reading, response: Response, hand_on: Callable[[Chunks], Awaitable[None]]
    ) -> VeniceError | None:
        """Pass the body on in batches, and return what ended it too early."""
        batch, guard, cut = ChunkBuffer(self._sink.batch), SpeedGuard(self._floor), None
        try:
            async with closing(response.chunks()) as chunks:
                while (chunk := await self._next(chunks, guard)) is not None:
                    reading.see(chunk)
                    batch.add(chunk)
                    if reading.is_video and batch.is_full:
                        await hand_on(batch.take())
                    self._progress.note(max(self.received, reading.walk.offset), reading.total)
        except VeniceError as error:
            cut = error
        if reading.is_video and batch.size:
            await hand_on(batch.take())
        return cut

    async def _next(self, chunks: AsyncIterator[bytes], guard: SpeedGuard) -> bytes | None:
        asked = self._clock.monotonic()
        chunk = await anext(chunks, None)
        guard.note(self._clock.monotonic() - asked, len(chunk or b""))
        return chunk

    async def _stage(self, group: TaskGroup, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work of one stage; if it fails, all of them end."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - a sink may be anybody's
            self._failure = _named(error)
            group.cancel_scope.cancel()

    async def _digest_all(self, reading: Reading, batches: Batches, digested: BatchesOnward) -> None:
        with digested:
            async for batch in batches:
                if new := await self._digest(reading, batch):
                    await digested.send(new)

    async def _digest(self, reading: Reading, batch: Chunks) -> Chunks:
        """Take `batch` into the digest, and return what of it the sink does not have."""
        if reading is not self._kept and (self._sink.restartable or not self.received):
            await self._adopt(reading)
        new = batch if reading is self._kept else await self._repeat(reading, batch)
        await reading.digest(new)
        return new

    async def _store_all(self, batches: Batches) -> None:
        async for batch in batches:
            await self._sink.write(batch)

    async def _adopt(self, reading: Reading) -> None:
        """Begin afresh."""
        self._kept, opened = reading, self._opened
        self._opened = True
        await (self._sink.restart() if opened else self._sink.open())

    async def _repeat(self, reading: Reading, batch: Chunks) -> Chunks:
        """Check that what was handed on before comes again, and return what goes beyond it."""
        again, new = split(batch, at=self.received - reading.digested)
        await reading.digest(again)
        if reading.digested == self.received:
            if reading.sha256.digest() != self._kept.sha256.digest():
                raise self._changed()
            self._kept = reading
        return new

    def _verify(self, reading: Reading) -> None:
        reading.check_end()
        if reading is not self._kept:
            raise self._changed()
        self._whole = True

    def _changed(self) -> DownloadError:
        return DownloadError(f"The clip has changed after {self.received} bytes of it were handed on")

    def _add_facts(self, error: BaseException) -> None:
        if isinstance(error, DownloadError):
            error.received, error.total = self.received, self.total
            missing = (
                "" if self.total is None else f" of {self.total}, {self.total - self.received} were missing"
            )
            error.message = f"{error.message}; received {self.received} bytes{missing}"


def _named(error: Exception) -> DownloadError:
    """Return the error of a sink as one of ours."""
    if isinstance(error, DownloadError):
        return error
    failure = DownloadError(f"The destination failed: {type(error).__name__}")
    failure.__cause__ = error
    return failure
