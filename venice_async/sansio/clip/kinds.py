"""Recognizes a body by its first bytes, because its content type may be wrong or missing."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from typing import Final

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
