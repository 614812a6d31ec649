"""Renders clips in worker threads."""

from __future__ import annotations

import asyncio
import logging

import anyio
import anyio.to_thread

from ..jobs import Job
from .media import Clips

logger: logging.Logger = logging.getLogger(__name__)


class ClipRenderer:
    """Makes each job's clip once, when it is first requested; at most two are rendered at a time."""

    def __init__(self, clips: Clips | None) -> None:
        """Take clips from `clips`, or render real ones in worker threads."""
        self._clips = clips
        self._turns = anyio.Semaphore(2)
        self._renderings: dict[Job, asyncio.Task[None]] = {}
        self._closing = False

    async def make(self, job: Job) -> None:
        """Wait until the clip of a job that is to have one is made, or cannot be made."""
        if job.clip is not None or not job.succeeds:
            return
        if self._clips is not None:
            job.clip = self._clips(**job.order()) if callable(self._clips) else self._clips
            return
        if job not in self._renderings:
            self._renderings[job] = asyncio.create_task(self._render(job))
        await asyncio.shield(self._renderings[job])  # the client may disconnect

    async def aclose(self) -> None:
        """Drop queued renderings, and wait for the running ones."""
        self._closing = True
        await asyncio.gather(*self._renderings.values())

    async def _render(self, job: Job) -> None:
        async with self._turns:
            if self._closing:
                return

            def rendered() -> bytes:
                from .render import render_clip  # noqa: PLC0415 - loads PyAV, which takes its time

                return render_clip(**job.order())

            try:
                job.clip = await anyio.to_thread.run_sync(rendered)
            except Exception:
                job.broken = True
                logger.exception("rendering the clip of job %s failed", job.queue_id)
