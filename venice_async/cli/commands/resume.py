"""`venice-async resume`: a job goes on that was queued and paid for before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import anyio
from cyclopts import Parameter

from ...errors import UsageError
from ...results import Ticket
from ...sansio.job.states import Saved
from ..completions import JOBS
from ..options import Access, Output, Target
from ..run_jobs import Watch
from ..screen.screen import ScreenHere
from ..session import open_session
from ..stdio import destination, read_text
from . import command

EXAMPLES: Final = """\
venice-async resume --all
venice-async resume 3f6c2a9e-5d0b-4a4e-9c57-0a3c9f3a1b52
venice-async resume clip.mp4.ticket.json -o clip.mp4
"""


@command(EXAMPLES)
async def resume(
    what: Annotated[str | None, Parameter(metavar="JOB|TICKET", allow_leading_hyphen=True), JOBS] = None,
    /,
    *,
    everything: Annotated[bool, Parameter(name="--all")] = False,
    target: Target = Target(),
    access: Access = Access(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Go on with a job that was queued and paid for before. Nothing is paid again.

    A job from the journal goes to where it was bound for; --output sends it
    elsewhere.

    Args:
        what: A job's id from the journal, the file of a ticket, or - for stdin.
        everything: Everything unfinished in the journal.
    """
    if everything == (what is not None):
        msg = "--all takes no job or ticket" if everything else "resume takes a job or a ticket, or --all"
        raise UsageError(msg, hint="'venice-async jobs' lists what is unfinished")
    tickets: list[Ticket] = []
    if what is not None and (what == "-" or await anyio.Path(what).is_file()):
        text = await read_text(Path(what))
        lines = [line for line in text.splitlines() if line.strip()]
        if not lines:
            msg = f"There is no ticket in {what!r}"
            raise UsageError(msg)
        one_a_line = lines[0].rstrip().endswith("}")  # or one in all, over several lines
        tickets = [Ticket.from_json(part) for part in (lines if one_a_line else [text])]
    async with open_session(screen, access, seconds=target.timeout) as session:
        to, overwrite = target.place, target.overwrite
        if what is None:
            if session.journal is None:
                msg = "--all needs the journal"
                raise UsageError(msg)
            jobs = await session.venice.recover()
            if not jobs:
                screen.note("Nothing is unfinished.")
            return await Watch(session, screen).until_the_end(jobs)
        if not tickets:
            entries = await session.venice.pending() if session.journal is not None else ()
            entry = next((entry for entry in entries if entry.ticket and entry.ticket.queue_id == what), None)
            if entry is None or entry.ticket is None:
                msg = f"There is no file {what!r}, and no unfinished job of that id in the journal"
                hint = "'venice-async jobs' lists what is unfinished and watched by no other process"
                raise UsageError(msg, hint=hint)
            if isinstance(entry.state, Saved):
                msg = f"The clip is there already: {entry.state.video.path or entry.state.video.url}"
                raise UsageError(msg, hint="'venice-async resume --all' cleans up at the server")
            if to == Path() and entry.to is not None:
                to, overwrite = Path(entry.to), overwrite or entry.overwrite
            tickets = [entry.ticket]
        bound_for = destination(to, screen, clips=len(tickets))
        jobs = [session.venice.resume(ticket, to=bound_for, overwrite=overwrite) for ticket in tickets]
        return await Watch(session, screen, to=to, caption=tickets[0].model).until_the_end(jobs)
