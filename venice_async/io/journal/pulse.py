"""One thread of the process says each second, for every open journal, that its owner lives.

A process that was stopped, or a machine that was frozen, says nothing, and its jobs are taken over.
A thread of its own tells that from an event loop that is blocked.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Final, Protocol
from weakref import WeakSet

EVERY: Final = 1.0  # seconds
LEASE: Final = 10.0  # seconds without a word after which an owner counts as dead
LOST: Final = 8.0  # the same for the owner itself: it gives up a little earlier than the others take over

_logger = logging.getLogger(__name__)


class Living(Protocol):
    """Something that says that it lives."""

    def beat(self) -> None:
        """Say so."""
        ...


class Pulse:
    """Makes all that is added say each second that it lives."""

    def __init__(self) -> None:
        self._living: WeakSet[Living] = WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._added = threading.Event()

    def add(self, one: Living) -> None:
        """Make it say that it lives from now on."""
        with self._lock:
            self._living.add(one)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="venice_async.pulse", daemon=True)
                self._thread.start()
        self._added.set()

    def discard(self, one: Living) -> None:
        """Let it be silent from now on."""
        with self._lock:
            self._living.discard(one)

    def forget_all(self) -> None:
        """Begin anew in a child that was forked: the parent's thread is not there."""
        self.__init__()  # type: ignore[misc]

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._added.wait()
            with self._lock:
                living = list(self._living)
                if not living:
                    self._added.clear()
            for one in living:
                try:
                    one.beat()
                except Exception:
                    _logger.exception("The journal cannot say that it is in use")
            del living
            pause.wait(EVERY)


PULSE: Final = Pulse()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PULSE.forget_all)
