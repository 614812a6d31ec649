"""Whatever goes wrong: the very clip or none, an error that says how to go on, one charge, few GETs."""

from __future__ import annotations

import errno
import fcntl
import os
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tests.clients import PRIVATE, PUBLIC, client, until, wire
from tests.faults import SPOILS, UNCHANGING, Spoil, Witness, run_job
from tests.faulty import (
    FaultyVenice,
    Reply,
    Request,
    abuse_block,
    gzipped,
    html_reply,
    json_reply,
    make_mp4,
    no_capacity,
    partial_reply,
    ranged_reply,
    rate_limited,
    redirect,
    unsatisfiable,
    video_reply,
)
from tests.faulty.clip import box
from tests.faulty.venice import CLIP
from venice_async import (
    APIError,
    DownloadError,
    Failed,
    LinkExpiredError,
    NotAVideoError,
    ProtocolError,
    QueueOutcomeUnknownError,
    Succeeded,
    Ticket,
    Timeouts,
    TransportError,
    UsageError,
    VeniceError,
    Video,
    VideoRequest,
)
from venice_async.io.delivery.part_file import job_key, part_path
from venice_async.io.delivery.sinks import MemorySink

pytestmark = pytest.mark.anyio

NEWS = json_reply({"status": "PROCESSING", "average_execution_time": 145_000, "execution_duration": 1_000})
INLINE = video_reply(CLIP)
LINKED = video_reply(CLIP, headers={"etag": '"1"'})
PRICE = json_reply({"quote": 0.25})

PATIENCE = 600
"""Seconds after which one bad answer must be overcome, whatever it was."""

DEADLINE = Timeouts(job=200.0)
"""For jobs that bring nothing but bad answers."""

RECORDED = SPOILS["500"]
"""What a second poll makes a failure of the job."""

