"""The URL of a place in an object store, such as `s3://bucket/clips/a.mp4`, taken apart and checked."""

from __future__ import annotations

import re
from typing import Final

from attrs import evolve, frozen

from ..errors import UsageError

SCHEMES: Final = ("s3", "s3a", "gs", "az", "memory", "file")
_WITHOUT_BUCKET: Final = ("memory", "file")

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)  # one letter is a drive of Windows
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,99}", re.ASCII)
_MOST: Final = 1024 - 120  # bytes of a key, of which a temporary name beside it needs some
_EXAMPLE: Final = "It looks like s3://bucket/clips/a.mp4"


@frozen
class ObjectUrl:
    """A place in an object store.

    Attributes:
        scheme: which kind of store it is.
        bucket: the bucket or container; empty for `memory` and `file`, which have none.
        key: the name of the object as it is, nothing in it escaped; a folder's is empty or ends with a slash.
    """

    scheme: str
    bucket: str
    key: str

    @property
    def is_folder(self) -> bool:
        """Whether objects are to be named within it."""
        return not self.key or self.key.endswith("/")

    @property
    def folder(self) -> str:
        """The part of the key up to its last slash."""
        return self.key[: self.key.rfind("/") + 1]

    def named(self, name: str) -> ObjectUrl:
        """Return the object itself, or the one of that name if this is a folder."""
        return evolve(self, key=self.key + name) if self.is_folder else self

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"


def is_object_url(text: object) -> bool:
    """Tell whether a destination is a URL and not a path."""
    return isinstance(text, str) and _URL.match(text) is not None


def is_collapsed_url(path: str) -> bool:
    """Tell whether a path was made of a URL, of which it leaves but one of the two slashes."""
    scheme, colon, rest = path.partition(":/")
    return bool(colon) and scheme in SCHEMES and not rest.startswith("/")


def parse_object_url(text: str) -> ObjectUrl:
    """Return the parts of a URL.

    Raises:
        UsageError: it is no place for a clip. The message shows nothing of it that may be a secret.
    """
    found = _URL.fullmatch(text)
    scheme, rest = (found[1].lower(), found[2]) if found else ("", "")
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        msg = f"Clips cannot be sent to {scheme}://: the schemes are {known}"
        raise UsageError(msg, hint=_EXAMPLE)
    bucket, _, key = rest.partition("/")
    if "@" in bucket or "?" in rest:
        msg = f"A {scheme}:// URL as a destination has no user, password or query"
        hint = "Credentials come from the environment, or with a store object: store=S3Store(...)"
        raise UsageError(msg, hint=hint)
    if scheme in _WITHOUT_BUCKET:
        if scheme == "memory" and bucket:
            bucket, key = "", rest
        if bucket not in {"", "localhost"}:
            msg = "A file:// URL has three slashes and an absolute path"
            raise UsageError(msg, hint="It looks like file:///srv/clips/a.mp4")
        bucket = ""
    elif not _BUCKET.fullmatch(bucket):
        msg = (
            f"The {scheme}:// URL names no bucket"
            if not bucket
            else f"{bucket!r} is not the name of a bucket"
        )
        raise UsageError(msg, hint=_EXAMPLE)
    check_key(key)
    return ObjectUrl(scheme, bucket, key)


def check_key(key: str) -> None:
    """Check that an object, or a folder of objects, can have that name.

    Raises:
        UsageError: it cannot.
    """
    parts = key.removesuffix("/").split("/") if key else []
    if any(part in {"", ".", ".."} for part in parts) or not key.isprintable():
        msg = f"{key!r} is not the name of an object: empty parts, '.', '..' and control characters are none"
        raise UsageError(msg, hint=_EXAMPLE)
    if len(key.encode(errors="surrogatepass")) > _MOST:
        msg = f"The name of an object has at most {_MOST} bytes"
        raise UsageError(msg, hint="Choose a shorter one")
