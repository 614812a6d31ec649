"""HTTP as values: `encode` makes a request of a command, `decode` an event or a result of an answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from ...errors import (
    APIError,
    JobFailedError,
    ProtocolError,
    QueueOutcomeUnknownError,
)
from ...models import AccountLimits, VideoModel
from ...requests import Consent, VideoRequest
from ...results import ConsentRequest, Quote, Ticket
from ..converter import Part, request_fields, set_fields
from ..job.commands import (
    AskPrice,
    Command,
    Complete,
    Fetch,
    ListModels,
    Poll,
    Price,
    Query,
    Queue,
    ReadLimits,
    Revoke,
)
from ..job.events import (
    Accepted,
    CleanedUp,
    Completed,
    ConsentNeeded,
    Event,
    Missed,
    Priced,
    Refused,
    StillGoing,
)
from ..retries import Call
from .replies import (
    account_limits,
    api_error,
    excerpt,
    identifier,
    items,
    mapping,
    model,
    number,
    parse,
    parse_first,
    parse_object,
    seconds,
    text,
    texts,
)

Answer: TypeAlias = Event | Quote | list[VideoModel] | AccountLimits

_ASKING: Final[Mapping[str, str]] = {"accept": "application/json"}
_JSON: Final[Mapping[str, str]] = {"content-type": "application/json", **_ASKING}
_POLL: Final[Mapping[str, str]] = {
    "content-type": "application/json",
    "accept": "application/json, video/mp4",
}
_VIDEO: Final = ("video/", "application/octet-stream", "binary/octet-stream", "application/mp4")
_PRICED_BY: Final = frozenset(
    {"model", "duration", "resolution", "aspect_ratio", "audio", "upscale_factor", "video_url"}
)
_NOT_PRICED: Final = frozenset({"seed", "anon_user_id", "voice_id", "prompt", "negative_prompt"})
STATED_LENGTH: Final = "reference_video_total_duration"
"""The field of a quote that says how long all reference clips last together, in seconds."""
_LONGEST_CHOICE: Final = 64  # characters; longer text in an unknown field is a prompt or media, not an option
_WRAPPERS: Final = ("data", "result", "job", "video", "response")  # around the answer to a paid request
_SHOWN: Final = 200  # characters of an answer without an id that the message of its error shows
_FAILED: Final = frozenset({"failed", "error", "cancelled", "canceled", "rejected", "expired"})
_SUCCESS: Final = range(200, 300)
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
    """

    call: Call
    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(factory=dict[str, str])
    body: bytes | None = field(default=None, repr=False)


def encode(command: Command | Query) -> HttpRequest:
    """Return the request that performs `command`; media of a `Queue` must be URLs by now."""
    return _ENCODERS[type(command)](command)