faults = pytest.mark.parametrize("spoil", [pytest.param(spoil, id=name) for name, spoil in SPOILS.items()])
errnos = {name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EACCES", "EDQUOT")}


@faults
async def test_a_spoilt_answer_to_a_poll_costs_a_poll(tmp_path: Path, spoil: Spoil) -> None:
    times = 1 if spoil in {RECORDED, *UNCHANGING} else 2
    async with Witness(tmp_path, retrieve=[spoil(NEWS)] * times, polls=1) as server:
        with anyio.fail_after(PATIENCE):
            assert isinstance(await run_job(server), Video)


@faults
async def test_a_spoilt_clip_in_a_poll_is_fetched_again(tmp_path: Path, spoil: Spoil) -> None:
    times = 1 if spoil in {RECORDED, *UNCHANGING} else 2
    async with Witness(tmp_path, retrieve=[spoil(INLINE)] * times, polls=0) as server:
        with anyio.fail_after(PATIENCE):
            assert isinstance(await run_job(server), Video)


@faults
async def test_a_spoilt_clip_by_link_is_fetched_again(tmp_path: Path, spoil: Spoil) -> None:
    times = 1 if spoil in UNCHANGING else 2
    async with Witness(tmp_path, link=[spoil(LINKED)] * times, polls=0) as server:
        with anyio.fail_after(PATIENCE):
            assert isinstance(await run_job(server, PRIVATE), Video)
        assert {"GET", "POST", "DELETE"} == {request.method for request in server.requests}


@faults
@pytest.mark.parametrize("by", ["poll", "link"])
async def test_a_clip_that_is_always_spoilt_ends_in_the_clip_or_an_error_with_the_ticket(
    tmp_path: Path, spoil: Spoil, by: str
) -> None:
    spoilt = [spoil(INLINE if by == "poll" else LINKED)] * 1000
    async with Witness(tmp_path, retrieve=spoilt if by == "poll" else (), link=spoilt, polls=0) as server:
        with anyio.fail_after(PATIENCE):
            outcome = await run_job(server, PUBLIC if by == "poll" else PRIVATE, timeouts=DEADLINE)
        if spoil in UNCHANGING:
            assert isinstance(outcome, DownloadError)
            assert outcome.final
            asked = server.asked("POST /video/retrieve" if by == "poll" else "GET /link")
            assert 2 == len(asked)
            assert (by == "link") == ("3 of 5 GETs of its link are left" in outcome.hint)


@faults
async def test_a_spoilt_answer_to_a_question_is_asked_again_or_an_error(spoil: Spoil) -> None:
    async with FaultyVenice(quote=[spoil(PRICE)]) as server, client(server) as venice:
        with anyio.fail_after(PATIENCE):
            try:
                assert 0.25 == (await venice.quote(PUBLIC)).usd
            except (ProtocolError, APIError):
                assert 1 == len(server.requests)


@faults
async def test_a_spoilt_answer_to_the_paid_request_is_never_paid_for_again(
    tmp_path: Path, spoil: Spoil
) -> None:
    honest = json_reply({"model": "public-model", "queue_id": "job-1"})
    async with Witness(tmp_path, queue=[spoil(honest)], polls=0) as server, client(server) as venice:
        job = venice.generate(PUBLIC, to=server.path)
        with anyio.fail_after(PATIENCE):
            await job.ended()
        assert 1 >= len(server.charges)
        match job.state:
            case Failed(error=QueueOutcomeUnknownError() as error):
                assert error.charged is None
                assert ["POST /video/queue"] == wire(server)
            case Failed(error=APIError() as error):
                assert error.charged is False
                assert [] == server.charges
            case state:
                assert isinstance(state, Succeeded)


async def test_a_head_of_one_byte_a_second_is_not_waited_for(tmp_path: Path) -> None:
    class Slow(Witness):
        async def _send(self, reply: Reply, writer: Any) -> None:
            if len(self.requests) > 5 or self.requests[-1].path.endswith("queue"):
                await super()._send(reply, writer)
                return
            for byte in b"HTTP/1.1 200 OK\r\nx-filler: " + b"x" * 10_000:
                await anyio.sleep(1)
                writer.write(bytes([byte]))
                await writer.drain()

    async with Slow(tmp_path, polls=0) as server:
        with anyio.fail_after(PATIENCE):
            assert isinstance(await run_job(server), Video)
            async with client(server) as venice:
                assert 0.25 == (await venice.quote(PUBLIC)).usd


CUT = video_reply(CLIP, headers={"etag": '"1"'}, cut_at=60_000)
OTHER = bytes(reversed(CLIP[-50_000:]))


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(LINKED, id="200 to a range"),
        pytest.param(partial_reply(CLIP, 59_999), id="206 from a byte before"),
        pytest.param(partial_reply(CLIP, 60_001), id="206 from a byte behind"),
        pytest.param(partial_reply(CLIP, 0), id="206 from the start"),
        pytest.param(partial_reply(CLIP, 60_000, stated_total=100_001), id="206 of a larger file"),
        pytest.param(partial_reply(CLIP[:-1], 60_000), id="206 of a smaller file"),
        pytest.param(partial_reply(CLIP, 60_000, length=39_999), id="206 with a length that contradicts it"),
        pytest.param(evolve(partial_reply(CLIP, 60_000), headers={}), id="206 that does not say what of"),
        pytest.param(partial_reply(CLIP, 60_000, headers={"etag": '"2"'}), id="206 of another version"),
        pytest.param(partial_reply(CLIP, 60_000, headers={"etag": 'W/"1"'}), id="206 with a weak tag"),
        pytest.param(gzipped(partial_reply(CLIP, 60_000)), id="206, compressed"),
        pytest.param(partial_reply(CLIP, 60_000, cut_at=9), id="206, cut again"),
        pytest.param(unsatisfiable(60_001), id="416 and another size"),
        pytest.param(unsatisfiable(60_000), id="416 and the size of what is there"),
        pytest.param(evolve(unsatisfiable(1), headers={}), id="416 and no size"),
    ],
)
async def test_a_strange_answer_to_a_range_never_makes_a_strange_file(tmp_path: Path, second: Reply) -> None:
    async with Witness(tmp_path, link=[CUT, second], polls=0) as server:
        assert isinstance(await run_job(server, PRIVATE), Video)
        asked = server.asked("GET /link")[1].headers
        assert ("bytes=60000-", '"1"') == (asked["range"], asked["if-range"])


