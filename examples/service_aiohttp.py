"""A web service with aiohttp: order a clip, follow its events, play it.

python examples/service_aiohttp.py clips 8080

    curl -d '{"model": "MODEL", "prompt": "A gondola at dawn", "duration": "5s"}' localhost:8080/clips
    curl -N localhost:8080/clips/ID/events
    curl -o clip.mp4 localhost:8080/clips/ID/video

A journal beside the clips records what was paid for: kill the service and start it again, and it resumes. On
SIGTERM it queues nothing more, waits a moment for paid jobs, and leaves the rest to its next start. Run it as
one process: the running jobs are known to the process that runs them.
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

CLIP = r"/clips/{clip:[\w-]{8,80}}"
EVENTS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
DONE: dict[str, object] = {"state": "succeeded"}
ENDS = {"succeeded", "failed", "stopped"}
MAX_USD = 2.00  # for one clip
GRACE = 2.0  # seconds that paid jobs get when the service stops
CALLER_ERRORS = (InvalidRequestError, BadRequestError, BudgetExceededError, ConsentError, ContentPolicyError)


class Clips:
    """The service. It shows the id of a ticket, never the ticket, which may contain a private link."""

    def __init__(self, folder: Path) -> None:
        """Keep the clips and the journal in `folder`."""
        self.folder = folder
        self.jobs: dict[str, VideoJob] = {}

    async def run(self, _: web.Application) -> AsyncGenerator[None]:
        """Open the client, and resume what an earlier run left unfinished."""
        async with VeniceClient(journal=self.folder / "jobs.db", on_state=self.remember) as self.venice:
            for job in await self.venice.recover():
                self.remember(job, job.state)
            yield

    async def drain(self, _: web.Application) -> None:
        """Stop queueing. The streams of events end with their jobs."""
        print(f"{len(await self.venice.drain(GRACE))} paid job(s) are left to the next start")

    def remember(self, job: VideoJob, state: State) -> None:
        """Find a job by the id of its ticket. When it has succeeded, its file is enough."""
        if isinstance(state, Succeeded):
            self.jobs.pop(state.video.ticket.queue_id, None)
        elif job.ticket is not None:
            self.jobs[job.ticket.queue_id] = job

    async def order(self, request: web.Request) -> web.Response:
        """Queue a clip. 202 means that it is paid for."""
        try:
            body = await request.json()
            wanted = VideoRequest(model=body["model"], prompt=body["prompt"], duration=body["duration"])
            ticket = await self.venice.generate(wanted, to=self.folder, max_usd=MAX_USD).queued()
        except VeniceError as error:
            answer = {"error": str(error), "charged": error.charged}
            return web.json_response(answer, status=422 if isinstance(error, CALLER_ERRORS) else 503)
        except (LookupError, RecursionError, TypeError, ValueError):
            return web.json_response({"error": "send JSON with model, prompt and duration"}, status=400)
        return web.json_response({"id": ticket.queue_id}, status=202)

    async def show(self, request: web.Request) -> web.Response:
        """Return the state of a clip."""
        name = request.match_info["clip"]
        if job := self.jobs.get(name):
            return web.json_response(as_json(job.state))
        await self.find_clip(name)
        return web.json_response(DONE)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Send each state as a server-sent event, until the job has ended."""
        if request.headers.get("Last-Event-ID") in ENDS:
            return web.Response(status=204)  # a browser that has seen the end stops reconnecting
        response = web.StreamResponse(headers=EVENTS)
        with suppress(ConnectionResetError):  # the listener has left
            async for known in self.states(request.match_info["clip"]):
                if not response.prepared:
                    await response.prepare(request)
                name, data = known["state"], json.dumps(known)
                await response.write(f"id: {name}\nevent: {name}\ndata: {data}\n\n".encode())
        return response

    async def play(self, request: web.Request) -> web.FileResponse:
        """Send the clip. A file has its final name only when it is verified."""
        return web.FileResponse(await self.find_clip(request.match_info["clip"]))

    async def states(self, name: str) -> AsyncGenerator[dict[str, object]]:
        """Yield the state of a clip whenever it changes."""
        if job := self.jobs.get(name):
            async for state in job.updates():
                yield as_json(state)
        else:
            await self.find_clip(name)
            yield DONE

    async def find_clip(self, name: str) -> Path:
        """Return the finished clip, also of an earlier run: its file is named after prompt and job."""
        found = await asyncio.to_thread(lambda: next(self.folder.glob(f"*-{name[:8]}.mp4"), None))
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
    for path, handler in (("", clips.show), ("/events", clips.events), ("/video", clips.play)):
        app.router.add_get(CLIP + path, handler)
    app.cleanup_ctx.append(clips.run)
    app.on_shutdown.append(clips.drain)
    web.run_app(app, host="127.0.0.1", port=int(port))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
