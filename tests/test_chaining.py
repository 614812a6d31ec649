"""Frames of clips, and clips joined: real clips, small ones."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import pytest
from av.video.reformatter import Colorspace
from PIL import Image

from venice_async import Ticket, UsageError, Video, concat, last_frame, thumbnail

RED, GREEN, WHITE = (200, 30, 60), (20, 130, 60), (255, 255, 255)
FRAMES = 12


def make(
    path: Path,
    *,
    colour: tuple[int, int, int] = RED,
    sound: bool = True,
    width: int = 128,
    left: tuple[int, int, int] | None = None,
) -> Path:
    """Write half a second of a colour at 24 frames a second, the last frame white, as H.264 with B-frames."""
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=24, options={"bf": "2", "crf": "10"})
        video.width, video.height, video.pix_fmt = width, 96, "yuv420p"
        video.codec_context.colorspace = Colorspace.ITU709
        audio = container.add_stream("aac", rate=44_100, layout="mono") if sound else None
        for number in range(FRAMES):
            picture = Image.new("RGB", (width, 96), WHITE if number == FRAMES - 1 else colour)
            if left is not None:
                picture.paste(left, (0, 0, width // 2, 96))
            rgb = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]
            frame = rgb.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts, frame.time_base = number, Fraction(1, 24)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            for start in range(0, 22_050, 1024):
                silence = av.AudioFrame(format="fltp", layout="mono", samples=min(1024, 22_050 - start))
                silence.planes[0].update(bytes(silence.planes[0].buffer_size))
                silence.pts, silence.sample_rate, silence.time_base = start, 44_100, Fraction(1, 44_100)
                container.mux(audio.encode(silence))
            container.mux(audio.encode())
    return path


@pytest.fixture
def red(tmp_path: Path) -> Path:
    return make(tmp_path / "red.mp4")


def is_like(colour: tuple[int, int, int], picture: Image.Image) -> bool:
    found: Any = picture.convert("RGB").getpixel((20, 20))
    return all(abs(one - other) <= 4 for one, other in zip(colour, found, strict=True))


def shown(data: bytes | None) -> Image.Image:
    return Image.open(BytesIO(data or b""))


def test_the_last_frame_is_an_image_of_the_clips_size_and_colours(red: Path) -> None:
    frame = asyncio.run(last_frame(red))
    picture = shown(frame.data)
    assert ("image/png", "PNG", (128, 96)) == (frame.media_type, picture.format, picture.size)
    assert is_like(WHITE, picture)


def test_a_thumbnail_is_a_small_jpeg_of_a_moment_that_tells_something(red: Path) -> None:
    video = Video(path=red, size=1, sha256="", ticket=Ticket(model="m", queue_id="q"))
    picture = shown(asyncio.run(thumbnail(video, width=64)).data)
    assert ("JPEG", (64, 48)) == (picture.format, picture.size)
    assert is_like(RED, picture)
    assert is_like(WHITE, shown(asyncio.run(thumbnail(str(red), at=100.0, format="png")).data))


def test_frames_of_a_turned_clip_are_upright(tmp_path: Path) -> None:
    """A phone films lying down, and notes in the track's matrix how to turn it: here a quarter clockwise."""
    path = make(tmp_path / "turned.mp4", left=GREEN, sound=False)
    flat, turned = (
        b"".join(number.to_bytes(4, "big", signed=True) for number in matrix)
        for matrix in ((1 << 16, 0, 0, 0, 1 << 16), (0, 1 << 16, 0, -1 << 16, 0))
    )
    track = path.read_bytes().partition(b"tkhd")
    path.write_bytes(track[0] + track[1] + track[2].replace(flat, turned, 1))
    for picture, below in ((last_frame, WHITE), (thumbnail, RED)):
        found = shown(asyncio.run(picture(path)).data)
        assert (96, 128) == found.size
        assert is_like(GREEN, found)  # what was on the left is above
        assert is_like(below, found.rotate(180))


