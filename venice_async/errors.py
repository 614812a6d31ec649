"""Everything that can go wrong, as one tree.

    VeniceError                         .charged .hint .ticket
    ├── UsageError                      called wrongly
    ├── InvalidRequestError             refused before sending: .field .limit
    ├── TransportError                  the network
    │   ├── ConnectError                no connection was made: nothing was sent
    │   ├── ReadTimeoutError            the server went quiet
    │   ├── DisconnectedError           the connection was cut
    │   └── QueueOutcomeUnknownError    a paid request may have been accepted; never resent
    ├── APIError                        .status .code .request_id .details .retry_after .credits_refunded
    │   ├── BadRequestError 400         AuthenticationError 401      PaymentRequiredError 402
    │   ├── PermissionDeniedError 403   NotFoundError 404            ConflictError 409
    │   ├── LinkExpiredError 410        PayloadTooLargeError 413     RateLimitError 429
    │   ├── ContentPolicyError 422      .recommended_model .suggested_prompt
    │   └── ServerError 5xx
    │       (422 for media that a model cannot take is BadRequestError, for a failed provider APIError)
    ├── ConsentError                    .consent_request
    │   ├── ConsentRequiredError        there is nobody to ask
    │   └── ConsentDeclinedError        the answer was no
    ├── JobError                        JobFailedError, JobTimeoutError (also TimeoutError)
    ├── BudgetExceededError             the quote is above the caller's limit
    ├── DownloadError                   .received .total
    │   ├── TruncatedError              the clip ends too early
    │   └── NotAVideoError              something else came where a clip should be
    ├── JournalError                    the journal cannot be used
    ├── WebhookError                    a webhook was not taken, or is not genuine
    └── ProtocolError                   a reply nobody can make sense of

Every error says what happened, whether money was spent (`charged`: yes, no, or None for unknown) and what to
do next (`hint`). Those raised after a job was queued carry its `ticket`, which `VeniceClient.resume` accepts.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypedDict, Unpack, dataclass_transform

import attrs

if TYPE_CHECKING:
    from .results import ConsentRequest, Ticket


class Facts(TypedDict, total=False):
    """The attributes of every error; see `VeniceError`."""

    charged: bool | None
    hint: str
    cli_hint: str
    ticket: Ticket | None


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(attrs.field,))
class _BaseError(Exception):
    """Takes the annotated attributes of its subclasses as keywords; type checkers derive their signatures."""

    _known: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        cls._known |= inspect.get_annotations(cls).keys()

    def __init__(self, message: str, **facts: object) -> None:
        said = _printable(message)
        super().__init__(said)
        if unknown := facts.keys() - self._known:
            msg = f"{type(self).__name__} has no attribute {min(unknown)!r}"
            raise TypeError(msg)
        told = {name: _printable(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}
        vars(self).update(told, message=said)


class VeniceError(_BaseError):
    """The base of every error of this library.

    Attributes:
        message: what happened, with the server's own words where it sent any.
        charged: whether money was spent: True, False, or None when that is not known.
        hint: what to do next.
        cli_hint: the same for the command line, where it differs.
        ticket: the queued job, once there is one.
    """

    message: str = attrs.field(kw_only=False)  # read by type checkers only
    charged: bool | None = False
    hint: str = ""
    cli_hint: str = ""
    ticket: Ticket | None = None

    _spends = True  # whether `money` says something where `charged` was not set

    @property
    def facts(self) -> dict[str, Any]:
        """The attributes that were set on this error, by name; the rest are defaults of its class."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def with_facts(self, **facts: Unpack[Facts]) -> Self:
        """Return a copy with these attributes."""
        found = copy(self)
        found.__cause__ = self.__cause__
        vars(found).update(facts)
        return found

    def with_ticket(self, ticket: Ticket) -> Self:
        """Return a copy for a queued job, which has been paid for unless `charged` was set."""
        return self.with_facts(ticket=ticket, charged=vars(self).get("charged", True))

    def __str__(self) -> str:
        """Say what happened, whether money was spent, and what to do next."""
        names = ", ".join(self._names())
        parts = (_sentence(self.message), self.money, _sentence(self.hint), names and f"[{names}]")
        return _printable(" ".join(part for part in parts if part))

    @property
    def money(self) -> str:
        """One sentence on whether money was spent; empty for a call that spends none."""
        if not self._spends and "charged" not in vars(self):
            return ""  # its job may have been paid for all the same
        return _REFUND if self.charged is None and self.ticket is not None else _MONEY[self.charged]

    def _names(self) -> list[str]:
        return [f"job {self.ticket.queue_id} on {self.ticket.model}"] if self.ticket else []


