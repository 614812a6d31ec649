"""The faulty server lies exactly as told, and its Venice counts what it charges."""

from __future__ import annotations

import asyncio
import gzip
import json
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from attrs import frozen

from .faulty import (
    SMALLEST,
    FaultyServer,
    FaultyVenice,
    Reply,
    Request,
    abuse_block,
    gzipped,
    html_reply,
    json_reply,
    make_mp4,
    partial_reply,
    ranged_reply,
    rate_limited,
    redirect,
    unsatisfiable,
    video_reply,
)

pytestmark = pytest.mark.anyio

CLIP = make_mp4(300_000)


@frozen(kw_only=True)
class Heard:
    """What a client saw of one connection: the bytes, and how it ended."""

    raw: bytes
    end: str
    seconds: float

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1])

    @property
    def headers(self) -> dict[str, str]:
        lines = self.raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return dict(line.split(": ", 1) for line in lines)

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def now() -> float:
    return asyncio.get_running_loop().time()


def written(method: str, path: str, value: object = None, **headers: str) -> bytes:
    body = b"" if value is None else json.dumps(value).encode()
    lines = [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    head = [f"{method} {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *lines, "", ""]
    return "\r\n".join(head).encode() + body


async def listen(reader: asyncio.StreamReader, *, patience: float = 30) -> Heard:
    """Read until the connection ends or stays quiet for `patience` seconds."""
    began, raw, end = now(), b"", "fin"
    try:
        while piece := await asyncio.wait_for(reader.read(65_536), patience):
            raw += piece
    except ConnectionResetError:
        end = "reset"
    except TimeoutError:
        end = "open"
    return Heard(raw=raw, end=end, seconds=now() - began)


async def talk(port: int, *requests: bytes, patience: float = 30) -> Heard:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        writer.write(request)
    heard = await listen(reader, patience=patience)
    writer.transport.abort()
    return heard


async def told(reply: Reply, **headers: str) -> Heard:
    async with FaultyServer([reply]) as server:
        return await talk(server.port, written("GET", "/", **headers))


async def test_an_honest_reply_is_whole_and_keeps_the_connection() -> None:
    heard = await told(video_reply(CLIP))
    assert (200, "open", CLIP) == (heard.status, heard.end, heard.body)
    assert (str(len(CLIP)), "video/mp4") == (heard.headers["content-length"], heard.headers["content-type"])


async def test_requests_are_recorded_as_they_came() -> None:
    async with FaultyServer(lambda _: json_reply(1)) as server:
        await talk(server.port, written("POST", "/a?b=c", {"x": 1}, X_Key="k"), written("GET", "/d"))
        await talk(server.other_port, written("GET", "/e"))
    first, second, third = server.requests
    assert ("POST", "/a", "b=c", {"x": 1}, "k") == (
        first.method, first.path, first.query, first.json, first.headers["x-key"],
    )  # fmt: skip
    assert [(0, 0), (0, 1), (1, 0)] == [(each.connection, each.number) for each in server.requests]
    assert [server.port, server.port, server.other_port] == [first.port, second.port, third.port]
    assert 2 == server.connections


async def test_a_chunked_request_is_put_together() -> None:
    raw = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with FaultyServer(lambda _: Reply()) as server:
        await talk(server.port, raw, written("GET", "/"))
    assert [b"abcde", b""] == [request.body for request in server.requests]


async def test_a_list_is_used_up_in_order_and_then_fails() -> None:
    async with FaultyServer([json_reply(1), lambda request: json_reply(request.path)]) as server:
        seen = [await talk(server.port, written("GET", "/p")) for _ in range(3)]
    assert [(200, b"1"), (200, b'"/p"'), (500, b"")] == [(each.status, each.body) for each in seen]


@pytest.mark.parametrize("byte", [0, 1, 11, 65_536, 200_000, len(CLIP) - 1])
@pytest.mark.parametrize(("reset", "end"), [(False, "fin"), (True, "reset")])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_is_cut_at_the_very_byte(byte: int, reset: bool, end: str, chunked: bool) -> None:
    heard = await told(video_reply(CLIP, cut_at=byte, reset=reset, chunked=chunked))
    assert (end, CLIP[:byte]) == (heard.end, unchunked(heard.body) if chunked else heard.body)


def unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return whole


@pytest.mark.parametrize("byte", [0, 1, 20])
@pytest.mark.parametrize(("reset", "end"), [(False, "fin"), (True, "reset")])
async def test_a_head_is_cut_at_the_very_byte(byte: int, reset: bool, end: str) -> None:
    heard = await told(video_reply(CLIP, cut_head_at=byte, reset=reset))
    assert (end, b"HTTP/1.1 200 Faulty\r\ndate"[:byte]) == (heard.end, heard.raw)


async def test_a_length_may_be_short_long_or_absent() -> None:
    short = await told(video_reply(b"12345", length=3))
    long = await told(video_reply(b"12345", length=7))
    absent = await told(video_reply(b"12345", headers={"content-length": None}))
    assert ("3", "open", b"12345") == (short.headers["content-length"], short.end, short.body)
    assert ("7", "fin", b"12345") == (long.headers["content-length"], long.end, long.body)
    assert (False, "fin", b"12345") == ("content-length" in absent.headers, absent.end, absent.body)


async def test_chunks_end_unless_they_are_told_not_to() -> None:
    ended = await told(video_reply(b"12345", chunked=True))
    endless = await told(video_reply(b"12345", unterminated=True))
    assert ("open", b"5\r\n12345\r\n0\r\n\r\n") == (ended.end, ended.body)
    assert ("fin", b"5\r\n12345\r\n") == (endless.end, endless.body)


async def test_an_endless_body_goes_on_until_the_client_hangs_up() -> None:
    async with FaultyServer([json_reply([1], endless=True)]) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(written("GET", "/"))
        await reader.readuntil(b"\r\n\r\n")
        chunk = int(await reader.readline(), 16)
        await reader.readexactly(1_000_000)
        writer.transport.abort()
    assert chunk > 50_000


async def test_gzip_comes_though_refused() -> None:
    heard = await told(gzipped(video_reply(CLIP)), Accept_Encoding="identity")
    assert ("gzip", CLIP) == (heard.headers["content-encoding"], gzip.decompress(heard.body))


@pytest.mark.parametrize("byte", [0, 100, len(CLIP)])
async def test_a_body_stalls_at_a_byte(byte: int) -> None:
    async with FaultyServer([video_reply(CLIP, pause_at=byte, pause=100, close=True)]) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(written("GET", "/"))
        before = await listen(reader, patience=99)
        after = await listen(reader, patience=99)
        writer.transport.abort()
    assert (CLIP[:byte], "open") == (before.body, before.end)
    assert (CLIP[byte:], "fin") == (after.raw, after.end)


async def test_a_head_may_be_late() -> None:
    heard = await told(json_reply(1, delay=25, close=True))
    assert ("fin", 25) == (heard.end, round(heard.seconds, 6))


async def test_a_body_drips_a_byte_a_second() -> None:
    heard = await told(video_reply(CLIP[:100], drip=1, close=True))
    assert (CLIP[:100], 100) == (heard.body, round(heard.seconds, 6))


async def test_a_body_drips_in_pieces() -> None:
    heard = await told(video_reply(CLIP, drip=1, drip_size=100_000, close=True))
    assert (CLIP, 3) == (heard.body, round(heard.seconds, 6))


async def test_an_unannounced_close_follows_a_whole_reply() -> None:
    heard = await told(json_reply(1, close=True))
    assert ("fin", b"1", False) == (heard.end, heard.body, "connection" in heard.headers)


async def test_a_connection_is_hung_up_on_its_reuse() -> None:
    async with FaultyServer(lambda _: json_reply(1)) as server:
        server.hangs_up_on_reuse = True
        heard = await talk(server.port, written("GET", "/"), written("GET", "/"))
    assert ("fin", b"1", 2) == (heard.end, heard.body, len(server.requests))


async def test_a_deaf_server_resets_and_has_received_nothing() -> None:
    async with FaultyServer(lambda _: json_reply(1)) as server:
        server.deaf_at = 5
        heard = await talk(server.port, written("POST", "/", "long enough"))
        healthy = await talk(server.port, written("GET", "/"))
    assert ("reset", b"", 200, 1) == (heard.end, heard.raw, healthy.status, len(server.requests))


@pytest.mark.parametrize("skew", [-3_600, 0, 3_600])
async def test_the_date_moves_with_the_clock_and_may_be_skewed(skew: float) -> None:
    async with FaultyServer(lambda _: json_reply(1)) as server:
        honest = server.now()
        server.skew = skew
        await asyncio.sleep(600)
        heard = await talk(server.port, written("GET", "/"))
    seen = parsedate_to_datetime(heard.headers["date"]).timestamp()
    assert pytest.approx(honest + 600 + skew, abs=1.5) == seen


def asking(**headers: str) -> Request:
    return Request(
        method="GET", path="/", query="", headers=headers, body=b"", port=1, connection=0, number=0, at=0
    )


@pytest.mark.parametrize(
    ("headers", "etag", "status", "body"),
    [
        ({}, '"1"', 200, b"0123456789"),
        ({"range": "bytes=4-"}, '"1"', 206, b"456789"),
        ({"range": "bytes=4-", "if-range": '"1"'}, '"1"', 206, b"456789"),
        ({"range": "bytes=4-", "if-range": '"1"'}, '"2"', 200, b"0123456789"),
        ({"range": "bytes=4-", "if-range": 'W/"1"'}, 'W/"1"', 200, b"0123456789"),
        ({"range": "bytes=10-"}, '"1"', 416, b""),
        ({"range": "lines=1-"}, '"1"', 200, b"0123456789"),
    ],
)
def test_an_honest_file_server_answers_ranges(
    headers: dict[str, str], etag: str, status: int, body: bytes
) -> None:
    reply = ranged_reply(asking(**headers), b"0123456789", etag=etag)
    assert (status, body) == (reply.status, reply.body)


def test_a_partial_reply_states_the_truth_or_what_it_is_told() -> None:
    stated = [
        partial_reply(b"0123456789", 4),
        partial_reply(b"0123456789", 4, stated_start=0, stated_total=11),
        unsatisfiable(10),
    ]
    assert ["bytes 4-9/10", "bytes 0-5/11", "bytes */10"] == [
        each.headers["content-range"] for each in stated
    ]


@pytest.mark.parametrize(
    ("reply", "status", "header", "text"),
    [
        (redirect("http://10.0.0.1/"), 302, "location", "http://10.0.0.1/"),
        (redirect("/x", status=307), 307, "location", "/x"),
        (rate_limited("soon"), 429, "x-ratelimit-reset-requests", "soon"),
        (rate_limited(-5), 429, "x-ratelimit-reset-requests", "-5"),
        (rate_limited(retry_after="3"), 429, "retry-after", "3"),
        (abuse_block(1_700_000_000), 429, "x-ratelimit-resets", "1700000000"),
        (html_reply(status=503), 503, "content-type", "text/html"),
        (json_reply({}, headers={"content-type": "text/json"}), 200, "content-type", "text/json"),
    ],
)
def test_each_kind_of_reply_says_what_it_is(reply: Reply, status: int, header: str, text: str) -> None:
    assert (status, text) == (reply.status, reply.headers[header])


async def test_an_error_in_a_script_fails_the_test() -> None:
    def script(request: Request) -> Reply:
        raise ZeroDivisionError(request.path)

    with pytest.raises(ZeroDivisionError):
        async with FaultyServer(script) as server:
            await talk(server.port, written("GET", "/"))


async def test_leaving_drops_connections_that_are_stalled_or_idle() -> None:
    async with FaultyServer([json_reply(1, pause_at=0)]) as server:
        began = now()
        stalled = await asyncio.open_connection("127.0.0.1", server.port)
        idle = await asyncio.open_connection("127.0.0.1", server.port)
        stalled[1].write(written("GET", "/"))
        await stalled[0].readuntil(b"\r\n\r\n")
    assert began == now()
    for reader, writer in (stalled, idle):
        assert b"" == await reader.read()
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("size", [SMALLEST, SMALLEST + 1, 4_096, 1_000_000])
def test_a_clip_has_whole_boxes_and_exactly_its_size(size: int) -> None:
    clip, kinds, at = make_mp4(size), list[bytes](), 0
    while at < len(clip):
        kinds.append(clip[at + 4 : at + 8])
        at += int.from_bytes(clip[at : at + 4], "big")
    assert (size, size, [b"ftyp", b"moov", b"mdat"]) == (len(clip), at, kinds)


def test_a_clip_depends_on_its_seed_alone() -> None:
    assert make_mp4(500, 1) == make_mp4(500, 1) != make_mp4(500, 2)
    with pytest.raises(ValueError, match="smallest"):
        make_mp4(39)


JOB: dict[str, object] = {"model": "m", "prompt": "p"}


async def post(venice: FaultyVenice, path: str, value: object) -> Heard:
    return await talk(venice.port, written("POST", f"/api/v1/video/{path}", value))


async def test_a_public_job_lives_its_life() -> None:
    async with FaultyVenice(polls=1, clip=CLIP) as venice:
        queued = (await post(venice, "queue", JOB)).json
        waiting = (await post(venice, "retrieve", queued)).json
        done = await post(venice, "retrieve", queued)
        removed = (await post(venice, "complete", queued)).json
        gone = await post(venice, "retrieve", queued)
    assert {"model": "m", "queue_id": "job-1"} == queued
    assert "PROCESSING" == waiting["status"]
    assert CLIP == done.body
    assert {"success": True} == removed
    assert 404 == gone.status
    assert [JOB] == venice.charges
    assert 3 == len(venice.asked("POST /video/retrieve"))


async def test_a_private_job_is_delivered_by_a_link_on_another_origin() -> None:
    async with FaultyVenice(polls=0) as venice:
        queued = (await post(venice, "queue", JOB | {"model": "x-private"})).json
        done = (await post(venice, "retrieve", queued)).json
        refused = await post(venice, "complete", queued)
        path = queued["download_url"].removeprefix(venice.other_origin)
        seen = [
            await talk(venice.other_port, written("GET", path)),
            await talk(venice.other_port, written("GET", path, Range="bytes=99990-")),
            await talk(venice.other_port, written("DELETE", path)),
            await talk(venice.other_port, written("GET", path)),
        ]
    assert ("COMPLETED", 400) == (done["status"], refused.status)
    assert [200, 206, 204, 410] == [each.status for each in seen]
    assert (venice.clip, venice.clip[-10:]) == (seen[0].body, seen[1].body)
    assert 3 == venice.gets


async def test_scripted_answers_come_first_and_health_after_them() -> None:
    async with FaultyVenice(queue=[rate_limited(), Reply(status=503)], quote=[html_reply()]) as venice:
        seen = [(await post(venice, "queue", JOB)).status for _ in range(3)]
        quoted = [(await post(venice, "quote", JOB)).body for _ in range(2)]
    assert [429, 503, 200] == seen
    assert [html_reply().body, b'{"quote": 0.25}'] == quoted


async def test_every_call_may_fail() -> None:
    async with FaultyVenice(always=Reply(status=500)) as venice:
        seen = [(await post(venice, path, JOB)).status for path in ("quote", "retrieve", "complete")]
    assert [500] * 3 == seen


@pytest.mark.parametrize(
    ("reply", "charges"),
    [
        (json_reply({"queue_id": "q"}), 1),
        (json_reply({"queue_id": "q"}, cut_at=3), 1),
        (json_reply({"queue_id": "q"}, cut_head_at=0, reset=True), 1),
        (json_reply({"queue_id": "q"}, cut_head_at=0, charged=False), 0),
        (html_reply(), 1),
        (json_reply([1]), 1),
        (Reply(status=500), 1),
        (Reply(status=502), 1),
        (Reply(status=500, charged=False), 0),
        (Reply(status=503), 0),
        (rate_limited(), 0),
        (Reply(status=400), 0),
        (json_reply({"error": {"code": "needs_consent"}}, status=409), 0),
    ],
)
async def test_a_paid_request_counts_unless_the_reply_says_otherwise(reply: Reply, charges: int) -> None:
    async with FaultyVenice(queue=[reply]) as venice:
        await post(venice, "queue", JOB)
    assert [JOB] * charges == venice.charges


async def test_a_paid_request_that_was_not_fully_received_does_not_count() -> None:
    async with FaultyVenice() as venice:
        venice.deaf_at = 10
        await post(venice, "queue", JOB)
    assert [] == venice.charges


async def test_a_job_answered_by_the_script_can_be_retrieved() -> None:
    async with FaultyVenice(queue=[json_reply({"queue_id": "q"}, cut_at=3)], polls=0) as venice:
        await post(venice, "queue", JOB)
        heard = await post(venice, "retrieve", {"model": "m", "queue_id": "q"})
        unknown = await post(venice, "retrieve", {"model": "m", "queue_id": "r"})
    assert (venice.clip, 400) == (heard.body, unknown.status)


@pytest.mark.parametrize(
    "ask",
    [
        written("GET", "/api/v1/elsewhere"),
        written("GET", "/link/nothing"),
        written("DELETE", "/link/nothing"),
    ],
)
async def test_what_does_not_exist_is_not_found(ask: bytes) -> None:
    async with FaultyVenice() as venice:
        assert 404 == (await talk(venice.port, ask)).status
