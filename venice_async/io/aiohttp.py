"""The one module that knows aiohttp: sends requests, and turns its exceptions into ours.

aiohttp's own exceptions print whole URLs and hold frames with headers in them. So they are never raised on,
nor chained: they are turned into errors of ours where they are caught, and those are raised after the handler
is left.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
import anyio
from yarl import URL

from ..errors import (
    ConnectError,
    DisconnectedError,
    DownloadError,
    ProtocolError,
    ReadTimeoutError,
    UsageError,
    VeniceError,
)
from ..options import Links, Timeouts
from ..sansio.http.secrets import Secret
from ..sansio.http.wire import HttpRequest
from ..sansio.retries import Call
from ..version import __version__
from .links import LinkRoute, PrivateAddressError

_CHUNK: Final = 256 * 1024  # bytes: what one read may return, and half of what aiohttp buffers
_LONGEST_HEADER: Final = 64 * 1024  # bytes: aiohttp's 8 KiB would lose a paid answer to an edge's cookies
_REDIRECTS: Final = 3  # of a link
_REDIRECT_CODES: Final = frozenset({301, 302, 303, 307, 308})
_SLOWEST_UPLOAD: Final = 16 * 1024  # bytes a second: a paid request may take that long, and no longer
_LINKS: Final = (Call.LINK, Call.REVOKE)


class AiohttpResponse:
    """One answer; see `transport.Response`."""

    def __init__(self, response: aiohttp.ClientResponse, patience: float) -> None:
        """Wrap `response`, whose head has been read; nothing more is waited for beyond `patience` seconds."""
        self._response = response
        self._patience = patience
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self, limit: int) -> bytes:
        """Return the whole body, decompressed; one longer than `limit` bytes is a `ProtocolError`."""
        body = await self._collected(limit)
        if isinstance(body, VeniceError):
            raise body
        return body

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        while True:
            chunk = await self._next_in_time()
            if isinstance(chunk, VeniceError):
                raise chunk
            if not chunk:
                return
            yield chunk

    async def _collected(self, limit: int) -> bytes | VeniceError:
        """Return the whole body or what went wrong. Raised here, it would show what a server echoes."""
        body = bytearray()
        with anyio.move_on_after(self._patience):
            while len(body) <= limit:
                chunk = await self._next()
                if isinstance(chunk, VeniceError):
                    return chunk
                if not chunk:
                    break
                body += chunk
            encoding = self.headers.get("content-encoding", "")
            whole = _decompressed(bytes(body), encoding, limit) if len(body) <= limit else None
            if whole is None or len(whole) > limit:
                return ProtocolError(f"The answer is longer than {limit} bytes, or damaged")
            return whole
        return ReadTimeoutError("The server's answer comes too slowly")

    async def _next_in_time(self) -> bytes | VeniceError:
        """Return what comes next; aiohttp's own timer does not end the wait after a body that is not HTTP."""
        with anyio.move_on_after(self._patience):
            return await self._next()
        return ReadTimeoutError("The server sent nothing in time")

    async def _next(self) -> bytes | VeniceError:
        """Return what comes next, or what went wrong."""
        try:
            return await self._response.content.read(_CHUNK)
        except Exception as error:  # noqa: BLE001 - aiohttp's, whatever it is: its frames hold the key or a link
            return _translated(error)


