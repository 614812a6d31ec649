"""What became of a job or a command, in one line for people or one JSON object for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..errors import APIError, JournalError, NotFoundError, VeniceError
from .exit_codes import exit_code
from .options import CHOOSE

if TYPE_CHECKING:
    from ..results import Ticket, Video
    from .screen.screen import Screen

_NOWHERE: Final = (
    "Check the model ('venice-async models' lists them), and the base URL, which usually ends in /api/v1"
)


def report(screen: Screen, error: VeniceError, *, resume: str | None = None) -> int:
    """Say what went wrong and return the exit code; `resume` is the command line that resumes the job."""
    screen.complain(f"venice-async: {in_words(error)}")
    if screen.as_json:
        screen.emit(failed_json(error, resume=resume))
    return exit_code(error)


def in_words(error: VeniceError) -> str:
    """Return one line: what happened, whether money was spent, and what to do."""
    parts = (_sentence(error.message), error.money, _sentence(hint(error)))
    return " ".join(" ".join(part.split()) for part in parts if part)


def hint(error: VeniceError) -> str:
    """Return what to do about an error, in the words of the command line."""
    said: str | None = error.facts.get("cli_hint") or error.facts.get("hint")
    if isinstance(error, NotFoundError) and error.ticket is None and not said:
        return _NOWHERE
    if isinstance(error, JournalError) and error.ticket is None and not error.facts.get("cli_hint"):
        return ". ".join(filter(None, (error.hint, CHOOSE)))
    return error.cli_hint or error.hint if said is None else said


def failed_json(error: VeniceError, *, resume: str | None = None) -> dict[str, Any]:
    """Return an error as JSON values; the ticket is without its link."""
    api = error if isinstance(error, APIError) else None
    known = {
        "type": type(error).__name__,
        "message": error.message,
        "hint": hint(error) or None,
        "charged": error.charged,
        "exit_code": exit_code(error),
        "status": api and api.status,
        "code": api and api.code,
        "request_id": api and api.request_id,
    }
    said = {name: value for name, value in known.items() if value is not None or name == "charged"}
    ticket = {"ticket": ticket_json(error.ticket)} if error.ticket else {}
    return {"ok": False, "error": said, **ticket, **({"resume": resume} if resume else {})}


def ticket_json(ticket: Ticket) -> dict[str, str]:
    """Return a ticket as JSON values, without its link, which is a secret."""
    return {"model": ticket.model, "queue_id": ticket.queue_id}


def succeeded_json(video: Video, usd: float | None, seconds: float | None) -> dict[str, Any]:
    """Return a clip as JSON values."""
    known = {
        "ok": True,
        "path": None if video.path is None else str(video.path),
        "url": video.url,
        "size": video.size,
        "sha256": video.sha256,
        "seconds": None if seconds is None else round(seconds, 3),
        "usd": usd,
        **ticket_json(video.ticket),
    }
    return {name: value for name, value in known.items() if value is not None}


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
