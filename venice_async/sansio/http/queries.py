"""Calls that cost nothing, each with its request and with how its answer is read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import urlencode

from attrs import field, frozen

from ...errors import ProtocolError
from ...models import AccountLimits, VideoModel
from ...requests import VideoRequest
from ...results import Quote, Ticket
from ..billing import LedgerRow
from ..converter import request_fields
from ..retries import Call
from .replies import account_limits, api_error, items, ledger_row, model, number, parse, parse_object, text
from .wire import ASKING, JSON, SUCCESS, HttpRequest, job_body, json_pieces, secrets_of

T_co = TypeVar("T_co", covariant=True)

STATED_LENGTH: Final = "reference_video_total_duration"
"""The field of a quote that says how long all reference clips last together, in seconds."""

_PRICED_BY: Final = frozenset(
    {"model", "duration", "resolution", "aspect_ratio", "audio", "upscale_factor", "video_url"}
)
_NOT_PRICED: Final = frozenset({"seed", "anon_user_id", "voice_id", "prompt", "negative_prompt"})
_LONGEST_CHOICE: Final = 64  # characters; longer text in an unknown field is a prompt or media, not an option
_GONE: Final = (404, 410)


class Query(Protocol[T_co]):
    """A call that costs nothing, and is answered by a `T`."""

    @property
    def request(self) -> HttpRequest:
        """What to send."""
        ...

    def read(self, status: int, headers: Mapping[str, str], body: bytes) -> T_co:
        """Return what an answer says; header names are in lower case.

        Raises:
            APIError: it is an error.
            ProtocolError: it makes no sense.
        """
        ...


@frozen
class Price:
    """Ask for the price of a request for `model`, with a `body` made by `price_body`."""

    model: str
    body: bytes = field(repr=False)

    @property
    def request(self) -> HttpRequest:
        """A POST of what decides the price."""
        return HttpRequest(
            call=Call.OTHER,
            method="POST",
            url="/video/quote",
            headers=JSON,
            body=self.body,
            model=self.model,
        )

    def read(self, status: int, headers: Mapping[str, str], body: bytes) -> Quote:
        """Return the price in USD."""
        _check(status, headers, body)
        usd = number(parse_object(body).get("quote"))
        if usd is None or usd < 0:
            msg = "The answer to a request for a price has no usable price"
            raise ProtocolError(msg)
        return Quote(usd=usd)


@frozen
class ListModels:
    """Ask for the catalogue of video models."""

    @property
    def request(self) -> HttpRequest:
        """A GET of the catalogue."""
        return HttpRequest(call=Call.OTHER, method="GET", url="/models?type=video", headers=ASKING)

    def read(self, status: int, headers: Mapping[str, str], body: bytes) -> list[VideoModel]:
        """Return the models; what is no model among them is left out."""
        _check(status, headers, body)
        said: object = parse_object(body).get("data")
        if not isinstance(said, list):
            msg = "The answer to a request for the models has no list of them"
            raise ProtocolError(msg)
        return [found for found in map(model, items(said)) if found]  # pyright: ignore[reportUnknownArgumentType] - JSON


@frozen
class ReadLimits:
    """Ask for the key's limits and balances."""

    @property
    def request(self) -> HttpRequest:
        """A GET of the limits."""
        return HttpRequest(call=Call.OTHER, method="GET", url="/api_keys/rate_limits", headers=ASKING)

    def read(self, status: int, headers: Mapping[str, str], body: bytes) -> AccountLimits:
        """Return the limits and balances."""
        _check(status, headers, body)
        found = account_limits(parse(body))
        if found is None:
            msg = "The answer to a request for the key's limits has none"
            raise ProtocolError(msg)
        return found


@frozen
class LedgerPage:
    """A part of the account's ledger.

    Attributes:
        rows: the charges and refunds.
        cursor: what asks for the next part; None for the last.
    """

    rows: tuple[LedgerRow, ...]
    cursor: str | None


@frozen
class ReadLedger:
    """Ask for the ledger from Unix time `start` to `end`, or on from `cursor`. It needs an ADMIN key."""

    start: float
    end: float
    cursor: str | None = None
    page_size: int = 1000

    @property
    def request(self) -> HttpRequest:
        """A GET of a page."""
        span = {"startTimestamp": _iso(self.start), "endTimestamp": _iso(self.end)}
        span["pageSize"] = str(self.page_size)
        query = urlencode(span if self.cursor is None else {"cursor": self.cursor})
        return HttpRequest(
            call=Call.OTHER, method="GET", url=f"/billing/usage-history?{query}", headers=ASKING
        )

    def read(self, status: int, headers: Mapping[str, str], body: bytes) -> LedgerPage:
        """Return the page; a row that makes no sense is an error: it may be the one that is sought."""
        _check(status, headers, body)
        said = parse_object(body)
        rows = [ledger_row(row) for row in items(said.get("data"))]
        known = tuple(row for row in rows if row is not None)
        if not isinstance(said.get("data"), list) or len(known) < len(rows):
            msg = "The answer to a request for the ledger makes no sense"
            raise ProtocolError(msg)
        return LedgerPage(known, text(said.get("nextCursor")))


@frozen
class Complete:
    """Delete the server's copy of a public job's media."""

    ticket: Ticket

    @property
    def request(self) -> HttpRequest:
        """A POST that names the job."""
        return HttpRequest(
            call=Call.OTHER,
            method="POST",
            url="/video/complete",
            headers=JSON,
            body=job_body(self.ticket),
            model=self.ticket.model,
            secrets=secrets_of(self.ticket),
        )

    def read(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Return if it is deleted."""
        _check(status, headers, body)
        if parse_object(body).get("success") is False:
            msg = "The server says that the clean-up did not succeed"
            raise ProtocolError(msg)


@frozen
class Revoke:
    """DELETE the link of a private job."""

    ticket: Ticket

    @property
    def request(self) -> HttpRequest:
        """A DELETE of the link."""
        url = self.ticket.download_url or ""
        return HttpRequest(call=Call.REVOKE, method="DELETE", url=url, secrets=secrets_of(self.ticket))

    def read(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Return if the link is gone."""
        if status not in _GONE:
            _check(status, headers, body)


def price_body(request: VideoRequest, reference_seconds: float | None = None) -> bytes:
    """Return the body of a request for a price; the clip to work on, if any, must be a URL by now."""
    return b"".join(json_pieces(price_fields(request, reference_seconds)))


def price_fields(request: VideoRequest, reference_seconds: float | None = None) -> dict[str, Any]:
    """Return what decides the price of a request, by wire name.

    Any option in `extra` may, so all of them are sent: the server drops what it does not know.
    """
    known = request_fields(request)
    images = [*items(known.get("reference_image_urls")), *items(known.get("image_references"))]
    media = ("http://", "https://", "data:")
    options = {
        name: value
        for name, value in request.extra.items()
        if name not in _NOT_PRICED and isinstance(value, str | int | float)
        if not isinstance(value, str)
        or (len(value) <= _LONGEST_CHOICE and not value.lower().startswith(media))
    }
    return (
        ({"reference_image_count": len(images)} if images else {})
        | {name: value for name, value in known.items() if name in _PRICED_BY}
        | options
        | ({} if reference_seconds is None else {STATED_LENGTH: reference_seconds})
    )


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check(status: int, headers: Mapping[str, str], body: bytes) -> None:
    if status not in SUCCESS:
        raise api_error(status, headers, body)
