"""Parts of an MP4 (ISO/IEC 14496-12), to build files that are none."""

from __future__ import annotations


def box(kind: bytes, payload: bytes) -> bytes:
    """Return one box: its length in 4 bytes, its kind, its payload (4.2)."""
    return (len(payload) + 8).to_bytes(4, "big") + kind + payload


BRANDS = b"isom\x00\x00\x02\x00isommp42"
TRACK = box(b"trak", box(b"tkhd", bytes(84)) + box(b"mdia", box(b"minf", b"")))
INDEX = box(b"moov", box(b"mvhd", bytes(100)) + TRACK)
"""The least in which a player finds a track."""
