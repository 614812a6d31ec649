"""The whole relation of states and events, a second time and in other words: what may happen where."""

from __future__ import annotations

from typing import Final

from venice_async.sansio.job.events import (
    Accepted,
    Answered,
    CleanedUp,
    Completed,
    ConsentNeeded,
    Delivered,
    Interrupted,
    Missed,
    Priced,
    StillGoing,
)
from venice_async.sansio.job.states import (
    AwaitingConsent,
    Downloading,
    Queueing,
    Quoting,
    Saved,
    Waiting,
)

POSSIBLE: Final[dict[type[object], set[type[object]]]] = {
    Quoting: {Priced},
    Queueing: {Accepted, ConsentNeeded},
    AwaitingConsent: {Answered},
    Waiting: {StillGoing, Completed, Missed, Interrupted, Delivered},
    Downloading: {Interrupted, Delivered},
    Saved: {CleanedUp},
}
"""Beside them, everything but the end may be refused or stopped."""
