"""The commands on a journal: jobs, resume, spend, reconcile."""

from __future__ import annotations

import json
import os
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
from attrs import evolve, frozen
from cyclopts import Parameter
from cyclopts.validators import Number

from ...errors import UsageError
from ...formatting import as_seconds, as_usd
from ...io.journal.history import Wanted, grouped, kinds_of, moment, total
from ...results import Ticket
from ...sansio.job.states import Failed, Queueing, Saved, Succeeded
from ...validators import without_password
from .. import exit_codes
from ..completions import JOBS, KEYS, Model
from ..exit_codes import ticket_json
from ..options import Access, JournalAccess, LastingAccess, Output, Target
from ..run_jobs import destination, watch
from ..screen.board import phase
from ..screen.screen import ScreenHere
from ..session import open_journal, open_session
from ..stdio import read_text
from . import command

if TYPE_CHECKING:
    from ...io.journal.entries import JournalEntry

JOBS_EXAMPLES: Final = """\
venice-async jobs
venice-async jobs --all --since 7d --state failed
venice-async jobs --all --tag project=dawn --json
venice-async jobs --forget 5f0c9a1be377
"""
RESUME_EXAMPLES: Final = """\
venice-async resume --all
venice-async resume 3f6c2a9e-5d0b-4a4e-9c57-0a3c9f3a1b52
venice-async resume clip.mp4.ticket.json -o clip.mp4
"""
SPEND_EXAMPLES: Final = """\
venice-async spend --since 7d
venice-async spend --by day
venice-async spend --since 2026-11-01 --by tag:project
"""
RECONCILE_EXAMPLES: Final = """\
VENICE_ADMIN_KEY=... venice-async reconcile
venice-async reconcile --json
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


@command(JOBS_EXAMPLES)
async def jobs(
    *,
    forget: Annotated[str | None, Parameter(metavar="ID"), JOBS] = None,
    filters: Filters = Filters(),
    access: JournalAccess = JournalAccess(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """List the jobs in the journal that are unfinished, or with --all every job. No key is needed.

    Args:
        forget: Remove a job, once you know that no clip of it will come.
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
            elsewhere = {entry.id for entry in looked.changed if entry.owner is not None}
    if forget is not None:
        msg = f"The journal has no unfinished job, and no paid request of unknown outcome, {forget!r}"
        raise UsageError(msg, hint="'venice-async jobs' lists them, and those that another process works on")
    if not filters.all:
        entries.reverse()  # the oldest first
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
        screen.note(f"{len(ours)} unfinished in {path and without_password(path)}")
    elif not held:
        screen.note("Nothing is unfinished.")
    if held:
        screen.note(f"{held} unfinished {'is' if held == 1 else 'are'} being watched by another process.")
    if any(entry.ticket for entry in ours):
        screen.note("Go on with: venice-async resume --all")
    if any(entry.ticket is None for entry in ours):
        for entry in ours:
            if isinstance(entry.state, Queueing) and entry.state.answer is not None:
                screen.note(f"{entry.id}: the server's answer made no sense: {entry.state.answer}")
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


@command(RESUME_EXAMPLES)
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
    """Continue a job that is already paid for. Nothing is paid again.

    A job from the journal goes to its recorded destination; --output sends it
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
            return await watch(session, screen, jobs)
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
        return await watch(session, screen, jobs, to=to, caption=tickets[0].model)


@command(SPEND_EXAMPLES)
async def spend(
    *,
    since: Annotated[str | None, Parameter(metavar="WHEN")] = None,
    by: Annotated[str, Parameter(metavar="WAY", show_default=True)] = "model",
    access: JournalAccess = JournalAccess(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Add up what the jobs in the journal have cost. No key is needed.

    A price is known if it was quoted, as the commands always do. A request of
    unknown outcome counts; one that was refunded does not.

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


@command(RECONCILE_EXAMPLES)
async def reconcile(
    *,
    admin_key: Annotated[str | None, Parameter(metavar="KEY")] = None,
    access: LastingAccess = LastingAccess(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Settle paid requests of unknown outcome by the account's ledger. Nothing is paid.

    What was charged can be resumed then; what was not can be sent again.

    Args:
        admin_key: An ADMIN key of the account; better set VENICE_ADMIN_KEY.
    """
    admin_key = admin_key or os.environ.get("VENICE_ADMIN_KEY") or None
    if admin_key is None:
        msg = "There is no admin key"
        raise UsageError(msg, hint="Set VENICE_ADMIN_KEY (make an ADMIN key at venice.ai/settings/api)")
    if access.api_key is None and not os.environ.get("VENICE_API_KEY"):
        access = evolve(access, api_key=admin_key)
    async with open_session(screen, access) as session:
        with screen.waiting("reading the ledger"):
            found = await session.venice.reconcile(admin_key=admin_key)
    if screen.as_json:
        records = [
            {
                "id": one.entry.id,
                "outcome": one.finding,
                "usd": one.usd,
                "ticket": ticket_json(one.ticket) if one.ticket else None,
                "reason": one.reason or None,
            }
            for one in found
        ]
        screen.emit([{name: part for name, part in item.items() if part is not None} for item in records])
    elif found:
        screen.table(
            [
                {
                    "id": one.entry.id,
                    "outcome": one.finding,
                    "price": "" if one.usd is None else as_usd(one.usd),
                    "job": one.ticket.queue_id if one.ticket else "",
                    "model": one.entry.model or "?",
                    "why": one.reason,
                    "prompt": (one.entry.request and one.entry.request.prompt) or "",
                }
                for one in found
            ]
        )
    if not found:
        screen.note("No paid request is of unknown outcome.")
    if any(one.ticket for one in found):
        screen.note("Go on with what was charged: venice-async resume --all")
    if any(one.finding in {"not charged", "refunded"} for one in found):
        screen.note("What was not charged, or refunded, has left the journal: you can send it again.")
    unsettled = any(one.finding == "unsettled" for one in found)
    if unsettled:
        screen.insist(
            "For what is unsettled look at your generations on venice.ai, then: venice-async jobs --forget ID"
        )
    return exit_codes.UNKNOWN if unsettled else exit_codes.OK
