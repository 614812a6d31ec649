"""A clip over any number of answers: byte for byte what the server has, or an error and nothing."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from tests.boxes import BRANDS, INDEX, box
from tests.clients import PRIVATE, PUBLIC, client
from tests.io.answers import (
    FakeResponse,
    HandClock,
    cut,
    fail,
    named,
    part,
    silent,
    sliced,
    whole,
)
from tests.venice import Venice
from venice_async.errors import (
    DisconnectedError,
    DownloadError,
    NotAVideoError,
    ProtocolError,
    ReadTimeoutError,
    TruncatedError,
    VeniceError,
)
from venice_async.io.delivery.download import Delivery
from venice_async.io.delivery.part_file import PartFile
from venice_async.io.delivery.sinks import MemorySink, Sink, WriterSink
from venice_async.results import Ticket, Video
from venice_async.sandbox import tiny_clip

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

pytestmark = pytest.mark.anyio

CLIP = tiny_clip(50_000)
OTHER = tiny_clip(50_000, seed=1)
TAG = '"v1"'
TICKET = Ticket(model="m", queue_id="q")


class Writer:
    """Takes bytes and keeps them."""

    def __init__(self) -> None:
        self.taken = b""

    async def write(self, data: bytes) -> None:
        self.taken += data


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return tmp_path / "clip.mp4"


def delivery(sink: Sink, **options: Any) -> Delivery:
    return Delivery(sink, ticket=TICKET, clock=options.pop("clock", None) or HandClock(), **options)


def to_file(clip: Path, **options: Any) -> Delivery:
    return delivery(PartFile(clip, overwrite=False, job_key="key"), **options)


async def received(sink: Sink, *answers: FakeResponse) -> Video:
    """Take the answers; all but the last are cut."""
    fetching = delivery(sink)
    for answer in answers[:-1]:
        with pytest.raises((DisconnectedError, TruncatedError, NotAVideoError, ProtocolError)):
            await fetching.receive(answer)
    await fetching.receive(answers[-1])
    return await fetching.finish()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_clip_arrives_with_its_size_and_digest(clip: Path) -> None:
    fetching = to_file(clip)
    await fetching.receive(whole(CLIP))
    assert [] == [name for name in names(clip.parent) if name == clip.name], "not before finish"
    expected = Video(path=clip, size=len(CLIP), sha256=hashlib.sha256(CLIP).hexdigest(), ticket=TICKET)
    assert expected == await fetching.finish()
    assert CLIP == clip.read_bytes()
    assert [clip.name] == names(clip.parent)


async def test_a_clip_larger_than_every_buffer_arrives(clip: Path) -> None:
    large = tiny_clip(5_500_000)
    saved = await received(PartFile(clip, overwrite=False, job_key="key"), whole(large, size=70_001))
    assert hashlib.sha256(large).hexdigest() == saved.sha256
    assert large == clip.read_bytes()


@given(st.lists(st.integers(0, len(CLIP)), max_size=30))
async def test_the_chunking_makes_no_difference(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(CLIP)]
    pieces = [CLIP[start:end] for start, end in pairwise(edges)]
    sink = MemorySink()
    await received(sink, FakeResponse([*pieces], headers={"content-length": f"{len(CLIP)}"}))
    assert CLIP == sink.data


async def test_single_bytes_are_fine() -> None:
    sink = MemorySink()
    clip = tiny_clip(3_000)
    await received(sink, whole(clip, size=1))
    assert clip == sink.data


async def test_a_clip_of_unannounced_length_arrives() -> None:
    sink = MemorySink()
    await received(sink, silent(CLIP))
    assert CLIP == sink.data


async def test_a_last_box_that_runs_to_the_end_is_believed() -> None:
    clip = box(b"ftyp", BRANDS) + INDEX + bytes(4) + b"mdat" + b"media"
    sink = MemorySink()
    await received(sink, silent(clip))
    assert clip == sink.data


# Cuts


async def test_after_a_cut_the_rest_is_fetched_if_the_server_proves_it_the_same() -> None:
    sink = MemorySink()
    fetching = delivery(sink)
    with pytest.raises(DisconnectedError):
        await fetching.receive(cut(CLIP, 20_000, etag=TAG))
    asked = {"Accept-Encoding": "identity", "Range": "bytes=20000-", "If-Range": TAG}
    assert asked == fetching.headers_for_next()
    await fetching.receive(part(CLIP, 20_000, etag=TAG))
    await fetching.finish()
    assert CLIP == sink.data


async def test_a_cut_rest_is_continued_again() -> None:
    sink = MemorySink()
    second = part(CLIP, 20_000, etag=TAG)
    second.pieces[10:] = [DisconnectedError("cut")]
    await received(sink, cut(CLIP, 20_000, etag=TAG), second, part(CLIP, 30_000, etag=TAG))
    assert CLIP == sink.data


async def test_a_server_that_ignores_the_range_starts_afresh(clip: Path) -> None:
    await received(PartFile(clip, overwrite=False, job_key="k"), cut(OTHER, 20_000, etag=TAG), whole(CLIP))
    assert CLIP == clip.read_bytes()


async def test_without_proof_no_range_is_asked_for() -> None:
    fetching = delivery(MemorySink())
    with pytest.raises(DisconnectedError):
        await fetching.receive(cut(CLIP, 20_000, etag='W/"v1"'))
    assert {"Accept-Encoding": "identity"} == fetching.headers_for_next()


@pytest.mark.parametrize(
    "wrong",
    [
        {"content_range": "bytes 19999-49999/50000"},
        {"content_range": "bytes 20000-49999/50001"},
        {"content_range": "bytes 0-49998/50000"},
        {"etag": '"v2"'},
    ],
)
async def test_a_part_that_does_not_fit_is_dropped_and_the_next_request_is_plain(
    wrong: dict[str, str],
) -> None:
    sink = MemorySink()
    fetching = delivery(sink)
    with pytest.raises(DisconnectedError):
        await fetching.receive(cut(CLIP, 20_000, etag=TAG))
    with pytest.raises(ProtocolError):
        await fetching.receive(part(CLIP, 20_000, **{"etag": TAG} | wrong))
    assert {"Accept-Encoding": "identity"} == fetching.headers_for_next()
    await fetching.receive(whole(CLIP))
    await fetching.finish()
    assert CLIP == sink.data


async def test_all_bytes_before_the_cut_are_all_bytes() -> None:
    sink = MemorySink()
    await received(sink, cut(CLIP, len(CLIP)))
    assert CLIP == sink.data


async def test_a_range_after_the_last_byte_tells_that_nothing_is_missing() -> None:
    sink = MemorySink()
    unsure = FakeResponse([CLIP, DisconnectedError("reset")], headers={"etag": TAG})
    nothing = FakeResponse([], 416, {"content-range": f"bytes */{len(CLIP)}"})
    await received(sink, unsure, nothing)
    assert CLIP == sink.data


async def test_a_server_that_counts_fewer_bytes_vouches_for_nothing() -> None:
    """The 416 fits what is here, but what is here is no whole clip."""
    fetching = delivery(MemorySink())
    with pytest.raises(TruncatedError):
        await fetching.receive(silent(CLIP[:20_000], etag=TAG))
    with pytest.raises(TruncatedError):
        await fetching.receive(FakeResponse([], 416, {"content-range": "bytes */20000"}))
    assert "Range" not in fetching.headers_for_next()


async def test_a_cut_nobody_mentions_is_seen_and_continued() -> None:
    sink = MemorySink()
    await received(sink, silent(CLIP[:20_000], etag=TAG), part(CLIP, 20_000, etag=TAG))
    assert CLIP == sink.data


async def test_a_length_announced_too_short_is_seen_and_not_continued() -> None:
    fetching = delivery(MemorySink())
    with pytest.raises(TruncatedError):
        await fetching.receive(whole(CLIP[:20_000], etag=TAG))
    assert "Range" not in fetching.headers_for_next()


async def test_a_length_announced_too_long_is_seen() -> None:
    answer = FakeResponse([CLIP], headers={"content-length": f"{len(CLIP) + 1}", "etag": TAG})
    with pytest.raises(TruncatedError, match="ends too early") as caught:
        await delivery(MemorySink()).receive(answer)
    assert (len(CLIP), len(CLIP) + 1) == (caught.value.received, caught.value.total)
    assert "1 were missing" in caught.value.message


async def test_more_than_was_announced_is_refused() -> None:
    answer = FakeResponse([CLIP, b"more"], headers={"content-length": f"{len(CLIP)}"})
    with pytest.raises(NotAVideoError, match="More than the announced"):
        await delivery(MemorySink()).receive(answer)


async def test_more_than_was_announced_is_refused_even_if_the_clip_itself_is_whole() -> None:
    answer = FakeResponse([CLIP + bytes((0, 0, 0, 2)) * 4], headers={"content-length": f"{len(CLIP)}"})
    with pytest.raises(NotAVideoError):
        await delivery(MemorySink()).receive(answer)


async def test_a_server_that_continues_a_clip_vouches_for_its_end() -> None:
    """What no player reads is let pass behind an end that is marked."""
    clip = tiny_clip(500) + b"\r\n"
    sink = MemorySink()
    await received(sink, silent(clip[:200], etag=TAG), part(clip, 200, etag=TAG))
    assert clip == sink.data


async def test_damage_in_the_middle_is_not_built_upon() -> None:
    broken = CLIP[:-8] + (3).to_bytes(4, "big") + b"moof"
    mdat = broken.index(b"mdat") - 4
    broken = broken[:mdat] + (len(CLIP) - 8 - mdat).to_bytes(4, "big") + broken[mdat + 4 :]
    fetching = delivery(MemorySink())
    with pytest.raises(NotAVideoError, match="damaged"):
        await fetching.receive(whole(broken, etag=TAG))
    assert "Range" not in fetching.headers_for_next()


async def test_two_thousand_random_cuts_never_make_a_clip() -> None:
    chance = random.Random(7)
    clip = tiny_clip(4_000)
    for _ in range(2_000):
        at = chance.randrange(len(clip))
        answer = chance.choice([cut(clip, at), silent(clip[:at]), whole(clip[:at])])
        sink = MemorySink()
        with pytest.raises((DisconnectedError, TruncatedError, NotAVideoError)):
            await received(sink, answer)
        assert b"" == sink.data


@frozen
class Moment:
    """What the server is about to do: which clip it has, and how it gives it."""

    body: bytes
    manner: str
    takes_ranges: bool
    at: int
    ending: str

    def answer(self, asked: dict[str, str]) -> FakeResponse:
        """Return the answer, which may be cut anywhere but never mislabels a part."""
        tag = '"same"' if self.body is CLIP else '"other"'
        if self.takes_ranges and asked.get("If-Range") == tag:
            start = int(asked["Range"].removeprefix("bytes=").removesuffix("-"))
            nothing = FakeResponse([], 416, {"content-range": f"bytes */{start}"})
            answer = part(self.body, start, etag=tag) if start < len(self.body) else nothing
        elif self.manner == "silent":
            answer = silent(self.body, etag=tag)
        else:
            answer = whole(self.body, etag=tag) if self.manner == "tagged" else whole(self.body)
        return self.ended(answer)

    def ended(self, answer: FakeResponse) -> FakeResponse:
        if self.ending != "whole":
            body = b"".join(piece for piece in answer.pieces if isinstance(piece, bytes))[: self.at]
            answer.pieces = sliced(body, 7_000)
        if self.ending == "reset":
            answer.pieces.append(DisconnectedError("reset"))
        return answer


moments = st.builds(
    Moment,
    st.sampled_from([CLIP, CLIP, OTHER]),
    st.sampled_from(["tagged", "plain", "silent"]),
    st.booleans(),
    st.integers(0, len(CLIP)),
    st.sampled_from(["whole", "reset", "reset", "quiet"]),
)


@given(st.lists(moments, min_size=1, max_size=6))
async def test_any_series_of_cuts_ends_in_one_clip_or_none(series: list[Moment]) -> None:
    """Whatever the server does about ranges, and if it changes the clip meanwhile."""
    for sink, taken in sinks():
        fetching = delivery(sink)
        saved = None
        for moment in series:
            try:
                await fetching.receive(moment.answer(fetching.headers_for_next()))
                saved = await fetching.finish()
            except (DisconnectedError, TruncatedError, NotAVideoError, ProtocolError):
                continue
            except DownloadError as error:
                assert "has changed" in error.message  # noqa: PT017 - it need not come
            break
        if saved is not None:
            assert taken() in (CLIP, OTHER)
            assert hashlib.sha256(taken()).hexdigest() == saved.sha256
        assert CLIP.startswith(taken()) or OTHER.startswith(taken())
        await fetching.abort()


def sinks() -> list[tuple[Sink, Callable[[], bytes]]]:
    memory, writer = MemorySink(), Writer()
    return [(memory, lambda: memory.data), (WriterSink(writer), lambda: writer.taken)]


# What is not a video


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "An empty body"),
        (b'{"status": "PROCESSING", "average_execution_time": 1}', "JSON"),
        (b"<!doctype html><html><body>Bad gateway</body></html>", "HTML"),
        (b"\0\0\0\x18fty", "7 bytes"),
    ],
)
@pytest.mark.parametrize("answer", [whole, silent], ids=["length", "no length"])
async def test_what_is_not_a_video_never_reaches_the_disk(
    clip: Path, body: bytes, says: str, answer: Callable[[bytes], FakeResponse]
) -> None:
    fetching = to_file(clip)
    with pytest.raises(NotAVideoError, match=says):
        await fetching.receive(answer(body))
    assert [] == names(clip.parent)


async def test_a_cut_within_the_first_bytes_writes_nothing(clip: Path) -> None:
    fetching = to_file(clip)
    with pytest.raises(DisconnectedError):
        await fetching.receive(cut(CLIP, 11, etag=TAG))
    assert [] == names(clip.parent)
    assert "Range" not in fetching.headers_for_next()


# What comes whole and is no clip


WEBM = b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm" + bytes(9_000)
NO_INDEX = box(b"ftyp", BRANDS) + box(b"mdat", bytes(9_000))
STILL_WRITTEN = box(b"ftyp", BRANDS) + box(b"free", b"") + bytes(4) + b"mdat" + bytes(9_000)
DAMAGED = box(b"ftyp", BRANDS) + INDEX + box(b"mdat", bytes(9_000)) + b"\0\0\0\3moof"
UNPLAYABLE = {"WebM": WEBM, "no index": NO_INDEX, "still written": STILL_WRITTEN, "damaged": DAMAGED}


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in UNPLAYABLE.items()])
async def test_the_same_whole_bytes_a_second_time_are_the_end_and_are_kept_for_a_person(
    clip: Path, body: bytes
) -> None:
    fetching = to_file(clip)
    with pytest.raises(NotAVideoError) as first:
        await fetching.receive(whole(body, size=700, etag=TAG))
    assert (False, None, 0) == (first.value.final, first.value.unverified, fetching.gained)
    assert "Range" not in fetching.headers_for_next()
    with pytest.raises(
        NotAVideoError, match=f"the same {len(body)} bytes came twice, and are kept in"
    ) as second:
        await fetching.receive(whole(body, etag=TAG))
    await fetching.abort()
    kept = clip.with_name("clip.mp4.unverified")
    assert (True, kept) == (second.value.final, second.value.unverified)
    assert "server's copy" in second.value.hint
    assert [kept.name] == names(clip.parent)
    assert body == kept.read_bytes()


async def test_what_an_earlier_job_kept_is_known_by_the_next_at_once(clip: Path) -> None:
    clip.with_name("clip.mp4.unverified").write_bytes(WEBM)
    fetching = to_file(clip)
    with pytest.raises(NotAVideoError, match="came twice") as caught:
        await fetching.receive(whole(WEBM))
    assert caught.value.final
    await fetching.abort()
    assert ["clip.mp4.unverified"] == names(clip.parent)


async def test_bytes_that_differ_or_are_cut_are_not_the_same(clip: Path) -> None:
    fetching = to_file(clip)
    answers = [
        whole(WEBM),
        whole(WEBM + b"!"),
        cut(WEBM + b"!", 9_000),
        whole(WEBM),
        silent(WEBM[:-1]),
        whole(NO_INDEX),
    ]
    for answer in answers:
        with pytest.raises((NotAVideoError, DisconnectedError)) as caught:
            await fetching.receive(answer)
        assert not getattr(caught.value, "final", False)
    await fetching.receive(whole(CLIP))
    await fetching.finish()
    assert [clip.name] == names(clip.parent)
    assert CLIP == clip.read_bytes()


async def test_what_is_no_file_on_disk_gets_nothing_of_what_no_player_opens() -> None:
    for body in UNPLAYABLE.values():
        memory, writer = MemorySink(), Writer()
        for sink in (memory, WriterSink(writer)):
            fetching = delivery(sink)
            for final in (False, True):
                with pytest.raises(NotAVideoError) as caught:
                    await fetching.receive(whole(body, size=500))
                assert (final, None) == (caught.value.final, caught.value.unverified)
            await fetching.abort()
        assert b"" == memory.data
        assert b"\x1a\x45" not in writer.taken


async def test_a_stream_that_was_damaged_on_its_way_goes_on_where_it_stood() -> None:
    """The damage is seen in the middle, and what was handed on before it comes again."""
    clip = box(b"ftyp", BRANDS) + INDEX + box(b"mdat", bytes(5_000)) + box(b"free", bytes(5_000))
    at = clip.index(b"free") - 4
    damaged = clip[:at] + b"\0\0\0\3moof" + clip[at + 8 :]
    writer = Writer()
    await received(WriterSink(writer), whole(damaged, size=300), whole(clip, size=400))
    assert clip == writer.taken


async def test_a_page_in_words_is_never_the_end(clip: Path) -> None:
    fetching = to_file(clip)
    for _ in range(9):
        for body in (
            b"<html>Bad gateway, please try again</html>",
            b'{"error": "busy, busy"}',
            b"",
            b"upstream error",
        ):
            with pytest.raises(NotAVideoError) as caught:
                await fetching.receive(whole(body, size=5))
            assert not caught.value.final
    assert [] == names(clip.parent)


async def test_a_placeholder_does_not_cost_what_is_here_of_the_clip(clip: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(500)
    fetching = to_file(clip)
    with pytest.raises(DisconnectedError):
        await fetching.receive(cut(CLIP, 20_000, etag=TAG))
    with pytest.raises(NotAVideoError, match="A PNG image"):
        await fetching.receive(whole(png))
    assert "bytes=20000-" == fetching.headers_for_next()["Range"]
    await fetching.receive(part(CLIP, 20_000, etag=TAG))
    await fetching.finish()
    assert CLIP == clip.read_bytes()


async def test_a_part_that_is_the_whole_is_a_clip() -> None:
    sink = MemorySink()
    await received(sink, part(CLIP, 0))
    assert CLIP == sink.data


async def test_a_compressed_clip_is_refused_and_kept_as_it_came(clip: Path) -> None:
    fetching = to_file(clip)
    for _ in range(2):
        with pytest.raises(NotAVideoError, match="compressed") as caught:
            await fetching.receive(whole(CLIP, content_encoding="gzip"))
    assert caught.value.final
    assert [f"{clip.name}.unverified"] == names(clip.parent)


async def test_nonsense_after_a_cut_does_not_cost_what_is_here() -> None:
    sink = MemorySink()
    nonsense = whole(b"<html>Bad gateway, please try again</html>", etag='"page"')
    await received(sink, cut(CLIP, 20_000, etag=TAG), nonsense, part(CLIP, 20_000, etag=TAG))
    assert CLIP == sink.data


# Speed and progress


async def test_a_clip_that_crawls_is_given_up() -> None:
    clock = HandClock()

    def second() -> None:
        clock.now += 1

    pieces: list[Any] = [CLIP[:1_000]]
    for at in range(1_000, 2_000):
        pieces += [second, CLIP[at : at + 1]]
    answer = FakeResponse(pieces, headers={"content-length": f"{len(CLIP)}", "etag": TAG})
    fetching = delivery(MemorySink(), clock=clock)
    with pytest.raises(ReadTimeoutError, match="too slowly"):
        await fetching.receive(answer)
    assert 130.0 == clock.now
    assert answer.closed
    assert "bytes=1029-" == fetching.headers_for_next()["Range"], "the 1 029 bytes before are kept"


async def test_a_slow_clip_above_the_floor_arrives() -> None:
    clock = HandClock()

    def second() -> None:
        clock.now += 1

    pieces: list[Any] = [step for chunk in sliced(CLIP, 1_100) for step in (second, chunk)]
    sink = MemorySink()
    fetching = delivery(sink, clock=clock)
    await fetching.receive(FakeResponse(pieces, headers={"content-length": f"{len(CLIP)}"}))
    await fetching.finish()
    assert CLIP == sink.data


async def test_a_slow_reader_is_not_the_networks_fault() -> None:
    clock = HandClock()

    class Slow(Writer):
        async def write(self, data: bytes) -> None:
            clock.now += 60
            await super().write(data)

    slow = Slow()
    fetching = delivery(WriterSink(slow), clock=clock)
    small = tiny_clip(2_000)
    await fetching.receive(whole(small, size=50))
    assert small == slow.taken


async def test_progress_is_told_in_measure_and_at_the_end() -> None:
    told: list[tuple[int, int | None]] = []
    large = tiny_clip(2_000_000)

    def tell(received: int, total: int | None) -> None:
        told.append((received, total))

    fetching = delivery(MemorySink(), on_progress=tell)
    await fetching.receive(whole(large, size=10_000))
    assert (len(large), len(large)) == told[-1]
    assert sorted(told) == told
    assert 9 == len(told)


async def test_progress_is_told_of_a_slow_clip_too() -> None:
    told: list[int] = []
    clock = HandClock()

    def moment() -> None:
        clock.now += 0.1

    pieces: list[Any] = [step for chunk in sliced(CLIP, 5_000) for step in (moment, chunk)]

    def tell(received: int, _total: int | None) -> None:
        told.append(received)

    fetching = delivery(MemorySink(), clock=clock, on_progress=tell)
    await fetching.receive(FakeResponse(pieces))
    assert [5_000, 20_000, 35_000, 50_000] == told


async def test_gained_counts_only_what_was_never_here_before() -> None:
    fetching = delivery(MemorySink())
    gained: list[int] = []
    for answer in (
        cut(CLIP, 20_000),
        cut(CLIP, 15_000),
        cut(CLIP, 26_000),
        whole(b"<html>no video here</html>"),
    ):
        with pytest.raises((DisconnectedError, NotAVideoError)):
            await fetching.receive(answer)
        gained.append(fetching.gained)
    assert [20_000, 0, 6_000, 0] == gained


async def test_a_delivery_knows_how_far_it_is() -> None:
    told: list[tuple[int, int | None]] = []
    fetching = delivery(MemorySink(), on_progress=lambda *known: told.append(known))
    with pytest.raises(DisconnectedError):
        await fetching.receive(cut(CLIP, 20_000))
    assert (20_000, len(CLIP)) == told[-1]


# The disk


@pytest.mark.parametrize(
    ("code", "says"),
    [(errno.ENOSPC, "the disk is full"), (errno.EIO, "the disk reports an error"), (errno.EDQUOT, "quota")],
)
async def test_a_disk_that_fails_ends_the_delivery_and_says_what_was_missing(
    clip: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    fail(monkeypatch, "write", code)
    fetching = to_file(clip)
    with pytest.raises(DownloadError, match=says) as caught:
        await fetching.receive(cut(CLIP, 30_000))
    assert (30_000, len(CLIP)) == (caught.value.received, caught.value.total)
    assert "received 30000 bytes of 50000, 20000 were missing" in caught.value.message
    assert "resume" in caught.value.hint
    assert [] == names(clip.parent)


async def test_a_full_disk_ends_the_delivery_at_once(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for a server that has gone quiet."""
    fail(monkeypatch, "write", errno.ENOSPC)

    class Quiet(FakeResponse):
        async def chunks(self) -> AsyncGenerator[bytes]:
            yield tiny_clip(3_000_000)[:2_000_000]
            await asyncio.sleep(1e6)

    began = asyncio.get_running_loop().time()
    with pytest.raises(DownloadError, match="disk is full"):
        await to_file(clip).receive(Quiet([], headers={"content-length": "3000000"}))
    assert asyncio.get_running_loop().time() < began + 1e5


