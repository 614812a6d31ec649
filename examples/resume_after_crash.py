"""Continues after a crash: the journal records what was paid for, and the next run resumes it.

python examples/resume_after_crash.py jobs.db MODEL "A gondola at dawn" clip.mp4

Kill it at any moment and run it again: nothing is paid twice.
"""

from __future__ import annotations

import asyncio
import sys

from venice_async import QueueOutcomeUnknownError, VeniceClient, VideoRequest


async def main(journal: str, model: str, prompt: str, path: str) -> None:
    """Resume the jobs of an earlier run. Start a new job only if there are none."""
    async with VeniceClient(journal=journal) as venice:
        jobs = await venice.recover()
        if jobs:
            print(f"Resuming {len(jobs)} job(s) of an earlier run")
        else:
            request = VideoRequest(model=model, prompt=prompt, duration="5s", aspect_ratio="16:9")
            jobs = [venice.generate(request, to=path)]
        for job in jobs:
            try:
                print(f"Saved {(await job).path}")
            except QueueOutcomeUnknownError as error:
                print(error)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
