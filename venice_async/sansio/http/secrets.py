"""Removes secrets from what a server echoes before it becomes an error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Final
from urllib.parse import quote, urlsplit

# Each match takes a whole URL, so that the text is read once, whatever a server sends.
_URL: Final = re.compile(rb"(https?:\\?/\\?/)([^\s/\\?#\"'<>]*)[^\s\"'<>]*", re.IGNORECASE)
_SIGNED: Final = re.compile(
    rb"([?&][\w.-]{0,40}(?:sig|token|key|secret|credential)[\w.-]{0,40}=)[^\s&\"'<>\\]{6,}", re.IGNORECASE
)
# Each alternative begins with a letter of its own, by which the search skips what is no escape. What names a
# character beyond Latin-1 hides no secret, and stays.
_ESCAPED: Final = re.compile(
    rb"\\\\*(?:[uU]00(?P<u>[0-9a-fA-F]{2})|[xX](?P<x>[0-9a-fA-F]{2})|(?![uU]))|%(?P<percent>[0-9a-fA-F]{2})"
    rb"|&(?:#[xX]0*(?P<entity>[0-9a-fA-F]{2})|#0*(?P<decimal>[0-9]{2,3})|(?P<name>(?i:amp|lt|gt|quot|apos)));"
)
_NAMED: Final = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}
_NESTED: Final = 4  # times that a text is escaped at most: one server quotes another, and that a third
_BEARER: Final = re.compile(rb"(bearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_MASK: Final = b"[redacted]"
_LEAST: Final = 6  # characters; a shorter text is no secret, and masking it would garble everything
_LEAST_TOKEN: Final = 20  # characters; a shorter value in a query is a time or a region
_LEAST_PATH: Final = 16  # characters; a shorter path is a route, and holds no token


def redact(body: bytes, secrets: Iterable[str]) -> bytes:
    """Return `body` without `secrets`, whole, in part or escaped, nor signed URLs and bearer tokens.

    Where a secret is escaped in an unusual way, the body is unescaped as a whole, and may be JSON no longer.
    """

    def bare(url: re.Match[bytes]) -> bytes:  # a URL that is signed, or names a user, is left its host alone
        host = url[2].rpartition(b"@")[2]
        return url[1] + host + b"/" + _MASK if b"?" in url[0] or host != url[2] else url[0]

    forms, parts = _sought(tuple(secrets))
    for form in forms:
        body = body.replace(form, _MASK)
    plain = _unescaped(body)
    for part in parts:
        if part in plain:
            body = plain = plain.replace(part, _MASK)
    if b":" in body and (b"?" in body or b"@" in body):
        body = _URL.sub(bare, body)
    if b"=" in body:
        body = _SIGNED.sub(rb"\1" + _MASK, body)
    return _BEARER.sub(rb"\1" + _MASK, body) if b"bearer" in body.lower() else body


def redact_headers(headers: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    """Return the headers, their names in lower case, cleaned as by `redact` in one pass."""
    values = "\n".join(headers.values()).encode("utf-8", "surrogateescape")
    cleaned = redact(values, secrets).decode("utf-8", "replace").split("\n")
    if len(cleaned) != len(headers):  # a line break was escaped beside a secret
        cleaned = [_MASK.decode()] * len(headers)
    return {name.lower(): value for name, value in zip(headers, cleaned, strict=True)}


@lru_cache(maxsize=64)
def _sought(secrets: tuple[str, ...]) -> tuple[list[bytes], list[bytes]]:
    """Return the forms of secrets, and their parts as they are in unescaped text, the longest first."""
    whole, forms = set(secrets), set[bytes]()
    for secret in secrets:
        with suppress(ValueError):  # of a link a server echoes its path and query, without the host
            _, host, path, query, _ = urlsplit(secret)
            whole |= {f"{path}?{query}", query} if host and query else set()
            # A store that refuses a signature quotes its value alone.
            values = (item.partition("=")[2] for item in query.split("&") if host)
            whole |= {value for value in values if len(value) >= _LEAST_TOKEN}
            whole |= {path} if host and len(path) >= _LEAST_PATH else set()
    parts = {part for part in whole if len(part) >= _LEAST}
    for part in parts:
        spellings = {quote(part, safe=safe, errors="surrogatepass") for safe in ("/", "")}
        spellings |= {
            part,
            part.replace("/", "\\/"),
            part.replace("&", "&amp;"),
            part.replace("&", "\\u0026"),
        }
        forms |= set(map(_encoded, spellings))
    plain = {_unescaped(_encoded(part)) for part in parts}
    return sorted(forms, key=len, reverse=True), sorted(plain, key=len, reverse=True)


def _unescaped(text: bytes) -> bytes:
    """Return a text without the escapes of JSON, URLs and HTML, however deep they are nested."""

    def character(escape: re.Match[bytes]) -> bytes:
        if (name := escape["name"]) is not None:
            return _NAMED[name.lower()]
        if (decimal := escape["decimal"]) is not None:
            return bytes([int(decimal)]) if int(decimal) < 128 else b""  # noqa: PLR2004 - ASCII
        digits = escape["u"] or escape["x"] or escape["percent"] or escape["entity"]
        return bytes.fromhex(digits.decode()) if digits else b""

    for _ in range(_NESTED):
        plain = _ESCAPED.sub(character, text)
        if plain == text:
            break
        text = plain
    return text


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON can name characters that do not exist


class Secret:
    """A text that no repr shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"
