"""An event loop with virtual time, over real sockets and real worker threads: hours pass in milliseconds.

A timer is never waited for: when nothing is left to do, the clock jumps to it. Sockets and threads stay
real, so "nothing to do" means all of this at once:

* No callback is ready: the loop asks its selector to wait, not only to look.
* No byte within this process is on its way.
* No worker thread of the loop is busy. It is busy from before it starts until the loop has taken its result;
  the loop's own thread sets and clears the marks of both, so it cannot miss an edge.

Until then the clock stands still, however long that takes: a slow machine sees no timeout that a fast one
would not. Two kinds of program would stand still for ever: a task that spins until a deadline, and a thread
that itself waits for the clock. They are told by turns and looks, not by seconds, and for them it crawls.

    anyio.run(main, backend_options={"loop_factory": VirtualTimeLoop})
"""

from __future__ import annotations

import asyncio
import queue
import selectors
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Executor, Future
    from types import FrameType
    from typing import TypeVarTuple

    Arguments = TypeVarTuple("Arguments")

Result = TypeVar("Result")
Ready = list[tuple[selectors.SelectorKey, int]]

START = 1_000.0
"""Seconds on a new loop's clock; not 0, which much code takes for "never"."""

GLANCES = 3
"""Looks at the sockets before a jump; one would do where sending delivers, as on Linux's loopback."""

SETTLING = 0.000_2
"""Real seconds given to other threads before the first jump after a socket was ready."""

THREAD_GLANCE = 0.001
"""Real seconds of a look at busy worker threads; a result ends it sooner."""

PATIENCE = 2_000
"""Looks in a row that must find a thread waiting before it is held to wait for the clock."""

WORKING = 60_000
"""Looks in a row at threads that work, with nothing else going on, before the clock goes on without them."""

SPINNING = 100_000
"""Turns of the loop without a wait before a task is held to spin until a deadline."""

CRAWL = 0.01
"""Seconds that the clock moves in each turn for a task that spins."""


_WAITS = {"wait", "join", "_wait_for_tstate_lock"}


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that skips every wait in which nothing of this process happens.

    It knows its own sockets and the threads of `anyio.to_thread` and `run_in_executor`; anything else, like
    another process or a server in another thread, is waited for within `real_time()`. Without a timer to jump
    to it blocks, as any loop does. A thread that itself waits for the clock is served after `PATIENCE`.
    """

    def __init__(self) -> None:
        """Start a clock of its own at `START`."""
        self._errands: list[tuple[asyncio.Future[Any], Future[Any]]] = []
        self._jumping = _JumpingSelector(busy=self._is_busy, waiting=self._has_waiting_thread)
        super().__init__(self._jumping)
        self.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))

    def time(self) -> float:
        """Return the virtual time in seconds, which never goes back."""
        return self._jumping.time()

    def real_time(self) -> AbstractContextManager[None]:
        """Let time run at its real pace within a block, for all tasks of the loop; blocks may overlap."""
        return self._jumping.real_time()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], Result], *args: *Arguments
    ) -> asyncio.Future[Result]:
        """Run `func` in the executor; the clock stops until it has ended and its result is there."""
        if self.is_closed():
            raise RuntimeError("Event loop is closed")  # noqa: EM101, TRY003 - as asyncio says it
        work = (executor or self._threads).submit(func, *args)
        errand = asyncio.wrap_future(work, loop=self)
        self._errands.append((errand, work))  # both: work that began goes on when its errand is cancelled
        return errand

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:  # type: ignore[override]
        """Use `executor` where none is named."""
        super().set_default_executor(executor)
        self._threads: Executor = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the base's signature
        """Wait in real time until the default executor's threads have ended."""
        with self.real_time():
            await asyncio.wait_for(super().shutdown_default_executor(), timeout)

    def _is_busy(self) -> bool:
        self._errands = [pair for pair in self._errands if not all(end.done() for end in pair)]
        return bool(self._errands) or any(_works_for(self, thread) for thread in threading.enumerate())

    def _has_waiting_thread(self) -> bool:
        """Tell whether work of ours waits for another thread, such as the loop's."""
        ours = [thread for thread in threading.enumerate() if _works_for(self, thread) or _serves(thread)]
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage] - its documented name
        return any(_waits(frames[thread.ident]) for thread in ours if thread.ident in frames)


