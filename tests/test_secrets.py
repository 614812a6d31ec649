"""The key and the link are in no text that anyone may read: errors, tracebacks, logs, reprs, files."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import anyio
import pytest
from attrs import evolve

from tests.cases import for_each
from tests.clients import PRIVATE, PUBLIC
from tests.venice import CLIP, Venice, answer, at, endless, fault, json_answer, linked, redirect, video_answer
from venice_async import (
    ProtocolError,
    Retries,
    Ticket,
    Timeouts,
    UsageError,
    VeniceClient,
    VeniceError,
    VideoJob,
    VideoRequest,
)
from venice_async.io.aiohttp import AiohttpTransport
from venice_async.sandbox import Fault, RecordedRequest
from venice_async.sansio.http.secrets import Secret, redact
from venice_async.sansio.http.wire import HttpRequest, link_request, poll_request, revoke
from venice_async.sansio.job import commands, events, states
from venice_async.sansio.job.machine import begin, step, watch
from venice_async.sansio.retries import Call

pytestmark = pytest.mark.anyio

KEY = "vk-Q7xZpL2mW9sT4/uR+8=="
MARK = "S1GN4TUR3"
SIGNATURE = f"X-Sig={MARK}/a+b%3D"
LINK_PATH = "/link/job-1"
Keyed = partial(Venice, api_key=KEY)
DONE = evolve(json_answer({"status": "COMPLETED"}), times=None)

Bad: TypeAlias = Callable[["Echoing"], Fault]


def secret_forms() -> list[str]:
    """Return the texts of which none may show up."""
    forms = [KEY, KEY.replace("/", "\\/"), quote(KEY), quote(KEY, safe=""), MARK]
    return [*forms, base64.b64encode(KEY.encode()).decode()]


def found_in(text: str) -> list[str]:
    return [form for form in secret_forms() if form in text]


class Echoing(Venice):
    """A Venice whose links are signed, and whose bad answers repeat what it was sent, in every spelling.

    Attributes:
        bad: makes its bad answers.
        where: which calls are answered so; all, if it is empty.
        given: whether the client knows the link.
        left: bad answers to come.
    """

    def __init__(self, bad: Bad | None = None, where: tuple[str, ...] = (), *, polls: int = 1) -> None:
        super().__init__(self._decide, polls=polls, api_key=KEY)
        self.bad = bad
        self.where = where
        self.given = False
        self.left = 10

    def _decide(self, request: RecordedRequest) -> Fault | None:
        call = "retrieve" if request.point == "video" else request.point
        if self.bad is not None and self.left and (call in self.where or not self.where):
            self.left -= 1
            return self.bad(self)
        if call == "queue":
            self.given = "private" in request.json["model"]
            return linked(self.link()) if self.given else None
        return {"link": video_answer(CLIP), "revoke": answer(b"", "text/plain", status=204)}.get(call)

    def link(self) -> str:
        return f"{self.other_origin}{LINK_PATH}?{SIGNATURE}"

    def echo(self) -> str:
        """Return what a careless server says about a request: the key, and the link once it was given."""
        parts = [f"Bearer {KEY}", KEY]
        parts += [self.link(), f"{LINK_PATH}?{SIGNATURE}", SIGNATURE] if self.given else []
        whole = " ".join([*parts, *map(quote, parts), *(quote(part, safe="") for part in parts)])
        escaped = "".join(f"\\u{ord(letter):04x}" for letter in whole)
        return f"{whole} {whole.replace('/', chr(92) + '/')} {escaped}"


def error(status: int, **headers: str) -> Bad:
    """Echo as JSON, in the body and in the headers."""

    def made(server: Echoing) -> Fault:
        text = server.echo()
        said = {"message": text, "code": text, "more": {text: [text]}}
        named = {"x-request-id": text, "cf-ray": text, "content-type": "application/json"} | headers
        return json_answer({"error": said, "details": {"_errors": [text]}}, status=status, headers=named)

    return made


def page(status: int, kind: str = "text/html") -> Bad:
    """Echo as a page."""

    def made(server: Echoing) -> Fault:
        body = f"<title>{server.echo()}</title>{server.echo()}".encode()
        return answer(body, kind, status=status)

    return made


def failed(server: Echoing) -> Fault:
    """Echo in an answer that ends a job."""
    return json_answer({"status": "FAILED", "error": server.echo(), "message": server.echo()})


def spoilt(status: int, name: str) -> Bad:
    """Echo in an answer that is cut, or never ends."""

    def made(server: Echoing) -> Fault:
        whole = error(status)(server)
        size = len(whole.body)
        longer = {**whole.headers, "content-length": str(size + 7)}
        return {
            "FIN half-way": evolve(whole, cut_at=size // 2),
            "Content-Length too long": evolve(whole, cut_at=size, headers=longer),
            "stall in the body": evolve(whole, stall_at=size // 2),
            "endless": endless(f"{server.echo()} ".encode() * 20, status=status),
        }[name]

    return made


def always(reply: Fault) -> Bad:
    """Give one answer to all."""
    return lambda _: reply


def texts_of(failure: BaseException) -> Iterator[str]:
    """Yield all that can be read off an error and those chained to it, the locals of its frames included."""
    here = failure.__traceback__
    while here is not None and here.tb_frame.f_code.co_filename == __file__:
        here = here.tb_next  # the test itself knows the secrets
    shown = traceback.TracebackException(type(failure), failure, here, capture_locals=True)
    yield "".join(shown.format())
    chain: list[BaseException] = [failure]
    for each in chain:
        yield from (str(each), repr(each), repr(each.args), repr(vars(each)))
        if isinstance(each, VeniceError):
            yield repr(each.facts)
        chain += [
            other for other in (each.__cause__, each.__context__) if other is not None and other not in chain
        ]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Return the log, at its most talkative."""
    caplog.set_level(logging.DEBUG)
    return caplog