async def test_a_part_that_ends_where_a_box_does_is_still_too_short(tmp_path: Path) -> None:
    whole = make_mp4(60_000) + box(b"free", bytes(1_000))
    first = video_reply(whole, headers={"etag": '"1"'}, cut_at=30_000)
    second = partial_reply(whole[:60_000], 30_000, stated_total=len(whole), headers={"etag": '"1"'})
    async with Witness(tmp_path, link=[first, second], clip=whole, polls=0) as server:
        assert isinstance(await run_job(server, PRIVATE), Video)
        assert 3 == server.gets


LONGER = CLIP + box(b"free", bytes(100))
TWIN = make_mp4(len(CLIP), seed=1)


@pytest.mark.parametrize(
    ("cut_at", "second"),
    [
        pytest.param(60_000, partial_reply(TWIN, 60_000, headers={"etag": '"2"'}), id="another version"),
        pytest.param(60_000, partial_reply(LONGER, 60_000), id="another size"),
        pytest.param(len(CLIP), unsatisfiable(len(CLIP) + 108), id="nothing of a larger file"),
    ],
)
async def test_what_would_fit_but_is_of_another_file_is_not_believed(
    tmp_path: Path, cut_at: int, second: Reply
) -> None:
    whole = LONGER if cut_at == len(CLIP) else CLIP
    first = video_reply(whole, headers={"etag": '"1"'}, cut_at=cut_at)
    if cut_at == len(CLIP):
        first = evolve(
            first, headers={**first.headers, "content-length": None, "transfer-encoding": "chunked"}
        )
        first = evolve(first, body=b"%x\r\n" % cut_at + CLIP, cut_at=None, close=True)
    async with Witness(tmp_path, link=[first, second], clip=whole, polls=0) as server:
        assert isinstance(await run_job(server, PRIVATE), Video)
        assert 3 == server.gets


async def test_what_is_said_to_be_compressed_is_no_clip(tmp_path: Path) -> None:
    async with Witness(tmp_path, link=[SPOILS["gzip that is none"](LINKED)] * 9, polls=0) as server:
        assert isinstance(await run_job(server, PRIVATE), NotAVideoError)


async def test_416_with_the_size_that_is_there_means_that_nothing_is_missing(tmp_path: Path) -> None:
    whole = video_reply(CLIP, headers={"etag": '"1"'}, unterminated=True)
    async with Witness(tmp_path, link=[whole, unsatisfiable(len(CLIP))], polls=0) as server:
        assert isinstance(await run_job(server, PRIVATE), Video)
        assert 2 == server.gets


