"""A process that queues jobs and watches them, beside others with the same journal, until it is killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from venice_async import VeniceClient, VideoRequest


async def main(folder: str, url: str, key: str, jobs: str) -> None:
    """Queue so many jobs."""
    request = VideoRequest(
        model="wan-2-7-text-to-video", prompt="p", duration="5s", aspect_ratio="16:9", resolution="480p"
    )
    async with VeniceClient(key, base_url=url, journal=f"{folder}/jobs.db") as venice:
        await asyncio.gather(*(venice.generate(request, to=Path(folder)).wait() for _ in range(int(jobs))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
