"""Ctrl-C and SIGTERM: the first asks to stop, the second insists."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskStatus

from . import exits

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
        self._scope = anyio.CancelScope()

    async def guard(self, work: Callable[[], Awaitable[int]]) -> int:
        """Do `work` and return its exit code, or that of the signal that stopped it."""
        outcome: int | Exception | None = None
        async with anyio.create_task_group() as group:
            await group.start(self._listen)
            with self._scope:
                outcome = await _outcome(work)
            group.cancel_scope.cancel()
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:
            self._say(self.farewell)
        return self.code or exits.INTERRUPTED if outcome is None else outcome

    async def _listen(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(*_SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                self._received(number)

    def _received(self, number: signal.Signals) -> None:
        insists, self.code = self.code is not None, 128 + number
        if not insists and self.on_stop is not None:
            self.on_stop()
            return
        if insists and self.on_insist is not None:
            self.on_insist()
        self._scope.cancel()


async def _outcome(work: Callable[[], Awaitable[int]]) -> int | Exception:
    """Return an error instead of raising it, so that no task group wraps it."""
    try:
        return await work()
    except Exception as error:  # noqa: BLE001 - it is raised again, once it is out of the group
        return error
