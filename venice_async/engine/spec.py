"""What one job is to do, and what the jobs of a client share."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, cast
from weakref import WeakValueDictionary

import anyio
from attrs import field, frozen

from ..errors import UsageError
from ..io.caller import Caller
from ..io.delivery.sinks import Sink, WriterSink
from ..io.delivery.stores import ObjectPlace, place_in
from ..io.journal.entries import BatchShare, JournalEntry
from ..io.transport import Clock
from ..options import Timeouts
from ..requests import VideoRequest
from ..results import Ticket
from ..sansio.job.machine import Step, resume
from ..sansio.object_url import is_collapsed_url, is_object_url, parse_object_url
from .cleanup import CleanUps
from .consent import OnConsent, Questions
from .following import Following
from .suggestions import Suggestions

if TYPE_CHECKING:
    from ..io.journal.journal import Journal

Destination: TypeAlias = str | os.PathLike[str] | Sink | tuple[object, str]
"""A path, a URL such as `s3://bucket/clips/a.mp4`, a sink, or a store of `obstore` and a name in it."""

LONGEST_NAME: Final = 255  # characters of a key, or of the name or text of a tag
MOST_TAGS: Final = 64
_UNSPEAKABLE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
)  # no database and no terminal takes these


@frozen(kw_only=True)
class JobSpec:
    """What one job is to do.

    Attributes:
        start: the first state and command.
        request: what was asked for, where it is known.
        to: a file, a folder, a place in an object store, or a sink.
        overwrite: whether a file may be replaced.
        recovering: whether a file that is there may be the very clip, from before a crash.
        priority: jobs of a higher one are queued first.
        entry_id: the journal's entry of the job, if it stands there already.
        key: what the caller knows the job by: no two jobs of an account have the same.
        tags: what the caller notes about it.
        identity: what tells the request from another one under the key; see `identify`.
        batch: the batch it belongs to, if to one.
        usd: what it is expected to cost, in USD, where that was asked.
        age: seconds since it was queued; None for not known, which is asked about at once.
        on_consent: whom to ask instead of the client's.
    """

    start: Step
    request: VideoRequest | None = None
    to: str | os.PathLike[str] | ObjectPlace | Sink
    overwrite: bool = False
    recovering: bool = False
    priority: int = 0
    entry_id: str = ""
    key: str | None = None
    tags: Mapping[str, str] = field(factory=dict[str, str])
    identity: str | None = None
    batch: BatchShare | None = None
    usd: float | None = None
    age: float | None = 0.0
    on_consent: OnConsent | None = None

    @property
    def entry(self) -> JournalEntry:
        """The job as the journal knows it; without a destination for a sink."""
        return JournalEntry(
            id=self.entry_id,
            state=self.start[0],
            request=self.request,
            to=recorded(self.to),
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
        caller: sends requests, at their turn.
        clock: time and chance.
        journal: where tickets outlive a crash, if anywhere.
        timeouts: how long to wait.
        on_consent: whom to ask for consent.
        suggestions: what a misspelt model may have meant.
        questions: the questions that people are being asked.
        clean_ups: the deletion of the server's copies.
        deliveries: holds back clips that would take more file descriptors than there are.
        retry_refunded: whether a job that failed and was refunded is queued once more.
        claims: the files and objects that running jobs are bound for.
        orders: by key, what is set once the job that came with it first has paid, or has ended.
        following: the news between processes that share the journal, if there is one.
    """

    caller: Caller
    clock: Clock
    journal: Journal | None
    timeouts: Timeouts
    clean_ups: CleanUps
    suggestions: Suggestions
    questions: Questions
    deliveries: anyio.Semaphore
    on_consent: OnConsent | None = None
    retry_refunded: bool = False
    claims: set[Path | str] = field(factory=set[Path | str])
    orders: WeakValueDictionary[str, asyncio.Event] = field(factory=WeakValueDictionary[str, asyncio.Event])
    following: Following | None = None


def checked_request(request: object) -> VideoRequest:
    """Return `request` if it is a request.

    Raises:
        UsageError: it is none.
    """
    if isinstance(request, VideoRequest):
        return request
    msg = f"A request must be a VideoRequest, not {type(request).__name__}"
    raise UsageError(msg, hint="Make one: VideoRequest(model=..., prompt=..., duration='5s')")


def checked_key(key: object) -> str:
    """Return `key` if it can name a job.

    Raises:
        UsageError: it cannot.
    """
    if isinstance(key, str) and key.strip() and _is_name(key):
        return key
    msg = f"key must be text of 1 to {LONGEST_NAME} characters, none of them a control, not {_brief(key)}"
    raise UsageError(msg, hint="Pass what names the order with you, such as key='order-4711'")


