"""What a clip looks like: its size, its length, and one frame as a JPEG. Needs PyAV, of the sandbox extra."""

from __future__ import annotations

import base64
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Final

import av
from attrs import frozen

_WIDTH: Final = 480  # pixels: sharp on a card of the report, some 15 KB each
_MOMENT: Final = 0.3  # the part of the clip at which a frame tells most; the first is often black
_PATIENCE: Final = 240  # frames decoded at most to come there from the last key frame
_MICROSECONDS: Final = 1_000_000


@frozen(kw_only=True)
class Look:
    """What was found in a clip.

    Attributes:
        width: pixels.
        height: pixels.
        seconds: how long it plays; None when the file does not say.
        jpeg: one frame of it, at most 480 pixels wide.
    """

    width: int
    height: int
    seconds: float | None
    jpeg: bytes

    @property
    def poster(self) -> str:
        """The frame as a `data:` URL."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


def look(clip: Path) -> Look | None:
    """Return what a clip looks like; None for a file that cannot be decoded."""
    try:
        return _decode(clip)
    except (OSError, ValueError, IndexError):  # PyAV's errors, by what FFmpeg found wrong; or no video stream
        return None


def _decode(clip: Path) -> Look | None:
    with av.open(str(clip.absolute())) as container:
        seconds = container.duration / _MICROSECONDS if container.duration else None
        moment = (seconds or 0.0) * _MOMENT
        container.streams.video[0].thread_type = "AUTO"
        container.seek(int(moment * _MICROSECONDS))
        frame: av.VideoFrame | None = None
        for frame in islice(container.decode(video=0), _PATIENCE):
            if frame.pts is not None and frame.time >= moment:
                break
        if frame is None:
            return None
        return Look(width=frame.width, height=frame.height, seconds=seconds, jpeg=_jpeg(frame))


def _jpeg(frame: av.VideoFrame) -> bytes:
    width = min(_WIDTH, frame.width)
    height = max(2, round(frame.height * width / frame.width))
    picture = frame.reformat(width=width, height=height, format="yuvj420p")
    picture.pts = 0
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "yuvj420p", Fraction(1)
    packets: list[Any] = [*encoder.encode(picture), *encoder.encode(None)]  # pyright: ignore[reportUnknownMemberType] - PyAV's Packet leaves its parameter open
    return b"".join(map(bytes, packets))
