"""Whatever goes wrong: the very clip or none, an error that says how to go on, one charge, few GETs."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from tests.boxes import box
from tests.cases import for_each
from tests.clients import PRIVATE, PUBLIC, client, until, wire
from tests.faults import SPOILS, UNCHANGING, Witness, run_job
from tests.venice import (
    CLIP,
    Venice,
    abuse_block,
    answer,
    at,
    endless,
    fault,
    head,
    html_answer,
    in_chunks,
    json_answer,
    lost,
    no_capacity,
    partial_answer,
    rate_limited,
    redirect,
    remade,
    unsatisfiable,
    video_answer,
)
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
from venice_async.sandbox import Fault, RecordedRequest, tiny_clip

pytestmark = pytest.mark.anyio

NEWS = json_answer({"status": "PROCESSING", "average_execution_time": 145_000, "execution_duration": 1_000})

PATIENCE = 600
"""Seconds after which one bad answer must be overcome, whatever it was."""

DEADLINE = Timeouts(job=200.0)
"""For jobs that bring nothing but bad answers."""

RECORDED = "500"
"""What a second poll makes a failure of the job."""

errnos = {name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EACCES", "EDQUOT")}


@for_each("spoil", SPOILS)
async def test_a_spoilt_answer_to_a_poll_costs_a_poll(tmp_path: Path, spoil: str) -> None:
    times = 1 if spoil in {RECORDED, *UNCHANGING} else 2
    async with Witness(tmp_path / spoil, retrieve=[SPOILS[spoil]] * times, polls=times + 1) as server:
        with anyio.fail_after(PATIENCE):
            assert isinstance(await run_job(server), Video)


@for_each("spoil", SPOILS)
async def test_a_spoilt_clip_in_a_poll_is_fetched_again(tmp_path: Path, spoil: str) -> None:
    times = 1 if spoil in {RECORDED, *UNCHANGING} else 2
    async with Witness(tmp_path / spoil, video=[SPOILS[spoil]] * times, polls=0) as server:
        with anyio.fail_after(PATIENCE):
            assert isinstance(await run_job(server), Video)


@for_each("spoil", SPOILS)
async def test_a_spoilt_clip_by_link_is_fetched_again(tmp_path: Path, spoil: str) -> None:
    times = 1 if spoil in UNCHANGING else 2
    async with Witness(tmp_path / spoil, link=[SPOILS[spoil]] * times, polls=0) as server:
        with anyio.fail_after(PATIENCE):
            assert isinstance(await run_job(server, PRIVATE), Video)
        assert {"GET", "POST", "DELETE"} == {request.method for request in server.requests}


@pytest.mark.parametrize("by", ["poll", "link"])
@for_each("spoil", SPOILS)
async def test_a_clip_that_is_always_spoilt_ends_in_the_clip_or_an_error_with_the_ticket(
    tmp_path: Path, spoil: str, by: str
) -> None:
    spoilt = [evolve(SPOILS[spoil], times=None)]
    async with Witness(tmp_path / spoil, video=spoilt, link=spoilt, polls=0) as server:
        with anyio.fail_after(PATIENCE):
            outcome = await run_job(server, PUBLIC if by == "poll" else PRIVATE, timeouts=DEADLINE)
        if spoil in UNCHANGING:
            assert isinstance(outcome, DownloadError)
            assert outcome.final
            asked = server.asked("POST /video/retrieve" if by == "poll" else "GET /link")
            assert 2 == len(asked)
            assert (by == "link") == ("3 of 5 GETs of its link are left" in outcome.hint)


@for_each("spoil", SPOILS)
async def test_a_spoilt_answer_to_a_question_is_asked_again_or_an_error(spoil: str) -> None:
    async with Venice(quote=[SPOILS[spoil]]) as server, client(server) as venice:
        with anyio.fail_after(PATIENCE):
            try:
                assert 0.25 == (await venice.quote(PUBLIC)).usd
            except (ProtocolError, APIError):
                assert 1 == len(server.requests)


@for_each("spoil", SPOILS)
async def test_a_spoilt_answer_to_the_paid_request_is_never_paid_for_again(
    tmp_path: Path, spoil: str
) -> None:
    spoilt = [SPOILS[spoil]]
    async with Witness(tmp_path / spoil, queue=spoilt, polls=0) as server, client(server) as venice:
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
    async def dripping(_: bytes) -> AsyncGenerator[bytes]:
        for byte in b"HTTP/1.1 200 OK\r\nx-filler: " + b"x" * 10_000:
            await anyio.sleep(1)
            yield bytes([byte])

    def slow(request: RecordedRequest) -> Fault | None:
        return None if request.point == "queue" or len(server.requests) >= 5 else fault(raw=dripping)

    async with Witness(tmp_path, slow, polls=0) as server:
        with anyio.fail_after(PATIENCE):
            assert isinstance(await run_job(server), Video)
            async with client(server) as venice:
                assert 0.25 == (await venice.quote(PUBLIC)).usd


CUT = fault(cut_at=60_000)
WHOLE = remade(lambda honest: evolve(honest.headed(content_range=None), status=200).containing(CLIP))
SECONDS: dict[str, Fault] = {
    "200 to a range": WHOLE,
    "206 from a byte before": partial_answer(CLIP, 59_999),
    "206 from a byte behind": partial_answer(CLIP, 60_001),
    "206 from the start": partial_answer(CLIP, 0),
    "206 of a larger file": partial_answer(CLIP, 60_000, total=100_001),
    "206 of a smaller file": partial_answer(CLIP[:-1], 60_000),
    "206 with a length that contradicts it": remade(lambda honest: honest.headed(content_length="39999")),
    "206 that does not say what of": partial_answer(CLIP, 60_000, headers={"content-range": None}),
    "206 of another version": fault(headers={"etag": '"2"'}),
    "206 with a weak tag": fault(headers={"etag": 'W/"1"'}),
    "206, compressed": fault(coding="gzip"),
    "206, cut again": fault(cut_at=9),
    "416 and another size": unsatisfiable(60_001),
    "416 and the size of what is there": unsatisfiable(60_000),
    "416 and no size": answer(b"", "text/plain", status=416),
}


@for_each("second", SECONDS)
async def test_a_strange_answer_to_a_range_never_makes_a_strange_file(tmp_path: Path, second: str) -> None:
    async with Witness(tmp_path / second, link=[CUT, SECONDS[second]], polls=0) as server:
        assert isinstance(await run_job(server, PRIVATE), Video)
        asked = server.asked("GET /link")[1].headers
        tag = f'"{server.charges[0].queue_id}-{len(CLIP)}"'
        assert ("bytes=60000-", tag) == (asked["range"], asked["if-range"])


async def test_a_part_that_ends_where_a_box_does_is_still_too_short(tmp_path: Path) -> None:
    whole = tiny_clip(60_000) + box(b"free", bytes(1_000))
    stated = f"bytes 30000-59999/{len(whole)}"
    second = remade(lambda rest: rest.headed(content_range=stated).containing(whole[30_000:60_000]))
    async with Witness(tmp_path, link=[fault(cut_at=30_000), second], clip=whole, polls=0) as server:
        assert isinstance(await run_job(server, PRIVATE), Video)
        assert 3 == server.gets


LONGER = CLIP + box(b"free", bytes(100))
TWIN = tiny_clip(len(CLIP), seed=1)
NO_END = remade(
    lambda honest: evolve(in_chunks(honest), body=b"%x\r\n%b" % (len(CLIP), CLIP))  # and no length
)


@pytest.mark.parametrize(
    ("whole", "first", "second"),
    [
        pytest.param(
            CLIP,
            CUT,
            remade(lambda rest: rest.headed(etag='"2"').containing(TWIN[60_000:])),
            id="another version",
        ),
        pytest.param(CLIP, CUT, partial_answer(LONGER, 60_000), id="another size"),
        pytest.param(LONGER, NO_END, unsatisfiable(len(LONGER)), id="nothing of a larger file"),
    ],
)
async def test_what_would_fit_but_is_of_another_file_is_not_believed(
    tmp_path: Path, whole: bytes, first: Fault, second: Fault
) -> None:
    async with Witness(tmp_path, link=[first, second], clip=whole, polls=0) as server:
        assert isinstance(await run_job(server, PRIVATE), Video)
        assert 3 == server.gets


async def test_what_is_said_to_be_compressed_is_no_clip(tmp_path: Path) -> None:
    async with Witness(tmp_path, link=[evolve(SPOILS["gzip that is none"], times=9)], polls=0) as server:
        assert isinstance(await run_job(server, PRIVATE), NotAVideoError)


async def test_416_with_the_size_that_is_there_means_that_nothing_is_missing(tmp_path: Path) -> None:
    whole = remade(lambda honest: in_chunks(honest, end=b""))
    async with Witness(tmp_path, link=[whole, unsatisfiable(len(CLIP))], polls=0) as server:
        assert isinstance(await run_job(server, PRIVATE), Video)
        assert 2 == server.gets


@pytest.mark.parametrize(
    "headers", [{"etag": 'W/"1"'}, {"etag": "1"}, {}, {"etag": '"1"', "accept-ranges": "none"}]
)
async def test_without_a_strong_name_of_the_version_no_range_is_asked_for(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    async with Witness(tmp_path, link=[video_answer(CLIP, headers=headers, cut_at=9_000)], polls=0) as server:
        assert isinstance(await run_job(server, PRIVATE), Video)
        assert "range" not in server.asked("GET /link")[1].headers


async def test_a_clip_that_changes_between_two_gets_is_never_mixed(tmp_path: Path) -> None:
    other = CLIP[:40] + bytes(reversed(CLIP))[40:]
    first = video_answer(other, headers={"etag": '"1"', "accept-ranges": "bytes"}, cut_at=60_000)
    async with Witness(tmp_path, link=[first], polls=0) as server:
        assert isinstance(await run_job(server, PRIVATE), Video)


@pytest.mark.parametrize("status", [401, 410])
async def test_a_link_that_is_gone_is_fetched_once_however_badly_that_is_said(
    tmp_path: Path, status: int
) -> None:
    for gone in (
        json_answer({"error": "Gone"}, status=status),
        json_answer({"error": "x"}, status=status, cut_at=6),
        endless(b'{"error": "x"}', status=status),
    ):
        async with Witness(tmp_path, link=[gone], polls=0) as server:
            outcome = await run_job(server, PRIVATE)
            assert 1 == server.gets
            assert isinstance(outcome, {410: LinkExpiredError}.get(status, APIError))
            assert LinkExpiredError.hint in str(outcome)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
async def test_a_refusal_whose_words_are_lost_is_asked_for_again_unless_it_was_of_the_paid_request(
    tmp_path: Path, status: int
) -> None:
    lost = json_answer({"error": "no"}, status=status, cut_at=3)
    async with Witness(tmp_path, retrieve=[lost], polls=0) as server:
        assert isinstance(await run_job(server), Video)
    async with Venice(queue=[lost]) as other, client(other) as venice:
        with pytest.raises(APIError) as caught:
            await venice.generate(PUBLIC, to=tmp_path / "other.mp4")
        assert (False, 1) == (caught.value.charged, len(other.requests))


async def test_a_busy_server_has_not_accepted_a_paid_request_even_if_its_words_are_lost(
    tmp_path: Path,
) -> None:
    lost = json_answer({"error": "busy"}, status=429, cut_at=3)
    async with Witness(tmp_path, queue=[lost] * 2, polls=0) as server:
        assert isinstance(await run_job(server), Video)


REDIRECTS: dict[str, tuple[str, type[object]]] = {
    "across origins": ("{elsewhere}/clip.mp4?moved=1", Video),
    "in a circle": ("{link}", DownloadError),
    "to http": ("http://example.com/clip.mp4", DownloadError),
    "to a private address": ("https://10.0.0.1/clip.mp4", DownloadError),
    "to a private address in disguise": ("https://[::ffff:192.168.0.1]/clip.mp4", DownloadError),
    "to the metadata of a cloud": ("https://169.254.169.254/latest", DownloadError),
    "to a file": ("file:///etc/passwd", DownloadError),
    "to nowhere": ("", DownloadError),
    "to nonsense": ("https://[::1", DownloadError),
    "to a port where nobody is": ("http://127.0.0.1:9/clip.mp4", TransportError),
}


@for_each("to", REDIRECTS)
async def test_a_link_is_followed_to_public_places_only_and_counts_as_a_get(tmp_path: Path, to: str) -> None:
    place, expected = REDIRECTS[to]

    def moved(request: RecordedRequest) -> Fault | None:
        link = server.other_origin + request.target
        location = place.replace("{link}", link).replace("{elsewhere}", elsewhere.other_origin)
        return at("link", redirect(location)) if request.point == "link" else None

    async with (
        Witness(tmp_path / to, moved, polls=0) as server,
        Venice(link=[video_answer(CLIP)]) as elsewhere,
    ):
        with anyio.fail_after(PATIENCE):
            outcome = await run_job(server, PRIVATE)
        assert isinstance(outcome, expected)
        asked = [request for request in server.requests + elsewhere.requests if request.method == "GET"]
        assert asked
        assert all("authorization" not in request.headers for request in asked)
        assert [] == server.leaked_keys + elsewhere.leaked_keys


@for_each("status", [301, 302, 303, 307, 308])
async def test_a_redirect_of_the_api_is_not_followed(tmp_path: Path, status: int) -> None:
    def moving(_: RecordedRequest) -> Fault | None:
        moved = redirect(f"{server.other_origin}/api/v1/video/quote", status=status)
        return moved if len(server.requests) in {0, 2, 3} else None

    async with Witness(tmp_path / str(status), moving, polls=0) as server, client(server) as venice:
        with pytest.raises(APIError):
            await venice.quote(PUBLIC)
        await venice.generate(PUBLIC, to=server.path)
        assert {"api"} == {request.origin for request in server.requests}


RESETS: dict[str, Callable[[float], str]] = {
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


@pytest.mark.parametrize("header", ["x-ratelimit-reset-requests", "retry-after", "x-ratelimit-resets"])
@for_each("reset", RESETS)
async def test_an_incredible_reset_is_not_waited_for(tmp_path: Path, reset: str, header: str) -> None:
    refused = Counter[str]()

    def refuse(request: RecordedRequest) -> Fault | None:
        refused[request.point] += 1
        limited = request.point in {"quote", "queue", "retrieve", "link"} and refused[request.point] <= 2
        return rate_limited(**{header: RESETS[reset](server.now())}) if limited else None

    async with Witness(tmp_path / reset, refuse, polls=0) as server:
        with anyio.fail_after(PATIENCE):
            assert isinstance(await run_job(server, PRIVATE, max_usd=1.0), Video)


@pytest.mark.parametrize("skew", [-3600.0, 0.0, 3600.0])
@pytest.mark.parametrize("unit", [1, 1000])
async def test_a_reset_is_read_by_the_servers_own_clock(tmp_path: Path, skew: float, unit: int) -> None:
    def refuse(request: RecordedRequest) -> Fault | None:
        first = request.point == "video" and not server.asked("POST /video/retrieve")
        return rate_limited(round((server.now() + 40) * unit)) if first else None

    async with Witness(tmp_path, refuse, polls=0, clock_skew=skew) as server:
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
    overloaded = json_answer({"error": {"code": "MODEL_OVERLOADED", "message": "Busy"}}, status=429)
    async with Venice(queue=[overloaded]) as server, client(server) as venice:
        began = server.now()
        await venice.generate(PUBLIC, to=MemorySink()).queued()  # the model that has no room
        assert 30 <= server.now() - began <= 31

    async with Venice(queue=[overloaded]) as server, client(server) as venice:
        began, first = server.now(), venice.generate(PUBLIC, to=MemorySink())
        await until(lambda: bool(server.requests))
        await venice.generate(PRIVATE, to=MemorySink()).queued()
        assert server.now() - began <= 2
        await first.queued()


async def test_while_the_key_is_blocked_nothing_is_sent_with_it() -> None:
    blocked: list[float] = []

    def block(request: RecordedRequest) -> Fault | None:
        if request.point != "retrieve" or len(server.asked("POST /video/retrieve")) != 10:
            return None
        blocked.append(request.at)
        return abuse_block(round((server.now() + 30) * 1000))

    tickets = [Ticket(model="m", queue_id=f"q{number}") for number in range(5)]
    async with Venice(block, quote=[json_answer({"quote": 0.25})], always=NEWS) as server:
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
    used: set[tuple[str, int]] = set()

    def hang_up_on_reuse(request: RecordedRequest) -> Fault | None:
        connection = request.origin, request.connection
        if connection in used:
            return fault(drop="before")
        used.add(connection)
        return None

    async with Witness(tmp_path, hang_up_on_reuse, polls=4) as server:
        assert isinstance(await run_job(server, PRIVATE), Video)
        assert 2 <= len([request for request in server.requests if request.status is None])


FAILING = {
    "500": json_answer({"error": "x"}, status=500),
    "502": html_answer(status=502),
    "503": json_answer({"error": "x"}, status=503),
    "429": json_answer({"error": "x"}, status=429),
    "401": json_answer({"error": "x"}, status=401),
    "404": json_answer({"error": "x"}, status=404),
    "cut": fault(drop="before"),
    "reset": fault(raw=b"", reset_at=0),
    "silence": fault(hang=3600),
}


@pytest.mark.parametrize("failing", [pytest.param(failing, id=name) for name, failing in FAILING.items()])
async def test_ten_minutes_in_which_every_call_fails_never_block_the_key(failing: Fault) -> None:
    async with Venice(always=failing) as server:
        with pytest.raises(ZeroDivisionError):
            async with client(server) as venice:
                for number in range(30):
                    venice.resume(Ticket(model="m", queue_id=f"q{number}"))
                    venice.generate(PUBLIC, to=MemorySink())
                    venice.generate(PUBLIC, to=MemorySink(), max_usd=1.0)
                await anyio.sleep(600)
                raise ZeroDivisionError
        failed = [request.at for request in server.requests]
        if failing.status not in {429, 500, 502, 503}:  # of what counts towards the block
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


@pytest.mark.parametrize("request_", [PUBLIC, PRIVATE], ids=["inline", "link"])
@for_each("error", errnos.values())
@for_each(
    "name, after", [("open", 0), ("write", 0), ("write", 1), ("fsync", 0), ("fsync", 1), ("ftruncate", 0)]
)
async def test_a_disk_that_fails_leaves_nothing_and_the_ticket_brings_the_clip_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: VideoRequest, name: str, after: int, error: int
) -> None:
    again: dict[str, Any] = (
        {"link": [CUT, WHOLE]} if request_ is PRIVATE else {"video": [fault(cut_at=60_000)]}
    )
    place = tmp_path / f"{name}-{after}-{error}"
    again = again if name == "ftruncate" else {"clip": tiny_clip(600_000)}  # of several pieces
    async with Witness(place, **again, polls=0) as server:
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


@for_each("error", errnos.values())
@for_each("name", ["link", "replace", "rename"])
async def test_a_name_that_is_refused_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: int
) -> None:
    tmp_path = tmp_path / f"{name}-{error}"
    tmp_path.mkdir()
    overwrite = name == "replace"
    if overwrite:
        (tmp_path / "clip.mp4").write_bytes(b"old")
    async with Venice(polls=0) as server, client(server) as venice:
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
    async with Venice() as server, client(server) as venice:
        with pytest.raises(DownloadError, match="disk is full") as caught:
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert caught.value.charged is False
        assert [] == server.requests


async def test_a_part_file_is_never_written_through_what_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("venice_async.io.delivery.part_file.secrets.token_hex", lambda size: "0" * 2 * size)
    (tmp_path / "victim").write_bytes(b"precious")
    async with Venice() as server, client(server) as venice:
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        ticket = await job.queued()
        part = part_path(tmp_path / "clip.mp4", job_key(ticket.model, ticket.queue_id))
        part.symlink_to(tmp_path / "victim")
        with (tmp_path / "victim").open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)  # as its owner would, while at work
            with pytest.raises(DownloadError):
                await job
    assert b"precious" == (tmp_path / "victim").read_bytes()
    assert not (tmp_path / "clip.mp4").exists()


@pytest.mark.parametrize("request_", [PUBLIC, PRIVATE], ids=["inline", "link"])
async def test_a_file_that_appears_meanwhile_is_not_touched(tmp_path: Path, request_: VideoRequest) -> None:
    async with Venice(polls=2) as server, client(server) as venice:
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
    refusals = [json_answer({"error": "no", "code": "MODEL_OFFLINE"}, status=status)] * 6
    journal = tmp_path / "private" / "jobs.db"
    async with Venice(queue=refusals) as server, client(server, journal=journal) as venice:
        with pytest.raises(APIError):
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert [] == await venice.pending()


async def test_a_paid_request_of_which_nobody_knows_stays_in_the_journal_until_somebody_looks(
    tmp_path: Path,
) -> None:
    async with Venice(queue=[lost()]) as server:
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
    async with (
        Venice(queue=[lost()]) as server,
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
    slow = fault(delay=5)
    journal = tmp_path / "private" / "jobs.db"
    async with Venice(queue=[slow]) as server, client(server, journal=journal) as venice:
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


@given(status=STATUSES, value=JSON, headers=HEADERS)
async def test_any_answer_makes_sense_or_an_error_of_ours(
    status: int, value: Any, headers: dict[str, str]
) -> None:
    body = json.dumps(value).encode()
    length = {} if status in {204, 304} else {"content-length": str(len(body))}
    raw = head(status, **({"content-type": "application/json"} | length | headers)) + body
    said = fault(raw=raw, processed=status < 400 or status == 500)
    answers: dict[str, Any] = {
        name: [said] for name in ("quote", "models", "retrieve", "link", "complete", "revoke")
    }
    async with Venice(**answers, polls=0) as server, client(server, timeouts=DEADLINE) as venice:
        calls = [venice.quote(PUBLIC), venice.models(), venice.rate_limits()]
        jobs = [venice.generate(each, to=MemorySink()) for each in (PUBLIC, PRIVATE)]
        for call in [*calls, *(job.wait() for job in jobs)]:
            with suppress(VeniceError):
                await call
        server.inject(said)
        jobs.append(venice.generate(PUBLIC, to=MemorySink()))
        await jobs[-1].ended()
        errors = [getattr(job.state, "error", None) for job in jobs]
        assert [] == [error for error in errors if "Internal" in str(error)]
        assert 3 >= len(server.charges)
