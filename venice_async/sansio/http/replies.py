"""Reads the bodies of answers: content codings, and JSON of any shape. Nothing here raises for nonsense.

Every API call asks for `identity`, and an edge or a proxy may ignore that. No paid answer may be lost to it,
so codings are read leniently: the label is tried, the bytes decide, and a damaged stream is read as far as
possible.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from html import unescape
from types import ModuleType
from typing import Any, Final, Protocol, cast

from ...errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ContentPolicyError,
    LinkExpiredError,
    NotFoundError,
    PayloadTooLargeError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from ...models import (
    DEFAULT_PROMPT_LIMIT,
    AccountLimits,
    Deprecation,
    ModelLimit,
    VideoModel,
)
from ..billing import LedgerRow

Json = Mapping[str, Any]

_LONGEST: Final = 500  # characters of a server's text that an error keeps
_EXCERPT: Final = 16 * 1024  # characters of an answer that an error keeps for a person to read
_DEEPEST: Final = 16  # levels of a server's JSON that an error keeps
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<(script|style).*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_REQUEST_IDS: Final = ("x-request-id", "x-venice-request-id", "request-id", "cf-ray")


_SERVER_ERRORS: Final = range(500, 600)
_ERRORS: Final[Mapping[int, type[APIError]]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: PaymentRequiredError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: LinkExpiredError,
    413: PayloadTooLargeError,
    422: ContentPolicyError,
    429: RateLimitError,
}

_PIECE: Final = 1024  # bytes fed to a decoder at once: the output before an error is kept
_BROTLI_PIECE: Final = 64  # bytes: some of its packages cannot bound what they return
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


class _Decoder(Protocol):
    """The decoder of one member or frame, as in zlib and the Zstandard packages."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def decoded(body: bytes, codings: str, limit: int) -> tuple[bytes, bool]:
    """Return up to `limit` bytes of a body without its `codings`, and whether their streams are complete.

    `codings` are listed as in the content-encoding header. One that is unknown, that has no decoder
    installed, or that the bytes contradict is ignored.
    """
    named = [coding.strip().lower() for coding in codings.split(",")]
    if not any(named):  # JSON and HTML begin with neither
        named = ["zstd" if body.startswith(_ZSTD) else "gzip" if body.startswith(_GZIP) else ""]
    whole = True
    for coding in reversed(named):
        match coding:
            case "gzip" | "x-gzip" if body.startswith(_GZIP):
                found, ended = _members(
                    lambda: zlib.decompressobj(zlib.MAX_WBITS | 16), zlib.error, body, limit
                )
            case "deflate":
                found, ended = _members(zlib.decompressobj, zlib.error, body, limit)
                if not found:
                    found, ended = _members(
                        lambda: zlib.decompressobj(-zlib.MAX_WBITS), zlib.error, body, limit
                    )
            case "zstd" if body.startswith(_ZSTD) and (
                zstd := _installed("compression.zstd", "backports.zstd")
            ):
                found, ended = _members(zstd.ZstdDecompressor, zstd.ZstdError, body, limit)
            case "br" if brotli := _installed("brotlicffi", "brotli"):
                found, ended = _brotli(brotli, body, limit)
            case _:
                continue
        if found:
            body, whole = found, whole and ended
    return body[:limit], whole


def _members(
    decoder_of: Callable[[], _Decoder], error: type[Exception], body: bytes, limit: int
) -> tuple[bytes, bool]:
    """Return as much as can be read of all members of a stream, and whether the last one is complete.

    Trailing bytes that are no member are ignored.
    """
    found, at, decoder, whole = bytearray(), 0, decoder_of(), False
    while at < len(body) and len(found) < limit:
        piece = body[at : at + _PIECE]
        try:
            found += decoder.decompress(piece, limit - len(found))
        except error:
            break
        at += len(piece)
        whole = decoder.eof or (whole and not piece.startswith(body[:2]))  # else another member has begun
        if decoder.eof:
            at -= len(decoder.unused_data)
            decoder = decoder_of()
    return bytes(found), whole


def _brotli(module: ModuleType, body: bytes, limit: int) -> tuple[bytes, bool]:
    found, decoder = bytearray(), module.Decompressor()
    for start in range(0, len(body), _BROTLI_PIECE):
        if len(found) >= limit:
            break
        try:
            found += decoder.process(body[start : start + _BROTLI_PIECE])
        except module.error:
            return bytes(found), False
    return bytes(found), decoder.is_finished()


def _installed(*names: str) -> ModuleType | None:
    """Return the first of the modules that is installed."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def parse(body: bytes) -> Any:
    """Return the JSON value; None for invalid JSON, or for a value that is nested too deep."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def excerpt(body: bytes) -> str:
    """Return the start of a body as text; one that is not UTF-8 in Base64."""
    try:
        found = body.decode()
    except UnicodeDecodeError:
        found = "base64:" + b64encode(body).decode()
    return found[:_EXCERPT]


