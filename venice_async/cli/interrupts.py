"""Ctrl-C, SIGTERM and a terminal that is closed (SIGHUP): the first asks to stop, the second insists.

After the first, a paid request that is on its way comes to its answer. After the second the process ends
within a second, whatever is on its way: it was journalled before it was sent, so that nothing is forgotten.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, cast

import anyio
from anyio.abc import TaskStatus
from attrs import define

from . import exit_codes

if TYPE_CHECKING:
    from .screen.screen import Screen

_CLOSING: Final = 0.5  # seconds after the second signal in which what is open is closed as usual


@define(eq=False)
class Interrupts:
    """What a command does when it is asked to stop.

    Attributes:
        screen: its terminal.
        code: the exit code, once a signal has come.
        on_stop: called at the first signal instead of stopping at once, while there is work to hand over.
        on_insist: called at the second, before stopping at once.
        farewell: what is said when it stops at once.
    """

    screen: Screen
    code: int | None = None
    on_stop: Callable[[], object] | None = None
    on_insist: Callable[[], object] | None = None
    farewell: str = "Interrupted."

    async def guard(self, work: Callable[[], Awaitable[int]]) -> int:
        """Do `work` and return its exit code, or that of the signal that stopped it."""

        async def listen(*, task_status: TaskStatus[None]) -> None:
            heard = [signal.SIGINT, signal.SIGTERM]
            if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
                heard.append(signal.SIGHUP)  # what nohup starts ignores it
            with anyio.open_signal_receiver(*heard) as signals:
                task_status.started()
                async for number in signals:
                    first, self.code = self.code is None, 128 + number
                    if number == signal.SIGINT:
                        self.screen.end_line()
                    if first and self.on_stop is not None:
                        self.on_stop()
                        continue
                    if not first:
                        self.screen.wipe()
                        if self.on_insist is not None:
                            self.on_insist()
                        asyncio.get_running_loop().call_later(_CLOSING, os._exit, self.code)
                    scope.cancel()

        outcome: int | Exception | None = None
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                await group.start(listen)
                try:
                    outcome = await work()
                except Exception as error:  # noqa: BLE001 - it is raised once it is out of the group, which would wrap it
                    outcome = error
            group.cancel_scope.cancel()
        while isinstance(outcome, ExceptionGroup):  # of whichever task group: its first one is the reason
            outcome = cast("ExceptionGroup[Exception]", outcome).exceptions[0]
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:
            self.screen.insist(self.farewell)
            return self.code or exit_codes.INTERRUPTED
        return outcome
