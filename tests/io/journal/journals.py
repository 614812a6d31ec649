"""What the journal's tests share: jobs, and a look at the bytes on the disk."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from venice_async.io.journal.entries import JournalEntry
from venice_async.io.journal.journal import Journal
from venice_async.requests import VideoRequest
from venice_async.results import Ticket, Video
from venice_async.sansio.http.secrets import Secret
from venice_async.sansio.job.states import Downloading, Queueing, State, Waiting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

LINK = "https://files.example/clip?signature=5ec4e7"
MARK = b"5ec4e7"
"""What no byte on the disk may show once a job is done."""

REQUEST = VideoRequest(model="wan-private", prompt="a fox on the ice", duration="5s")
INTENT = Queueing(request=REQUEST)
TICKET = Ticket(model="wan-private", queue_id="123e4567", download_url=LINK)
WAITING = Waiting(ticket=TICKET)
VIDEO = Video(path=Path("/clips/fox.mp4"), size=3, sha256="abc", ticket=TICKET)


both = pytest.mark.parametrize("path", ["file", "postgres"], indirect=True)
"""A test that is about every journal, whatever holds it."""


class StoppedClock:
    """A clock that moves by hand."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def chance(self) -> float:
        return 0.5


@asynccontextmanager
async def opened(path: Path | str, clock: StoppedClock | None = None) -> AsyncGenerator[Journal]:
    secret = Secret("a key")
    journal = await Journal.open(path, clock=clock or StoppedClock(), account="a", secret=secret)
    try:
        yield journal
    finally:
        await journal.aclose()


def job(state: State, **known: Any) -> JournalEntry:
    """Return a job that the journal does not hold yet."""
    return JournalEntry(state=state, **known)


def download(gets: int, ticket: Ticket = TICKET) -> Downloading:
    return Downloading(ticket=ticket, via="link", gets=gets)


def ticket(number: int) -> Ticket:
    return Ticket(model="wan", queue_id=f"job-{number}")


def bytes_on_disk(path: Path | str) -> bytes:
    """Return all bytes of the journal's file and of those beside it, or what a dump of the database shows."""
    if isinstance(path, str):
        from tests.postgres import dump  # noqa: PLC0415 - only where there is one

        return dump(path)
    return b"".join(place.read_bytes() for place in sorted(path.parent.glob(f"{path.name}*")))


async def ids(journal: Journal) -> list[str]:
    return [entry.id for entry in await journal.pending()]
