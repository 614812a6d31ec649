"""What may be passed to a client: every argument that makes no sense is refused at once, by `UsageError`."""

from __future__ import annotations

import logging
from inspect import iscoroutinefunction
from math import isnan
from urllib.parse import urlsplit

from ..errors import UsageError
from ..requests import VideoRequest
from ..results import Ticket
from ..sansio.http.links import is_loopback
from ..sansio.http.secrets import Secret

log: logging.Logger = logging.getLogger(__name__)


def checked_key(secret: Secret) -> Secret:
    """Return the key without the blanks around it. It is handled wrapped, so that no traceback shows it.

    Raises:
        UsageError: it is none.
    """
    secret = Secret(secret.reveal().strip())
    if not secret.reveal():
        msg = "There is no API key"
        raise UsageError(msg, hint="Pass api_key=, or set VENICE_API_KEY; make one at venice.ai/settings/api")
    if not secret.reveal().isascii() or not secret.reveal().isprintable() or " " in secret.reveal():
        msg = "The API key has characters that no key has"
        raise UsageError(msg, hint="Copy it again, without blanks or line ends")
    return secret


def checked_url(url: str) -> str:
    """Return the base URL without a slash at its end.

    Raises:
        UsageError: it is none.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound, parts = False, urlsplit("")
    if not sound or parts.query or parts.username:
        msg = "base_url must be an http(s) URL such as https://api.venice.ai/api/v1"
        raise UsageError(msg)
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        log.warning("base_url is plain http: the key can be read on its way")
    return url.rstrip("/")


def check_listener(on_state: object) -> None:
    """Refuse what cannot be told states on the event loop.

    Raises:
        UsageError: it is no plain function.
    """
    if on_state is not None and (not callable(on_state) or iscoroutinefunction(on_state)):
        msg = "on_state must be a plain function, not a coroutine function"
        raise UsageError(msg, hint="Let it put the states into a queue that a task of yours reads")


def check_request(request: object) -> None:
    """Refuse what is no `VideoRequest`.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(request, VideoRequest):
        msg = f"A request must be a VideoRequest, not {type(request).__name__}"
        raise UsageError(msg, hint="Make one: VideoRequest(model=..., prompt=..., duration='5s')")


def check_price_limit(max_usd: object) -> None:
    """Refuse what is no price.

    Raises:
        UsageError: it is none.
    """
    if max_usd is None:
        return
    if isinstance(max_usd, bool) or not isinstance(max_usd, int | float) or not max_usd >= 0:
        msg = f"max_usd must be a number of at least 0, not {max_usd!r}"
        raise UsageError(msg)


def check_priority(priority: object) -> None:
    """Refuse what does not rank a job among others.

    Raises:
        UsageError: it is no number.
    """
    if not isinstance(priority, int | float) or isnan(priority):
        msg = f"priority must be a number, not {priority!r}"
        raise UsageError(msg)


def parse_ticket(ticket: object) -> Ticket | UsageError:
    """Return the ticket or what is wrong with it. Raised here, it would show the text with the link in it."""
    if isinstance(ticket, Ticket):
        return ticket
    if not isinstance(ticket, str | bytes):
        return UsageError(f"A ticket is wanted, or the JSON of one, not {type(ticket).__name__}")
    try:
        return Ticket.from_json(ticket)
    except UsageError as error:
        return error.with_traceback(None)


def sound(ticket: Ticket | UsageError) -> Ticket:
    """Return the ticket, or raise what is wrong with it."""
    if isinstance(ticket, UsageError):
        raise ticket
    return ticket
