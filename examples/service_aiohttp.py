"""A web service with aiohttp: order a clip, follow its events, play it. Run as many of it as you like.

python examples/service_aiohttp.py clips 8080

    curl localhost:8080/clips -d '{"model": "MODEL", "prompt": "A gondola at dawn",
        "duration": "5s", "aspect_ratio": "16:9"}'
    curl -N localhost:8080/clips/ID/events
    curl -o clip.mp4 localhost:8080/clips/ID/video

The id of a clip is its key in the journal, which all replicas share: whichever is asked knows every clip, and
goes on with those of one that was killed. An order with an `Idempotency-Key` may be sent again, and is paid
for once. The journal lies beside the clips, or where `VENICE_JOURNAL` says, such as in Postgres. With
`WEBHOOK_URL` and `WEBHOOK_SECRET` the end of each clip is told there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from venice_async import (
    BadRequestError,
    BudgetExceededError,
    ConsentError,
    ContentPolicyError,
    Failed,
    InvalidRequestError,
    JournalEntry,
    JournalError,
    State,
    Stopped,
    Succeeded,
    UsageError,
    VeniceClient,
    VeniceError,
    VideoJob,
    VideoRequest,
    Webhook,
)

ID = r"[\w-]{8,80}"
EVENTS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
ENDS = {"succeeded", "failed"}
MAX_USD = 2.00  # for one clip
GRACE = 2.0  # seconds that paid jobs get when the service stops
EVERY = 15.0  # seconds between two looks for the jobs of a replica that died
RECONNECT = 1000  # milliseconds after which a browser whose stream was cut comes back
CALLER_ERRORS = (InvalidRequestError, BadRequestError, BudgetExceededError, ConsentError, ContentPolicyError)


def as_request(*, model: str, prompt: str, duration: str, aspect_ratio: str | None = None) -> VideoRequest:
    """Return the request of a body; another field is a TypeError."""
    return VideoRequest(model=model, prompt=prompt, duration=duration, aspect_ratio=aspect_ratio)


class Clips:
    """The service. It names a clip by its key in the journal, never by its ticket, which may hold a link."""

    def __init__(self, folder: Path) -> None:
        """Keep the clips in `folder`, and the journal if nothing else is said."""
        self.folder = folder.absolute()

    async def run(self, _: web.Application) -> AsyncGenerator[None]:
        """Open the client, and go on with what nobody works on."""
        journal = os.environ.get("VENICE_JOURNAL") or self.folder / "jobs.db"
        url, secret = os.environ.get("WEBHOOK_URL"), os.environ.get("WEBHOOK_SECRET", "")
        hook = Webhook(url, secret) if url else None
        async with VeniceClient(journal=journal, on_done=hook) as self.venice:
            adopting = asyncio.create_task(self.adopt())
            yield
            adopting.cancel()

    async def adopt(self) -> None:
        """Go on with the jobs of earlier runs, and of replicas that died."""
        while True:
            try:
                for entry in await self.venice.pending():
                    self.follow(entry)
            except JournalError as error:
                logging.getLogger(__name__).warning("%s", error)
            await asyncio.sleep(EVERY)

    def follow(self, entry: JournalEntry) -> VideoJob:
        """Return the job of an order, whichever replica works on it. It never pays: its price may be 0."""
        assert entry.request is not None  # noqa: S101 - of an order it is known
        assert entry.to is not None  # noqa: S101 - see above
        return self.venice.generate(entry.request, to=entry.to, key=entry.key, max_usd=0)

    async def drain(self, _: web.Application) -> None:
        """Stop queueing. The streams of events end with their jobs."""
        print(f"{len(await self.venice.drain(GRACE))} paid job(s) are left to the next start")

    async def order(self, request: web.Request) -> web.Response:
        """Queue a clip. 202 means that it is paid for."""
        name = request.headers.get("Idempotency-Key") or uuid.uuid4().hex
        if not re.fullmatch(ID, name):
            return web.json_response({"error": "the Idempotency-Key must be 8 to 80 letters"}, status=400)
        try:
            body = await request.json()
            wanted = as_request(**body)
            to = self.folder / f"{name}.mp4"
            await self.venice.generate(wanted, to=to, key=name, max_usd=MAX_USD).queued()
        except VeniceError as error:
            answer = {"error": str(error), "charged": error.charged}
            status = (
                422 if isinstance(error, CALLER_ERRORS) else 409 if isinstance(error, UsageError) else 503
            )
            return web.json_response(answer, status=status)
        except (LookupError, RecursionError, TypeError, ValueError):
            return web.json_response(
                {"error": "send JSON with model, prompt, duration and aspect_ratio"}, status=400
            )
        return web.json_response({"id": name}, status=202)

    async def show(self, request: web.Request) -> web.Response:
        """Return the state of a clip."""
        found = await self.find(request)
        state = found.state
        if not isinstance(state, Succeeded | Failed):
            job = self.follow(found)
            state = job.state if job.ticket else state
        return web.json_response(as_json(state))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Send each state as a server-sent event, until the job has ended.

        If this replica stops first, the stream is cut: the browser comes back to another one.
        """
        if request.headers.get("Last-Event-ID") in ENDS:
            return web.Response(status=204)  # a browser that has seen the end stops reconnecting
        found = await self.find(request)
        response = web.StreamResponse(headers=EVENTS)
        await response.prepare(request)
        with suppress(ConnectionResetError):  # the listener has left
            await response.write(f"retry: {RECONNECT}\n\n".encode())
            async for state in self.states(found):
                known = as_json(state)
                name, data = known["state"], json.dumps(known)
                await response.write(f"id: {name}\nevent: {name}\ndata: {data}\n\n".encode())
        return response

    async def play(self, request: web.Request) -> web.FileResponse:
        """Send the clip. A file has its final name only when it is verified."""
        found = await self.find(request)
        if not isinstance(found.state, Succeeded):
            raise web.HTTPNotFound
        return web.FileResponse(Path(found.state.video))

    async def healthz(self, _: web.Request) -> web.Response:
        """Tell that the process lives."""
        return web.json_response({"status": "alive"})

    async def readyz(self, _: web.Request) -> web.Response:
        """Tell that the journal can be reached."""
        try:
            await self.venice.find("readyz")
        except VeniceError as error:
            return web.json_response({"error": str(error)}, status=503)
        return web.json_response({"status": "ready"})

    async def states(self, found: JournalEntry) -> AsyncGenerator[State]:
        """Yield where a paid job stands whenever that changes."""
        if isinstance(found.state, Succeeded | Failed):
            yield found.state
            return
        job = self.follow(found)
        async for state in job.updates():
            if (job.ticket or isinstance(state, Failed)) and not isinstance(state, Stopped):
                yield state

    async def find(self, request: web.Request) -> JournalEntry:
        """Look a clip up in the journal."""
        found = await self.venice.find(request.match_info["clip"])
        if found is None:
            raise web.HTTPNotFound
        return found


def as_json(state: State) -> dict[str, object]:
    """Return the facts of a state that a browser may see."""
    known = {
        name: getattr(state, name) for name in ("elapsed", "eta", "received", "total") if hasattr(state, name)
    }
    if isinstance(state, Failed):
        known = {"error": str(state.error), "charged": state.error.charged}
    return {"state": type(state).__name__.lower(), **known}


def main(folder: str, port: str) -> None:
    """Serve on loopback."""
    Path(folder).mkdir(mode=0o700, exist_ok=True)
    clips, app = Clips(Path(folder)), web.Application()
    app.router.add_post("/clips", clips.order)
    app.router.add_get("/healthz", clips.healthz)
    app.router.add_get("/readyz", clips.readyz)
    for path, handler in (("", clips.show), ("/events", clips.events), ("/video", clips.play)):
        app.router.add_get(f"/clips/{{clip:{ID}}}{path}", handler)
    app.cleanup_ctx.append(clips.run)
    app.on_shutdown.append(clips.drain)
    web.run_app(app, host="127.0.0.1", port=int(port))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
