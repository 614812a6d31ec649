"""A job as a future: await it, watch it, stop watching it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextvars import Context
from typing import Any, TypeAlias

import anyio

from .engine.spec import JobSpec
from .errors import UsageError, VeniceError
from .io.delivery.sinks import QueueSink
from .notebook import state_html
from .requests import VideoRequest
from .results import Ticket, Video
from .sansio.job.states import Failed, Saved, State, Stopped, Succeeded, ticket_of

Drive: TypeAlias = Callable[[Callable[[State], None]], Awaitable[State]]
"""Performs a job, telling every state, and returns the last one."""

log: logging.Logger = logging.getLogger(__name__)


class VideoJob:
    """One clip on its way: an awaitable future, driven by the client that started it.

    Await it as often and from as many tasks as you like: there is one driver. Cancelling or timing out a task
    that waits never cancels the job. A job that failed and was never awaited is logged.

    It can be passed to `asyncio.wait`, `gather`, `wait_for`, `shield`, `as_completed`, `ensure_future`, and
    has a future's `result`, `exception` and `add_done_callback`. `create_task` wants a coroutine, which is
    `job.wait()`: `asyncio.create_task(job.wait())`. A task group of anyio takes `job.wait`.
    """

    def __init__(
        self, spec: JobSpec, *, drive: Drive, on_state: Callable[[VideoJob, State], None] | None = None
    ) -> None:
        """Get ready; `VeniceClient` makes and starts jobs."""
        self._state: State = spec.start[0]
        self._ticket = ticket_of(self._state)
        self._spec = spec
        self._loop = asyncio.get_running_loop()
        self._scope = anyio.CancelScope()
        self._changed = anyio.Event()
        self._queued = anyio.Event()
        self._finished = anyio.Event()
        self._changes = 0
        self._error: BaseException | None = None
        self._observed = False
        self._started = False
        self._reason: VeniceError | None = None
        self._callbacks: list[tuple[Callable[[VideoJob], object], Context | None]] = []
        self._on_state = on_state
        self._drive: Drive | None = drive
        if self._ticket is not None:
            self._queued.set()

    @property
    def state(self) -> State:
        """The state at this moment, one of `venice_async`'s state classes."""
        return self._state

    @property
    def ticket(self) -> Ticket | None:
        """The claim check, once the job is queued and paid for."""
        return self._ticket

    @property
    def request(self) -> VideoRequest | None:
        """What was asked for; None for a job that was resumed from its ticket alone."""
        return self._spec.request

    def done(self) -> bool:
        """Tell whether the job has ended, however."""
        return self._finished.is_set()

    def cancelled(self) -> bool:
        """Tell whether the job ended by `cancel`, or by leaving its client early."""
        return self.done() and isinstance(self._state, Stopped)

    def cancel(self) -> bool:
        """Stop watching the job; return False if it has ended.

        Venice has no way to cancel: a queued job goes on and stays paid for, and its ticket stays good. While
        the paid request is on its way its answer is still awaited and journalled, then the job stops.
        """
        self._check_loop()
        if self.done():
            return False
        self._scope.cancel()
        return True

    def result(self) -> Video:
        """Return the clip of a job that is done, or raise what `wait` raises.

        Raises:
            asyncio.InvalidStateError: it is not done.
        """
        self._check_done()
        self._observed = True
        return self._result()

    def exception(self) -> BaseException | None:
        """Return the error of a job that is done; None for a clip.

        Raises:
            asyncio.InvalidStateError: it is not done.
            asyncio.CancelledError: it was cancelled.
        """
        self._check_done()
        self._observed = True
        if self.cancelled():
            self._result()
        return self._error

    def add_done_callback(
        self, callback: Callable[[VideoJob], object], *, context: Context | None = None
    ) -> None:
        """Have `callback(job)` called by the event loop once the job is done."""
        self._check_loop()
        if self.done():
            self._loop.call_soon(callback, self, context=context)
        else:
            self._callbacks.append((callback, context))

    def remove_done_callback(self, callback: Callable[[VideoJob], object]) -> int:
        """Take back every `add_done_callback` of `callback`, and return how many there were."""
        kept = [each for each in self._callbacks if each[0] != callback]
        removed = len(self._callbacks) - len(kept)
        self._callbacks = kept
        return removed

    def __await__(self) -> Generator[Any, Any, Video]:
        """Wait for the clip; see `wait`."""
        return self.wait().__await__()

    async def wait(self) -> Video:
        """Wait for the clip and return it. Cancelling this call does not cancel the job.

        Raises:
            UsageError: the job has no destination, and nobody has begun to read its clip with `stream`.
            VeniceError: there is no clip; `.ticket` is there if the job was queued.
            asyncio.CancelledError: the job was cancelled.
        """
        self._check_loop()
        if isinstance(self._spec.to, QueueSink) and not self._spec.to.begun and not self.done():
            if not self._started:
                self.cancel()  # before anything is paid for
            msg = "This job has no destination, and nobody reads its clip"
            raise UsageError(
                msg, hint="Read it: 'async for chunk in job.stream()'; or start the job with to="
            )
        self._observed = True
        await self._finished.wait()
        return self._result()

    async def queued(self) -> Ticket:
        """Wait until the job is queued and paid for, and return its ticket.

        Raises:
            VeniceError: it was not queued.
            asyncio.CancelledError: the job was cancelled before.
        """
        self._check_loop()
        self._observed = True
        await self._queued.wait()
        if self._ticket is None:
            self._result()
        assert self._ticket is not None  # noqa: S101 - a job without a ticket has an error, which was raised
        return self._ticket

    async def ended(self) -> None:
        """Wait until the job has ended, however it did; how is in `state`."""
        self._check_loop()
        await self._finished.wait()

    async def stream(self) -> AsyncGenerator[bytes]:
        """Yield the clip as it comes, for a job that was started without a destination; read it once.

        A slow reader slows the delivery down; a delivery that is cut goes on where it was, and if it cannot,
        the error says how many bytes were handed on. What was yielded is a verified clip only if this ends
        normally. The server's copy is deleted once the reader has come back from the last chunk, so a reader
        that fails or stops loses nothing: `resume` the ticket. A clip that nobody begins to read is given up
        after a minute.

        Raises:
            UsageError: the job has a destination of its own, or its clip is being read, or was.
            VeniceError: there is no whole clip.
            asyncio.CancelledError: the job was cancelled.
        """
        self._check_loop()
        if not isinstance(self._spec.to, QueueSink):
            msg = "This job has a destination of its own"
            raise UsageError(msg, hint="Start the job with venice.stream(request) to read its clip")
        if self._spec.to.begun:
            msg = "The clip of this job is being read, or was"
            raise UsageError(msg, hint="Read a stream once; resume(ticket, to=...) fetches the clip again")
        self._observed = True
        sink = self._spec.to
        try:
            async for chunk in sink:
                yield chunk
        finally:
            await sink.aclose()
        await self.wait()

    async def updates(self) -> AsyncGenerator[State]:
        """Yield the state now and whenever it changes; the last one is where the job ended.

        Several tasks may read at once. A slow reader misses states in between, never the last one. How the
        job ended is a state here, not an exception.
        """
        self._check_loop()
        seen = -1
        while True:
            changed = self._changed
            if seen != self._changes:
                seen = self._changes
                self._observed |= self.done()
                yield self._state
            elif self.done():
                return
            else:
                await changed.wait()

    def __repr__(self) -> str:
        """Show the job and where it stands."""
        name = self._ticket.queue_id if self._ticket else "not queued"
        return f"<VideoJob {name}: {type(self._state).__name__}>"

    def _repr_html_(self) -> str:
        """Show where the job stands, in a notebook."""
        return state_html(self._state)

    def __del__(self) -> None:
        """Log a failure that nobody looked at."""
        if getattr(self, "_error", None) is not None:
            self.log_if_unseen()

    async def run(self) -> None:
        """Drive the job to its end; the client calls this once. It never raises but for cancellation."""
        assert self._drive is not None  # noqa: S101 - called once
        self._started = True
        try:
            with self._scope:
                self._finish(await self._drive(self._publish), None)
        except Exception as error:
            log.exception("Job %r ended by a mistake in this library", self)
            self._finish(Failed(error=VeniceError(f"Internal error: {type(error).__name__}")), error)
        finally:
            self.give_up()

    def withdraw(self, reason: VeniceError) -> None:
        """Stop a job that is not paid for: it fails for `reason`, or is cancelled if it is paid."""
        self._reason = reason
        self._scope.cancel()

    def give_up(self) -> None:
        """End, if it has not ended: nobody drives it any longer."""
        if self.done():
            return
        if isinstance(self._state, Saved):
            self._finish(Succeeded(video=self._state.video), None)
        elif self._reason is not None and self._ticket is None:
            self._finish(Failed(error=self._reason), None)
        else:
            self._finish(Stopped(ticket=self._ticket), None)

    def log_if_unseen(self) -> None:
        """Log a failure that nobody awaited, once."""
        if self._error is not None and not self._observed:
            self._observed = True
            log.error("A job failed and was never awaited: %s: %s", type(self._error).__name__, self._error)

    def _publish(self, state: State) -> None:
        if state == self._state and self._changes:
            return
        self._state = state
        self._ticket = ticket_of(state) or self._ticket
        self._changes += 1
        self._changed.set()
        self._changed = anyio.Event()
        if self._ticket is not None:
            self._queued.set()
        if self._on_state is not None:
            self._tell(self._on_state, state)

    def _tell(self, on_state: Callable[[VideoJob, State], None], state: State) -> None:
        try:
            on_state(self, state)
        except Exception:
            log.exception("on_state failed for %r", self)

    def _finish(self, state: State, error: BaseException | None) -> None:
        self._error = error or (state.error if isinstance(state, Failed) else None)
        self._drive = None
        self._finished.set()
        self._queued.set()
        if state is not self._state:
            self._publish(state)
        self._changed.set()
        callbacks, self._callbacks = self._callbacks, []
        for callback, context in callbacks:
            self._loop.call_soon(callback, self, context=context)

    def _check_done(self) -> None:
        if not self.done():
            msg = "The job is not done"
            raise asyncio.InvalidStateError(msg)

    def _result(self) -> Video:
        if isinstance(self._state, Succeeded):
            return self._state.video
        if self._error is not None:
            raise self._error.with_traceback(None)
        name = self._ticket.queue_id if self._ticket else "none was queued"
        msg = f"The job was cancelled ({name})"
        raise asyncio.CancelledError(msg)

    def _check_loop(self) -> None:
        if running_loop() is not self._loop:
            msg = "A job belongs to the event loop it was started on"
            raise UsageError(msg, hint="Keep its ticket, and resume it with a client of this loop")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
