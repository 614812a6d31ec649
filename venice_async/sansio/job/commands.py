"""The commands of a job."""

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


Command: TypeAlias = AskPrice | Queue | AskConsent | Poll | Fetch | CleanUp
