"""Files that pass for videos."""

from __future__ import annotations

import random

BRANDS = b"isom\x00\x00\x02\x00isommp42"
SMALLEST = 265
"""Bytes of the smallest clip: the type, an index, and a payload of one byte."""


def make_mp4(size: int, seed: int = 0) -> bytes:
    """Return an MP4 of exactly `size` bytes: ftyp, moov, and an mdat of noise that depends on `seed`.

    Raises `ValueError` below `SMALLEST` bytes.
    """
    if size < SMALLEST:
        msg = f"the smallest clip has {SMALLEST} bytes, not {size}"
        raise ValueError(msg)
    head = box(b"ftyp", BRANDS) + INDEX
    noise = random.Random(seed).randbytes(size - len(head) - 8)
    return head + box(b"mdat", noise)


def box(kind: bytes, payload: bytes) -> bytes:
    """Return one box: its length in 4 bytes, its kind, its payload (ISO/IEC 14496-12, 4.2)."""
    return (len(payload) + 8).to_bytes(4, "big") + kind + payload


TRACK = box(b"trak", box(b"tkhd", bytes(84)) + box(b"mdia", box(b"minf", b"")))
INDEX = box(b"moov", box(b"mvhd", bytes(100)) + TRACK)
"""The least in which a player finds a track."""
