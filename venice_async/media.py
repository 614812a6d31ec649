"""Media of your own: a file or bytes, whose type follows from the first bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, TypeAlias

from attrs import field, frozen

from .errors import InvalidRequestError

# The signatures of media types: (offset, bytes, type).
_SIGNATURES: Final = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (0, b"BM", "image/bmp"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypheic", "image/heic"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (0, b"\xff\xf2", "audio/mpeg"),
    (0, b"OggS", "audio/ogg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"%PDF-", "application/pdf"),
)


_HEAD: Final = 64  # bytes that hold every signature


def sniff(head: bytes) -> str | None:
    """Return the media type by the first bytes of a file, or None."""
    for offset, signature, media_type in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return media_type
    return None


@frozen(init=False, repr=False)
class Media:
    """An image, a clip, a sound or a document of your own, sent inside the request as a `data:` URL.

    `Media("cat.png")` and `Media(Path(...))` name a file; `Media(data)` holds bytes. A file is read when its
    job starts, in a worker thread; its type follows from its first bytes unless `media_type` is given.

    Attributes:
        path: the file, or None for bytes.
        sha256: the digest of the bytes in hexadecimal, or None for a file; equal bytes make equal media.
        media_type: such as `image/png`, or None to detect it.
        data: the bytes; None for a file, and for bytes that a journal knew only by their digest.
    """

    path: Path | None
    sha256: str | None
    media_type: str | None
    data: bytes | None = field(eq=False)

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | bytearray | memoryview | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        data: bytes | None = None,
        media_type: str | None = None,
        sha256: str | None = None,
    ) -> None:
        """Take a file by its path, or bytes: exactly one of them."""
        if isinstance(source, bytes | bytearray | memoryview):
            data = bytes(source) if data is None else data
        elif source is not None:
            path = source if path is None else path
        if (path is None) == (data is None and sha256 is None):
            msg = "Media takes either the path of a file or bytes"
            raise InvalidRequestError(msg, field="media", hint="Such as Media('cat.png'), or Media(data)")
        try:
            place = None if path is None else Path(path)
            digest = sha256 if data is None else hashlib.sha256(data).hexdigest()
        except TypeError:
            given = path if data is None else data
            msg = f"Media takes the path of a file or bytes, not {type(given).__name__}"
            hint = "Read an open file first: Media(file.read())"
            raise InvalidRequestError(msg, field="media", hint=hint) from None
        self.__attrs_init__(  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - attrs adds it
            place, digest, media_type, data
        )

    def __repr__(self) -> str:
        """Show what it is, never its bytes."""
        if self.path is not None:
            return f"Media({str(self.path)!r})"
        size = "not kept" if self.data is None else f"{len(self.data)} bytes"
        return f"Media(<{size}>, sha256={self.sha256!r})"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str | bytes]:
        """Show a picture that is in memory, in a notebook."""
        kind = self.media_type or sniff((self.data or b"")[:_HEAD])
        picture = {kind: self.data} if self.data and kind in {"image/png", "image/jpeg"} else {}
        return {"text/plain": repr(self), **picture}


MediaInput: TypeAlias = str | Media
