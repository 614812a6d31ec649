"""A worker: a process that takes jobs from the store and delivers their clips.

What can happen to it, and why nothing is lost or paid twice:

| it is                            | then                                                                   |
|----------------------------------|------------------------------------------------------------------------|
| killed, unplugged                | its tasks are handed out again 10 s later; the journal has its tickets |
| stopped and woken (SIGSTOP)      | the same, and it follows what others have taken over                   |
| asked to leave (SIGTERM)         | unpaid jobs go back at once, paid ones after `grace` seconds           |
| cut off from the database        | it leaves with 75 once tickets are written, and is to be started again |
| started with a key that is wrong | it leaves with an error, and other workers do its jobs                 |
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, cast

import anyio
from attrs import define, field
from procrastinate import JobContext

from ..client import VeniceClient
from ..engine.completion import OnDone
from ..engine.sharing import Sharing
from ..engine.spec import checked_name
from ..errors import (
    AuthenticationError,
    DownloadError,
    JournalError,
    QueueOutcomeUnknownError,
    RateLimitError,
    TransportError,
    UsageError,
    VeniceError,
)
from ..io.journal.entries import JournalEntry
from ..job import VideoJob
from ..options import BASE_URL, Limits, Links, Polling, Timeouts, check_number
from ..requests import Consent
from ..results import ConsentRequest
from ..sansio.converter import converter
from ..sansio.http.secrets import Secret
from ..sansio.job.states import Downloading, Failed, Saved, State, Succeeded, Waiting
from .engine import Again, NotNowError
from .orders import ALIVE, QUEUE, TASK, Order, Orders, cancelled, end, is_cancelled

RESTART: Final = 75
"""The exit code of a worker that is to be started again."""

EVERY: Final = 0.5  # seconds between two reports to the store, which also bring answers and cancellations
TIDY: Final = 2.0  # seconds between two looks for tasks whose worker is gone
IDLE: Final = 60.0  # seconds after which the client of an account without jobs is closed
BOUNDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0)
"""Seconds, within which delays are counted."""

_TRIES: Final = 8  # attempts of workers to fetch a paid clip, before its error ends the job

log: logging.Logger = logging.getLogger(__name__)

Keys = Mapping[str, str] | Callable[[str], "str | Awaitable[str | None] | None"]


@define
class NoticeDelays:
    """How late the ends of jobs were noticed, which the server does not say: a histogram.

    Attributes:
        counts: how many delays were within each of the bounds, in seconds.
        count: how many there were.
        total: the sum of all, in seconds.
    """

    counts: dict[float, int] = field(factory=lambda: dict.fromkeys(BOUNDS, 0))
    count: int = 0
    total: float = 0.0

    async def follow(self, job: VideoJob) -> None:
        """Follow a job to its end. It is done at some moment between two polls: in the middle, on average."""
        ran: float | None = None  # when it was last known to run
        elapsed: float | None = None
        noticed = False
        async for state in job.updates():
            if isinstance(state, Waiting):
                if ran is None or state.elapsed != elapsed:
                    ran, elapsed = anyio.current_time(), state.elapsed
            elif isinstance(state, Downloading | Saved | Succeeded) and ran is not None and not noticed:
                noticed, delay = True, (anyio.current_time() - ran) / 2
                self.count += 1
                self.total += delay
                for bound in BOUNDS:
                    self.counts[bound] += delay <= bound


@define
class _Account:
    """The client of an account: the task that opens it, how many jobs use it, since when none does."""

    opening: asyncio.Task[VeniceClient]
    users: int = 0
    idle_since: float = 0.0


@define
class _Work:
    """A job that is worked on, the state that its followers know, and the answer that it waits for."""

    job: VideoJob
    reported: State | None = None
    answer: asyncio.Future[str] | None = None


class Worker:
    """Takes jobs from the store and delivers their clips, until it is stopped.

    Args:
        uri: the Postgres of the fleet.
        keys: the keys of Venice by the name of the account: a mapping, or a function, which may be async. By
            default `VENICE_API_KEY` serves jobs without an account.
        base_url: where the API is; `VENICE_BASE_URL`, else that of Venice.
        slots: jobs at once.
        queues: those to take jobs from; by default all.
        grace: seconds to wait for paid jobs after `stop`.
        name: the name in the logs.
        limits: what the key allows.
        polling: how often to poll.
        timeouts: how long to wait; a paid request waits an hour for its turn by default.
        links: how download links are reached.
        on_done: called with each job that has ended, as that of a `VeniceClient`: a function, or a `Webhook`.

    Raises:
        UsageError: there is no key, or an argument makes no sense.
    """

    def __init__(
        self,
        uri: str,
        *,
        keys: Keys | None = None,
        base_url: str | None = None,
        slots: int = 100,
        queues: Collection[str] | None = None,
        grace: float = 15.0,
        name: str = "worker",
        limits: Limits | None = None,
        polling: Polling | None = None,
        timeouts: Timeouts | None = None,
        links: Links | None = None,
        on_done: OnDone | None = None,
    ) -> None:
        check_number("slots", slots, low=1, whole=True)
        check_number("grace", grace, low=0)
        if isinstance(queues, str):
            msg = f"queues must be a collection of names, not {queues!r}"
            raise UsageError(msg, hint=f"Pass queues=[{queues!r}]")
        if keys is not None and not callable(keys) and not isinstance(cast("object", keys), Mapping):
            msg = f"keys must be a mapping of accounts to keys, or a function, not {type(keys).__name__}"
            raise UsageError(msg)
        self.orders: Orders = Orders(uri)
        self.ready: bool = False
        self.counts: dict[str, int] = {}
        self.delays: NoticeDelays = NoticeDelays()
        self.slots = slots
        self._keys = keys
        self._queues = [checked_name(queue, "a queue") for queue in queues] if queues else None
        self._grace = grace
        self._name = name
        timeouts, links = timeouts or Timeouts(queue=3600), links or Links()
        base_url = base_url or os.environ.get("VENICE_BASE_URL") or BASE_URL
        self._client = partial(
            VeniceClient,
            base_url=base_url,
            journal=uri,
            limits=limits,
            polling=polling,
            timeouts=timeouts,
            links=links,
            on_done=on_done,
        )
        self._sharing = Sharing(base_url=base_url, journal=uri, links=links, timeouts=timeouts)
        self._key_check = asyncio.Lock()
        self._refused: AuthenticationError | None = None
        self._stopped = asyncio.Event()
        self._leaving = False
        self._accounts: dict[str, _Account] = {}
        self._work: dict[int, _Work] = {}
        if keys is None:
            self._client()  # there is a key, or it says so

    def __repr__(self) -> str:
        return f"<Worker of {self.orders!r}: {self.working} jobs>"

    @property
    def working(self) -> int:
        """How many jobs it works on."""
        return len(self._work)

    def stop(self) -> None:
        """Take no more jobs, give back those that are not paid for, and leave."""
        self._stopped.set()

    async def run(self) -> int:
        """Work until `stop`; return the exit code: 0, or 75 if it is to be started again.

        Raises:
            JournalError: the database cannot be used.
            AuthenticationError: Venice refuses the key of jobs without an account; they are left to others.
        """
        async with AsyncExitStack() as stack:
            orders = await stack.enter_async_context(self.orders)
            await stack.enter_async_context(self._sharing)
            orders.app.task(name=TASK, queue=QUEUE, retry=Again(), pass_context=True)(self._clip)
            engine = asyncio.create_task(
                orders.app.run_worker_async(
                    queues=self._queues,  # type: ignore[arg-type] # None is all, as its docstring says
                    name=self._name,
                    concurrency=self.slots,
                    install_signal_handlers=False,
                    fetch_job_polling_interval=2.0,
                    update_heartbeat_interval=1.0,
                    stalled_worker_timeout=ALIVE,
                    shutdown_graceful_timeout=self._grace + 2.0,
                    delete_jobs="successful",
                )
            )
            chores = [asyncio.create_task(chore()) for chore in (self._exchange_news, self._tidy)]
            stack.push_async_callback(_ended, [*chores, asyncio.create_task(self._check_key())])
            stack.push_async_callback(self._close)
            stopped = asyncio.create_task(self._stopped.wait())
            lost = asyncio.create_task(orders.engine.lost.wait())
            self.ready = True
            try:
                await asyncio.wait({engine, stopped, lost, *chores}, return_when=asyncio.FIRST_COMPLETED)
                for chore in chores:
                    if chore.done():
                        log.error("A task of the worker failed", exc_info=chore.exception())
            finally:
                self.ready, self._leaving = False, True
                await _ended([stopped, lost])
                with anyio.CancelScope(shield=True):
                    await self._leave(engine)
            if self._refused is not None:
                raise self._refused
            return 0 if self._stopped.is_set() else RESTART

    async def _check_key(self) -> None:
        """Ask Venice whether it takes the key of jobs without an account; stop if it does not.

        Raises:
            NotNowError: it does not, or cannot be asked now.
        """
        async with self._key_check:
            if self._refused is not None:
                raise NotNowError
            try:
                async with self._client_of("") as venice:
                    await venice.rate_limits()
            except VeniceError as error:
                if isinstance(error, AuthenticationError):
                    hint = "Start the worker with another key; its jobs wait for that"
                    self._refused = error.with_facts(hint=hint, cli_hint=hint)
                    self.stop()
                raise NotNowError from error

    async def _leave(self, engine: asyncio.Task[None]) -> None:
        grace = self._grace
        if not self._stopped.is_set():
            log.error("The database was lost, or a task failed: the worker is to be started again")
            grace = min(grace, 5.0)
            while not self._stopped.is_set():  # it may lack tickets, which are nowhere else
                with suppress(JournalError):
                    await self.orders.rows("SELECT 1")
                    break
                await anyio.sleep(EVERY)
        engine.cancel()
        async with anyio.create_task_group() as group:
            for account in self._accounts.values():
                if account.opening.done():
                    group.start_soon(account.opening.result().drain, grace)
        await asyncio.wait({engine})
        if not engine.cancelled() and engine.exception() is not None:
            log.error("The engine ended: %s", type(engine.exception()).__name__)

    async def _clip(self, context: JobContext, order: int) -> None:
        """Work on one order: the task."""
        if self._leaving:
            raise NotNowError
        found = await self.orders.start(order)
        if found is None:
            return
        job: VideoJob | None = None
        state: State
        entry: JournalEntry | None = None
        try:
            async with self._client_of(found.account) as venice:
                most = found.max_usd
                if found.budget is not None and await venice.find(found.key) is None:
                    price = (await venice.quote(found.request)).usd
                    await self.orders.reserve(found, price)
                    most = price if most is None else min(most, price)
                job = venice.generate(
                    found.request,
                    to=found.to,
                    max_usd=most,
                    overwrite=found.overwrite,
                    priority=found.priority,
                    key=found.key,
                    tags=found.tags,
                    on_consent=partial(self._ask, order),
                )
                self._work[order] = _Work(job)
                await self.delays.follow(job)
                state = job.state
                if not isinstance(state, Succeeded):
                    entry = await venice.find(found.key)
        except (JournalError, NotNowError):
            raise
        except VeniceError as error:
            if self._leaving or (job is not None and not job.done()):
                raise NotNowError from error
            state = Failed(error=error)
        finally:
            self._work.pop(order, None)
            if job is not None and not job.done():
                job.cancel()
                with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                    await job.ended()
        await self._end(found, state, entry, context.job.attempts)

    async def _end(self, order: Order, state: State, entry: JournalEntry | None, attempts: int) -> None:
        """Record how a job ended, or have it handed out again if another attempt may succeed.

        Raises:
            NotNowError: it is to be handed out again.
        """
        again = False
        if isinstance(state, Failed):
            error = state.error
            if isinstance(error, AuthenticationError) and not order.account:
                await self._check_key()  # if it is good, the model wants another
            if is_cancelled(state):
                again = entry is not None  # another worker has paid for it
            elif isinstance(error, QueueOutcomeUnknownError):
                pass  # never paid for again
            elif error.ticket is None:
                closing = self._leaving and type(error) is VeniceError
                busy = isinstance(error, JournalError | RateLimitError)
                away = error.charged is False and isinstance(error, DownloadError | TransportError)
                again = closing or busy or (away and attempts < _TRIES)
            else:
                final = isinstance(error, DownloadError) and (error.final or entry is None or entry.ended)
                again = not state.job_failed and not final and attempts < _TRIES
        if again or not isinstance(state, Succeeded | Failed):
            if is_cancelled(state) or (order.cancel and not isinstance(state, Failed)):
                await self.orders.too_late(order.id)
            raise NotNowError
        kind = "Succeeded" if isinstance(state, Succeeded) else type(state.error).__name__
        async with self.orders.transaction() as cursor:
            ended = await end(cursor, order.id, state, order.request, None if entry is None else entry.id)
        if ended:  # else another worker, whose job this one followed, has counted it
            self.counts[kind] = self.counts.get(kind, 0) + 1
            log.info("Job %s ended: %s", order.key, kind)

    async def _ask(self, order: int, question: ConsentRequest) -> Consent | None:
        """Put a question into the store, and wait for the answer."""
        work = self._work[order]
        while True:
            try:
                await self.orders.ask(order, question)
                break
            except JournalError:
                await anyio.sleep(TIDY)
        work.answer = asyncio.get_running_loop().create_future()
        said = json.loads(await work.answer)["consent"]
        return None if said is None else converter().structure(said, Consent)

    async def _exchange_news(self) -> None:
        """Report the states of jobs to their followers; take answers, and wishes to cancel."""
        while True:
            await anyio.sleep(EVERY)
            if not self._work:
                continue
            news = {
                number: work.job.state
                for number, work in self._work.items()
                if work.job.state != work.reported and not work.job.done()
            }
            try:
                if news:
                    await self.orders.report(news)
                for number in news.keys() & self._work.keys():
                    self._work[number].reported = news[number]
                for number, cancel, answer in await self.orders.wishes(self._work):
                    work = self._work.get(number)
                    if cancel and work is not None and work.job.ticket is None:
                        work.job.withdraw(cancelled())
                    elif cancel:
                        await self.orders.too_late(number)
                    if answer is not None and work is not None and work.answer and not work.answer.done():
                        work.answer.set_result(answer)
            except JournalError as error:
                log.warning("The states of jobs cannot be reported now: %s", error.message)

    async def _tidy(self) -> None:
        """Have tasks handed out again that no worker has; close the clients of idle accounts."""
        while True:
            await anyio.sleep(TIDY)
            try:
                await self.orders.tidy()
            except JournalError as error:
                log.warning("Tasks of lost workers are looked for later: %s", error.message)
                continue  # nor is a client closed, which may have to write what the database missed
            now = anyio.current_time()
            for name, account in list(self._accounts.items()):
                idle = not account.users and account.opening.done()
                if idle and now - account.idle_since > IDLE:
                    del self._accounts[name]
                    await account.opening.result().aclose()

    @asynccontextmanager
    async def _client_of(self, name: str) -> AsyncGenerator[VeniceClient]:
        """Give the client of an account, which the first job that needs it opens for all.

        Raises:
            UsageError: there is no key of that account.
        """
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = _Account(asyncio.create_task(self._open(name)))
        account.users += 1
        try:
            client = await asyncio.shield(account.opening)
            if self._leaving:
                raise NotNowError
            yield client
        finally:
            account.users -= 1
            account.idle_since = anyio.current_time()

    async def _open(self, name: str) -> VeniceClient:
        try:
            secret = await self._key_of(name)
            return await self._client(secret.reveal() or None).open(sharing=self._sharing)
        except BaseException:
            del self._accounts[name]  # the next job tries again, with another client
            raise

    async def _key_of(self, name: str) -> Secret:
        keys = self._keys
        found: object = None if keys is None or callable(keys) else keys.get(name)
        if not found and not name and (keys is None or os.environ.get("VENICE_API_KEY")):
            return Secret("")  # the client reads the environment
        if callable(keys):
            found = keys(name)
            if inspect.isawaitable(found):
                found = await found
        if not isinstance(found, str) or not found:
            msg = f"The worker has no key for account {name!r}"
            raise UsageError(msg, hint="Add it to the worker's keys, and submit the job again")
        return Secret(found)

    async def _close(self) -> None:
        await _ended([account.opening for account in self._accounts.values()])
        for account in list(self._accounts.values()):  # meanwhile an idle one may be closed and removed
            await account.opening.result().aclose()


async def _ended(tasks: Collection[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
