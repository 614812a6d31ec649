"""Turns a prompt into a verified video file.

python examples/text_to_video.py "A gondola at dawn" clip.mp4

It needs VENICE_API_KEY. To use a sandbox instead, run `venice-async sandbox` and set VENICE_BASE_URL.
"""

from __future__ import annotations

import asyncio
import sys

from venice_async import VeniceClient, VideoRequest


async def main(prompt: str, path: str) -> None:
    """Generate one clip with the first text-to-video model of the catalogue, for at most 1 USD."""
    async with VeniceClient() as venice:
        model = next(m for m in await venice.models() if m.model_type == "text-to-video" and not m.offline)
        request = VideoRequest(
            model=model.id,
            prompt=prompt,
            duration=model.durations[0],
            resolution=next(iter(model.resolutions), None),
            aspect_ratio=next(iter(model.aspect_ratios), None),
        )
        video = await venice.generate(request, to=path, max_usd=1.00)
        print(f"{video.path}: {video.size:,} bytes, sha256 {video.sha256[:12]}…")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