def real_time() -> AbstractContextManager[None]:
    """Let time run at its real pace within a block, whatever kind of loop is running."""
    loop = asyncio.get_running_loop()
    return loop.real_time() if isinstance(loop, VirtualTimeLoop) else nullcontext()


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that owns the clock, and moves it instead of waiting."""

    def __init__(self, *, busy: Callable[[], bool], waiting: Callable[[], bool]) -> None:
        super().__init__()
        self._busy = busy
        self._waiting = waiting
        self._now = START
        self._turns = self._looks = self._waits = 0
        self._lively = False
        self._real_blocks = 0
        self._looked = 0.0

    def time(self) -> float:
        if self._real_blocks:
            looked, self._looked = self._looked, time.monotonic()
            self._now += self._looked - looked
        return self._now

    @contextmanager
    def real_time(self) -> Generator[None]:
        self.time()
        self._looked = time.monotonic()
        self._real_blocks += 1
        try:
            yield
        finally:
            self.time()
            self._real_blocks -= 1

    def select(self, timeout: float | None = None) -> Ready:
        """Return what is ready; wait in reality only for what the clock must not overtake."""
        if self._real_blocks:
            return super().select(timeout)
        ready = super().select(0)
        self._lively = self._lively or bool(ready)
        self._turns += 1
        if ready or (timeout is not None and timeout <= 0):
            if self._turns > SPINNING and (not self._busy() or self._waiting()):
                self._now += CRAWL
            return ready
        if timeout is None:
            return super().select(None)
        return self._look(timeout) if self._busy() else self._settle() or self._jump(timeout)

    def _look(self, timeout: float) -> Ready:
        """Give busy threads their time; the clock does not move, unless it never would again."""
        self._turns = 0
        if ready := super().select(min(timeout, THREAD_GLANCE)):
            self._looks = 0
            return ready
        self._looks += 1
        self._waits = self._waits + 1 if self._waiting() else 0
        # A thread may have posted its result since, and wait for more: then the result has woken us.
        if (self._waits > PATIENCE or self._looks > WORKING) and not (ready := super().select(0)):
            self._now += min(timeout, THREAD_GLANCE)
        return ready

    def _settle(self) -> Ready:
        if self._lively:
            time.sleep(SETTLING)
            self._lively = False
        for _ in range(GLANCES):
            if ready := super().select(0):
                return ready
        return []

    def _jump(self, seconds: float) -> Ready:
        self._now += seconds
        self._turns = self._looks = self._waits = 0
        return []


def _works_for(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> bool:
    """Tell whether `thread` is an anyio worker of `loop` that has something to do.

    anyio has no public word for it: the default limiter misses work that brings its own. The worker knows its
    loop and, in a deque that only the loop's thread changes, which workers are idle.
    """
    return getattr(thread, "loop", None) is loop and thread not in getattr(thread, "idle_workers", ())


def _serves(thread: threading.Thread) -> bool:
    """Tell whether `thread` is of an executor that asyncio made, or of a client's."""
    return thread.name.startswith(("asyncio_", "venice_async_"))


def _waits(frame: FrameType) -> bool:
    """Tell whether a thread's work waits for another thread; a worker that waits for more does not."""
    if frame.f_code.co_filename != threading.__file__ or frame.f_code.co_name not in _WAITS:
        return False
    caller: FrameType | None = frame
    while caller and caller.f_code.co_filename in {threading.__file__, queue.__file__}:
        caller = caller.f_back
    return caller is not None and not (
        caller.f_code.co_name == "run" and caller.f_globals.get("__name__") == "anyio._backends._asyncio"
    )
