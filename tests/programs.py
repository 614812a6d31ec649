"""Programs that tests run as processes of their own, as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.forks import start

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from venice_async.sandbox import Sandbox

ROOT = Path(__file__).parents[1]
PATIENCE = 120.0
"""Seconds after which a program counts as stuck, on however busy a machine."""
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cf500f"
    "00038601805a34bd340000000049454e44ae426082"
)
"""A PNG of one pixel, for programs that take a picture."""


class Programs:
    """Starts programs in one folder, with Venice in their environment."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VENICE_")},
            "VENICE_API_KEY": sandbox.api_key,
            "VENICE_BASE_URL": sandbox.base_url,
            "XDG_STATE_HOME": str(folder / "state"),
            "PYTHONWARNINGS": "error",
            "PYTHONUNBUFFERED": "1",
        }

    def run(self, *command: object, stdin: str = "", code: int = 0) -> str:
        """Run a command to its end, which must have this exit code, and return what it wrote."""
        pipe = subprocess.PIPE
        with start(
            [str(part) for part in command],
            cwd=self.folder,
            env=self.environment,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
        ) as process:
            try:
                out, err = process.communicate(stdin, timeout=PATIENCE)
            finally:
                process.kill()
        assert code == process.returncode, out + err
        return f"{out}{err}"

    @contextmanager
    def started(self, *command: object) -> Generator[subprocess.Popen[bytes]]:
        """Run a command within the block; its output goes to `output` in the folder."""
        with (self.folder / "output").open("ab") as output:
            process = start(
                [str(part) for part in command],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
            )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def output(self) -> str:
        """Return what started programs have written so far."""
        return (self.folder / "output").read_text()


def example(name: str, *arguments: object) -> list[object]:
    """Return the command that runs an example."""
    return [sys.executable, ROOT / "examples" / name, *arguments]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
