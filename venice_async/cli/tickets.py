"""Paid jobs that are not done: where their tickets are kept, and how to resume them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from attrs import frozen

from ..io.journal.address import shown
from .standard_output import STDOUT

if TYPE_CHECKING:
    from ..results import Ticket
    from .screen.screen import Screen
    from .session import Session


@frozen(kw_only=True)
class Handover:
    """How to resume a job.

    Attributes:
        ticket: the job.
        kept: where the ticket is, in words, behind a comma.
        command: the command line that resumes it.
        works: whether that command can work: an embedded sandbox ends with its command, and its jobs with it.
    """

    ticket: Ticket
    kept: str
    command: str
    works: bool = True

    def show(self, screen: Screen) -> None:
        """Say where the ticket is and how to go on; the link is not shown."""
        screen.insist(f"Ticket: job {self.ticket.queue_id} on {self.ticket.model}{self.kept}")
        screen.insist(f"Resume: {self.command}", "bold")
        if not self.works:
            screen.insist("        (on the real service; this job ended with the sandbox in this command)")


async def hand_over(
    session: Session, screen: Screen, ticket: Ticket, to: Path | str | None
) -> Handover | None:
    """See that a ticket is kept: by the journal, or in a new file; None, and a complaint, if it cannot be."""
    where = [] if to is None else ["-o", str(to)]
    by_id = session.again("resume", ticket.queue_id, *where)
    if session.connection.sandbox:
        return Handover(ticket=ticket, kept="", command=by_id, works=False)
    if session.journal is not None:
        return Handover(ticket=ticket, kept=f", kept in the journal {shown(session.journal)}", command=by_id)
    try:
        path = await anyio.to_thread.run_sync(save, [ticket], to)
    except OSError as error:
        job = f"job {ticket.queue_id} on {ticket.model}"
        screen.complain(f"The ticket cannot be saved ({error.strerror}): {job}")
        return None
    return Handover(
        ticket=ticket, kept=f", kept in {path}", command=session.again("resume", str(path), *where)
    )


def save(tickets: Sequence[Ticket], to: Path | str | None) -> Path:
    """Write tickets, links included, one a line, to a new file in or beside `to`; return its path.

    Only its owner can read it. Where `to` is no path it is made here.

    Raises:
        OSError: it cannot be written.
    """
    if to == STDOUT or not isinstance(to, Path):
        to = Path()
    folder, name = (to, "venice") if to.is_dir() else (to.parent, to.name)
    path = folder / f"{name}.ticket.json"
    if path.exists() or path.is_symlink():
        path = folder / f"{name}.{secrets.token_hex(3)}.ticket.json"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.writelines(ticket.to_json() + "\n" for ticket in tickets)
        file.flush()
        os.fsync(file.fileno())
    return path
