"""The journal, read without a client and so without a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from ..io.clock import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

    from ..io.entries import JournalEntry


async def pending(path: Path | None) -> list[JournalEntry]:
    """Return what a journal holds unfinished; one that does not exist is not made.

    Raises:
        JournalError: the file cannot be used.
    """
    if path is None or not await anyio.Path(path).exists():
        return []
    from ..io.journal import Journal  # noqa: PLC0415 - SQLite is loaded by those who use it

    journal = await Journal.open(path, clock=SystemClock())
    try:
        return await journal.pending()
    finally:
        await journal.aclose()
