"""What you get back: tickets, clips, prices, questions and outcomes, all frozen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from attrs import field, frozen

from .errors import UsageError, VeniceError
from .formatting import as_usd
from .markup import video_html
from .requests import VideoRequest


@frozen(kw_only=True)
class Ticket:
    """The claim check of a queued, paid job: keep it, and the clip can be fetched from any process.

    Attributes:
        model: the model's id.
        queue_id: the job's id.
        download_url: the private link, given once; a secret, valid for at most 24 hours. None for public
            models.
    """

    model: str
    queue_id: str
    download_url: str | None = field(default=None, repr=False)

    def to_json(self) -> str:
        """Return the ticket as JSON. It includes the link: store it like a password."""
        known = {"model": self.model, "queue_id": self.queue_id, "download_url": self.download_url}
        return json.dumps({name: value for name, value in known.items() if value is not None})

    @classmethod
    def from_json(cls, text: str | bytes) -> Ticket:
        """Return the ticket that `to_json` wrote.

        Raises:
            UsageError: it is not such a text.
        """
        found = parsed_ticket(text)
        del text  # it holds the link, and a traceback of this frame must not
        return checked_ticket(found)


def parsed_ticket(ticket: object) -> Ticket | None:
    """Return a ticket as it is, or the one that a text is the JSON of; None for anything else.

    It raises nothing: a traceback through it would show the text, which holds the link.
    """
    if isinstance(ticket, Ticket):
        return ticket
    try:
        value = json.loads(cast("str", ticket))
    except (ValueError, TypeError, RecursionError):
        return None
    said = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    known = {name: said[name] for name in ("model", "queue_id", "download_url") if said.get(name) is not None}
    sound = all(isinstance(part, str) for part in known.values()) and {"model", "queue_id"} <= known.keys()
    return Ticket(**known) if sound else None


def checked_ticket(ticket: Ticket | None) -> Ticket:
    """Return what `parsed_ticket` has found.

    Raises:
        UsageError: it has found nothing.
    """
    if ticket is None:
        msg = "This is not a ticket: a Ticket is wanted, or its JSON, which has a model and a queue_id"
        raise UsageError(msg, hint="Pass job.ticket, or the text that Ticket.to_json() returned")
    return ticket


@frozen(kw_only=True)
class Video:
    """A clip that arrived whole.

    Attributes:
        path: the file; None when it went to a stream, to memory or to a URL.
        url: where the clip is, when it was sent to a URL; None for a path.
        size: bytes.
        sha256: the digest of the file, in hexadecimal.
        ticket: the job it came from.
    """

    path: Path | None
    url: str | None = None
    size: int
    sha256: str
    ticket: Ticket

    def _repr_html_(self) -> str:
        """Show the clip as a player, in a notebook."""
        return video_html(self.path, self.size)

    def __fspath__(self) -> str:
        """Return the path, so that a `Video` can be passed as one."""
        if self.path is None:
            msg = (
                f"This clip is at {self.url} and has no path"
                if self.url
                else "This clip was streamed and has no path"
            )
            raise UsageError(msg)
        return str(self.path)


@frozen(kw_only=True)
class Quote:
    """A price at this moment; nothing is reserved.

    Attributes:
        usd: the price in USD.
    """

    usd: float

    def _repr_html_(self) -> str:
        """Show the price, in a notebook."""
        return f"<b>{as_usd(self.usd)}</b> at this moment; nothing is reserved"


@frozen(kw_only=True)
class ConsentRequest:
    """What the server asks a person before it works on media with faces.

    Attributes:
        flow: the consent flow, such as `"seedance"`.
        policy_text: the whole text to show to the person.
        consent_version: the version of that text.
        face_media_roles: which media of the request show faces, such as `("image",)`.
        docs_url: where the provider explains it.
        request: the request that needs consent.
        message: the server's own words.
    """

    flow: str
    policy_text: str
    consent_version: str
    face_media_roles: tuple[str, ...] = ()
    docs_url: str | None = None
    request: VideoRequest | None = None
    message: str = ""

    @property
    def policy(self) -> str:
        """The identity of the policy: its flow and version."""
        return f"{self.flow}/{self.consent_version}"


@frozen(kw_only=True)
class Outcome:
    """How one request of a batch ended: exactly one of `video` and `error` is set.

    Attributes:
        index: the request's place in the batch, from 0.
        request: the request.
        video: the clip.
        error: why there is none.
        usd: what was reserved for it, in USD, when the batch has a budget.
        earlier: whether an earlier run paid for it.
    """

    index: int
    request: VideoRequest
    video: Video | None = None
    error: VeniceError | None = None
    usd: float | None = None
    earlier: bool = False