_MONEY: Mapping[bool | None, str] = {
    True: "The job has been paid for.",
    False: "Nothing was charged.",
    None: "It is not known whether the job was charged.",
}
_REFUND = "Venice normally refunds a failed job, but did not say whether it refunded this one."


def _printable(text: str) -> str:
    """Return a text that can be printed and sent: JSON of a server may hold half of a surrogate pair."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


class UsageError(VeniceError):
    """The library was called wrongly: no key, a client that was not entered, a bad option."""

    _spends = False


class InvalidRequestError(VeniceError):
    """The request cannot succeed and was refused before anything was sent.

    Attributes:
        field: the wire name of the field at fault.
        limit: the limit it breaks, where there is one.
    """

    field: str = ""
    limit: object = None


class TransportError(VeniceError):
    """The network failed."""

    hint = "Check the connection and try again"


class ConnectError(TransportError):
    """No connection was made: nothing was sent."""


class ReadTimeoutError(TransportError):
    """The server sent nothing for longer than the read timeout."""


class DisconnectedError(TransportError):
    """The connection was cut before the answer was whole."""


class QueueOutcomeUnknownError(TransportError):
    """A paid request may have been accepted, and its answer was lost. It is never sent again.

    Attributes:
        fingerprint: SHA-256 of the request as sent, in hexadecimal: the same for the same request.
        at: when it was sent, as ISO 8601 in UTC.
        bytes_sent: whether any byte of it was handed to the network; None when that is not known.
        answer: what the server answered, without secrets, where that could not be read: if it names a job,
            `resume(Ticket(model=..., queue_id=...), to=...)` fetches its clip.
    """

    charged: bool | None = None
    hint = (
        "Before you queue it again, look for its charge: with a journal, reconcile() settles it by the"
        " account's ledger; else see your balance and the list of generations on venice.ai"
    )
    cli_hint = (
        "Before you queue it again, look for its charge: 'venice-async reconcile' settles it by the account's"
        " ledger; else see your balance and the list of generations on venice.ai"
    )
    fingerprint: str = ""
    at: str = ""
    bytes_sent: bool | None = None
    answer: str | None = None


ANSWER_KEPT: Facts = {
    "hint": "The attribute answer holds what came: if it names a job, resume(Ticket(model=..., queue_id=...),"
    " to=...) fetches its clip",
    "cli_hint": "'venice-async jobs' shows what came, and how to fetch the clip if it names a job",
}


class APIError(VeniceError):
    """Venice answered with an error status.

    Attributes:
        status: the HTTP status.
        code: the machine-readable code or type from the body, where there is one.
        request_id: the id of the request that support asks for: the body's, else the headers'.
        details: what the body said beyond its message, redacted.
        retry_after: seconds to wait before another try, where the server said so.
        credits_refunded: whether the charge was refunded, where the server said so.
        by_edge: whether the answer is not in the API's own JSON: a proxy or edge on the way gave it.

    A `hint` of the server's own takes the place of the class's.
    """

    status: int = 0
    code: str | None = None
    request_id: str | None = None
    details: Any = None
    retry_after: float | None = None
    credits_refunded: bool | None = None
    by_edge: bool = False

    def _names(self) -> list[str]:
        return super()._names() + ([f"request {self.request_id}"] if self.request_id else [])


class BadRequestError(APIError):
    """400: the request, or the job it names, is not valid; 422: a model cannot take its media."""

    hint = "Correct the request; VideoModel.check lists what a model accepts"
    cli_hint = "Correct the request; 'venice-async models' lists what each model accepts"


class AuthenticationError(APIError):
    """401: the key is missing, wrong, or not entitled to the model."""

    hint = "Check the API key, and whether the model needs a Pro account"


class PaymentRequiredError(APIError):
    """402: the balance, or the key's spending limit, is used up."""

    hint = "Top up the balance at venice.ai or raise the key's limit"