@pytest.mark.parametrize(
    "headers", [{"etag": 'W/"1"'}, {"etag": "1"}, {}, {"etag": '"1"', "accept-ranges": "none"}]
)
async def test_without_a_strong_name_of_the_version_no_range_is_asked_for(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with Witness(tmp_path, link=[video_reply(CLIP, headers=headers, cut_at=9_000)], polls=0) as server:
        assert isinstance(await run_job(server, PRIVATE), Video)
        assert "range" not in server.asked("GET /link")[1].headers


async def test_a_clip_that_changes_between_two_gets_is_never_mixed(tmp_path: Path) -> None:
    first = video_reply(bytes(reversed(CLIP)), headers={"etag": '"1"'})
    first = evolve(first, body=CLIP[:40] + first.body[40:], cut_at=60_000)
    async with Witness(
        tmp_path, link=[first, lambda request: ranged_reply(request, CLIP, etag='"2"')], polls=0
    ) as server:
        assert isinstance(await run_job(server, PRIVATE), Video)


@pytest.mark.parametrize("status", [401, 410])
@pytest.mark.parametrize(
    "spoil", [pytest.param(SPOILS[name], id=name) for name in ("FIN half-way", "endless")]
)
async def test_a_link_that_is_gone_is_fetched_once_however_badly_that_is_said(
    tmp_path: Path, status: int, spoil: Spoil
) -> None:
    for answer in (
        json_reply({"error": "Gone"}, status=status),
        spoil(json_reply({"error": "x"}, status=status)),
    ):
        async with Witness(tmp_path, link=[answer], polls=0) as server:
            outcome = await run_job(server, PRIVATE)
            assert 1 == server.gets
            assert isinstance(outcome, {410: LinkExpiredError}.get(status, APIError))
            assert LinkExpiredError.hint in str(outcome)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
async def test_a_refusal_whose_words_are_lost_is_asked_for_again_unless_it_was_of_the_paid_request(
    tmp_path: Path, status: int
) -> None:
    lost = json_reply({"error": "no"}, status=status, cut_at=3)
    async with Witness(tmp_path, retrieve=[lost], polls=0) as server:
        assert isinstance(await run_job(server), Video)
    async with FaultyVenice(queue=[lost]) as other, client(other) as venice:
        with pytest.raises(APIError) as caught:
            await venice.generate(PUBLIC, to=tmp_path / "other.mp4")
        assert (False, 1) == (caught.value.charged, len(other.requests))


async def test_a_busy_server_has_not_accepted_a_paid_request_even_if_its_words_are_lost(
    tmp_path: Path,
) -> None:
    lost = json_reply({"error": "busy"}, status=429, cut_at=3)
    async with Witness(tmp_path, queue=[lost] * 2, polls=0) as server:
        assert isinstance(await run_job(server), Video)


REDIRECTS = {
    "across origins": (lambda server: f"{server.origin}/link/job-1?moved=1", Video),
    "in a circle": (lambda server: f"{server.other_origin}/link/job-1?signature=secret", DownloadError),
    "to http": (lambda _: "http://example.com/clip.mp4", DownloadError),
    "to a private address": (lambda _: "https://10.0.0.1/clip.mp4", DownloadError),
    "to a private address in disguise": (lambda _: "https://[::ffff:192.168.0.1]/clip.mp4", DownloadError),
    "to the metadata of a cloud": (lambda _: "https://169.254.169.254/latest", DownloadError),
    "to a file": (lambda _: "file:///etc/passwd", DownloadError),
    "to nowhere": (lambda _: "", DownloadError),
    "to nonsense": (lambda _: "https://[::1", DownloadError),
    "to a port where nobody is": (lambda _: "http://127.0.0.1:9/clip.mp4", TransportError),
}


@pytest.mark.parametrize(
    ("to", "expected"), [pytest.param(*each, id=name) for name, each in REDIRECTS.items()]
)
async def test_a_link_is_followed_to_public_places_only_and_counts_as_a_get(
    tmp_path: Path, to: Callable[[FaultyVenice], str], expected: type[object]
) -> None:
    class Moved(Witness):
        def answer(self, request: Request) -> Reply:
            moved = request.method == "GET" and (expected is not Video or "moved" not in request.query)
            return redirect(to(self)) if moved else super().answer(request)

    async with Moved(tmp_path, polls=0) as server:
        with anyio.fail_after(PATIENCE):
            outcome = await run_job(server, PRIVATE)
        assert isinstance(outcome, expected)
        assert all(
            "authorization" not in request.headers for request in server.requests if request.method == "GET"
        )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_of_the_api_is_not_followed(tmp_path: Path, status: int) -> None:
    class Moving(Witness):
        def answer(self, request: Request) -> Reply:
            if len(self.requests) in {1, 3, 4}:
                return redirect(f"{self.other_origin}/api/v1/video/quote", status=status)
            return super().answer(request)

    async with Moving(tmp_path, polls=0) as server, client(server) as venice:
        with pytest.raises(APIError):
            await venice.quote(PUBLIC)
        await venice.generate(PUBLIC, to=server.path)
        assert {server.port} == {request.port for request in server.requests}


RESETS = {
    "the past": lambda now: f"{now - 100:.0f}",
    "tomorrow": lambda now: f"{now + 86_400:.0f}",
    "tomorrow in milliseconds": lambda now: f"{(now + 86_400) * 1000:.0f}",
    "negative": lambda _: "-5",
    "a word": lambda _: "soon",
    "infinite": lambda _: "inf",
    "not a number": lambda _: "nan",
    "huge": lambda _: "9" * 300,
    "nothing": lambda _: "",
}


@pytest.mark.parametrize("reset", [pytest.param(reset, id=name) for name, reset in RESETS.items()])
@pytest.mark.parametrize("header", ["x-ratelimit-reset-requests", "retry-after", "x-ratelimit-resets"])
async def test_an_incredible_reset_is_not_waited_for(
    tmp_path: Path, reset: Callable[[float], str], header: str
) -> None:
    def refuse(_: Request) -> Reply:
        return rate_limited(headers={header: reset(server.now())})

    limited: dict[str, Any] = {name: [refuse] * 2 for name in ("quote", "queue", "retrieve", "link")}
    async with Witness(tmp_path, **limited, polls=0) as server:
        with anyio.fail_after(PATIENCE):
            assert isinstance(await run_job(server, PRIVATE, max_usd=1.0), Video)


@pytest.mark.parametrize("skew", [-3600.0, 0.0, 3600.0])
@pytest.mark.parametrize("unit", [1, 1000])
async def test_a_reset_is_read_by_the_servers_own_clock(tmp_path: Path, skew: float, unit: int) -> None:
    def refuse(_: Request) -> Reply:
        return rate_limited(round((server.now() + 40) * unit))

    async with Witness(tmp_path, retrieve=[refuse], polls=0) as server:
        server.skew = skew
        assert isinstance(await run_job(server), Video)
        first, second = server.asked("POST /video/retrieve")
        assert 40 <= second.at - first.at < 60


@pytest.mark.parametrize("times", [1, 4, 12])
async def test_a_server_without_capacity_for_a_while_costs_time_only(tmp_path: Path, times: int) -> None:
    busy = no_capacity()
    answers: dict[str, Any] = {
        "retrieve": [busy] * times,
        "link": [busy] * min(times, 4),
        "queue": [busy] * min(times, 5),
    }
    async with Witness(tmp_path, **answers, polls=0) as server:
        assert isinstance(await run_job(server, PRIVATE), Video)


async def test_an_overloaded_model_costs_its_own_job_half_a_minute_and_the_jobs_of_others_nothing() -> None:
    overloaded = json_reply({"error": {"code": "MODEL_OVERLOADED", "message": "Busy"}}, status=429)
    async with FaultyVenice(queue=[overloaded]) as server, client(server) as venice:
        began = server.now()
        await venice.generate(PUBLIC, to=MemorySink()).queued()  # the model that has no room
        assert 30 <= server.now() - began <= 31

    async with FaultyVenice(queue=[overloaded]) as server, client(server) as venice:
        began, first = server.now(), venice.generate(PUBLIC, to=MemorySink())
        await until(lambda: bool(server.requests))
        await venice.generate(PRIVATE, to=MemorySink()).queued()
        assert server.now() - began <= 2
        await first.queued()


async def test_while_the_key_is_blocked_nothing_is_sent_with_it() -> None:
    blocked: list[float] = []

    def block(request: Request) -> Reply:
        blocked.append(request.at)
        return abuse_block(round((server.now() + 30) * 1000))

    tickets = [Ticket(model="m", queue_id=f"q{number}") for number in range(5)]
    async with FaultyVenice(retrieve=[NEWS] * 10 + [block], quote=[PRICE], always=NEWS) as server:
        with pytest.raises(ZeroDivisionError):
            async with client(server) as venice:
                for ticket in tickets:
                    venice.resume(ticket)
                await until(lambda: bool(blocked))
                await anyio.sleep(5)
                venice.generate(PUBLIC, to=MemorySink())
                assert 0.25 == (await venice.quote(PUBLIC)).usd
                await anyio.sleep(60)
                raise ZeroDivisionError
        (began,) = blocked
        assert [] == [request.at - began for request in server.requests if 0.1 < request.at - began < 30]
        later = {request.path.split("/")[-1] for request in server.requests if request.at > began + 30}
        assert {"retrieve", "queue", "quote"} == later


async def test_connections_that_end_between_two_requests_cost_nothing_but_time(tmp_path: Path) -> None:
    async with Witness(tmp_path, polls=4) as server:
        server.hangs_up_on_reuse = True
        assert isinstance(await run_job(server, PRIVATE), Video)
        assert 2 <= len([request for request in server.requests if request.number])


FAILING = {
    "500": json_reply({"error": "x"}, status=500),
    "502": html_reply(status=502),
    "503": json_reply({"error": "x"}, status=503),
    "429": json_reply({"error": "x"}, status=429),
    "401": json_reply({"error": "x"}, status=401),
    "404": json_reply({"error": "x"}, status=404),
    "cut": Reply(cut_head_at=0, charged=False),
    "reset": Reply(cut_head_at=0, reset=True, charged=False),
    "silence": Reply(delay=3600, charged=False),
}


@pytest.mark.parametrize("answer", [pytest.param(answer, id=name) for name, answer in FAILING.items()])
async def test_ten_minutes_in_which_every_call_fails_never_block_the_key(answer: Reply) -> None:
    async with FaultyVenice(always=answer) as server:
        with pytest.raises(ZeroDivisionError):
            async with client(server) as venice:
                for number in range(30):
                    venice.resume(Ticket(model="m", queue_id=f"q{number}"))
                    venice.generate(PUBLIC, to=MemorySink())
                    venice.generate(PUBLIC, to=MemorySink(), max_usd=1.0)
                await anyio.sleep(600)
                raise ZeroDivisionError
        failed = [request.at for request in server.requests]
        if answer.status not in {429, 500, 502, 503}:  # of what counts towards the block
            assert 20 >= max(bisect_left(failed, at + 30) - index for index, at in enumerate(failed))
        assert 20 <= len(failed)
        assert 30 >= len(server.charges)  # of 30 that were paid for without asking for the price


class BrokenDisk:
    """An `os` of which one function fails, from its n-th call on."""

    def __init__(self, name: str, error: int, *, after: int = 0) -> None:
        self.name = name
        self.error = error
        self.left = after

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        return self._failing(found) if name == self.name else found

    def _failing(self, works: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise OSError(self.error, os.strerror(self.error))
            return works(*arguments, **options)

        return call


@pytest.mark.parametrize("error", [pytest.param(error, id=name) for name, error in errnos.items()])
@pytest.mark.parametrize(
    ("name", "after"), [("open", 0), ("write", 0), ("write", 1), ("fsync", 0), ("fsync", 1), ("ftruncate", 0)]
)
@pytest.mark.parametrize("request_", [PUBLIC, PRIVATE], ids=["inline", "link"])
async def test_a_disk_that_fails_leaves_nothing_and_the_ticket_brings_the_clip_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: VideoRequest, name: str, after: int, error: int
) -> None:
    again: dict[str, Any] = (
        {"link": [CUT, LINKED]} if request_ is PRIVATE else {"retrieve": [evolve(INLINE, cut_at=60_000)]}
    )
    async with Witness(tmp_path, **(again if name == "ftruncate" else {}), polls=0) as server:
        with monkeypatch.context() as patched:
            broken = BrokenDisk(name, error, after=after)
            for module in ("delivery.part_file", "disk"):
                patched.setattr(f"venice_async.io.{module}.os", broken)
            failure = await run_job(server, request_)
        if isinstance(failure, Video):
            assert ("fsync", 1, errno.EACCES) == (name, after, error)  # a folder that one may not list
            return
        assert isinstance(failure, DownloadError)
        assert failure.ticket is not None
        async with client(server) as venice:
            video = await venice.resume(failure.ticket, to=server.path)
        server.check(video)


@pytest.mark.parametrize("error", [pytest.param(error, id=name) for name, error in errnos.items()])
@pytest.mark.parametrize("name", ["link", "replace", "rename"])
async def test_a_name_that_is_refused_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: int
) -> None:
    overwrite = name == "replace"
    if overwrite:
        (tmp_path / "clip.mp4").write_bytes(b"old")
    async with FaultyVenice(polls=0) as server, client(server) as venice:
        with monkeypatch.context() as patched:
            broken = BrokenDisk(name, error)
            patched.setattr(os, name, broken._failing(getattr(os, name)))
            if name == "rename":
                patched.setattr(os, "link", BrokenDisk("link", errno.EPERM)._failing(os.link))
            try:
                await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", overwrite=overwrite)
            except DownloadError as failure:
                ticket = failure.ticket
                assert [b"old"] * overwrite == [path.read_bytes() for path in tmp_path.iterdir()]
                assert "POST /video/complete" not in wire(server)
            else:
                assert (name, error == errno.ENOSPC) == ("link", False)  # it has no links: renamed instead
                return
        assert ticket is not None
        await venice.resume(ticket, to=tmp_path / "clip.mp4", overwrite=overwrite)
        assert CLIP == (tmp_path / "clip.mp4").read_bytes()


