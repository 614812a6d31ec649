"""A link is followed as it was given, by the way that leads to it, and only where it may lead."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import aiohttp
import anyio
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.clients import PRIVATE, client
from tests.venice import CLIP, Venice, answer, fault, linked, redirect, video_answer
from venice_async import DownloadError, Links, UsageError, VeniceClient, VeniceError, Video
from venice_async.io.links import LinkRoute
from venice_async.sandbox import Fault, RecordedRequest

pytestmark = pytest.mark.anyio

GIVEN = (
    "/link/a%2Fb%7e/./c//d;e=1?disposition=filename%3D%22a%2Fb.mp4%22&user=a%40b%7Ec+d%20e&&signature=x%3d"
)


class Host(Venice):
    """Gives the link `target`, and keeps what was asked for as it was written."""

    def __init__(self, target: str = GIVEN, *, moved_to: str | None = None, **options: Any) -> None:
        super().__init__(self._decide, polls=0, **options)
        self.target, self.moved_to = target, moved_to
        self.wanted: list[str] = []

    def _decide(self, request: RecordedRequest) -> Fault | None:
        if request.point == "queue":
            return linked(self.target if "://" in self.target else f"{self.other_origin}{self.target}")
        if request.origin == "api":
            return None
        self.wanted.append(f"{request.method} {request.target}")
        if self.moved_to is not None and request.target.startswith("/link"):
            return redirect(self.moved_to)
        return video_answer(CLIP) if request.method == "GET" else answer(b"", "text/plain", status=204)


async def fetched(server: Venice, folder: Path, **options: Any) -> Video | VeniceError:
    """Return how a job with a link ends, within a minute."""
    async with client(server, **options) as venice:
        with anyio.fail_after(60):
            try:
                return await venice.generate(PRIVATE, to=folder / "clip.mp4")
            except VeniceError as error:
                return error


async def test_a_link_is_asked_for_byte_by_byte_as_it_was_given(tmp_path: Path) -> None:
    async with Host() as server:
        assert isinstance(await fetched(server, tmp_path), Video)
        assert [f"GET {GIVEN}", f"DELETE {GIVEN}"] == server.wanted


async def test_where_a_link_redirects_to_is_asked_for_as_it_was_said_but_for_blanks(tmp_path: Path) -> None:
    async with Host(moved_to="/files/my clip%2f1 é.mp4?sig=%7e+a b") as server:
        assert isinstance(await fetched(server, tmp_path), Video)
        assert "GET /files/my%20clip%2f1%20%C3%A9.mp4?sig=%7e+a%20b" == server.wanted[1]


async def test_an_empty_query_of_a_link_keeps_its_question_mark(tmp_path: Path) -> None:
    async with Host("/link/1?#part", moved_to="/files/1?") as server:
        assert isinstance(await fetched(server, tmp_path), Video)
        assert ["GET /link/1?", "GET /files/1?", "DELETE /link/1?"] == server.wanted[:3]


async def test_a_link_is_not_asked_on_a_connection_that_was_kept_alive_and_may_be_dead(
    tmp_path: Path,
) -> None:
    async with Host() as server, client(server) as venice:
        for n in range(3):
            await venice.generate(PRIVATE, to=tmp_path / f"{n}.mp4")
        connections = [request.connection for request in server.requests if request.origin == "link"]
        assert 6 == len(connections) == len(set(connections))


async def test_a_coding_that_is_no_compression_is_ignored(tmp_path: Path) -> None:
    async with Venice(link=[video_answer(CLIP, headers={"content-encoding": "aws-chunked"})]) as server:
        assert isinstance(await fetched(server, tmp_path), Video)
        assert 1 == server.gets


async def test_a_host_that_refuses_a_range_is_asked_for_the_whole_clip(tmp_path: Path) -> None:
    tagged = {"etag": '"1"', "accept-ranges": "bytes"}
    for status in (400, 412, 501):
        cut = video_answer(CLIP, headers=tagged, cut_at=60_000)
        async with Venice(link=[cut, fault(status=status)]) as server:
            (folder := tmp_path / str(status)).mkdir()
            assert isinstance(await fetched(server, folder), Video)
            ranges = ["range" in request.headers for request in server.asked("GET /link")]
            assert [False, True, False] == ranges


async def test_a_proxy_for_links_is_used_for_links_only(tmp_path: Path) -> None:
    async with Host() as server, Proxy() as proxy:
        assert isinstance(await fetched(server, tmp_path, links=Links(proxy=proxy.url)), Video)
        assert [f"GET {server.other_origin}{GIVEN}", f"DELETE {server.other_origin}{GIVEN}"] == proxy.asked


class Proxy:
    """Passes plain requests on, and counts them."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(EOFError):
            while True:
                await self._pass_on(reader, writer)
        writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, url, _ = head.split(b"\r\n")[0].decode().split(" ")
        self.asked.append(f"{method} {url}")
        port, _, path = url.removeprefix("http://127.0.0.1:").partition("/")
        back, there = await asyncio.open_connection("127.0.0.1", int(port))
        there.write(
            head.replace(url.encode(), b"/" + path.encode(), 1) + await reader.readexactly(length_of(head))
        )
        answer = await back.readuntil(b"\r\n\r\n")
        writer.write(answer + await back.readexactly(length_of(answer)))
        await writer.drain()
        there.close()


