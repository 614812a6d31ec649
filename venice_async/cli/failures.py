"""What went wrong, in one line for people or one JSON object for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..errors import APIError, BadRequestError, ConsentRequiredError, JournalError, NotFoundError, VeniceError
from .exits import exit_code

if TYPE_CHECKING:
    from ..results import Ticket
    from .screen.screen import Screen

# How the library's hints, which speak of Python, are said on a command line.
_WORDS: Final = (
    ("pass overwrite=True", "pass --overwrite"),
    ("Raise max_usd", "Raise --max-usd"),
    ("max_usd", "--max-usd"),
    ("Pass api_key=, or set VENICE_API_KEY", "Set VENICE_API_KEY"),
    (
        "; VideoModel.check lists what a model accepts",
        "; 'venice-async models' lists what each model accepts",
    ),
    ("Keep the ticket and call resume(ticket, to=...) later", "Resume it later"),
    ("call resume(ticket, to=...)", "resume it"),
    ("Call resume(ticket, to=...)", "Resume it"),
    ("Pass a path like 'clip.mp4'", "Name a file like clip.mp4"),
    ("to= is", "The output is"),
    ("pass refer_to=", "pass --refer-to"),
    ("For a file on this machine, pass Media(path)", "Name a file, or an http(s) URL"),
    ("Say it: Media(..., media_type='image/png')", "Use a PNG, JPEG, WebP, MP4, MOV, WAV or MP3 file"),
    ("; share one client so that its jobs share one budget", ""),
)
CHOOSE: Final = "Name a file for it by --journal or VENICE_JOURNAL, or do without by --no-journal"
_NOBODY: Final = "Run this in a terminal: the policy is shown there, and three questions are asked"
_NOWHERE: Final = (
    "Check the model ('venice-async models' lists them), and the base URL, which usually ends in /api/v1"
)
_STRANGER: Final = "Only the key and the base URL that queued a job know it, and only for a time"


def report(screen: Screen, error: VeniceError, *, resume: str | None = None) -> int:
    """Say what went wrong and return the exit code; `resume` is the command line that goes on."""
    screen.complain(f"venice-async: {in_words(error)}")
    if screen.as_json:
        screen.emit(as_json(error, resume=resume))
    return exit_code(error)


def in_words(error: VeniceError) -> str:
    """Return one line: what happened, whether money was spent, and what to do."""
    parts = (_sentence(error.message), error.money, _sentence(hint(error)))
    return " ".join(" ".join(part.split()) for part in parts if part)


def hint(error: VeniceError) -> str:
    """Return what to do about an error, in the words of the command line."""
    text = _own_hint(error) or error.hint
    for python, shell in _WORDS:
        text = text.replace(python, shell)
    return text


def _own_hint(error: VeniceError) -> str:
    if isinstance(error, APIError) and "hint" in error.facts:
        return ""
    if isinstance(error, ConsentRequiredError):
        return _NOBODY
    if isinstance(error, NotFoundError) and error.ticket is None:
        return _NOWHERE
    if isinstance(error, JournalError) and error.ticket is None:
        return f"{error.hint}. {CHOOSE}" if error.hint else CHOOSE
    stranger = isinstance(error, BadRequestError) and error.ticket and "request id" in error.message.lower()
    return _STRANGER if stranger else ""


def as_json(error: VeniceError, *, resume: str | None = None) -> dict[str, Any]:
    """Return an error as JSON values; the ticket is without its link."""
    known = {
        "type": type(error).__name__,
        "message": error.message,
        "hint": hint(error) or None,
        "charged": error.charged,
        "exit_code": exit_code(error),
        "status": error.status if isinstance(error, APIError) else None,
        "code": error.code if isinstance(error, APIError) else None,
        "request_id": error.request_id if isinstance(error, APIError) else None,
    }
    said = {name: value for name, value in known.items() if value is not None or name == "charged"}
    ticket = {"ticket": ticket_json(error.ticket)} if error.ticket else {}
    return {"ok": False, "error": said, **ticket, **({"resume": resume} if resume else {})}


def ticket_json(ticket: Ticket) -> dict[str, str]:
    """Return a ticket as JSON values, without its link, which is a secret."""
    return {"model": ticket.model, "queue_id": ticket.queue_id}


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