async def test_a_disk_that_is_full_says_how_much_was_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("venice_async.io.delivery.part_file.os", BrokenDisk("write", errno.ENOSPC))
    async with Witness(tmp_path, polls=0) as server:
        failure = await run_job(server, PRIVATE)
    assert isinstance(failure, DownloadError)
    assert "disk is full" in str(failure)
    assert len(CLIP) == failure.total
    assert f"of {len(CLIP)}" in str(failure)


async def test_a_disk_that_is_full_beforehand_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("venice_async.io.delivery.destination.os", BrokenDisk("open", errno.ENOSPC))
    async with FaultyVenice() as server, client(server) as venice:
        with pytest.raises(DownloadError, match="disk is full") as caught:
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert caught.value.charged is False
        assert [] == server.requests


async def test_a_part_file_is_never_written_through_what_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("venice_async.io.delivery.part_file.secrets.token_hex", lambda size: "0" * 2 * size)
    (tmp_path / "victim").write_bytes(b"precious")
    part = part_path(tmp_path / "clip.mp4", job_key("public-model", "job-1"))
    part.symlink_to(tmp_path / "victim")
    async with FaultyVenice(polls=0) as server, client(server) as venice:
        with (tmp_path / "victim").open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)  # as its owner would, while at work
            with pytest.raises(DownloadError):
                await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
    assert b"precious" == (tmp_path / "victim").read_bytes()
    assert not (tmp_path / "clip.mp4").exists()


