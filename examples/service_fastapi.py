"""A web service with FastAPI: order a clip, follow its events, play it.

python examples/service_fastapi.py clips 8080

    curl --json '{"model": "MODEL", "prompt": "A gondola at dawn", "duration": "5s"}' localhost:8080/clips
    curl -N localhost:8080/clips/ID/events
    curl -o clip.mp4 localhost:8080/clips/ID/video

A journal beside the clips records what was paid for: kill the service and start it again, and it resumes. On
SIGTERM it queues nothing more, waits a moment for paid jobs, and leaves the rest to its next start. Run it as
one process: the running jobs are known to the process that runs them.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from socket import socket
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Path, Request
from fastapi.responses import FileResponse, JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from venice_async import (
    BadRequestError,
    BudgetExceededError,
    ConsentError,
    ContentPolicyError,
    Failed,
    InvalidRequestError,
    State,
    Succeeded,
    Ticket,
    VeniceClient,
    VeniceError,
    VideoJob,
    VideoRequest,
)

FOLDER = FilePath(sys.argv[1] if len(sys.argv) > 1 else "clips")
MAX_USD = 2.00  # for one clip
ENDS = {"succeeded", "failed", "stopped"}
GRACE = 2.0  # seconds that paid jobs get when the service stops
CALLER_ERRORS = (InvalidRequestError, BadRequestError, BudgetExceededError, ConsentError, ContentPolicyError)

jobs: dict[str, VideoJob] = {}


def remember(job: VideoJob, state: State) -> None:
    """Find a job by the id of its ticket. When it has succeeded, its file is enough."""
    if isinstance(state, Succeeded):
        jobs.pop(state.video.ticket.queue_id, None)
    elif job.ticket is not None:
        jobs[job.ticket.queue_id] = job


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Open the client, and resume what an earlier run left unfinished."""
    async with VeniceClient(journal=FOLDER / "jobs.db", on_state=remember) as venice:
        app.state.venice = venice
        for job in await venice.recover():
            remember(job, job.state)
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(VeniceError)
async def refuse(_: Request, error: VeniceError) -> JSONResponse:
    """Answer what went wrong, and whether money was spent."""
    answer = {"error": str(error), "charged": error.charged}
    return JSONResponse(answer, status_code=422 if isinstance(error, CALLER_ERRORS) else 503)


class Order(BaseModel):
    """The body of an order."""

    model: str
    prompt: str
    duration: str


@app.post("/clips", status_code=202)
async def order(wanted: Order, request: Request) -> dict[str, str]:
    """Queue a clip. 202 means that it is paid for. The answer holds the id of the ticket, never its link."""
    venice: VeniceClient = request.app.state.venice
    job = venice.generate(VideoRequest(**wanted.model_dump()), to=FOLDER, max_usd=MAX_USD)
    return {"id": (await job.queued()).queue_id}


def find(clip: Annotated[str, Path(pattern=r"^[\w-]{8,80}$")]) -> VideoJob | FilePath:
    """Return the job, or the finished clip, also of an earlier run: it is named after prompt and job."""
    found = next(FOLDER.glob(f"*-{clip[:8]}.mp4"), None) or jobs.get(clip)
    if found is None:
        raise HTTPException(404)
    return found


Found = Annotated[Any, Depends(find)]


@app.get("/clips/{clip}")  # noqa: FAST003 - for find
async def show(found: Found) -> dict[str, Any]:
    """Return the state of a clip."""
    return as_json(found.state) if isinstance(found, VideoJob) else {"state": "succeeded"}


def refuse_after_the_end(last_event_id: Annotated[str | None, Header()] = None) -> None:
    """Answer 204 to a browser that has seen the end, so that it stops reconnecting."""
    if last_event_id in ENDS:
        raise HTTPException(204)


@app.get(
    "/clips/{clip}/events",  # noqa: FAST003 - for find
    response_class=EventSourceResponse,
    dependencies=[Depends(refuse_after_the_end)],
)
async def events(found: Found) -> AsyncGenerator[ServerSentEvent]:
    """Send each state as a server-sent event, until the job has ended."""
    if isinstance(found, FilePath):
        yield ServerSentEvent(id="succeeded", event="succeeded", data={"state": "succeeded"})
        return
    async for state in found.updates():
        known = as_json(state)
        yield ServerSentEvent(id=known["state"], event=known["state"], data=known)


@app.get("/clips/{clip}/video")  # noqa: FAST003 - for find
async def play(found: Found) -> FileResponse:
    """Send the clip. A file has its final name only when it is verified."""
    if isinstance(found, VideoJob):
        raise HTTPException(404, "There is no clip yet")
    return FileResponse(found)


def as_json(state: State) -> dict[str, Any]:
    """Return the facts of a state that a browser may see."""
    known = {
        name: getattr(state, name) for name in ("elapsed", "eta", "received", "total") if hasattr(state, name)
    }
    if isinstance(state, Failed):
        known = {"error": str(state.error), "charged": state.error.charged}
    return {"state": type(state).__name__.lower(), **known}


class Server(uvicorn.Server):
    """Drains the client before it closes connections, so that streams of events end with their jobs."""

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Stop queueing, then shut down."""
        left: list[Ticket] = await app.state.venice.drain(GRACE)
        print(f"{len(left)} paid job(s) are left to the next start")
        await super().shutdown(sockets)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    Server(uvicorn.Config(app, host="127.0.0.1", port=int(sys.argv[2]))).run()
