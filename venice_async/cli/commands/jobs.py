"""`venice-async jobs`: what is unfinished, and with `--all` what has ended."""

from __future__ import annotations

import json
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

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
from ..options import Connection, Journalling, Output
from ..screen.board import phase
from ..screen.screen import ScreenHere
from ..session import journal_path, name_of, open_journal
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

    def wanted(self, now: float) -> Wanted:
        """Return them as the journal takes them; without `all`, or a state, only the unfinished.

        Raises:
            UsageError: one makes no sense.
        """
        state = self.state or (None if self.all else "unfinished")
        since = moment(self.since, now)
        return Wanted(
            kinds=kinds_of(state), model=self.model, key=self.key, tag=self.tag, since=since, limit=self.limit
        )


@command(EXAMPLES)
async def jobs(
    *,
    forget: Annotated[str | None, Parameter(metavar="ID"), JOBS] = None,
    filters: Filters = Filters(),
    journalling: Journalling = Journalling(),
    connection: Connection = Connection(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """List the jobs in the journal that are unfinished, or with --all every job. No key is needed.

    Args:
        forget: Strike a job off, once you know that no clip of it will come.
    """
    path = journal_path(connection, journalling)
    wanted = filters.wanted(time.time())
    async with open_journal(path) as journal:
        entries: list[JournalEntry] = []
        elsewhere: set[str] = set()
        if journal is not None and forget is not None:
            ids = [
                entry.id
                for entry in await journal.pending()
                if forget == entry.id or (entry.ticket and forget == entry.ticket.queue_id)
            ]
            if ids and await journal.forget(ids[0]):
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
        screen.emit(
            [
                {
                    "id": entry.id,
                    "ticket": ticket_json(entry.ticket) if entry.ticket else None,
                    "model": entry.model,
                    "state": type(entry.state).__name__,
                    "elsewhere": entry.id in elsewhere,
                    "to": None if (file := _file(entry)) is None else str(file),
                    "created": _iso(entry.created),
                    "ended": _iso(entry.ended),
                    "usd": entry.usd,
                    "key": entry.name or None,
                    "tags": dict(entry.tags),
                    "prompt": entry.request.prompt if entry.request else None,
                    "error": entry.state.error.message if isinstance(entry.state, Failed) else None,
                    "answer": _answer(entry),
                }
                for entry in entries
            ]
        )
    elif entries:
        screen.table(_columns(entries, elsewhere), styles=["" for _ in entries], cut="prompt")
    if filters == Filters():
        entries = [entry for entry in entries if entry.id not in elsewhere]
        held = len(elsewhere)
        if entries or not held:
            screen.note(
                f"{len(entries)} unfinished in {path and name_of(path)}"
                if entries
                else "Nothing is unfinished."
            )
        if held:
            screen.note(f"{held} unfinished {'is' if held == 1 else 'are'} being watched by another process.")
        if any(entry.ticket for entry in entries):
            screen.note("Go on with: venice-async resume --all")
        if any(entry.ticket is None for entry in entries):
            for entry in entries:
                if (answer := _answer(entry)) is not None:
                    screen.note(f"{entry.id}: the server answered, and nobody understood: {answer}")
                    name, to = entry.model or "MODEL", shlex.quote(str(entry.to or "."))
                    ticket = shlex.quote(json.dumps({"model": name, "queue_id": "JOB"}))
                    screen.note(f"If that names a job: echo {ticket} | venice-async resume - -o {to}")
            screen.note("Look at your account for an unknown outcome, then: venice-async jobs --forget ID")
    else:
        screen.note("1 job." if len(entries) == 1 else f"{len(entries)} jobs.")
    return exit_codes.OK


def _answer(entry: JournalEntry) -> str | None:
    """Return what was kept of an answer to the paid request that made no sense, without secrets."""
    return entry.state.answer if isinstance(entry.state, Queueing) else None


def _columns(entries: list[JournalEntry], elsewhere: set[str]) -> dict[str, list[str]]:
    now = time.time()
    names: list[str] = []
    states: list[str] = []
    for entry in entries:
        here = entry.id not in elsewhere
        lost = here and isinstance(entry.state, Queueing)
        unqueued = f"{entry.id} (outcome unknown)" if lost else entry.id
        names.append(entry.ticket.queue_id if entry.ticket else unqueued)
        state = "perhaps paid for" if lost else phase(entry.state)
        states.append(state if here else f"{state}, by another process")
    noted = {
        "key": [entry.name for entry in entries],
        "tags": [", ".join(f"{name}={text}" for name, text in entry.tags.items()) for entry in entries],
        "price": [as_usd(entry.usd) if entry.usd is not None else "" for entry in entries],
        "took": [as_seconds(entry.ended - entry.created) if entry.ended else "" for entry in entries],
    }
    known = {title: cells for title, cells in noted.items() if any(cells)}
    own = {"key": known.pop("key")} if "key" in known else {}
    return {  # what tells them apart first: a narrow terminal shows no more
        "job": names,
        **own,
        "state": states,
        "prompt": [(entry.request.prompt if entry.request else None) or "" for entry in entries],
        **known,
        "queued": [f"{as_seconds(max(0.0, now - entry.created))} ago" for entry in entries],
        "model": [entry.model or "?" for entry in entries],
        "to": [str(_file(entry) or "") for entry in entries],
    }


def _file(entry: JournalEntry) -> Path | str | None:
    """Return where the clip is, or is to go."""
    video = entry.state.video if isinstance(entry.state, Succeeded | Saved) else None
    return (video and video.path) or entry.to


def _iso(seconds: float | None) -> str | None:
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    )
