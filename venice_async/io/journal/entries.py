"""What the journal holds of a job, as a value and as a row."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias, cast

from attrs import evolve, field, frozen

from ...errors import ConnectError, DownloadError, JournalError, UsageError
from ...notebook import Listing
from ...requests import VideoRequest
from ...results import Ticket
from ...sansio.converter import converter, dump_state, load_state
from ...sansio.job.states import (
    AwaitingConsent,
    Downloading,
    Failed,
    Queueing,
    Quoting,
    Saved,
    State,
    Stopped,
    Succeeded,
    Waiting,
    ticket_of,
)
from ...sansio.naming import is_object_url, split_key
from ...validators import bare_url, is_data, is_http
from ..disk import absolute

UNFINISHED: Final = ("Queueing", "Waiting", "Downloading", "Saved")
"""The states in which money is or may be spent and a clip is still owed."""

UNSENT: Final = ("Quoting", "AwaitingConsent")
"""The states in which nothing is owed and nothing is on its way."""

COLUMNS: Final = (
    *("id", "created", "key", "usd", "destination", "overwrite", "request", "state", "kind", "job"),
    *("account", "identity", "answer_by", "tags", "url", "model", "ended", "size", "sha256", "owner"),
)
"""The columns that a `JournalEntry` is made of."""

_SAME: Final = ("id", "created", "key", "usd", "overwrite", "account", "identity", "answer_by", "owner")
"""The columns that are attributes of an entry as they are."""

_DAMAGED: Final = "The journal is damaged: it holds a job that cannot be read"

_OF_TICKET: Final = ("download_url",)
_LINKS: Final = (*_OF_TICKET, "link")  # the last is one that only a poll has named

has_link: Final = re.compile(rf'"({"|".join(_LINKS)})": "').search
"""Tells whether the text of a state holds a link."""


def _absolute(to: str | os.PathLike[str] | None) -> Path | str | None:
    if isinstance(to, str) and is_object_url(to):
        return to
    return None if to is None else absolute(to)


@frozen(kw_only=True)
class JournalEntry:
    """One job in the journal.

    Attributes:
        id: its name within the journal; empty before it is written.
        state: its state.
        request: what was asked for, large media by digest only, and once it has ended without the queries of
            URLs and the content of `data:` URLs; None for a job resumed by its ticket.
        to: the destination, a path that is absolute, or a URL as it was given; None for a sink.
        overwrite: whether a file there may be replaced.
        key: the caller's key, for `VeniceClient.find`.
        usd: its price in USD, if it was quoted.
        created: when it began, in seconds since the Unix epoch.
        tags: what the caller noted about it.
        account: the name of the account's ration; empty where that is not known.
        identity: what identifies its request, if that is known.
        answer_by: until when, in seconds since the Unix epoch, a paid request may yet be answered.
        owner: the lease of its owner when it was read; None if it had none.
        ended: when it ended, in seconds since the Unix epoch; None for one that is unfinished.
        sealed: whether its link is left out here, as only another API key of the account can read it.
    """

    id: str = ""
    state: State
    request: VideoRequest | None = None
    to: Path | str | None = field(default=None, converter=_absolute)
    overwrite: bool = False
    key: str | None = None
    usd: float | None = None
    created: float = 0.0
    tags: Mapping[str, str] = field(factory=dict[str, str])
    account: str = field(default="", repr=False)
    identity: str | None = field(default=None, repr=False)
    answer_by: float | None = None
    owner: str | None = field(default=None, eq=False, repr=False)
    ended: float | None = None
    sealed: bool = field(default=False, repr=False)

    @property
    def model(self) -> str | None:
        """The model's id, where it is known."""
        return self.ticket.model if self.ticket else self.request.model if self.request else None

    @property
    def name(self) -> str:
        """The key that a person gave, without what a batch puts around it; empty where there is none."""
        return split_key(self.key or "")[0]

    @property
    def ticket(self) -> Ticket | None:
        """What names the job at the server; None for a paid request whose outcome is not known."""
        return ticket_of(self.state)


class KeyTakenError(UsageError):
    """Another job has the key already."""


class CannotWriteError(JournalError):
    """The journal cannot be written now. What must be kept is written as soon as it can be."""


class StoreAwayError(CannotWriteError):
    """The database cannot be reached now; it may be back at any moment."""

    hint = "Start the database, or check its URI and the way to it"


class LeaseLostError(JournalError):
    """Our lease was lost: others may have our jobs, so each must be regained before anything is sent."""

    hint = "Start the job again once the journal can be reached: what is paid for is in the journal"


