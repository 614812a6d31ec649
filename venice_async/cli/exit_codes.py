"""Errors and results: as exit codes, as a line for people, and as JSON for scripts."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from .. import errors
from ..sansio.converter import error_name
from .options import CHOOSE

if TYPE_CHECKING:
    from ..results import Ticket, Video
    from .screen.screen import Screen

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
PAYMENT: Final = 3
KEY: Final = 4
CONSENT: Final = 5
TIMEOUT: Final = 6
UNKNOWN: Final = 7
SERVICE: Final = 8
FILES: Final = 9
RESTART: Final = 75
HUNG_UP: Final = 129
INTERRUPTED: Final = 130
TERMINATED: Final = 143


@frozen
class Meaning:
    """An exit code, what it means, and the errors that end with it."""

    code: int
    text: str
    of: tuple[type[errors.VeniceError], ...] = ()


# The first row that an error belongs to counts, so that a class stands above the classes it derives from.
TABLE: Final = (
    Meaning(OK, "done"),
    Meaning(FAILED, "a job failed, or its content was refused"),
    Meaning(
        USAGE,
        "called wrongly, or a request that cannot succeed",
        (errors.UsageError, errors.InvalidRequestError),
    ),
    Meaning(PAYMENT, "balance, budget or price", (errors.PaymentRequiredError, errors.BudgetExceededError)),
    Meaning(
        KEY,
        "no key, a wrong one, or not permitted",
        (errors.AuthenticationError, errors.PermissionDeniedError),
    ),
    Meaning(CONSENT, "consent is needed, or was declined", (errors.ConsentError,)),
    Meaning(TIMEOUT, "not done in time; resume it", (errors.JobTimeoutError,)),
    Meaning(UNKNOWN, "a paid request whose outcome is unknown", (errors.QueueOutcomeUnknownError,)),
    Meaning(
        SERVICE,
        "network or service; try again",
        (errors.TransportError, errors.RateLimitError, errors.ServerError, errors.ProtocolError),
    ),
    Meaning(
        FILES,
        "the clip, the journal or the output cannot be written",
        (errors.DownloadError, errors.JournalError),
    ),
    Meaning(RESTART, "a worker that is to be started again"),
    Meaning(HUNG_UP, "the terminal was closed; resume it"),
    Meaning(INTERRUPTED, "interrupted by Ctrl-C; resume it"),
    Meaning(TERMINATED, "ended by SIGTERM; resume it"),
)


_UNWRITABLE: Final = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO}
)

_NOWHERE: Final = (
    "Check the model ('venice-async models' lists them), and the base URL, which usually ends in /api/v1"
)


class NoKeyError(errors.UsageError):
    """There is no API key to call Venice with."""


def exit_code(error: errors.VeniceError) -> int:
    """Return the exit code of a command that ends with `error`."""
    if isinstance(error, NoKeyError):
        return KEY
    cause = error.__cause__
    if isinstance(error, errors.UsageError) and isinstance(cause, OSError) and cause.errno in _UNWRITABLE:
        return FILES
    if (
        isinstance(error, errors.BadRequestError | errors.NotFoundError | errors.PayloadTooLargeError)
        and error.ticket is None
    ):
        return USAGE
    return next((row.code for row in TABLE if isinstance(error, row.of)), FAILED)


def listing() -> str:
    """Return the table as text, a row a line."""
    return "\n".join(f"{row.code:>3}  {row.text}" for row in TABLE)


def report(screen: Screen, error: errors.VeniceError, *, resume: str | None = None) -> int:
    """Say what went wrong and return the exit code; `resume` is the command line that resumes the job."""
    screen.complain(f"venice-async: {in_words(error)}")
    if screen.as_json:
        screen.emit(failed_json(error, resume=resume))
    return exit_code(error)


def in_words(error: errors.VeniceError) -> str:
    """Return one line: what happened, whether money was spent, and what to do."""
    parts = (_sentence(error.message), error.money, _sentence(hint(error)))
    return " ".join(" ".join(part.split()) for part in parts if part)


def hint(error: errors.VeniceError) -> str:
    """Return what to do about an error, in the words of the command line."""
    said: str | None = error.facts.get("cli_hint") or error.facts.get("hint")
    if isinstance(error, errors.NotFoundError) and error.ticket is None and not said:
        return _NOWHERE
    if isinstance(error, errors.JournalError) and error.ticket is None and not error.facts.get("cli_hint"):
        return ". ".join(filter(None, (error.hint, CHOOSE)))
    return error.cli_hint or error.hint if said is None else said


def failed_json(error: errors.VeniceError, *, resume: str | None = None) -> dict[str, Any]:
    """Return an error as JSON values; the ticket is without its link."""
    api = error if isinstance(error, errors.APIError) else None
    known = {
        "type": error_name(error),
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
