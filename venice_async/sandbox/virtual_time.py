"""An event loop with virtual time, over real sockets and real worker threads: hours pass in milliseconds.

A timer is never waited for: when nothing is left to do, the clock jumps to it. Sockets and threads stay
real, so "nothing to do" means that no byte within this process is on its way and no worker thread of the
loop is busy. Until then the clock stands still: a slow machine sees no timeout that a fast one would not.

    anyio.run(main, backend_options={"loop_factory": VirtualTimeLoop})
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import threading
import time
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from concurrent.futures import Executor
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
"""Real seconds between two looks at busy worker threads; a result wakes the loop sooner."""

PATIENCE = 2.0
"""Real seconds that the clock stands still for a task that spins or a thread that waits: for it, perhaps."""

WORKING = 60.0
"""Real seconds that it stands still for threads that work, however slow the machine is."""

CRAWL = 0.01
"""Most seconds that the clock then moves per look: a machine that hiccups is not a thread that waits."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that skips every wait in which nothing of this process happens.

    It knows its own sockets and the threads of `anyio.to_thread` and `run_in_executor`; anything else, like
    another process or a server in another thread, is waited for within `real_time()`. Without a timer to jump
    to it blocks, as any loop does. A thread that itself waits for the clock is served after `PATIENCE`.
    """

    def __init__(self) -> None:
        """Start a clock of its own at `START`."""
        self._errands: set[asyncio.Future[Any]] = set()
        self._jumping = _JumpingSelector(busy=self._is_busy, working=self._is_working)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time in seconds, which never goes back."""
        return self._jumping.time()

    def real_time(self) -> AbstractContextManager[None]:
        """Let time run at its real pace within a block, for all tasks of the loop; blocks may overlap."""
        return self._jumping.real_time()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], Result], *args: *Arguments
    ) -> asyncio.Future[Result]:
        """Run `func` in the executor; the clock stops until its result is there."""
        errand = super().run_in_executor(executor, func, *args)
        self._errands.add(errand)
        errand.add_done_callback(self._errands.discard)
        return errand

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the base's signature
        """Wait in real time until the default executor's threads have ended."""
        with self.real_time():
            await asyncio.wait_for(super().shutdown_default_executor(), timeout)

    def _is_busy(self) -> bool:
        errands = any(not errand.done() for errand in self._errands)
        return errands or any(_works_for(self, thread) for thread in threading.enumerate())

    def _is_working(self) -> bool:
        """Tell whether no busy thread waits for another thread, such as the loop's."""
        ours = [thread for thread in threading.enumerate() if _works_for(self, thread) or _serves(thread)]
        frames = sys._current_frames()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - its documented name
        return not any(_waits(frames[thread.ident]) for thread in ours if thread.ident in frames)


def real_time() -> AbstractContextManager[None]:
    """Let time run at its real pace within a block, whatever kind of loop is running."""
    loop = asyncio.get_running_loop()
    return loop.real_time() if isinstance(loop, VirtualTimeLoop) else nullcontext()


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that owns the clock, and moves it instead of waiting."""

    def __init__(self, *, busy: Callable[[], bool], working: Callable[[], bool]) -> None:
        super().__init__()
        self._busy = busy
        self._working = working
        self._now = START
        self._still = 0.0
        self._worked = 0.0
        self._for_threads = False
        self._looked = time.monotonic()
        self._lively = False
        self._real_blocks = 0

    def time(self) -> float:
        if self._real_blocks:
            self._run_on(most=float("inf"))
        return self._now

    @contextmanager
    def real_time(self) -> Generator[None]:
        self._look()
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
        self._creep()
        if ready or (timeout is not None and timeout <= 0):
            return ready
        return self._wait(timeout)

    def _wait(self, timeout: float | None) -> Ready:
        if timeout is None:
            ready = super().select(None)
            self._look()
            return ready
        if self._busy():
            self._for_threads = True
            return super().select(min(timeout, THREAD_GLANCE))
        return self._settle() or self._jump(timeout)

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
        self._still = self._worked = 0.0
        return []

    def _creep(self) -> None:
        """Move at the real pace once the clock has stopped for too long."""
        passed = min(self._look(), CRAWL)
        if self._for_threads:
            self._for_threads = False
            self._worked += passed
            # A thread that has ended its work waits for more; then its result has woken us.
            too_long = self._worked > PATIENCE and not (self._is_work() or super().select(0))
        else:
            self._still += passed
            too_long = self._still > PATIENCE
        self._now += passed if too_long else 0.0

    def _is_work(self) -> bool:
        return self._worked <= WORKING and self._working()

    def _run_on(self, *, most: float) -> float:
        passed = min(self._look(), most)
        self._now += passed
        return passed

    def _look(self) -> float:
        """Return the real seconds since the last look."""
        looked, self._looked = self._looked, time.monotonic()
        return self._looked - looked


def _works_for(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> bool:
    """Tell whether `thread` is an anyio worker of `loop` that has something to do.

    anyio has no public word for it: the default limiter misses work that brings its own. The worker knows its
    loop and, in a deque that only the loop's thread changes, which workers are idle.
    """
    return getattr(thread, "loop", None) is loop and thread not in getattr(thread, "idle_workers", ())


def _serves(thread: threading.Thread) -> bool:
    """Tell whether `thread` is of an executor that asyncio made."""
    return thread.name.startswith("asyncio_")


def _waits(frame: FrameType) -> bool:
    code = frame.f_code
    return code.co_filename == threading.__file__ and "bootstrap" not in code.co_name
