"""The walk of an MP4's boxes: what is whole passes; what was cut, damaged or never a video does not."""

from __future__ import annotations

import random
from itertools import pairwise, permutations
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.boxes import BRANDS, INDEX, TRACK, box
from venice_async.errors import NotAVideoError, TruncatedError
from venice_async.sandbox import tiny_clip
from venice_async.sansio.clip.mp4 import LARGEST, BoxWalk, described, movie_seconds, suffix_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FTYP = box(b"ftyp", BRANDS)
MOOV = INDEX
MDAT = box(b"mdat", b"media" * 9)
CLIP = FTYP + MOOV + MDAT


def long_box(kind: bytes, payload: bytes) -> bytes:
    """Return a box whose size takes 64 bits."""
    return (1).to_bytes(4, "big") + kind + (len(payload) + 16).to_bytes(8, "big") + payload


def open_box(kind: bytes, payload: bytes) -> bytes:
    """Return a box that runs to the end of the file."""
    return bytes(4) + kind + payload


def walked(*chunks: bytes) -> BoxWalk:
    walk = BoxWalk()
    for chunk in chunks:
        walk.feed(chunk)
    return walk


def is_whole(data: bytes, *, announced: bool = False) -> bool:
    try:
        walked(data).check_end(announced=announced)
    except (TruncatedError, NotAVideoError):
        return False
    return True


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    return [data[start:end] for start, end in pairwise([0, *sorted(cuts), len(data)])]


@pytest.mark.parametrize(
    "clip",
    [
        CLIP,
        FTYP + MDAT + MOOV,
        FTYP + long_box(b"mdat", b"media") + MOOV,
        FTYP + MOOV + open_box(b"mdat", b"media"),
        FTYP + box(b"free", b"") + MOOV + MDAT + box(b"free", b"tail"),
    ],
    ids=["index first", "index last", "64-bit size", "open end", "free boxes"],
)
def test_a_whole_clip_passes(clip: bytes) -> None:
    assert is_whole(clip)


@given(st.sets(st.integers(0, len(CLIP)), max_size=20))
def test_the_chunking_makes_no_difference(cuts: set[int]) -> None:
    walk = walked(*pieces(CLIP, cuts))
    walk.check_end(announced=False)
    assert len(CLIP) == walk.offset


def test_a_clip_in_single_bytes_passes() -> None:
    clip = FTYP + MOOV + long_box(b"mdat", b"media")
    walk = walked(*pieces(clip, range(1, len(clip))))
    walk.check_end(announced=False)
    assert len(clip) == walk.offset


@pytest.mark.parametrize("clip", [CLIP, FTYP + MDAT + MOOV, FTYP + long_box(b"mdat", b"media") + MOOV])
def test_no_cut_without_an_announced_end_passes(clip: bytes) -> None:
    """Also none between two boxes."""
    assert [] == [cut for cut in range(len(clip)) if is_whole(clip[:cut])]


def test_two_thousand_random_cuts_are_caught() -> None:
    chance = random.Random(2026)
    for seed in range(20):
        clip = tiny_clip(chance.randrange(1_000, 100_000), seed=seed)
        cuts = [chance.randrange(len(clip)) for _ in range(100)]
        assert [] == [cut for cut in cuts if is_whole(clip[:cut])]


def test_without_index_media_or_type_no_player_opens_it_however_its_end_is_marked() -> None:
    for clip in (
        FTYP + MDAT,
        FTYP + MOOV,
        MOOV + MDAT,
        FTYP + box(b"free", b"") + open_box(b"mdat", b"media"),
    ):
        assert not is_whole(clip)
        with pytest.raises(NotAVideoError, match=r"No player opens what came: its .* is missing"):
            walked(clip).check_end(announced=True)


def test_media_boxes_in_which_nothing_is_are_no_media() -> None:
    for empty in (box(b"mdat", b""), long_box(b"mdat", b""), open_box(b"mdat", b"")):
        clip = FTYP + MOOV + empty
        with pytest.raises(NotAVideoError, match=r"its media \(mdat\) is empty"):
            walked(clip).check_end(announced=True)
    assert is_whole(FTYP + box(b"mdat", b"") + MDAT + MOOV)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(TruncatedError, match=rf"inside a box, at byte {len(CLIP) - 1}"):
        walked(CLIP[:-1]).check_end(announced=False)
    with pytest.raises(NotAVideoError, match=r"its index \(moov\) and media \(mdat\) is missing"):
        walked(FTYP).check_end(announced=True)
    with pytest.raises(TruncatedError, match=r"before its index \(moov\)"):
        walked(FTYP + MDAT).check_end(announced=False)