def length_of(head: bytes) -> int:
    """Return the content length that a head announces."""
    found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("by", ["proxy", "trust_env"])
async def test_links_take_the_proxy_of_a_borrowed_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    async with Host() as server, Proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        options: dict[str, Any] = {"trust_env": True} if by == "trust_env" else {"proxy": proxy.url}
        async with aiohttp.ClientSession(**options) as session:
            assert isinstance(await fetched(server, tmp_path, session=session), Video)
        assert f"GET {server.other_origin}{GIVEN}" in proxy.asked


async def test_a_proxy_that_refuses_made_no_connection_and_costs_no_get(tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(refuse, "127.0.0.1", 0)
    proxy = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    async with (
        Host("https://93.184.215.14/clip.mp4") as server,
        client(server, links=Links(proxy=proxy)) as venice,
    ):
        job = venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
        with anyio.move_on_after(30):
            await job
        assert 1 == getattr(job.state, "gets", None)
    listener.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return the key and the certificate of a company that nobody else trusts."""
    folder = tmp_path_factory.mktemp("company")
    key, certificate = str(folder / "key.pem"), str(folder / "certificate.pem")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=company",
    ]
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:clips.example.com"]
    subprocess.run(  # noqa: S603 - openssl, and nothing from outside
        [*command, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    return key, certificate


@asynccontextmanager
async def https_host(authority: tuple[str, str]) -> AsyncGenerator[int]:
    """Serve the clip over TLS, and yield the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority[1], authority[0])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(CLIP) + CLIP)
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    yield listener.sockets[0].getsockname()[1]
    listener.close()


@pytest.mark.parametrize("given_by", ["session", "links"])
async def test_links_trust_whom_the_borrowed_session_trusts_or_who_is_named(
    tmp_path: Path, authority: tuple[str, str], given_by: str
) -> None:
    trust = ssl.create_default_context(cafile=authority[1])
    async with https_host(authority) as port, Host(f"https://127.0.0.1:{port}/clip.mp4") as server:
        connector = aiohttp.TCPConnector(ssl=trust)
        async with aiohttp.ClientSession(connector=connector) as session:
            options = {"session": session} if given_by == "session" else {"links": Links(ssl=trust)}
            assert isinstance(await fetched(server, tmp_path, **options), Video)


