"""What the exit codes mean, and which error ends with which: the one table of both."""

from __future__ import annotations

import errno
from typing import Final

from attrs import frozen

from .. import errors

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
