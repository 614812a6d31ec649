"""`venice-async jobs` and `venice-async resume`: what is unfinished, and how it goes on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
from rich.table import Table
from rich.text import Text

from ...errors import UsageError
from ...formatting import as_seconds
from ...results import Ticket
from ...sansio.job.states import Queueing, Saved
from .. import exits
from ..connection import Connection, Journalling, Session, opened
from ..failures import ticket_json
from ..inputs import text_of
from ..journals import forget, pending
from ..options import argument, flag, value
from ..running import Run, Target
from ..screen.progress import phase
from ..several import Several

if TYPE_CHECKING:
    from ...io.journal.entries import JournalEntry
    from ..interrupts import Interrupts
    from ..screen.screen import Screen

JOBS_EXAMPLES: Final = """\
venice-async jobs
venice-async jobs --json
venice-async jobs --forget 5f0c9a1be377
"""
RESUME_EXAMPLES: Final = """\
venice-async resume --all
venice-async resume 3f6c2a9e-5d0b-4a4e-9c57-0a3c9f3a1b52
venice-async resume clip.mp4.ticket.json -o clip.mp4
"""


async def jobs(
    *,
    screen: Screen,
    interrupts: Interrupts,
    unknown: Annotated[
        str | None,
        value(
            "--forget",
            takes="ID",
            says="Strike a paid request of unknown outcome, once you know what became of it.",
        ),
    ] = None,
    connection: Connection,
    journalling: Journalling,
) -> int:
    """List the jobs in the journal that are unfinished and that nobody else watches. No key is needed."""
    path = journalling.path(connection)
    if unknown is not None:
        return await _forget(screen, path, unknown)
    entries = await pending(path)
    if screen.as_json:
        screen.emit([_as_json(entry) for entry in entries])
        return exits.OK
    if entries and screen.out.is_terminal:
        screen.out.print(_table(entries))
    for entry in [] if screen.out.is_terminal else entries:
        screen.row(_row(entry))
    screen.note(f"{len(entries)} unfinished in {path}" if entries else "Nothing is unfinished.")
    if any(entry.ticket for entry in entries):
        screen.note("Go on with: venice-async resume --all")
    if any(entry.ticket is None for entry in entries):
        screen.note("Look at your account for an unknown outcome, then: venice-async jobs --forget ID")
    return exits.OK


async def _forget(screen: Screen, path: Path | None, unknown: str) -> int:
    if not await forget(path, unknown):
        msg = f"The journal has no paid request of unknown outcome with the id {unknown!r}"
        raise UsageError(msg, hint="'venice-async jobs' lists them; what has a ticket is resumed")
    screen.note(f"Forgot {unknown}.")
    return exits.OK


async def resume(
    *,
    screen: Screen,
    interrupts: Interrupts,
    what: Annotated[
        str | None,
        argument(
            takes="[JOB|TICKET]", says="A job's id from the journal, the file of a ticket, or - for stdin."
        ),
    ] = None,
    every: Annotated[bool, flag("--all", says="Everything unfinished in the journal.")] = False,
    target: Target,
    journalling: Journalling,
    connection: Connection,
) -> int:
    """Go on with a job that was queued and paid for before. Nothing is paid again.

    A job from the journal goes to where it was bound for; --output sends it elsewhere.
    """
    if every == (what is not None):
        msg = "resume takes a job or a ticket, or --all" if not every else "--all takes no job or ticket"
        raise UsageError(msg, hint="'venice-async jobs' lists what is unfinished")
    tickets = [] if what is None else await _tickets(what)
    async with opened(connection, journalling, seconds=target.timeout) as session:
        if every:
            return await _all(session, screen, interrupts)
        if what is not None and not tickets:
            return await _known(session, screen, interrupts, what, target)
        if len(tickets) == 1:
            return await _one(
                session, screen, interrupts, tickets[0], target.output, overwrite=target.overwrite
            )
        several = Several(session, screen, interrupts)
        to = target.output
        started = [session.venice.resume(ticket, to=to, overwrite=target.overwrite) for ticket in tickets]
        return await several.watch(started)


async def _all(session: Session, screen: Screen, interrupts: Interrupts) -> int:
    if session.journal is None:
        msg = "--all needs the journal"
        raise UsageError(msg)
    found = await session.venice.recover()
    if not found:
        screen.note("Nothing is unfinished.")
    return await Several(session, screen, interrupts).watch(found)


async def _known(session: Session, screen: Screen, interrupts: Interrupts, job: str, target: Target) -> int:
    """Go on with a job that the journal knows by its id."""
    entries = await session.venice.pending() if session.journal is not None else []
    entry = next((entry for entry in entries if entry.ticket and entry.ticket.queue_id == job), None)
    if entry is None or entry.ticket is None:
        msg = f"There is no file {job!r}, and no unfinished job of that id in the journal"
        hint = "'venice-async jobs' lists what is unfinished; a job that another process watches is not there"
        raise UsageError(msg, hint=hint)
    if isinstance(entry.state, Saved):
        msg = f"The clip is there already: {entry.state.video.path}"
        raise UsageError(msg, hint="'venice-async resume --all' cleans up at the server")
    chosen = target.output != Path()
    to = target.output if chosen or entry.to is None else entry.to
    overwrite = target.overwrite or (entry.overwrite and to == entry.to)
    return await _one(session, screen, interrupts, entry.ticket, to, overwrite=overwrite)


async def _one(
    session: Session, screen: Screen, interrupts: Interrupts, ticket: Ticket, to: Path, *, overwrite: bool
) -> int:
    job = session.venice.resume(ticket, to=to, overwrite=overwrite)
    return await Run(session, screen, interrupts, to=to).watch(job, caption=ticket.model)


async def _tickets(what: str) -> list[Ticket]:
    """Return the tickets in a file or on stdin, one a line or one in all; none if it names no file.

    Raises:
        UsageError: they cannot be read.
    """
    if what != "-" and not await anyio.Path(what).is_file():
        return []
    text = await text_of(Path(what))
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        msg = f"There is no ticket in {what!r}"
        raise UsageError(msg)
    return (
        [Ticket.from_json(line) for line in lines]
        if lines[0].rstrip().endswith("}")
        else [Ticket.from_json(text)]
    )


def _row(entry: JournalEntry) -> list[str]:
    ticket = entry.ticket
    model = ticket.model if ticket else entry.request.model if entry.request else "?"
    return [
        ticket.queue_id if ticket else f"{entry.id} (outcome unknown)",
        model,
        "perhaps paid for" if isinstance(entry.state, Queueing) else phase(entry.state),
        f"{as_seconds(max(0.0, time.time() - entry.created))} ago",
        str(entry.to or ""),
    ]


def _table(entries: Sequence[JournalEntry]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1), pad_edge=False)
    for name in ("job", "model", "state", "queued", "to"):
        table.add_column(name, overflow="fold")
    for entry in entries:
        table.add_row(*(Text(cell) for cell in _row(entry)))
    return table


def _as_json(entry: JournalEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "ticket": ticket_json(entry.ticket) if entry.ticket else None,
        "model": entry.ticket.model if entry.ticket else entry.request.model if entry.request else None,
        "state": type(entry.state).__name__,
        "to": None if entry.to is None else str(entry.to),
        "created": entry.created,
        "prompt": entry.request.prompt if entry.request else None,
    }
