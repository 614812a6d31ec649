"""Makes the clips, away from the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol

import anyio
import anyio.to_thread

from ..jobs import Clip, Job

logger: logging.Logger = logging.getLogger(__name__)

_AT_ONCE = 2


class ClipMaker(Protocol):
    """Makes a clip at once; `render_clip` is one."""

    def __call__(self, *, prompt: str, model: str, seconds: float, width: int, height: int) -> Clip:
        """Return the clip: `seconds` long, `width` x `height` pixels."""
        ...


Clips = Clip | ClipMaker
"""Fixed bytes for every job, or what makes them: called on the event loop, so it has to be quick."""


class Studio:
    """Owns the renderings under way, at most two at once; each job's clip is made once."""

    def __init__(self, clips: Clips | None) -> None:
        """Take clips from `clips`, or render real ones in worker threads."""
        self._clips = clips
        self._limiter = anyio.CapacityLimiter(_AT_ONCE)
        self._renderings: dict[asyncio.Task[None], anyio.CancelScope] = {}

    def begin(self, job: Job) -> None:
        """Make the clip of a job that is to have one."""
        if not job.succeeds:
            return
        if self._clips is None:
            scope = anyio.CancelScope()
            task = asyncio.create_task(self._render(job, scope))
            self._renderings[task] = scope
            task.add_done_callback(self._renderings.pop)
        else:
            job.clip = self._clips(**job.order) if callable(self._clips) else self._clips

    async def aclose(self) -> None:
        """Drop what has not begun, wait for what cannot be stopped."""
        for scope in self._renderings.values():
            scope.cancel()
        await asyncio.gather(*self._renderings)

    async def _render(self, job: Job, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                job.clip = await anyio.to_thread.run_sync(_rendered, job.order, limiter=self._limiter)
            except Exception:
                job.broken = True
                logger.exception("rendering the clip of job %s failed", job.queue_id)


def _rendered(order: Mapping[str, Any]) -> Clip:
    from .render import render_clip  # noqa: PLC0415 - PyAV is loaded when the first clip is rendered

    return render_clip(**order)
