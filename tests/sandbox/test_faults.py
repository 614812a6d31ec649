"""What goes wrong on the wire when it is told to."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import aiohttp
import anyio
import anyio.lowlevel
import pytest
import yarl

from tests.cases import for_each
from venice_async import UsageError
from venice_async.sandbox import Fault, Point, RecordedRequest, Scenario, tiny_clip
from venice_async.sandbox.faults import encode

from .talk import CLIP, PRIVATE, TEXT, Talk, order, talk

pytestmark = pytest.mark.anyio

AT_ONCE = {"*": Scenario(seconds=0)}
LARGE = tiny_clip(1_000_000)


async def received(venice: Talk, url: str, **options: Any) -> tuple[bytes, str]:
    """Return the bytes of a body that arrived, and the name of the error that ended it."""
    content = bytearray()
    try:
        async with venice.session.get(url, **options) as response:
            async for part in response.content.iter_any():
                content += part
    except (aiohttp.ClientError, TimeoutError) as error:
        return bytes(content), type(error).__name__
    return bytes(content), ""


async def private(venice: Talk) -> str:
    """Queue a private job and return its link."""
    url: str = (await venice.queue(PRIVATE)).json["download_url"]
    return url


async def test_a_status_takes_the_place_of_the_answer_so_often_and_then_no_more() -> None:
    async with talk(faults=[Fault(on="queue", times=2, status=503)]) as venice:
        answers = [await venice.queue() for _ in range(3)]
        assert [503, 503, 200] == [answer.status for answer in answers]
        assert 1 == len(venice.sandbox.charges)


async def test_a_status_may_come_after_the_request_was_acted_upon() -> None:
    async with talk(faults=[Fault(on="queue", status=500, processed=True)]) as venice:
        answer = await venice.queue()
        assert (500, 1) == (answer.status, len(venice.sandbox.charges))


async def exchange(venice: Talk, path: str = "/models", body: bytes | None = None) -> tuple[bytes, str]:
    """Return what comes over the wire for a request, byte by byte, and how the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", venice.sandbox.port)
    method, payload = ("GET", b"") if body is None else ("POST", body)
    head = f"{method} /api/v1{path} HTTP/1.1\r\nHost: sandbox\r\n"
    head += f"Authorization: Bearer {venice.sandbox.api_key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    writer.write(head.encode() + payload)
    try:
        return await reader.read(), "FIN"
    except ConnectionResetError:
        return b"", "RST"
    finally:
        writer.close()


async def test_raw_bytes_go_over_the_wire_as_they_are_and_nothing_is_acted_upon() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\nno size\x00"
    body = json.dumps(order()).encode()
    async with talk(
        faults=[Fault(on="queue", raw=raw), Fault(on="queue", raw=raw, processed=True)]
    ) as venice:
        assert (raw, "FIN") == await exchange(venice, "/video/queue", body)
        assert [] == venice.sandbox.charges
        assert (raw, "FIN") == await exchange(venice, "/video/queue", body)
        assert 1 == len(venice.sandbox.charges)
        assert 200 == (await venice.queue()).status


