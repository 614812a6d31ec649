"""`venice-async spend`: what the jobs of a journal have cost."""

from __future__ import annotations

import time
from typing import Annotated, Final

from cyclopts import Parameter

from ...formatting import as_usd
from ...io.journal.history import grouped, moment, total
from .. import exit_codes
from ..options import Access, Output
from ..screen.screen import ScreenHere
from ..session import open_journal
from . import command

EXAMPLES: Final = """\
venice-async spend --since 7d
venice-async spend --by day
venice-async spend --since 2026-11-01 --by tag:project
"""


@command(EXAMPLES)
async def spend(
    *,
    since: Annotated[str | None, Parameter(metavar="WHEN")] = None,
    by: Annotated[str, Parameter(metavar="WAY", show_default=True)] = "model",
    access: Access = Access(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Add up what the jobs in the journal have cost. No key is needed.

    It knows the price of a job where that was asked: by the commands always. A
    request of unknown outcome counts, one that was refunded does not.

    Args:
        since: How long ago, such as 12h, 7d or 4w; or a date of UTC.
        by: model, day (of UTC), folder, tag (each tag by itself), or tag:NAME (by the texts of one tag).
    """
    start = moment(since, time.time())
    async with open_journal(access.journal_path) as journal:
        paid = [] if journal is None else await journal.paid(start)
    sums = grouped(paid, by)
    if screen.as_json:
        screen.emit({"by": by, "usd": total(paid), "spend": sums})
        return exit_codes.OK
    if sums:
        screen.table([{by: name or "(none)", "spent": as_usd(usd)} for name, usd in sums.items()])
    jobs = "1 job" if len(paid) == 1 else f"{len(paid)} jobs"
    screen.note(f"{as_usd(total(paid))} for {jobs}.")
    return exit_codes.OK
