"""The download of one clip into one sink, over one or more answers.

A *reading* is the clip from its first byte on, over one or more answers: a download that was cut may resume
with a range. The event loop checks the MP4 boxes as the bytes arrive; a worker thread hashes and writes them,
one batch behind:

    network ─► event loop: check the boxes, collect a batch ─► thread: hash, write

Invariants:

* The sink has the first `kept.received` bytes of the clip, and `kept.sha256` is their digest. A reading
  becomes `kept` with its first batch, and never before its first 12 bytes were seen.
* A sink that is not restartable gets each byte once. When the clip is sent again from its start, the bytes
  that the sink has are hashed and compared; only the rest is written.
* Nothing is final before the boxes and the announced length agree that this is the whole clip (`finish`).

| an answer | what is kept | the next request |
|---|---|---|
| cut, stalled or too slow | the bytes so far | a range if the server names the version, else from the start |
| a range that does not fit | the bytes before it | from the start |
| text: JSON, a page of HTML, nothing | the bytes before it | from the start |
| no clip, or one that no player opens | all of it, in a part file | from the start |
| the same bytes, whole, a second time | all of it, as `….unverified` | none: `DownloadError.final` |
| the whole clip | all of it | none: `finish` |
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from contextlib import aclosing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import anyio

from ...errors import (
    DownloadError,
    NotAVideoError,
    ProtocolError,
    ReadTimeoutError,
    TransportError,
    TruncatedError,
    VeniceError,
)
from ...results import Ticket, Video
from ...sansio.clip.mp4 import START, BoxWalk, is_text
from ...sansio.clip.ranges import FromStart, Held, judge, request_headers
from ..shielding import in_thread, is_cancellation
from .object_store import ObjectUpload
from .part_file import PartFile

if TYPE_CHECKING:
    from _hashlib import HASH
    from collections.abc import Callable, Generator, Sequence

    from ..transport import Clock, Response
    from .sinks import Sink

Chunks: TypeAlias = "Sequence[bytes]"

CAN_GO_ON: Final = (TransportError, ProtocolError, TruncatedError, NotAVideoError)
"""After these another answer may bring the rest, unless the error is final."""

_PIECES: Final = 1024  # chunks of a batch, which bounds what tiny ones cost in memory
_INLINE: Final = 1 << 18  # bytes that hash in 0.2 ms, about what it takes to hand them to a worker thread
_SLOWEST: Final = 1024.0  # bytes a second: at 1 KiB/s a clip of 5 MiB would take 85 minutes
_AVERAGED: Final = 30.0  # seconds of waiting for the network; as long as the default read timeout
_REPORT_BYTES: Final = 1 << 18
_REPORT_SECONDS: Final = 0.25

log: logging.Logger = logging.getLogger(__name__)


class Reading(Held):
    """One reading of the clip from its first byte, over one or more answers: the sink has what is `Held`.

    Attributes:
        end_marked: whether the end of the clip can be told from a cut.
        size: bytes read.
        is_begun: whether enough bytes were read to know that this is a video.
        problem: why this is no clip whatever follows, if so.
        sha256: the digest of the bytes received, which the sink has.
    """

    received: int
    validator: str | None

    def __init__(self, source: FromStart) -> None:
        """Begin with the answer that `source` describes."""
        super().__init__(total=source.total, validator=source.validator)
        self.end_marked: bool = source.end_marked
        self.size: int = 0
        self.is_begun: bool = False
        self.problem: NotAVideoError | None = NotAVideoError(source.spoilt) if source.spoilt else None
        self.sha256: HASH = hashlib.sha256()
        self._walk = BoxWalk()
        self._skipped: HASH | None = None

    @property
    def is_full(self) -> bool:
        """Whether every announced byte was read."""
        return self.size == self.total

    @property
    def fingerprint(self) -> str:
        """The digest of all bytes, of those too that the sink does not have."""
        return (self._skipped or self.sha256).hexdigest()

    def see(self, chunk: bytes) -> None:
        """Look at the next bytes.

        Raises:
            NotAVideoError: they are text, such as the page of a proxy; or more than were announced.
        """
        self.size += len(chunk)
        if self.problem is None:
            try:
                self._walk.feed(chunk)
            except NotAVideoError as error:
                self.validator = None
                if is_text(self._walk.start):
                    raise
                self.problem = error
        self.is_begun = self.size >= START
        if self.total is not None and self.size > self.total:
            self.validator = None
            msg = f"More than the announced {self.total} bytes came"
            raise NotAVideoError(msg)

    def digest(self, chunks: Chunks) -> None:
        """Hash the next chunks, which are written to the sink."""
        for chunk in chunks:
            self.sha256.update(chunk)
            self.received += len(chunk)

    def skip(self, chunks: Chunks) -> None:
        """Hash the next chunks for the fingerprint only; the sink does not get them."""
        self._skipped = self._skipped or self.sha256.copy()
        for chunk in chunks:
            self._skipped.update(chunk)

    def check_end(self) -> None:
        """Judge the clip to end here.

        Raises:
            TruncatedError: something is missing.
            NotAVideoError: it is none, or was over before it began.
        """
        if self.total is not None and self.size < self.total:
            msg = "The clip ends too early"
            raise TruncatedError(msg)
        try:
            if self.problem is not None:
                raise self.problem
            self._walk.check_end(announced=self.end_marked)
        except DownloadError:
            if self.is_full:
                self.validator = None  # more of the same would not mend it
            raise


class Delivery:
    """Fills a sink from one answer after another until the clip is whole and verified.

    Give each answer to `receive`, send the next request with `headers_for_next`, and call `finish` once
    `receive` has returned, or `abort` to give up. A final error and a cancellation have aborted already.

    Attributes:
        gained: bytes that the last answer brought beyond all before it.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        ticket: Ticket,
        clock: Clock,
        on_progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        """Fill `sink` with the clip of `ticket`.

        `on_progress` is told the bytes received and announced, four times a second, and more often while they
        come fast: up to some hundred times a clip.
        """
        self.gained: int = 0
        self._sink = sink
        self._ticket = ticket
        self._file = sink if isinstance(sink, PartFile) else None
        self._clock = clock
        self._on_progress = on_progress
        self._reported: tuple[int, int | None] = (-1, None)
        self._reported_at = -math.inf
        self._kept = Reading(FromStart())
        self._opened = False
        self._whole = False
        self._furthest = 0
        self._refused: tuple[int, str] | None = None  # size and digest of the last that no player opens

    def headers_for_next(self) -> dict[str, str]:
        """Return the headers for the next GET of a link: a range after a cut, if that is safe."""
        return request_headers(self._kept)

    async def receive(self, response: Response) -> None:
        """Read one answer; return once the clip is whole and verified.

        Raises:
            TransportError: it was cut, or too slow.
            TruncatedError: it ended too early.
            NotAVideoError: it is something else, or damaged.
            ProtocolError: it does not fit the request. After this error and those above the next answer may
                bring the rest, unless the error is final; bytes that are safe to resume from are kept.
            DownloadError: the sink failed, or has bytes that have changed. There is no next answer.
        """
        kept = self._kept
        try:
            try:
                answer = judge(kept, response.status, response.headers)
            except ProtocolError:
                kept.validator = None
                raise
            if isinstance(answer, FromStart):
                await self._take(Reading(answer), response)
            else:
                kept.total, kept.end_marked = answer.total, True
                if answer.total > self._kept.received:
                    await self._take(kept, response)
                else:
                    await self._verify(kept)
        except BaseException as error:
            self._add_facts(error)
            if not isinstance(error, CAN_GO_ON):
                await self.abort()
            raise
        finally:
            self.gained = max(0, self._kept.received - self._furthest)
            self._furthest = max(self._furthest, self._kept.received)
            self._report(self._kept.received, self._kept.total)

    async def finish(self) -> Video:
        """Make the clip final and return it.

        Raises:
            TruncatedError: `receive` has not returned yet.
            DownloadError: the sink failed, and is left empty.
        """
        if not self._whole:
            msg = "The clip is not whole yet"
            raise TruncatedError(msg, received=self._kept.received, total=self._kept.total)
        sha256 = self._kept.sha256.hexdigest()
        if isinstance(self._sink, ObjectUpload):
            self._sink.sha256 = sha256
        try:
            with _sink_errors():
                place = await self._sink.commit()
        except BaseException as error:
            self._add_facts(error)
            await self.abort()
            raise
        path, url = (None, place) if isinstance(place, str) else (place, None)
        return Video(path=path, url=url, size=self._kept.received, sha256=sha256, ticket=self._ticket)

    async def abort(self) -> None:
        """Remove what was written. It may be called at any time; after `finish` it does nothing."""
        await abort(self._sink)

    async def _take(self, reading: Reading, response: Response) -> None:
        """Read the body, and hash and write it at the same time, a batch behind.

        One task writes all batches but the last. It takes the next batch as soon as it is done with one,
        without waiting for the event loop to start another task. If the sink fails, the reading ends at once.
        """
        cut: VeniceError | None = None
        failure: DownloadError | None = None
        storing = False
        chunks, size = list[bytes](), 0
        waited, came = 0.0, 0  # seconds for the network, and bytes: other time is not its fault
        collected, batches = anyio.create_memory_object_stream[Chunks](0)

        async def store_all() -> None:
            nonlocal failure
            try:
                async for batch in batches:
                    await self._store(reading, batch)
            except DownloadError as error:
                failure = error
                group.cancel_scope.cancel()

        async with batches, anyio.create_task_group() as group:
            try:
                async with collected, aclosing(response.chunks()) as body:
                    asked = self._clock.monotonic()
                    async for chunk in body:
                        waited, came = waited + self._clock.monotonic() - asked, came + len(chunk)
                        if waited >= _AVERAGED:
                            if came < _SLOWEST * waited:
                                msg = f"The clip comes too slowly: {came} bytes in {waited:.0f} s"
                                raise ReadTimeoutError(msg)
                            waited, came = 0.0, 0
                        reading.see(chunk)
                        chunks.append(chunk)
                        size += len(chunk)
                        if reading.is_begun and (size >= self._sink.batch or len(chunks) >= _PIECES):
                            if not storing:  # a small clip needs no task
                                storing = True
                                group.start_soon(store_all)
                            await collected.send(chunks)
                            chunks, size = [], 0
                        received = max(self._kept.received, reading.size)
                        asked = self._clock.monotonic()
                        if (
                            received - self._reported[0] >= max(_REPORT_BYTES, (reading.total or 0) // 128)
                            or asked - self._reported_at >= _REPORT_SECONDS
                        ):
                            self._report(received, reading.total)
            except VeniceError as error:
                cut = error
        if failure is not None:
            raise failure
        if chunks and reading.is_begun:
            await self._store(reading, chunks)
        if cut is not None and not (reading.is_full and isinstance(cut, TransportError)):
            raise cut
        await self._verify(reading)

    async def _store(self, reading: Reading, chunks: Chunks) -> None:
        """Hash the chunks and write them to the sink. Bytes that it has already are compared instead.

        What is no clip is written to a part file only, where a person may look at it; and it replaces a clip
        that was cut only when it is sent a second time. Otherwise it is hashed only.
        """
        is_next = reading is self._kept or not self._kept.received or self._refused is not None
        if reading.problem is not None and not (self._file and is_next):
            await _digested(chunks, reading.skip)
            return
        with _sink_errors():
            if reading is not self._kept and (self._sink.restartable or not self._kept.received):
                self._kept, opened, self._opened = reading, self._opened, True
                await (self._sink.restart() if opened else self._sink.open())
            if self._file is not None:
                await self._file.write(chunks, first=partial(reading.digest, chunks))
                return
            if reading is not self._kept:
                data, missing = b"".join(chunks), self._kept.received - reading.received
                await _digested([data[:missing]], reading.digest)
                if reading.received == self._kept.received:
                    if reading.sha256.digest() != self._kept.sha256.digest():
                        raise self._changed()
                    self._kept = reading
                chunks = [data[missing:]] if len(data) > missing else []
            if chunks:
                await _digested(chunks, reading.digest)
                await self._sink.write(chunks)

    async def _verify(self, reading: Reading) -> None:
        """Check that a reading, which has ended, is the whole clip.

        What no player opens is remembered: if the same bytes come a second time, for this job or an earlier
        one with this destination, the error is final, and they are kept for a person.
        """
        try:
            reading.check_end()
        except DownloadError as error:
            is_over = reading.is_full or (reading.total is None and reading.end_marked)
            if not reading.is_begun or (isinstance(error, TruncatedError) and not is_over):
                raise
            found = reading.size, reading.fingerprint
            again, self._refused = found == self._refused, found
            self._furthest = max(self._furthest, self._kept.received)  # no gain
            path = None
            if self._file is not None and reading is self._kept and reading.received == reading.size:
                path = await self._file.set_aside(known_only=not again)
            if not again and path is None:
                raise
            where = "" if path is None else f", and are kept in {str(path)!r}"
            msg = f"{error.message}; the same {reading.size} bytes came twice{where}"
            raise type(error)(
                msg,
                hint="The server's copy was left as it is: resume(ticket, to=...) fetches it again",
                final=True,
                unverified=path,
            ) from None
        if reading is not self._kept:
            raise self._changed()
        self._whole = True

    def _changed(self) -> DownloadError:
        return DownloadError(f"The clip has changed after {self._kept.received} bytes of it were handed on")

    def _report(self, received: int, total: int | None) -> None:
        self._reported_at = self._clock.monotonic()
        if self._on_progress is not None and (received, total) != self._reported:
            self._on_progress(received, total)
        self._reported = (received, total)

    def _add_facts(self, error: BaseException) -> None:
        if isinstance(error, DownloadError):
            error.received, error.total = self._kept.received, self._kept.total
            if not error.final:
                missing = 0 if self._kept.total is None else self._kept.total - self._kept.received
                error.message = (
                    f"{error.message}; received {self._kept.received} bytes"
                    + ("" if self._kept.total is None else f" of {self._kept.total}")
                    + (f", {missing} were missing" if missing > 0 else "")
                )


async def _digested(chunks: Chunks, digest: Callable[[Chunks], None]) -> None:
    """Hash chunks, in a worker thread if they are large."""
    if sum(map(len, chunks)) <= _INLINE:
        digest(chunks)
    else:
        await in_thread(digest, chunks)


async def abort(sink: Sink) -> None:
    """Abort a sink. If that fails it is logged, and replaces no other error."""
    try:
        with _sink_errors():
            await sink.abort()
    except DownloadError as error:
        log.warning("A part of a clip may be left. %s", error.message)


@contextmanager
def _sink_errors() -> Generator[None]:
    """Turn whatever a sink raises into a `DownloadError`: it may be anybody's.

    That includes a `CancelledError` of its own, while nobody has cancelled this task.
    """
    try:
        yield
    except DownloadError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        if is_cancellation(error):
            raise
        cancelled = isinstance(error, asyncio.CancelledError)
        msg = f"The destination failed: {'it was cancelled' if cancelled else type(error).__name__}"
        raise DownloadError(msg) from error
