"""Where a ration lives: what the pacer needs of a store, and the one that serves a single process."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final, Protocol

from attrs import define, field

from ...options import Limits
from ...sansio.limits.ration import Grant, Ration, Wish, dump, load
from ..transport import Clock

_BACK: Final = 1.0  # seconds by which a clock that went back shows that it was set, or its machine restarted


def account_key(base_url: str, secret: str) -> str:
    """Return the name under which processes of one account find each other: a digest, not the secret."""
    return hashlib.sha256(f"{base_url}\0{secret}".encode()).hexdigest()[:32]


@define
class Row:
    """The ration of one account as text in a store. Each exchange is one transaction of the store.

    The value that we wrote last is kept: as long as nobody else writes, it need not be parsed.

    Attributes:
        limits: what a row that is not there, or is damaged, starts with.
    """

    limits: Limits
    _text: str | None = field(default=None, init=False)
    _ration: Ration | None = field(default=None, init=False)

    def exchange(self, text: str | None, wish: Wish, now: float) -> tuple[Grant, str]:
        """Return the grant, and the text to write in place of the one that was read.

        Raises:
            UnknownVersionError: another version of this library uses the row, which is to be left alone.
        """
        written, self._text = self._text, None  # until the exchange is through, it is not what is stored
        ration = None if text is None else self._ration if text == written else load(text)
        if ration is None or ration.latest > now + _BACK:
            ration = Ration.spent(self.limits, now)
        grant = ration.exchange(wish, now)
        self._text, self._ration = dump(ration), ration
        return grant, self._text


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
