"""Several resumed jobs at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio

from ..errors import QueueOutcomeUnknownError, VeniceError
from . import exits
from .exits import exit_code
from .failures import as_json, report
from .running import succeeded_json
from .screen.board import Board, drawn
from .tickets import resumable

if TYPE_CHECKING:
    from ..job import VideoJob
    from .connection import Session
    from .interrupts import Interrupts
    from .screen.screen import Screen


class Several:
    """Watches jobs for the person at the terminal until all have ended."""

    def __init__(self, session: Session, screen: Screen, interrupts: Interrupts) -> None:
        """Watch jobs of `session`."""
        self._session = session
        self._screen = screen
        self._interrupts = interrupts
        self._codes: list[int] = []

    async def watch(self, jobs: Sequence[VideoJob]) -> int:
        """Show the jobs until all have ended; return the exit code: the first that is not 0."""
        running = dict(enumerate(jobs))
        board = Board(running, total=len(jobs), queues=False)
        self._interrupts.on_stop = lambda: [job.cancel() for job in jobs]
        with drawn(self._screen, board):
            async with anyio.create_task_group() as group:
                for index, job in enumerate(jobs):
                    group.start_soon(self._one, index, job, running, board)
        self._interrupts.on_stop = None
        if self._interrupts.code is not None:
            self._screen.insist(f"Stopped watching. Resume: {self._session.again('resume', '--all')}")
            return self._interrupts.code
        return next((code for code in self._codes if code), exits.OK)

    async def _one(self, index: int, job: VideoJob, running: dict[int, VideoJob], board: Board) -> None:
        async for state in job.updates():
            board.heard(job, state)
        running.pop(index, None)
        if job.cancelled():
            return
        try:
            video = await job
        except VeniceError as error:
            board.failed += 1
            self._codes.append(self._failed(error))
            return
        board.done += 1
        self._codes.append(exits.OK)
        if self._screen.as_json:
            self._screen.emit(succeeded_json(video))
        else:
            self._screen.path(video.path)

    def _failed(self, error: VeniceError) -> int:
        if self._screen.as_json:
            self._screen.emit(as_json(error))
            return exit_code(error)
        code = report(self._screen, error)
        if resumable(error) and not isinstance(error, QueueOutcomeUnknownError):
            self._screen.insist(f"Resume: {self._session.again('resume', '--all')}")
        return code
