"""Is a job ever paid for twice, or lost? The client against a server that counts, killed again and again.

    python -m benchmarks.model_run                        100 000 steps
    python -m benchmarks.model_run --steps 5000 --seed 7

A step queues a clip, lets time pass, cancels a job, spoils the server's next answers, lets it finish its
work, ends the client in good order or kills it: between two steps, or before, within or after a request or
a write to the journal. Real client and journal, a server in memory, virtual time,
and a seed gives the same run each time. After each block of steps
the client starts once more and must bring home every clip that was charged for, or say that it cannot know.
Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.model import World, take_step
from tests.replay import replayable

BLOCK = 250
"""Steps of one world."""

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private folder is made in it


def run_block(steps: int, seed: int, taken: Counter[str], found: Counter[str], crashes: Counter[str]) -> None:
    """Take some steps in a new world, and look at what is left."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        world = World(Path(folder), seed)

        async def run() -> None:
            await world.live()
            for _ in range(steps):
                await take_step(world, taken)
            found.update(await world.finish())

        with replayable(world.chance) as loop:
            loop.run_until_complete(run())
        crashes.update(world.crashes)
        found["charges"] += sum(world.charges.values())


def main() -> None:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began, failed = time.perf_counter(), 0
    taken, found, crashes = Counter[str](), Counter[str](), Counter[str]()
    for done in range(0, options.steps, BLOCK):
        steps, seed = min(BLOCK, options.steps - done), options.seed + done
        try:
            run_block(steps, seed, taken, found, crashes)
        except AssertionError as error:
            failed += 1
            print(f"seed {seed}: {error}", flush=True)
    print(f"{options.steps} steps, {time.perf_counter() - began:.0f} s, violations: {failed}")
    for name, counts in (("steps", taken), ("came of it", found), ("killed", crashes)):
        print(f"{name}: {', '.join(f'{kind} {count}' for kind, count in counts.most_common())}")
    print(f"killed {sum(crashes.values())} times, at {len(crashes)} different points")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
