"""The calls of a job as values: what is sent for a command, and what an answer means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Self, TypeAlias, cast

from attrs import field, frozen

from ...errors import (
    JobFailedError,
    ProtocolError,
    QueueOutcomeUnknownError,
)
from ...requests import Consent, VideoRequest
from ...results import ConsentRequest, Ticket
from ..clip.kinds import is_media, is_mp4, is_text
from ..converter import Part, request_fields, set_fields
from ..job.commands import Queue
from ..job.events import Accepted, Completed, ConsentNeeded, Missed, Refused, StillGoing
from ..retries import Call
from .replies import (
    api_error,
    excerpt,
    identifier,
    mapping,
    parse_first,
    parse_object,
    seconds,
    text,
    texts,
)

QueueEvent: TypeAlias = Accepted | ConsentNeeded | Refused
PollEvent: TypeAlias = StillGoing | Completed | Missed | Refused

ASKING: Final[Mapping[str, str]] = {"accept": "application/json"}
JSON: Final[Mapping[str, str]] = {"content-type": "application/json", **ASKING}
SUCCESS: Final = range(200, 300)

TEXT_PIECE: Final = 1 << 18
"""Characters of a text that are written as JSON at once, for meanwhile no other thread runs."""
_POLL: Final[Mapping[str, str]] = {**JSON, "accept": "application/json, video/mp4"}
_VIDEO: Final = ("video/", "application/octet-stream", "binary/octet-stream", "application/mp4")
_WRAPPERS: Final = ("data", "result", "job", "video", "response")  # around the answer about a job
_SHOWN: Final = 200  # characters of an answer without an id that the message of its error shows
_FAILED: Final = frozenset({"failed", "error", "cancelled", "canceled", "rejected", "expired"})
_CONFLICT: Final = 409


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
        secrets: what the request names that must not be echoed, beside the key.
    """

    call: Call
    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(factory=dict[str, str], repr=False)
    body: bytes | None = field(default=None, repr=False)
    model: str | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)


def poll_request(ticket: Ticket) -> HttpRequest:
    """Return the request that asks for a job."""
    return HttpRequest(
        call=Call.RETRIEVE,
        method="POST",
        url="/video/retrieve",
        headers=_POLL,
        body=job_body(ticket),
        model=ticket.model,
        secrets=secrets_of(ticket),
    )


def link_request(ticket: Ticket, headers: Mapping[str, str]) -> HttpRequest:
    """Return the request that gets a clip by its link."""
    url, secrets = ticket.download_url or "", secrets_of(ticket)
    return HttpRequest(call=Call.LINK, method="GET", url=url, headers=headers, secrets=secrets)


def carries_video(headers: Mapping[str, str], start: bytes) -> bool:
    """Tell whether a successful answer to a poll is the clip itself, by the `start` of its body.

    The label counts only where the body is neither a clip nor words: gateways label a clip as anything, and
    words as a clip.
    """
    if is_mp4(start) or is_media(start):
        return True
    return headers.get("content-type", "").strip().lower().startswith(_VIDEO) and not is_text(start)


def request_body(request: VideoRequest) -> bytes:
    """Return the JSON body of a request whose media are URLs, without its consents."""
    return b"".join(json_pieces(request_fields(request)))


