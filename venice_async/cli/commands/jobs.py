"""`venice-async jobs`: what is unfinished, and with `--all` what has ended."""

from __future__ import annotations

import json
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from attrs import frozen
from cyclopts import Parameter
from cyclopts.validators import Number

from ...errors import UsageError
from ...formatting import as_seconds, as_usd
from ...io.journal.history import Wanted, kinds_of, moment
from ...sansio.job.states import Failed, Queueing, Saved, Succeeded
from .. import exit_codes
from ..completions import JOBS, KEYS, Model
from ..explain import ticket_json
from ..options import Access, Output
from ..screen.board import phase
from ..screen.screen import ScreenHere
from ..session import name_of, open_journal
from . import command

if TYPE_CHECKING:
    from ...io.journal.entries import JournalEntry

EXAMPLES: Final = """\
venice-async jobs
venice-async jobs --all --since 7d --state failed
venice-async jobs --all --tag project=dawn --json
venice-async jobs --forget 5f0c9a1be377
"""


@Parameter(name="*")
@frozen(kw_only=True)
class Filters:
    """Which jobs.

    Attributes:
        all: Also those that have ended, the newest first.
        state: Only those of a state, such as succeeded, failed or unfinished.
        model: Only those of a model.
        key: Only those of a key.
        tag: Only those with a tag, NAME or NAME=TEXT.
        since: Only those that began so long ago, such as 12h or 7d, or since a date of UTC.
        limit: How many at most.
    """

    all: bool = False
    state: Annotated[str | None, Parameter(metavar="STATE")] = None
    model: Model | None = None
    key: Annotated[str | None, Parameter(metavar="KEY"), KEYS] = None
    tag: Annotated[str | None, Parameter(metavar="NAME[=TEXT]")] = None
    since: Annotated[str | None, Parameter(metavar="WHEN")] = None
    limit: Annotated[int | None, Parameter(metavar="N", validator=Number(gte=0))] = None


@command(EXAMPLES)
async def jobs(
    *,
    forget: Annotated[str | None, Parameter(metavar="ID"), JOBS] = None,
    filters: Filters = Filters(),
    access: Access = Access(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """List the jobs in the journal that are unfinished, or with --all every job. No key is needed.

    Args:
        forget: Strike a job off, once you know that no clip of it will come.
    """
    path = access.journal_path
    wanted = Wanted(
        kinds=kinds_of(filters.state or (None if filters.all else "unfinished")),
        model=filters.model,
        key=filters.key,
        tag=filters.tag,
        since=moment(filters.since, time.time()),
        limit=filters.limit,
    )
    entries: list[JournalEntry] = []
    elsewhere: set[str] = set()  # those that another process works on
    async with open_journal(path) as journal:
        if journal is not None and forget is not None:
            for entry in await journal.pending():
                known = forget == entry.id or (entry.ticket and forget == entry.ticket.queue_id)
                if known and await journal.forget(entry.id):
                    screen.note(f"Forgot {forget}.")
                    return exit_codes.OK
        elif journal is not None:
            entries = await journal.history(wanted)
            looked = await journal.watch({}, most=0)
            elsewhere = {seen.entry.id for seen in looked.changed if seen.worker is not None}
    if forget is not None:
        msg = f"The journal has no unfinished job, and no paid request of unknown outcome, {forget!r}"
        raise UsageError(msg, hint="'venice-async jobs' lists them, and those that another process works on")
    if not filters.all:
        entries.reverse()  # the oldest first: it is the one to look at
    if screen.as_json:
        screen.emit([_as_json(entry, elsewhere=entry.id in elsewhere) for entry in entries])
    else:
        rows = [_as_row(entry, here=entry.id not in elsewhere) for entry in entries]
        for name in ("key", "tags", "price", "took"):
            if not any(row[name] for row in rows):
                rows = [{title: cell for title, cell in row.items() if title != name} for row in rows]
        screen.table(rows, cut="prompt")
    if filters != Filters():
        screen.note("1 job." if len(entries) == 1 else f"{len(entries)} jobs.")
        return exit_codes.OK
    ours, held = [entry for entry in entries if entry.id not in elsewhere], len(elsewhere)
    if ours:
        screen.note(f"{len(ours)} unfinished in {path and name_of(path)}")
    elif not held:
        screen.note("Nothing is unfinished.")
    if held:
        screen.note(f"{held} unfinished {'is' if held == 1 else 'are'} being watched by another process.")
    if any(entry.ticket for entry in ours):
        screen.note("Go on with: venice-async resume --all")
    if any(entry.ticket is None for entry in ours):
        for entry in ours:
            if isinstance(entry.state, Queueing) and entry.state.answer is not None:
                screen.note(f"{entry.id}: the server answered, and nobody understood: {entry.state.answer}")
                name, to = entry.model or "MODEL", shlex.quote(str(entry.to or "."))
                ticket = shlex.quote(json.dumps({"model": name, "queue_id": "JOB"}))
                screen.note(f"If that names a job: echo {ticket} | venice-async resume - -o {to}")
        screen.note("Look at your account for an unknown outcome, then: venice-async jobs --forget ID")
    return exit_codes.OK


def _as_json(entry: JournalEntry, *, elsewhere: bool) -> dict[str, Any]:
    state, place = entry.state, _place(entry)
    return {
        "id": entry.id,
        "ticket": ticket_json(entry.ticket) if entry.ticket else None,
        "model": entry.model,
        "state": type(state).__name__,
        "elsewhere": elsewhere,
        "to": None if place is None else str(place),
        "created": _iso(entry.created),
        "ended": _iso(entry.ended),
        "usd": entry.usd,
        "key": entry.name or None,
        "tags": dict(entry.tags),
        "prompt": entry.request.prompt if entry.request else None,
        "error": state.error.message if isinstance(state, Failed) else None,
        "answer": state.answer if isinstance(state, Queueing) else None,
    }


def _as_row(entry: JournalEntry, *, here: bool) -> dict[str, str]:
    """Return a row of the table, with what tells jobs apart first: a narrow terminal shows no more."""
    lost = here and isinstance(entry.state, Queueing)
    state = "perhaps paid for" if lost else phase(entry.state)
    return {
        "job": entry.ticket.queue_id if entry.ticket else entry.id + " (outcome unknown)" * lost,
        "key": entry.name,
        "state": state if here else f"{state}, by another process",
        "prompt": (entry.request.prompt if entry.request else None) or "",
        "tags": ", ".join(f"{name}={text}" for name, text in entry.tags.items()),
        "price": as_usd(entry.usd) if entry.usd is not None else "",
        "took": as_seconds(entry.ended - entry.created) if entry.ended else "",
        "queued": f"{as_seconds(max(0.0, time.time() - entry.created))} ago",
        "model": entry.model or "?",
        "to": str(_place(entry) or ""),
    }


def _place(entry: JournalEntry) -> Path | str | None:
    """Return where the clip is, or is to go."""
    video = entry.state.video if isinstance(entry.state, Succeeded | Saved) else None
    return (video and video.path) or entry.to


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