def decode(command: Command | Query, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Return what an answer with a JSON body means; header names are in lower case.

    Raises:
        APIError: an error status, on a call that is not part of a job's life.
        ProtocolError: an answer to such a call that makes no sense.
    """
    return _DECODERS[type(command)](command, status, headers, body)


def carries_video(status: int, headers: Mapping[str, str]) -> bool:
    """Tell whether the answer to a poll is the clip itself."""
    kind = headers.get("content-type", "").strip().lower()
    return status in _SUCCESS and kind.startswith(_VIDEO)


def request_body(request: VideoRequest) -> bytes:
    """Return the JSON body of a request whose media are URLs, without its consents."""
    return json.dumps(request_fields(request), default=_wire_value, ensure_ascii=False).encode(
        "utf-8", "replace"
    )


def queue_request(body: bytes, consents: Mapping[str, Consent]) -> HttpRequest:
    """Return the paid request: `body`, as it was the first time, and the consents by flow."""
    if consents:
        said = json.dumps(
            {"consents": {flow: _consent_fields(consent) for flow, consent in consents.items()}}
        )
        body = body[:-1] + b", " + said[1:].encode()
    return HttpRequest(call=Call.QUEUE, method="POST", url="/video/queue", headers=_JSON, body=body)


def consents_of(command: Queue) -> dict[str, Consent]:
    """Return the consents a paid request carries: what was attested beforehand, and what was asked since."""
    given = {"seedance": command.request.consents} if command.request.consents else {}
    return given | ({command.flow: command.consent} if command.flow and command.consent else {})


def _wire_value(value: object) -> Any:
    if isinstance(value, Part):
        return set_fields(value)
    msg = f"{type(value).__name__} is not JSON"
    raise TypeError(msg)


def _consent_fields(consent: Consent) -> dict[str, bool]:
    return {
        "confirmed_terms_and_privacy": consent.terms_and_privacy,
        "confirmed_legal_right": consent.legal_right,
        "confirmed_screening_acknowledged": consent.screening,
    }


def _post(url: str, fields: Mapping[str, Any], call: Call = Call.OTHER) -> HttpRequest:
    headers = _POLL if call is Call.RETRIEVE else _JSON
    return HttpRequest(call=call, method="POST", url=url, headers=headers, body=json.dumps(fields).encode())


def price_fields(request: VideoRequest, reference_seconds: float | None = None) -> dict[str, Any]:
    """Return what decides the price of a request, by wire name.

    Any option in `extra` may, so all of them are sent: the server drops what it does not know.
    """
    known = request_fields(request)
    images = [*items(known.get("reference_image_urls")), *items(known.get("image_references"))]
    options = {
        name: value for name, value in request.extra.items() if name not in _NOT_PRICED and _is_option(value)
    }
    return (
        ({"reference_image_count": len(images)} if images else {})
        | {name: value for name, value in known.items() if name in _PRICED_BY}
        | options
        | ({} if reference_seconds is None else {STATED_LENGTH: reference_seconds})
    )


def _is_option(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_CHOICE and not value.lower().startswith(
            ("http://", "https://", "data:")
        )
    return isinstance(value, int | float)


def _job_fields(ticket: Ticket) -> dict[str, str]:
    return {"model": ticket.model, "queue_id": ticket.queue_id}


def _link_request(method: str, ticket: Ticket, call: Call) -> HttpRequest:
    return HttpRequest(call=call, method=method, url=ticket.download_url or "")


_ENCODERS: Final[Mapping[type[Any], Callable[[Any], HttpRequest]]] = {
    AskPrice: lambda c: _post("/video/quote", price_fields(c.request, c.reference_video_seconds)),
    Price: lambda c: _post("/video/quote", price_fields(c.request, c.reference_video_seconds)),
    Queue: lambda c: queue_request(request_body(c.request), consents_of(c)),
    Poll: lambda c: _post("/video/retrieve", _job_fields(c.ticket), Call.RETRIEVE),
    Complete: lambda c: _post("/video/complete", _job_fields(c.ticket)),
    ListModels: lambda _: HttpRequest(
        call=Call.OTHER, method="GET", url="/models?type=video", headers=_ASKING
    ),
    ReadLimits: lambda _: HttpRequest(
        call=Call.OTHER, method="GET", url="/api_keys/rate_limits", headers=_ASKING
    ),
    Fetch: lambda c: _link_request("GET", c.ticket, Call.LINK),
    Revoke: lambda c: _link_request("DELETE", c.ticket, Call.REVOKE),
}


def _queue_answer(command: Queue, status: int, headers: Mapping[str, str], body: bytes) -> Event:
    if status in _SUCCESS:
        return _accepted(command, body)
    question = _consent_request(parse_object(body)) if status == _CONFLICT else None
    return ConsentNeeded(question) if question else Refused(api_error(status, headers, body))


def _accepted(command: Queue, body: bytes) -> Event:
    """Read the answer that was paid for, leniently: ids as numbers, or one level down."""
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


def _poll_answer(command: Poll, status: int, headers: Mapping[str, str], body: bytes) -> Event:
    if status not in _SUCCESS:
        return Missed(api_error(status, headers, body))
    said = parse_object(body)
    word = text(said.get("status"))
    if word is not None and word.lower() in _FAILED:
        return Refused(_failed(status, headers, body, word))
    elapsed = seconds(said.get("execution_duration"))
    link = next((url for name in ("download_url", "video_url", "url") if (url := text(said.get(name)))), None)
    if link is not None or (word is not None and word.lower() == "completed"):
        return Completed(link=link, elapsed=elapsed)
    if word is None:
        return Missed(ProtocolError("The answer to a poll makes no sense"))
    return StillGoing(elapsed=elapsed, average=seconds(said.get("average_execution_time")))


def _failed(status: int, headers: Mapping[str, str], body: bytes, word: str) -> JobFailedError:
    said = parse_object(body)
    known = api_error(status, headers, body)
    reason = f": {known.message}" if said.get("error") or said.get("message") else ""
    facts = {
        name: fact for name, fact in known.facts.items() if name in {"hint", "charged", "credits_refunded"}
    }
    return JobFailedError(f"The job ended as {word}{reason}", **facts)


def _price_answer(command: AskPrice, status: int, headers: Mapping[str, str], body: bytes) -> Event:
    try:
        return Priced(_price(command, status, headers, body).usd)
    except (APIError, ProtocolError) as error:
        return Refused(error)


def _price(command: object, status: int, headers: Mapping[str, str], body: bytes) -> Quote:
    _check(status, headers, body)
    usd = number(parse_object(body).get("quote"))
    if usd is None or usd < 0:
        msg = "The answer to a request for a price has no usable price"
        raise ProtocolError(msg)
    return Quote(usd=usd)


def _models(command: object, status: int, headers: Mapping[str, str], body: bytes) -> list[VideoModel]:
    _check(status, headers, body)
    said: object = parse_object(body).get("data")
    if not isinstance(said, list):
        msg = "The answer to a request for the models has no list of them"
        raise ProtocolError(msg)
    return [found for found in map(model, items(said)) if found]  # pyright: ignore[reportUnknownArgumentType] - JSON


def _limits(command: object, status: int, headers: Mapping[str, str], body: bytes) -> AccountLimits:
    _check(status, headers, body)
    found = account_limits(parse(body))
    if found is None:
        msg = "The answer to a request for the key's limits has none"
        raise ProtocolError(msg)
    return found


def _completed(command: object, status: int, headers: Mapping[str, str], body: bytes) -> Event:
    if status not in _SUCCESS:
        return CleanedUp(api_error(status, headers, body))
    if parse_object(body).get("success") is False:
        return CleanedUp(ProtocolError("The server says that the clean-up did not succeed"))
    return CleanedUp()


def _revoked(command: object, status: int, headers: Mapping[str, str], body: bytes) -> Event:
    gone = status in _SUCCESS or status in _GONE
    return CleanedUp() if gone else CleanedUp(api_error(status, headers, body))


_GONE: Final = (404, 410)


def _check(status: int, headers: Mapping[str, str], body: bytes) -> None:
    if status not in _SUCCESS:
        raise api_error(status, headers, body)


_DECODERS: Final[Mapping[type[Any], Callable[[Any, int, Mapping[str, str], bytes], Answer]]] = {
    AskPrice: _price_answer,
    Price: _price,
    Queue: _queue_answer,
    Poll: _poll_answer,
    Complete: _completed,
    ListModels: _models,
    ReadLimits: _limits,
    Fetch: lambda _, status, headers, body: Refused(api_error(status, headers, body)),
    Revoke: _revoked,
}