@frozen(kw_only=True)
class BatchShare:
    """What the jobs of a batch have in common.

    Attributes:
        prefix: what the keys of the batch begin with.
        max_usd: the most that all of them may cost, in USD, if there is a limit.
    """

    prefix: str
    max_usd: float | None = None


@frozen(kw_only=True)
class Attached:
    """The job of a key.

    Attributes:
        entry: the job.
        how: it is `"ours"` from now on; another owner `"works"` on it; it has `"ended"`; or it is an intent
            that `"nobody"` works on, which is never taken over.
    """

    entry: JournalEntry
    how: Literal["ours", "works", "ended", "nobody"]


class Rows(Protocol):
    """What a statement found or changed."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        ...

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Return all the rows."""
        ...


class Links(Protocol):
    """Encrypts the links of an account where they are stored."""

    def seal(self, state: str) -> str:
        """Return the text of a state with its links encrypted."""
        ...

    def unseal(self, state: str) -> tuple[str, bool]:
        """Return it with its links; or without them and True, if another API key encrypted them."""
        ...


def differing(known: str | None, wanted: str | None) -> list[str]:
    """Return the fields that two requests differ in, by what `identify` says of them, sorted."""
    if known is None or wanted is None:
        return []
    one, other = json.loads(known), json.loads(wanted)
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


@frozen(kw_only=True)
class Look:
    """What changed in a journal since the look before.

    Attributes:
        changed: the jobs that are new or have changed, in the state that was last reported; without an owner
            where that is dead.
        gone: the ids of the jobs that were removed.
        rations: the accounts' rations as they are stored, by name.
        marks: what tells the next look what changed.
    """

    changed: list[JournalEntry]
    gone: list[str]
    rations: Mapping[str, str]
    marks: Mapping[str, Mark]


Mark: TypeAlias = tuple[float, str | None, str | None]
"""When a job was last written to, its owner, and what that last reported."""


class Unfinished(Listing[JournalEntry]):
    """The unfinished jobs that no other client owns.

    Attributes:
        held: how many more there are, which another living client owns.
    """

    held: int = 0


def state_to_keep(stored: State, state: State) -> State:
    """Return the state that the journal keeps of a job in `stored` that comes to `state`.

    A job that was or may have been paid for ends by its clip, or when the server says that it failed. One
    that stops or fails otherwise stays as it was, with its GETs counted, until a person forgets it.
    """
    unpaid = isinstance(stored, AwaitingConsent)
    if not unpaid and (isinstance(state, Stopped) or (isinstance(state, Failed) and not state.job_failed)):
        left = stored if ticket_of(stored) or state.ticket is None else Waiting(ticket=state.ticket)
        error = state.error if isinstance(state, Failed) else None
        unsent = isinstance(error, ConnectError) or (isinstance(error, DownloadError) and error.unsent)
        if isinstance(left, Downloading) and left.gets and unsent:
            return evolve(left, gets=left.gets - 1)  # it was counted before it was to be made
        if isinstance(left, Waiting | Downloading) and isinstance(error, DownloadError) and error.final:
            return evolve(left, final=error.message)  # another run need not fetch it to know
        return left
    return state


def merge_known(state: State, known: Sequence[JournalEntry], gets: int) -> State:
    """Return `state` with what the journal knows of the same job: its link, and the GETs made of it."""
    if not isinstance(state, Waiting):
        return state
    links = [state.ticket.download_url, *(entry.ticket.download_url for entry in known if entry.ticket)]
    link = next((link for link in links if link is not None), None)
    ticket = evolve(state.ticket, download_url=link)
    return (
        Downloading(ticket=ticket, via="link", gets=gets) if gets and link else evolve(state, ticket=ticket)
    )


def job_of(state: State) -> str | None:
    """Return a text that names the server's job, the same in every process; None before there is one."""
    ticket = ticket_of(state)
    return None if ticket is None else json.dumps([ticket.model, ticket.queue_id])


def pack(entry: JournalEntry, links: Links | None) -> dict[str, Any]:
    """Return an entry as the columns of a row. They may hold a link: never keep them in a variable."""
    return {
        **{name: getattr(entry, name) for name in _SAME},
        "destination": os.fsencode(entry.to) if isinstance(entry.to, Path) else None,
        "url": entry.to if isinstance(entry.to, str) else None,
        "request": None if entry.request is None else json.dumps(converter().unstructure(entry.request)),
        "tags": json.dumps(dict(entry.tags)) if entry.tags else None,
        "stands": int(isinstance(entry.state, Queueing) and entry.key is not None),
        **pack_state(entry.state, links),
    }


