"""Where a ration lives: what the pacer needs of a store, and the one that serves a single process."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Protocol

from ...options import Limits
from ...sansio.limits.ration import Grant, Ration, Wish
from ..transport import Clock


def account_key(base_url: str, secret: str) -> str:
    """Return the name under which processes of one account find each other: a digest, not the secret."""
    return hashlib.sha256(f"{base_url}\0{secret}".encode()).hexdigest()[:32]


class RationStore(Protocol):
    """Holds the ration of one account, and exchanges with it under a lock, by a clock of its own."""

    @property
    def shared(self) -> bool:
        """Whether other processes may use the same ration."""
        ...

    def exchange(self, wish: Wish) -> asyncio.Future[Grant]:
        """Exchange a wish for a grant, atomically; the future may be done already.

        It raises whatever keeps the store from doing so. Then nothing was granted, or the next wish tells
        that the turns were never received.
        """
        ...

    async def aclose(self) -> None:
        """Give up what is held."""
        ...


class MemoryRation:
    """The ration of a process that is alone: nothing is awaited."""

    shared = False

    def __init__(self, limits: Limits, clock: Clock) -> None:
        """Start with `limits`, which the answers' headers correct."""
        self._ration = Ration(limits, one_clock=True)
        self._clock = clock

    def exchange(self, wish: Wish) -> asyncio.Future[Grant]:
        """Exchange a wish for a grant, at once."""
        done: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        done.set_result(self._ration.exchange(wish, self._clock.monotonic()))
        return done

    async def aclose(self) -> None:
        """Do nothing."""
