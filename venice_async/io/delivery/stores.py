"""Object stores: which one a destination means, opened while its settings stay, and why it failed."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

from attrs import evolve, field, frozen

from ...errors import DownloadError, UsageError, VeniceError
from ...sansio.naming import ObjectUrl, check_object_key, is_object_url, parse_object_url
from ..shielding import in_thread

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")

TEMPORARY: Final = ".venice-async"
"""The part of a key by which our temporary objects are known."""

_STORES: Final = {
    "S3Store": ("s3", "bucket"),
    "GCSStore": ("gs", "bucket"),
    "AzureStore": ("az", "container_name"),
    "MemoryStore": ("memory", ""),
    "LocalStore": ("file", ""),
}
"""The stores of obstore: the scheme of each, and the setting that names its bucket."""

_SETTINGS: Final = ("AWS_", "AZURE_", "GOOGLE_", "SSL_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

# What a store is opened with. Obstore's own patience is kept for uploads: ten tries within three minutes.
_CLIENT: Final = {"default_content_type": "video/mp4", "timeout": "60s"}
_PATIENT: Final = {"max_retries": 12, "retry_timeout": timedelta(minutes=3)}
_QUICK: Final = {"max_retries": 4, "retry_timeout": timedelta(seconds=15)}

_STATUS: Final = re.compile(r"status(?: code)?: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w{1,40})</Code>")
_UNREACHED: Final = ("error sending request", "connect", "timed out", "HTTP error")
_REFUSED: Final = "the store refuses the credentials, or there are none"
_MISSING: Final = "there is no such bucket"


@frozen(kw_only=True)
class ObjectPlace:
    """A place in an object store.

    Attributes:
        url: its address, of an object or of a folder.
        store: the store, where the caller passed one; None for the one that the URL and the environment name.
        prefix: the part of the URL's key that the store puts before every key by itself.
    """

    url: ObjectUrl
    store: ObjectStore | None = field(default=None, repr=False, eq=False)
    prefix: str = ""

    def __str__(self) -> str:
        return str(self.url)

    def named(self, name: str) -> ObjectPlace:
        """Return the object itself, or the one of that name if this is a folder."""
        return evolve(self, url=self.url.named(name))

    @property
    def key(self) -> str:
        """The name of the object, as the store is asked for it."""
        return self.url.key[len(self.prefix) :]

    def temporary(self, job: str) -> str:
        """Return the prefix of all temporary names of a job, by its key."""
        return f"{self.url.folder[len(self.prefix) :]}{TEMPORARY}/{job}"


def place_in(store: object, to: str | os.PathLike[str]) -> ObjectPlace:
    """Return the place in a store that the caller passed; `to` is a URL or the mere name of the object.

    Raises:
        UsageError: clips cannot be sent there.
    """
    kind = next((name for base in type(store).__mro__ if (name := base.__name__) in _STORES), None)
    if kind is None:
        msg = f"Clips cannot be sent to a {type(store).__name__}, which was passed as store="
        raise UsageError(msg, hint="Pass an S3Store, GCSStore, AzureStore, LocalStore or MemoryStore")
    known: Any = store
    scheme, setting = _STORES[kind]
    bucket = known.config.get(setting, "") if setting else ""
    prefix = str(getattr(store, "prefix", None) or "").strip("/")
    prefix = f"{prefix}/" if prefix else ""
    text = os.fspath(to)
    if is_object_url(text):
        url = parse_object_url(text)
        if (url.scheme.rstrip("a"), url.bucket) != (scheme, bucket) or not url.key.startswith(prefix):
            msg = f"{str(url)!r} is not within the store that was passed with it"
            raise UsageError(msg, hint="Pass the name of the object alone, or the URL without the store")
    else:
        check_object_key(text)
        url = ObjectUrl(scheme, bucket, quote(prefix + text) if scheme == "file" else prefix + text)
    return ObjectPlace(url=url, store=known, prefix=prefix)


def stores(place: ObjectPlace) -> tuple[ObjectStore, ObjectStore]:
    """Return the store of a place twice: for a quick look, and for what may take its time."""
    if place.store is not None:
        return place.store, place.store
    settings = tuple(item for item in os.environ.items() if item[0].upper().startswith(_SETTINGS))
    root = str(evolve(place.url, key=""))
    return _opened(root, settings, quick=True), _opened(root, settings, quick=False)


@lru_cache(maxsize=32)
def _opened(root: str, settings: tuple[tuple[str, str], ...], *, quick: bool) -> ObjectStore:
    """Return the store at `root`, with its connections, for as long as the settings stay as they are.

    Raises:
        UsageError: there can be none.
    """
    try:
        from obstore.store import from_url  # noqa: PLC0415 - loaded by those who use it
    except ImportError:
        msg = "Clips are sent to object stores with obstore, which is not installed"
        raise UsageError(msg, hint="pip install 'venice-async[storage]'") from None
    if root.startswith("memory:") and quick:
        return _opened(root, settings, quick=False)  # there is one
    retries: Any = _QUICK if quick else _PATIENT
    options: Any = {"copy_if_not_exists": "multipart"} if root.startswith("s3") else {}
    plain = any("ENDPOINT" in name and value.startswith("http:") for name, value in settings)
    try:
        if root.startswith("memory:"):
            return from_url(root)
        client: Any = {**_CLIENT, "allow_http": plain}  # options are taken instead of AWS_ALLOW_HTTP
        return from_url(root, client_options=client, retry_config=retries, **options)
    except Exception as error:  # noqa: BLE001 - whatever obstore makes of its settings
        reason = reason_of(error)
    msg = f"The store {root!r} cannot be used: {reason}"
    raise UsageError(msg, hint="Check the URL, and the settings of the store in the environment")


async def listed(store: ObjectStore, prefix: str) -> list[str]:
    """Return the names of the objects below a prefix."""
    found = store.list(prefix)  # pyright: ignore[reportUnknownMemberType]
    return [item["path"] for item in await found.collect_async()]


async def size_of(store: ObjectStore, place: ObjectPlace) -> int | None:
    """Return the size of an object in bytes; None if there is none. For a look before anything is paid."""

    async def look() -> int | None:
        try:
            size: int = (await store.head_async(place.key))["size"]
        except FileNotFoundError:
            return None
        return size

    return await asked(look(), place, before=True)


async def put_text(place: ObjectPlace, url: str, text: str, *, overwrite: bool) -> None:
    """Put a small JSON text at `url`, which lies in the store of `place`.

    Raises:
        DownloadError: it cannot be put there; something has that name already, unless it may be replaced.
    """
    quick, _ = await in_thread(stores, place)
    key = parse_object_url(url).key[len(place.prefix) :]
    attributes: Any = {"Content-Type": "application/json"}
    mode: Any = "overwrite" if overwrite else "create"
    await asked(quick.put_async(key, text.encode(), attributes=attributes, mode=mode), place)


async def asked(call: Awaitable[T], place: ObjectPlace, *, before: bool = False) -> T:
    """Return what a call of obstore returns; its errors become ours, without the answers they quote.

    `before` tells whether nothing is paid yet.
    """
    try:
        return await call
    except VeniceError:
        raise
    except Exception as error:  # noqa: BLE001 - obstore raises errors of its own and of Python's
        reason, is_taken = reason_of(error), type(error).__name__ == "AlreadyExistsError"
    message, what = f"The clip cannot be written to {str(place)!r}: {reason}", "Mend that"
    if is_taken:
        message = f"An object {str(place)!r} has appeared meanwhile, and was left as it is"
        what = "Move it away"
    if before:
        kind = UsageError if reason in {_REFUSED, _MISSING} else DownloadError
        raise kind(message, hint="Check the URL, the credentials and the settings in the environment")
    what = f"{what} or choose another place, then"
    raise DownloadError(
        message, hint=f"{what} call resume(ticket, to=...)", cli_hint=f"{what} resume the job"
    )


def reason_of(error: Exception) -> str:
    """Say why a store failed, in words of ours: its own repeat answers, addresses and names of keys."""
    name, text = type(error).__name__, str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    said = f" ({code[1]})" if code else ""
    if name in {"PermissionDeniedError", "UnauthenticatedError"} or (status and status[1] in {"401", "403"}):
        return _REFUSED
    if isinstance(error, FileNotFoundError) or (status and status[1] == "404"):
        return _MISSING
    if status:
        return f"the store answered {status[1]}{said}"
    if name == "NotSupportedError":
        return "the store cannot name an object on condition that there is none"
    if any(sign in text for sign in _UNREACHED):
        return "the store cannot be reached"
    return f"the store failed ({name})"
