"""Tell whether an MP4 is whole, from its top-level boxes, while it streams past.

A file is a row of boxes, each a size (32 bits, big-endian), a type of four bytes and its content (ISO/IEC
14496-12, 4.2). A size of 1 means that 64 bits of size follow the type; 0, that the box runs to the end of the
file. A file that was cut ends inside a box, unless the cut fell between two: then its media or its index is
missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ...errors import NotAVideoError, TruncatedError

HEAD: Final = 12
"""Bytes of a file that must have been seen, `ftyp` and the major brand, before any of it may be believed."""

LARGEST: Final = 16 << 30
"""Bytes of the largest clip believed: five minutes of 4k at 400 Mbit/s."""

_SHORT: Final = 8
_LONG: Final = 16
_IN_LONG_FORM: Final = 1
_TO_THE_END: Final = 0


class BoxWalk:
    """The walk along one file, fed its bytes in order.

    It looks at the headers of the boxes and counts through their content, so that a chunk costs the same
    whatever its size. Once it has raised it must not be fed again.
    """

    def __init__(self) -> None:
        """Stand before the first byte."""
        self.offset: int = 0
        self._header = bytearray()
        self._content_left = 0
        self._open_ended = False
        self._seen: set[bytes] = set()

    def feed(self, data: bytes) -> None:
        """Walk on through `data`.

        Raises:
            NotAVideoError: it does not begin with its one `ftyp`, has an impossible size, or never ends.
        """
        position, end = 0, len(data)
        while position < end:
            step = self._cross(end - position) or self._read_header(data, position)
            position += step
            self.offset += step

    def check_end(self, *, announced: bool) -> None:
        """Judge the file to end here; `announced` tells whether its end was marked by more than silence.

        Then the media (`mdat`) must be there; otherwise the index (`moov`) too, for without an announced end
        a cut between the two looks like the end of the file. A last box that runs to the end is believed.

        Raises:
            NotAVideoError: it was over before it began.
            TruncatedError: something is missing.
        """
        if self.offset < HEAD:
            msg = f"{self.offset} bytes came where a clip should be" if self.offset else "An empty body came"
            raise NotAVideoError(msg)
        if self._header or self._content_left:
            msg = f"The clip ends inside a box, at byte {self.offset}"
            raise TruncatedError(msg)
        needed = {b"mdat"} if announced else {b"mdat", b"moov"}
        if missing := sorted(needed - self._seen):
            msg = f"The clip ends at byte {self.offset}, before its {missing[0].decode()} box"
            raise TruncatedError(msg)

    def _cross(self, available: int) -> int:
        """Return how many of the available bytes are content of the present box, and count them off."""
        if self._open_ended:
            self._check_size()
            return available
        step = min(available, self._content_left)
        self._content_left -= step
        return step

    def _read_header(self, data: bytes, position: int) -> int:
        """Take what is missing of a header from `data`; return how many bytes that was."""
        missing = self._header_size() - len(self._header)
        piece = data[position : position + missing]
        self._header += piece
        if len(self._header) == self._header_size():
            self._enter()
        return len(piece)

    def _check_size(self) -> None:
        if self.offset > LARGEST:
            msg = f"The clip does not end: {self.offset} bytes came"
            raise NotAVideoError(msg)

    def _header_size(self) -> int:
        in_long_form = len(self._header) >= _SHORT and _number(self._header[:4]) == _IN_LONG_FORM
        return _LONG if in_long_form else _SHORT

    def _enter(self) -> None:
        """Begin the content of the box whose header is complete."""
        size, kind, header = _number(self._header[:4]), bytes(self._header[4:8]), len(self._header)
        if not self._seen and kind != b"ftyp":
            raise NotAVideoError(_not_a_video(bytes(self._header)))
        if self._seen and kind == b"ftyp":
            msg = f"A second file begins before byte {self.offset + _SHORT} of the clip"
            raise NotAVideoError(msg)
        if size == _IN_LONG_FORM:
            size = _number(self._header[8:])
        self._open_ended = size == _TO_THE_END and header == _SHORT
        if (size < header and not self._open_ended) or self.offset + size > LARGEST:
            msg = f"The clip is damaged: a box of impossible size before byte {self.offset + _SHORT}"
            raise NotAVideoError(msg)
        self._content_left = 0 if self._open_ended else size - header
        self._seen.add(kind)
        self._header.clear()


def _number(data: bytes | bytearray) -> int:
    return int.from_bytes(data, "big")


def _not_a_video(start: bytes) -> str:
    """Say what came instead, never in its own words: an answer may repeat a secret."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    kinds = ((b"{", "JSON"), (b"[", "JSON"), (b"<", "HTML or XML"), (b"\x1f\x8b", "Compressed data"))
    kind = next((name for mark, name in kinds if text.startswith(mark)), "Something that is not an MP4")
    return f"{kind} came where a clip should be"


class _Box(NamedTuple):
    kind: bytes
    start: int
    end: int


ReadAt = Callable[[int, int], bytes]
"""Returns so many bytes from a place in a file, fewer at its end."""

_MOST_BOXES: Final = 10_000
_UNKNOWN_LENGTH: Final = (0, 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF)


def movie_seconds(read_at: ReadAt, size: int) -> float | None:
    """Return how long a movie of `size` bytes lasts, by its header; None where that does not tell.

    Only headers are read. It is the duration in `mvhd`, or of a fragmented movie in `mehd` (ISO/IEC 14496-12,
    8.2.2 and 8.8.2).
    """
    for movie in _boxes(read_at, 0, size):
        if movie.kind != b"moov":
            continue
        scale = length = 0
        for box in _boxes(read_at, movie.start, movie.end):
            if box.kind == b"mvhd":
                data = read_at(box.start, 32)
                at, width = (20, 8) if data[:1] == b"\1" else (12, 4)
                scale, length = _number(data[at : at + 4]), _number(data[at + 4 : at + 4 + width])
            if box.kind == b"mvex" and length in _UNKNOWN_LENGTH:
                for part in _boxes(read_at, box.start, box.end):
                    if part.kind == b"mehd":
                        data = read_at(part.start, 12)
                        length = _number(data[4:12] if data[:1] == b"\1" else data[4:8])
        return None if not scale or length in _UNKNOWN_LENGTH else length / scale
    return None


def _boxes(read_at: ReadAt, start: int, end: int) -> Iterator[_Box]:
    """Yield the boxes between two places; nothing more from the first one that is not sound."""
    for _ in range(_MOST_BOXES):
        header = read_at(start, _LONG)
        size, begin = _number(header[:4]), start + _SHORT
        if size == _IN_LONG_FORM:
            size, begin = _number(header[8:]), start + _LONG
        stop = end if size == _TO_THE_END else start + size
        if len(header) < _SHORT or not begin <= stop <= end:
            return
        yield _Box(header[4:8], begin, stop)
        start = stop
