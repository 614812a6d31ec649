"""What a caller passes, checked: how a client is made, what one job is to do; and what its jobs share."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, cast
from urllib.parse import urlsplit

import anyio
from attrs import field, frozen

from ..errors import UsageError
from ..io.caller import Caller
from ..io.delivery.sinks import Sender, Sink, Writer, WriterSink
from ..io.delivery.stores import ObjectPlace, place_in
from ..io.disk import absolute
from ..io.journal.entries import BatchShare, JournalEntry
from ..io.request_hook import OnRequest
from ..io.transport import Clock
from ..options import Budget, Limits, Links, Polling, Retries, Timeouts, check_flag, check_kind
from ..requests import VideoRequest
from ..sansio.http.links import is_loopback
from ..sansio.http.secrets import Secret
from ..sansio.job.machine import Step, resume
from ..sansio.naming import is_collapsed_url, is_object_url, parse_object_url
from .consent import OnConsent, Questions
from .following import Following

if TYPE_CHECKING:
    import aiohttp

    from ..io.journal.journal import Journal

Destination: TypeAlias = (
    str | os.PathLike[str] | Sink | Writer | Sender | asyncio.StreamWriter | tuple[object, str]
)
"""Where a clip goes: a path, a URL such as `s3://bucket/clips/a.mp4`, a sink, what bytes are written or sent
to, or a store of `obstore` and a name in it."""

LONGEST_NAME: Final = 255  # characters of a key, or of the name or text of a tag
MOST_TAGS: Final = 64
# No database and no terminal takes these.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# The labels of a host name.
_HOST: Final = re.compile(r"[^\s\x00-\x1f\x7f.]{1,63}(\.[^\s\x00-\x1f\x7f.]{1,63})*\.?")

log: logging.Logger = logging.getLogger(__name__)


def checked_request(request: object) -> VideoRequest:
    """Return `request`, checked.

    Raises:
        UsageError: it is no `VideoRequest`.
    """
    if isinstance(request, VideoRequest):
        return request
    msg = f"A request must be a VideoRequest, not {type(request).__name__}"
    raise UsageError(msg, hint="Make one: VideoRequest(model=..., prompt=..., duration='5s')")


def checked_key(key: object) -> str:
    """Return `key`, checked.

    Raises:
        UsageError: it cannot name a job.
    """
    return checked_name(key, "key", hint="Pass what names the order with you, such as key='order-4711'")


def checked_name(value: object, what: str, *, hint: str = "") -> str:
    """Return `value`, checked; `what` is the argument that it was passed as.

    Raises:
        UsageError: it is empty, too long, or has control characters.
    """
    if isinstance(value, str) and value.strip() and _is_name(value):
        return value
    msg = (
        f"{what} must be text of 1 to {LONGEST_NAME} characters, none of them a control, not {_brief(value)}"
    )
    raise UsageError(msg, hint=hint)


def checked_tags(tags: object) -> dict[str, str]:
    """Return a copy of `tags`, checked.

    Raises:
        UsageError: they are no mapping of names to texts, or too many.
    """
    given: object = tags
    known = dict(cast("Mapping[object, object]", tags)) if isinstance(tags, Mapping) else None
    if known is None or len(known) > MOST_TAGS:
        msg = f"tags must be a mapping of at most {MOST_TAGS} names to texts, not {_brief(given)}"
        raise UsageError(msg, hint="Pass tags={'customer': 'acme'}")
    for name, value in known.items():
        if not (name and _is_name(name) and _is_name(value)):
            msg = f"A tag is a name and a text, each of at most {LONGEST_NAME} characters and none of them a"
            msg += f" control, not {_brief(name)}: {_brief(value)}"
            raise UsageError(msg)
    return cast("dict[str, str]", known)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME and not _UNPRINTABLE.search(value)


def _brief(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[:40]}… ({len(shown)} characters)"


def bound_for(to: Destination | None, store: object = None) -> str | os.PathLike[str] | ObjectPlace | Sink:
    """Return the destination: a path or a sink as it is, a URL as a place, anything else as a writer.

    With a `store`, which may also come first in a pair, it is a place in that store.

    Raises:
        UsageError: no clip can go there.
    """
    match to:
        case None:
            msg = "There is no destination"
            hint = "Pass to='clip.mp4', or read the clip of venice.stream(request) as it comes"
            raise UsageError(msg, hint=hint)
        case tuple((store, name)):
            return bound_for(name, store)
        case str() | os.PathLike():
            return local_or_object(to) if store is None else place_in(store, to)
        case _ if store is not None:
            msg = "store= needs a name in it: the URL or the key of an object, or a folder's with a slash"
            raise UsageError(msg, hint="Pass to='clips/a.mp4'")
        case _:
            is_sink = all(hasattr(to, name) for name in ("open", "write", "restart", "commit", "abort"))
            return cast("Sink", to) if is_sink else WriterSink(to)


def local_or_object(to: str | os.PathLike[str]) -> str | os.PathLike[str] | ObjectPlace:
    """Return a path as it is, and a URL as the place in an object store that it names.

    Raises:
        UsageError: no clip can go to that URL.
    """
    if isinstance(to, str) and is_object_url(to):
        return ObjectPlace(url=parse_object_url(to))
    if not isinstance(to, str) and is_collapsed_url(os.fsdecode(to)):
        msg = f"A path cannot hold a URL: {os.fsdecode(to)!r} has lost one of its slashes"
        raise UsageError(msg, hint="Pass the URL as text")
    return to


def folder_for(into: str | os.PathLike[str], store: object = None) -> Path | ObjectPlace:
    """Return the folder of a batch, absolute; its URL may lack the slash at its end.

    Raises:
        UsageError: no clip can go there.
    """
    check_kind("into", into, str, os.PathLike, what="the path of a folder, or a URL")
    if store is not None or (isinstance(into, str) and is_object_url(into)):
        text = os.fspath(into)
        found = bound_for(text if not text or text.endswith("/") else f"{text}/", store)
        assert isinstance(found, ObjectPlace)  # noqa: S101 - a URL, or a key in a store
        return found
    if is_nameable(into):
        return absolute(local_or_object(into))  # type: ignore[arg-type]
    msg = f"into= is not the path of a folder: {into!r}"
    raise UsageError(msg, hint="Pass a path like 'clips'")


def is_nameable(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file can have that name."""
    with suppress(UnicodeEncodeError):  # the file system cannot encode it
        return b"\0" not in os.fsencode(path)
    return False


