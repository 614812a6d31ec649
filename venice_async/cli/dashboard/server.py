"""The server of the live page: what it hands out, and to whom.

It shows what people may see and no more: rows without links and keys, and the clips that the journal names.
A request must name a host that we are known by (against DNS rebinding), have the token where one is needed,
and come from our own page to change anything.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from ...errors import UsageError, VeniceError
from ...requests import Consent
from .feed import Feed
from .page import Look, asset, live_page, look

HEARTBEAT: Final = 15.0  # seconds without news after which a comment keeps the stream alive
_LEAVING: Final = 0.5  # seconds for open responses at the end
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")
_KINDS: Final = {".mp4": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime"}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach `host`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@asynccontextmanager
async def serving(
    feed: Feed, *, host: str, port: int, token: str | None, names: Collection[str] = ()
) -> AsyncGenerator[int]:
    """Serve the page within the block, and yield the port; `names` are more hosts that it is known by.

    Raises:
        UsageError: the port cannot be used.
    """
    dashboard = _Dashboard(feed, host=host, token=token, names=names)
    runner = web.AppRunner(dashboard.app, access_log=None, shutdown_timeout=_LEAVING)
    await runner.setup()
    looking = asyncio.create_task(feed.keep_looking())
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            msg = f"Port {port} of {host} cannot be used: {error.strerror or error}"
            raise UsageError(msg, hint="Choose another one with --port, or 0 for any") from error
        yield int(runner.addresses[0][1])
    finally:
        looking.cancel()
        dashboard.end()
        with suppress(asyncio.CancelledError):
            await looking
        await runner.cleanup()


class _Dashboard:
    def __init__(self, feed: Feed, *, host: str, token: str | None, names: Collection[str]) -> None:
        self._feed = feed
        self._token = token
        self._names = {*names, host, *(_LOCAL if is_loopback(host) else (*_LOCAL, socket.gethostname()))}
        self._any_address = not is_loopback(host)
        self._csrf = secrets.token_urlsafe(24)
        self._session = secrets.token_urlsafe(24)
        self._one_at_a_time = anyio.CapacityLimiter(1)
        self._ended = False
        self.app = web.Application(middlewares=[self.guard], client_max_size=1 << 16)
        self.app.add_routes(
            [
                web.get("/", self.page),
                web.get("/page.css", self.asset),
                web.get("/page.js", self.asset),
                web.get("/events", self.events),
                web.get("/clips/{job}", self.clip),
                web.get("/posters/{job}", self.poster),
                web.post("/answer", self.answer),
            ]
        )

    def end(self) -> None:
        """End the streams."""
        self._ended = True
        self._feed.tell()

    @web.middleware
    async def guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Check the host and the token of a request, and add the headers of security."""
        try:
            name = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
            known = name in self._names or (self._any_address and bool(ip_address(name)))
        except ValueError:
            known = False
        presented = request.headers.get("Authorization", "").removeprefix("Bearer ")
        port = request.headers.get("Host", "").rpartition(":")[2] or 80
        cookie = f"venice_async_{port}"  # cookies are shared by all ports of a host
        answer: web.StreamResponse
        try:
            if not known:
                answer = web.Response(status=421, text="This server is not known by that name.\n")
            elif self._token is None:
                answer = await handler(request)
            elif request.path == "/" and _same(request.query.get("token", ""), self._token):
                answer = web.Response(status=303, headers={"Location": "/"})  # the token leaves the address
                answer.set_cookie(cookie, self._session, httponly=True, samesite="Lax", path="/")
            elif _same(presented, self._token) or _same(request.cookies.get(cookie, ""), self._session):
                answer = await handler(request)
            else:
                text = "Open the address that 'venice-async dashboard' printed: it holds the token.\n"
                answer = web.Response(status=401, text=text, headers={"WWW-Authenticate": "Bearer"})
        except web.HTTPException as error:
            answer = web.Response(status=error.status, text=error.text)
        if not answer.prepared:
            answer.headers.update(_HEADERS)
            answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    async def page(self, _: web.Request) -> web.Response:
        """Serve the page, which requests everything else."""
        return web.Response(text=live_page("Jobs", self._csrf), content_type="text/html")

    async def asset(self, request: web.Request) -> web.Response:
        """Serve the page's style or script."""
        kind = "text/css" if request.path.endswith(".css") else "text/javascript"
        return web.Response(text=asset(request.path[1:]), content_type=kind)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Stream the changes after the last event that the browser has seen."""
        answer = web.StreamResponse(
            headers={**_HEADERS, "Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        answer.headers["X-Accel-Buffering"] = "no"
        await answer.prepare(request)
        seen, trouble = request.headers.get("Last-Event-ID", ""), None
        self._feed.listen(1)
        try:
            await answer.write(b"retry: 2000\n\n")
            while not self._ended:
                if self._feed.trouble != trouble:
                    trouble = self._feed.trouble
                    event = "fine" if trouble is None else "trouble"
                    await answer.write(f"event: {event}\ndata: {json.dumps(trouble)}\n\n".encode())
                news = self._feed.news(seen)
                if news is not None:
                    seen = news.id
                    await answer.write(f"id: {news.id}\nevent: news\ndata: {news.text}\n\n".encode())
                    continue
                await self._feed.changed(HEARTBEAT)
                await answer.write(b": \n\n")
        except ConnectionError:
            pass  # the client has left
        finally:
            self._feed.listen(-1)
        return answer

    async def clip(self, request: web.Request) -> web.StreamResponse:
        """Serve the clip that the journal names, or a range of it."""
        path = self._feed.file(request.match_info["job"])
        if path is None or not await anyio.to_thread.run_sync(path.is_file):
            raise web.HTTPNotFound(text="There is no such clip.\n")
        kind = _KINDS.get(path.suffix.lower(), "application/octet-stream")
        return _Clip(path, headers={"Content-Type": kind, "Cache-Control": "private, no-cache"})

    async def poster(self, request: web.Request) -> web.Response:
        """Serve a picture of a clip, made on its first request."""
        job = request.match_info["job"]
        path = self._feed.file(job)
        seen: Look | None = None
        if path is not None:
            seen = await anyio.to_thread.run_sync(_look, job, path, limiter=self._one_at_a_time)
        if seen is None:
            raise web.HTTPNotFound(text="There is no picture of it.\n")
        headers = {"Cache-Control": "private, max-age=3600"}
        return web.Response(body=seen.jpeg, content_type="image/jpeg", headers=headers)

    async def answer(self, request: web.Request) -> web.Response:
        """Accept an answer to a question of consent, from our own page only."""
        origin = request.headers.get("Origin")
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("Host")
        if (
            foreign
            or request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin"
            or not _same(request.headers.get("X-CSRF-Token", ""), self._csrf)
        ):
            raise web.HTTPForbidden(text="Answers are taken from the dashboard's own page only.\n")
        try:
            said = await request.json()
            consent = None if said["consent"] is None else Consent(**said["consent"])
            key = str(said["key"])
        except (ValueError, TypeError, KeyError, AttributeError):
            raise web.HTTPBadRequest(text="An answer names a key and a consent.\n") from None
        except VeniceError as error:
            raise web.HTTPBadRequest(text=f"{error.message}\n") from None
        if consent is not None and not consent.complete:
            raise web.HTTPBadRequest(text="A consent holds all three statements, each true.\n")
        if self._feed.fleet is None or not await self._feed.fleet.answer(key, consent):
            raise web.HTTPConflict(text="Nobody waits for that answer any more.\n")
        return web.Response(status=204)


class _Clip(web.FileResponse):
    """A file, or a range of it, but never a compressed file beside it."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        plain = request.headers.copy()
        plain.popall("Accept-Encoding", None)
        return await super().prepare(request.clone(headers=plain))


@lru_cache(maxsize=500)  # some 15 KB each
def _look(job: str, clip: Path) -> Look | None:
    return look(clip)


def _same(said: str, known: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(sha256(said.encode()).digest(), sha256(known.encode()).digest())
