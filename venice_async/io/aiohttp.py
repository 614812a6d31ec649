"""Sends requests with aiohttp, and translates its exceptions.

Secrets. aiohttp's exceptions print whole URLs, and frames hold headers and links. So what leaves this module
is an error of our own from `_translated`, without traceback and cause; `_bare` raises it.

Time. aiohttp's timers are off once a connection is made: after the loop was blocked for longer than they run,
they cancel a request whose answer is already in the socket. `running_time`, which does not count such a
pause, limits every wait.

Money. `_Body` records whether any byte of a request was asked for: a failure before that is a `ConnectError`,
whatever it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from functools import wraps
from itertools import count
from typing import Any, Final, ParamSpec, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import anyio
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
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
from ..options import Links, Timeouts, check_kind
from ..sansio.clip.mp4 import START
from ..sansio.http.replies import decoded
from ..sansio.http.secrets import Secret
from ..sansio.http.wire import HttpRequest
from ..sansio.retries import LINKS, Call
from ..version import __version__
from .clock import running_time
from .disk import descriptor_error, pause_for_descriptor
from .links import LinkRoute, PrivateAddressError, connector
from .transport import Content

_CHUNK: Final = 256 * 1024  # bytes: what one read may return, and half of what aiohttp buffers
_PIECE: Final = 64 * 1024  # bytes of a body that are written at once
_REDIRECTS: Final = 3  # of a link
_REDIRECT_CODES: Final = frozenset({301, 302, 303, 307, 308})
_SLOWEST_UPLOAD: Final = 16 * 1024  # bytes a second: a paid request may take that long, and no longer


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _bare(function: Callable[_P, Awaitable[_T]]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Wrap a coroutine function, so that it raises our own errors only, without frames that hold secrets."""

    @wraps(function)
    async def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - aiohttp's, or of a borrowed session's middleware
            failure = _translated(error)
        try:
            raise failure
        finally:
            del failure  # which holds this frame

    return wrapper


class _Body(aiohttp.Payload):
    """The body of a request, sent in pieces.

    aiohttp warns of large `bytes`. And if no byte of a body was asked for, none was sent: that tells "nothing
    was charged" from "nobody knows", on a borrowed session too.

    Attributes:
        begun: whether anyone has asked for a byte of it.
    """

    def __init__(self, content: bytes, *, once: bool) -> None:
        """Send `content`; if `once`, a second time is refused, whoever asks."""
        super().__init__(content, content_type="application/json")
        self.begun: bool = False
        self._content = content
        self._once = once
        self._written = False

    @property
    def size(self) -> int:
        """The length in bytes."""
        return len(self._content)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the text, for a middleware, which may send it by itself."""
        self.begun = True
        return self._content.decode(encoding, errors)

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:  # noqa: ARG002 - bytes already
        """Return the bytes; see `decode`."""
        self.begun = True
        return self._content

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write all of it."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write it, or so much of it."""
        if self._written and self._once:
            msg = "a paid request is sent once"
            raise RuntimeError(msg)
        self.begun = self._written = True
        protocol = getattr(writer, "protocol", None)
        if self._once and isinstance(protocol, ResponseHandler):
            protocol.force_close()  # a borrowed session would keep the connection for the next paid request
        content = self._content[:content_length]
        for start in range(0, len(content), _PIECE):
            await writer.write(content[start : start + _PIECE])


