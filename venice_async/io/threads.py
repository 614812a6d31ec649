"""Worker threads for the disk, apart from those of the program.

The program's may all be at work, or wait for a person; a clip must reach the disk meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")

_AT_ONCE: Final = 8  # a disk gains little by more, and each costs the memory and time of a thread

_limiter: RunVar[CapacityLimiter] = RunVar("venice_async.io.threads")


async def in_thread(work: Callable[[*_Arguments], _T], *arguments: *_Arguments) -> _T:
    """Return what `work` does in a thread. A cancellation goes on only after it."""
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = CapacityLimiter(_AT_ONCE)
        _limiter.set(limiter)
    return await to_thread.run_sync(work, *arguments, limiter=limiter)
