# pyright: reportUnknownMemberType=false
# PyAV leaves parts of its annotations open.
"""The sandbox's clips are real, and show what they should."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import av
import pytest
from PIL import Image, ImageChops

from tests.cases import for_each
from venice_async.sandbox.clips.render import render_clip

PROMPT = "A lighthouse at dusk while the first stars come out, slow dolly-in"


def clip(
    *,
    prompt: str = PROMPT,
    model: str = "m",
    seconds: float = 0.5,
    size: tuple[int, int] = (256, 144),
    fps: int = 24,
) -> bytes:
    return render_clip(prompt=prompt, model=model, seconds=seconds, width=size[0], height=size[1], fps=fps)


def pictures(clip: bytes) -> list[Image.Image]:
    with av.open(io.BytesIO(clip), "r") as container:
        frames: Any = container.decode(video=0)  # PyAV leaves `to_image` without annotations
        return [frame.to_image() for frame in frames]


@for_each(
    "asked, given, seconds, fps, count",
    [
        ((256, 144), (256, 144), 1, 24, 24),
        ((145, 257), (144, 256), 0.5, 30, 15),
        ((0, 300), (128, 300), 0.01, 24, 1),
        ((3840, 2160), (3840, 2160), 2 / 24, 24, 2),
    ],
)
def test_a_clip_has_its_size_its_length_and_all_its_frames(
    asked: tuple[int, int], given: tuple[int, int], seconds: float, fps: int, count: int
) -> None:
    made = clip(size=asked, seconds=seconds, fps=fps)
    with av.open(io.BytesIO(made), "r") as container:
        frames = list(container.decode(video=0))
        assert pytest.approx(count / fps, abs=0.002) == (container.duration or 0) / 1_000_000
        assert ("h264", "yuv420p") == (
            container.streams.video[0].codec_context.name,
            container.streams.video[0].codec_context.pix_fmt,
        )
    assert pytest.approx([number / fps for number in range(count)]) == [frame.time for frame in frames]
    assert {given} == {(frame.width, frame.height) for frame in frames}
    assert made.index(b"ftyp") < made.index(b"moov") < made.index(b"mdat")


def test_every_frame_differs_from_the_one_before_and_the_whole_picture_moves() -> None:
    seen = pictures(clip(seconds=2))
    assert all(ImageChops.difference(first, second).getbbox() for first, second in pairwise(seen))
    left, top, right, bottom = ImageChops.difference(seen[0], seen[-1]).getbbox() or (0, 0, 0, 0)
    assert (right - left) * (bottom - top) > 0.9 * 256 * 144


@for_each("size", [(1280, 720), (480, 854), (256, 256)])
def test_the_prompt_is_written_in_the_picture_in_white_on_dark(size: tuple[int, int]) -> None:
    """Without the words nothing there is light."""
    width, height = size
    area = (0, 0, width, height - height // 10)
    with_words, without = (
        pictures(clip(prompt=prompt, model="", size=size, seconds=0.1))[0].crop(area).convert("L").histogram()
        for prompt in (PROMPT, "")
    )
    assert sum(with_words[220:]) > 0.01 * width * height
    assert 0 == sum(without[190:])


def test_the_same_arguments_give_the_same_bytes_and_others_do_not() -> None:
    made = [clip(), clip(), clip(prompt="Another"), clip(model="another")]
    assert made[0] == made[1]
    assert 3 == len(set(made))


@for_each(
    "prompt",
    [
        "",
        " \n\t ",
        "🎬🐕 🚀",
        "W" * 20_000,
        "word " * 500,
        "مرحبا שלום 서울 日本語",
        "\ud800 \x00\x1b[31m\u202e",
        "a\u0301\u200d" * 50,
    ],
)
def test_no_prompt_breaks_a_clip(prompt: str) -> None:
    assert [(128, 128)] * 2 == [
        picture.size
        for picture in pictures(clip(prompt=prompt, model=prompt, size=(128, 128), seconds=2 / 24))
    ]


@for_each("seconds, fps", [(0, 24), (-1, 24), (float("nan"), 24), (1, 0)])
def test_no_length_is_an_error(seconds: float, fps: int) -> None:
    with pytest.raises(ValueError, match="cannot be rendered"):
        clip(seconds=seconds, fps=fps)
