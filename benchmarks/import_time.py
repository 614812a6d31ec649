"""What does importing the library cost? It is timed beside its four dependencies, and the other SDKs.

    python -m benchmarks.import_time             15 fresh interpreters of each kind
    python -m benchmarks.import_time --quick     5

Each import is timed within a fresh interpreter, in seconds of CPU from the first statement on, and all kinds
take turns. The other SDKs are imported too, where `peers.py` has installed them (`--environments`). Prints
the median, the least, and the ratio of the medians to the dependencies'.

`import venice_async` alone loads nothing: what counts is the import of the client, which loads the network:
making one then loads nothing more. The last row is what the plugin adds to a pytest run that does not use it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from .common import load_note, middle, print_table
from .peers import VENICE_PY, VENICERESCH

FOUR = "its four dependencies"
TIMED = "{}; import time; t = time.process_time(); {}; print(time.process_time() - t)"
HERE = {
    FOUR: "import aiohttp, anyio, attrs, cattrs",
    "**venice_async**: `VeniceClient`": "from venice_async import VeniceClient",
    "**venice_async**, and a client made": "from venice_async import VeniceClient; VeniceClient('key')",
    "**venice_async**: every name": "from venice_async import *",
    "**venice_async**: the package alone": "import venice_async",
    "**venice_async**: the pytest plugin": "import venice_async.sandbox.pytest_plugin",
}
FIRST = {"**venice_async**: the pytest plugin": "import pytest"}  # is there before, and is not timed
THERE = {VENICE_PY: "import venice_ai", VENICERESCH: "import veniceresch"}


def seconds(python: str, statement: str, before: str) -> float:
    """Return what a statement takes in a fresh interpreter, in which `before` was run."""
    command = [python, "-W", "ignore", "-c", TIMED.format(before, statement)]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)  # noqa: S603 - our own words


def main() -> None:
    """Read the command line, measure, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    cache = Path(tempfile.gettempdir()) / "venice-async-peers"
    parser.add_argument("--environments", type=Path, default=cache)
    options = parser.parse_args()
    kinds = {name: (sys.executable, statement) for name, statement in HERE.items()}
    for package, statement in THERE.items():
        python = options.environments / package / "bin" / "python"
        if python.exists():
            kinds[package.replace("==", " ")] = (str(python), statement)
    runs = 5 if options.quick else 15
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(runs + 1):
        for name, (python, statement) in kinds.items():
            found = seconds(python, statement, FIRST.get(name, "pass"))
            if number:  # the first round compiles, and fills the page cache
                taken[name].append(found)
    beside = middle(taken[FOUR])
    rows = [
        [name, f"{middle(times) * 1000:.1f}", f"{min(times) * 1000:.1f}", f"{middle(times) / beside:.2f}"]
        for name, times in taken.items()
    ]
    print(f"{runs} fresh interpreters of each; {load_note()}\n")
    print_table(["import", "median ms", "least ms", "to the four"], rows)


if __name__ == "__main__":
    main()
