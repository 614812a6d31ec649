"""Do random faults ever leave a bad file? Thousands of downloads from a server that spoils its answers.

    python -m benchmarks.random_faults                     10 000 downloads
    python -m benchmarks.random_faults --downloads 500 --seed 3

Real client, real sockets, virtual time: the stalls and pauses of hours take milliseconds. Half of the clips
come as the body of a poll, half by a link. Every download must end in a file that is byte for byte a clip the
server has, or in an error with a ticket and no file at all; every job must be charged once, and no link be
fetched more than five times. Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections import Counter

import anyio

from tests.downloads import JOBS, run_block
from tests.virtual_time import VirtualTimeLoop


async def run(downloads: int, seed: int) -> int:
    """Run them all; print what came of it and return the exit code."""
    began, found, spoilt = time.perf_counter(), Counter[str](), Counter[str]()
    chance = random.Random(seed)
    for done in range(0, downloads, JOBS):
        await run_block(chance, min(JOBS, downloads - done), found, spoilt)
    print(
        f"{downloads} downloads, {sum(spoilt.values())} spoilt answers, {time.perf_counter() - began:.0f} s"
    )
    print("spoilt:", ", ".join(f"{name} {count}" for name, count in spoilt.most_common()))
    for name, count in sorted(found.items()):
        print(f"{count:7} {name}")
    return int(any(count for name, count in found.items() if name.startswith("BAD")))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--downloads", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    loop = {"loop_factory": VirtualTimeLoop}
    sys.exit(anyio.run(run, options.downloads, options.seed, backend_options=loop))


if __name__ == "__main__":
    main()
