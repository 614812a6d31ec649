"""What the tests of the command line share: commands in this process, beside it, and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.request import Request, urlopen

import pytest
from attrs import frozen

from tests.forks import start
from venice_async.cli import main

ROOT = Path(__file__).parents[2]
KEY = "venice-sandbox-key"
COMMAND = (sys.executable, "-W", "error", "-m", "venice_async")
PATIENCE = 600.0  # seconds until a test that is stuck gives up; how long a machine takes is no matter


@frozen
class Server:
    """The Venice that commands talk to.

    Attributes:
        base_url: where it listens.
        let_go: the file that makes it give the answers that it holds.
    """

    base_url: str
    let_go: Path

    @property
    def spent(self) -> float:
        """USD that were charged since it started."""
        headers = {"Authorization": f"Bearer {KEY}"}
        request = Request(f"{self.base_url}/billing/balance", headers=headers)  # noqa: S310 - our own server
        with urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - our own server
            left: float = json.load(answer)["balances"]["usd"]
        return round(1_000_000 - left, 4)


@frozen
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


class Shell:
    """Runs commands in a folder of their own."""

    def __init__(self, folder: Path, capture: Any, server: Server) -> None:
        """Run them in `folder`, with a key for `server`."""
        self.folder = folder
        self.server = server
        self._capture = capture

    @property
    def journal(self) -> Path:
        """The journal that commands keep by default."""
        port = self.server.base_url.split(":")[2].partition("/")[0]
        return self.folder / "state" / "venice-async" / f"jobs-127.0.0.1-{port}.db"

    def __call__(self, *arguments: str) -> Said:
        """Run a command within this process; its streams are no terminals."""
        self._capture.readouterr()
        code = main(arguments)
        out, err = self._capture.readouterr()
        return Said(code, out, err)

    def encoded(self, encoding: str, *arguments: str) -> tuple[int, bytes, bytes]:
        """Run a command within this process; return how it ended, and what its streams were in `encoding`."""
        out, err = BytesIO(), BytesIO()
        with (
            redirect_stdout(TextIOWrapper(out, encoding, write_through=True)) as said,
            redirect_stderr(TextIOWrapper(err, encoding, write_through=True)) as told,
        ):
            code = main(arguments)
        said.detach()
        told.detach()
        return code, out.getvalue(), err.getvalue()

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment for a command beside this process."""
        return environment(self.folder, VENICE_API_KEY=KEY, VENICE_BASE_URL=self.server.base_url, **more)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return an environment without anything of ours but what is given."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    known = {
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(folder / "state"),
        "PYTHONUTF8": "1",
        "TERM": "xterm",
    }
    return {**kept, **known, **more}


def beside(*arguments: str, folder: Path, env: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a command beside this process, its streams pipes and its input empty."""
    return start(
        [*COMMAND, *arguments],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(stream: IO[str] | None, wanted: str) -> None:
    """Read lines until one says what is wanted."""
    said = list[str]()
    for line in iter(stream.readline if stream else str, ""):
        said.append(line)
        if wanted in line:
            return
    pytest.fail(f"{wanted!r} was not said before the end: {said}")


class Terminal:
    """A command on a terminal of 100 columns and 30 lines.

    Attributes:
        text: what it wrote, control sequences included.
        process: the command.
    """

    def __init__(self, *arguments: str, folder: Path, env: Mapping[str, str]) -> None:
        """Start the command."""
        self.text = ""
        self._read_to = 0
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (30, 100))
        self.process = start(
            [*COMMAND, *arguments], cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the command and close the terminal."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    @property
    def plain(self) -> str:
        """What it wrote, without control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text).replace("\r\n", "\n")

    def until(self, wanted: str) -> None:
        """Read until `wanted` was written after what was waited for before."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.plain.find(wanted, self._read_to)) < 0:
            assert time.monotonic() < deadline, f"{wanted!r} was never written: {self.plain}"
            assert self._read(), f"{wanted!r} was not written before the end: {self.plain}"
        self._read_to = found + len(wanted)

    def type(self, text: str) -> None:
        """Type."""
        os.write(self._ours, text.encode())

    def end(self) -> int:
        """Read to the end and return the exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], PATIENCE)[0]:
            return False
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # what Linux says when the last one at the other side is gone
            return False
        self.text += data.decode(errors="replace")
        return bool(data)


def called(*arguments: str, folder: Path, env: Mapping[str, str]) -> Said:
    """Run a command beside this process, and return how it ended."""
    process = beside(*arguments, folder=folder, env=env)
    out, err = process.communicate(timeout=PATIENCE)
    return Said(process.returncode, out, err)
