"""Makes a clip for each line of a CSV file, within a budget. Run it again to continue an interrupted batch.

python examples/batch_from_csv.py shots.csv clips MODEL 20.00

The columns of shots.csv are text fields of `VideoRequest`, such as prompt, duration and aspect_ratio. An
empty cell is left out. The results are written to clips/results.csv; the journal clips/jobs.db records what
was paid for.
"""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from venice_async import InvalidRequestError, Outcome, VeniceClient, VideoRequest

COLUMNS = ("line", "prompt", "clip", "charged", "error")


def read(source: str, model: str) -> Iterator[VideoRequest]:
    """Yield a request for each line."""
    with Path(source).open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file, restkey="cells without a heading")
        for line in lines:
            cells = dict[str, Any]((name, cell) for name, cell in line.items() if cell)
            cells.setdefault("model", model)
            try:
                yield VideoRequest(**cells)
            except (TypeError, InvalidRequestError) as error:  # an unknown column or an impossible value
                sys.exit(f"{source}, line {lines.line_num}: {error}")


def row(outcome: Outcome) -> tuple[object, ...]:
    """Return a line of results.csv."""
    video, error = outcome.video, outcome.error
    charged = error.charged if error else True
    return (outcome.index + 1, outcome.request.prompt, video and video.path, charged, error)


async def main(source: str, folder: str, model: str, budget: str) -> None:
    """Generate a clip for each line."""
    requests = list(read(source, model))  # read all lines first, to find mistakes before money is spent
    async with VeniceClient(journal=Path(folder, "jobs.db")) as venice:
        batch = venice.batch(requests, into=folder, max_usd=float(budget))
        with Path(folder, "results.csv").open("w", newline="", encoding="utf-8") as file:  # noqa: ASYNC230 - a line at a time
            results = csv.writer(file)
            results.writerow(COLUMNS)
            async for outcome in batch:
                results.writerow(row(outcome))
                print(f"{outcome.index + 1}: {outcome.video.path if outcome.video else outcome.error}")
        print(f"${batch.spent_usd:.2f} of ${float(budget):.2f} are spent")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