class EncodedMedia(str):
    """The `data:` URL of a file or of bytes, in pieces: to copy 35 MB at once holds up all other threads.

    As a text it ends in the digest of its bytes instead.

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


def json_pieces(value: Any, *, sort_keys: bool = False) -> Iterator[bytes]:
    """Yield a value as JSON in pieces: media and long texts are neither copied nor encoded at once."""
    mark = "media"
    while True:
        media: list[Iterable[bytes]] = []
        text = json.dumps(_without_media(value, media, mark), ensure_ascii=False, sort_keys=sort_keys)
        pieces = text.split(f'"{mark}"')
        if len(pieces) == len(media) + 1:
            break
        mark += "-"  # it is a text of the request, too
    yield pieces[0].encode("utf-8", "replace")
    for parts, piece in zip(media, pieces[1:], strict=True):
        yield b'"'
        yield from parts
        yield b'"' + piece.encode("utf-8", "replace")


def _without_media(value: Any, media: list[Iterable[bytes]], mark: str) -> Any:
    """Return `value` with a mark for each of its media and long texts, the pieces of which go to `media`."""
    if isinstance(value, EncodedMedia):
        media.append(value.pieces)
        return mark
    if isinstance(value, str) and len(value) > TEXT_PIECE:
        parts = (value[start : start + TEXT_PIECE] for start in range(0, len(value), TEXT_PIECE))
        media.append(json.dumps(part, ensure_ascii=False)[1:-1].encode("utf-8", "replace") for part in parts)
        return mark
    if isinstance(value, Part):
        value = set_fields(value)
    if isinstance(value, Mapping):
        known = cast("Mapping[str, Any]", value)
        return {name: _without_media(part, media, mark) for name, part in known.items()}
    if isinstance(value, list | tuple):
        return [_without_media(part, media, mark) for part in cast("Sequence[Any]", value)]
    return value


def queue_request(body: bytes, consents: Mapping[str, Consent], *, model: str) -> HttpRequest:
    """Return the paid request for `model`: `body`, as it was the first time, and the consents by flow."""
    if consents:
        said = json.dumps(
            {
                "consents": {
                    flow: {
                        "confirmed_terms_and_privacy": consent.terms_and_privacy,
                        "confirmed_legal_right": consent.legal_right,
                        "confirmed_screening_acknowledged": consent.screening,
                    }
                    for flow, consent in consents.items()
                }
            }
        )
        body = b"".join((memoryview(body)[:-1], b", ", said[1:].encode()))  # 35 MB are copied once
    return HttpRequest(
        call=Call.QUEUE, method="POST", url="/video/queue", headers=JSON, body=body, model=model
    )


def consents_of(command: Queue) -> dict[str, Consent]:
    """Return the consents a paid request carries: what was attested beforehand, and what was asked since."""
    given = {"seedance": command.request.consents} if command.request.consents else {}
    return given | ({command.flow: command.consent} if command.flow and command.consent else {})


def job_body(ticket: Ticket) -> bytes:
    """Return the JSON body that names a job."""
    return json.dumps({"model": ticket.model, "queue_id": ticket.queue_id}).encode()


def secrets_of(ticket: Ticket) -> tuple[str, ...]:
    """Return what a ticket names that must not be echoed."""
    return () if ticket.download_url is None else (ticket.download_url,)


def queue_answer(command: Queue, status: int, headers: Mapping[str, str], body: bytes) -> QueueEvent:
    """Return what the answer to a paid request means; header names are in lower case.

    A success is read leniently, as it was paid for: ids may be numbers, or lie one level down.
    """
    if status not in SUCCESS:
        question = _consent_request(parse_object(body)) if status == _CONFLICT else None
        return ConsentNeeded(question) if question else Refused(api_error(status, headers, body))
    whole = parse_first(body)
    for said in (whole, *(mapping(whole.get(name)) for name in _WRAPPERS)):
        queue_id = identifier(said.get("queue_id"))
        if queue_id is not None:
            name = text(said.get("model")) or text(whole.get("model")) or command.request.model
            link = text(said.get("download_url")) or text(whole.get("download_url"))
            return Accepted(Ticket(model=name, queue_id=queue_id, download_url=link))
    answer = excerpt(body)
    shown = f": {' '.join(answer.split())[:_SHOWN]}" if answer.strip() else ", and nothing else"
    message = f"The answer to a paid request makes no sense: it has no queue_id{shown}"
    return Refused(QueueOutcomeUnknownError(message, answer=answer))


def _consent_request(said: Mapping[str, Any]) -> ConsentRequest | None:
    error = mapping(said.get("error"))
    policy = mapping(said.get("consent"))
    flow, policy_text = text(said.get("consent_flow")), text(policy.get("policy_text"))
    code = text(error.get("code")) or text(said.get("code"))
    if code != "needs_consent" or flow is None or policy_text is None:
        return None
    return ConsentRequest(
        flow=flow,
        policy_text=policy_text,
        consent_version=text(policy.get("consent_version")) or "",
        face_media_roles=texts(said.get("face_media_roles")),
        docs_url=text(said.get("docs_url")),
        message=text(error.get("message")) or "",
    )


def poll_answer(ticket: Ticket, status: int, headers: Mapping[str, str], body: bytes) -> PollEvent:
    """Return what the answer to a poll means that is not the clip; header names are in lower case.

    It may lie one level down; one that names another job is no news.
    """
    whole = parse_object(body)
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