@pytest.mark.parametrize("request_", [PUBLIC, PRIVATE], ids=["inline", "link"])
async def test_a_file_that_appears_meanwhile_is_not_touched(tmp_path: Path, request_: VideoRequest) -> None:
    async with FaultyVenice(polls=2) as server, client(server) as venice:
        job = venice.generate(request_, to=tmp_path / "clip.mp4")
        await job.queued()
        (tmp_path / "clip.mp4").write_bytes(b"somebody else's")
        with pytest.raises(DownloadError, match="appeared") as caught:
            await job
        assert [b"somebody else's"] == [path.read_bytes() for path in tmp_path.iterdir()]
        assert caught.value.ticket is not None
        await venice.resume(caught.value.ticket, to=tmp_path / "other.mp4")
        assert CLIP == (tmp_path / "other.mp4").read_bytes()


@pytest.mark.parametrize("status", [400, 402, 422, 503])
async def test_a_paid_request_that_was_refused_leaves_nothing_in_the_journal(
    tmp_path: Path, status: int
) -> None:
    refusals = [json_reply({"error": "no", "code": "MODEL_OFFLINE"}, status=status)] * 6
    journal = tmp_path / "private" / "jobs.db"
    async with FaultyVenice(queue=refusals) as server, client(server, journal=journal) as venice:
        with pytest.raises(APIError):
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert [] == await venice.pending()