def mapping(value: object) -> Json:
    """Return `value` if it is a JSON object, else an empty one."""
    return cast("Json", value) if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    """Return `value` as a list if it is a list or a tuple, else an empty list."""
    return list(cast("Iterable[Any]", value)) if isinstance(value, list | tuple) else []


def text(value: object) -> str | None:
    """Return `value`, stripped, if it is a text that is not blank, else None."""
    return value.strip() if isinstance(value, str) and value.strip() else None


def identifier(value: object) -> str | None:
    """Return an id, which may be a number, as text; None for a blank one."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value)


def texts(value: object) -> tuple[str, ...]:
    """Return the texts in a JSON array."""
    return tuple(item for item in items(value) if isinstance(item, str))


def number(value: object) -> float | None:
    """Return `value` if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def seconds(milliseconds: object) -> float | None:
    """Return a span on the wire, in milliseconds, as seconds; None for nonsense."""
    found = number(milliseconds)
    return found / 1000 if found is not None and found >= 0 else None


def api_error(status: int, headers: Mapping[str, str], body: bytes) -> APIError:
    """Return the error of an answer, whatever shape its body has, with the server's own words.

    A 422 becomes `ContentPolicyError` only if it is about content: media that a model cannot take are a
    `BadRequestError`, a provider that failed is a plain `APIError`.
    """
    value = parse(body)
    request_id = next((headers[name] for name in _REQUEST_IDS if headers.get(name)), None)
    kind = _ERRORS.get(status, ServerError if status in _SERVER_ERRORS else APIError)
    if not isinstance(value, dict):
        raw = value if isinstance(value, str) else body[: 8 * _LONGEST].decode("utf-8", "replace")
        title = _TITLE.search(raw := raw[: 8 * _LONGEST])
        words = " ".join(unescape(title[1] if title else _TAG.sub(" ", raw)).split())
        message = f"The server answered {status}" + (f": {_shorten(words)}" if words else "")
        return kind(message, status=status, request_id=request_id, by_edge=True)
    said = cast("Json", value)
    inner = mapping(said.get("error"))
    whole = {**said, **inner}
    code = text(inner.get("code")) or text(inner.get("type")) or text(said.get("code"))
    candidates = (inner.get("message"), said.get("error"), said.get("message"), said.get("detail"))
    main = next(filter(None, map(text, candidates)), None)
    listed = [reason for name in _REASONS for reason in _reasons(whole.get(name)) if reason != main]
    reasons = "; ".join(dict.fromkeys(listed))
    message = _shorten(": ".join(filter(None, (main or f"The server answered {status}", reasons))))
    if status == _UNPROCESSABLE:
        kind = _kind_of_unprocessable(code, message, whole)
    details = {name: part for name, part in whole.items() if name not in {"error", "message", "code"}}
    hint, refunded = text(whole.get("hint")), whole.get("credits_refunded")
    facts: dict[str, Any] = {
        "status": status,
        "code": code,
        "request_id": identifier(whole.get("request_id")) or request_id,
        "details": _cropped(details, _DEEPEST) or None,
        "by_edge": not said.get("error") or None,
        "hint": _shorten(hint) if hint else None,
        "credits_refunded": refunded if isinstance(refunded, bool) else None,
        "charged": False if refunded is True else None,
    }
    if kind is ContentPolicyError:
        facts["recommended_model"] = text(whole.get("recommended_model"))
        facts["suggested_prompt"] = text(whole.get("suggested_prompt"))
    elif kind is APIError and status == _UNPROCESSABLE and not hint:
        facts["hint"] = _PROVIDER_FAILED
    return kind(message, **{name: fact for name, fact in facts.items() if fact is not None})


_UNPROCESSABLE: Final = 422
_PROVIDER_FAILED: Final = "The model's provider failed: queue it again, or try another model"
# A 422 means one of three things, and no field says which: judge by its code, then by its message.
_POLICY: Final = re.compile(
    r"polic(y|ies)|moderat|safety|unsafe|nsfw|prohibit|disallow|sensitive|inappropriate|\bexplicit\b|violat"
    r"|\bminors?\b|public figure|celebrit|real person|\bfaces?\b|likeness|deepfake|copyright"
    r"|blocked|filter|flagged|screening",
    re.IGNORECASE,
)
_MEDIA: Final = re.compile(
    r"too (long|short|large|small|big|wide|tall|many|few)|exceeds|out of range|decode|corrupt"
    r"|\b(in|un)(valid|supported|readable)\b|unable to (read|process)"
    r"|\b(duration|length|size|ratio|resolution|dimensions?|format|codec|frame rate)\b",
    re.IGNORECASE,
)
_WORD_ENDS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|[_.-]")


def _kind_of_unprocessable(code: str | None, message: str, whole: Json) -> type[APIError]:
    for words in (_WORD_ENDS.sub(" ", code or ""), message):
        if _POLICY.search(words):
            return ContentPolicyError
        if _MEDIA.search(words):
            return BadRequestError
    if text(whole.get("recommended_model")) or text(whole.get("suggested_prompt")):
        return ContentPolicyError
    return APIError if code or "credits_refunded" in whole or "hint" in whole else ContentPolicyError


