"""What is to be done next."""

from __future__ import annotations

from typing import TypeAlias

from attrs import field, frozen

from ...requests import Consent, VideoRequest
from ...results import ConsentRequest, Ticket, Video


@frozen
class AskPrice:
    """Ask what the request would cost; `reference_video_seconds` is the length of all reference clips."""

    request: VideoRequest
    reference_video_seconds: float | None = field(default=None, kw_only=True)


@frozen
class Queue:
    """Send the paid request, once; `consent` is given in the words of `flow`."""

    request: VideoRequest
    consent: Consent | None = None
    flow: str | None = None


@frozen
class AskConsent:
    """Ask a person."""

    consent_request: ConsentRequest


@frozen
class Poll:
    """Ask how the job is doing, `after` seconds from now or later; the answer may be the clip itself."""

    ticket: Ticket
    after: float = 0.0


@frozen
class Fetch:
    """GET the link after that many seconds; `gets` counts the GETs of it, this one included."""

    ticket: Ticket
    gets: int
    after: float = 0.0


@frozen
class CleanUp:
    """Delete the server's copy of a clip that is safe."""

    video: Video


@frozen
class ListModels:
    """Ask for the catalogue of video models."""


@frozen
class ReadLimits:
    """Ask for the key's limits and balances."""


@frozen
class Complete:
    """Delete the server's copy of a public job's media."""

    ticket: Ticket


@frozen
class Revoke:
    """DELETE the link of a private job."""

    ticket: Ticket


@frozen
class Price:
    """Ask for a price; `reference_video_seconds` is the total length of all reference clips, in seconds."""

    request: VideoRequest
    reference_video_seconds: float | None = field(default=None, kw_only=True)


Command: TypeAlias = AskPrice | Queue | AskConsent | Poll | Fetch | CleanUp
Query: TypeAlias = ListModels | ReadLimits | Complete | Revoke | Price
