"""Where a ration lives: what the pacer needs of a store, and the one that serves a single process."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Protocol

from ...options import Limits
from ...sansio.limits.ration import Grant, Ration, Wish, dump, load
from ..transport import Clock


def account_key(base_url: str, secret: str) -> str:
    """Return the name under which processes of one account find each other: a digest, not the secret."""
    return hashlib.sha256(f"{base_url}\0{secret}".encode()).hexdigest()[:32]


class Latest:
    """The value that we wrote last: as long as nobody else writes, it need not be read from its text."""

    def __init__(self) -> None:
        self._text: str | None = None
        self._ration: Ration | None = None

    def load(self, text: str) -> Ration | None:
        """Return what `load` makes of the text in the store; it may be changed, and is ours once only."""
        known, self._text = self._text, None
        return self._ration if text == known else load(text)

    def dump(self, ration: Ration) -> str:
        """Return the text to write."""
        self._text, self._ration = dump(ration), ration
        return self._text


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