MVHD = box(b"mvhd", bytes(100))
TKHD = box(b"tkhd", bytes(84))
MDIA = box(b"mdia", box(b"minf", b""))
NO_INDEX = {
    "empty": b"",
    "noise": random.Random(9).randbytes(500),
    "words": b"index",
    "no track": MVHD,
    "no movie header": TRACK,
    "a short movie header": box(b"mvhd", bytes(20)) + TRACK,
    "an empty track": MVHD + box(b"trak", b""),
    "a track without media": MVHD + box(b"trak", TKHD + box(b"free", bytes(99))),
    "a track whose media end too late": MVHD
    + box(b"trak", TKHD + (99).to_bytes(4, "big") + b"mdia" + bytes(8)),
    "noise before the track": MVHD + b"\0\0\0\3" + TRACK,
    "zeros behind the header": MVHD + bytes(200),
    "a hole within": MVHD + bytes(99) + TRACK,
}


@pytest.mark.parametrize("content", [pytest.param(content, id=name) for name, content in NO_INDEX.items()])
def test_an_index_in_which_no_player_finds_a_track_is_none(content: bytes) -> None:
    index = box(b"moov", content)
    for clip in (FTYP + index + MDAT, FTYP + MDAT + index, FTYP + MDAT + open_box(b"moov", content)):
        for chunks in ([clip], [bytes([byte]) for byte in clip]):
            for announced in (True, False):
                with pytest.raises(NotAVideoError, match=r"its index \(moov\) is empty or damaged"):
                    walked(*chunks).check_end(announced=announced)


@pytest.mark.parametrize(
    "content",
    [
        TRACK + MVHD,
        box(b"udta", bytes(9)) + MVHD + box(b"iods", b"") + TRACK,
        long_box(b"mvhd", bytes(112)) + long_box(b"trak", TKHD + box(b"edts", bytes(28)) + MDIA),
        MVHD + TRACK + TRACK + box(b"mvex", bytes(40)),
        MVHD + TRACK + bytes(4),
        MVHD + TRACK + b"\0\0\0\3 damaged behind what is needed",
        MVHD + box(b"trak", TKHD + open_box(b"mdia", bytes(30))),
    ],
)
def test_an_index_with_a_track_is_one_in_whatever_order_and_however_it_goes_on(content: bytes) -> None:
    index = box(b"moov", content)
    for clip in (FTYP + index + MDAT, FTYP + MDAT + index, FTYP + box(b"moov", b"") + MDAT + index):
        assert is_whole(clip)
        walked(*[bytes([byte]) for byte in clip]).check_end(announced=False)


def test_a_track_behind_a_large_cover_picture_is_taken_on_trust_and_a_header_is_not() -> None:
    cover = box(b"udta", bytes(5 << 20))
    assert is_whole(FTYP + MDAT + box(b"moov", MVHD + cover + TRACK))
    assert not is_whole(FTYP + MDAT + box(b"moov", cover + TRACK))


