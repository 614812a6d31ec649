"""Keeping secrets out of what people read: what a server echoes is cleaned before it becomes an error."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from urllib.parse import quote, urlsplit

# Each match takes a whole URL, so that the text is read once, whatever a server sends.
_URL: Final = re.compile(rb"(https?:\\?/\\?/)([^\s/\\?#\"'<>]*)[^\s\"'<>]*", re.IGNORECASE)
_BEARER: Final = re.compile(rb"(bearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_MASK: Final = b"[redacted]"
_LEAST: Final = 6  # characters; a shorter text is no secret, and masking it would garble everything
_LEAST_PATH: Final = 16  # characters; a shorter path is a route, and holds no token


def redact(body: bytes, secrets: Iterable[str]) -> bytes:
    """Return `body` without `secrets`, whole, in part or escaped, nor signed URLs and bearer tokens."""
    parts = {part for secret in secrets for part in _parts(secret)}
    for form in sorted({form for part in parts for form in _forms(part)}, key=len, reverse=True):
        body = body.replace(form, _MASK)
    body = _URL.sub(_without_query, body)
    return _BEARER.sub(rb"\1" + _MASK, body)


def _without_query(url: re.Match[bytes]) -> bytes:
    """Return a URL as it is; one that is signed, or names a user, by its host alone."""
    host = url[2].rpartition(b"@")[2]
    return url[1] + host + b"/" + _MASK if b"?" in url[0] or host != url[2] else url[0]


def _parts(secret: str) -> list[str]:
    """Return a secret and, of a link, what a server echoes without the host: its path and query."""
    parts = [secret]
    with suppress(ValueError):
        _, host, path, query, _ = urlsplit(secret)
        parts += [f"{path}?{query}", query] if host and query else []
        parts += [path] if host and len(path) >= _LEAST_PATH else []
    return [part for part in parts if len(part) >= _LEAST]


def _forms(secret: str) -> set[bytes]:
    spellings = {secret, secret.replace("/", "\\/"), quote(secret), quote(secret, safe="")}
    spellings |= {secret.replace("&", "&amp;"), secret.replace("&", "\\u0026")}
    return {spelling.encode() for spelling in spellings}
