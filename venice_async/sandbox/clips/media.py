"""Clips: their size, a tiny stand-in, and what can be read from one that was sent along."""

from __future__ import annotations

import base64
import random
import re
import struct
from collections.abc import Mapping
from typing import Any, Protocol, cast

from attrs import frozen

from ...sansio.clip.mp4 import movie_seconds

Clip = bytes | memoryview


class ClipMaker(Protocol):
    """Makes a clip at once; `render_clip` is one."""

    def __call__(self, *, prompt: str, model: str, seconds: float, width: int, height: int) -> Clip:
        """Return the clip: `seconds` long, `width` x `height` pixels."""
        ...


Clips = Clip | ClipMaker
"""Fixed bytes for every job, or what makes them: called on the event loop, so it has to be quick."""

DEFAULT_SECONDS = 5.0

_TIMESCALE = 1000
_MDAT_HEAD = 16
_BLOCK = 65_521  # a prime, so that no power of two maps the pattern onto itself


@frozen
class Source:
    """What is known of a clip: seconds, and its size in pixels."""

    seconds: float = DEFAULT_SECONDS
    width: int = 640
    height: int = 360


def frame_size(resolution: str | None, aspect_ratio: str | None) -> tuple[int, int]:
    """Return width and height in pixels, both even; the resolution names the shorter side.

    Unset they are 720p and 16:9.
    """
    named = re.search(r"(\d+)p", resolution or "", re.IGNORECASE)
    short = int(named[1]) if named else {"2K": 1440, "4k": 2160}.get(resolution or "", 720)
    across, _, down = (aspect_ratio or "").partition(":")
    wide, high = (int(across), int(down)) if across.isdigit() and down.isdigit() else (16, 9)
    long = short * max(wide, high) / min(wide, high)
    width, height = (long, short) if wide >= high else (short, long)
    return round(width / 2) * 2, round(height / 2) * 2


def tiny_clip(size: int = 4096, *, seconds: float = DEFAULT_SECONDS, seed: int = 0) -> bytes:
    """Return `size` bytes with the box structure of an MP4 (`ftyp`, `moov`, `mdat`) but no picture.

    The payload of `mdat` is a pseudo-random pattern, so that bytes at a wrong offset are noticed. Other seeds
    give other clips.

    Raises:
        ValueError: when `size` is too small for the boxes, which take 296 bytes.
    """
    matrix = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    times = struct.pack(">4I", 0, 0, _TIMESCALE, round(seconds * _TIMESCALE))
    rates = struct.pack(">IH", 0x10000, 0x100)  # of picture and sound: as recorded
    movie = bytes(4) + times + rates + bytes(10) + matrix + bytes(24) + b"\0\0\0\2"
    track = _box(b"tkhd", bytes(84)) + _box(b"mdia", _box(b"mdhd", bytes(24)))
    index = _box(b"mvhd", movie) + _box(b"trak", track)
    head = _box(b"ftyp", b"isom\0\0\2\0isommp41") + _box(b"moov", index)
    left = size - len(head)
    if left < _MDAT_HEAD:
        msg = f"a clip takes at least {len(head) + _MDAT_HEAD} bytes, not {size}"
        raise ValueError(msg)
    block = random.Random(seed).randbytes(_BLOCK)  # noqa: S311 - a pattern, not a secret
    whole, rest = divmod(left - _MDAT_HEAD, _BLOCK)
    return b"".join((head, struct.pack(">I4sQ", 1, b"mdat", left), *([block] * whole), block[:rest]))


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def inspect(reference: object) -> Source:
    """Return what the headers of an MP4 in a `data:` URL say; the default for anything else.

    Box fields by ISO/IEC 14496-12: `mvhd` for the duration, the first `tkhd` with a size for the frame.
    """
    if not isinstance(reference, str) or not reference.startswith("data:"):
        return Source()
    try:
        content = base64.b64decode(reference.partition(",")[2])
    except ValueError:
        return Source()
    seconds = movie_seconds(lambda at, count: content[at : at + count], len(content)) or DEFAULT_SECONDS
    for header in re.finditer(b"tkhd", content):
        at = header.end() + (88 if content[header.end() : header.end() + 1] == b"\1" else 76)
        width, height = (int.from_bytes(content[place : place + 2], "big") for place in (at, at + 4))
        if width and height:
            return Source(seconds, width, height)
    return Source(seconds)


def seconds_of(body: Mapping[str, Any], *, upscales: bool) -> float:
    """Return how long the clip asked for is, in seconds, as stated or as its source is."""
    if upscales:
        return inspect(body.get("video_url")).seconds
    duration = str(body.get("duration"))[:-1]
    return float(duration) if duration.isdigit() else reference_seconds(body) or DEFAULT_SECONDS


def reference_seconds(body: Mapping[str, Any]) -> float:
    """Return the total length of the reference videos in seconds, as stated or as found."""
    stated, videos = body.get("reference_video_total_duration"), body.get("reference_video_urls")
    if isinstance(stated, int | float) and stated > 0:
        return float(stated)
    return (
        sum(inspect(item).seconds for item in cast("list[object]", videos))
        if isinstance(videos, list)
        else 0.0
    )
