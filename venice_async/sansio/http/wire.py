"""The calls of the API as values: the request of each, and what its answer means."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar, cast
from urllib.parse import urlencode

from attrs import field, frozen

from ...errors import JobFailedError, ProtocolError, QueueOutcomeUnknownError
from ...models import AccountLimits, VideoModel
from ...requests import Part, VideoRequest
from ...results import ConsentRequest, Quote, Ticket
from ..billing import LedgerRow
from ..clip.mp4 import is_media, is_mp4, is_text
from ..converter import request_fields, set_fields
from ..job.commands import Queue
from ..job.events import Accepted, Completed, ConsentNeeded, Missed, Refused, StillGoing
from ..retries import Call
from .replies import (
    account_limits,
    api_error,
    excerpt,
    identifier,
    items,
    ledger_row,
    mapping,
    model,
    number,
    parse,
    seconds,
    text,
    texts,
)

QueueEvent: TypeAlias = Accepted | ConsentNeeded | Refused
PollEvent: TypeAlias = StillGoing | Completed | Missed | Refused
T_co = TypeVar("T_co", covariant=True)

SUCCESS: Final = range(200, 300)
TEXT_PIECE: Final = 1 << 18
"""Characters of a text that are written as JSON at once, while no other thread can run."""
STATED_LENGTH: Final = "reference_video_total_duration"
"""The field of a quote that says how long all reference clips last together, in seconds."""

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False)
_ASKING: Final[Mapping[str, str]] = {"accept": "application/json"}
_JSON: Final[Mapping[str, str]] = {"content-type": "application/json", **_ASKING}
_POLL: Final[Mapping[str, str]] = {**_JSON, "accept": "application/json, video/mp4"}
_VIDEO: Final = ("video/", "application/octet-stream", "binary/octet-stream", "application/mp4")
_WRAPPERS: Final = ("data", "result", "job", "video", "response")  # around the answer about a job
_SHOWN: Final = 200  # characters of an answer without an id that the message of its error shows
_FAILED: Final = frozenset({"failed", "error", "cancelled", "canceled", "rejected", "expired"})
_CONFLICT: Final = 409
_PRICED_BY: Final = frozenset(
    {"model", "duration", "resolution", "aspect_ratio", "audio", "upscale_factor", "video_url"}
)
_NOT_PRICED: Final = frozenset({"seed", "anon_user_id", "voice_id", "prompt", "negative_prompt"})
_LONGEST_CHOICE: Final = 64  # characters; longer text in an unknown field is a prompt or media, not an option


@frozen(kw_only=True)
class HttpRequest:
    """One request to send.

    Attributes:
        call: what kind of call it is, which decides how it is sent, paced and retried.
        method: the HTTP method.
        url: a path below the API's base URL, or for a link the whole URL, which is a secret.
        headers: what to send beside authentication.
        body: the JSON body, if any.
        model: the model it is about, if any.
        ticket: the job it is about, if any; its link must not be echoed.
    """

    call: Call
    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(factory=dict[str, str], repr=False)
    body: bytes | None = field(default=None, repr=False)
    model: str | None = None
    ticket: Ticket | None = field(default=None, repr=False)


def poll_request(ticket: Ticket) -> HttpRequest:
    """Return the request that asks for a job."""
    return _job_request(Call.RETRIEVE, "/video/retrieve", ticket, _POLL)


def _job_request(call: Call, path: str, ticket: Ticket, headers: Mapping[str, str]) -> HttpRequest:
    body = json.dumps({"model": ticket.model, "queue_id": ticket.queue_id}).encode()
    return HttpRequest(
        call=call,
        method="POST",
        url=path,
        headers=headers,
        body=body,
        model=ticket.model,
        ticket=ticket,
    )


def link_request(ticket: Ticket, headers: Mapping[str, str]) -> HttpRequest:
    """Return the request that gets a clip by its link."""
    url = ticket.download_url or ""
    return HttpRequest(call=Call.LINK, method="GET", url=url, headers=headers, ticket=ticket)


def carries_video(headers: Mapping[str, str], start: bytes) -> bool:
    """Tell whether a successful answer to a poll is the clip itself, by the `start` of its body.

    The content type counts only where the body is neither a clip nor text: gateways label clips as anything,
    and text as a clip.
    """
    if is_mp4(start) or is_media(start):
        return True
    return headers.get("content-type", "").strip().lower().startswith(_VIDEO) and not is_text(start)


class EncodedMedia(str):
    """The `data:` URL of a file or of bytes, in pieces: to copy 35 MB at once would block all other threads.

    As a text, it has the digest of the bytes in their place.

    Attributes:
        pieces: the URL, in which JSON has nothing to escape.
    """

    __slots__ = ("pieces",)
    pieces: Sequence[bytes]

    def __new__(cls, media_type: str, sha256: str, pieces: Sequence[bytes]) -> Self:
        """Return the URL of media of a type and digest, its bytes in Base64."""
        start = f"data:{media_type};base64,"
        url = super().__new__(cls, start + sha256)
        url.pieces = (start.encode(), *pieces)
        return url


def request_body(request: VideoRequest) -> bytes:
    """Return the JSON body of a request whose media are URLs, without its consents."""
    return b"".join(json_pieces(request_fields(request)))


def json_pieces(value: Any, *, sort_keys: bool = False) -> Iterator[bytes]:
    """Yield a value as JSON in pieces: media and long texts are neither copied nor encoded at once."""
    if isinstance(value, Part):
        value = set_fields(value)
    match value:
        case EncodedMedia():
            yield b'"'
            yield from value.pieces
            yield b'"'
        case str() if len(value) > TEXT_PIECE:
            yield b'"'
            for start in range(0, len(value), TEXT_PIECE):
                piece = _ENCODER.encode(value[start : start + TEXT_PIECE])
                yield piece[1:-1].encode("utf-8", "replace")
            yield b'"'
        case dict():
            known = cast("dict[str, Any]", value)
            for index, name in enumerate(sorted(known) if sort_keys else known):
                key = _ENCODER.encode(name).encode("utf-8", "replace")
                yield b"".join((b", " if index else b"{", key, b": "))
                yield from json_pieces(known[name], sort_keys=sort_keys)
            yield b"}" if known else b"{}"
        case list() | tuple():
            listed = cast("Sequence[Any]", value)
            for index, item in enumerate(listed):
                yield b", " if index else b"["
                yield from json_pieces(item, sort_keys=sort_keys)
            yield b"]" if listed else b"[]"
        case _:
            yield _ENCODER.encode(value).encode("utf-8", "replace")


def queue_request(command: Queue, body: bytes) -> HttpRequest:
    """Return the paid request: `body`, as it was the first time, and the consents by flow.

    They are what was attested beforehand, and what was asked since.
    """
    request = command.request
    consents = {} if request.consents is None else {"seedance": request.consents}
    if command.flow and command.consent:
        consents[command.flow] = command.consent
    if consents:
        said = {
            flow: {
                "confirmed_terms_and_privacy": consent.terms_and_privacy,
                "confirmed_legal_right": consent.legal_right,
                "confirmed_screening_acknowledged": consent.screening,
            }
            for flow, consent in consents.items()
        }
        added = json.dumps({"consents": said})[1:]
        body = b"".join((memoryview(body)[:-1], b", ", added.encode()))  # 35 MB are copied once
    return HttpRequest(
        call=Call.QUEUE, method="POST", url="/video/queue", headers=_JSON, body=body, model=request.model
    )


def queue_answer(command: Queue, status: int, headers: Mapping[str, str], body: bytes) -> QueueEvent:
    """Return what the answer to a paid request means; header names are in lower case.

    A success is read leniently, as it was paid for: ids may be numbers, or one level down.
    """
    if status == _CONFLICT:
        said = mapping(parse(body))
        error, policy = mapping(said.get("error")), mapping(said.get("consent"))
        code = text(error.get("code")) or text(said.get("code"))
        flow, policy_text = text(said.get("consent_flow")), text(policy.get("policy_text"))
        if code == "needs_consent" and flow is not None and policy_text is not None:
            question = ConsentRequest(
                flow=flow,
                policy_text=policy_text,
                consent_version=text(policy.get("consent_version")) or "",
                face_media_roles=texts(said.get("face_media_roles")),
                docs_url=text(said.get("docs_url")),
                message=text(error.get("message")) or "",
            )
            return ConsentNeeded(question)
    if status not in SUCCESS:
        return Refused(api_error(status, headers, body))
    whole: Mapping[str, Any] = {}
    with suppress(ValueError, RecursionError):  # what follows the first JSON value is ignored
        start = body.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
        whole = mapping(json.JSONDecoder().raw_decode(start)[0])
    for said in chain([whole], map(mapping, map(whole.get, _WRAPPERS))):
        queue_id = identifier(said.get("queue_id"))
        if queue_id is not None:
            name = text(said.get("model")) or text(whole.get("model")) or command.request.model
            link = text(said.get("download_url")) or text(whole.get("download_url"))
            return Accepted(Ticket(model=name, queue_id=queue_id, download_url=link))
    answer = excerpt(body)
    shown = f": {' '.join(answer.split())[:_SHOWN]}" if answer.strip() else ", and nothing else"
    message = f"The answer to a paid request makes no sense: it has no queue_id{shown}"
    return Refused(QueueOutcomeUnknownError(message, answer=answer))


def poll_answer(ticket: Ticket, status: int, headers: Mapping[str, str], body: bytes) -> PollEvent:
    """Return what the answer to a poll means that is not the clip; header names are in lower case.

    It may be one level down; one about another job is ignored.
    """
    whole = mapping(parse(body))
    levels = (whole, *(mapping(whole.get(name)) for name in _WRAPPERS))
    ids = {identifier(level.get("queue_id")) for level in (*levels, mapping(whole.get("error")))} - {None}
    if ids and ticket.queue_id not in ids:
        return Missed(ProtocolError("The answer to a poll is about another job"))
    if status not in SUCCESS:
        return Missed(api_error(status, headers, body))
    said = next((level for level in levels if text(level.get("status"))), whole)
    word = text(said.get("status"))
    if word is not None and word.lower() in _FAILED:
        known = api_error(status, headers, body if said is whole else json.dumps(said).encode())
        reason = f": {known.message}" if said.get("error") or said.get("message") else ""
        kept = ("hint", "charged", "credits_refunded")
        facts = {name: fact for name, fact in known.facts.items() if name in kept}
        return Refused(JobFailedError(f"The job ended as {word}{reason}", **facts))
    elapsed = seconds(said.get("execution_duration"))
    link = next((url for name in ("download_url", "video_url", "url") if (url := text(said.get(name)))), None)
    if link is not None or (word is not None and word.lower() == "completed"):
        return Completed(link=link, elapsed=elapsed)
    if word is None:
        return Missed(ProtocolError("The answer to a poll makes no sense"))
    return StillGoing(elapsed=elapsed, average=seconds(said.get("average_execution_time")))


@frozen
class Query(Generic[T_co]):
    """A call that costs nothing, and is answered by a `T`.

    Attributes:
        name: what it asks for, for people.
        request: what to send.
        answer: returns what the JSON of a success means, or None if it makes no sense.
        nonsense: the message of the error for one that makes none.
        fine: the statuses of a success.
        is_clean_up: whether it is a `/video/complete`, which the pacer holds back: it may fail for no reason.
    """

    name: str
    request: HttpRequest
    answer: Callable[[Any], T_co | None] = field(repr=False)
    nonsense: str = field(repr=False)
    fine: Collection[int] = SUCCESS
    is_clean_up: bool = False

    def read(self, status: int, headers: Mapping[str, str], body: bytes) -> T_co:
        """Return what an answer says; header names are in lower case.

        Raises:
            APIError: it is an error.
            ProtocolError: it makes no sense.
        """
        if status not in self.fine:
            raise api_error(status, headers, body)
        found = self.answer(parse(body))
        if found is None:
            raise ProtocolError(self.nonsense)
        return found


def price(request: VideoRequest, reference_seconds: float | None = None) -> Query[Quote]:
    """Return the question for the price of a request in USD; its `video_url`, if any, must be a URL."""

    def answer(said: Any) -> Quote | None:
        usd = number(mapping(said).get("quote"))
        return None if usd is None or usd < 0 else Quote(usd=usd)

    asked = HttpRequest(
        call=Call.OTHER,
        method="POST",
        url="/video/quote",
        headers=_JSON,
        body=b"".join(json_pieces(price_fields(request, reference_seconds))),
        model=request.model,
    )
    return Query("a price", asked, answer, "The answer to a request for a price has no usable price")


def list_models() -> Query[list[VideoModel]]:
    """Return the question for the catalogue of video models; what is no model in it is left out."""

    def answer(said: Any) -> list[VideoModel] | None:
        listed = mapping(said).get("data")
        found = [known for known in map(model, items(listed)) if known]
        return found if isinstance(listed, list) else None

    asked = HttpRequest(call=Call.OTHER, method="GET", url="/models?type=video", headers=_ASKING)
    return Query("the models", asked, answer, "The answer to a request for the models has no list of them")


def read_limits() -> Query[AccountLimits]:
    """Return the question for the key's limits and balances."""
    asked = HttpRequest(call=Call.OTHER, method="GET", url="/api_keys/rate_limits", headers=_ASKING)
    return Query(
        "the key's limits", asked, account_limits, "The answer to a request for the key's limits has none"
    )


