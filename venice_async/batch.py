"""Many requests: a few at a time, within one budget, each paid for once however often the batch is run."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Mapping,
)
from contextlib import aclosing
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, cast

import anyio
from attrs import define, field

from .engine.consent import SharedConsent
from .engine.spec import JobSpec, check_callback, checked_request, checked_tags
from .errors import (
    APIError,
    BudgetExceededError,
    InvalidRequestError,
    PaymentRequiredError,
    UsageError,
    VeniceError,
)
from .formatting import as_usd
from .io.delivery.destination import make_folder
from .io.delivery.stores import ObjectPlace
from .io.journal.entries import BatchShare
from .io.shielding import in_thread, own_cancellation_only
from .io.uploads import beside_the_loop, price_query
from .job import VideoJob
from .notebook import Listing
from .options import check_flag, check_kind, check_number
from .requests import VideoRequest
from .results import Outcome
from .sansio.converter import converter, media_in, request_key
from .sansio.job.machine import begin
from .sansio.limits.budget import Reservations
from .sansio.naming import checked_pattern, with_number

if TYPE_CHECKING:
    from anyio.abc import ObjectSendStream

    from .engine.runtime import Runtime


_T = TypeVar("_T")

_REFUSALS = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)
_QUEUEING: Final = 8  # paid requests at once; more would only wait in line, and not hear of an empty balance

log: logging.Logger = logging.getLogger(__name__)


Requests: TypeAlias = Iterable[VideoRequest] | AsyncIterable[VideoRequest]

CONCURRENCY: Final = 200  # jobs at once: twice what 40 a minute fill at a model's usual two to three minutes
GIVE_UP_AFTER: Final = 3  # identical refusals
PAUSE: Final = 60.0  # seconds between two tries while the balance is used up


@define(eq=False, kw_only=True, repr=False)
class Batch:
    """The outcomes of many requests, as they finish: `async for outcome in batch`, or all: `await batch`.

    `VeniceClient.batch` makes one, and says what the options mean.

    Attributes:
        jobs: the running jobs, by the index of their request.
        paused: whether the balance is used up; queueing continues by itself once there is money.

    Raises:
        UsageError: an option makes no sense.
    """

    _runtime: Runtime = field(alias="runtime")
    _requests: Requests = field(alias="requests")
    _into: Path | ObjectPlace = field(alias="into")
    _max_usd: float | None = field(alias="max_usd")
    _max_each: Callable[[VideoRequest], float | None] | None = field(alias="max_each")
    _on_error: Literal["collect", "stop"] = field(alias="on_error")
    _key: Callable[[VideoRequest], str] | None = field(alias="key")
    _tags: Callable[[VideoRequest], Mapping[str, str]] | None = field(alias="tags")
    _name: str | None = field(alias="name")
    _concurrency: int = field(alias="concurrency")
    _overwrite: bool = field(alias="overwrite")
    _pause: float = field(alias="pause")
    _give_up_after: int | None = field(alias="give_up_after")

    jobs: dict[int, VideoJob] = field(init=False, factory=dict[int, VideoJob])
    paused: bool = field(init=False, default=False)
    _prefix: str = field(init=False)
    _budget: Reservations = field(init=False)
    _undecided: set[int] = field(
        init=False, factory=set[int]
    )  # indices that have a reservation and no answer yet
    _decided: anyio.Event = field(
        init=False, factory=anyio.Event
    )  # set at the next answer; then there is a new one
    _refusals: Refusals = field(init=False)
    _consent: SharedConsent | None = field(init=False)
    _slots: anyio.Semaphore = field(init=False)
    _queueing: anyio.Semaphore = field(init=False, factory=lambda: anyio.Semaphore(_QUEUEING))
    _probing: anyio.Lock = field(init=False, factory=anyio.Lock)
    _keys: Counter[str] = field(init=False, factory=Counter[str])
    _stopping: anyio.Event = field(init=False, factory=anyio.Event)
    _reading: anyio.CancelScope = field(init=False, factory=anyio.CancelScope)
    _failure: BaseException | None = field(init=False, default=None)
    _iterated: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        if not isinstance(cast("object", self._requests), Iterable | AsyncIterable):
            msg = f"requests must be an iterable of VideoRequest, not {type(self._requests).__name__}"
            raise UsageError(msg)
        check_number("concurrency", self._concurrency, low=1, whole=True)
        check_number("pause", self._pause, low=0)
        check_number("give_up_after", self._give_up_after, low=1, whole=True, or_none=True)
        check_number("max_usd", self._max_usd, low=0, or_none=True)
        check_flag("overwrite", self._overwrite)
        if self._on_error not in ("collect", "stop"):  # not a set: it may be unhashable
            msg = f"on_error must be 'collect' or 'stop', not {self._on_error!r}"
            raise UsageError(msg)
        check_kind("name", self._name, str, what="text", or_none=True)
        if self._name is not None:
            checked_pattern(self._name)
        for name, function in {"key": self._key, "tags": self._tags, "max_each": self._max_each}.items():
            check_callback(name, function, "of a request")
        self._prefix = f"{hashlib.sha256(os.fsencode(str(self._into))).hexdigest()[:16]}/"
        self._budget = Reservations(self._max_usd)
        self._refusals = Refusals(self._give_up_after)
        ask = self._runtime.settings.on_consent
        self._consent = SharedConsent(ask) if ask else None
        self._slots = anyio.Semaphore(self._concurrency)

    @property
    def spent_usd(self) -> float:
        """USD spent or reserved, earlier runs into the same folder included; 0 unless there is a budget."""
        return self._budget.reserved

    def stop(self) -> None:
        """Read and queue nothing more. Paid jobs go on."""
        self._stopping.set()
        self._reading.cancel()

    def __await__(self) -> Generator[Any, Any, list[Outcome]]:
        """Wait for all outcomes; see `wait`."""
        return self.wait().__await__()

    async def wait(self) -> list[Outcome]:
        """Return all outcomes, in the order of the requests. A request that failed is one of them.

        Cancelled, it queues nothing more; jobs that are paid for go on until their client is left.
        """
        return Listing(sorted([outcome async for outcome in self], key=lambda outcome: outcome.index))

    async def __aiter__(self) -> AsyncIterator[Outcome]:
        """Yield each request's outcome once, in the order in which they finish.

        Leaving the loop early queues nothing more; jobs that are paid for go on until their client is left.
        """
        if self._iterated:
            msg = "A batch is iterated once"
            raise UsageError(
                msg, hint="Call batch() again: with a journal, finished clips are not paid for again"
            )
        self._iterated = True
        send, receive = anyio.create_memory_object_stream[Outcome](math.inf)  # the slots bound it
        self._runtime.spawn(lambda: self._feed(send))
        try:
            async with receive:
                async for outcome in receive:
                    self._slots.release()
                    yield outcome
        finally:
            self.stop()
        if self._failure is not None:
            raise self._failure

    async def _feed(self, outcomes: ObjectSendStream[Outcome]) -> None:
        """Start the requests, a new one whenever an outcome has been taken.

        A source that fails ends the batch once what was started has ended.
        """
        async with outcomes:
            try:
                if isinstance(self._into, Path):
                    await in_thread(make_folder, self._into)
                if self._runtime.journal is not None and self._max_usd is not None:
                    spent = await self._runtime.journal.spent(self._prefix)
                    self._budget = Reservations(self._max_usd, spent)
                async with anyio.create_task_group() as group:
                    try:
                        with self._reading, own_cancellation_only():
                            await self._slots.acquire()
                            async with aclosing(each(self._requests)) as requests:
                                index = 0
                                async for request in requests:
                                    key = await self._key_of(request)
                                    group.start_soon(self._one, index, request, key, outcomes)
                                    index += 1
                                    await self._slots.acquire()
                    except Exception as error:  # noqa: BLE001 - it is the caller's iterable
                        self._failure = error
            except Exception as error:  # noqa: BLE001 - raised to who iterates, after the outcomes
                self._failure = error.with_traceback(None)

    async def _one(
        self, index: int, request: VideoRequest, key: str, outcomes: ObjectSendStream[Outcome]
    ) -> None:
        """Send the outcome of a request. A job of an earlier run, or another client's, needs no money.

        An exception of `tags` or `max_each` ends the batch, as one of its source does.
        """
        journal = self._runtime.journal
        earlier, usd, video, failure = False, None, None, None
        try:
            entry = None if journal is None else await journal.find(key)
            earlier, usd = entry is not None, None if entry is None else entry.usd
            if not earlier:
                await self._refusals.check(request)
                usd = await self._reserve(index, request)
            place = self._into
            if self._name is not None:
                name = with_number(self._name, index + 1)
                place = place.named(name) if isinstance(place, ObjectPlace) else place / name
            with own_cancellation_only():
                tags = checked_tags(self._tags(request)) if self._tags else {}
            spec = JobSpec(
                start=begin(request),
                request=request,
                to=place,
                overwrite=self._overwrite,
                key=key,
                tags=tags,
                batch=BatchShare(prefix=self._prefix, max_usd=self._max_usd),
                usd=usd,
                on_consent=self._consent,
            )
            job = self._start(index, spec) if earlier else await self._queued(index, request, spec)
            if job.ticket is not None:
                self._decide(index)
            video = await _unless_cancelled(job, job.wait())
            await self._refusals.worked(request)
        except VeniceError as error:
            failure = error
            if usd is not None and error.charged is False and not earlier:
                self._budget.release(usd)
            await self._refusals.refused(request, error)
        except Exception as error:  # noqa: BLE001 - of max_each or tags
            self._failure = error
            self.stop()
            return
        finally:
            self.jobs.pop(index, None)
            self._decide(index)
        if failure is not None and self._on_error == "stop":
            self.stop()
        outcome = Outcome(index=index, request=request, video=video, error=failure, usd=usd, earlier=earlier)
        try:
            await outcomes.send(outcome)
        except anyio.BrokenResourceError:
            log.info("Nobody took the outcome of request %d", index)

    async def _reserve(self, index: int, request: VideoRequest) -> float | None:
        """Return the price, reserved from the budget; None where there is no limit to keep.

        If too little is left, it waits for the requests that have no answer yet: a refusal frees money.
        """
        if self._max_usd is None and self._max_each is None and not self._runtime.settings.capped:
            return None
        usd = (await self._runtime.ask(await price_query(request))).usd
        with own_cancellation_only():
            most = None if self._max_each is None else self._max_each(request)
        check_number("what max_each returns", most, low=0, or_none=True)
        if most is not None and usd > most:
            message = f"The quote is {as_usd(usd)}, above the limit of {as_usd(most)} for this request"
            raise BudgetExceededError(message, cli_hint="Raise its max_usd", quoted_usd=usd, limit_usd=most)
        while True:
            decided = self._decided
            try:
                self._budget.reserve(usd)
            except BudgetExceededError:
                if not self._undecided:
                    raise
            else:
                self._undecided.add(index)
                return usd
            await decided.wait()

    def _decide(self, index: int) -> None:
        """Wake those that wait for money: it is known whether this request is paid for."""
        if index in self._undecided:
            self._undecided.remove(index)
            decided, self._decided = self._decided, anyio.Event()
            decided.set()

    async def _queued(self, index: int, request: VideoRequest, spec: JobSpec) -> VideoJob:
        """Return the job once it is queued or has failed.

        While the balance is used up, one request at a time tries again after each pause.
        """
        while True:
            async with self._queueing:
                if self.paused:
                    async with self._probing:
                        if self.paused:
                            with anyio.move_on_after(self._pause):
                                await self._stopping.wait()
                if self._stopping.is_set():
                    msg = "The batch was stopped before this request was queued"
                    raise VeniceError(msg, hint="Run the batch again for the rest")
                await self._refusals.check(request)
                job = self._start(index, spec)
                try:
                    await _unless_cancelled(job, job.queued())
                except PaymentRequiredError as error:
                    if not self.paused:
                        log.warning("The batch is paused: %s", error)
                    self.paused = True
                    continue
                except VeniceError:
                    return job
                self.paused = False
                return job

    def _start(self, index: int, spec: JobSpec) -> VideoJob:
        job = self.jobs[index] = self._runtime.start(spec)
        return job

    async def _key_of(self, request: VideoRequest) -> str:
        """Return what tells this request from the others in every run: its key, or its content and turn."""
        name = self._key(request) if self._key else await beside_the_loop(request_key, request)
        check_kind("what key returns", name, str, int, what="text")
        self._keys[name] += 1
        if self._key and self._keys[name] > 1:
            log.warning("Two requests of the batch have the key %r; they count as different ones", name)
        return f"{self._prefix}{name}#{self._keys[name]}"


async def _unless_cancelled(job: VideoJob, wait: Awaitable[_T]) -> _T:
    """Return what `wait` does; a job that is no longer watched is an error that carries its ticket."""
    try:
        return await wait
    except anyio.get_cancelled_exc_class():
        if not job.cancelled():
            raise
    error = VeniceError(
        "The job is no longer watched", hint="Resume it from its ticket, or run the batch again"
    )
    raise error if job.ticket is None else error.with_ticket(job.ticket)


async def each(requests: Requests) -> AsyncGenerator[VideoRequest]:
    """Yield the requests of any iterable.

    Raises:
        UsageError: one is something else.
    """
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield checked_request(request)
    else:
        for request in requests:
            yield checked_request(request)


@define
class Refusals:
    """Counts identical refusals of a request, and of each of its media, until one of them works.

    After `limit` of them a request is refused unsent; with None never. A refusal of the content, of media or
    of fields comes again for the same request. What may pass, such as a rate limit, an outage or a failed
    inference, is not counted.
    """

    _limit: int | None
    _counts: Counter[tuple[str, str]] = field(init=False, factory=Counter[tuple[str, str]])
    _sound: set[str] = field(init=False, factory=set[str])

    async def check(self, request: VideoRequest) -> None:
        """Refuse a request that is sure to be refused again.

        Raises:
            InvalidRequestError: it, or one of its media, was refused too often.
        """
        if self._limit is None or not self._counts:
            return
        subjects = await beside_the_loop(_subjects, request)
        for (subject, refusal), count in self._counts.items():
            if count >= self._limit and subject in subjects and subject not in self._sound:
                name = subjects[subject]
                what = f"requests with the same {name}" if name else "requests like this"
                msg = f"Not sent, for {count} {what} were refused in the same way: {refusal}"
                raise InvalidRequestError(
                    msg,
                    field=name,
                    hint="Change what was refused; give_up_after=None sends it all the same",
                    cli_hint="Change what was refused; --give-up-after 0 sends it all the same",
                )

    async def refused(self, request: VideoRequest, error: VeniceError) -> None:
        """Count a refusal."""
        if self._limit is not None and isinstance(error, APIError) and error.status in _REFUSALS:
            subjects = await beside_the_loop(_subjects, request)
            self._counts.update((subject, error.message) for subject in subjects)

    async def worked(self, request: VideoRequest) -> None:
        """Note that a request became a clip: neither it nor its media are at fault."""
        if self._counts:
            self._sound.update(await beside_the_loop(_subjects, request))


def _subjects(request: VideoRequest) -> dict[str, str]:
    """Return the request and its media, each by what tells it from others, with the name of its field."""
    record = converter().unstructure(request)
    media = {json.dumps(value, sort_keys=True, default=str): name for name, value in media_in(record)}
    return {request_key(request): "", **media}
