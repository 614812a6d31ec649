"""A paid job that is not done: where its ticket is kept, and how to go on."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ..errors import (
    BadRequestError,
    ContentPolicyError,
    JobFailedError,
    LinkExpiredError,
    NotFoundError,
    PayloadTooLargeError,
    VeniceError,
)
from .failures import ticket_json

if TYPE_CHECKING:
    from ..results import Ticket
    from .connection import Session
    from .screen.screen import Screen

# After these no clip will come, whoever asks.
_FINAL: Final = (
    BadRequestError,
    NotFoundError,
    LinkExpiredError,
    PayloadTooLargeError,
    ContentPolicyError,
    JobFailedError,
)


@frozen(kw_only=True)
class Handover:
    """How to go on with a job.

    Attributes:
        ticket: the job.
        kept: where the ticket is, in words, behind a comma.
        command: the command line that goes on.
        works: whether that command can work: an embedded sandbox ends with its command, and its jobs with it.
    """

    ticket: Ticket
    kept: str
    command: str
    works: bool = True


def resumable(error: VeniceError) -> bool:
    """Tell whether a later try may bring the clip of a job that ended like this."""
    return error.ticket is not None and not isinstance(error, _FINAL)


def hand_over(session: Session, ticket: Ticket, to: Path) -> Handover:
    """See that the ticket is kept: the journal has it, or a file is made that only its owner can read."""
    if session.connection.sandbox:
        command = session.again("resume", ticket.queue_id, "-o", str(to))
        return Handover(ticket=ticket, kept="", command=command, works=False)
    if session.journal is not None:
        command = session.again("resume", ticket.queue_id, "-o", str(to))
        return Handover(ticket=ticket, kept=f", kept in the journal {session.journal}", command=command)
    path = save(ticket, to)
    return Handover(
        ticket=ticket, kept=f", kept in {path}", command=session.again("resume", str(path), "-o", str(to))
    )


def save(ticket: Ticket, to: Path) -> Path:
    """Write the ticket, link included, to a new file beside `to`, for its owner only, and return its path.

    Raises:
        OSError: it cannot be written.
    """
    folder, name = (to, "venice") if to.is_dir() else (to.parent, to.name)
    return _written([ticket], folder, name)


def save_all(tickets: Sequence[Ticket], folder: Path) -> Path:
    """Write tickets to a new file in `folder`, one a line; see `save`."""
    return _written(tickets, folder, "venice")


def _written(tickets: Sequence[Ticket], folder: Path, name: str) -> Path:
    path = folder / f"{name}.ticket.json"
    if path.exists() or path.is_symlink():
        path = folder / f"{name}.{secrets.token_hex(3)}.ticket.json"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.writelines(ticket.to_json() + "\n" for ticket in tickets)
        file.flush()
        os.fsync(file.fileno())
    return path


def show(screen: Screen, handover: Handover) -> None:
    """Say where the ticket is and how to go on; the link is not shown."""
    ticket = handover.ticket
    screen.insist(f"Ticket: job {ticket.queue_id} on {ticket.model}{handover.kept}")
    screen.insist(f"Resume: {handover.command}", "bold")
    if not handover.works:
        screen.insist("        (on the real service; this job ended with the sandbox in this command)")


def stopped_json(handover: Handover) -> dict[str, object]:
    """Return a job that is no longer watched as JSON values."""
    return {"ok": False, "stopped": True, "ticket": ticket_json(handover.ticket), "resume": handover.command}
