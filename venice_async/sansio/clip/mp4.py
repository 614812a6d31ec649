"""Tell what a body is by its first bytes; and whether an MP4 is whole and playable, while it streams past.

The first bytes decide what came, because a content type may be wrong or missing.

A file is a row of boxes, each a size (32 bits, big-endian), a type of four bytes and its content (ISO/IEC
14496-12, 4.2). A size of 1 means that 64 bits of size follow the type; 0, that the box runs to the end of the
file. A player needs three of them: `ftyp`, the index (`moov`) and the media (`mdat`), in any order.

| the file ends | with all three | without one of them |
|---|---|---|
| at the end of a box | whole | no player opens it; or it was cut, if nothing marks its end |
| within a box | cut | cut |
| within what no player reads, and its end is marked | whole | damaged |

What no player reads is anything behind those three that is no box of the standard: a line end, zeros, a line
of text, and padding (`free`) of a wrong size. Servers append such things, and clips play nevertheless.

An index counts if a player finds a track in it: a movie header (`mvhd`), and a `trak` with its header
(`tkhd`) and its media (`mdia`), each with room for its fields (8.2 to 8.4). The index of a movie in fragments
has them, too; only its tables are empty. What is unsound behind them ends the reading, as in a player. Of an
index of more than 4 MiB the movie header is enough: the rest may stand behind a large picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Final, NamedTuple

from ...errors import NotAVideoError, TruncatedError

START: Final = 12
"""Bytes that tell a clip from everything else: the size, the type and, of the first box, the brand."""

# What a file of boxes may begin with. By the standard that is `ftyp` (ISO/IEC 14496-12, 4.3), and no file is
# whole without one; but others are found before it, too.
_FIRST: Final = frozenset(
    {b"ftyp", b"styp", b"free", b"skip", b"wide", b"uuid", b"pdin", b"moov", b"mdat", b"sidx", b"meta"}
)
_IMAGES: Final = {b"avif": "an AVIF image", b"heic": "a HEIC image", b"mif1": "a HEIF image"}

_MEDIA: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\x1a\x45\xdf\xa3", "Matroska"),
    (8, b"AVI ", "AVI"),
    (8, b"WEBP", "a WebP image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"FLV\x01", "Flash Video"),
    (0, b"OggS", "Ogg"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
    (0, b"\x00\x00\x01\xba", "an MPEG program stream"),
    (0, b"\x00\x00\x01\xb3", "MPEG video"),
    (0, b"RIFF", "RIFF"),
    (0, b"ID3", "MP3"),
    (0, b"#EXTM3U", "an HLS playlist"),
)
_QUICKTIME: Final = b"ftypqt  "
_HEAD: Final = 64  # bytes: where a file says what it is
_SYNC: Final = b"G"  # every packet of an MPEG transport stream begins with it
_PACKET: Final = 188  # bytes
_PACKED: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"%PDF", "a PDF document"),
)

LARGEST: Final = 16 << 30
"""Bytes of the largest clip believed: five minutes of 4k at 400 Mbit/s."""

_KEPT: Final = 256  # bytes of the start, by which to name what is no MP4
_KEPT_INDEX: Final = 4 << 20  # bytes of the index; a track behind them is taken on trust
_SHORT: Final = 8
_LONG: Final = 16
_IN_LONG_FORM: Final = 1
_TO_THE_END: Final = 0
_NEEDED: Final = {b"ftyp": "type (ftyp)", b"moov": "index (moov)", b"mdat": "media (mdat)"}
_NEEDED_OF_INDEX: Final = {b"mvhd": 100, b"trak": 100, b"tkhd": 84, b"mdia": 8}
"""The boxes without which an index is none, and how many bytes of content each has at least."""
_READ: Final = frozenset(
    b"ftyp styp moov moof mdat mfra meta meco uuid sidx ssix prft emsg pdin imda udta".split()
)
"""The boxes of the standard that a player may read, wherever they stand."""


class BoxWalk:
    """Reads the boxes of one file, from its bytes in order.

    It looks at the headers of the boxes and counts through their content, so that a chunk costs the same
    whatever its size; only the index is kept. Once it has raised it must not be fed again.

    Attributes:
        offset: bytes walked.
        start: the first of them.
    """

    def __init__(self) -> None:
        self.offset: int = 0
        self.start: bytes = b""
        self._header = bytearray()
        self._kind = b""
        self._content_left = 0
        self._open_ended = False
        self._unread = False  # whether the present box is none that a player reads, behind all that it does
        self._seen: set[bytes] = set()
        self._index = bytearray()
        self._index_size = 0
        self._has_index = self._has_media = False

    def feed(self, data: bytes) -> None:
        """Read `data`.

        Raises:
            NotAVideoError: it does not begin as an MP4, has a second `ftyp` or an impossible size, or never
                ends.
        """
        self.start += data[: _KEPT - len(self.start)]
        position, end = 0, len(data)
        while position < end:
            if self._open_ended and self.offset > LARGEST:
                msg = f"The clip does not end: {self.offset} bytes came"
                raise NotAVideoError(msg)
            step = end - position if self._open_ended else min(end - position, self._content_left)
            if step:  # content of the present box
                self._content_left -= 0 if self._open_ended else step
                self._has_media = self._has_media or self._kind == b"mdat"
                if self._kind == b"moov":
                    self._index_size += step
                    self._index += data[position : position + min(step, _KEPT_INDEX - len(self._index))]
            else:
                wanted = _LONG if len(self._header) >= _SHORT else _SHORT
                piece = data[position : position + wanted - len(self._header)]
                self._header += piece
                step = len(piece)
                in_long_form = int.from_bytes(self._header[:4]) == _IN_LONG_FORM
                if len(self._header) == (_LONG if in_long_form else _SHORT):
                    self._enter()
            position += step
            self.offset += step

    def check_end(self, *, announced: bool) -> None:
        """Check the end of the file; `announced` tells whether the server marked it.

        Raises:
            NotAVideoError: it was over before it began, or no player opens it.
            TruncatedError: something is missing.
        """
        if self.offset < START:
            msg = f"{self.offset} bytes came where a clip should be" if self.offset else "An empty body came"
            raise NotAVideoError(msg)
        appended = self._unread or (0 < len(self._header) < _SHORT and self._is_playable())
        if (self._header or self._content_left) and not (appended and announced):
            msg = f"The clip ends inside a box, at byte {self.offset}"
            raise TruncatedError(msg)
        if missing := [name for kind, name in _NEEDED.items() if kind not in self._seen]:
            if not announced:
                msg = f"The clip ends at byte {self.offset}, before its {missing[0]}"
                raise TruncatedError(msg)
            msg = f"No player opens what came: its {' and '.join(missing)} is missing"
            raise NotAVideoError(msg)
        if not self._has_media:
            msg = "No player opens what came: its media (mdat) is empty"
            raise NotAVideoError(msg)
        if self._kind == b"moov":
            self._judge_index()
        if not self._has_index:
            msg = "No player opens what came: its index (moov) is empty or damaged"
            raise NotAVideoError(msg)

    def _enter(self) -> None:
        """Begin the content of the box whose header is complete."""
        size, kind, header = int.from_bytes(self._header[:4]), bytes(self._header[4:8]), len(self._header)
        at = self.offset + _SHORT  # the last byte of the short header may have come on its own
        if not self._seen and kind not in _FIRST:
            found = described(self.start)
            msg = f"{found[0].upper()}{found[1:]} came where a clip should be"
            raise NotAVideoError(msg)
        if kind == b"ftyp" and kind in self._seen:
            msg = f"A second file begins before byte {at} of the clip"
            raise NotAVideoError(msg)
        if header == _LONG:
            size = int.from_bytes(self._header[8:])
        if self._kind == b"moov":
            self._judge_index()
        self._unread = kind not in _READ and self._is_playable()
        self._open_ended = size == _TO_THE_END and header == _SHORT
        impossible = (size < header and not self._open_ended) or self.offset + size > LARGEST
        if impossible and not self._unread:
            msg = f"The clip is damaged: a box of impossible size before byte {at}"
            raise NotAVideoError(msg)
        self._content_left = 0 if self._open_ended else LARGEST if impossible else size - header
        self._seen.add(kind)
        self._kind = kind
        self._header.clear()

    def _is_playable(self) -> bool:
        """Tell whether all that a player needs is here; of a clip in fragments that cannot be told."""
        return self._seen.issuperset(_NEEDED) and b"moof" not in self._seen

    def _judge_index(self) -> None:
        """Judge the index that has ended by whether a player finds a track in it; or nothing but zeros.

        No server was seen to send zeros: it is how programs that stand in for one make up a clip.
        """
        is_blank = self._index_size > 0 and not self._open_ended and not self._index.strip(b"\0")
        found, index = set[bytes](), bytes(self._index)
        places = [(0, self._index_size)]
        for start, end in places:
            for box in _boxes(lambda place, count: index[place : place + count], start, end):
                if box.end - box.start >= _NEEDED_OF_INDEX.get(box.kind, LARGEST):
                    found.add(box.kind)
                if box.kind == b"trak":
                    places.append((box.start, box.end))
        if self._index_size > _KEPT_INDEX and b"mvhd" in found:
            found.update(_NEEDED_OF_INDEX)
        self._has_index = self._has_index or is_blank or found.issuperset(_NEEDED_OF_INDEX)
        self._index.clear()
        self._index_size = 0


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
                scale, length = (
                    int.from_bytes(data[at : at + 4]),
                    int.from_bytes(data[at + 4 : at + 4 + width]),
                )
            if box.kind == b"mvex" and length in _UNKNOWN_LENGTH:
                for part in _boxes(read_at, box.start, box.end):
                    if part.kind == b"mehd":
                        data = read_at(part.start, 12)
                        length = int.from_bytes(data[4:12] if data[:1] == b"\1" else data[4:8])
        return None if not scale or length in _UNKNOWN_LENGTH else length / scale
    return None


def _boxes(read_at: ReadAt, start: int, end: int) -> Iterator[_Box]:
    """Yield the boxes between two places; nothing more from the first one that is not sound."""
    for _ in range(_MOST_BOXES):
        header = read_at(start, _LONG)
        size, begin = int.from_bytes(header[:4]), start + _SHORT
        if size == _IN_LONG_FORM:
            size, begin = int.from_bytes(header[8:]), start + _LONG
        stop = end if size == _TO_THE_END else start + size
        if len(header) < _SHORT or not begin <= stop <= end:
            return
        yield _Box(header[4:8], begin, stop)
        start = stop


def is_mp4(start: bytes) -> bool:
    """Tell whether a file of boxes begins so."""
    return len(start) >= START and start[4:8] in _FIRST


def is_media(start: bytes) -> bool:
    """Tell whether pictures or sound of another kind begin so."""
    return _named(start, _MEDIA) is not None or _SYNC == start[:1] == start[_PACKET : _PACKET + 1]


def is_text(start: bytes) -> bool:
    """Tell whether an answer in words begins so, such as JSON or the page of a proxy."""
    if is_media(start) or _named(start, _PACKED):
        return False
    words = start[:64].decode("utf-8", "replace").rstrip("\ufffd")  # the cut may be within a letter
    return bool(words) and all(
        letter.isprintable() or letter.isspace() or letter == "\ufeff" for letter in words
    )


def described(start: bytes) -> str:
    """Say what begins so, never in its own words: an answer may repeat a secret."""
    if start.startswith(b"\x1a\x45\xdf\xa3") and b"webm" in start[:64]:
        return "WebM"
    if start[4:8] == b"ftyp":
        return _IMAGES.get(start[8:12], "MP4")
    if (found := _named(start, _MEDIA + _PACKED)) is not None:
        return found
    if is_media(start):
        return "an MPEG transport stream"
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith((b"{", b"[")):
        return "JSON"
    if text.startswith(b"<"):
        return "HTML or XML"
    return "text" if is_text(start) else "something that is not an MP4"


def suffix_of(chunks: Iterable[bytes]) -> str:
    """Return what the name of a clip that begins so ends with: `.mov` if it is QuickTime, as ProRes comes."""
    return ".mov" if _QUICKTIME in bytes(islice(chain.from_iterable(chunks), _HEAD)) else ".mp4"


def _named(start: bytes, kinds: tuple[tuple[int, bytes, str], ...]) -> str | None:
    return next((name for at, mark, name in kinds if start.startswith(mark, at)), None)