class Fixed(AbstractResolver):
    """A resolver that knows one answer."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - as aiohttp has it
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self.addresses
        ]

    async def close(self) -> None:
        pass


async def test_of_several_addresses_only_those_that_may_be_reached_are(
    tmp_path: Path, authority: tuple[str, str]
) -> None:
    trust = ssl.create_default_context(cafile=authority[1])
    async with https_host(authority) as port, Host(f"https://clips.example.com:{port}/clip.mp4") as server:
        connector = aiohttp.TCPConnector(
            ssl=trust, resolver=Fixed("fd00:64::5db8:d70e", "10.1.1.1", "127.0.0.1")
        )
        async with aiohttp.ClientSession(connector=connector) as session:
            assert isinstance(await fetched(server, tmp_path, session=session), Video)


@pytest.mark.parametrize(
    ("address", "network"), [("198.18.0.7", "198.18.0.0/15"), ("100.100.3.4", "100.64.0.0/10")]
)
async def test_a_name_that_leads_inside_is_refused_without_a_connection_and_says_what_allows_it(
    tmp_path: Path, address: str, network: str
) -> None:
    connector = aiohttp.TCPConnector(resolver=Fixed(address))
    async with Host("https://clips.example.com/1?sig=abc") as server:
        async with aiohttp.ClientSession(connector=connector) as session:
            error = await fetched(server, tmp_path, session=session)
        assert isinstance(error, DownloadError)
        assert f"private address ({address}" in error.message
        assert f'links=Links(allow=["{network}"])' in error.hint
        assert "sig" not in str(error)


async def test_a_session_for_links_is_used_for_links_only_and_is_not_closed(tmp_path: Path) -> None:
    async with Host() as server, aiohttp.ClientSession(headers={"x-way": "mine"}) as session:
        assert isinstance(await fetched(server, tmp_path, links=Links(session=session)), Video)
        assert not session.closed
        ways = {request.headers.get("x-way") for request in server.requests if request.origin == "link"}
        others = {request.headers.get("x-way") for request in server.requests if request.origin == "api"}
        assert ({"mine"}, {None}) == (ways, others)


async def test_a_session_for_links_asks_once_for_a_get(tmp_path: Path) -> None:
    """aiohttp asks again by itself after a disconnect, and a link has few GETs."""
    async with (
        Venice(polls=0, link=[fault(drop="after")]) as server,
        aiohttp.ClientSession() as session,
    ):
        assert isinstance(await fetched(server, tmp_path, links=Links(session=session)), Video)
        assert 2 == server.gets


async def test_a_session_for_links_with_credentials_is_refused() -> None:
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer s3cret"}) as session:
        venice = VeniceClient("k" * 20, links=Links(session=session))
        with pytest.raises(UsageError, match="credentials of its own"):
            await venice.__aenter__()


# What can be known before anything is paid


async def looked(
    caplog: pytest.LogCaptureFixture, *addresses: str, **links: Any
) -> tuple[LinkRoute, list[str]]:
    """Return a route after its look at where the API's own name leads, and what it warned of."""
    connector = aiohttp.TCPConnector(resolver=Fixed(*addresses))
    async with aiohttp.ClientSession(connector=connector) as session:
        found = LinkRoute(Links(**links), api="https://api.venice.ai/api/v1", lent=session)
        with caplog.at_level(logging.WARNING):
            await found.look_ahead()
            await found.look_ahead()
    return found, [record.getMessage() for record in caplog.records]


async def test_where_every_name_gets_a_made_up_address_links_may_lead_to_such(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found, warnings = await looked(caplog, "198.18.0.3")
    assert found.rules.admits("198.18.0.7")
    assert not found.rules.admits("10.0.0.8")
    assert [] == warnings


async def test_where_the_apis_name_leads_inside_it_is_said_before_anything_is_paid(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found, warnings = await looked(caplog, "100.100.3.4")
    assert not found.rules.admits("100.100.3.4")
    assert 1 == len(warnings)
    assert 'links=Links(allow=["100.64.0.0/10"])' in warnings[0]


async def test_where_links_can_be_reached_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert [] == (await looked(caplog, "93.184.215.14"))[1]
    assert [] == (await looked(caplog, "100.100.3.4", allow=["100.64.0.0/10"]))[1]
    assert [] == (await looked(caplog, "10.1.1.1", proxy="http://proxy.example:3128"))[1]


async def test_a_connector_that_links_cannot_go_through_is_named_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector("nowhere")) as session:
        LinkRoute(Links(), api="https://api.venice.ai/api/v1", lent=session)
    assert "UnixConnector" in caplog.text
    assert "Links(session=...)" in caplog.text
