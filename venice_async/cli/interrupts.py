"""Ctrl-C and SIGTERM: the first asks to stop, the second insists."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskStatus

from . import exit_codes

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """What a command does when it is asked to stop.

    Attributes:
        code: the exit code, once a signal has come.
        on_stop: called at the first signal instead of stopping at once, while there is work to hand over.
        on_insist: called at the second, before stopping at once.
        farewell: what is said when it stops at once.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        """Stop at once, until told otherwise; `say` is for a farewell."""
        self._say = say
        self.farewell = "Interrupted."
        self.code: int | None = None
        self.on_stop: Callable[[], object] | None = None
        self.on_insist: Callable[[], object] | None = None

    async def guard(self, work: Callable[[], Awaitable[int]]) -> int:
        """Do `work` and return its exit code, or that of the signal that stopped it."""
        outcome: int | Exception | None = None
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                await group.start(self._listen, scope)
                try:
                    outcome = await work()
                except Exception as error:  # noqa: BLE001 - it is raised once it is out of the group, which would wrap it
                    outcome = error
            group.cancel_scope.cancel()
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:
            self._say(self.farewell)
            return self.code or exit_codes.INTERRUPTED
        return outcome

    async def _listen(self, scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(*_SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                first, self.code = self.code is None, 128 + number
                if first and self.on_stop is not None:
                    self.on_stop()
                    continue
                if not first and self.on_insist is not None:
                    self.on_insist()
                scope.cancel()
