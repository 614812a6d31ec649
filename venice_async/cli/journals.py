"""The journal, read without a client and so without a key."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from ..errors import JournalError
from ..io.clock import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

    from ..io.journal.entries import JournalEntry
    from ..io.journal.journal import Journal


async def pending(path: Path | None) -> list[JournalEntry]:
    """Return what a journal holds unfinished; one that does not exist is not made.

    Raises:
        JournalError: the file cannot be used.
    """
    async with _opened(path) as journal:
        return [] if journal is None else await journal.pending()


async def forget(path: Path | None, entry_id: str) -> bool:
    """Strike a paid request without an outcome from a journal; tell whether there was one of that id.

    Raises:
        JournalError: the file cannot be used.
    """
    async with _opened(path) as journal:
        return journal is not None and await journal.forget(entry_id)


async def exists(path: Path) -> bool:
    """Tell whether there is a journal.

    Raises:
        JournalError: its folder cannot be looked into.
    """
    try:
        return await anyio.Path(path).exists()
    except OSError as error:
        msg = f"The journal {str(path)!r} cannot be used: {error.strerror}"
        raise JournalError(msg) from error


@asynccontextmanager
async def _opened(path: Path | None) -> AsyncGenerator[Journal | None]:
    if path is None or not await exists(path):
        yield None
        return
    from ..io.journal.journal import Journal  # noqa: PLC0415 - SQLite is loaded by those who use it

    journal = await Journal.open(path, clock=SystemClock())
    try:
        yield journal
    finally:
        await journal.aclose()