@frozen
class LedgerPage:
    """A part of the account's ledger.

    Attributes:
        rows: the charges and refunds.
        cursor: what asks for the next part; None for the last.
    """

    rows: tuple[LedgerRow, ...]
    cursor: str | None


def read_ledger(
    start: float, end: float, cursor: str | None = None, *, size: int = 1000
) -> Query[LedgerPage]:
    """Return the question for the ledger from Unix time `start` to `end`, or on from `cursor`.

    It needs an ADMIN key. A row that makes no sense is an error: it may be the one that is sought.
    """

    def answer(said: Any) -> LedgerPage | None:
        listed = mapping(said).get("data")
        rows = [ledger_row(row) for row in items(listed)]
        known = tuple(row for row in rows if row is not None)
        if not isinstance(listed, list) or len(known) < len(rows):
            return None
        return LedgerPage(known, text(mapping(said).get("nextCursor")))

    query = {"cursor": cursor}
    if cursor is None:
        times = [datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds") for at in (start, end)]
        first, last = (time.replace("+00:00", "Z") for time in times)
        query = {"startTimestamp": first, "endTimestamp": last, "pageSize": str(size)}
    url = f"/billing/usage-history?{urlencode(query)}"
    asked = HttpRequest(call=Call.OTHER, method="GET", url=url, headers=_ASKING)
    return Query("the ledger", asked, answer, "The answer to a request for the ledger makes no sense")


def complete(ticket: Ticket) -> Query[bool]:
    """Return the call that deletes the server's copy of a public job's media."""
    asked = _job_request(Call.OTHER, "/video/complete", ticket, _JSON)
    return Query(
        "a clean-up",
        asked,
        lambda said: mapping(said).get("success") is not False or None,
        "The server says that the clean-up did not succeed",
        is_clean_up=True,
    )


def revoke(ticket: Ticket) -> Query[bool]:
    """Return the call that deletes the link of a private job, or finds that it is gone."""
    url = ticket.download_url or ""
    asked = HttpRequest(call=Call.REVOKE, method="DELETE", url=url, ticket=ticket)
    return Query("the end of a link", asked, lambda _: True, "", fine=(*SUCCESS, 404, 410))


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
