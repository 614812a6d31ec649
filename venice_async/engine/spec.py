"""How a client was made, what one job is to do, and what the jobs of a client share."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

import anyio
from attrs import field, frozen

from ..errors import UsageError
from ..io.caller import Caller
from ..io.delivery.sinks import Sink
from ..io.delivery.stores import ObjectPlace
from ..io.journal.entries import BatchShare, JournalEntry
from ..io.request_hook import OnRequest
from ..io.transport import Clock
from ..options import Budget, Limits, Links, Polling, Retries, Timeouts
from ..requests import VideoRequest
from ..sansio.http.links import is_loopback
from ..sansio.http.secrets import Secret
from ..sansio.job.machine import Step, resume
from .arguments import local_or_object
from .consent import OnConsent, Questions
from .following import Following

if TYPE_CHECKING:
    import aiohttp

    from ..io.journal.store import JobStore

Destination: TypeAlias = str | os.PathLike[str] | Sink | tuple[object, str]
"""A path, a URL such as `s3://bucket/clips/a.mp4`, a sink, or a store of `obstore` and a name in it."""

log: logging.Logger = logging.getLogger(__name__)


@frozen(kw_only=True, repr=False)  # a traceback may show it half made
class Settings:
    """How a client was made; see `VeniceClient`.

    Raises:
        UsageError: an option makes no sense.
    """

    api_key: Secret
    base_url: str
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
        if not self.api_key.reveal():
            msg = "There is no API key"
            hint = "Pass api_key=, or set VENICE_API_KEY; make one at venice.ai/settings/api"
            raise UsageError(msg, hint=hint)
        if not re.fullmatch("[!-~]+", self.api_key.reveal()):
            msg = "The API key has characters that no key has"
            raise UsageError(msg, hint="Copy it again, without blanks or line ends")
        try:
            parts = urlsplit(self.base_url)
            sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            sound, parts = False, urlsplit("")
        if not sound or parts.query or parts.username:
            msg = "base_url, or VENICE_BASE_URL, must be an http(s) URL such as https://api.venice.ai/api/v1"
            raise UsageError(msg)
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            log.warning("base_url is plain http: the key can be read on its way")
        given: object = self.on_state
        if given is not None and (not callable(given) or iscoroutinefunction(given)):
            msg = "on_state must be a plain function, not a coroutine function"
            raise UsageError(msg, hint="Let it put the states into a queue that a task of yours reads")
        kinds = {"on_request": "of method, path and body", "on_done": "of a job, or a Webhook"}
        for name, what in kinds.items():
            given = getattr(self, name)
            if given is not None and not callable(given):
                msg = f"{name} must be a function {what}, not {type(given).__name__}"
                raise UsageError(msg)

    @property
    def capped(self) -> bool:
        """Whether there is a budget, so that prices are asked first.

        Raises:
            UsageError: there is one, and no journal to count in.
        """
        if self.budget and self.journal is None:
            msg = "A daily or monthly budget needs a journal, in which all processes count what they pay"
            hint = "Pass journal='jobs.db', or unset VENICE_DAILY_USD and limit each job with max_usd"
            raise UsageError(msg, hint=hint)
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
        to = self.to
        return JournalEntry(
            id=self.entry_id,
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
    journal: JobStore | None
    following: Following | None
    questions: Questions = field(factory=Questions)
    deliveries: anyio.Semaphore
    claims: set[Path | str] = field(factory=set[Path | str])


def recovery(entry: JournalEntry, now: float) -> JobSpec:
    """Return the spec that resumes a journalled job at Unix time `now`; no paid request is sent again."""
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
        usd=entry.usd,
        age=max(0.0, now - entry.created),
    )
