"""Shows the progress of a job while other code awaits the same job.

python examples/progress.py MODEL "A gondola at dawn" clip.mp4
"""

from __future__ import annotations

import asyncio
import sys

from venice_async import (
    Downloading,
    Failed,
    Queueing,
    State,
    Succeeded,
    VeniceClient,
    VideoJob,
    VideoRequest,
    Waiting,
)


def describe(state: State) -> str:
    """Return the state of a job in a few words."""
    match state:
        case Queueing():
            return "waiting to be queued"
        case Waiting(eta=None):
            return "queued"
        case Waiting():
            return f"generating for {state.elapsed or 0:.1f} s, about {state.eta or 0:.0f} s to go"
        case Downloading():
            return f"{state.received:,} of {state.total or 0:,} bytes, by {state.via}"
        case Succeeded():
            return f"saved {state.video.path}"
        case Failed():
            return f"failed: {state.error}"
        case _:
            return type(state).__name__


async def show(job: VideoJob) -> None:
    """Print each state. The last one says how the job ended."""
    async for state in job.updates():
        print(describe(state))


async def main(model: str, prompt: str, path: str) -> None:
    """Generate one clip and show its progress."""
    async with VeniceClient() as venice:
        request = VideoRequest(model=model, prompt=prompt, duration="5s", aspect_ratio="16:9")
        job = venice.generate(request, to=path)
        showing = asyncio.create_task(show(job))
        try:
            await job
        finally:
            await showing


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
