"""Clips by DBOS, an engine of durable workflows, on SQLite: kill it at any moment, and start it again.

python examples/dbos_sqlite.py MODEL clips order-4711 "A gondola at dawn"

The step is thin because `generate(key=...)` carries the money: however often DBOS runs it, there is one paid
attempt. So DBOS may retry what is only in the way, such as a network that is down. What is decided is a
value, above all "unknown": a paid request whose answer was lost, which nobody may send again.

It needs `pip install . dbos`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TypedDict

from dbos import DBOS, SetWorkflowID

from venice_async import (
    DownloadError,
    JobTimeoutError,
    JournalError,
    QueueOutcomeUnknownError,
    RateLimitError,
    ServerError,
    TransportError,
    VeniceClient,
    VeniceError,
    VideoRequest,
)

MAX_USD = 2.00  # for one clip
IN_THE_WAY = (DownloadError, JobTimeoutError, JournalError, RateLimitError, ServerError, TransportError)


class Decided(TypedDict):
    """How an order ended.

    Attributes:
        outcome: `"clip"`, `"failed"` or `"unknown"`.
        said: the file, or why there is none.
        charged: whether money was spent; None when that is not known.
    """

    outcome: str
    said: str
    charged: bool | None


class Studio:
    """The client and its event loop, for steps that DBOS runs in threads.

    Attributes:
        venice: the client.
        loop: where it belongs.
        folder: where clips go.
    """

    venice: VeniceClient
    loop: asyncio.AbstractEventLoop
    folder: Path


async def make(key: str, model: str, prompt: str) -> Decided:
    """Make a clip, go on with it, or return the one that is there."""
    request = VideoRequest(model=model, prompt=prompt, duration="5s", aspect_ratio="16:9")
    try:
        video = await Studio.venice.generate(
            request, to=Studio.folder / f"{key}.mp4", key=key, max_usd=MAX_USD
        )
    except QueueOutcomeUnknownError as error:
        return {"outcome": "unknown", "said": str(error), "charged": None}
    except IN_THE_WAY:
        raise  # the same key again: it goes on where it was
    except VeniceError as error:
        return {"outcome": "failed", "said": str(error), "charged": error.charged}
    return {"outcome": "clip", "said": str(video.path), "charged": True}


@DBOS.step(retries_allowed=True, max_attempts=10, interval_seconds=5.0)
def clip(key: str, model: str, prompt: str) -> Decided:
    """Run `make` where the client belongs."""
    return asyncio.run_coroutine_threadsafe(make(key, model, prompt), Studio.loop).result()


@DBOS.workflow()
def order(key: str, model: str, prompt: str) -> Decided:
    """Do all that belongs to an order: here one clip. Steps that are done are not done again."""
    return clip(key, model, prompt)


async def main(model: str, folder: Path, key: str, prompt: str) -> None:
    """Place an order, or meet the one of that key, and wait for its end."""
    Studio.folder, Studio.loop = folder, asyncio.get_running_loop()
    async with VeniceClient(journal=Studio.folder / "jobs.db") as Studio.venice:
        database = f"sqlite:///{Studio.folder / 'dbos.db'}"
        DBOS(config={"name": "clips", "system_database_url": database, "log_level": "WARNING"})
        await asyncio.to_thread(DBOS.launch)  # and go on with what a run that was killed left
        try:
            with SetWorkflowID(key):
                handle = DBOS.start_workflow(order, key, model, prompt)
            decided = await asyncio.to_thread(handle.get_result)
            print(f"{decided['outcome']}: {decided['said']}")
        finally:
            await asyncio.to_thread(DBOS.destroy)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    place = Path(sys.argv[2]).absolute()
    place.mkdir(mode=0o700, exist_ok=True)
    asyncio.run(main(sys.argv[1], place, *sys.argv[3:]))