class PermissionDeniedError(APIError):
    """403: not allowed, often for the region."""

    hint = "The model or the key is not allowed here; try another model"


class NotFoundError(APIError):
    """404: there is no such model or job, or its media has expired or was deleted."""

    hint = "Check the base URL and the ids; a job's media is kept for a limited time, and then it is gone"


class ConflictError(APIError):
    """409: a conflict other than a request for consent."""


class LinkExpiredError(APIError):
    """410: the download link, or the model, is gone."""

    hint = "A link lives for 24 hours and a few downloads; it cannot be renewed"


class PayloadTooLargeError(APIError):
    """413: the request body is too large."""

    hint = "Send large media as an https URL instead of its bytes"


class ContentPolicyError(APIError):
    """422: the content policy of Venice or of the model's provider forbids it.

    Attributes:
        recommended_model: a model to try instead, where the server named one.
        suggested_prompt: a prompt to try instead, where the server offered one.
    """

    hint = "Change the prompt or media; consent does not lift this refusal"
    recommended_model: str | None = None
    suggested_prompt: str | None = None


class RateLimitError(APIError):
    """429: too many requests, or the model is overloaded."""

    hint = "Wait for the limit to reset; share one client so that its jobs share one budget"
    cli_hint = "Wait for the limit to reset"


class ServerError(APIError):
    """5xx: the server, or the edge before it, failed."""

    hint = "Try again later"


class ConsentError(VeniceError):
    """The request needs consent that was not given.

    Attributes:
        consent_request: the `ConsentRequest` that the server made.
    """

    consent_request: ConsentRequest | None = None


class ConsentRequiredError(ConsentError):
    """The server asks for consent and there is nobody to ask."""

    hint = "Pass on_consent= to the client, or consents= with the request, once a person has agreed"
    cli_hint = "Run this in a terminal: the policy is shown there, and three questions are asked"


class ConsentDeclinedError(ConsentError):
    """The consent that the server asks for was declined."""


class JobError(VeniceError):
    """A queued job did not end in a clip."""


class JobFailedError(JobError):
    """The server reports that the job failed.

    Attributes:
        credits_refunded: whether the charge was refunded, where the server said so.
    """

    hint = "Queue it again, or try another model"
    credits_refunded: bool | None = None


class JobTimeoutError(JobError, TimeoutError):
    """The job was not done by its deadline; it may still finish."""

    hint = "Keep the ticket and call resume(ticket, to=...) later: nothing needs to be paid again"
    cli_hint = "Resume it later: nothing needs to be paid again"


class BudgetExceededError(VeniceError):
    """The quote is above the caller's limit; nothing was queued.

    Attributes:
        quoted_usd: the price quoted, in USD.
        limit_usd: the limit it breaks, in USD.
    """

    hint = "Raise max_usd, or ask for less"
    cli_hint = "Raise --max-usd, or ask for less"
    quoted_usd: float | None = None
    limit_usd: float | None = None


class DownloadError(VeniceError):
    """The clip could not be saved at its destination.

    Attributes:
        received: bytes received before it failed.
        total: bytes announced, where they were.
        final: whether fetching it again would change nothing: the same whole bytes came twice.
        unverified: the file that is kept beside the destination though it could not be verified, if one is.
        unsent: whether its link was not requested, for it leads where links may not: that counts as no GET.
    """

    hint = "Call resume(ticket, to=...) to fetch it again: nothing needs to be paid again"
    cli_hint = "Resume it to fetch it again: nothing needs to be paid again"
    received: int | None = None
    total: int | None = None
    final: bool = False
    unverified: Path | None = None
    unsent: bool = False


class TruncatedError(DownloadError):
    """The clip ends before it should."""


class NotAVideoError(DownloadError):
    """The body is not a video; the destination was not touched."""


class JournalError(VeniceError):
    """The journal is damaged, foreign or not usable, and was left as it was."""

    hint = "Move this journal away, or name another one"


class WebhookError(VeniceError):
    """A webhook was not taken by its receiver, or what was received is not a genuine one."""

    _spends = False


class ProtocolError(VeniceError):
    """The answer cannot be understood."""

    hint = "Try again; if it stays, the service has changed and this library needs an update"
