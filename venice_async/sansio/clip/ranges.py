"""How to go on with a cut download: what to ask for, and what to believe (RFC 9110, 13.1.5 and 14).

Nobody knows whether the service honours ranges. So one is asked for only after a cut, and only with what
proves the file to be the same; an answer that does not fit exactly leads to a fresh start, not to a guess.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from attrs import define, frozen

from ...errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

_STRONG_TAG: Final = re.compile(r'"[\x21\x23-\x7e]*"')
_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.IGNORECASE | re.ASCII)
_NO_RANGE: Final = re.compile(r"bytes \*/(\d{1,18})", re.IGNORECASE | re.ASCII)
_LENGTH: Final = re.compile(r"\d{1,18}", re.ASCII)
_COMPRESSIONS: Final = frozenset(
    {"gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress", "dcb", "dcz"}
)
"""Others are ignored: stores keep some from an upload, such as `aws-chunked`, for files that are plain."""
_OLD_ENOUGH: Final = 1.0  # seconds from change to answer that make a date a strong validator: 8.8.2


@define(kw_only=True)
class Held:
    """What is held of a file.

    Attributes:
        received: bytes from its start.
        total: its size in bytes, where it was announced.
        validator: the strong ETag or the date that names this version of it, where there is one.
    """

    received: int = 0
    total: int | None = None
    validator: str | None = None


@frozen(kw_only=True)
class FromStart:
    """The body is the file from its first byte.

    Attributes:
        total: its size in bytes, where it is announced.
        validator: what names this version of the file in an `If-Range`, where anything does.
        end_marked: whether the end of the body can be told from a cut.
        spoilt: why it is no clip whatever it holds, if so.
    """

    total: int | None = None
    validator: str | None = None
    end_marked: bool = False
    spoilt: str | None = None


@frozen(kw_only=True)
class Onward:
    """The body goes on exactly where what is held ends.

    Attributes:
        total: the file's size in bytes; as many as are held if nothing is missing, whatever the body is.
    """

    total: int


def request_headers(held: Held) -> dict[str, str]:
    """Return the headers that ask for what is missing, or for the whole file if that is not safe."""
    headers = {"Accept-Encoding": "identity"}
    if _may_continue(held):
        headers |= {"Range": f"bytes={held.received}-", "If-Range": f"{held.validator}"}
    return headers


def judge(held: Held, status: int, headers: Mapping[str, str]) -> FromStart | Onward:
    """Decide what the body of an answer is to what is `held`; header names are in lower case.

    Raises:
        ProtocolError: it must not be used.
    """
    codings = headers.get("content-encoding", "").lower().split(",")
    plain = _COMPRESSIONS.isdisjoint(coding.strip() for coding in codings)
    match status:
        case 200 | 203:  # 203 says that a proxy changed something; what matters is checked
            total = content_length(headers)
            chunked = headers.get("transfer-encoding", "").strip().lower().endswith("chunked")
            return FromStart(
                total=total,
                validator=_validator(headers),
                end_marked=chunked or total is not None,
                spoilt=None if plain else "The clip came compressed, which was declined",
            )
        case 206 | 416 if not plain:
            reason = "A part of the clip came compressed, which was declined"
        case 206:
            return _judge_part(held, headers)
        case 416 if _may_continue(held):
            fits = _NO_RANGE.fullmatch(headers.get("content-range", "").strip())
            size = int(fits[1]) if fits else None
            if size == held.received and held.total in {None, size}:
                return Onward(total=held.received)
            reason = f"The server has nothing after byte {held.received}, and says the clip ends elsewhere"
        case 416:
            reason = "Status 416 came though the whole clip was asked for"
        case _:
            reason = f"Status {status} came where a clip should be"
    raise ProtocolError(reason)


def _may_continue(held: Held) -> bool:
    return held.received > 0 and held.validator is not None


def _judge_part(held: Held, headers: Mapping[str, str]) -> FromStart | Onward:
    fits = _RANGE.fullmatch(headers.get("content-range", "").strip())
    if fits is None:
        msg = "The server sent a part of the clip without saying which"
        raise ProtocolError(msg)
    first, last = int(fits[1]), int(fits[2])
    total = None if fits[3] == "*" else int(fits[3])
    tagged = held.validator is not None and held.validator.startswith('"')
    named = headers.get("etag" if tagged else "last-modified", "").strip()
    if first > last or (total is not None and last >= total):
        reason = "The server contradicts itself about which part of the clip it sent"
    elif content_length(headers) not in {None, last - first + 1}:
        reason = "The server contradicts itself about the length of a part"
    elif first == 0:  # what was asked for, or more: some workers before stores answer everything like that
        return FromStart(total=total, validator=_validator(headers), end_marked=total is not None)
    elif not _may_continue(held):
        reason = f"The server sent bytes {first} to {last} when asked for the whole clip"
    elif first != held.received or total is None:
        reason = f"The server sent bytes {first} to {last} when asked for those from {held.received}"
    elif held.total not in {None, total}:
        reason = f"The clip was of {held.total} bytes and is now of {total}"
    elif named not in {"", held.validator}:
        reason = "The clip has changed between two parts"
    else:
        return Onward(total=total)
    raise ProtocolError(reason)


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return the announced length of a body in bytes, or None if it is absent or makes no sense."""
    text = headers.get("content-length", "").strip()
    return int(text) if _LENGTH.fullmatch(text) else None


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return what may stand in an `If-Range`: a strong ETag; a date only if the file has no ETag at all."""
    if headers.get("accept-ranges", "").strip().lower() == "none":
        return None
    tag = headers.get("etag", "").strip()
    if tag:
        return tag if _STRONG_TAG.fullmatch(tag) else None
    modified = headers.get("last-modified", "").strip()
    changed, now = _seconds(modified), _seconds(headers.get("date", "").strip())
    # A file that is older than the answer cannot have changed twice under one date.
    is_strong = changed is not None and (now is None or now - changed >= _OLD_ENOUGH)
    return modified if is_strong else None


def _seconds(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
