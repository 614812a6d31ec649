"""A job as a future: await it, watch it, stop watching it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextvars import Context
from importlib import import_module
from typing import Any, Final

import anyio

from .engine.driver import Driver
from .errors import UsageError, VeniceError
from .io.delivery.sinks import QueueSink
from .notebook import state_html
from .requests import VideoRequest
from .results import Ticket, Video
from .sansio.job.states import TERMINAL, Failed, State, Stopped, Succeeded, ticket_of
from .sansio.naming import own_key

log: logging.Logger = logging.getLogger(__name__)

_REDRAWN: Final = 0.5  # seconds at least between two pictures of a job
_redrawing: set[asyncio.Task[None]] = set()  # the event loop holds tasks weakly


class VideoJob:
    """One clip on its way: an awaitable future, driven by the client that started it.

    Await it as often and from as many tasks as you like: there is one driver. Cancelling or timing out a task
    that waits never cancels the job. A job that failed and was never awaited is logged.

    It can be passed to `asyncio.wait`, `gather`, `wait_for`, `shield`, `as_completed`, `ensure_future`, and
    has a future's `result`, `exception` and `add_done_callback`. `create_task` wants a coroutine, which is
    `job.wait()`: `asyncio.create_task(job.wait())`. A task group of anyio takes `job.wait`.
    """

    def __init__(
        self, driver: Driver, *, on_state: Callable[[VideoJob, State], object] | None = None
    ) -> None:
        """Watch `driver`; `VeniceClient` makes and starts jobs."""
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()  # a new one for each state
        self._ended = asyncio.Event()  # set with the last state
        self._observed = False
        self._callbacks: list[tuple[Callable[[VideoJob], object], Context | None]] = []
        self._on_state = on_state
        driver.on_change = self._notify

    @property
    def state(self) -> State:
        """The state at this moment, one of `venice_async`'s state classes."""
        return self._driver.state

    @property
    def ticket(self) -> Ticket | None:
        """The claim check, once the job is queued and paid for."""
        return ticket_of(self.state)

    @property
    def request(self) -> VideoRequest | None:
        """What was asked for; None for a job that was resumed from its ticket alone."""
        return self._driver.spec.request

    @property
    def key(self) -> str | None:
        """What names the order, as passed to `generate`; in a batch, its name in the journal."""
        return self._driver.spec.key

    @property
    def tags(self) -> Mapping[str, str]:
        """What was noted about the job when it was started."""
        return self._driver.spec.tags

    def done(self) -> bool:
        """Tell whether the job has ended, however."""
        return isinstance(self.state, TERMINAL)

    def cancelled(self) -> bool:
        """Tell whether the job ended by `cancel`, or by leaving its client early."""
        return isinstance(self.state, Stopped)

    def cancelling(self) -> bool:
        """Tell whether the job was asked to stop, and has not ended yet."""
        return self._driver.stopping and not self.done()

    def cancel(self) -> bool:
        """Stop watching the job; return False if it has ended.

        Venice has no way to cancel: a queued job goes on and stays paid for, and its ticket stays good. While
        the paid request is on its way its answer is still awaited and journalled, then the job stops.
        """
        self._check_loop()
        if self.done():
            return False
        self._driver.stop()
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
        return self.state.error if isinstance(self.state, Failed) else None

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
        sink = self._driver.spec.to
        if isinstance(sink, QueueSink) and not sink.begun and not self.done():
            if not self._driver.begun:
                self.cancel()  # before anything is paid for
            msg = "This job has no destination, and nobody reads its clip"
            raise UsageError(
                msg, hint="Read it: 'async for chunk in job.stream()'; or start the job with to="
            )
        self._observed = True
        await self.ended()
        return self._result()

    async def queued(self) -> Ticket:
        """Wait until the job is queued and paid for, and return its ticket.

        Raises:
            VeniceError: it was not queued.
            asyncio.CancelledError: the job was cancelled before.
        """
        self._check_loop()
        self._observed = True
        while (ticket := self.ticket) is None:
            if self.done():
                self._result()
            await self._changed.wait()
        return ticket

    async def ended(self) -> None:
        """Wait until the job has ended, and raise nothing: `state` says how it ended."""
        self._check_loop()
        if not self.done():
            await self._ended.wait()

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
        sink = self._driver.spec.to
        if not isinstance(sink, QueueSink):
            msg = "This job has a destination of its own"
            raise UsageError(msg, hint="Start the job with venice.stream(request) to read its clip")
        if sink.begun:
            msg = "The clip of this job is being read, or was"
            raise UsageError(msg, hint="Read a stream once; resume(ticket, to=...) fetches the clip again")
        self._observed = True
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
        seen: asyncio.Event | None = None
        while True:
            changed = self._changed
            if seen is not changed:
                seen = changed
                self._observed |= self.done()
                yield self.state
            elif self.done():
                return
            else:
                await changed.wait()

    def __repr__(self) -> str:
        name = self.ticket.queue_id if self.ticket else "not queued"
        key = own_key(self.key)
        return f"<VideoJob {name}{f' key={key!r}' if key else ''}: {type(self.state).__name__}>"

    def _repr_html_(self) -> str:
        """Show where the job stands, in a notebook."""
        return state_html(self.state)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """Show where the job stands, in a notebook or a terminal."""
        return {"text/html": self._repr_html_(), "text/plain": repr(self)}

    def _ipython_display_(self) -> None:
        """Show the job in a cell, and redraw it there until it has ended; IPython calls it."""
        ipython: Any = import_module("IPython")
        display: Any = import_module("IPython.display")
        handle = display.display(self._repr_mimebundle_(), raw=True, display_id=True)
        in_terminal = type(ipython.get_ipython()).__name__ == "TerminalInteractiveShell"  # it only adds lines

        async def redraw() -> None:
            async for _ in self.updates():
                handle.update(self._repr_mimebundle_(), raw=True)
                await anyio.sleep(0 if self.done() else _REDRAWN)

        if handle is not None and not in_terminal and not self.done() and running_loop() is self._loop:
            # Not in the context of this cell: an export takes no news of a cell that has ended.
            task = self._loop.create_task(redraw(), context=Context())
            _redrawing.add(task)
            task.add_done_callback(_redrawing.discard)

    def __del__(self) -> None:
        """Log a failure that nobody looked at."""
        if hasattr(self, "_driver"):
            self.log_if_unseen()

    def withdraw(self, reason: VeniceError) -> None:
        """Stop a job that is not paid for: it fails for `reason`, or is cancelled if it is paid."""
        self._driver.stop(reason)

    def log_if_unseen(self) -> None:
        """Log a failure that nobody awaited, once."""
        if isinstance(self.state, Failed) and not self._observed:
            self._observed = True
            error = self.state.error
            log.error("A job failed and was never awaited: %r: %s: %s", self, type(error).__name__, error)

    def _notify(self, state: State) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if self._on_state is not None:
            try:
                self._on_state(self, state)
            except (Exception, asyncio.CancelledError):
                log.exception("on_state failed for %r", self)
        if isinstance(state, TERMINAL):
            self._ended.set()
            callbacks, self._callbacks = self._callbacks, []
            for callback, context in callbacks:
                self._loop.call_soon(callback, self, context=context)

    def _check_done(self) -> None:
        if not self.done():
            msg = "The job is not done"
            raise asyncio.InvalidStateError(msg)

    def _result(self) -> Video:
        match self.state:
            case Succeeded(video=video):
                return video
            case Failed(error=error):
                raise error.with_traceback(None)
            case _:
                name = self.ticket.queue_id if self.ticket else "none was queued"
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
