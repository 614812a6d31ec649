"""`venice-async generate`: one clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from ...formatting import as_usd
from ..connection import Connection, Journalling, Session, opened
from ..consent import asker
from ..options import value
from ..prices import Money, agreed, reference_length
from ..request_options import Look, Material, request
from ..running import Run, Target

if TYPE_CHECKING:
    from ...requests import VideoRequest
    from ..interrupts import Interrupts
    from ..screen.screen import Screen

EXAMPLES = """\
venice-async generate --sandbox -m wan-2-7-text-to-video -p "a fox in the snow" --duration 5s -o fox.mp4
venice-async generate -m wan-2-7-image-to-video -p "she turns" --image portrait.png --duration 5s -o turn.mp4
venice-async generate -m wan-2-7-text-to-video -p "rain" --duration 10s --max-usd 2 --json
"""


async def generate(
    *,
    screen: Screen,
    interrupts: Interrupts,
    model: Annotated[str, value("--model", "-m", takes="ID", says="The model: see 'venice-async models'.")],
    target: Target,
    look: Look,
    material: Material,
    money: Money,
    journalling: Journalling,
    connection: Connection,
    prompt: Annotated[str | None, value("--prompt", "-p", takes="TEXT", says="What to show.")] = None,
    reference_seconds: Annotated[float | None, reference_length()] = None,
) -> int:
    """Generate a clip and save it, verified, to a file."""
    wanted = request(model, prompt, look, material)
    on_consent = asker(screen)
    async with opened(connection, journalling, on_consent=on_consent, seconds=target.timeout) as session:
        return await make(
            session,
            screen,
            interrupts,
            wanted,
            target=target,
            money=money,
            reference_seconds=reference_seconds,
        )


async def make(
    session: Session,
    screen: Screen,
    interrupts: Interrupts,
    wanted: VideoRequest,
    *,
    target: Target,
    money: Money,
    reference_seconds: float | None = None,
) -> int:
    """Have the price agreed to, queue the request, and see it through."""
    interrupts.farewell = "Interrupted before anything was queued. Nothing was charged."
    usd, limit = await agreed(session.venice, wanted, money, screen, reference_seconds=reference_seconds)
    caption = f"{wanted.model} · {as_usd(usd)}"
    if not screen.live:
        screen.note(caption)
    job = session.venice.generate(
        wanted,
        to=target.output,
        max_usd=limit,
        reference_video_seconds=reference_seconds,
        overwrite=target.overwrite,
    )
    return await Run(session, screen, interrupts, to=target.output).watch(job, caption=caption, usd=usd)