def test_joined_clips_play_every_frame_in_order_with_the_index_in_front(red: Path) -> None:
    green = make(red.with_name("green.mp4"), colour=GREEN)
    joined = asyncio.run(concat([red, str(green), red], to=red.with_name("film.mp4")))
    data = joined.path.read_bytes()
    assert (len(data), True) == (joined.size, data.index(b"moov") < data.index(b"mdat"))
    with av.open(joined.path) as container:
        frames = list(container.decode(video=0))
        times = [frame.time for frame in frames]
        assert 3 * FRAMES == len(frames)
        assert sorted(set(times)) == times
        assert is_like(RED, frames[0].to_image())  # type: ignore[no-untyped-call]
        assert is_like(GREEN, frames[FRAMES].to_image())  # type: ignore[no-untyped-call]
        assert 1.5 == pytest.approx((container.duration or 0) / av.time_base, abs=0.1)
    with av.open(joined.path) as container:
        assert 3 * 22_050 == pytest.approx(
            sum(frame.samples for frame in container.decode(audio=0)), abs=4096
        )
    assert [] == [path for path in red.parent.iterdir() if path.name.startswith(".")]


def test_joining_replaces_nothing_unasked_and_a_clip_of_its_own_when_asked(red: Path) -> None:
    before = red.read_bytes()
    with pytest.raises(UsageError, match="exists"):
        asyncio.run(concat([red, red], to=red))
    assert before == red.read_bytes()
    assert asyncio.run(concat([red, red], to=red, overwrite=True)).size == len(red.read_bytes()) > len(before)


def test_clips_that_differ_are_not_joined_and_the_error_says_in_what(red: Path) -> None:
    silent = make(red.with_name("silent.mp4"), sound=False)
    wide = make(red.with_name("wide.mp4"), width=160)
    for other, said in ((silent, "sound: aac and none"), (wide, "size: 128x96 and 160x96")):
        with pytest.raises(UsageError, match=said):
            asyncio.run(concat([red, other], to=red.with_name("film.mp4")))
    unplanned = make(red.with_name("matroska.mkv"))
    with pytest.raises(UsageError, match=r"matroska\.mkv' does not say when its frames are to be decoded"):
        asyncio.run(concat([unplanned], to=red.with_name("film.mp4")))
    assert not red.with_name("film.mp4").exists()


def test_a_picture_that_makes_no_sense_is_refused_with_what_it_may_be(red: Path) -> None:
    odd: Any = "jpg"
    for work, said in (
        (last_frame(red, format=odd), "format must be 'png' or 'jpeg', not 'jpg'"),
        (thumbnail(red, width=0), "width must be a number at least 1, not 0"),
        (thumbnail(red, width=odd), "width must be a number at least 1, not 'jpg'"),
        (thumbnail(red, at=-1), "at must be a number at least 0, not -1"),
    ):
        with pytest.raises(UsageError, match=said):
            asyncio.run(work)


@pytest.mark.parametrize("content", [None, b"", b"no video at all", b"\0\0\0\x14ftypisom\0\0\0\0isom"])
def test_what_is_no_video_is_a_clear_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    for work in (last_frame(path), thumbnail(path), concat([path], to=tmp_path / "film.mp4")):
        with pytest.raises(UsageError, match=r"clip\.mp4' cannot be read as a video: \w"):
            asyncio.run(work)
    assert [] == list(tmp_path.glob("film*"))


def test_without_its_extra_the_error_says_what_to_install() -> None:
    code = """
import asyncio, importlib.util, sys
import venice_async
importlib.util.find_spec = lambda name: None
try:
    asyncio.run(venice_async.last_frame("clip.mp4"))
except venice_async.UsageError as error:
    print(error)
"""
    said = subprocess.check_output([sys.executable, "-c", code], text=True)  # noqa: S603 - our own code
    assert "Frames and joined clips need PyAV and Pillow." in said
    assert "pip install 'venice-async[media]'" in said