class AiohttpTransport:
    """Sends requests with aiohttp; owns its sessions, or borrows one for the API. See `Transport`."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key: Secret,
        timeouts: Timeouts,
        session: aiohttp.ClientSession | None = None,
        links: Links | None = None,
    ) -> None:
        """Talk to `base_url` with `api_key`; a borrowed `session` is used and never closed.

        Raises:
            UsageError: the session authenticates in its own way.
        """
        if getattr(session, "auth", None) is not None:
            msg = "The session has an auth= of its own, which excludes the key"
            raise UsageError(msg, hint="Pass a session without auth")
        self._base_url = base_url.rstrip("/")
        self._origin = _origin(self._base_url)
        self._route = LinkRoute(links or Links(), api=base_url, lent=session)
        self._api_key = api_key
        self._timeouts = timeouts
        self._api = session
        self._paid = session
        self._borrowed = session is not None
        self._link: aiohttp.ClientSession | None = None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the sessions; no connection is made yet."""
        if not self._borrowed:
            self._api = await self._session(aiohttp.TCPConnector(limit=0))
            # A connection of its own for each paid request: one that was kept alive may be dead, and then
            # nobody could tell whether the request was accepted.
            self._paid = await self._session(aiohttp.TCPConnector(limit=0, force_close=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close what is ours, and let the transports of it finish."""
        await self._open.aclose()

    @asynccontextmanager
    async def send(self, request: HttpRequest) -> AsyncGenerator[AiohttpResponse]:
        """Send `request` once; see `transport.Transport.send`."""
        opened = await (self._follow(request) if request.call in _LINKS else self._call(request))
        if isinstance(opened, Exception):
            raise opened
        try:
            yield AiohttpResponse(opened, self._timeouts.read)
        finally:
            opened.close()

    async def _call(self, request: HttpRequest) -> aiohttp.ClientResponse | Exception:
        paid = request.call is Call.QUEUE
        session = self._paid if paid else self._api
        if session is None or session.closed:
            return ConnectError("The HTTP session is closed")
        url = self._base_url + request.url
        if paid:
            await self._route.look_ahead()
        opening = session.request(
            request.method,
            url,
            data=request.body,
            headers=self._authorized(request, url),
            allow_redirects=False,
            auto_decompress=False,
            read_bufsize=_CHUNK,
            max_field_size=_LONGEST_HEADER,
            raise_for_status=False,  # whatever a borrowed session does: a status is an answer
            timeout=self._timeout(request),
            # Part of the key of aiohttp's pool: with it, no pooled connection of a borrowed session fits.
            server_hostname=urlsplit(url).hostname if paid and self._borrowed else None,
        )
        return await self._head(request, opening)

    async def _follow(self, request: HttpRequest) -> aiohttp.ClientResponse | Exception:
        """Send a request to a link, following its redirects by hand."""
        hop = Secret(request.url)
        for redirects in range(_REDIRECTS + 1):
            opened = await self._hop(request, hop)
            if redirects and isinstance(opened, ConnectError):  # the link itself was used
                return DisconnectedError(f"The link redirects to where nothing answers: {opened.message}")
            if isinstance(opened, Exception) or opened.status not in _REDIRECT_CODES:
                return opened
            location = opened.headers.get("location")
            opened.close()
            try:
                hop = Secret(self._route.rules.next_hop(hop.reveal(), location))
            except DownloadError as error:
                return error.with_traceback(None)
            finally:
                del location
        return DownloadError(f"The link redirects more than {_REDIRECTS} times")

    async def _hop(self, request: HttpRequest, hop: Secret) -> aiohttp.ClientResponse | Exception:
        if self._link is None:
            self._link = self._route.session or await self._session(self._route.connector())
        try:
            opening = self._link.request(
                request.method,
                URL(self._route.rules.check(hop.reveal()), encoded=True),  # as it was given: it may be signed
                headers=request.headers,
                middlewares=(_once,),
                raise_for_status=False,
                allow_redirects=False,
                **self._route.options(hop.reveal()),
                auto_decompress=False,
                read_bufsize=_CHUNK,
                max_field_size=_LONGEST_HEADER,
                timeout=self._timeout(request),
            )
        except DownloadError as error:
            return error.with_traceback(None)
        return await self._head(request, opening)

    async def _head(
        self, request: HttpRequest, opening: Awaitable[aiohttp.ClientResponse]
    ) -> aiohttp.ClientResponse | VeniceError:
        """Wait for the head of an answer, as long as there is time, even if it comes byte by byte."""
        try:
            with anyio.move_on_after(self._patience(request)):
                return await opening
        except Exception as error:  # noqa: BLE001 - aiohttp's, whatever it is: its frames hold the key or a link
            return _translated(error)
        return ReadTimeoutError("The server's answer did not come in time")

    async def _session(self, connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_once,),
            requote_redirect_url=False,
            headers={"user-agent": f"venice-async/{__version__}"},
        )
        return await self._open.enter_async_context(session)

    def _authorized(self, request: HttpRequest, url: str) -> dict[str, str]:
        """Return the headers with the key: the one place where it is sent, and only to the API's origin."""
        if _origin(url) != self._origin:
            msg = "The key is sent to the API's origin only"
            raise ProtocolError(msg)
        headers = {**request.headers, "authorization": f"Bearer {self._api_key.reveal()}"}
        return headers | ({"connection": "close"} if request.call is Call.QUEUE else {})

    def _timeout(self, request: HttpRequest) -> aiohttp.ClientTimeout:
        span = self._timeouts
        total = self._patience(request) if request.call is Call.QUEUE else None
        return aiohttp.ClientTimeout(
            total=total, connect=None, sock_connect=span.connect, sock_read=span.read
        )

    def _patience(self, request: HttpRequest) -> float:
        """Return the seconds from the connection to the head of the answer."""
        upload = len(request.body or b"") / _SLOWEST_UPLOAD
        return self._timeouts.connect + self._timeouts.read + upload


class _CutError(Exception):
    """A disconnect, under a name that aiohttp does not answer by sending the request again."""


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from silently repeating an idempotent request after a disconnect."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        pass
    raise _CutError


def _translated(error: Exception) -> VeniceError:
    """Return our error for one of aiohttp's. It names the kind of failure and nothing of the request."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return ConnectError("No connection was made in time")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return ConnectError("No connection was made: the server's TLS certificate or handshake failed")
        case aiohttp.ClientHttpProxyError():
            return ConnectError(f"No connection was made: the proxy answered {error.status}")
        case aiohttp.ClientConnectorDNSError(os_error=PrivateAddressError() as found):
            return found.explained()
        case aiohttp.ClientConnectorDNSError():
            return ConnectError("No connection was made: the server's name was not found")
        case aiohttp.ClientConnectorError():
            reason = error.os_error.strerror or type(error.os_error).__name__
            return ConnectError(f"No connection was made: {reason}")
        case aiohttp.InvalidURL():
            return ConnectError("No connection was made: the URL is not valid")
        case asyncio.TimeoutError():
            return ReadTimeoutError("The server sent nothing in time")
        case aiohttp.ClientResponseError():
            return DisconnectedError("The server's answer is not HTTP")
        case _:
            return DisconnectedError("The connection was cut before the answer was whole")


def _decompressed(body: bytes, encoding: str, limit: int) -> bytes | None:
    if encoding.strip().lower() not in {"gzip", "x-gzip", "deflate"}:
        return body
    decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        whole = decoder.decompress(body, limit + 1)
    except zlib.error:
        return None
    return whole if decoder.eof else None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
