"""A web service of a fleet: an order and its job in one transaction, progress anywhere, links to clips.

python examples/service_fleet.py postgresql:///shop s3://bucket/clips 8080

    curl localhost:8080/orders --json '{"model": "MODEL", "prompt": "A gondola at dawn",
        "duration": "5s", "aspect_ratio": "16:9"}'
    curl -N localhost:8080/orders/ID/events
    curl -L -o clip.mp4 localhost:8080/orders/ID/video

A browser shows an order at localhost:8080/orders/ID/watch, whichever replicas come and go meanwhile.

Run as many replicas as you like, and `venice-async worker --journal postgresql:///shop` beside them: only
workers need the key of Venice. Who fetches a clip gets a presigned URL of the store, good for ten minutes;
the credentials of the store come from the environment. `HOST` is the address to serve at.

It needs `pip install '.[cli,fleet,storage]' fastapi uvicorn`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from socket import socket
from typing import Annotated, Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from obstore import sign_async
from obstore.store import from_url
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

from venice_async import Failed, State, Succeeded, VeniceError, VideoRequest
from venice_async.fleet import Fleet, FleetJob, Submitted

DATABASE, PLACE = sys.argv[1:3] if len(sys.argv) > 2 else ("", "")
MAX_USD = 2.00  # for one clip
ENDS = {"succeeded", "failed"}
GRACE = 1.0  # seconds that requests get when the service stops
GOOD_FOR = timedelta(minutes=10)  # a presigned URL
TABLE = """CREATE TABLE IF NOT EXISTS shop_orders
    (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, prompt text NOT NULL,
    placed timestamptz NOT NULL DEFAULT now())"""
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Your clip</title>
<style>
  :root { color-scheme: light dark; font: 1.1rem/1.5 system-ui }
  body { max-width: 40rem; margin: 10vh auto; padding: 0 1rem }
  progress, video { width: 100% }
</style>
<h1>Your clip</h1>
<p role="status">Connecting</p>
<progress></progress>
<video controls hidden></video>
<script>
  const [text, bar, video] = ["p", "progress", "video"].map(name => document.querySelector(name));
  const WORDS = {
    submitted: "Waiting for a worker", quoting: "Asking for the price", queueing: "Being ordered",
    awaitingconsent: "Waiting for consent", waiting: "Being generated", downloading: "Being fetched",
    saved: "Being stored", succeeded: "Ready", failed: "There is no clip",
  };
  function show({data}) {
    const {state, progress, error} = JSON.parse(data);
    text.textContent = WORDS[state] + (error ? `: ${error}` : "");
    bar.removeAttribute("value");
    if (progress != null) bar.value = progress;
    if (!(bar.hidden = state == "succeeded" || state == "failed")) return;
    this.close();
    if (!(video.hidden = state == "failed")) video.src = "video";
  }
  function follow() {
    const source = new EventSource("events");
    for (const name in WORDS) source.addEventListener(name, show);
    source.onerror = () => {
      text.textContent = "The connection was lost, trying again";
      // A browser comes back by itself after a cut, but not after an answer such as 502 of a proxy.
      if (source.readyState == EventSource.CLOSED) setTimeout(follow, 1000);
    };
  }
  follow();
</script>
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Connect to the database, as a shop and as a replica of the fleet."""
    pool: Any = AsyncConnectionPool(DATABASE, open=False)
    async with Fleet(DATABASE) as app.state.fleet, pool as app.state.pool:
        async with pool.connection() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(4711)")  # replicas may start at once
            await connection.execute(TABLE)
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(VeniceError)
async def refuse(_: Request, error: VeniceError) -> JSONResponse:
    """Answer what went wrong, and whether money was spent."""
    return JSONResponse({"error": str(error), "charged": error.charged}, status_code=422)


class Order(BaseModel, extra="forbid"):
    """The body of an order."""

    model: str
    prompt: str
    duration: str
    aspect_ratio: str | None = None


