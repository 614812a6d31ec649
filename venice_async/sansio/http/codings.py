"""Content codings: reads a body that is compressed although it was asked for uncompressed.

Every API call asks for `identity`, and an edge or a proxy may ignore that. No paid answer may be lost to it,
so reading is lenient: the label is tried, the bytes decide, and a damaged stream is read as far as possible.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Final, Protocol

_PIECE: Final = 1024  # bytes fed to a decoder at once: the output before an error is kept
_BROTLI_PIECE: Final = 64  # bytes: some of its packages cannot bound what they return
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


class _Decoder(Protocol):
    """The decoder of one member or frame, as in zlib and the Zstandard packages."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def decoded(body: bytes, codings: str, limit: int) -> tuple[bytes, bool]:
    """Return up to `limit` bytes of a body without its `codings`, and whether their streams are complete.

    `codings` are listed as in the content-encoding header. One that is unknown, that has no decoder
    installed, or that the bytes contradict is ignored.
    """
    named = [coding.strip().lower() for coding in codings.split(",")]
    if not any(named):  # JSON and HTML begin with neither
        named = ["zstd" if body.startswith(_ZSTD) else "gzip" if body.startswith(_GZIP) else ""]
    whole = True
    for coding in reversed(named):
        match coding:
            case "gzip" | "x-gzip" if body.startswith(_GZIP):
                found, ended = _members(
                    lambda: zlib.decompressobj(zlib.MAX_WBITS | 16), zlib.error, body, limit
                )
            case "deflate":
                found, ended = _members(zlib.decompressobj, zlib.error, body, limit)
                if not found:
                    found, ended = _members(
                        lambda: zlib.decompressobj(-zlib.MAX_WBITS), zlib.error, body, limit
                    )
            case "zstd" if body.startswith(_ZSTD) and (
                zstd := _installed("compression.zstd", "backports.zstd")
            ):
                found, ended = _members(zstd.ZstdDecompressor, zstd.ZstdError, body, limit)
            case "br" if brotli := _installed("brotlicffi", "brotli"):
                found, ended = _brotli(brotli, body, limit)
            case _:
                continue
        if found:
            body, whole = found, whole and ended
    return body[:limit], whole


def _members(
    decoder_of: Callable[[], _Decoder], error: type[Exception], body: bytes, limit: int
) -> tuple[bytes, bool]:
    """Return as much as can be read of all members of a stream, and whether the last one is complete.

    Trailing bytes that are no member are ignored.
    """
    found, at, decoder, whole = bytearray(), 0, decoder_of(), False
    while at < len(body) and len(found) < limit:
        piece = body[at : at + _PIECE]
        try:
            found += decoder.decompress(piece, limit - len(found))
        except error:
            break
        at += len(piece)
        whole = decoder.eof or (whole and not piece.startswith(body[:2]))  # else another member has begun
        if decoder.eof:
            at -= len(decoder.unused_data)
            decoder = decoder_of()
    return bytes(found), whole


def _brotli(module: ModuleType, body: bytes, limit: int) -> tuple[bytes, bool]:
    found, decoder = bytearray(), module.Decompressor()
    for start in range(0, len(body), _BROTLI_PIECE):
        if len(found) >= limit:
            break
        try:
            found += decoder.process(body[start : start + _BROTLI_PIECE])
        except module.error:
            return bytes(found), False
    return bytes(found), decoder.is_finished()


def _installed(*names: str) -> ModuleType | None:
    """Return the first of the modules that is installed."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