def test_the_clips_of_real_muxers_are_whole_wherever_their_index_is_and_in_fragments(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    for name, options in {
        "last.mp4": {},
        "first.mp4": {"movflags": "faststart"},
        "fragments.mp4": {"movflags": "frag_every_frame+empty_moov"},
        "quicktime.mov": {},
    }.items():
        with av.open(tmp_path / name, "w", options=options) as container:
            stream = container.add_stream("mpeg4", rate=24)
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
            for number in range(2):
                frame = av.VideoFrame(16, 16, "yuv420p")
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        clip = (tmp_path / name).read_bytes()
        assert is_whole(clip)
        assert (".mov" if name == "quicktime.mov" else ".mp4") == suffix_of([clip[:5], clip[5:]])
        with pytest.raises(NotAVideoError, match="empty or damaged"):
            walked(clip.replace(b"trak", b"free")).check_end(announced=True)


def test_the_boxes_may_come_in_any_order() -> None:
    for boxes in permutations((FTYP, MOOV, MDAT, box(b"free", b"padding"), box(b"wide", b""))):
        assert is_whole(b"".join(boxes))


def test_what_is_appended_to_a_clip_that_is_whole_is_let_pass_if_the_end_is_marked() -> None:
    wrong_padding = (999).to_bytes(4, "big") + b"free" + bytes(8)
    for tail in (
        b"\r\n",
        bytes(4),
        bytes(7),
        b"--end-of-part--\r\n",
        b"<!-- served by proxy -->",
        wrong_padding,
    ):
        for chunks in ([CLIP + tail], [bytes([byte]) for byte in CLIP + tail]):
            walked(*chunks).check_end(announced=True)
        assert not is_whole(CLIP + tail)


def test_a_clip_that_goes_on_with_what_a_player_reads_must_have_all_of_it() -> None:
    fragment = box(b"moof", b"fragment") + box(b"mdat", b"more media")
    assert is_whole(CLIP + fragment, announced=True)
    cuts = [
        cut
        for cut in range(len(CLIP) + 8, len(CLIP + fragment))
        if is_whole((CLIP + fragment)[:cut], announced=True)
    ]
    assert [len(CLIP) + 16] == cuts, "only where a box ends"
    assert not is_whole(CLIP + fragment + b"\r\n", announced=True), (
        "it may be the beginning of another fragment"
    )
    assert not is_whole(CLIP + box(b"uuid", bytes(90))[:-1], announced=True)
    with pytest.raises(NotAVideoError, match="impossible size"):
        walked(CLIP + (3).to_bytes(4, "big") + b"moof")


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b'{"status": "PROCESSING"}', "JSON"),
        (b" [1, 2, 3, 4, 5]", "JSON"),
        (b"<!doctype html><html>", "HTML or XML"),
        (b"upstream connect error", "Text"),
        (b"\x1f\x8b\x08\x00" * 4, "Gzip"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\x82\x84webm", "WebM"),
        (b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\x01\x42\xf7\x81\x01\x42\x82\x88matroska", "Matroska"),
        (b"RIFF\x10\x27\0\0AVI LIST", "AVI"),
        (b"GIF89a\x10\0\x10\0\xf7\0", "A GIF image"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\r", "A PNG image"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01", "A JPEG image"),
        (b"G" + bytes(187) + b"G" + bytes(187), "An MPEG transport stream"),
        (b"\x01\x02\x03\xff\0\0\0\0\0\0\0\0", "Something that is not an MP4"),
    ],
)
def test_what_does_not_begin_as_a_video_is_refused_by_its_first_bytes_and_named(
    start: bytes, kind: str
) -> None:
    with pytest.raises(NotAVideoError, match=f"{kind} came where a clip should be"):
        walked(start)


def test_what_came_instead_is_never_quoted() -> None:
    with pytest.raises(NotAVideoError) as caught:
        walked(b'{"api_key": "s3cret-s3cret"}')
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "says"), [(b"", "An empty body came"), (FTYP[:11], "11 bytes came"), (FTYP[:5], "5 bytes came")]
)
def test_too_little_to_be_a_video_is_none(body: bytes, says: str) -> None:
    with pytest.raises(NotAVideoError, match=says):
        walked(body).check_end(announced=True)


@pytest.mark.parametrize("size", [2, 7])
def test_a_box_smaller_than_its_header_is_damage(size: int) -> None:
    with pytest.raises(NotAVideoError, match="impossible size"):
        walked(FTYP + size.to_bytes(4, "big") + b"moov")


@pytest.mark.parametrize("size", [0, 8, 15])
def test_a_64_bit_size_smaller_than_its_header_is_damage(size: int) -> None:
    with pytest.raises(NotAVideoError, match="impossible size"):
        walked(FTYP + (1).to_bytes(4, "big") + b"mdat" + size.to_bytes(8, "big"))


def test_a_box_that_is_just_its_header_is_sound() -> None:
    assert is_whole(FTYP + MOOV + MDAT + box(b"free", b"") + long_box(b"skip", b""))


def test_a_chunk_costs_no_more_for_being_large() -> None:
    """A box of 8 GiB is walked into without a byte of it being kept."""
    walk = walked(
        FTYP + MOOV + (1).to_bytes(4, "big") + b"mdat" + (1 << 33).to_bytes(8, "big"), bytes(1 << 20)
    )
    assert len(FTYP + MOOV) + 16 + (1 << 20) == walk.offset
    with pytest.raises(TruncatedError):
        walk.check_end(announced=True)


