"""Chains clips: an image becomes a clip, its last frame the next clip, and both together one film.

python examples/chain.py MODEL portrait.png film.mp4

It needs VENICE_API_KEY and `pip install '.[media]'`. The two clips are kept beside the film.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from venice_async import Media, VeniceClient, VideoRequest, concat, last_frame


async def main(model: str, image: str, film: str) -> None:
    """Make one clip after the other, for at most 2 USD."""
    scenes, clips, start = ["The boat leaves", "It arrives at the island"], list[Path](), Media(image)
    async with VeniceClient() as venice:
        for number, scene in enumerate(scenes, 1):
            to = Path(film).with_name(f"scene-{number}.mp4")
            request = VideoRequest(model=model, prompt=scene, duration="5s", image_url=start)
            start = await last_frame(await venice.generate(request, to=to, max_usd=1.00))
            clips.append(to)
    print(f"saved {(await concat(clips, to=film)).path}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
