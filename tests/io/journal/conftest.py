"""Where a journal is."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Return where a journal may be made: in a file, unless the test asks for another."""
    if getattr(request, "param", "file") == "postgres":
        uri: str = request.getfixturevalue("postgres")
        return uri
    return tmp_path / "jobs.db"