class AiohttpResponse:
    """One answer; see `transport.Response`."""

    def __init__(self, response: aiohttp.ClientResponse, patience: float, body: _Body | None) -> None:
        """Wrap `response`, whose head has been read; each read may take `patience` seconds."""
        self._response = response
        self._patience = patience
        self._peeked = b""
        self._content: Content | None = None
        self.status: int = response.status
        known = response.headers  # of equal names the first counts
        self.headers: Mapping[str, str] = {name.lower(): known[name] for name in known}
        self.request_sent: bool = body is None or body.begun

    async def peek(self) -> bytes:
        """Return the first bytes of the body without consuming them."""
        while len(self._peeked) < START and (chunk := await self._next()):
            self._peeked += chunk
        return self._peeked

    async def read(self, limit: int) -> Content:
        """Return as much of the body as can be read; see `transport.Response`."""
        if self._content is not None:
            return Content(self._content.data[:limit], self._content.failure)
        body = bytearray(self._peeked)
        failure: VeniceError | None = None
        try:
            with self._limit():
                while len(body) <= limit and (chunk := await self._response.content.read(_CHUNK)):
                    body += chunk
        except TimeoutError:
            failure = ReadTimeoutError("The server's answer comes too slowly")
        except Exception as error:  # noqa: BLE001 - aiohttp's
            failure = _translated(error)
        encoding = ",".join(self._response.headers.getall("content-encoding", ()))
        data, whole = decoded(bytes(body[: limit + 1]), encoding, limit + 1)
        if len(body) > limit or len(data) > limit:
            failure = ProtocolError(f"The answer is longer than {limit} bytes")
        elif not failure and not whole:
            failure = ProtocolError("The answer is compressed, and damaged")
        self._content = Content(data[:limit], failure)
        return self._content

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the body as it arrives."""
        if self._peeked:
            yield self._peeked
        while chunk := await self._next():
            yield chunk

    def close(self) -> None:
        """Discard what was not read."""
        self._response.close()

    @_bare
    async def _next(self) -> bytes:
        with self._limit():
            return await self._response.content.read(_CHUNK)

    def _limit(self) -> AbstractContextManager[None]:
        """Limit how long a read may take, unless the whole body has arrived."""
        return nullcontext() if self._response.content.is_eof() else running_time(self._patience)


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
        send_key: bool = True,
        within: AiohttpTransport | None = None,
    ) -> None:
        """Talk to `base_url` with `api_key`; a borrowed `session` is used and never closed.

        Without `send_key` the requests carry an authorization of their own, or none. The sessions are those
        of `within`, if it is given: an open transport to the same place, whose key is never sent for ours.

        Raises:
            UsageError: the session is of another type, is closed, or has an `auth` of its own.
        """
        check_kind("session", session, aiohttp.ClientSession, what="an aiohttp.ClientSession", or_none=True)
        if session is not None:
            _check_open(session)
            if session.auth is not None:
                msg = "The session has an auth= of its own, which excludes the key"
                raise UsageError(msg, hint="Pass a session without auth")
        self._base_url = base_url.rstrip("/")
        self._origin = _origin(self._base_url)
        self._route = LinkRoute(links or Links(), api=base_url, lent=session)
        self._api_key = api_key
        self._send_key = send_key
        self._timeouts = timeouts
        # aiohttp's timers are of the connection only; the rest is ours.
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=None, sock_connect=timeouts.connect, sock_read=None
        )
        self._api = session
        self._paid = session
        self._borrowed = session is not None
        self._link: aiohttp.ClientSession | None = None
        self._within = within
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open the sessions; no connection is made yet."""
        if self._within is not None:
            self._api, self._paid = self._within._api, self._within._paid  # noqa: SLF001 - another of this class
        elif not self._borrowed:
            self._api = await self._session(connector())
            # A new connection for each paid request: one that was kept alive may be dead, and then it would
            # be unknown whether the request was accepted.
            self._paid = await self._session(connector(force_close=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close our own sessions, and wait until their transports are closed."""
        await self._open.aclose()

    @_bare
    async def send(self, request: HttpRequest) -> AiohttpResponse:
        """Send `request` once; see `transport.Transport.send`."""
        if request.call in LINKS:
            return AiohttpResponse(await self._follow(request), self._timeouts.read, None)
        paid = request.call is Call.QUEUE
        body = None if request.body is None else _Body(request.body, once=paid)
        session = _check_open(self._paid if paid else self._api)
        try:
            url = self._base_url + request.url
            if paid:
                await self._route.look_ahead()
            headers = self._authorized(request, url)
            options: dict[str, Any] = {}
            if self._borrowed and session.trust_env and "authorization" in headers:
                # aiohttp refuses the header if a .netrc has credentials for the host.
                bearer = _with_authorization(headers.pop("authorization"), self._origin)
                options["middlewares"] = (*getattr(session, "_middlewares", ()), bearer)
            opened = await self._head(
                session,
                request,
                url,
                data=body,
                headers=headers,
                **options,
                # Part of the key of aiohttp's pool: with it, no pooled connection of a borrowed session fits.
                # aiohttp has no other way to ask for a new one.
                server_hostname=urlsplit(url).hostname if paid and self._borrowed else None,
            )
        except Exception as error:
            failure = _translated(error)
            if body is None or body.begun or isinstance(failure, ConnectError):
                raise
            msg = f"The request was not sent: {failure.message}"
            raise ConnectError(msg) from None
        return AiohttpResponse(opened, self._timeouts.read, body)

    async def _follow(self, request: HttpRequest) -> aiohttp.ClientResponse:
        """Send a request to a link, following its redirects by hand."""
        owner = self._within or self
        if owner._link is None:  # noqa: SLF001 - another of this class
            owner._link = self._route.session or await owner._session(self._route.connector())  # noqa: SLF001
        _check_open(owner._link)  # noqa: SLF001
        url, location = request.url, None
        for redirects in range(_REDIRECTS + 1):
            try:
                if redirects:
                    url = self._route.rules.next_hop(url, location)
                opened = await self._head(
                    owner._link,  # noqa: SLF001
                    request,
                    _as_given(self._route.rules.check(url)),
                    headers=request.headers,
                    middlewares=(_once,),
                    **self._route.options(url),
                )
            except Exception as error:
                failure = _translated(error)
                if redirects and isinstance(failure, DownloadError):
                    failure.unsent = False  # the link itself was used
                    raise failure from None
                if not redirects or not isinstance(failure, ConnectError):
                    raise
                msg = f"The link redirects to where nothing answers: {failure.message}"
                raise DisconnectedError(msg) from None  # the link itself was used
            if opened.status not in _REDIRECT_CODES:
                return opened
            opened.close()
            location = opened.headers.get("location")
        msg = f"The link redirects more than {_REDIRECTS} times"
        raise DownloadError(msg)

    async def _head(
        self, session: aiohttp.ClientSession, request: HttpRequest, url: str | URL, **options: Any
    ) -> aiohttp.ClientResponse:
        """Send a request and read the head of its answer, within one time limit even if it trickles in.

        Where no file descriptor is left for the connection, wait for one: nothing was sent.
        """
        seconds = self._timeouts.connect + self._timeouts.read + len(request.body or b"") / _SLOWEST_UPLOAD
        attempts = count()
        while True:
            try:
                with running_time(seconds):
                    return await session.request(
                        request.method,
                        url,
                        allow_redirects=False,
                        auto_decompress=False,
                        raise_for_status=False,  # whatever a borrowed session does: a status is an answer
                        read_bufsize=_CHUNK,
                        timeout=self._timeout,
                        # An edge's cookies must not lose a paid answer; the defaults are 8 KiB and 128.
                        max_line_size=64 * 1024,
                        max_field_size=64 * 1024,
                        max_headers=1024,
                        **options,
                    )
            except aiohttp.ConnectionTimeoutError:
                raise
            except TimeoutError:
                msg = "The server's answer did not come in time"
                raise ReadTimeoutError(msg) from None
            except Exception as error:
                why: Exception | None = None
                if isinstance(error, aiohttp.ClientConnectorDNSError):
                    why = descriptor_error()  # the resolver does not say why it failed
                pause = pause_for_descriptor(why or error, next(attempts))
                if pause is None:
                    raise
            await anyio.sleep(pause)

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
        """Return the headers of an API call.

        Only here is the key added, and only for the API's origin; and only here is an uncompressed answer
        asked for, whatever decoders are installed.
        """
        if _origin(url) != self._origin:
            msg = "The key is sent to the API's origin only"
            raise ProtocolError(msg)
        headers = {**request.headers, "accept-encoding": "identity"}
        if self._send_key:
            headers["authorization"] = f"Bearer {self._api_key.reveal()}"
        return headers | ({"connection": "close"} if request.call is Call.QUEUE else {})


def _check_open(session: aiohttp.ClientSession | None) -> aiohttp.ClientSession:
    """Return `session`, which can be used.

    Raises:
        UsageError: it is closed, and a retry would not help.
    """
    if session is None or session.closed:
        msg = "The HTTP session is closed"
        raise UsageError(msg, hint="Keep a session of yours open until the client is left")
    return session


def _with_authorization(
    value: str, origin: tuple[str, str | None, int | None]
) -> aiohttp.ClientMiddlewareType:
    """Return a middleware that adds the header to each request to `origin`."""

    async def add(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if _origin(str(request.url)) == origin:
            request.headers["authorization"] = value
        return await handler(request)

    return add


class _CutError(Exception):
    """A disconnect, under a name that aiohttp does not answer by sending the request again."""


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Stop aiohttp from silently repeating an idempotent request after a disconnect."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        pass
    raise _CutError


def _translated(error: Exception) -> VeniceError:
    """Return our error for one of aiohttp's, without traceback, cause and context, which hold secrets.

    It names the kind of failure and nothing of the request.
    """
    failure: VeniceError
    match error:
        case VeniceError():
            failure = error
        case aiohttp.ConnectionTimeoutError():
            failure = ConnectError("No connection was made in time")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            failure = ConnectError("No connection was made: the server's TLS certificate or handshake failed")
        case aiohttp.ClientHttpProxyError():
            failure = ConnectError(f"No connection was made: the proxy answered {error.status}")
        case aiohttp.ClientConnectorDNSError(os_error=PrivateAddressError() as found):
            failure = found.explained()
        case aiohttp.ClientConnectorDNSError():
            failure = ConnectError("No connection was made: the server's name was not found")
        case aiohttp.ClientConnectorError():
            reason = error.os_error.strerror or type(error.os_error).__name__
            failure = ConnectError(f"No connection was made: {reason}")
        case aiohttp.InvalidURL():
            failure = ConnectError("No connection was made: the URL is not valid")
        case asyncio.TimeoutError():
            failure = ReadTimeoutError("The server sent nothing in time")
        case aiohttp.ClientResponseError():
            failure = DisconnectedError("The server's answer is not HTTP")
        case aiohttp.ClientError() | _CutError() | OSError() | EOFError():
            failure = DisconnectedError("The connection was cut before the answer was whole")
        case _:  # from a middleware, a trace or the connector of a borrowed session
            failure = DisconnectedError(f"The HTTP session failed: {type(error).__name__}")
    failure.__cause__ = failure.__context__ = failure.__traceback__ = None
    return failure


def _as_given(url: str) -> URL:
    """Return the URL of a link, which may be signed: all behind the host is sent byte for byte.

    yarl gets it as a path, as it would drop the question mark of an empty query.
    """
    parts = urlsplit(url)
    _, _, behind = url.partition("#")[0].partition("://")
    place = behind[len(parts.netloc) :]
    path = place if place.startswith("/") else f"/{place}"
    return URL.build(scheme=parts.scheme, authority=parts.netloc, path=path, encoded=True)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
