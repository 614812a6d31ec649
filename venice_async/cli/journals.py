"""The journal, read without a client and so without a key."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio

from ..errors import JournalError
from ..io.clock import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

    from ..io.journal.journal import Journal


@asynccontextmanager
async def open_journal(path: Path | str | None) -> AsyncGenerator[Journal | None]:
    """Open a journal for the block; None for a file that does not exist, which is not made.

    Raises:
        JournalError: it cannot be used.
    """
    try:
        there = path is not None and (isinstance(path, str) or await anyio.Path(path).exists())
    except OSError as error:
        msg = f"The journal {str(path)!r} cannot be used: {error.strerror}"
        raise JournalError(msg) from error
    if path is None or not there:
        yield None
        return
    from ..io.journal.journal import Journal  # noqa: PLC0415 - SQLite is loaded by those who use it

    journal = await Journal.open(path, clock=SystemClock())
    try:
        yield journal
    finally:
        await journal.aclose()


def name_of(journal: Path | str) -> str:
    """Return what a journal is called: its file, or its database without user and password."""
    if not isinstance(journal, str):
        return str(journal)
    parts = urlsplit(journal)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