async def test_a_function_makes_raw_bytes_of_the_honest_answer_and_they_are_cut_as_a_whole() -> None:
    seen: list[bytes] = []

    def halved(answer: bytes) -> bytes:
        seen.append(answer)
        return answer[: len(answer) // 2]

    faults = [Fault(on="models", raw=halved), Fault(on="models", raw=bytes.swapcase, cut_at=25)]
    faults += [Fault(on="models", raw=bytes.swapcase, reset_at=0), Fault(on="queue", raw=bytes.swapcase)]
    async with talk(faults=faults) as venice:
        first = await exchange(venice)
        assert (seen[0][: len(seen[0]) // 2], "FIN") == first
        assert seen[0].startswith(b"HTTP/1.1 200 Sandbox\r\nContent-Length: ")
        assert (b"http/1.1 200 sANDBOX\r\ncON", "FIN") == await exchange(venice)
        assert (b"", "RST") == await exchange(venice)
        await exchange(venice, "/video/queue", json.dumps(order()).encode())
        assert 1 == len(venice.sandbox.charges)


async def test_raw_pieces_are_sent_in_time() -> None:
    async def dripping() -> AsyncIterator[bytes]:
        for letter in b"HTTP":
            await anyio.sleep(60)
            yield bytes([letter])

    async with talk(faults=[Fault(on="models", raw=lambda _: dripping())]) as venice:
        began = anyio.current_time()
        assert (b"HTTP", "FIN") == await exchange(venice)
        assert pytest.approx(240, abs=1) == anyio.current_time() - began


async def test_a_function_is_asked_about_each_request_and_may_answer_with_a_fault() -> None:
    seen: list[tuple[str, str, str, int | None]] = []

    def decide(request: RecordedRequest) -> Fault | None:
        seen.append((request.method, request.point, request.target, request.status))
        fails = request.point == "quote" and request.json["duration"] == "10s"
        return Fault(on="quote", status=503) if fails else None

    faults = [Fault(on="quote", status=500), decide, Fault(on="video", body=b"nonsense")]
    async with talk(scenarios=AT_ONCE, faults=faults) as venice:
        statuses = [(await venice.quote(duration=duration)).status for duration in ("10s", "10s", "5s")]
        ticket = (await venice.queue(PRIVATE)).json
        await venice.fetch("GET", ticket["download_url"])
        public = (await venice.queue()).json
        assert b"nonsense" == (await venice.retrieve(public)).content
    assert [500, 503, 200] == statuses
    link = ticket["download_url"].split("/", 3)[3]
    assert [
        *[("POST", "quote", "/api/v1/video/quote", None)] * 2,
        ("POST", "queue", "/api/v1/video/queue", None),
        ("GET", "link", f"/{link}", None),
        ("POST", "queue", "/api/v1/video/queue", None),
        ("POST", "video", "/api/v1/video/retrieve", None),
    ] == seen


async def test_an_error_of_a_function_is_an_answer_of_500_and_raised_on_leaving() -> None:
    def broken(answer: bytes) -> bytes:
        raise ZeroDivisionError(answer)

    def decide(_: RecordedRequest) -> None:
        raise LookupError

    for fault, error in ((Fault(on="quote", raw=broken), ZeroDivisionError), (decide, LookupError)):
        with pytest.raises(error):
            async with talk(faults=[fault]) as venice:
                assert 500 == (await venice.quote()).status


async def test_a_request_is_recorded_as_it_came_with_what_tells_its_connection() -> None:
    async with talk() as venice:
        for _ in "12":
            await venice.queue()
        await asyncio.gather(venice.quote(), venice.quote())
        queued, again, *quotes = venice.sandbox.requests
        (charge, _) = venice.sandbox.charges
    assert json.dumps(order()).encode() == queued.body
    assert order() == queued.json == charge.request
    assert queued.connection == again.connection
    assert 2 == len({request.connection for request in quotes})


async def test_a_client_that_hangs_up_in_the_middle_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        while True:
            await anyio.lowlevel.checkpoint()
            for _ in "12":
                yield bytes(10_000)

    async with talk(faults=[Fault(on="models", raw=lambda _: endless())]) as venice:
        reader, writer = await asyncio.open_connection("127.0.0.1", venice.sandbox.port)
        writer.write(b"GET /api/v1/models HTTP/1.1\r\nHost: sandbox\r\n\r\n")
        await reader.readexactly(20_000)
        writer.transport.abort()
        await anyio.sleep(60)
    assert "" == caplog.text


async def test_skipped_requests_pass_first() -> None:
    async with talk(
        faults=[Fault(on="quote", skip=2, status=502, body="<html>Bad gateway</html>")]
    ) as venice:
        answers = [await venice.quote() for _ in range(4)]
    assert [200, 200, 502, 200] == [answer.status for answer in answers]
    assert (b"<html>Bad gateway</html>", "text/html; charset=utf-8") == (
        answers[2].content,
        answers[2].headers["Content-Type"],
    )


async def test_faults_at_one_point_form_a_queue() -> None:
    faults = [Fault(on="quote", status=503, times=2), Fault(on="quote", status=500)]
    async with talk(faults=faults) as venice:
        answers = [await venice.quote() for _ in range(4)]
    assert [503, 503, 500, 200] == [answer.status for answer in answers]


async def test_a_fault_may_be_for_one_model_only() -> None:
    async with talk(faults=[Fault(on="queue", model=PRIVATE, status=500, times=None)]) as venice:
        other, struck = await venice.queue(), await venice.queue(PRIVATE)
    assert [200, 500] == [other.status, struck.status]


async def test_faults_may_be_injected_while_it_runs() -> None:
    async with talk() as venice:
        before = await venice.quote()
        venice.sandbox.inject(Fault(on="quote", status=500))
        after = await venice.quote()
    assert [200, 500] == [before.status, after.status]


@for_each(
    "point, path",
    [("models", "/models"), ("rate_limits", "/api_keys/rate_limits"), ("balance", "/billing/balance")],
)
async def test_every_get_can_be_struck(point: Point, path: str) -> None:
    async with talk(faults=[Fault(on=point, status=504)]) as venice:
        assert 504 == (await venice.call("GET", path)).status


async def test_video_strikes_only_the_poll_that_delivers_and_retrieve_any() -> None:
    faults = [Fault(on="video", status=500), Fault(on="retrieve", skip=1, status=503)]
    async with talk(speed=1, scenarios={"*": Scenario(seconds=10)}, faults=faults) as venice:
        ticket = (await venice.queue()).json
        running = [(await venice.retrieve(ticket)).status for _ in range(2)]
        await anyio.sleep(10)
        done = [(await venice.retrieve(ticket)).status for _ in range(2)]
    assert ([200, 503], [500, 200]) == (running, done)


async def test_headers_of_a_true_answer_may_be_changed_and_removed() -> None:
    faults = [
        Fault(
            on="queue",
            headers={"X-RateLimit-Reset-Requests": "tomorrow", "x-ratelimit-limit-requests": None},
        )
    ]
    async with talk(faults=faults) as venice:
        answer = await venice.queue()
    assert (200, "tomorrow") == (answer.status, answer.headers["x-ratelimit-reset-requests"])
    assert "x-ratelimit-limit-requests" not in answer.headers


async def test_a_body_takes_the_place_of_the_clip() -> None:
    async with talk(scenarios=AT_ONCE, faults=[Fault(on="video", body=b"nonsense")]) as venice:
        answer = await venice.retrieve((await venice.queue()).json)
    assert (200, "video/mp4", b"nonsense") == (answer.status, answer.headers["Content-Type"], answer.content)


async def test_a_cut_closes_the_connection_after_so_many_bytes() -> None:
    async with talk(scenarios=AT_ONCE, faults=[Fault(on="link", cut_at=700)]) as venice:
        url = await private(venice)
        cut = await received(venice, url)
        whole = await received(venice, url)
    assert [(CLIP[:700], "ClientPayloadError"), (CLIP, "")] == [cut, whole]


async def test_a_cut_of_a_body_without_a_length_looks_like_chunks_without_an_end() -> None:
    faults = [Fault(on="link", cut_at=700, headers={"Content-Length": None})]
    async with talk(scenarios=AT_ONCE, faults=faults) as venice:
        cut = await received(venice, await private(venice))
    assert (CLIP[:700], "ClientPayloadError") == cut


async def test_a_length_may_lie() -> None:
    faults = [Fault(on="link", cut_at=len(CLIP), headers={"Content-Length": "2001"})]
    async with talk(scenarios=AT_ONCE, faults=faults) as venice:
        assert (CLIP, "ClientPayloadError") == await received(venice, await private(venice))


async def test_an_inline_clip_is_cut_too_and_comes_whole_the_next_time() -> None:
    async with talk(clips=LARGE, scenarios=AT_ONCE, faults=[Fault(on="video", cut_at=500_000)]) as venice:
        ticket = (await venice.queue()).json
        with pytest.raises(aiohttp.ClientPayloadError):
            await venice.retrieve(ticket)
        assert LARGE == (await venice.retrieve(ticket)).content


@for_each(
    "fault, error",
    [(Fault(on="link", reset_at=700), "ConnectionResetError"), (Fault(on="link", cut_at=700), "")],
)
async def test_a_reset_is_an_error_of_the_connection_and_a_cut_is_its_end(fault: Fault, error: str) -> None:
    async with talk(scenarios=AT_ONCE, faults=[fault]) as venice:
        url = yarl.URL(await private(venice))
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(f"GET {url.raw_path_qs} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        seen, received = "", b""
        try:
            while piece := await reader.read(65_536):
                received += piece
        except OSError as lost:
            seen = type(lost).__name__
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    assert (error, CLIP[:700]) == (seen, received.partition(b"\r\n\r\n")[2])


async def test_a_stall_goes_silent_with_the_connection_open() -> None:
    async with talk(scenarios=AT_ONCE, faults=[Fault(on="link", stall_at=100)]) as venice:
        timeout = aiohttp.ClientTimeout(sock_read=30)
        assert (CLIP[:100], "SocketTimeoutError") == await received(
            venice, await private(venice), timeout=timeout
        )


async def test_a_slow_body_takes_its_time() -> None:
    async with talk(scenarios=AT_ONCE, faults=[Fault(on="link", bytes_per_second=100)]) as venice:
        url = await private(venice)
        began = anyio.current_time()
        assert (CLIP, "") == await received(venice, url)
        assert 18 < anyio.current_time() - began < 22


async def test_a_dropped_request_was_acted_upon_or_not_as_declared() -> None:
    faults = [Fault(on="queue", drop="before"), Fault(on="queue", drop="after")]
    async with talk(faults=faults) as venice:
        charged: list[int] = []
        for _ in range(2):
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await venice.queue()
            charged.append(len(venice.sandbox.charges))
        assert [0, 1] == charged
        assert [None, None] == [request.status for request in venice.sandbox.requests]


async def test_a_hanging_request_says_nothing_and_then_closes() -> None:
    async with talk(faults=[Fault(on="queue", hang=45)]) as venice:
        began = anyio.current_time()
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await venice.queue()
        assert 45 == round(anyio.current_time() - began)
        assert [] == venice.sandbox.charges


async def test_a_delay_comes_before_the_true_answer() -> None:
    async with talk(faults=[Fault(on="quote", delay=7)]) as venice:
        began = anyio.current_time()
        assert 200 == (await venice.quote()).status
        assert 7 == round(anyio.current_time() - began)


async def test_a_failing_revocation_deletes_nothing() -> None:
    async with talk(scenarios=AT_ONCE, faults=[Fault(on="revoke", status=500)]) as venice:
        url = await private(venice)
        failed = await venice.fetch("DELETE", url)
        assert (CLIP, "") == await received(venice, url)
    assert 500 == failed.status


async def test_a_get_answered_by_an_injected_status_is_not_one_of_the_five() -> None:
    async with talk(scenarios=AT_ONCE, faults=[Fault(on="link", status=503)]) as venice:
        url = await private(venice)
        answers = [(await venice.fetch("GET", url)).status for _ in range(7)]
    assert [503, 200, 200, 200, 200, 200, 429] == answers


@for_each(
    "wrong",
    [
        {"on": "nowhere"},
        {"on": "queue", "cut_at": 1, "drop": "after"},
        {"on": "queue", "times": -1},
        {"on": "queue", "status": 99},
        {"on": "queue", "drop": "sometimes"},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_when_declared(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"."):
        Fault(**wrong)


def test_a_scenario_that_makes_no_sense_is_refused_when_declared() -> None:
    with pytest.raises(UsageError, match="outcome"):
        Scenario(outcome="explodes")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - that is the test


@for_each("field", ["outcome", "delivery", "consent", "unknown_status", "link_status", "ticket_in"])
def test_a_scenario_says_in_one_sentence_which_values_there_are(field: str) -> None:
    wrong: dict[str, Any] = {field: "explodes"}
    with pytest.raises(UsageError, match=rf"^Scenario.{field} must be one of .*, not 'explodes'\.$"):
        Scenario(**wrong)


async def test_nothing_goes_wrong_unasked() -> None:
    async with talk(scenarios=AT_ONCE) as venice:
        answers = [await venice.retrieve((await venice.queue(TEXT)).json) for _ in range(30)]
    assert [CLIP] * 30 == [answer.content for answer in answers]


def test_a_body_in_any_coding_is_what_a_decoder_of_it_reads() -> None:
    body = bytes(range(256)) * 800
    assert body == gzip.decompress(encode(body, "gzip")) == gzip.decompress(encode(body, "x-gzip"))
    assert body == zlib.decompress(encode(body, "deflate"))
    # What the decoders of Brotli and Zstandard were seen to read; they are not at hand everywhere.
    assert "20001061626303" == encode(b"abc", "br").hex()
    assert "28b52ffda003000000190000616263" == encode(b"abc", "zstd").hex()
    assert ["0181022247160af8", "1abe1a6b0e75ee19"] == [
        hashlib.sha256(packed).hexdigest()[:16] for packed in (encode(body, "br"), encode(body, "zstd"))
    ]


async def test_an_answer_may_be_compressed_though_nobody_asked() -> None:
    async with talk(faults=[Fault(on="quote", coding="gzip")]) as venice:
        answer = await venice.quote(resolution="720p")
    assert ("gzip", {"quote": 0.5}) == (answer.headers["Content-Encoding"], answer.json)