def test_a_second_file_behind_the_first_is_no_clip() -> None:
    with pytest.raises(NotAVideoError, match="second file"):
        walked(CLIP, CLIP)


def test_a_box_larger_than_any_clip_is_refused_before_its_content() -> None:
    with pytest.raises(NotAVideoError, match="impossible size"):
        walked(FTYP + (1).to_bytes(4, "big") + b"mdat" + (1 << 62).to_bytes(8, "big"))


def test_a_clip_that_does_not_end_is_given_up() -> None:
    walk = walked(FTYP + MOOV + open_box(b"mdat", b"media"))
    walk.offset = LARGEST + 1
    with pytest.raises(NotAVideoError, match="does not end"):
        walk.feed(b"more")


def header(kind: bytes, *, version: int, scale: int, length: int) -> bytes:
    """Return a movie header: times of creation, time scale, length."""
    width = 8 if version else 4
    parts = [bytes(2 * width), scale.to_bytes(4, "big"), length.to_bytes(width, "big"), bytes(80)]
    return box(kind, bytes([version, 0, 0, 0]) + b"".join(parts))


def seconds(clip: bytes) -> float | None:
    """Return how long a clip is, and assert that its media were not read."""
    read = 0

    def read_at(place: int, count: int) -> bytes:
        nonlocal read
        read += count
        return clip[place : place + count]

    found = movie_seconds(read_at, len(clip))
    assert read < 1000
    return found


def test_the_length_of_a_movie_is_told_by_its_header_wherever_that_stands() -> None:
    media = box(b"mdat", bytes(100_000))
    short = box(b"moov", box(b"udta", b"x") + header(b"mvhd", version=0, scale=600, length=4500))
    long = box(b"moov", header(b"mvhd", version=1, scale=90_000, length=90_000 * 7))
    end = box(b"mvex", box(b"mehd", b"\1\0\0\0" + (1200).to_bytes(8, "big")))
    fragmented = box(b"moov", header(b"mvhd", version=0, scale=600, length=0) + end)
    clips = [
        FTYP + media + short,
        FTYP + short + media,
        long + long_box(b"mdat", bytes(5000)),
        FTYP + fragmented,
    ]
    assert [7.5, 7.5, 7.0, 2.0] == [seconds(clip) for clip in clips]
    assert 7.0 == seconds(FTYP + open_box(b"moov", long[8:]))


def test_what_does_not_tell_its_length_has_none() -> None:
    empty = box(b"moov", header(b"mvhd", version=0, scale=600, length=0))
    endless = box(b"moov", header(b"mvhd", version=0, scale=600, length=0xFFFFFFFF))
    timeless = box(b"moov", header(b"mvhd", version=0, scale=0, length=600))
    cut = header(b"mvhd", version=0, scale=600, length=600)[:10]
    others = [
        b"",
        b"\x1aE\xdf\xa3 webm",
        FTYP,
        FTYP + MDAT,
        MOOV,
        bytes(8) * 9,
        FTYP + cut,
        box(b"moov", cut),
    ]
    assert {None} == {seconds(clip) for clip in (empty, endless, timeless, *others)}


@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_bytes_break_the_reading_of_a_length(data: bytes, at: int) -> None:
    clip = FTYP + box(b"moov", header(b"mvhd", version=0, scale=600, length=4500)) + MDAT
    for broken in (data, clip[:at], clip[:at] + data + clip[at:]):
        found = movie_seconds(lambda place, count, whole=broken: whole[place : place + count], len(broken))  # type: ignore[misc]
        assert found is None or found > 0


def test_the_length_of_a_fragmented_movie_is_found_behind_other_boxes() -> None:
    end = box(b"mvex", box(b"trex", bytes(24)) + box(b"mehd", bytes(4) + (600).to_bytes(4, "big")))
    assert 1.0 == seconds(FTYP + box(b"moov", header(b"mvhd", version=0, scale=600, length=0) + end))


def test_a_file_of_boxes_without_end_is_not_read_to_its_end() -> None:
    endless = box(b"free", b"") * 10_001 + box(b"moov", header(b"mvhd", version=0, scale=1, length=1))
    assert movie_seconds(lambda place, count: endless[place : place + count], len(endless)) is None


def test_images_in_the_same_kind_of_boxes_are_named() -> None:
    assert ["a HEIC image", "MP4"] == [described(bytes(4) + b"ftyp" + kind) for kind in (b"heic", b"isom")]