@pytest.fixture
async def debugged(log: pytest.LogCaptureFixture) -> Any:
    """Return the log of a loop in debug mode."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0  # every callback is slow, so that all are shown with their arguments
    yield log
    loop.set_debug(False)


def check_log(log: pytest.LogCaptureFixture) -> None:
    shown = logging.Formatter("%(message)s %(args)s")
    for record in log.records:
        text = shown.format(record) + repr(record.args)
        if record.exc_info and record.exc_info[1]:
            text += "".join(texts_of(record.exc_info[1]))
        assert [] == found_in(text), record.name


def check_error(failure: VeniceError) -> None:
    for text in texts_of(failure):
        assert [] == found_in(text)


def check_job(job: VideoJob) -> None:
    """Look at all that a job shows of itself, the traceback of its failure included."""
    parts: list[object] = [job, job.state, job.ticket, vars(job)]
    for part in parts:
        assert [] == found_in(repr(part))
    if isinstance(job.state, states.Failed):
        check_error(job.state.error)


BAD: dict[str, Bad] = {
    **{f"{status} as JSON": error(status) for status in (400, 404, 422, 429, 500, 503)},
    **{f"{status} as a page": page(status) for status in (400, 404, 422, 429, 500, 503)},
    "a page as a success": page(200),
    "a page as a video": page(200, "video/mp4"),
    "an error as a success": error(200),
    "an error as a video": error(200, **{"content-type": "video/mp4"}),
    "a status as a word": failed,
    "a redirect": always(redirect(f"https://10.0.0.1/?{SIGNATURE}&k={quote(KEY)}")),
    "a redirect elsewhere": always(redirect(f"https://nowhere.invalid/?{SIGNATURE}")),
    "a compressed error": lambda server: evolve(error(400)(server), coding="gzip"),
    "an encoding": always(video_answer(CLIP, headers={"content-encoding": KEY})),
    "a range": always(video_answer(CLIP, status=206, headers={"content-range": KEY})),
    **{
        f"{status}, {name}": spoilt(status, name)
        for name in ("FIN half-way", "Content-Length too long", "stall in the body", "endless")
        for status in (200, 400)
    },
}
SHORT = Timeouts(job=60.0)


def client(server: Venice, **options: Any) -> VeniceClient:
    return VeniceClient(KEY, base_url=server.base_url, timeouts=SHORT, **options)


@pytest.mark.parametrize("where", ["queue", "retrieve", "link", "complete", "revoke"])
@for_each("name", BAD)
async def test_what_a_server_echoes_in_a_job_is_shown_nowhere(
    tmp_path: Path, log: pytest.LogCaptureFixture, where: str, name: str
) -> None:
    log.clear()
    request = PRIVATE if where in {"link", "revoke", "queue"} else PUBLIC
    seen: list[str] = []

    def note(job: VideoJob, state: object) -> None:
        seen.extend([repr(job), repr(state)])

    async with Echoing(BAD[name], (where,)) as server, client(server, on_state=note) as venice:
        job = venice.generate(request, to=tmp_path / name.replace(" ", "-"))
        await job.ended()
        check_job(job)  # before anybody raises its error, which drops what it has seen
        try:
            await job
        except VeniceError as failure:
            check_error(failure)
        seen.append(repr(venice) + repr(vars(venice)))
        only_to_the_api(server)
    assert [] == found_in("".join(seen))
    check_log(log)


@pytest.mark.parametrize("call", ["quote", "models", "rate_limits", "complete", "revoke"])
@for_each("name", BAD)
async def test_what_a_server_echoes_to_a_question_is_shown_nowhere(
    log: pytest.LogCaptureFixture, call: str, name: str
) -> None:
    log.clear()
    async with Echoing(BAD[name]) as server, client(server, retries=Retries(quota=0)) as venice:
        server.given = call in {"complete", "revoke"}
        ticket = Ticket(model="model-private", queue_id="job-1", download_url=server.link())
        arguments: dict[str, list[object]] = {"quote": [PUBLIC], "complete": [ticket], "revoke": [ticket]}
        try:
            await getattr(venice, call)(*arguments.get(call, []))
        except VeniceError as failure:
            check_error(failure)
        only_to_the_api(server)
    check_log(log)


def only_to_the_api(server: Venice) -> None:
    """Assert that the key went to the API alone, and that links are asked for by their address alone."""
    for request in server.requests:
        if request.origin == "api":
            assert ("authorization" in request.headers, False) == (True, request.status == 401)
        else:
            allowed = {
                "host",
                "accept",
                "accept-encoding",
                "connection",
                "user-agent",
                "range",
                "if-range",
                "content-length",
            }
            assert allowed >= set(request.headers)
            assert KEY not in repr(sorted(request.headers.items()))
    assert [] == server.leaked_keys


def broken_address(*_: object, **__: object) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, f"no such name: {KEY} {SIGNATURE}")


def private_address(*_: object, **__: object) -> Any:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", 443))]


def this_machine(port: int) -> Callable[..., Any]:
    return lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.mark.parametrize("lookup", [broken_address, private_address])
async def test_a_link_whose_name_leads_nowhere_or_inside_is_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, lookup: Callable[..., Any]
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    link = f"https://files.example/{MARK}/clip?{SIGNATURE}"
    async with Keyed(retrieve=[DONE]) as server, client(server) as venice:
        job = venice.resume(Ticket(model="m", queue_id="q", download_url=link), to=tmp_path / "clip.mp4")
        with pytest.raises(VeniceError) as caught:
            await job
        check_error(caught.value)
        check_job(job)
        assert [] == list(tmp_path.iterdir())
    check_log(log)


async def test_a_name_that_leads_inside_is_final_and_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", private_address)
    async with Keyed(retrieve=[DONE]) as server, client(server) as venice:
        ticket = Ticket(model="m", queue_id="q", download_url="https://files.example/clip")
        started = anyio.current_time()
        with pytest.raises(VeniceError, match="private address"):
            await venice.resume(ticket, to=tmp_path / "clip.mp4")
        assert anyio.current_time() - started < 30


async def test_a_failed_handshake_shows_neither_key_nor_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    async with Keyed(retrieve=[DONE]) as server:
        async with VeniceClient(
            KEY, base_url=f"https://127.0.0.1:{server.port}/{MARK}", timeouts=SHORT
        ) as venice:
            for ask in (venice.models, lambda: venice.generate(PUBLIC, to=tmp_path / "clip.mp4").wait()):
                with pytest.raises(VeniceError) as caught:
                    await ask()
                for text in texts_of(caught.value):
                    assert KEY not in text
        async with client(server) as venice:
            link = f"{server.other_origin.replace('http', 'https', 1)}/link/q?{SIGNATURE}"
            with pytest.raises(VeniceError) as caught:
                await venice.resume(
                    Ticket(model="m", queue_id="q", download_url=link), to=tmp_path / "clip.mp4"
                )
            check_error(caught.value)
    check_log(log)


@pytest.mark.parametrize(
    "link",
    [
        f"http://files.example/clip?{SIGNATURE}",
        f"https://10.0.0.1/clip?{SIGNATURE}",
        f"https://user:{MARK}@files.example/clip",
        f"https://files.example:{MARK}/clip",
        f"https://[{MARK}",
        f"{MARK}",
        f"https://files.example/clip\r\nx: {MARK}",
        f"ftp://files.example/{MARK}",
    ],
)
async def test_a_link_that_must_not_be_followed_is_shown_nowhere(
    tmp_path: Path, log: pytest.LogCaptureFixture, link: str
) -> None:
    async with Keyed(queue=[linked(link)], polls=0) as server, client(server) as venice:
        job = venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
        with pytest.raises(VeniceError) as caught:
            await job
        check_error(caught.value)
        check_job(job)
        assert [] == found_in("".join(map(repr, (job.ticket, job.state))))
        with pytest.raises(VeniceError) as caught:
            await venice.revoke(Ticket(model="model-private", queue_id="job-1", download_url=link))
        check_error(caught.value)
    check_log(log)


async def test_a_broken_journal_shows_neither_key_nor_link(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "private" / "jobs.db"
    async with Echoing(polls=2) as server:
        async with client(server, journal=path) as venice:
            job = venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
            await job.queued()
            path.unlink()  # the journal is gone while it is in use
            await job
            check_job(job)
            with pytest.raises(VeniceError) as caught:
                await venice.pending()
            check_error(caught.value)
        path.write_bytes(b"SQLite format 3\0" + f"{KEY} {server.link()}".encode() * 99)
        with pytest.raises(VeniceError) as caught:
            async with client(server, journal=path):
                pass
        check_error(caught.value)
    check_log(log)


async def test_after_success_the_link_is_in_no_byte_of_the_journal(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    async with Echoing(polls=1) as server, client(server, journal=folder / "jobs.db") as venice:
        job = venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
        await job.queued()
        assert MARK.encode() in b"".join(
            path.read_bytes() for path in folder.iterdir()
        )  # or it could not go on
        await job
        left = b"".join(path.read_bytes() for path in folder.iterdir())
        assert [False, False] == [secret.encode() in left for secret in (MARK, KEY)]
        assert [0o600] * len(list(folder.iterdir())) == [
            path.stat().st_mode & 0o777 for path in folder.iterdir()
        ]


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": f"ftp://x/?{MARK}"},
        {"base_url": f"https://user:{MARK}@api.example"},
        {"api_key": f"{KEY}\n{KEY}"},
        {"api_key": f"{KEY}é"},
    ],
)
def test_a_client_made_wrongly_does_not_show_its_key(options: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        make(options)
    for text in texts_of(caught.value):
        assert KEY not in text.replace(repr(options), "")


def make(options: dict[str, str]) -> VeniceClient:
    """Make a client in a frame that does not hold the key as such."""
    return VeniceClient(options.get("api_key", KEY), base_url=options.get("base_url"))


@pytest.mark.parametrize("call", ["resume", "complete", "revoke"])
async def test_the_text_of_a_damaged_ticket_is_not_shown(call: str) -> None:
    async with Keyed() as server, client(server) as venice:
        with pytest.raises(UsageError) as caught:
            started = getattr(venice, call)(
                json.dumps({"model": "m", "download_url": f"https://a.example/?{MARK}"})
            )
            await started
        check_error(caught.value)


def test_the_text_of_a_damaged_ticket_is_not_shown_by_the_ticket() -> None:
    with pytest.raises(UsageError) as caught:
        Ticket.from_json(json.dumps({"model": "m", "download_url": f"https://a.example/?{MARK}"}))
    check_error(caught.value)


def everything() -> Iterator[object]:
    """Yield every state, command and event that can hold a link, and what is made of them."""
    ticket = Ticket(model="m-private", queue_id="q", download_url=f"https://a.example/clip?{SIGNATURE}")
    named = f"https://b.example/clip?{SIGNATURE}"
    state, command = watch(ticket)
    yield from (ticket, state, command)
    completed = events.Completed(link=named)
    yield completed
    assert isinstance(command, commands.Poll)
    yield poll_request(command.ticket)
    for start in (state, states.Waiting(ticket=evolve(ticket, download_url=None))):
        downloading, fetch = step(start, completed)
        assert isinstance(fetch, commands.Fetch)
        yield from (downloading, fetch, link_request(ticket, {}), revoke(ticket), revoke(ticket).request)
        yield step(downloading, events.Refused(VeniceError("no")))
        yield step(downloading, events.StopAsked())
        yield events.Accepted(ticket)
    yield begin(VideoRequest(model="m", prompt="p"))


def test_no_repr_shows_a_link() -> None:
    for value in everything():
        assert [] == found_in(repr(value))
        assert [] == found_in(str(value))


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up what an HTTP library may take from its surroundings: passwords and proxies."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login spy password s3cret\nmachine 127.0.0.1 login spy password s3cret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)


async def test_nothing_of_the_surroundings_is_sent_or_used(tmp_path: Path, surroundings: None) -> None:
    cookies = {"set-cookie": "spy=1; Path=/"}
    honest = json_answer({"status": "PROCESSING"}, headers=cookies)
    first = fault(headers=cookies, cut_at=500)
    async with Keyed(retrieve=[honest], link=[first]) as server, client(server) as venice:
        await venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
        only_to_the_api(server)
        assert 2 == server.gets
        for request in server.requests:
            assert "cookie" not in request.headers
            assert "proxy-authorization" not in request.headers


async def test_a_link_that_leads_to_the_api_itself_gets_no_key_there(tmp_path: Path) -> None:
    def tempting(request: RecordedRequest) -> Fault | None:
        tempted = request.point == "link"
        return at("link", redirect(f"{server.origin}/api/v1/models")) if tempted else None

    async with Keyed(tempting, polls=0) as server, client(server) as venice:
        with pytest.raises(VeniceError):
            await venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
        asked = [request for request in server.requests if request.path == "/models"]
        assert [None] * len(asked) == [request.headers.get("authorization") for request in asked]
        assert asked


async def test_a_job_that_nobody_awaited_is_logged_without_secrets(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    async with Echoing(error(404), ("retrieve",)) as server:
        async with client(server) as venice:
            venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
        gc.collect()
    assert any("never awaited" in record.getMessage() for record in log.records)
    check_log(log)


@pytest.mark.parametrize("request_", [PUBLIC, PRIVATE], ids=["inline", "link"])
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_a_loop_in_debug_mode_logs_no_secret(
    tmp_path: Path, debugged: pytest.LogCaptureFixture, request_: VideoRequest, status: int
) -> None:
    async with (
        Echoing(error(status), ("link", "complete", "revoke")) as server,
        client(server, journal=tmp_path / "private" / "jobs.db") as venice,
    ):
        job = venice.generate(request_, to=tmp_path / "clip.mp4")
        with suppress(VeniceError):
            await job
        check_job(job)
    assert 100 < len(debugged.records)
    check_log(debugged)


async def test_the_key_is_refused_for_any_origin_but_the_apis() -> None:
    transport = AiohttpTransport(base_url="https://api.example", api_key=Secret(KEY), timeouts=SHORT)
    for url in (
        "https://api.example.evil/",
        "https://api.example@evil.example/",
        "http://api.example/",
        "https://evil/",
    ):
        with pytest.raises(ProtocolError) as caught:
            transport._authorized(HttpRequest(call=Call.OTHER, method="GET", url="/"), url)
        check_error(caught.value)
    request = HttpRequest(call=Call.OTHER, method="GET", url="@evil.example/")  # beside a base without a path
    async with transport:
        with pytest.raises(ProtocolError):
            await transport.send(request)


async def test_a_long_error_is_redacted_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One megabyte of escapes held it up for a second."""
    threads: list[threading.Thread] = []

    def noted(body: bytes, secrets: tuple[str, ...]) -> bytes:
        threads.append(threading.current_thread())
        return redact(body, secrets)

    monkeypatch.setattr("venice_async.io.caller.redact", noted)
    said = json_answer({"error": f"{KEY} {'%25' * 2_000}"}, status=400)
    async with Keyed(queue=[said]) as server, VeniceClient(KEY, base_url=server.base_url) as venice:
        with pytest.raises(VeniceError, match=r"\[redacted\]"):
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
    assert (1, False) == (len(threads), threading.current_thread() in threads)