_REASONS: Final = ("issues", "errors", "details", "detail")


def _reasons(value: object) -> list[str]:
    """Return the reasons in a text, in a list of issues, or in a tree of errors by field."""
    if isinstance(value, dict):
        return _field_errors(mapping(value), _DEEPEST)  # pyright: ignore[reportUnknownArgumentType] - JSON
    if said := text(value):
        return [" ".join(said.split())]
    found = [*map(str.strip, texts(value))]
    for issue in map(mapping, items(value)):
        place = issue.get("path") or issue.get("loc")
        path = text(place) or ".".join(str(part) for part in items(place))
        message = text(issue.get("message")) or text(issue.get("msg"))
        if message:
            found.append(f"{path}: {message}" if path else message)
    return found


def _field_errors(details: Json, depth: int) -> list[str]:
    found = [*texts(details.get("_errors"))]
    for name, value in details.items() if depth else ():
        found += [f"{name}: {message}" for message in _field_errors(mapping(value), depth - 1)]
    return found


def _cropped(value: Any, depth: int) -> Any:
    """Return a JSON value without what is nested deeper than `depth`."""
    if isinstance(value, dict):
        return {name: _cropped(part, depth - 1) for name, part in mapping(value).items()} if depth else "…"  # pyright: ignore[reportUnknownArgumentType] - any
    if isinstance(value, list):
        return [_cropped(part, depth - 1) for part in items(value)] if depth else "…"  # pyright: ignore[reportUnknownArgumentType] - any
    return value


def _shorten(message: str) -> str:
    return message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"


def model(value: object) -> VideoModel | None:
    """Return a model of the catalogue, or None for one without an id."""
    item = mapping(value)
    identity = text(item.get("id"))
    if identity is None:
        return None
    spec = mapping(item.get("model_spec"))
    limits = mapping(spec.get("constraints"))
    characters = number(limits.get("prompt_character_limit"))
    ends = mapping(spec.get("deprecation"))
    restricted = spec.get("regionRestrictions")
    return VideoModel(
        id=identity,
        name=text(spec.get("name")) or identity,
        model_type=text(limits.get("model_type")) or "video",
        privacy=text(spec.get("privacy")),
        aspect_ratios=texts(limits.get("aspect_ratios")),
        resolutions=texts(limits.get("resolutions")),
        durations=texts(
            [f"{item:g}s" if number(item) is not None else item for item in items(limits.get("durations"))]
        ),
        audio=limits.get("audio") is True,
        audio_configurable=limits.get("audio_configurable") is True,
        prompt_character_limit=int(characters) if characters and characters > 0 else DEFAULT_PROMPT_LIMIT,
        offline=spec.get("offline") is True,
        beta=spec.get("beta") is True or spec.get("betaModel") is True,
        uncensored=spec.get("uncensored") is True,
        description=text(spec.get("description")) or "",
        region_restrictions=texts(restricted) or texts([restricted]),
        deprecation=None
        if not ends
        else Deprecation(
            removes_at=text(ends.get("removesAt")) or text(ends.get("date")),
            starts_at=text(ends.get("startsAt")),
            replacement=text(ends.get("replacementModelId")),
            auto_remap=ends.get("autoRemap") is True,
        ),
        pricing=mapping(spec.get("pricing")) or None,
        traits=texts(spec.get("traits")),
        raw=item,
    )


def account_limits(value: object) -> AccountLimits | None:
    """Return the key's limits, or None when the answer holds none."""
    data = mapping(mapping(value).get("data"))
    if not isinstance(data.get("accessPermitted"), bool):
        return None
    tier = mapping(data.get("apiTier"))
    balances = {name: number(amount) for name, amount in mapping(data.get("balances")).items()}
    return AccountLimits(
        access_permitted=data["accessPermitted"],
        tier=text(tier.get("id")) or "",
        charged=tier.get("isCharged") is not False,
        balances={name: amount for name, amount in balances.items() if amount is not None},
        key_expires=text(data.get("keyExpiration")),
        limits=tuple(
            ModelLimit(
                model=text(entry.get("apiModelId")) or "",
                amount=number(limit.get("amount")) or 0.0,
                type=text(limit.get("type")) or "",
            )
            for entry in map(mapping, items(data.get("rateLimits")))
            for limit in map(mapping, items(entry.get("rateLimits")))
        ),
    )


def ledger_row(value: object) -> LedgerRow | None:
    """Return a row of the ledger, or None when it makes no sense."""
    row = mapping(value)
    amount = number(row.get("amount"))
    try:
        at = datetime.fromisoformat(text(row.get("timestamp")) or "").timestamp()
    except (ValueError, OverflowError):
        return None
    if amount is None:
        return None
    return LedgerRow(
        at=at,
        product=text(row.get("sku")) or "",
        amount=amount,
        currency=text(row.get("currency")) or "",
        job=text(mapping(row.get("inferenceDetails")).get("requestId")),
    )
