"""What does importing the library cost? It is timed beside its four dependencies, and the other SDKs.

    python benchmarks/import_time.py             15 fresh interpreters of each kind
    python benchmarks/import_time.py --quick     5

Each import is timed within a fresh interpreter, from the first statement on, and all kinds take turns. The
other SDKs are imported too, where `peers.py` has installed them (`--environments`). Prints the median, the
least, and the ratio of the medians to the dependencies'. A client also loads the network when it is made,
which is shown in a line of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from common import load_note, middle, print_table
from peers import VENICE_PY, VENICERESCH

FOUR = "its four dependencies"
TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
HERE = {
    FOUR: "import aiohttp, anyio, attrs, cattrs",
    "**venice_async**": "import venice_async",
    "**venice_async**, and a client made": "import venice_async; venice_async.VeniceClient('key')",
}
THERE = {VENICE_PY: "import venice_ai", VENICERESCH: "import veniceresch"}


def seconds(python: str, statement: str) -> float:
    """Return what a statement takes in a fresh interpreter."""
    command = [python, "-W", "ignore", "-c", TIMED.format(statement)]
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
            found = seconds(python, statement)
            if number:  # the first round compiles, and fills the page cache
                taken[name].append(found)
    beside = middle(taken[FOUR])
    rows = [
        [name, f"{middle(times) * 1000:.0f}", f"{min(times) * 1000:.0f}", f"{middle(times) / beside:.2f}"]
        for name, times in taken.items()
    ]
    print(f"{runs} fresh interpreters of each; {load_note()}\n")
    print_table(["import", "median ms", "least ms", "to the four"], rows)


if __name__ == "__main__":
    main()
