"""A web service with FastAPI: order a clip, follow its events, play it. Run as many of it as you like.

python examples/service_fastapi.py clips 8080

    curl localhost:8080/clips --json '{"model": "MODEL", "prompt": "A gondola at dawn",
        "duration": "5s", "aspect_ratio": "16:9"}'
    curl -N localhost:8080/clips/ID/events
    curl -o clip.mp4 localhost:8080/clips/ID/video

The id of a clip is its key in the journal, which all replicas share: whichever is asked knows every clip, and
goes on with those of one that was killed. An order with an `Idempotency-Key` may be sent again, and is paid
for once. The journal lies beside the clips, or where `VENICE_JOURNAL` says, such as in Postgres. With
`WEBHOOK_URL` and `WEBHOOK_SECRET` the end of each clip is told there. `HOST` is the address to serve at.

It needs `pip install . fastapi uvicorn`, and the extra `postgres` for a journal in Postgres.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import uuid
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
    JournalEntry,
    JournalError,
    State,
    Stopped,
    Succeeded,
    Ticket,
    UsageError,
    VeniceClient,
    VeniceError,
    VideoJob,
    VideoRequest,
    Webhook,
)

FOLDER = FilePath(sys.argv[1] if len(sys.argv) > 1 else "clips").absolute()
MAX_USD = 2.00  # for one clip
ENDS = {"succeeded", "failed"}
GRACE = 2.0  # seconds that paid jobs get when the service stops
EVERY = 15.0  # seconds between two looks for the jobs of a replica that died
RECONNECT = 1000  # milliseconds after which a browser whose stream was cut comes back
CALLER_ERRORS = (InvalidRequestError, BadRequestError, BudgetExceededError, ConsentError, ContentPolicyError)
Id = Annotated[str, Path(pattern=r"^[\w-]{8,80}$")]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Open the client, and go on with what nobody works on."""
    journal = os.environ.get("VENICE_JOURNAL") or FOLDER / "jobs.db"
    hook = (
        Webhook(os.environ["WEBHOOK_URL"], os.environ["WEBHOOK_SECRET"])
        if "WEBHOOK_URL" in os.environ
        else None
    )
    async with VeniceClient(journal=journal, on_done=hook) as venice:
        app.state.venice = venice
        adopting = asyncio.create_task(adopt(venice))
        yield
        adopting.cancel()


app = FastAPI(lifespan=lifespan)


async def adopt(venice: VeniceClient) -> None:
    """Go on with the jobs of earlier runs, and of replicas that died."""
    while True:
        try:
            for entry in await venice.pending():
                follow(venice, entry)
        except JournalError as error:
            logging.getLogger(__name__).warning("%s", error)
        await asyncio.sleep(EVERY)


def follow(venice: VeniceClient, entry: JournalEntry) -> VideoJob:
    """Return the job of an order, whichever replica works on it. It never pays: its price may be 0."""
    assert entry.request is not None  # noqa: S101 - of an order it is known
    assert entry.to is not None  # noqa: S101 - see above
    return venice.generate(entry.request, to=entry.to, key=entry.key, max_usd=0)


@app.exception_handler(VeniceError)
async def refuse(_: Request, error: VeniceError) -> JSONResponse:
    """Answer what went wrong, and whether money was spent."""
    answer = {"error": str(error), "charged": error.charged}
    status = 422 if isinstance(error, CALLER_ERRORS) else 409 if isinstance(error, UsageError) else 503
    return JSONResponse(answer, status_code=status)


class Order(BaseModel, extra="forbid"):
    """The body of an order."""

    model: str
    prompt: str
    duration: str
    aspect_ratio: str | None = None


@app.post("/clips", status_code=202)
async def order(
    wanted: Order,
    request: Request,
    idempotency_key: Annotated[str | None, Header(pattern=r"^[\w-]{8,80}$")] = None,
) -> dict[str, str]:
    """Queue a clip. 202 means that it is paid for."""
    venice: VeniceClient = request.app.state.venice
    name = idempotency_key or uuid.uuid4().hex
    to = FOLDER / f"{name}.mp4"
    await venice.generate(VideoRequest(**wanted.model_dump()), to=to, key=name, max_usd=MAX_USD).queued()
    return {"id": name}


async def find(clip: Id, request: Request) -> JournalEntry:
    """Look a clip up in the journal."""
    entry: JournalEntry | None = await request.app.state.venice.find(clip)
    if entry is None:
        raise HTTPException(404)
    return entry


Found = Annotated[JournalEntry, Depends(find)]


@app.get("/clips/{clip}")  # noqa: FAST003 - for find
async def show(found: Found, request: Request) -> dict[str, Any]:
    """Return the state of a clip."""
    state = found.state
    if not isinstance(state, Succeeded | Failed):
        job = follow(request.app.state.venice, found)
        state = job.state if job.ticket else state
    return as_json(state)


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Tell that the process lives."""
    return {"status": "alive"}


@app.get("/readyz")
async def readyz(request: Request) -> dict[str, str]:
    """Tell that the journal can be reached, or answer 503."""
    await request.app.state.venice.find("readyz")
    return {"status": "ready"}


def refuse_after_the_end(last_event_id: Annotated[str | None, Header()] = None) -> None:
    """Answer 204 to a browser that has seen the end, so that it stops reconnecting."""
    if last_event_id in ENDS:
        raise HTTPException(204)


@app.get(
    "/clips/{clip}/events",  # noqa: FAST003 - for find
    response_class=EventSourceResponse,
    dependencies=[Depends(refuse_after_the_end)],
)
async def events(found: Found, request: Request) -> AsyncGenerator[ServerSentEvent]:
    """Send each state as a server-sent event, until the job has ended.

    If this replica stops first, the stream is cut: the browser comes back to another one.
    """
    async for state in states(request.app.state.venice, found):
        known = as_json(state)
        yield ServerSentEvent(id=known["state"], event=known["state"], data=known, retry=RECONNECT)


async def states(venice: VeniceClient, found: JournalEntry) -> AsyncGenerator[State]:
    """Yield where a paid job stands whenever that changes."""
    if isinstance(found.state, Succeeded | Failed):
        yield found.state
        return
    job = follow(venice, found)
    async for state in job.updates():
        if (job.ticket or isinstance(state, Failed)) and not isinstance(state, Stopped):
            yield state


@app.get("/clips/{clip}/video")  # noqa: FAST003 - for find
async def play(found: Found) -> FileResponse:
    """Send the clip. A file has its final name only when it is verified."""
    if not isinstance(found.state, Succeeded):
        raise HTTPException(404, "There is no clip yet")
    return FileResponse(found.state.video)


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
    Server(uvicorn.Config(app, host=os.environ.get("HOST", "127.0.0.1"), port=int(sys.argv[2]))).run()
