"""A Venice beside the tests, and a shell to call commands in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .shell import KEY, Server, Shell, environment
from .venice import LET_GO


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A sandbox in a process of its own, fast and with clips that cost nothing to make."""
    folder = tmp_path_factory.mktemp("server")
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cli.venice"],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield Server(process.stdout.readline().strip(), folder / LET_GO)
        process.terminate()


@pytest.fixture
def shell(
    nursery: None,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[Any],
) -> Shell:
    """Commands run in an empty folder, with a key for the server, and with nobody at a terminal."""
    monkeypatch.chdir(tmp_path)
    server.let_go.unlink(missing_ok=True)
    for name in ("VENICE_JOURNAL", "VENICE_ASK_ABOVE", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VENICE_API_KEY", KEY)
    monkeypatch.setenv("VENICE_BASE_URL", server.base_url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Shell(tmp_path, capsys, server)
