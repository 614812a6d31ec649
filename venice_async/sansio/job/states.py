"""The states of a job: each carries exactly what is true in it.

They serve as machine, progress and journal record.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from attrs import field, frozen

from ...errors import VeniceError
from ...requests import Consent, VideoRequest
from ...results import ConsentRequest, Ticket, Video
from ..retries import Attempts


@frozen(kw_only=True)
class Quoting:
    """The price is being asked for; nothing is queued yet.

    Attributes:
        request: what to queue if the price is right.
        max_usd: the most that it may cost, in USD.
        reference_video_seconds: the total length of all reference clips, where it is known.
    """

    request: VideoRequest
    max_usd: float
    reference_video_seconds: float | None = None


@frozen(kw_only=True)
class Queueing:
    """The paid request is waiting for its turn, or on its way.

    Attributes:
        request: what is queued.
        consent: what a person agreed to, once asked.
        flow: the flow of that consent.
        asked: the policies a person has been asked about.
        answer: what the server answered, without secrets, where that could not be read; see
            `QueueOutcomeUnknownError`.
    """

    request: VideoRequest
    consent: Consent | None = None
    flow: str | None = None
    asked: tuple[str, ...] = ()
    answer: str | None = field(default=None, repr=False)


@frozen(kw_only=True)
class AwaitingConsent:
    """A person is being asked; nothing is queued, and no connection is held.

    Attributes:
        request: what is to be queued.
        consent_request: the question.
        asked: the policies a person has been asked about, this one included.
    """

    request: VideoRequest
    consent_request: ConsentRequest
    asked: tuple[str, ...]


@frozen(kw_only=True)
class Waiting:
    """Queued and paid for; the server is generating.

    Attributes:
        ticket: the job.
        elapsed: seconds the server says it has worked, at its last answer; None before the first.
        average: the model's P80 in seconds, as the server says; None before the first answer.
        eta: seconds left by the model of its times, at the last answer or, before the first, when watching
            began; None when nothing is known.
        misses: polls in a row that brought no news.
        found: whether a poll has found the job; a job that was just queued may not be known everywhere.
        final: why another download would not help, if an earlier run has found that.
        attempts: the failed attempts since the last news.
    """

    ticket: Ticket
    elapsed: float | None = None
    average: float | None = None
    eta: float | None = None
    misses: int = 0
    found: bool = False
    final: str | None = None
    attempts: Attempts = field(factory=Attempts, repr=False)

    @property
    def progress(self) -> float | None:
        """The fraction that is likely done, in [0, 1), or None when nothing is known."""
        if self.elapsed is None or self.eta is None:
            return None
        whole = self.elapsed + self.eta
        return min(self.elapsed / whole, 0.99) if whole > 0 else 0.0


@frozen(kw_only=True)
class Downloading:
    """The clip is being downloaded, by link or from a poll.

    Attributes:
        ticket: the job.
        via: `"link"`, or `"poll"` for a clip that is the body of a poll.
        received: bytes so far.
        total: bytes announced, or None.
        link: the link that a poll named, for a ticket that has none of its own; a secret.
        gets: GETs of the link made, the present one included; kept across restarts.
        average: the model's P80 in seconds, as the server said; None when it did not.
        final: as in `Waiting`.
        attempts: the failed attempts since the last progress.
    """

    ticket: Ticket
    via: Literal["link", "poll"]
    received: int = 0
    total: int | None = None
    link: str | None = field(default=None, repr=False)
    gets: int = 0
    average: float | None = None
    final: str | None = None
    attempts: Attempts = field(factory=Attempts, repr=False)

    @property
    def progress(self) -> float | None:
        """The fraction that is received, in [0, 1], or None when the size is not known."""
        return min(self.received / self.total, 1.0) if self.total else None


@frozen(kw_only=True)
class _Delivered:
    video: Video

    @property
    def ticket(self) -> Ticket:
        """The job."""
        return self.video.ticket


@frozen(kw_only=True)
class Saved(_Delivered):
    """The clip is verified and under its final name; the server's copy is being cleaned up.

    Attributes:
        video: the clip.
    """


@frozen(kw_only=True)
class Succeeded(_Delivered):
    """Done.

    Attributes:
        video: the clip.
    """


@frozen(kw_only=True)
class Failed:
    """Ended without a clip.

    Attributes:
        error: why.
        ticket: the job, if one was queued.
        job_failed: whether the server said that the job itself failed, so that no clip will ever come. After
            anything else a later try may still bring it.
    """

    error: VeniceError = field(eq=lambda error: (type(error), error.facts), hash=False)
    ticket: Ticket | None = None
    job_failed: bool = False


@frozen(kw_only=True)
class Stopped:
    """No longer watched. The server has no way to cancel: a queued job goes on, and its ticket stays good.

    Attributes:
        ticket: the job, if one was queued.
    """

    ticket: Ticket | None = None


State: TypeAlias = (
    Quoting | Queueing | AwaitingConsent | Waiting | Downloading | Saved | Succeeded | Failed | Stopped
)

TERMINAL: Final = (Succeeded, Failed, Stopped)


def ticket_of(state: State) -> Ticket | None:
    """Return the ticket of a state that has one."""
    return None if isinstance(state, Quoting | Queueing | AwaitingConsent) else state.ticket
