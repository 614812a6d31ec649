"""Stand-in clips, frame sizes, and what is read from clips that are sent along."""

from __future__ import annotations

import base64
import struct

import pytest

from tests.cases import for_each
from venice_async.sandbox import tiny_clip
from venice_async.sandbox.clips.media import Source, frame_size, inspect

SMALLEST = 296


def boxes(content: bytes) -> list[tuple[bytes, int]]:
    """Walk the top-level boxes of an MP4."""
    found: list[tuple[bytes, int]] = []
    at = 0
    while at < len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        size = struct.unpack_from(">Q", content, at + 8)[0] if size == 1 else size
        found.append((kind, size))
        at += size
    assert at == len(content)
    return found


@for_each("size", [SMALLEST, SMALLEST + 1, 4096, 1_000_003])
def test_a_tiny_clip_has_the_size_asked_for_and_boxes_that_fill_it(size: int) -> None:
    clip = tiny_clip(size)
    assert size == len(clip)
    assert [b"ftyp", b"moov", b"mdat"] == [kind for kind, _ in boxes(clip)]


def test_a_clip_too_small_for_its_boxes_is_refused() -> None:
    with pytest.raises(ValueError, match=str(SMALLEST)):
        tiny_clip(SMALLEST - 1)


def test_another_seed_makes_another_clip() -> None:
    assert tiny_clip(500) == tiny_clip(500, seed=0) != tiny_clip(500, seed=1)


def test_a_clip_shifted_by_any_amount_differs_from_itself() -> None:
    clip = tiny_clip(300_000)
    assert all(
        clip[500:1000] != clip[500 + shift : 1000 + shift] for shift in (1, 512, 4096, 65_536, 262_144)
    )


def test_the_length_of_a_clip_that_is_sent_along_is_read_from_its_header() -> None:
    encoded = base64.b64encode(tiny_clip(500, seconds=12.5)).decode()
    assert Source(12.5) == inspect(f"data:video/mp4;base64,{encoded}")


@for_each("reference", [None, 5, "https://example.com/clip.mp4", "data:video/mp4;base64,AAA", "data:,"])
def test_what_cannot_be_read_is_taken_for_five_seconds(reference: object) -> None:
    assert Source(5.0, 640, 360) == inspect(reference)


@for_each(
    "resolution, ratio, size",
    [
        (None, None, (1280, 720)),
        ("720p", "9:16", (720, 1280)),
        ("480p", "16:9", (854, 480)),
        ("1080p", "1:1", (1080, 1080)),
        ("4k", "21:9", (5040, 2160)),
        ("768P", "adaptive", (1366, 768)),
        ("1080P", None, (1920, 1080)),
        ("true_1080p", None, (1920, 1080)),
    ],
)
def test_the_resolution_names_the_shorter_side(
    resolution: str | None, ratio: str | None, size: tuple[int, int]
) -> None:
    assert size == frame_size(resolution, ratio)
