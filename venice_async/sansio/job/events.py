"""The events of a job."""

from __future__ import annotations

from typing import TypeAlias

from attrs import field, frozen

from ...errors import VeniceError
from ...requests import Consent
from ...results import ConsentRequest, Ticket, Video


@frozen
class Priced:
    """The server named a price in USD."""

    usd: float


@frozen
class Accepted:
    """The paid request was accepted."""

    ticket: Ticket


@frozen
class ConsentNeeded:
    """The server asks for consent; nothing was charged."""

    consent_request: ConsentRequest


@frozen
class Answered:
    """A person answered; `consent` is None for no."""

    consent: Consent | None


@frozen(kw_only=True)
class StillGoing:
    """The server is at work: seconds worked, the model's P80, and what we expect of the rest."""

    elapsed: float | None = None
    average: float | None = None
    eta: float | None = None


@frozen(kw_only=True)
class Completed:
    """The job is done, and its file is elsewhere: at `link` if the body named one, else at the ticket's."""

    link: str | None = field(default=None, repr=False)
    elapsed: float | None = None


@frozen
class Missed:
    """A poll brought no news, because of a failure of the network or the server."""

    error: VeniceError


@frozen
class Interrupted:
    """A delivery was cut; `progressed` tells whether it had gained enough to count as progress."""

    error: VeniceError
    progressed: bool = False


@frozen
class Delivered:
    """The clip is verified and under its final name."""

    video: Video


@frozen
class CleanedUp:
    """The clean-up was tried; `error` tells why it failed, if it did."""

    error: VeniceError | None = None


@frozen
class Refused:
    """The job cannot go on."""

    error: VeniceError


@frozen
class StopAsked:
    """The caller stops watching; a job that is not paid for fails for `reason`, if there is one."""

    reason: VeniceError | None = None


Event: TypeAlias = (
    Priced
    | Accepted
    | ConsentNeeded
    | Answered
    | StillGoing
    | Completed
    | Missed
    | Interrupted
    | Delivered
    | CleanedUp
    | Refused
    | StopAsked
)
