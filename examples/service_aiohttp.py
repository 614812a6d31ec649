"""A web service with aiohttp: order a clip, follow its events, play it; a restart loses nothing.

python examples/service_aiohttp.py clips 8080

    curl -d '{"model": "MODEL", "prompt": "A gondola at dawn", "duration": "5s"}' localhost:8080/clips
    curl -N localhost:8080/clips/ID/events
    curl -o clip.mp4 localhost:8080/clips/ID/video

A journal beside the clips knows what was paid for: kill it and start it again. On SIGTERM it takes no more
orders, gives paid jobs a while, and leaves the rest to its next start.
"""

from __future__ import annotations

import asyncio
import json
import sys
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
    State,
    Succeeded,
    VeniceClient,
    VeniceError,
    VideoJob,
    VideoRequest,
)

ONE = r"/clips/{clip:[\w-]{8,80}}"
EVENTS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
DONE: dict[str, object] = {"state": "succeeded"}
MAX_USD = 2.00  # for one clip
GRACE = 2.0  # seconds for paid jobs when the service is stopped
THEIRS = (InvalidRequestError, BadRequestError, BudgetExceededError, ConsentError, ContentPolicyError)


class Clips:
    """The service. It tells the id of a ticket, never the ticket: that may hold a private link."""

    def __init__(self, folder: Path) -> None:
        """Keep the clips in `folder`, and the journal beside them."""
        self.folder = folder
        self.jobs: dict[str, VideoJob] = {}

    async def run(self, _: web.Application) -> AsyncGenerator[None]:
        """Keep a client open, and go on with what an earlier run left unfinished."""
        async with VeniceClient(journal=self.folder / "jobs.db", on_state=self.remember) as self.venice:
            for job in await self.venice.recover():
                self.remember(job, job.state)
            yield

    async def drain(self, _: web.Application) -> None:
        """Get ready to stop; the streams of events end with their jobs."""
        print(f"{len(await self.venice.drain(GRACE))} paid job(s) are left to the next start")

    def remember(self, job: VideoJob, state: State) -> None:
        """Know a job by its ticket, until its clip tells all there is to know."""
        if isinstance(state, Succeeded):
            self.jobs.pop(state.video.ticket.queue_id, None)
        elif job.ticket is not None:
            self.jobs[job.ticket.queue_id] = job

    async def order(self, request: web.Request) -> web.Response:
        """Queue a clip; 202 means that it is paid for."""
        try:
            body = await request.json()
            wanted = VideoRequest(model=body["model"], prompt=body["prompt"], duration=body["duration"])
            ticket = await self.venice.generate(wanted, to=self.folder, max_usd=MAX_USD).queued()
        except VeniceError as error:
            answer = {"error": str(error), "charged": error.charged}
            return web.json_response(answer, status=422 if isinstance(error, THEIRS) else 503)
        except (LookupError, RecursionError, TypeError, ValueError):
            return web.json_response({"error": "JSON with model, prompt and duration, please"}, status=400)
        return web.json_response({"id": ticket.queue_id}, status=202)

    async def show(self, request: web.Request) -> web.Response:
        """Say where a clip stands."""
        name = request.match_info["clip"]
        if job := self.jobs.get(name):
            return web.json_response(as_json(job.state))
        await self.find_clip(name)
        return web.json_response(DONE)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Send every state as a server-sent event, until the job has ended."""
        response = web.StreamResponse(headers=EVENTS)
        with suppress(ConnectionResetError):  # who listened has left
            async for known in self.states(request.match_info["clip"]):
                if not response.prepared:
                    await response.prepare(request)
                await response.write(f"event: {known['state']}\ndata: {json.dumps(known)}\n\n".encode())
        return response

    async def play(self, request: web.Request) -> web.FileResponse:
        """Send the clip; there is none under this name before it is verified."""
        return web.FileResponse(await self.find_clip(request.match_info["clip"]))

    async def states(self, name: str) -> AsyncGenerator[dict[str, object]]:
        """Yield what a browser may know of a clip, whenever it changes."""
        if job := self.jobs.get(name):
            async for state in job.updates():
                yield as_json(state)
        else:
            await self.find_clip(name)
            yield DONE

    async def find_clip(self, name: str) -> Path:
        """Return the finished clip, whichever run has made it: its file is named after model and ticket."""
        found = await asyncio.to_thread(lambda: next(self.folder.glob(f"*-{name}.mp4"), None))
        if found is None:
            raise web.HTTPNotFound
        return found


def as_json(state: State) -> dict[str, object]:
    """Return what a browser may know of a state."""
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
    for path, handler in (("", clips.show), ("/events", clips.events), ("/video", clips.play)):
        app.router.add_get(ONE + path, handler)
    app.cleanup_ctx.append(clips.run)
    app.on_shutdown.append(clips.drain)
    web.run_app(app, host="127.0.0.1", port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