def check_callback(name: str, given: object, what: str) -> None:
    """Check a callback, if there is one.

    Raises:
        UsageError: it cannot be called; the message says that `name` must be a function `what`.
    """
    if given is not None and not callable(given):
        msg = f"{name} must be a function {what}, not {type(given).__name__}"
        raise UsageError(msg)


def _stripped(key: Secret) -> Secret:
    check_kind("api_key", key.reveal(), str, what="text")
    return Secret(key.reveal().strip())


def _without_slash(url: str) -> str:
    check_kind("base_url", url, str, what="text")
    return url.rstrip("/")


@frozen(kw_only=True, repr=False)  # a traceback may show it half made
class Settings:
    """How a client was made; see `VeniceClient`.

    Raises:
        UsageError: an option makes no sense.
    """

    api_key: Secret = field(converter=_stripped)
    base_url: str = field(converter=_without_slash)
    session: aiohttp.ClientSession | None
    on_consent: OnConsent | None
    on_state: Callable[..., object] | None
    on_done: Callable[..., object] | None
    on_request: OnRequest | None
    journal: str | os.PathLike[str] | None
    budget: Budget
    timeouts: Timeouts
    limits: Limits
    polling: Polling
    retries: Retries
    links: Links
    send_key: bool
    sidecars: bool

    def __attrs_post_init__(self) -> None:
        """Check the key, which stays wrapped so that no traceback shows it, the URL and the callbacks."""
        check_flag("send_key", self.send_key)
        if not self.api_key.reveal():
            msg = "There is no API key"
            hint = "Pass api_key=, or set VENICE_API_KEY; make one at venice.ai/settings/api"
            raise UsageError(msg, hint=hint)
        if not re.fullmatch("[!-~]+", self.api_key.reveal()):
            msg = "The API key has characters that no key has"
            raise UsageError(msg, hint="Copy it again, without blanks or line ends")
        try:
            parts = urlsplit(self.base_url)
            sound = parts.scheme in {"http", "https"} and parts.port != 0
            sound = sound and _HOST.fullmatch(parts.hostname or "") is not None
        except ValueError:
            sound, parts = False, urlsplit("")
        if not sound or "@" in parts.netloc or re.search("[?#]", self.base_url):
            msg = "base_url, or VENICE_BASE_URL, must be an http(s) URL such as https://api.venice.ai/api/v1"
            raise UsageError(msg, hint="It has no user, no query and no fragment")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            log.warning("base_url is plain http: the key can be read on its way")
        given: object = self.on_state
        if given is not None and (not callable(given) or iscoroutinefunction(given)):
            msg = "on_state must be a plain function, not a coroutine function"
            raise UsageError(msg, hint="Let it put the states into a queue that a task of yours reads")
        check_callback("on_request", self.on_request, "of method, path and body")
        check_callback("on_done", self.on_done, "of a job, or a Webhook")
        check_callback("on_consent", self.on_consent, "of a ConsentRequest")
        for kind in (Timeouts, Limits, Polling, Retries, Links):
            name = kind.__name__.lower()
            check_kind(name, getattr(self, name), kind, what=f"a {kind.__name__}")
        check_flag("sidecars", self.sidecars)
        check_kind("journal", self.journal, str, os.PathLike, what="the path of a file", or_none=True)
        if self.journal is not None and not is_nameable(self.journal):
            msg = f"journal is not the path of a file: {self.journal!r}"
            raise UsageError(msg, hint="Pass a path like 'jobs.db'")

    @property
    def capped(self) -> bool:
        """Whether there is a budget, so that prices are asked first.

        Raises:
            UsageError: there is one, and no journal to count in.
        """
        if self.budget and self.journal is None:
            msg = "A daily or monthly budget needs a journal, in which all processes count what they pay"
            hint = "Pass journal='jobs.db', or unset VENICE_DAILY_USD and limit each job with max_usd"
            cli_hint = "Leave out --no-journal, or unset VENICE_DAILY_USD and limit each job with --max-usd"
            raise UsageError(msg, hint=hint, cli_hint=cli_hint)
        return bool(self.budget)


