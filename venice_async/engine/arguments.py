"""What is passed to a client, checked before anything is done."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from ..errors import UsageError
from ..io.delivery.sinks import Sink, WriterSink
from ..io.delivery.stores import ObjectPlace, place_in
from ..io.disk import absolute
from ..requests import VideoRequest
from ..results import Ticket
from ..sansio.naming import is_collapsed_url, is_object_url, parse_object_url

LONGEST_NAME: Final = 255  # characters of a key, or of the name or text of a tag
MOST_TAGS: Final = 64
_UNPRINTABLE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
)  # no database and no terminal takes these


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


def parsed_ticket(ticket: object) -> Ticket | UsageError:
    """Return the ticket, or the error; raised here, its traceback would show the text with the link in it."""
    if isinstance(ticket, Ticket):
        return ticket
    if not isinstance(ticket, str | bytes):
        return UsageError(f"A ticket is wanted, or the JSON of one, not {type(ticket).__name__}")
    try:
        return Ticket.from_json(ticket)
    except UsageError as error:
        return error.with_traceback(None)


def sound_ticket(ticket: Ticket | UsageError) -> Ticket:
    """Return what `parsed_ticket` returned, or raise it."""
    if isinstance(ticket, UsageError):
        raise ticket
    return ticket


def bound_for(to: object, store: object = None) -> str | os.PathLike[str] | ObjectPlace | Sink:
    """Return the destination: a path or a sink as it is, a URL as a place, anything else as a writer.

    With a `store`, which may also come first in a pair, it is a place in that store.

    Raises:
        UsageError: no clip can go there.
    """
    writer = to
    if isinstance(to, tuple):
        pair = cast("tuple[object, ...]", to)
        if len(pair) == len(("store", "name")):
            return bound_for(pair[1], pair[0])
    if to is None:
        msg = "There is no destination"
        raise UsageError(
            msg, hint="Pass to='clip.mp4', or read the clip of venice.stream(request) as it comes"
        )
    path = cast("str | os.PathLike[str]", to) if isinstance(to, str | os.PathLike) else None
    if store is not None:
        if path is not None:
            return place_in(store, path)
        msg = "store= needs a name in it: the URL or the key of an object, or a folder's with a slash"
        raise UsageError(msg, hint="Pass to='clips/a.mp4'")
    if path is not None:
        return local_or_object(path)
    is_sink = all(hasattr(writer, name) for name in ("open", "write", "restart", "commit", "abort"))
    return cast("Sink", writer) if is_sink else WriterSink(writer)


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
    if store is not None or (isinstance(into, str) and is_object_url(into)):
        text = os.fspath(into)
        found = bound_for(text if not text or text.endswith("/") else f"{text}/", store)
        assert isinstance(found, ObjectPlace)  # noqa: S101 - a URL, or a key in a store
        return found
    return absolute(local_or_object(into))  # type: ignore[arg-type]
