"""How many requests may be on their way at once in this process, whichever clients and loops send them."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final
from weakref import WeakKeyDictionary


class Slots:
    """So many at once. Whoever found too few is called in its own event loop once another gives one back."""

    def __init__(self, most: float = math.inf) -> None:
        """Start with all of them free."""
        self._most = most
        self._taken = 0
        self._lock = threading.Lock()
        self._users: WeakKeyDictionary[object, tuple[asyncio.AbstractEventLoop, Callable[[], None]]]
        self._users = WeakKeyDictionary()

    @property
    def free(self) -> float:
        """How many are free."""
        return self._most - self._taken

    def join(self, user: object, look: Callable[[], None]) -> None:
        """Have `look` called in the running event loop when another user gives one back."""
        with self._lock:
            self._users[user] = asyncio.get_running_loop(), look

    def leave(self, user: object) -> None:
        """Call it no more."""
        with self._lock:
            self._users.pop(user, None)

    def take(self, count: float) -> int:
        """Take at most so many, and return how many."""
        with self._lock:
            taken = int(max(0, min(count, self.free)))
            self._taken += taken
        return taken

    def give_back(self, user: object, count: int = 1) -> None:
        """Give some back; the `user` itself is not called."""
        with self._lock:
            self._taken -= count
            others = [known for other, known in self._users.items() if other is not user]
        for loop, look in others:
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(look)

    def reset(self) -> None:
        """Begin anew in a child that was forked: what is on its way is the parent's."""
        self.__init__(self._most)  # type: ignore[misc]


PAID: Final = Slots(4)
"""Paid requests: each is an unknown outcome if the process is killed just then."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PAID.reset)
