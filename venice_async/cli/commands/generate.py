"""`venice-async generate`: one clip."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ...requests import VideoRequest
from ..completions import Model
from ..options import ClipOptions, Output, ReferenceSeconds, Text
from ..request_options import MediaOptions, PictureOptions
from ..run_jobs import run_request
from ..screen.screen import ScreenHere
from . import command

EXAMPLES = """\
venice-async generate --sandbox -m wan-2-7-text-to-video -p "fox" --duration 5s --aspect-ratio 16:9 -o fox.mp4
venice-async generate -m wan-2-7-image-to-video -p "she turns" --image portrait.png --duration 5s -o turn.mp4
venice-async generate -m wan-2-7-text-to-video -p "rain" --duration 10s --aspect-ratio 16:9 --max-usd 2 --json
venice-async generate -m wan-2-7-text-to-video -p "rain" --duration 5s --aspect-ratio 16:9 --key order-4711
"""


@command(EXAMPLES)
async def generate(
    *,
    model: Model,
    prompt: Annotated[Text | None, Parameter(alias="-p")] = None,
    picture: PictureOptions = PictureOptions(),
    media: MediaOptions = MediaOptions(),
    reference_seconds: ReferenceSeconds | None = None,
    clip: ClipOptions = ClipOptions(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Generate a clip and save it, verified, to a file.

    Args:
        model: The model: see 'venice-async models'.
        prompt: What to show.
        reference_seconds: The length of all reference clips together, where they are URLs.
    """
    request = VideoRequest(model=model, prompt=prompt, **picture.values(), **media.values())
    return await run_request(request, screen, clip, reference_seconds=reference_seconds)
