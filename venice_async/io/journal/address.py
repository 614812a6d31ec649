"""Tells the file of a journal from the address of a database."""

from __future__ import annotations

import os


def is_postgres(journal: str | os.PathLike[str]) -> bool:
    """Tell whether a journal is a database of Postgres, by its URI."""
    return isinstance(journal, str) and journal.startswith(("postgresql://", "postgres://"))