@pytest.mark.parametrize("function", ["fsync", "link"])
async def test_a_clip_that_cannot_be_published_is_an_error_and_nothing_is_left(
    clip: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    fetching = to_file(clip)
    await fetching.receive(whole(CLIP))
    fail(monkeypatch, function, errno.ENOSPC)
    with pytest.raises(DownloadError, match="the disk is full") as caught:
        await fetching.finish()
    assert len(CLIP) == caught.value.received
    assert [] == names(clip.parent)


async def test_nothing_can_be_finished_that_is_not_whole(clip: Path) -> None:
    fetching = to_file(clip)
    with pytest.raises(TruncatedError, match="not whole"):
        await fetching.finish()
    with pytest.raises(DisconnectedError):
        await fetching.receive(cut(CLIP, 20_000))
    with pytest.raises(TruncatedError, match="not whole"):
        await fetching.finish()
    await fetching.abort()
    assert [] == names(clip.parent)


async def test_abort_leaves_nothing_and_after_finish_everything(clip: Path) -> None:
    fetching = to_file(clip)
    await fetching.abort()
    fetching = to_file(clip)
    await fetching.receive(whole(CLIP))
    await fetching.finish()
    await fetching.abort()
    assert CLIP == clip.read_bytes()


async def test_a_sink_that_has_failed_is_given_nothing_more() -> None:
    """Chunks may be too tiny and too many to be kept for one write."""
    calls: list[int] = []

    class Failing(MemorySink):
        async def write(self, chunks: Sequence[bytes]) -> None:
            calls.append(len(chunks))
            raise OSError

    with pytest.raises(DownloadError, match="The destination failed: OSError"):
        await delivery(Failing()).receive(whole(CLIP, size=10))
    assert 1 == len(calls)


@pytest.mark.parametrize("native", [True, False], ids=["task.cancel()", "cancel scope"])
@pytest.mark.parametrize(
    ("size", "after"),
    [*((3_500_000, after) for after in range(0, 60, 3)), *((9_000, after) for after in range(3))],
)
async def test_cancelled_at_any_await_nothing_is_left(
    clip: Path, size: int, after: int, *, native: bool
) -> None:
    async def deliver() -> None:
        fetching = to_file(clip)
        await fetching.receive(whole(tiny_clip(size), size=400_000))
        await fetching.finish()

    with anyio.CancelScope() as scope:
        task = asyncio.ensure_future(deliver()) if native else None
        async with anyio.create_task_group() as group:
            if task is None:
                group.start_soon(deliver)
            for _ in range(after):
                await asyncio.sleep(0)
            (task or scope).cancel()
        if task is not None:
            with pytest.raises(asyncio.CancelledError):
                await task
    assert names(clip.parent) in ([], [clip.name])
    assert not clip.exists() or tiny_clip(size) == clip.read_bytes()


async def test_the_network_is_read_while_the_disk_writes(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing = threading.Event()
    reading_on = threading.Event()

    def slow(descriptor: int, data: bytes) -> int:
        writing.set()
        assert reading_on.wait(10), "nothing was read while the disk was writing"
        return real(descriptor, data)

    real = os.write
    monkeypatch.setattr(os, "write", slow)
    large = tiny_clip(4_000_000)

    class Watched(FakeResponse):
        async def chunks(self) -> AsyncGenerator[bytes]:
            for start in range(0, len(large), 500_000):
                while start == 1_500_000 and not writing.is_set():  # noqa: ASYNC110 - another thread sets it
                    await asyncio.sleep(0)
                if writing.is_set():
                    reading_on.set()
                yield large[start : start + 500_000]

    fetching = to_file(clip)
    await fetching.receive(Watched([], headers={"content-length": "4000000"}))
    await fetching.finish()
    assert large == clip.read_bytes()


async def test_large_chunks_are_digested_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    class Watched:
        def __init__(self) -> None:
            self.real = real()

        def update(self, data: bytes) -> None:
            threads.append(threading.current_thread())
            self.real.update(data)

        def hexdigest(self) -> str:
            return self.real.hexdigest()

    real = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", Watched)
    large = tiny_clip(3_000_000)
    await received(MemorySink(), whole(large, size=500_000))
    assert 6 == len(threads)
    assert threading.current_thread() not in threads


async def test_tiny_chunks_are_not_collected_without_end() -> None:
    """Each costs far more memory than its byte."""
    most = 0

    class Counting(MemorySink):
        async def write(self, chunks: Sequence[bytes]) -> None:
            nonlocal most
            most = max(most, len(chunks))

    await delivery(Counting()).receive(whole(tiny_clip(5_000), size=1))
    assert most <= 1_024


# Sinks that cannot take anything back


async def test_a_stream_gets_each_byte_once_although_the_server_starts_again() -> None:
    writer = Writer()
    saved = await received(
        WriterSink(writer), cut(CLIP, 20_000), cut(CLIP, 15_000), cut(CLIP, 30_000), whole(CLIP)
    )
    assert CLIP == writer.taken
    digest = hashlib.sha256(CLIP).hexdigest()
    assert Video(path=None, size=len(CLIP), sha256=digest, ticket=TICKET) == saved


async def test_a_stream_goes_on_by_range_where_it_can() -> None:
    writer = Writer()
    await received(WriterSink(writer), cut(CLIP, 20_000, etag=TAG), part(CLIP, 20_000, etag=TAG))
    assert CLIP == writer.taken


async def test_a_stream_that_was_repeated_in_vain_may_still_go_on_by_range() -> None:
    writer = Writer()
    await received(
        WriterSink(writer),
        cut(CLIP, 20_000, etag=TAG),
        cut(OTHER, 5_000, etag='"v2"'),
        part(CLIP, 20_000, etag=TAG),
    )
    assert CLIP == writer.taken


@pytest.mark.parametrize("other", [whole(OTHER), whole(tiny_clip(10_000)), silent(OTHER)])
async def test_a_stream_never_mixes_two_clips(other: FakeResponse) -> None:
    writer = Writer()
    fetching = delivery(WriterSink(writer))
    with pytest.raises(DisconnectedError):
        await fetching.receive(cut(CLIP, 20_000))
    with pytest.raises(DownloadError, match="has changed after 20000 bytes") as caught:
        await fetching.receive(other)
    assert not isinstance(caught.value, TruncatedError | NotAVideoError)
    assert CLIP[:20_000] == writer.taken


async def test_a_stream_is_not_given_what_is_no_video() -> None:
    writer = Writer()
    nonsense: Sequence[VeniceError | bytes] = [b"<html>", b"no video here</html>"]
    await received(WriterSink(writer), FakeResponse([*nonsense]), whole(CLIP))
    assert CLIP == writer.taken


@pytest.mark.parametrize("method", ["open", "write", "restart", "commit"])
async def test_whatever_a_sink_of_ones_own_raises_becomes_a_download_error(method: str) -> None:
    class Own(MemorySink):
        aborted = False

        async def abort(self) -> None:
            self.aborted = True

    async def fails(*_: object) -> None:
        raise KeyError(method)

    own = Own()
    setattr(own, method, fails)
    answers = [cut(CLIP, 20_000), whole(CLIP)] if method == "restart" else [whole(CLIP)]
    with pytest.raises(DownloadError, match="The destination failed: KeyError") as caught:
        await received(own, *answers)
    assert isinstance(caught.value.__cause__, KeyError)
    assert len(CLIP) == caught.value.total
    assert own.aborted


async def test_a_writer_that_is_cancelled_on_its_own_has_not_taken_the_clip() -> None:
    class Cancelled(Writer):
        async def write(self, data: bytes) -> None:  # noqa: ARG002 - it takes nothing
            raise asyncio.CancelledError

    download = delivery(WriterSink(Cancelled()))
    with pytest.raises(DownloadError, match="cancelled"):
        await download.receive(whole(CLIP))
    with pytest.raises(TruncatedError, match="not whole"):
        await download.finish()


@pytest.mark.parametrize("method", ["open", "write", "restart", "commit"])
async def test_a_sink_that_is_cancelled_on_its_own_fails_as_by_any_error(method: str) -> None:
    async def fails(*_: object) -> None:
        raise asyncio.CancelledError

    own = MemorySink()
    setattr(own, method, fails)
    answers = [cut(CLIP, 20_000), whole(CLIP)] if method == "restart" else [whole(CLIP)]
    with pytest.raises(DownloadError, match="The destination failed: it was cancelled"):
        await received(own, *answers)


@pytest.mark.parametrize("method", ["write", "commit"])
async def test_a_job_whose_sink_is_cancelled_on_its_own_fails_with_its_ticket(method: str) -> None:
    async def fails(*_: object) -> None:
        raise asyncio.CancelledError

    own = MemorySink()
    setattr(own, method, fails)
    async with Venice() as server, client(server) as venice:
        job = venice.generate(PUBLIC, to=own)
        with pytest.raises(DownloadError, match="it was cancelled") as caught:
            await job
        assert job.ticket == caught.value.ticket is not None
        assert [] == server.asked("POST /video/complete")


@pytest.mark.parametrize("error", [KeyError("abort"), asyncio.CancelledError()])
async def test_a_sink_that_cannot_be_aborted_hides_no_error_and_holds_up_no_job(error: BaseException) -> None:
    class Own(MemorySink):
        async def write(self, chunks: Sequence[bytes]) -> None:  # noqa: ARG002 - it takes nothing
            raise OSError

        async def abort(self) -> None:
            raise error

    async with Venice() as server, client(server) as venice:
        with pytest.raises(DownloadError, match="The destination failed: OSError"):
            await venice.generate(PUBLIC, to=Own())
        job = venice.generate(PRIVATE, to=Own())
        await job.queued()
        job.cancel()
        await job.ended()


async def test_a_writer_that_fails_ends_the_delivery() -> None:
    class Broken(Writer):
        async def write(self, data: bytes) -> None:
            if self.taken:
                raise ConnectionResetError
            await super().write(data)

    broken = Broken()
    with pytest.raises(
        DownloadError, match=r"refused the clip after 1000 bytes: ConnectionResetError"
    ) as caught:
        await delivery(WriterSink(broken)).receive(whole(CLIP))
    assert len(CLIP) == caught.value.total


def test_headers_of_a_test_are_named_as_on_the_wire() -> None:
    assert {"content-range": "x"} == named({"content_range": "x"})