@app.post("/orders", status_code=202)
async def order(wanted: Order, request: Request) -> dict[str, int]:
    """Keep an order and its job: both are there, or none."""
    fleet: Fleet = request.app.state.fleet
    async with request.app.state.pool.connection() as connection:  # one transaction
        new = "INSERT INTO shop_orders (prompt) VALUES (%s) RETURNING id"
        (number,) = await (await connection.execute(new, [wanted.prompt])).fetchone()
        to = f"{PLACE.rstrip('/')}/{number}.mp4"
        video = VideoRequest(**wanted.model_dump())
        await fleet.submit(video, key=f"order-{number}", to=to, max_usd=MAX_USD, connection=connection)
    return {"id": number}


async def find(number: Annotated[int, Path(gt=0)], request: Request) -> FleetJob:
    """Look an order up, whichever replica took it."""
    job: FleetJob = request.app.state.fleet.job(f"order-{number}")
    if await job.state() is None:
        raise HTTPException(404)
    return job


Found = Annotated[FleetJob, Depends(find)]


@app.get("/orders/{number}")  # noqa: FAST003 - for find
async def show(found: Found) -> dict[str, Any]:
    """Return the state of an order."""
    state = await found.state()
    assert state is not None  # noqa: S101 - it was found
    return as_json(state)


def refuse_after_the_end(last_event_id: Annotated[str | None, Header()] = None) -> None:
    """Answer 204 to a browser that has seen the end, so that it stops reconnecting."""
    if last_event_id in ENDS:
        raise HTTPException(204)


@app.get(
    "/orders/{number}/events",  # noqa: FAST003 - for find
    response_class=EventSourceResponse,
    dependencies=[Depends(refuse_after_the_end)],
)
async def events(found: Found) -> AsyncGenerator[ServerSentEvent]:
    """Send each state as a server-sent event, until the job has ended."""
    async for state in found.updates():
        known = as_json(state)
        yield ServerSentEvent(id=known["state"], event=known["state"], data=known, retry=1000)


@app.get("/orders/{number}/watch", dependencies=[Depends(find)])  # noqa: FAST003 - for find
async def watch() -> HTMLResponse:
    """Show the progress of an order to a person, and the clip in the end."""
    return HTMLResponse(PAGE)


@app.get("/orders/{number}/video")  # noqa: FAST003 - for find
async def play(found: Found) -> RedirectResponse:
    """Lead to the clip in the store: no byte of it goes through this service."""
    state = await found.state()
    if not isinstance(state, Succeeded) or state.video.url is None:
        raise HTTPException(404, "There is no clip yet")
    where = urlsplit(state.video.url)
    store: Any = from_url(f"{where.scheme}://{where.netloc}")
    return RedirectResponse(await sign_async(store, "GET", where.path.lstrip("/"), GOOD_FOR))


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Tell that the process lives."""
    return {"status": "alive"}


@app.get("/readyz")
async def readyz(request: Request) -> dict[str, str]:
    """Tell that the database can be reached."""
    await request.app.state.fleet.job("readyz").state()
    return {"status": "ready"}


def as_json(state: State | Submitted) -> dict[str, Any]:
    """Return the facts of a state that a browser may see."""
    known = {
        name: getattr(state, name)
        for name in ("progress", "elapsed", "eta", "received", "total")
        if hasattr(state, name)
    }
    if isinstance(state, Failed):
        known = {"error": str(state.error), "charged": state.error.charged}
    return {"state": type(state).__name__.lower(), **known}


class Server(uvicorn.Server):
    """Cuts streams of events when it stops: their browsers come back to another replica."""

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Leave requests a moment to end."""
        asyncio.get_running_loop().call_later(GRACE, self.cut)
        await super().shutdown(sockets)

    def cut(self) -> None:
        """Close what is still open."""
        for connection in [*self.server_state.connections]:
            connection.transport.close()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    host, port = os.environ.get("HOST", "127.0.0.1"), int(sys.argv[3])
    Server(uvicorn.Config(app, host=host, port=port, log_level="warning")).run()