async def test_a_paid_request_of_which_nobody_knows_stays_in_the_journal_until_somebody_looks(
    tmp_path: Path,
) -> None:
    async with FaultyVenice(queue=[Reply(cut_head_at=0, charged=True)]) as server:
        for _ in "12":
            async with client(server, journal=tmp_path / "private" / "jobs.db") as venice:
                jobs = await venice.recover() or [venice.generate(PUBLIC, to=tmp_path / "clip.mp4")]
                with pytest.raises(QueueOutcomeUnknownError):
                    await jobs[0]
                (entry,) = await venice.pending()
                assert (None, PUBLIC) == (entry.ticket, entry.request)
        assert ["POST /video/queue"] == wire(server)


async def test_a_paid_request_of_which_nobody_knows_is_sent_anew_only_after_it_was_forgotten(
    tmp_path: Path,
) -> None:
    lost = Reply(cut_head_at=0, charged=True)
    async with (
        FaultyVenice(queue=[lost]) as server,
        client(server, journal=tmp_path / "private" / "jobs.db") as venice,
    ):
        for _ in "12":
            (outcome,) = [outcome async for outcome in venice.batch([PUBLIC], into=tmp_path / "clips")]
            assert isinstance(outcome.error, QueueOutcomeUnknownError)
            assert 1 == len(server.charges)
        (entry,) = await venice.pending()
        await venice.forget(entry)
        assert [] == await venice.pending()
        (outcome,) = [outcome async for outcome in venice.batch([PUBLIC], into=tmp_path / "clips")]
        assert outcome.video is not None