@frozen(kw_only=True)
class JobSpec:
    """What one job is to do.

    Attributes:
        start: the first state and command.
        request: what was asked for, where it is known.
        to: a file, a folder, a place in an object store, or a sink.
        overwrite: whether a file may be replaced.
        recovering: whether a file at `to` may be this clip, delivered before a crash.
        priority: jobs of a higher one are queued first.
        entry_id: the journal's entry of the job, if it stands there already.
        owner: the lease by which we own that entry.
        key: the caller's name for the job, unique within the account.
        tags: the caller's notes.
        identity: the digest that tells its request from another one of the key; see `identify`.
        batch: the batch it belongs to, if to one.
        usd: its price in USD, where that was asked.
        age: seconds since it was queued; None for not known: such a job is polled at once.
        on_consent: asked instead of the client's.
    """

    start: Step
    request: VideoRequest | None = None
    to: str | os.PathLike[str] | ObjectPlace | Sink
    overwrite: bool = False
    recovering: bool = False
    priority: int = 0
    entry_id: str = ""
    owner: str | None = None
    key: str | None = None
    tags: Mapping[str, str] = field(factory=dict[str, str])
    identity: str | None = None
    batch: BatchShare | None = None
    usd: float | None = None
    age: float | None = 0.0
    on_consent: OnConsent | None = None

    def __attrs_post_init__(self) -> None:
        check_flag("overwrite", self.overwrite)
        check_callback("on_consent", self.on_consent, "of a ConsentRequest")

    @property
    def entry(self) -> JournalEntry:
        """The job as the journal knows it; without a destination for a sink."""
        to = self.to
        return JournalEntry(
            id=self.entry_id,
            owner=self.owner,
            state=self.start[0],
            request=self.request,
            to=to if isinstance(to, str | os.PathLike) else str(to) if isinstance(to, ObjectPlace) else None,
            overwrite=self.overwrite,
            key=self.key,
            tags=self.tags,
            identity=self.identity,
            usd=self.usd,
        )


@frozen(kw_only=True)
class Shared:
    """What the jobs of a client share.

    Attributes:
        settings: how the client was made.
        caller: sends requests, each at its turn.
        clock: time and chance.
        journal: keeps tickets through a crash, if there is one.
        following: progress between the processes that share the journal, if there is one.
        questions: the questions of consent that are open.
        deliveries: limits downloads at once by the file descriptors there are.
        claims: the destinations of running jobs.
    """

    settings: Settings
    caller: Caller
    clock: Clock
    journal: Journal | None
    following: Following | None
    questions: Questions = field(factory=Questions)
    deliveries: anyio.Semaphore
    claims: set[str] = field(factory=set[str])


def recovery(entry: JournalEntry, now: float) -> JobSpec:
    """Return the spec that resumes a journalled job at Unix time `now`; no paid request is sent again."""
    return JobSpec(
        start=resume(entry.state),
        request=entry.request,
        to=os.curdir if entry.to is None else local_or_object(entry.to),
        overwrite=entry.overwrite,
        recovering=True,
        entry_id=entry.id,
        owner=entry.owner,
        key=entry.key,
        tags=entry.tags,
        identity=entry.identity,
        usd=entry.usd,
        age=max(0.0, now - entry.created),
    )
