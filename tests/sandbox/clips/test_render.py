# pyright: reportUnknownMemberType=false
# PyAV and NumPy leave parts of their annotations open.
"""The sandbox's clips are real, and show what they should."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from venice_async.sandbox.clips.frame import Picture, clock
from venice_async.sandbox.clips.lettering import clean, drawable, own_font, paragraph, wrapped
from venice_async.sandbox.clips.render import render_clip
from venice_async.sandbox.clips.scene import Scene

PROMPT = "A lighthouse at dusk while the first stars come out, slow dolly-in"
Pictures = NDArray[np.uint8]


@frozen(kw_only=True, eq=False)
class Decoded:
    """What a player makes of a clip: its luma planes, one for each frame, and what it was told about them."""

    luma: Pictures
    seconds: float
    times: list[float]
    codec: str
    pixels: str | None


def decoded(clip: bytes) -> Decoded:
    with av.open(io.BytesIO(clip), "r") as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        return Decoded(
            luma=np.stack([frame.to_ndarray(format="gray") for frame in frames]).astype(np.uint8),
            seconds=(container.duration or 0) / 1_000_000,
            times=[frame.time or 0.0 for frame in frames],
            codec=stream.codec_context.name,
            pixels=stream.codec_context.pix_fmt,
        )


def clip(
    *,
    prompt: str = PROMPT,
    model: str = "m",
    seconds: float = 0.5,
    size: tuple[int, int] = (256, 144),
    fps: int = 24,
) -> bytes:
    return render_clip(prompt=prompt, model=model, seconds=seconds, width=size[0], height=size[1], fps=fps)


@pytest.mark.parametrize("size", [(256, 144), (144, 256), (256, 256), (854, 480)])
@pytest.mark.parametrize(("seconds", "fps", "count"), [(1, 24, 24), (0.5, 30, 15), (2, 8, 16)])
def test_a_clip_has_its_size_its_length_and_all_its_frames(
    size: tuple[int, int], seconds: float, fps: int, count: int
) -> None:
    seen = decoded(clip(size=size, seconds=seconds, fps=fps))
    assert (count, size[1], size[0]) == seen.luma.shape
    assert pytest.approx(seconds, abs=0.002) == seen.seconds
    assert pytest.approx([number / fps for number in range(count)]) == seen.times
    assert ("h264", "yuv420p") == (seen.codec, seen.pixels)


def test_every_frame_differs_from_the_one_before() -> None:
    luma = decoded(clip(seconds=2)).luma.astype(np.int16)
    changed = np.abs(np.diff(luma, axis=0)).max(axis=(1, 2))
    assert changed.min() > 20


def test_a_large_clip_is_encoded_whole() -> None:
    seen = decoded(clip(size=(3840, 2160), seconds=2 / 24))
    assert (2, 2160, 3840) == seen.luma.shape


def test_the_index_comes_first() -> None:
    data = clip()
    assert b"ftyp" == data[4:8]
    assert data.index(b"moov") < data.index(b"mdat")


def test_the_same_arguments_give_the_same_bytes_and_others_do_not() -> None:
    assert clip() == clip()
    assert clip() != clip(prompt="Another")
    assert clip() != clip(model="another")


@pytest.mark.parametrize(
    ("asked", "given"), [((257, 145), (256, 144)), ((1, 2), (128, 128)), ((0, 300), (128, 300))]
)
def test_odd_and_tiny_sizes_are_made_to_fit(asked: tuple[int, int], given: tuple[int, int]) -> None:
    assert (1, given[1], given[0]) == decoded(clip(size=asked, seconds=0.01)).luma.shape


@pytest.mark.parametrize(("seconds", "fps"), [(0, 24), (-1, 24), (float("nan"), 24), (1, 0)])
def test_no_length_is_an_error(seconds: float, fps: int) -> None:
    with pytest.raises(ValueError, match="cannot be rendered"):
        clip(seconds=seconds, fps=fps)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        " \n\t ",
        "🎬🐕 🚀",
        "W" * 2_500,
        "word " * 500,
        "مرحبا بالعالم שלום",
        "서울 日本語",
        "\ud800 \x00\x1b[31m\u202e",
        "a\u0301\u200d" * 50,
        "x" * 20_000,
    ],
)
@pytest.mark.parametrize("size", [(128, 128), (256, 144)])
def test_no_prompt_breaks_a_clip(prompt: str, size: tuple[int, int]) -> None:
    seen = decoded(clip(prompt=prompt, model=prompt, size=size, seconds=0.1))
    assert (2, size[1], size[0]) == seen.luma.shape


def contrast(luma: Pictures) -> float:
    """Return the contrast ratio between letters and what is close around them (WCAG 2.2, 1.4.3)."""
    letters = Image.fromarray(((luma > 200) * 255).astype(np.uint8))
    near, close = (np.asarray(letters.filter(ImageFilter.MaxFilter(size))) > 0 for size in (7, 3))
    around = luma[near & ~close]
    light, dark = (
        ((plane.astype(float) - 16) / 219).clip(0, 1) ** 2.2 for plane in (luma[luma > 200], around)
    )
    return float((light.mean() + 0.05) / (dark.mean() + 0.05))


@pytest.mark.parametrize("size", [(1280, 720), (480, 854), (256, 256), (640, 360)])
@pytest.mark.parametrize("model", ["a", "b", "c", "d", "e", "f"])
def test_words_are_readable_on_every_scene(size: tuple[int, int], model: str) -> None:
    width, height = size
    picture = Picture(prompt=PROMPT, model=model, width=width, height=height).at(3, of=10, fps=24)
    words = picture[height // 10 : height // 2, : width // 2]
    assert (words > 200).mean() > 0.03
    assert contrast(words) > 4.5


def test_the_clock_and_the_counter_run_below_the_words() -> None:
    picture = Picture(prompt=PROMPT, model="m", width=1280, height=720)
    first, second = (picture.at(number, of=120, fps=24)[626:666] for number in (71, 72))
    for side in (slice(0, 640), slice(640, 1280)):
        assert (first[:, side] > 200).mean() > 0.01
        assert (np.abs(first[:, side].astype(int) - second[:, side]) > 100).sum() > 20
        assert contrast(first[:, side]) > 4.5


def test_the_scene_moves_and_has_colours_of_its_own() -> None:
    scene, other = (Scene(subject=subject, width=320, height=180) for subject in "ab")
    start, later = scene.planes(0).astype(int), scene.planes(2).astype(int)
    assert (np.abs(start - later)[:180] > 5).mean() > 0.05
    assert (np.abs(start - other.planes(0))[180:] > 5).mean() > 0.5


def test_the_progress_bar_grows_from_frame_to_frame_and_ends_full() -> None:
    picture = Picture(prompt="", model="m", width=640, height=360)
    lengths = [int((picture.at(number, of=12, fps=24)[:360] > 230).sum(axis=1).max()) for number in range(12)]
    assert sorted(set(lengths)) == lengths
    assert lengths[-1] > 580


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00.000"), (3.125, "00:03.125"), (59.9996, "01:00.000"), (754.5, "12:34.500")],
)
def test_a_time_reads_minutes_seconds_and_thousandths(seconds: float, text: str) -> None:
    assert text == clock(seconds)


@pytest.mark.parametrize("text", ["one two three four five", "W" * 300, "a " + "b" * 200 + " c"])
def test_wrapping_loses_nothing_and_stays_within_the_width(text: str) -> None:
    font = own_font(20)
    lines = wrapped(text.split(), font, 150)
    assert text.replace(" ", "") == "".join(lines).replace(" ", "")
    assert max(font.getlength(line) for line in lines) <= 150
    assert len(lines) > 1


@given(words=st.lists(st.text("aWi.m", min_size=1, max_size=9), min_size=1), width=st.integers(30, 300))
def test_no_line_is_wider_than_it_may(words: list[str], width: int) -> None:
    font = own_font(20)
    lines = wrapped(words, font, width)
    assert "".join(words) == "".join(lines).replace(" ", "")
    assert max(font.getlength(line) for line in lines) <= width + 1  # letters may draw closer to a space


def test_a_long_text_is_set_smaller_and_then_cut_short() -> None:
    def heights(text: str) -> int:
        rows = np.asarray(paragraph(text, width=300, height=100, largest=60)).max(axis=1) > 0
        return int(np.diff(np.flatnonzero(np.diff(rows.astype(int), prepend=0, append=0))).max())

    assert heights("Rain") > 2 * heights("Rain " * 30) > 0
    assert heights("Rain " * 5_000) > 0


def test_syllables_without_a_letter_are_spelt_as_they_are_read() -> None:
    assert "saebyeog gondolra: na no, 夜" == drawable("새벽 곤돌라: ナ の, 夜", own_font(16))


def test_what_cannot_be_drawn_is_left_out() -> None:
    assert "a b c" == clean(" a\n\tb \x00\ud800\u202ec ")
    full, bare = (paragraph(text, width=200, height=40, largest=30) for text in ("Dog 🐕", "Dog"))
    assert full.tobytes() == bare.tobytes()