async def test_what_has_a_ticket_or_is_on_its_way_is_not_forgotten(tmp_path: Path) -> None:
    slow = json_reply({"model": "public-model", "queue_id": "job-1"}, delay=5)
    journal = tmp_path / "private" / "jobs.db"
    async with FaultyVenice(queue=[slow]) as server, client(server, journal=journal) as venice:
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        await until(lambda: bool(server.requests))
        (intent,) = await venice.pending()
        with pytest.raises(UsageError):
            await venice.forget(intent)
        await job.queued()
        (queued,) = await venice.pending()
        for entry in (intent, queued):
            with pytest.raises(UsageError):
                await venice.forget(entry)
        assert isinstance(await job, Video)


NAMES = ("status", "error", "message", "code", "details", "issues", "quote", "data", "id", "queue_id", "url")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner)
    ),
    max_leaves=20,
)
STATUSES = st.sampled_from(
    [200, 201, 202, 204, 206, 300, 304, 307, 400, 402, 409, 416, 422, 429, 451, 500, 503, 599]
)
HEADERS = st.dictionaries(
    st.sampled_from(
        ["content-type", "retry-after", "date", "x-request-id", "content-range", "etag", "content-encoding"]
    ),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30)
    | st.sampled_from(["video/mp4", "application/json", "gzip", "9" * 50, "bytes 0-1/2"]),
)


class Cashier(FaultyVenice):
    """A Venice that counts charges whatever its answers say."""

    def _charge(self, request: Request, reply: Reply) -> None:
        if reply.status == 200 and b"job-" in reply.body:
            super()._charge(request, reply)
        else:
            self.charges.append(request.json)


@given(status=STATUSES, value=JSON, headers=HEADERS)
async def test_any_answer_makes_sense_or_an_error_of_ours(
    status: int, value: Any, headers: dict[str, str]
) -> None:
    answer = json_reply(value, status=status, headers=headers)
    answers: dict[str, Any] = {
        name: [answer] for name in ("quote", "models", "retrieve", "link", "complete", "revoke")
    }
    async with Cashier(**answers, polls=0) as server, client(server, timeouts=DEADLINE) as venice:
        calls = [venice.quote(PUBLIC), venice.models(), venice.rate_limits()]
        jobs = [venice.generate(each, to=MemorySink()) for each in (PUBLIC, PRIVATE)]
        for call in [*calls, *(job.wait() for job in jobs)]:
            with suppress(VeniceError):
                await call
        server._endpoints["POST /video/queue"][0].append(answer)
        jobs.append(venice.generate(PUBLIC, to=MemorySink()))
        await jobs[-1].ended()
        errors = [getattr(job.state, "error", None) for job in jobs]
        assert [] == [error for error in errors if "Internal" in str(error)]
        assert 3 >= len(server.charges)
