"""Whenever a process is killed: what its journal said was done is done, the rest whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .crash import EXPECTED, SUCCEEDED

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked to be killed")

MEMORY = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
MOMENTS = 15
SEED = 7
STRIDE = 4


@pytest.fixture
def folder() -> Generator[Path]:
    """Return a folder in memory where there is one: what a killed process wrote is there all the same."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as name:
        yield Path(name)


def killed(folder: Path | str, *arguments: object) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.io.journal.crash", str(folder), *map(str, arguments)]
    root = Path(__file__).parents[2]
    done = subprocess.run(  # noqa: S603 - our own code
        command, cwd=root, capture_output=True, text=True, check=False, timeout=300
    )
    assert ("", 0) == (done.stderr, done.returncode)
    return [json.loads(line) for line in done.stdout.splitlines()]


def wrong(found: dict[str, Any]) -> list[str]:
    """Return what must not be."""
    calls = found["calls"]
    unfinished = tuple(tuple(job) for job in found["unfinished"])
    claims = {
        "jobs are lost or invented": unfinished not in EXPECTED[calls : calls + 2],
        "a clip is forgotten": calls >= SUCCEEDED and not found["succeeded"],
        "a clip is invented": calls < SUCCEEDED - 1 and found["succeeded"],
        "a link is left": found["leaked"],
        "files are left": found["files"] not in ([], ["jobs.db"]),
    }
    return [f"{claim}: {found}" for claim, is_so in claims.items() if is_so]


def test_killed_at_every_step_the_journal_holds_what_was_done(folder: Path) -> None:
    runs = killed(folder, "steps", 1, 1)
    assert [] == [claim for run in runs for claim in wrong(run)]
    assert set(range(len(EXPECTED))) == {run["calls"] for run in runs}


def test_killed_at_any_statement_the_database_holds_what_was_done(postgres: str) -> None:
    runs = killed(postgres, "steps", 1, STRIDE)
    assert [] == [claim for run in runs for claim in wrong(run)]
    assert len(runs) >= len(EXPECTED)


def test_killed_at_any_moment_the_journal_holds_what_was_done(folder: Path) -> None:
    runs = killed(folder, "moments", MOMENTS, SEED)
    assert [] == [claim for run in runs for claim in wrong(run)]
    assert MOMENTS == len(runs)
