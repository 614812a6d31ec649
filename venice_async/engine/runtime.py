"""Owns the sessions, the journal and the jobs of an open client, in a task of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, WeakValueDictionary

import anyio
from attrs import define, field

from ..errors import UsageError, VeniceError
from ..io.aiohttp import AiohttpTransport
from ..io.caller import Caller
from ..io.clock import SystemClock
from ..io.disk import deliveries_at_once
from ..io.pacing.pacer import Pacer
from ..io.ration.store import RationStore, account_key
from ..io.request_hook import RequestHook
from ..io.shielding import in_thread, worker_threads
from ..job import VideoJob, running_loop
from ..results import Ticket
from ..sansio.http.secrets import Secret
from ..sansio.http.wire import Query
from ..sansio.job.states import Failed, Queueing, Succeeded
from ..validators import is_postgres
from .completion import Completions
from .driver import Driver
from .following import Following
from .spec import JobSpec, Settings, Shared

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ..io.journal.journal import Journal
    from .sharing import Sharing

with suppress(ImportError):  # anyio would load it at its first call, which is on the event loop
    import_module("anyio._backends._asyncio")

T = TypeVar("T")

LEAVING: Final = 0.9  # seconds: leaving by error returns within one

_OTHER_KEYS: Final = (
    "The journal holds %d jobs of other API keys and none of this one. If they are of the same account, they"
    " are out of sight, and an order that is repeated is paid for again: go on with the former key until they"
    ' are done, and pass the same Limits(account="...") with each key of an account'
)

log: logging.Logger = logging.getLogger(__name__)

# Clients left by error while a paid request was on its way: each closes once its answer is journalled.
_closing: set[asyncio.Task[None]] = set()


@define(eq=False)
class Runtime:
    """Opens and closes sessions and journal, and runs the jobs.

    It runs in a task of its own, so that the client may be entered and left by different tasks.

    Attributes:
        settings: how the client was made.
    """

    settings: Settings
    _shared: Shared | None = field(init=False, default=None)
    _group: TaskGroup | None = field(init=False, default=None)
    _completions: Completions | None = field(init=False, default=None)
    _task: asyncio.Task[None] | None = field(init=False, default=None)
    _leave: asyncio.Event = field(init=False, factory=asyncio.Event)
    _jobs: WeakKeyDictionary[VideoJob, Driver] = field(
        init=False, factory=WeakKeyDictionary[VideoJob, Driver]
    )
    _keyed: WeakValueDictionary[str, VideoJob] = field(init=False, factory=WeakValueDictionary[str, VideoJob])
    _draining: bool = field(init=False, default=False)
    _sharing: Sharing | None = field(init=False, default=None)

    @property
    def journal(self) -> Journal | None:
        """The journal, if the client is open and keeps one."""
        return None if self._shared is None else self._shared.journal

    @property
    def is_open(self) -> bool:
        """Whether it was opened and nobody has begun to close it."""
        return self._task is not None and not self._task.done() and not self._leave.is_set()

    async def open(self, sharing: Sharing | None = None) -> None:
        """Open the sessions and the journal, or take what is shared with other clients.

        Raises:
            UsageError: it was opened before, or no event loop of asyncio runs.
            JournalError: the journal cannot be used.
        """
        if self._task is not None:
            msg = "A client is entered once"
            raise UsageError(msg, hint="Make a new VeniceClient")
        loop = running_loop()
        if loop is None:
            msg = "A client runs on an event loop of asyncio, and none runs here"
            raise UsageError(msg, hint="Open it in a coroutine of asyncio.run; trio is not supported")
        self._sharing = sharing
        ready: asyncio.Future[None] = loop.create_future()
        self._task = asyncio.create_task(self._run(ready), name="venice_async.client")
        try:
            await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.stop()
            raise
        if not ready.done():
            self._task.result()

    async def close(self) -> None:
        """Wait until all jobs have ended, then close. Cancelled, it stops instead.

        Raises:
            UsageError: the client belongs to another event loop.
        """
        task = self._opened()
        self._leave.set()
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            await self.stop()
            raise
        task.result()

    async def stop(self) -> None:
        """Stop watching all jobs and close, within a second.

        A paid request on its way is not given up, nor is a write to a disk that hangs: then closing goes on
        by itself until the answer is journalled or the disk has answered. `asyncio.run` does not end before.

        Raises:
            UsageError: the client belongs to another event loop.
        """
        if self._task is None:
            return
        task = self._opened()
        self._leave.set()
        if self._completions is not None:
            self._completions.hurry()
        if self._group is not None:
            self._group.cancel_scope.cancel()
        else:
            task.cancel()

        def closed(task: asyncio.Task[None]) -> None:
            _closing.discard(task)
            if not task.cancelled() and task.exception() is not None:
                log.error("Closing the client failed: %s", type(task.exception()).__name__)

        _closing.add(task)
        task.add_done_callback(closed)
        with anyio.CancelScope(shield=True):
            done, _ = await asyncio.wait({task}, timeout=LEAVING)
        if not done:  # pyright: ignore[reportPossiblyUnboundVariable] - a shield swallows nothing
            if any(isinstance(job.state, Queueing) for job in list(self._jobs)):
                log.warning("A paid request is still on its way; the client closes once its answer is known")
            else:
                log.warning("A disk or a destination does not answer; the client closes once it has")

    def start(self, spec: JobSpec) -> VideoJob:
        """Start a job.

        Raises:
            UsageError: the client is not open, is draining, or belongs to another event loop.
        """
        shared = self.shared()
        if self._draining:
            msg = "The client is draining and starts no more jobs"
            raise UsageError(msg, hint="Start the job with another client, once this one is closed")
        first = None if spec.key is None else self._keyed.get(spec.key)
        driver = Driver(shared, spec, after=None if first is None else self._jobs[first].placed)
        job = VideoJob(driver, on_state=self.settings.on_state)
        self._jobs[job] = driver
        if self._completions is not None:
            self._completions.watch(job, driver)
        if spec.key is not None and self.working_on(spec.key) is None:
            self._keyed[spec.key] = job
        self.spawn(driver.run)
        return job

    def working_on(self, key: str) -> VideoJob | None:
        """Return the running job of that key, unless it is being cancelled."""
        job = self._keyed.get(key)
        return None if job is None or job.done() or job.cancelling() else job

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` in the task group of the jobs."""
        assert self._group is not None  # noqa: S101 - an open client has one
        self._group.start_soon(work, name="venice_async.job")

    def shared(self) -> Shared:
        """Return the services that jobs share.

        Raises:
            UsageError: the client is not open, or belongs to another event loop.
        """
        task = self._opened()
        if self._shared is None or task.done() or self._leave.is_set():
            msg = "The client is closed"
            raise UsageError(msg, hint="Make a new VeniceClient, and enter or open it")
        return self._shared

    async def ask(self, query: Query[T]) -> T:
        """Return the answer to a free call."""
        shared = self.shared()
        try:
            return await shared.caller.ask(query)
        except VeniceError as error:
            raise await shared.caller.explained(error, query.request.model) from error.__cause__

    @asynccontextmanager
    async def caller_with(self, api_key: Secret) -> AsyncGenerator[Caller]:
        """Call the API with another key of the account, within the same ration.

        Raises:
            UsageError: there is no such key.
        """
        if not api_key.reveal():
            msg = "There is no admin key"
            raise UsageError(msg, hint="Pass admin_key=, or set VENICE_ADMIN_KEY")
        shared, settings = self.shared(), self.settings
        async with AiohttpTransport(
            base_url=settings.base_url,
            api_key=api_key,
            timeouts=settings.timeouts,
            session=settings.session,
            links=settings.links,
        ) as transport:
            pacer, clock = shared.caller.pacer, shared.clock
            yield Caller(transport, pacer, clock, retries=settings.retries, api_key=api_key)

    async def drain(self, grace: float) -> list[Ticket]:
        """Start no more jobs, give the paid ones `grace` seconds, and return the tickets of the rest.

        Jobs that another process works on are not among them.
        """
        self._draining = True
        jobs = [job for job in self._jobs if not job.done()]
        for job in jobs:
            if job.ticket is None:
                hint = "Start it again with another client"
                job.withdraw(VeniceError("The client is closing: the job was not queued", hint=hint))
        for seconds in (grace, LEAVING):
            with anyio.move_on_after(seconds):
                for job in jobs:
                    await job.ended()
            for job in jobs:
                job.cancel()
        left = [job for job in jobs if not self._jobs[job].following]
        return [job.ticket for job in left if job.ticket and not isinstance(job.state, Succeeded | Failed)]

    async def _run(self, ready: asyncio.Future[None]) -> None:
        """Open the services, run the jobs in a task group until the client is left, and close."""
        settings, clock = self.settings, SystemClock()
        async with AsyncExitStack() as stack:
            stack.enter_context(worker_threads())
            transport = AiohttpTransport(
                base_url=settings.base_url,
                api_key=settings.api_key,
                timeouts=settings.timeouts,
                session=settings.session,
                links=settings.links,
                send_key=settings.send_key,
                within=None if self._sharing is None else self._sharing.transport,
            )
            await stack.enter_async_context(transport)
            journal, ration = await self._open_journal(stack, clock)
            pacer = Pacer(limits=settings.limits, polling=settings.polling, clock=clock, store=ration)
            stack.push_async_callback(pacer.aclose)
            hook = None
            if settings.on_request is not None:
                path = urlsplit(settings.base_url).path
                hook = RequestHook(settings.on_request, path, may_authorize=not settings.send_key)
            caller = Caller(
                transport, pacer, clock, retries=settings.retries, api_key=settings.api_key, hook=hook
            )
            following = None if journal is None else Following(journal, clock, self.spawn)
            if following is not None:
                stack.callback(following.close)
            self._shared = Shared(
                settings=settings,
                caller=caller,
                clock=clock,
                journal=journal,
                following=following,
                deliveries=anyio.Semaphore(deliveries_at_once(), fast_acquire=True),
            )
            stack.push_async_callback(self._shared.questions.aclose)
            if settings.on_done is not None:
                self._completions = Completions(settings.on_done, self._shared)
                await stack.enter_async_context(self._completions.running())
            try:
                async with anyio.create_task_group() as self._group:
                    ready.set_result(None)
                    await self._leave.wait()
            finally:
                for job in list(self._jobs):
                    job.cancel()  # one whose task was ended before it began
                    job.log_if_unseen()

    async def _open_journal(
        self, stack: AsyncExitStack, clock: SystemClock
    ) -> tuple[Journal | None, RationStore | None]:
        """Return the journal and the ration that processes share with it, if the client keeps a journal."""
        settings, path, sharing = self.settings, self.settings.journal, self._sharing
        limits = settings.limits
        if path is None:
            return None, None
        # Loaded only where there is a journal, and not on the event loop.
        await in_thread(import_module, "venice_async.io.journal.journal")
        from ..io.journal.journal import Journal  # noqa: PLC0415 - see above

        journal = await Journal.open(
            path,
            clock=clock,
            account=account_key("", limits.account or settings.api_key.reveal()),
            secret=settings.api_key,
            budget=settings.budget,
            notifies=settings.on_done is not None,
            within=None if sharing is None else sharing.writer,
        )
        stack.push_async_callback(journal.aclose)
        if sharing is None and limits.account is None and journal.strangers:
            log.warning(_OTHER_KEYS, journal.strangers)
        account = account_key(settings.base_url, limits.account or settings.api_key.reveal())
        if is_postgres(path):
            await in_thread(import_module, "venice_async.io.ration.postgres")
            from ..io.ration.postgres import PostgresRation  # noqa: PLC0415 - see above

            within = None if sharing is None else sharing.ration
            return journal, PostgresRation(str(path), account=account, limits=limits, within=within)
        await in_thread(import_module, "venice_async.io.ration.sqlite")
        from ..io.ration.sqlite import SqliteRation  # noqa: PLC0415 - see above

        return journal, SqliteRation(path, account=account, limits=limits)

    def _opened(self) -> asyncio.Task[None]:
        """Return the task of the client.

        Raises:
            UsageError: it was not opened, or belongs to another event loop.
        """
        if self._task is None:
            msg = "The client is not open yet"
            hint = "Use it inside 'async with VeniceClient() as venice:', or 'await venice.open()' first"
            raise UsageError(msg, hint=hint)
        loop = running_loop()
        if loop is not self._task.get_loop():
            msg = "A client belongs to the event loop it was entered on"
            hint = "Make one client for each event loop"
            if loop is None:
                msg = f"{msg}, and no event loop runs here"
                hint = "From a thread use asyncio.run_coroutine_threadsafe; in IPython, a cell that awaits"
            raise UsageError(msg, hint=hint)
        return self._task
