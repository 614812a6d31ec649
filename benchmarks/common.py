"""What several benchmarks share: the server's process, memory, medians and tables."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from attrs import asdict

from .loopback import Counts, Options

TOP = Path(__file__).parent.parent
"""The folder in which `python -m benchmarks.NAME` finds its modules."""

MIB = 1 << 20


@contextmanager
def serving(options: Options) -> Generator[str]:
    """Run a `loopback` server in a process of its own, and yield its origin."""
    command = [sys.executable, "-m", "benchmarks.loopback", json.dumps(asdict(options))]
    with subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - ours
        try:
            assert server.stdout is not None  # noqa: S101 - a pipe was asked for
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


def reset(origin: str) -> Counts:
    """Begin the server's windows anew; return what was counted until now."""
    request = Request(f"{origin}/bench/reset", data=b"", method="POST")  # noqa: S310 - loopback
    with urlopen(request) as answer:  # noqa: S310 - loopback
        return Counts(**json.load(answer))


def in_process(name: str, *arguments: str, python: str = sys.executable) -> dict[str, Any]:
    """Run one of these modules in a fresh interpreter, and return the JSON that it prints last."""
    command = [python, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(command, cwd=TOP, capture_output=True, check=False)  # noqa: S603 - ours
    if done.returncode:
        sys.exit(done.stderr.decode())
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def memory(name: str = "VmRSS") -> float:
    """Return the resident memory of this process in MiB; of `VmHWM`, its highest so far."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{name}:")[2].split()[0]) / 1024


def middle(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    print(f"| {' | '.join(head)} |")
    print(f"|---|{'---:|' * (len(head) - 1)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |", flush=True)
    print()


def load_note() -> str:
    """Return how busy the machine was, which figures of time depend on."""
    one, five, _ = os.getloadavg()
    return (
        f"{os.cpu_count()} cores, load {one:.1f} (1 min), {five:.1f} (5 min); Python {sys.version.split()[0]}"
    )
