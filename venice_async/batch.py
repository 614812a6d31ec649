"""Many requests: a few at a time, within one budget, each paid for once however often the batch is run."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

import anyio
from attrs import frozen

from .engine.consent import SharedConsent
from .engine.spec import JobSpec, checked_request, recovery
from .errors import (
    BudgetExceededError,
    PaymentRequiredError,
    QueueOutcomeUnknownError,
    UsageError,
    VeniceError,
)
from .formatting import as_usd
from .job import VideoJob
from .options import check_number
from .requests import VideoRequest
from .results import Outcome, Quote, Video
from .sansio.converter import request_key
from .sansio.job.machine import begin
from .sansio.job.states import Failed, Queueing, Saved, Succeeded

if TYPE_CHECKING:
    from anyio.abc import ObjectReceiveStream, ObjectSendStream

    from .engine.runtime import Runtime
    from .io.journal.entries import JournalEntry


_T = TypeVar("_T")

_QUEUEING: Final = 8  # paid requests at once; more would only wait in line, and not hear of an empty balance

log: logging.Logger = logging.getLogger(__name__)


class Batch:
    """The outcomes of many requests, as they finish: `async for outcome in batch`.

    Attributes:
        jobs: the running jobs, by the index of their request.
        paused: whether the balance is used up; queueing goes on by itself once there is money.
    """

    def __init__(
        self,
        runtime: Runtime,
        requests: Requests,
        options: BatchOptions,
        *,
        quote: Callable[[VideoRequest], Awaitable[Quote]],
    ) -> None:
        self.jobs: dict[int, VideoJob] = {}
        self.paused: bool = False
        self._runtime = runtime
        self._quote = quote
        self._requests = requests
        self._options = options
        self._budget = Budget(options.max_usd)
        ask = runtime.settings.on_consent
        self._consent = SharedConsent(ask) if ask else None
        self._slots = anyio.Semaphore(options.concurrency)
        self._queueing = anyio.Semaphore(_QUEUEING)
        self._probing = anyio.Lock()
        self._keys: Counter[str] = Counter()
        self._stopping = anyio.Event()
        self._reading = anyio.CancelScope()
        self._failure: BaseException | None = None
        self._iterated = False

    @property
    def spent_usd(self) -> float:
        """USD spent or reserved, earlier runs into the same folder included; 0 unless there is a budget."""
        return self._budget.reserved

    def stop(self) -> None:
        """Read and queue nothing more. Paid jobs go on."""
        self._stopping.set()
        self._reading.cancel()

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
                async for outcome in _received(receive):
                    self._slots.release()
                    yield outcome
        finally:
            self.stop()
        if self._failure is not None:
            raise self._failure

    async def _feed(self, outcomes: ObjectSendStream[Outcome]) -> None:
        """Start the requests, a new one whenever an outcome has been taken."""
        async with outcomes:
            try:
                await self._prepare()
                async with anyio.create_task_group() as group:
                    await self._start_all(group.start_soon, outcomes)
            except Exception as error:  # noqa: BLE001 - raised to who iterates, after the outcomes
                self._failure = error.with_traceback(None)

    async def _prepare(self) -> None:
        try:
            await anyio.Path(self._options.into).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"The folder {str(self._options.into)!r} cannot be made: {error.strerror}"
            raise UsageError(msg, hint="Choose another folder") from error
        if self._runtime.journal is not None and self._options.max_usd is not None:
            self._budget = Budget(self._options.max_usd, await self._runtime.journal.spent(self._prefix))

    async def _start_all(self, start: Callable[..., object], outcomes: ObjectSendStream[Outcome]) -> None:
        """Read the requests; a source that fails ends the batch once what was started has ended."""
        index = 0
        try:
            with self._reading:
                await self._slots.acquire()
                async with aclosing(each(self._requests)) as requests:
                    async for request in requests:
                        start(self._one, index, request, self._key(request), outcomes)
                        index += 1
                        await self._slots.acquire()
        except Exception as error:  # noqa: BLE001 - it is the caller's iterable
            self._failure = error

    async def _one(
        self, index: int, request: VideoRequest, key: str, outcomes: ObjectSendStream[Outcome]
    ) -> None:
        try:
            outcome = await self._outcome(index, request, key)
        finally:
            self.jobs.pop(index, None)
        if outcome.error is not None and self._options.on_error == "stop":
            self.stop()
        try:
            await outcomes.send(outcome)
        except anyio.BrokenResourceError:
            log.info("Nobody took the outcome of request %d", index)

    async def _outcome(self, index: int, request: VideoRequest, key: str) -> Outcome:
        known = await self._known(index, request, key)
        if known is not None:
            return known
        usd: float | None = None
        try:
            usd = await self._reserve(request)
            job = await self._queued(index, request, key, usd)
            return Outcome(
                index=index, request=request, video=await _unless_cancelled(job, job.wait()), usd=usd
            )
        except VeniceError as error:
            if usd is not None and error.charged is False:
                self._budget.release(usd)
            return Outcome(index=index, request=request, error=error, usd=usd)

    async def _known(self, index: int, request: VideoRequest, key: str) -> Outcome | None:
        """Return the outcome of a request that an earlier run has paid for, or None."""
        entry = None if self._runtime.journal is None else await self._runtime.journal.find(key)
        if entry is None or isinstance(entry.state, Failed):
            return None
        try:
            video = await self._earlier(index, entry)
        except VeniceError as error:
            return Outcome(index=index, request=request, error=error, usd=entry.usd, earlier=True)
        return Outcome(index=index, request=request, video=video, usd=entry.usd, earlier=True)

    async def _earlier(self, index: int, entry: JournalEntry) -> Video:
        if isinstance(entry.state, Succeeded | Saved):
            return await _still_there(entry.state.video)
        assert self._runtime.journal is not None  # noqa: S101 - the entry came from it
        adopted = await self._runtime.journal.adopt(entry.id)
        if not adopted:
            msg = "This request is being worked on by another process"
            raise UsageError(msg, hint="Wait for it, or run the batch again later")
        if isinstance(entry.state, Queueing):
            await self._runtime.journal.release(entry.id)
            msg = "An earlier run ended while this paid request was on its way"
            raise QueueOutcomeUnknownError(msg)
        now = self._runtime.shared().clock.time()
        job = self.jobs[index] = self._runtime.start(recovery(adopted[0], now))
        return await _unless_cancelled(job, job.wait())

    async def _reserve(self, request: VideoRequest) -> float | None:
        if self._options.max_usd is None:
            return None
        usd = (await self._quote(request)).usd
        self._budget.reserve(usd)
        return usd

    async def _queued(self, index: int, request: VideoRequest, key: str, usd: float | None) -> VideoJob:
        """Return the job once it is queued or has failed; an empty balance is waited out."""
        spec = JobSpec(
            start=begin(request),
            request=request,
            to=self._options.into,
            overwrite=self._options.overwrite,
            key=key,
            usd=usd,
            on_consent=self._consent,
        )
        while True:
            async with self._queueing:
                await self._wait_for_money()
                job = self.jobs[index] = self._runtime.start(spec)
                try:
                    await _unless_cancelled(job, job.queued())
                except PaymentRequiredError as error:
                    self._pause(error)
                    continue
                except VeniceError:
                    return job
                self.paused = False
                return job

    async def _wait_for_money(self) -> None:
        """Return when there may be money: while there is none, one request tries again from time to time."""
        if self.paused:
            async with self._probing:
                if self.paused:
                    with anyio.move_on_after(self._options.pause):
                        await self._stopping.wait()
        if self._stopping.is_set():
            msg = "The batch was stopped before this request was queued"
            raise VeniceError(msg, hint="Run the batch again for the rest")

    def _pause(self, error: PaymentRequiredError) -> None:
        if not self.paused:
            log.warning("The batch is paused: %s", error)
        self.paused = True

    @property
    def _prefix(self) -> str:
        return f"{hashlib.sha256(os.fsencode(self._options.into)).hexdigest()[:16]}/"

    def _key(self, request: VideoRequest) -> str:
        """Return what tells this request from the others in every run: its key, or its content and turn."""
        name = self._options.key(request) if self._options.key else request_key(request)
        self._keys[name] += 1
        if self._options.key and self._keys[name] > 1:
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


async def _received(stream: ObjectReceiveStream[Outcome]) -> AsyncIterator[Outcome]:
    async for outcome in stream:
        yield outcome


async def _still_there(video: Video) -> Video:
    """Return a clip of an earlier run. One that is gone was paid for, so it is not quietly paid for again."""
    try:
        size = -1 if video.path is None else (await anyio.Path(video.path).stat()).st_size
    except OSError:
        size = -1
    if size == video.size:
        return video
    message = f"This clip was made by an earlier run, but {str(video.path)!r} is gone or has changed"
    raise UsageError(message, charged=True, hint="Use another folder, key or journal to pay for it again")


Requests: TypeAlias = Iterable[VideoRequest] | AsyncIterable[VideoRequest]

CONCURRENCY: Final = 200  # jobs at once: twice what 40 a minute fill at a model's usual two to three minutes
PAUSE: Final = 60.0  # seconds between two tries while the balance is used up


@frozen(kw_only=True)
class BatchOptions:
    """The options of a batch; see `VeniceClient.batch`.

    Raises:
        UsageError: it cannot go like that.
    """

    into: Path
    max_usd: float | None = None
    on_error: Literal["collect", "stop"] = "collect"
    key: Callable[[VideoRequest], str] | None = None
    concurrency: int = CONCURRENCY
    overwrite: bool = False
    pause: float = PAUSE

    def __attrs_post_init__(self) -> None:
        check_number("concurrency", self.concurrency, low=1, whole=True)
        check_number("pause", self.pause, low=0)
        if self.max_usd is not None:
            check_number("max_usd", self.max_usd, low=0)
        if self.on_error not in {"collect", "stop"}:
            msg = f"on_error must be 'collect' or 'stop', not {self.on_error!r}"
            raise UsageError(msg)
        if self.key is not None and not callable(self.key):
            msg = f"key must be a function of a request, not {self.key!r}"
            raise UsageError(msg)


def check_source(requests: object) -> None:
    """Check that a batch can read `requests`.

    Raises:
        UsageError: it cannot be iterated.
    """
    if not isinstance(requests, Iterable | AsyncIterable):
        msg = f"batch takes an iterable of VideoRequest, not {type(requests).__name__}"
        raise UsageError(msg)


async def each(requests: Requests) -> AsyncGenerator[VideoRequest]:
    """Yield the requests of any iterable.

    Raises:
        UsageError: one is something else.
    """
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield checked_request(request)
        return
    for request in requests:
        yield checked_request(request)


class Budget:
    """A budget from which prices are reserved before they are spent, exact to the cent."""

    def __init__(self, limit: float | None, spent: float = 0.0) -> None:
        """Allow `limit` USD, of which `spent` are gone; None for no limit."""
        self._limit = None if limit is None else _exact(limit)
        self._reserved = _exact(spent)

    @property
    def reserved(self) -> float:
        """USD spent, or reserved for requests in flight."""
        return float(self._reserved)

    def reserve(self, usd: float) -> None:
        """Reserve `usd`.

        Raises:
            BudgetExceededError: there is less left.
        """
        if self._limit is not None and self._reserved + _exact(usd) > self._limit:
            left, limit = float(self._limit - self._reserved), float(self._limit)
            message = f"The quote is {as_usd(usd)}, and {as_usd(left)} of {as_usd(limit)} are left"
            raise BudgetExceededError(
                message,
                cli_hint="Raise --budget, or ask for less",
                quoted_usd=usd,
                limit_usd=limit,
            )
        self._reserved += _exact(usd)

    def release(self, usd: float) -> None:
        """Give back what was not spent."""
        self._reserved -= _exact(usd)


def _exact(usd: float) -> Decimal:
    return Decimal(str(usd))
