"""The journal: jobs on disk, or in a database of many machines."""

from __future__ import annotations

import os
import re


def is_postgres(journal: str | os.PathLike[str]) -> bool:
    """Tell whether a journal is a database of Postgres, by its URI."""
    return isinstance(journal, str) and journal.startswith(("postgresql://", "postgres://"))


def shown(journal: str | os.PathLike[str]) -> str:
    """Return the address of a journal as people may see it: without a password."""
    if not is_postgres(journal):
        return os.fspath(journal)
    without = re.sub(r"(://[^/@:]*):(?:[^?]*|[^=]*)@", r"\1@", str(journal))
    return re.sub(r"([?&]password=)[^&]*", r"\1...", without)
