"""Clips: their size, a tiny stand-in, and what can be read from one that was sent along."""

from __future__ import annotations

import base64
import binascii
import random
import struct
from collections.abc import Mapping
from typing import Any, Protocol, cast

from attrs import frozen

Clip = bytes | memoryview


class ClipMaker(Protocol):
    """Makes a clip at once; `render_clip` is one."""

    def __call__(self, *, prompt: str, model: str, seconds: float, width: int, height: int) -> Clip:
        """Return the clip: `seconds` long, `width` x `height` pixels."""
        ...


Clips = Clip | ClipMaker
"""Fixed bytes for every job, or what makes them: called on the event loop, so it has to be quick."""

DEFAULT_SECONDS = 5.0

_SHORT_SIDE: Mapping[str, int] = {
    "256p": 256,
    "360p": 360,
    "480p": 480,
    "540p": 540,
    "580p": 580,
    "720p": 720,
    "768P": 768,
    "1080p": 1080,
    "true_1080p": 1080,
    "1440p": 1440,
    "2K": 1440,
    "2160p": 2160,
    "4k": 2160,
}
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
    short = _SHORT_SIDE.get(resolution or "", 720)
    across, _, down = (aspect_ratio or "").partition(":")
    wide, high = (int(across), int(down)) if across.isdigit() and down.isdigit() else (16, 9)
    long = short * max(wide, high) / min(wide, high)
    size = (long, short) if wide >= high else (short, long)
    return _even(size[0]), _even(size[1])


def _even(pixels: float) -> int:
    return round(pixels / 2) * 2


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
    except (binascii.Error, ValueError):
        return Source()
    width, height = _track_size(content)
    return Source(_movie_seconds(content), width, height)


def _movie_seconds(content: bytes) -> float:
    at = content.find(b"mvhd") + 4
    if at < 4 or len(content) < at + 32:  # noqa: PLR2004 - not found; the fields of version 1 end there
        return DEFAULT_SECONDS
    layout, place = (">IQ", 20) if content[at] else (">II", 12)
    timescale, duration = struct.unpack_from(layout, content, at + place)
    return duration / timescale if timescale and duration else DEFAULT_SECONDS


def _track_size(content: bytes) -> tuple[int, int]:
    at = content.find(b"tkhd") + 4
    while at >= 4:  # noqa: PLR2004 - not found gives -1
        place = at + (88 if content[at : at + 1] == b"\1" else 76)
        if len(content) < place + 8:
            break
        width, height = struct.unpack_from(">II", content, place)
        if width and height:
            return width >> 16, height >> 16
        at = content.find(b"tkhd", at) + 4
    return Source().width, Source().height


def seconds_of(body: Mapping[str, Any], *, upscales: bool) -> float:
    """Return how long the clip asked for is, in seconds, as stated or as its source is."""
    duration = body.get("duration")
    if not upscales and isinstance(duration, str) and duration[:-1].isdigit():
        return float(duration[:-1])
    return inspect(body.get("video_url")).seconds if upscales else reference_seconds(body) or DEFAULT_SECONDS


def reference_seconds(body: Mapping[str, Any]) -> float:
    """Return the total length of the reference videos in seconds, as stated or as found."""
    stated = body.get("reference_video_total_duration")
    if isinstance(stated, int | float) and stated > 0:
        return float(stated)
    videos = body.get("reference_video_urls")
    return (
        sum(inspect(item).seconds for item in cast("list[object]", videos))
        if isinstance(videos, list)
        else 0.0
    )
