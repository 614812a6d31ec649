"""What a delivery counts while it reads: one reading of the clip, its speed and its progress."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from attrs import define

from ...errors import (
    DownloadError,
    NotAVideoError,
    ReadTimeoutError,
    TruncatedError,
)
from ...sansio.clip.kinds import is_text
from ...sansio.clip.mp4 import HEAD, BoxWalk
from ...sansio.clip.ranges import FromStart, Held

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..transport import Clock

Chunks: TypeAlias = "Sequence[bytes]"

_SLOWEST: Final = 1024.0  # bytes a second: at 1 KiB/s a clip of 5 MiB would take 85 minutes
_AVERAGED: Final = 30.0  # seconds of waiting for the network; as long as the default read timeout
_REPORT_BYTES: Final = 1 << 18
_REPORT_SECONDS: Final = 0.25


class Digest(Protocol):
    """A digest that grows, as `hashlib` makes them."""

    def update(self, data: bytes, /) -> None:
        """Update the digest."""
        ...

    def copy(self) -> Digest:
        """Return a copy."""
        ...

    def digest(self) -> bytes:
        """Return the digest."""
        ...

    def hexdigest(self) -> str:
        """Return it in hexadecimal."""
        ...


class Reading:
    """One reading of the clip from its first byte, over one or more answers.

    Attributes:
        total: the size of the clip in bytes, where it was announced.
        validator: what names this version of the clip; None once its bytes are not worth building on.
        end_marked: whether the end of the clip can be told from a cut.
        size: bytes read.
        problem: why this is no clip whatever follows, if so.
        sha256: the digest of the first `digested` bytes, which the sink has.
    """

    def __init__(self, source: FromStart) -> None:
        """Begin with the answer that `source` describes."""
        self.total = source.total
        self.validator = source.validator
        self.end_marked: bool = source.end_marked
        self.size: int = 0
        self.problem = NotAVideoError(source.spoilt) if source.spoilt else None
        self.sha256: Digest = hashlib.sha256()
        self.digested: int = 0
        self._walk = BoxWalk()
        self._is_text = False
        self._skipped: Digest | None = None

    @property
    def held(self) -> Held:
        """What there would be to go on from."""
        return Held(received=self.digested, total=self.total, validator=self.validator)

    @property
    def is_begun(self) -> bool:
        """Whether enough bytes were read to know that this is a video."""
        return self.size >= HEAD and not self._is_text

    @property
    def is_full(self) -> bool:
        """Whether every announced byte was read."""
        return self.size == self.total

    @property
    def is_over(self) -> bool:
        """Whether every byte was read that there is, as far as the server says."""
        return self.is_full or (self.total is None and self.end_marked)

    @property
    def fingerprint(self) -> str:
        """The digest of all bytes, of those too that the sink does not have."""
        return (self._skipped or self.sha256).hexdigest()

    def go_on(self, total: int) -> None:
        """Note what the server says of a continued download: its size and its end."""
        self.total, self.end_marked = total, True

    def see(self, chunk: bytes) -> None:
        """Look at the next bytes.

        Raises:
            NotAVideoError: they are words, such as the page of a proxy; or more than were announced.
        """
        self.size += len(chunk)
        if self.problem is None:
            try:
                self._walk.feed(chunk)
            except NotAVideoError as error:
                self.validator = None
                if is_text(self._walk.start):
                    self._is_text = True
                    raise
                self.problem = error
        if self.total is not None and self.size > self.total:
            self.validator = None
            msg = f"More than the announced {self.total} bytes came"
            raise NotAVideoError(msg)

    def digest(self, chunks: Chunks) -> None:
        """Take the next chunks, which go to the sink, into the digest."""
        for chunk in chunks:
            self.sha256.update(chunk)
            self.digested += len(chunk)

    def skip(self, chunks: Chunks) -> None:
        """Take the next chunks into the fingerprint only."""
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


def split(chunks: Chunks, *, at: int) -> tuple[Chunks, Chunks]:
    """Return the first `at` bytes of `chunks`, or as many as there are, and the rest."""
    before: list[bytes] = []
    after: list[bytes] = []
    for chunk in chunks:
        head, tail = chunk[:at], chunk[at:]
        at -= len(head)
        before += [head] if head else []
        after += [tail] if tail else []
    return before, after


@define
class SpeedGuard:
    """Ends a download that is too slow."""

    _waited: float = 0.0
    _size: int = 0

    def note(self, waited: float, size: int) -> None:
        """Count `size` bytes that were waited for that many seconds; other time is not the network's fault.

        Raises:
            ReadTimeoutError: it is too slow.
        """
        self._waited += waited
        self._size += size
        if self._waited < _AVERAGED:
            return
        if self._size < _SLOWEST * self._waited:
            msg = f"The clip comes too slowly: {self._size} bytes in {self._waited:.0f} s"
            raise ReadTimeoutError(msg)
        self._waited, self._size = 0.0, 0


class Progress:
    """Reports the progress of a download, a few times a second."""

    def __init__(self, clock: Clock, tell: Callable[[int, int | None], None] | None) -> None:
        """Tell `tell` the bytes received and announced."""
        self._clock = clock
        self._tell = tell
        self._told: tuple[int, int | None] = (-1, None)
        self._told_at = -math.inf  # the first bytes are news at once

    def note(self, received: int, total: int | None) -> None:
        """Tell it if that is due."""
        late = self._clock.monotonic() - self._told_at >= _REPORT_SECONDS
        if late or received - self._told[0] >= _REPORT_BYTES:
            self.report(received, total)

    def report(self, received: int, total: int | None) -> None:
        """Tell it now, unless it is known."""
        self._told_at = self._clock.monotonic()
        if self._tell is not None and (received, total) != self._told:
            self._tell(received, total)
        self._told = (received, total)
