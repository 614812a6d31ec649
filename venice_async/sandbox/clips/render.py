"""Clips for the sandbox: real H.264 in real MP4. The prompt stands over moving colours, and a bar grows."""

# pyright: reportUnknownMemberType=false
# PyAV leaves the kind of a packet open in its annotations.

from __future__ import annotations

import colorsys
import hashlib
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av import VideoFormat
from av.filter import Graph
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from PIL import Image, ImageDraw, ImageFont

SMALLEST_SIDE: Final = 128
"""Pixels; a smaller picture holds no words."""

COARSENESS: Final = 10
"""Pixels of the picture to one of the gradient, which is made small and enlarged."""

LONGEST: Final = 1_000
"""Characters of a text that are looked at; no picture holds more."""


def render_clip(*, prompt: str, model: str, seconds: float, width: int, height: int, fps: int = 24) -> bytes:
    """Return an MP4 of `seconds` at `width` by `height` pixels, made even and at least `SMALLEST_SIDE`.

    It is H.264, yuv420p, its index first, and the same for the same arguments and libraries. Every frame
    differs from the one before, and shows the prompt and the model. It takes about a quarter of the clip's
    length at 720p on one core, so it belongs in a worker thread.

    Raises `ValueError` for a length or a frame rate that is not positive.
    """
    if not (seconds > 0 and fps > 0):
        msg = f"a clip of {seconds} s at {fps} frames a second cannot be rendered"
        raise ValueError(msg)
    width, height = (max(SMALLEST_SIDE, side // 2 * 2) for side in (width, height))
    count = max(1, round(seconds * fps))
    graph = _graph(prompt, model, width=width, height=height, count=count, fps=fps)
    with tempfile.TemporaryDirectory() as folder:  # the muxer reads its file again to put the index first
        path = Path(folder, "clip.mp4")
        with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "28"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            context = stream.codec_context
            context.gop_size, context.thread_count = 2 * fps, 1
            context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
            context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
            for _ in range(count):
                container.mux(stream.encode(graph.vpull()))
            container.mux(stream.encode())
        return path.read_bytes()


def _graph(prompt: str, model: str, *, width: int, height: int, count: int, fps: int) -> Graph:
    """Return a graph that gives the frames: a gradient in colours of its own, the words, and the bar."""
    seed = hashlib.sha256(f"{model}\n{prompt}".encode(errors="replace")).digest()
    hue, across, down = seed[0] / 256, width // COARSENESS, height // COARSENESS
    look = f"nb_colors=3:x0=0:y0=0:x1={across}:y1={down}:speed=0.02:seed={seed[1]}"
    for number, shade in enumerate(((hue, 0.75, 0.25), (hue + 0.08, 0.65, 0.45), (hue + 0.18, 0.6, 0.55))):
        look += f":c{number}=0x" + "".join(f"{round(part * 255):02x}" for part in colorsys.hsv_to_rgb(*shade))
    graph = Graph()
    gradient = graph.add("gradients", f"size={across}x{down}:rate={fps}:{look}")
    enlarged = graph.add("scale", f"{width}:{height}:flags=bicubic:out_color_matrix=bt709:out_range=tv")
    plain = graph.add("format", "yuv420p")
    words = graph.add_buffer(
        width=width, height=height, format=VideoFormat("rgba"), time_base=Fraction(1, fps)
    )
    captioned = graph.add("overlay", "eof_action=repeat")
    white = graph.add("color", f"color=white:size={width}x{max(2, min(width, height) // 60)}:rate={fps}")
    done = graph.add("overlay", f"x=-w+w*(n+1)/{count}:y=H-h")
    for source, target in ((gradient, enlarged), (enlarged, plain), (plain, captioned), (captioned, done)):
        source.link_to(target)
    words.link_to(captioned, 0, 1)
    white.link_to(done, 0, 1)
    done.link_to(graph.add("buffersink"))
    graph.configure()
    picture = _caption(prompt, model, width=width, height=height)
    words.push(av.VideoFrame.from_bytes(picture.tobytes(), width, height, format="rgba"))
    words.push(None)
    return graph


def _caption(prompt: str, model: str, *, width: int, height: int) -> Image.Image:
    """Return the words on nothing: the model small above the prompt, which is as large as fits."""
    picture, side = Image.new("RGBA", (width, height)), min(width, height)
    margin, small = max(6, side // 16), max(9, side // 28)
    for text, size, top, bottom in (
        (model, small, margin, margin + 2 * small),
        (prompt, side // 11, margin + 2 * small, height - margin),
    ):
        while True:
            font, most = ImageFont.load_default(size), max(1, int((bottom - top) / (size * 1.3)))
            lines = _wrapped(text, font, width - 2 * margin)
            if len(lines) <= most:
                break
            if size <= small:
                lines[most - 1 :] = [lines[most - 1][:-2] + " …"]
                break
            size = max(small, size * 4 // 5)  # noqa: PLW2901 - one size smaller
        for number, line in enumerate(lines):
            ImageDraw.Draw(picture).text(
                (margin, top + number * size * 1.3),
                line,
                fill="white",
                font=font,
                stroke_width=max(1, size // 24),
                stroke_fill="#0008",
            )
    return picture


def _wrapped(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Return what can be shown of `text` in lines no wider than `width`; a word that is wider is broken."""
    lines = [""]
    for word in "".join(letter if letter.isprintable() else " " for letter in text[:LONGEST]).split():
        if font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] = f"{lines[-1]} {word}".strip()
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]
