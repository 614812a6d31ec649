"""Clips for the sandbox: real H.264 in real MP4, which show what was asked for and how far they have come."""

# pyright: reportUnknownMemberType=false
# PyAV leaves the kind of a packet open in its annotations.

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from .frame import Picture

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .lettering import Pixels

SMALLEST_SIDE = 128
"""Pixels; a smaller picture holds no words."""

LARGE = 1_500_000
"""Pixels, from which encoding fast matters more than a small file."""


def render_clip(*, prompt: str, model: str, seconds: float, width: int, height: int, fps: int = 24) -> bytes:
    """Return an MP4 of `seconds` at `width` by `height` pixels, made even and at least `SMALLEST_SIDE`.

    It is H.264, yuv420p, its index first, and the same for the same arguments and libraries. Every frame is
    different and shows the prompt, the model, the running time and its number. It takes about a fifth of the
    clip's length at 720p on one core, so it belongs in a worker thread.

    Raises `ValueError` for a length or a frame rate that is not positive.
    """
    if not (seconds > 0 and fps > 0):
        msg = f"a clip of {seconds} s at {fps} frames a second cannot be rendered"
        raise ValueError(msg)
    size = max(SMALLEST_SIDE, width // 2 * 2), max(SMALLEST_SIDE, height // 2 * 2)
    count = max(1, round(seconds * fps))
    picture = Picture(prompt=prompt, model=model, width=size[0], height=size[1])
    frames = (picture.at(number, of=count, fps=fps) for number in range(count))
    with tempfile.TemporaryDirectory() as folder:  # the muxer reads its file again to put the index first
        path = Path(folder, "clip.mp4")
        _encode(path, frames, size=size, fps=fps)
        return path.read_bytes()


def _encode(path: Path, frames: Iterable[Pixels], *, size: tuple[int, int], fps: int) -> None:
    preset = "ultrafast" if size[0] * size[1] > LARGE else "superfast"
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": preset, "crf": "24"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.gop_size = 2 * fps
        context.thread_count = 1
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for planes in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode())
