"""Programs of Python that begin as forks of a process which has imported what they need.

They are processes of their own all the same, with their own arguments, folder, environment and streams, and a
kill is a kill; but they begin in milliseconds of a processor instead of most of a second.

The process that forks, the nursery, is small and has no threads. It forks twice, and the process in the
middle ends: whoever asked adopts the program, and waits for it as for any child.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
PYTHON: Final = {
    "PYTHONPATH": str(ROOT),
    "PYTHONUTF8": "1",
    "PYTHONWARNINGS": "error",
    "PYTHONUNBUFFERED": "1",
}
"""What the interpreter reads when it begins: a program that wants something else is started anew."""
PRELOADED: Final = (
    *("aiohttp.web", "anyio._backends._asyncio", "cyclopts.completion", "psycopg", "rich.live"),
    *("fastapi", "uvicorn", "venice_async.batch", "venice_async.cli.app", "venice_async.cli.commands.batch"),
    *("venice_async.cli.commands.generate", "venice_async.client", "venice_async.fleet"),
    *("venice_async.io.journal.sqlite", "venice_async.io.journal.postgres"),
)
LARGEST: Final = 1 << 18
_ADOPT: Final = 36  # PR_SET_CHILD_SUBREAPER of Linux

_channel: list[socket.socket] = []


@contextmanager
def nursery() -> Generator[None]:
    """Let programs that `start` begin as forks within the block, where the system can."""
    if sys.platform != "linux" or ctypes.CDLL(None).prctl(_ADOPT, 1, 0, 0, 0) != 0:
        yield
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VENICE_"))}
    command = [sys.executable, "-W", "error", "-m", "tests.forks", f"{theirs.fileno()}"]
    process = subprocess.Popen(  # noqa: S603 - ourselves
        command, cwd=ROOT, env={**kept, **PYTHON}, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
    )
    theirs.close()
    _channel.append(ours)
    try:
        with process:
            yield
            ours.close()
    finally:
        _channel.remove(ours)
        ours.close()


def start(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], **options: Any
) -> subprocess.Popen[Any]:
    """Start a command, as a fork if there is a nursery, it is a program of Python, and the two agree."""
    if _channel and command[0] == sys.executable and _agrees(env):
        return _Fork(command, cwd=cwd, env=env, **options)
    return subprocess.Popen(command, cwd=cwd, env=env, **options)  # noqa: S603 - our own programs


def _agrees(env: Mapping[str, str]) -> bool:
    read = {name: value for name, value in env.items() if name.startswith(("PYTHON", "LC_", "LANG"))}
    return all(value == PYTHON.get(name, os.environ.get(name)) for name, value in read.items())


class _Fork(subprocess.Popen[Any]):
    """A process like any other, but for how it begins."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        """Do what the base does, up to the first line of the program."""
        cwd, env = rest[4:6]
        pipes = rest[9:15]
        streams = [
            own if theirs == -1 else theirs for own, theirs in enumerate((pipes[0], pipes[3], pipes[5]))
        ]
        asked = json.dumps({"args": [*args], "cwd": str(cwd), "env": {**env}}).encode()
        socket.send_fds(_channel[0], [asked], streams)
        self.pid = int(_channel[0].recv(LARGEST))
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]


def _serve(channel: socket.socket) -> Callable[[], object]:
    """Fork whenever asked to; return in the fork, with what it is to run."""
    for name in PRELOADED:
        with suppress(ImportError):
            import_module(name)
    gc.collect()
    gc.freeze()
    while True:
        asked, streams, _, _ = socket.recv_fds(channel, LARGEST, 3)
        if not asked:
            channel.close()
            sys.exit()
        reading, writing = os.pipe()
        middle = os.fork()
        if middle == 0:
            program = os.fork()
            if program:
                os.write(writing, b"%d" % program)
                os._exit(0)
            for kept in (reading, writing, channel.detach()):
                os.close(kept)
            return _become(streams, **json.loads(asked))
        os.waitpid(middle, 0)
        channel.send(os.read(reading, 100))
        for done in (reading, writing, *streams):
            os.close(done)


def _become(
    streams: Sequence[int], *, args: Sequence[str], cwd: str, env: Mapping[str, str]
) -> Callable[[], object]:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    at_once = 1 if "PYTHONUNBUFFERED" in env else -1
    sys.stdin = open(0, errors="surrogateescape", closefd=False)  # noqa: SIM115 - as long as the program
    sys.stdout = open(1, "w", at_once, errors="surrogateescape", closefd=False)  # noqa: SIM115 - see above
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115 - see above
    options = [*args[1:]]
    if options[:2] == ["-W", "error"]:
        del options[:2]
    if options[0] == "-c":
        sys.argv = ["-c", *options[2:]]
        return lambda: exec(options[1], {"__name__": "__main__"})  # noqa: S102 - our own programs
    if options[0] == "-m":
        sys.argv = options[1:]
        return lambda: runpy.run_module(options[1], run_name="__main__", alter_sys=True)
    sys.argv = options
    sys.path[0] = str(Path(options[0]).parent)
    return lambda: runpy.run_path(options[0], run_name="__main__")


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))()