def pack_state(state: State, links: Links | None) -> dict[str, Any]:
    """Return a state as the columns of a row, without the link once the job has ended."""
    kind = type(state).__name__
    text = dump_state(state)
    video = state.video if isinstance(state, Saved | Succeeded) else None
    ticket = ticket_of(state)
    request = state.request if isinstance(state, Quoting | Queueing | AwaitingConsent) else None
    model = ticket.model if ticket else request and request.model
    if kind not in UNFINISHED:
        text = change_links(text, lambda _: None, among=_OF_TICKET)
        if isinstance(state, Failed):
            text = json.dumps(_without_secrets(json.loads(text)))  # an error may quote a request
    return {
        "state": text if links is None else links.seal(text),
        "kind": kind,
        "job": job_of(state),
        "gets": state.gets if isinstance(state, Downloading) else 0,
        # A column of text, which no database takes whatever a server may send.
        "model": model and model.encode("utf-8", "replace").decode().replace("\0", "?"),
        "size": video and video.size,
        "sha256": video and video.sha256,
    }


def pack_ended(request: Mapping[str, object] | None) -> str | None:
    """Return what is kept of the request of a job that has ended, without what may be a secret in its media.

    Of the `request`, which is as JSON has it, a URL loses its user and its query, in which signatures stand,
    and a `data:` URL all of its content. What is left is still a request.
    """
    return None if request is None else json.dumps(_without_secrets(request))


def _without_secrets(value: object) -> object:
    if isinstance(value, str):
        if is_http(value):
            return bare_url(value)
        return f"{value.partition(',')[0]},..." if is_data(value) else value
    if isinstance(value, dict):
        return {name: _without_secrets(part) for name, part in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [_without_secrets(part) for part in cast("list[object]", value)]
    return value


def change_links(state: str, change: Callable[[str], str | None], *, among: Collection[str] = _LINKS) -> str:
    """Return the text of a state with each link changed, or left out where it is changed to None."""
    if not has_link(state):
        return state

    def changed(found: dict[str, Any]) -> dict[str, Any]:
        links = [name for name in among if isinstance(found.get(name), str)]
        new = {name: change(found.pop(name)) for name in links}
        return found | {name: link for name, link in new.items() if link is not None}

    return json.dumps(json.loads(state, object_hook=changed))


def pack_progress(state: State) -> str:
    """Return the text of a state that is reported to the followers of a job, without the link."""
    return change_links(dump_state(state), lambda _: None)


def unpack_progress(entry: JournalEntry, progress: str | None) -> State:
    """Return the state of a job, by its entry and what its owner has reported since."""
    reported = None if progress is None else load_state(progress)
    if isinstance(reported, Waiting | Downloading) and entry.ticket is not None:
        return evolve(reported, ticket=entry.ticket)
    return entry.state


def unpack_work(
    state: str, request: str | None, links: Links | None
) -> tuple[State, dict[str, object] | None]:
    """Return the state of a row, and its request as JSON has it.

    Raises:
        JournalError: they make no sense.
    """
    found: tuple[State, dict[str, object] | None] | None = None
    with suppress(Exception):  # which would show the link
        text = state if links is None else links.unseal(state)[0]
        found = load_state(text), None if request is None else json.loads(request)
    if found is None:
        raise JournalError(_DAMAGED)
    return found


def unpack(row: Sequence[Any], links: Links | None) -> JournalEntry:
    """Return the entry that `pack` made a row of; the row begins with `COLUMNS`.

    Raises:
        JournalError: it makes no sense.
    """
    cells = dict(zip(COLUMNS, row, strict=False))
    with suppress(Exception):  # whatever a damaged row makes the converter raise would show the link
        text, sealed = (cells["state"], False) if links is None else links.unseal(cells["state"])
        request, destination, tags = cells["request"], cells["destination"], cells["tags"]
        same: dict[str, Any] = {name: cells[name] for name in _SAME}
        same |= {"created": float(cells["created"]), "overwrite": bool(cells["overwrite"])}
        entry = JournalEntry(
            **same,
            state=load_state(text),
            request=None if request is None else converter().structure(json.loads(request), VideoRequest),
            to=cells["url"] if destination is None else Path(os.fsdecode(destination)),
            tags={} if tags is None else json.loads(tags),
            ended=cells["ended"],
            sealed=sealed,
        )
        if (str, type(entry.state).__name__, job_of(entry.state)) == (
            type(cells["id"]),
            cells["kind"],
            cells["job"],
        ):
            return entry
    raise JournalError(_DAMAGED)
