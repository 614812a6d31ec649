"""One reading of the clip from its first byte, over one or more answers: how far it is, and what is wrong."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeAlias

from ...errors import DownloadError, NotAVideoError, TruncatedError
from ...sansio.clip.kinds import is_text
from ...sansio.clip.mp4 import HEAD, BoxWalk
from ...sansio.clip.ranges import FromStart, Held

if TYPE_CHECKING:
    from _hashlib import HASH
    from collections.abc import Sequence

Chunks: TypeAlias = "Sequence[bytes]"


class Reading(Held):
    """One reading of the clip from its first byte, over one or more answers: the sink has what is held of it.

    Attributes:
        end_marked: whether the end of the clip can be told from a cut.
        size: bytes read.
        is_begun: whether enough bytes were read to know that this is a video.
        problem: why this is no clip whatever follows, if so.
        sha256: the digest of the bytes received, which the sink has.
    """

    def __init__(self, source: FromStart) -> None:
        """Begin with the answer that `source` describes."""
        super().__init__(total=source.total, validator=source.validator)
        self.end_marked: bool = source.end_marked
        self.size: int = 0
        self.is_begun: bool = False
        self.problem = NotAVideoError(source.spoilt) if source.spoilt else None
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
            NotAVideoError: they are words, such as the page of a proxy; or more than were announced.
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
        self.is_begun = self.size >= HEAD
        if self.total is not None and self.size > self.total:
            self.validator = None
            msg = f"More than the announced {self.total} bytes came"
            raise NotAVideoError(msg)

    def digest(self, chunks: Chunks) -> None:
        """Take the next chunks, which go to the sink, into the digest."""
        for chunk in chunks:
            self.sha256.update(chunk)
            self.received += len(chunk)

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
