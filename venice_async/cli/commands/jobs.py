"""`venice-async jobs`: what is unfinished."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from ...errors import UsageError
from ...formatting import as_seconds
from ...sansio.job.states import Queueing
from .. import exit_codes
from ..completions import JOBS
from ..explain import ticket_json
from ..journals import name_of, open_journal
from ..options import Connection, Journalling, Output
from ..screen.board import phase
from ..screen.screen import ScreenHere
from ..session import journal_path

if TYPE_CHECKING:
    from ...io.journal.entries import JournalEntry, Unfinished
    from ..screen.screen import Screen

EXAMPLES: Final = """\
venice-async jobs
venice-async jobs --json
venice-async jobs --forget 5f0c9a1be377
"""


async def jobs(
    *,
    forget: Annotated[str | None, Parameter(metavar="ID"), JOBS] = None,
    journalling: Journalling = Journalling(),
    connection: Connection = Connection(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """List the jobs in the journal that are unfinished. No key is needed.

    Those that another living process watches are only counted.

    Args:
        forget: Strike a job off, once you know that no clip of it will come.
    """
    path = journal_path(connection, journalling)
    async with open_journal(path) as journal:
        entries = None if journal is None else await journal.pending()
        if forget is not None:
            ids = [entry.id for entry in entries or () if forget in _names(entry)]
            if journal is None or not ids or not await journal.forget(ids[0]):
                msg = f"The journal has no unfinished job, and no paid request of unknown outcome, {forget!r}"
                raise UsageError(
                    msg, hint="'venice-async jobs' lists them, unless another process works on them"
                )
            screen.note(f"Forgot {forget}.")
            return exit_codes.OK
    if screen.as_json:
        screen.emit([_as_json(entry) for entry in entries or ()])
    elif entries:
        screen.table(_columns(entries), styles=["" for _ in entries])
    _advise(entries, path, screen)
    return exit_codes.OK


def _advise(entries: Unfinished | None, path: Path | str | None, screen: Screen) -> None:
    held = entries.held if entries is not None else 0
    if entries or not held:
        screen.note(
            f"{len(entries)} unfinished in {path and name_of(path)}" if entries else "Nothing is unfinished."
        )
    if held:
        screen.note(f"{held} unfinished {'is' if held == 1 else 'are'} being watched by another process.")
    if any(entry.ticket for entry in entries or ()):
        screen.note("Go on with: venice-async resume --all")
    if any(entry.ticket is None for entry in entries or ()):
        for entry in entries or ():
            if (answer := _answer(entry)) is not None:
                screen.note(f"{entry.id}: the server answered, and nobody understood: {answer}")
                name, to = entry.model or "MODEL", shlex.quote(str(entry.to or "."))
                ticket = shlex.quote(json.dumps({"model": name, "queue_id": "JOB"}))
                screen.note(f"If that names a job: echo {ticket} | venice-async resume - -o {to}")
        screen.note("Look at your account for an unknown outcome, then: venice-async jobs --forget ID")


def _answer(entry: JournalEntry) -> str | None:
    """Return what was kept of an answer to the paid request that made no sense, without secrets."""
    return entry.state.answer if isinstance(entry.state, Queueing) else None


def _names(entry: JournalEntry) -> set[str]:
    return {entry.id, *([entry.ticket.queue_id] if entry.ticket else [])}


def _columns(entries: Unfinished) -> dict[str, list[str]]:
    now = time.time()
    noted = {
        "key": [entry.name for entry in entries],
        "tags": [", ".join(f"{name}={text}" for name, text in entry.tags.items()) for entry in entries],
    }
    return {
        "job": [
            entry.ticket.queue_id if entry.ticket else f"{entry.id} (outcome unknown)" for entry in entries
        ],
        "model": [entry.model or "?" for entry in entries],
        "state": [
            "perhaps paid for" if isinstance(entry.state, Queueing) else phase(entry.state)
            for entry in entries
        ],
        "queued": [f"{as_seconds(max(0.0, now - entry.created))} ago" for entry in entries],
        "to": [str(entry.to or "") for entry in entries],
        **{title: cells for title, cells in noted.items() if any(cells)},
        "prompt": [(entry.request.prompt if entry.request else None) or "" for entry in entries],
    }


def _as_json(entry: JournalEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "ticket": ticket_json(entry.ticket) if entry.ticket else None,
        "model": entry.model,
        "state": type(entry.state).__name__,
        "to": None if entry.to is None else str(entry.to),
        "created": entry.created,
        "key": entry.name or None,
        "tags": dict(entry.tags),
        "prompt": entry.request.prompt if entry.request else None,
        "answer": _answer(entry),
    }
