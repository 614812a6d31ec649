"""What one job is to do, and what the jobs of a client share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakValueDictionary

import anyio
from attrs import field, frozen

from ..io.caller import Caller
from ..io.delivery.sinks import Sink
from ..io.delivery.stores import ObjectPlace
from ..io.journal.entries import BatchShare, JournalEntry
from ..io.transport import Clock
from ..options import Timeouts
from ..requests import VideoRequest
from ..sansio.job.machine import Step, resume
from .arguments import local_or_object
from .consent import OnConsent, Questions
from .following import Following

if TYPE_CHECKING:
    from ..io.journal.store import JobStore

Destination: TypeAlias = str | os.PathLike[str] | Sink | tuple[object, str]
"""A path, a URL such as `s3://bucket/clips/a.mp4`, a sink, or a store of `obstore` and a name in it."""


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
        caller: sends requests, at their turn.
        clock: time and chance.
        journal: where tickets outlive a crash, if anywhere.
        timeouts: how long to wait.
        on_consent: whom to ask for consent.

        questions: the questions that people are being asked.

        deliveries: holds back clips that would take more file descriptors than there are.
        retry_refunded: whether a job that failed and was refunded is queued once more.
        sidecars: whether a JSON file beside each clip tells how it came about.
        claims: the files and objects that running jobs are bound for.
        orders: by key, what is set once the job that came with it first has paid, or has ended.
        following: the news between processes that share the journal, if there is one.
    """

    caller: Caller
    clock: Clock
    journal: JobStore | None
    timeouts: Timeouts

    questions: Questions
    deliveries: anyio.Semaphore
    on_consent: OnConsent | None = None
    retry_refunded: bool = False
    sidecars: bool = False
    claims: set[Path | str] = field(factory=set[Path | str])
    orders: WeakValueDictionary[str, asyncio.Event] = field(factory=WeakValueDictionary[str, asyncio.Event])
    following: Following | None = None


def born(spec: JobSpec, now: float) -> float | None:
    """Return when a job began, in seconds since the Unix epoch as `now` is; None where that is not known."""
    return None if spec.age is None else now - spec.age


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
