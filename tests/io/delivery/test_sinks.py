"""Sinks that are not a file: memory, any asynchronous writer, and a reader of chunks."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from aiohttp.web import StreamResponse

from tests.io.answers import HandClock, cut, whole
from venice_async.engine.spec import Destination, bound_for
from venice_async.errors import DisconnectedError, DownloadError, UsageError
from venice_async.io.delivery.download import Delivery
from venice_async.io.delivery.sinks import MemorySink, QueueSink, WriterSink
from venice_async.results import Ticket
from venice_async.sandbox import tiny_clip

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

CLIP = tiny_clip(30_000)
TICKET = Ticket(model="m", queue_id="q")


async def test_memory_shows_a_clip_only_once_it_is_verified() -> None:
    sink = MemorySink()
    await sink.open()
    await sink.write([b"half"])
    assert b"" == sink.data
    await sink.restart()
    await sink.write([b"a", b"b"])
    await sink.commit()
    await sink.abort()
    assert b"ab" == sink.data


async def test_memory_forgets_what_was_given_up() -> None:
    sink = MemorySink()
    await sink.write([b"half"])
    await sink.abort()
    await sink.commit()
    assert b"" == sink.data


async def test_a_stream_with_send_is_a_writer() -> None:
    send, receive = anyio.create_memory_object_stream[bytes](10)
    with send, receive:
        await WriterSink(send).write([b"one", b"two"])
        assert [b"one", b"two"] == [await receive.receive(), await receive.receive()]


async def test_an_open_anyio_file_is_a_writer(tmp_path: Path) -> None:
    async with await anyio.open_file(tmp_path / "clip.mp4", "wb") as file:
        await WriterSink(file).write([b"one", b"two"])
    assert b"onetwo" == (tmp_path / "clip.mp4").read_bytes()


async def test_whatever_takes_a_clip_is_typed_as_a_destination(tmp_path: Path) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](1)
    async with await anyio.open_file(tmp_path / "clip.mp4", "wb") as file:
        with send, receive:
            writers: list[Destination] = [send, file, StreamResponse()]
            for writer in writers:
                assert isinstance(bound_for(writer), WriterSink)
    others: list[Destination] = ["a.mp4", tmp_path, MemorySink()]
    assert others == [bound_for(other) for other in others]


async def test_a_writer_that_drains_is_drained_after_each_chunk() -> None:
    calls: list[object] = []

    class Stream:
        def write(self, data: bytes) -> None:
            calls.append(data)

        async def drain(self) -> None:
            calls.append("drained")

    await WriterSink(Stream()).write([b"one", b"two"])
    assert [b"one", "drained", b"two", "drained"] == calls


@pytest.mark.parametrize("writer", [io.BytesIO(), object(), None])
def test_what_cannot_be_written_to_asynchronously_is_refused_at_once(writer: Any) -> None:
    with pytest.raises(UsageError, match="cannot be written to asynchronously"):
        WriterSink(writer)


async def test_what_was_handed_on_cannot_be_taken_back() -> None:
    send, receive = anyio.create_memory_object_stream[bytes](10)
    with send, receive:
        for sink in (QueueSink(), WriterSink(send)):
            await sink.write([b"four"])
            with pytest.raises(DownloadError, match="4 bytes were handed on and cannot be taken back"):
                await sink.restart()


async def take_all(sink: QueueSink, taken: list[bytes]) -> None:
    async for chunk in sink:
        taken.append(chunk)  # noqa: PERF401 - one by one, to see what came before an end


async def test_a_reader_gets_the_clip_and_then_ends() -> None:
    sink, taken = QueueSink(), list[bytes]()
    fetching = Delivery(sink, ticket=TICKET, clock=HandClock())
    async with anyio.create_task_group() as group:
        group.start_soon(take_all, sink, taken)
        with pytest.raises(DisconnectedError):
            await fetching.receive(cut(CLIP, 20_000))
        await fetching.receive(whole(CLIP))
        await fetching.finish()
    assert CLIP == b"".join(taken)


async def test_a_reader_ends_when_the_delivery_is_given_up() -> None:
    sink, taken = QueueSink(), list[bytes]()
    async with anyio.create_task_group() as group:
        group.start_soon(take_all, sink, taken)
        await sink.write([b"half"])
        await sink.abort()
    assert [b"half"] == taken


async def test_a_slow_reader_slows_the_delivery_down() -> None:
    sink = QueueSink()
    with anyio.move_on_after(1) as scope:
        await sink.write([b"%d" % number for number in range(100)])
    assert scope.cancelled_caught
    await sink.abort()
    taken: list[bytes] = []
    await take_all(sink, taken)
    assert [b"0", b"1", b"2", b"3"] == taken


async def test_a_reader_that_leaves_ends_the_delivery() -> None:
    sink = QueueSink()
    fetching = Delivery(sink, ticket=TICKET, clock=HandClock())

    async def leave() -> None:
        async with contextlib.aclosing(aiter(sink)) as chunks:
            await anext(chunks)
        await sink.aclose()

    async with anyio.create_task_group() as group:
        group.start_soon(leave)
        with pytest.raises(DownloadError, match="The reader stopped after"):
            await fetching.receive(whole(CLIP))


async def test_a_clip_is_final_only_once_its_reader_is_done_with_the_last_chunk() -> None:
    sink = QueueSink()
    await sink.write([b"last"])
    async with anyio.create_task_group() as group:
        chunks = aiter(sink)
        assert b"last" == await anext(chunks)
        committed = anyio.Event()

        async def commit() -> None:
            await sink.commit()
            committed.set()

        group.start_soon(commit)
        await anyio.sleep(3600)
        assert not committed.is_set()
        assert [] == [chunk async for chunk in chunks]
        assert committed.is_set()


async def test_a_reader_that_leaves_with_the_last_chunk_in_hand_has_not_taken_the_clip() -> None:
    sink = QueueSink()
    await sink.write([b"last"])
    async with contextlib.aclosing(aiter(sink)) as chunks:
        await anext(chunks)
    await sink.aclose()
    with pytest.raises(DownloadError, match="The reader stopped after 4 bytes"):
        await sink.commit()


async def test_a_clip_that_nobody_begins_to_read_is_given_up_after_a_minute() -> None:
    sink = QueueSink()
    await sink.write([b"last"])
    before = anyio.current_time()
    with pytest.raises(DownloadError, match="nobody began to read it within 60 s"):
        await sink.commit()
    assert 60 == pytest.approx(anyio.current_time() - before)