def checked_tags(tags: object) -> dict[str, str]:
    """Return a copy of `tags` if they are such.

    Raises:
        UsageError: they are none.
    """
    known = dict(cast("Mapping[object, object]", tags)) if isinstance(tags, Mapping) else None
    if known is None or len(known) > MOST_TAGS:
        msg = f"tags must be a mapping of at most {MOST_TAGS} names to texts, not {_brief(tags)}"
        raise UsageError(msg, hint="Pass tags={'customer': 'acme'}")
    for name, value in known.items():
        if not (name and _is_name(name) and _is_name(value)):
            msg = f"A tag is a name and a text, each of at most {LONGEST_NAME} characters and none of them a"
            msg += f" control, not {_brief(name)}: {_brief(value)}"
            raise UsageError(msg)
    return cast("dict[str, str]", known)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME and not _UNSPEAKABLE.search(value)


def _brief(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[:40]}… ({len(shown)} characters)"


def parsed_ticket(ticket: object) -> Ticket | UsageError:
    """Return the ticket or what is wrong with it. Raised here, it would show the text with the link in it."""
    if isinstance(ticket, Ticket):
        return ticket
    if not isinstance(ticket, str | bytes):
        return UsageError(f"A ticket is wanted, or the JSON of one, not {type(ticket).__name__}")
    try:
        return Ticket.from_json(ticket)
    except UsageError as error:
        return error.with_traceback(None)


def sound_ticket(ticket: Ticket | UsageError) -> Ticket:
    """Return what `parsed_ticket` found, or raise it."""
    if isinstance(ticket, UsageError):
        raise ticket
    return ticket


def bound_for(to: object, store: object = None) -> str | os.PathLike[str] | ObjectPlace | Sink:
    """Return what `to` means: a path or a sink as it is, a URL as a place, anything else as a writer.

    With a `store`, which may also come first in a pair, it is a place in that store.

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(to, tuple) and len(to) == len(("store", "name")):
        store, to = to
    if to is None:
        msg = "There is no destination"
        raise UsageError(
            msg, hint="Pass to='clip.mp4', or read the clip of venice.stream(request) as it comes"
        )
    if store is not None:
        if isinstance(to, str | os.PathLike):
            return place_in(store, cast("str | os.PathLike[str]", to))
        msg = "store= needs a name in it: the URL or the key of an object, or a folder's with a slash"
        raise UsageError(msg, hint="Pass to='clips/a.mp4'")
    if isinstance(to, str | os.PathLike):
        return local_or_object(cast("str | os.PathLike[str]", to))
    is_sink = all(hasattr(to, name) for name in ("open", "write", "restart", "commit", "abort"))
    return cast("Sink", to) if is_sink else WriterSink(to)


def local_or_object(to: str | os.PathLike[str]) -> str | os.PathLike[str] | ObjectPlace:
    """Return a path as it is, and a URL as the place in an object store that it names.

    Raises:
        UsageError: it is a URL where no clip can go.
    """
    if isinstance(to, str) and is_object_url(to):
        return ObjectPlace(url=parse_object_url(to))
    if not isinstance(to, str) and is_collapsed_url(os.fsdecode(to)):
        msg = f"A path cannot hold a URL: {os.fsdecode(to)!r} has lost one of its slashes"
        raise UsageError(msg, hint="Pass the URL as text")
    return to


def folder_for(into: str | os.PathLike[str], store: object = None) -> Path | ObjectPlace:
    """Return the folder of a batch, absolute; the URL of one may lack the slash at its end.

    Raises:
        UsageError: it is none.
    """
    if store is not None or (isinstance(into, str) and is_object_url(into)):
        text = os.fspath(into)
        found = bound_for(text if not text or text.endswith("/") else f"{text}/", store)
        assert isinstance(found, ObjectPlace)  # noqa: S101 - a URL, or a key in a store
        return found
    return Path(local_or_object(into)).absolute()  # type: ignore[arg-type]


def recorded(to: str | os.PathLike[str] | ObjectPlace | Sink) -> Path | str | None:
    """Return how the journal keeps a destination: a path, the text of a URL, or nothing."""
    if isinstance(to, ObjectPlace):
        return str(to)
    return Path(to) if isinstance(to, str | os.PathLike) else None


def recovery(entry: JournalEntry, now: float) -> JobSpec:
    """Return the spec to go on with a journalled job, at Unix time `now`. What was sent is never resent."""
    return JobSpec(
        start=resume(entry.state),
        request=entry.request,
        to=os.curdir if entry.to is None else local_or_object(entry.to),
        overwrite=entry.overwrite,
        recovering=True,
        entry_id=entry.id,
        key=entry.key,
        tags=entry.tags,
        identity=entry.identity,
        age=max(0.0, now - entry.created),
    )
