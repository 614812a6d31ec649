"""The client: a user opens it, calls it and closes it."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit
from weakref import WeakSet

from .batch import CONCURRENCY, GIVE_UP_AFTER, PAUSE, Batch, Requests
from .engine.choice import cheapest
from .engine.completion import OnDone
from .engine.consent import OnConsent
from .engine.retrieval import ask_status
from .engine.runtime import Runtime
from .engine.spec import (
    Destination,
    JobSpec,
    Settings,
    bound_for,
    checked_key,
    checked_request,
    checked_tags,
    folder_for,
)
from .errors import UsageError, VeniceError
from .io.delivery.sinks import QueueSink
from .io.request_hook import OnRequest
from .io.uploads import price_query
from .job import VideoJob
from .journal_calls import JournalCalls
from .models import AccountLimits, VideoModel
from .notebook import Listing
from .options import BASE_URL, Budget, Limits, Links, Polling, Retries, Timeouts, check_number
from .requests import VideoRequest
from .results import Quote, Ticket, checked_ticket, parsed_ticket
from .sansio.converter import request_fields
from .sansio.http.secrets import Secret
from .sansio.http.wire import Query, complete, list_models, read_limits, revoke
from .sansio.job.machine import begin, watch
from .sansio.job.states import State

if TYPE_CHECKING:
    import aiohttp
    from obstore.store import ObjectStore

    from .engine.sharing import Sharing


log: logging.Logger = logging.getLogger(__name__)


class VeniceClient(JournalCalls):
    """Turns prompts into verified video files. All its jobs share one budget of requests.

    Enter it with `async with`, from any task, or call `open` and `aclose`. Jobs run until they end or the
    block is left. Leaving normally waits for the jobs that still run; leaving by an error stops watching
    them, deletes nothing and returns within a second. A paid request that is on its way then is not given up:
    `asyncio.run` ends once its answer is journalled, after the read timeout at most.

    Args:
        api_key: the key; `VENICE_API_KEY` by default. It is shown nowhere.
        base_url: where the API is; `VENICE_BASE_URL`, else `https://api.venice.ai/api/v1`.
        session: an `aiohttp.ClientSession` to use for the API instead of one of its own; it is not closed.
            Links are fetched with another that knows neither key nor cookies, but with the TLS context, the
            resolver and the proxy of this one.
        on_consent: asked, with a `ConsentRequest`, when the server wants a person's consent; returns a
            `Consent`, or None for no. It may be async; a plain function runs in a worker thread.
        on_state: called with every state of every job, on the event loop; must be quick.
        on_done: called with each job of this client that has ended, by a clip or a failure; a `Webhook`, or a
            function, which may be async; a plain one runs in a worker thread. What it raises is logged, and
            changes nothing. With a journal it is called at least once, by another process if this one dies.
        journal: a file, such as `"jobs.db"`, that keeps tickets through a crash; None keeps them in memory.
        budget: the most that a day and a month may cost, for all processes of the journal, which it needs; a
            number is USD a day. By default `VENICE_DAILY_USD` and `VENICE_MONTHLY_USD`, if they are set.
        timeouts: how long to wait.
        limits: what the key allows.
        polling: how often to poll.
        retries: how retries are rationed.
        links: how download links are reached, if not directly.
        on_request: called with method, path and body of each request to the API; returns headers to add, such
            as a signature. It may be async. If it fails, nothing is sent.
        send_key: whether requests carry the key. Without it `on_request` authorizes them; no key is needed.
        sidecars: whether a JSON file beside each clip, `clip.mp4.json`, describes the request,
            the price and the file: no links, no key, media by their digests.

    Raises:
        UsageError: there is no key, or an option makes no sense.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        session: aiohttp.ClientSession | None = None,
        on_consent: OnConsent | None = None,
        on_state: Callable[[VideoJob, State], None] | None = None,
        on_done: OnDone | None = None,
        journal: str | os.PathLike[str] | None = None,
        budget: Budget | float | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        polling: Polling | None = None,
        retries: Retries | None = None,
        links: Links | None = None,
        on_request: OnRequest | None = None,
        send_key: bool = True,
        sidecars: bool = True,
    ) -> None:
        secret = Secret(api_key or os.environ.get("VENICE_API_KEY") or ("" if send_key else "none"))
        if not send_key and on_request is None:
            msg = "Without the key nothing authorizes the requests"
            raise UsageError(msg, hint="Pass on_request=, a function that does")
        del api_key  # a traceback of this frame must not show it
        self._batches: WeakSet[Batch] = WeakSet()
        settings = Settings(
            api_key=secret,
            base_url=base_url or os.environ.get("VENICE_BASE_URL") or BASE_URL,
            session=session,
            on_consent=on_consent,
            on_state=on_state,
            on_done=on_done,
            on_request=on_request,
            journal=journal,
            budget=Budget.meant_by(budget),
            timeouts=Timeouts() if timeouts is None else timeouts,
            limits=Limits() if limits is None else limits,
            polling=Polling() if polling is None else polling,
            retries=Retries() if retries is None else retries,
            links=Links() if links is None else links,
            send_key=send_key,
            sidecars=sidecars,
        )
        if budget is not None:
            _ = settings.capped  # the environment's is checked once a job is started
        self._runtime = Runtime(settings)

    def __repr__(self) -> str:
        runtime: Runtime | None = getattr(self, "_runtime", None)  # a traceback shows one that is not made
        return f"<VeniceClient of {runtime and urlsplit(runtime.settings.base_url).hostname}>"

    async def __aenter__(self) -> Self:
        """Open the sessions and the journal."""
        await self._runtime.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the jobs, or stop watching them if the block was left by an error."""
        for batch in list(self._batches):
            batch.stop()
        if kind is None:
            await self._runtime.close()
        else:
            await self._runtime.stop()

    async def open(self, *, sharing: Sharing | None = None) -> Self:
        """Open the client without a block, as for a notebook, unless it is open; `aclose` closes it.

        Args:
            sharing: the sockets of other accounts at the same place, as a fleet's worker has them.
        """
        if not self._runtime.is_open:
            await self._runtime.open(sharing)
        return self

    async def aclose(self) -> None:
        """Stop watching all jobs and close, as leaving the block by an error does."""
        await self._runtime.stop()

    def generate(
        self,
        request: VideoRequest,
        *,
        to: Destination,
        max_usd: float | None = None,
        reference_video_seconds: float | None = None,
        overwrite: bool = False,
        priority: int = 0,
        key: str | None = None,
        tags: Mapping[str, str] | None = None,
        store: ObjectStore | None = None,
        on_consent: OnConsent | None = None,
    ) -> VideoJob:
        """Start a job and return it at once; await it for the clip.

        With a `key` it is paid for once, however often it is called, and as the first call wanted it.

        Args:
            request: what to generate.
            to: a file, or an existing folder, where the file is named after prompt and job; the URL of an
                object, such as `s3://bucket/clips/a.mp4`, or of a folder with a slash at its end; or a sink,
                or anything with an async `write` or `send`. See `stream` for a job without one. A path or URL
                may be a pattern, such as `"clips/{key}-{model}-{n:03}.mp4"`, of which the first name that is
                free is taken; the fields are key, model, prompt, id, n, date, seed, duration, resolution,
                aspect_ratio and tag.NAME. Write `{{` for a brace.
            max_usd: the most it may cost, in USD; the price is asked first, and a price equal to it is
                allowed.
            reference_video_seconds: the total length of all reference clips, which the price depends on;
                measured by itself where all of them are files or bytes.
            overwrite: whether a file at `to` may be replaced. The new one has its mode; a symbolic link is
                followed to the file it leads to. An object is replaced likewise.
            priority: jobs of a higher one are queued first when the budget is short.
            key: names the order for life, such as `"order-4711"`, for all who share the journal. The same
                request under it is the same job, be it watched here, followed, taken over or long finished;
                another request is a `UsageError` at the await. It is free if nothing was charged.
            tags: notes for the journal: at most 64 names and texts.
            store: a store of `obstore` that `to` lies in, by its URL or by its key alone; by default the URL
                and the environment say which.
            on_consent: asked instead of the client's `on_consent`.

        Raises:
            UsageError: the client is not open, or belongs to another event loop, or an argument is of no use,
                or there is a key and no journal.
        """
        checked_request(request)
        check_number("max_usd", max_usd, low=0, or_none=True)
        check_number("reference_video_seconds", reference_video_seconds, low=0, or_none=True)
        check_number("priority", priority)
        if self._runtime.settings.capped and max_usd is None:
            max_usd = math.inf  # the price is asked
        noted = {} if tags is None else checked_tags(tags)
        destination = bound_for(to, store)
        if key is not None:
            checked_key(key)
            self._journal()
            job = self._runtime.working_on(key)
            if (
                job is not None
                and job.request is not None
                and request_fields(job.request) == request_fields(request)
            ):
                return job
        return self._runtime.start(
            JobSpec(
                start=begin(request, max_usd=max_usd, reference_video_seconds=reference_video_seconds),
                request=request,
                to=destination,
                overwrite=overwrite,
                priority=priority,
                key=key,
                tags=noted,
                on_consent=on_consent,
            )
        )

    def stream(
        self,
        request: VideoRequest,
        *,
        max_usd: float | None = None,
        reference_video_seconds: float | None = None,
        priority: int = 0,
    ) -> VideoJob:
        """Start a job without a destination and return it at once: read its clip with `VideoJob.stream`.

        Args:
            request: as for `generate`.
            max_usd: as for `generate`.
            reference_video_seconds: as for `generate`.
            priority: as for `generate`.

        Raises:
            UsageError: as for `generate`.
        """
        return self.generate(
            request,
            to=QueueSink(),
            max_usd=max_usd,
            reference_video_seconds=reference_video_seconds,
            priority=priority,
        )

    def resume(
        self,
        ticket: Ticket | str,
        *,
        to: Destination | None = None,
        overwrite: bool = False,
        store: ObjectStore | None = None,
    ) -> VideoJob:
        """Go on watching a job that was queued before, by this process or another. Nothing is paid.

        Args:
            ticket: the ticket, or the JSON of one.
            to: as for `generate`; left out, the clip is read with `VideoJob.stream`.
            overwrite: as for `generate`.
            store: as for `generate`.

        Raises:
            UsageError: that is no ticket, or no clip can go there, or the client is not open.
        """
        found = parsed_ticket(ticket)
        del ticket  # as text it holds the link
        start = watch(checked_ticket(found))
        sink = QueueSink() if to is None else bound_for(to, store)
        return self._runtime.start(JobSpec(start=start, to=sink, overwrite=overwrite, age=None))

    async def status(self, ticket: Ticket | str) -> State:
        """Return where a job stands, by one poll. It never fetches or deletes the clip.

        Meant for handlers and agents that look at a job now and then; to wait for it, `resume` it.

        Args:
            ticket: the ticket, or the JSON of one.

        Returns:
            `Waiting` while the job goes on, with `elapsed` and `eta`; `Downloading` once `resume` can fetch
            the clip, with its size as `total` where that is told; `Failed` if the job failed.

        Raises:
            VeniceError: the poll failed, or Venice does not know the job. It carries the ticket.
        """
        found = parsed_ticket(ticket)
        del ticket  # as text it holds the link
        return await ask_status(self._runtime.shared(), checked_ticket(found))

    def batch(
        self,
        requests: Requests,
        *,
        into: str | os.PathLike[str],
        max_usd: float | None = None,
        on_error: Literal["collect", "stop"] = "collect",
        key: Callable[[VideoRequest], str] | None = None,
        tags: Callable[[VideoRequest], Mapping[str, str]] | None = None,
        concurrency: int = CONCURRENCY,
        overwrite: bool = False,
        pause: float = PAUSE,
        give_up_after: int | None = GIVE_UP_AFTER,
        store: ObjectStore | None = None,
        max_each: Callable[[VideoRequest], float | None] | None = None,
        name: str | None = None,
    ) -> Batch:
        """Return an async iterator of the outcomes of many requests, as they finish; or await it for all.

        A request that fails is an outcome and stops nothing else. An empty balance (402) pauses the rest.
        With a journal a batch can be run again: what was paid for is not paid for again.

        Args:
            requests: an iterable or async iterable, read no further ahead than `concurrency`.
            into: the folder for the clips, made if it is missing, or the URL of one in an object store; with
                the journal it also names the batch.
            max_usd: the most that all may cost, in USD, earlier runs into the same folder included.
            on_error: `"stop"` queues nothing more after the first failure; what is paid for still ends.
            key: names a request across runs; its content does by default.
            tags: what to note about the job of a request, as `generate` takes it.
            concurrency: jobs at once.
            overwrite: whether files may be replaced.
            pause: seconds between two tries while the balance is used up.
            give_up_after: identical refusals of a request, or of one of its media, after which the others
                like it are not sent; None sends all.
            store: as for `generate`.
            name: a pattern for the clips' names in the folder, such as `"{key}-{n:03}"`; see `generate`. `n`
                is the request's place in the batch, from 1.
            max_each: returns the most that a request may cost, in USD, or None for no limit of its own.

        Raises:
            UsageError: the client is not open, or an argument makes no sense.
        """
        _ = self._runtime.settings.capped
        self._runtime.shared()
        batch = Batch(
            runtime=self._runtime,
            requests=requests,
            into=folder_for(into, store),
            max_usd=max_usd,
            max_each=max_each,
            on_error=on_error,
            key=key,
            tags=tags,
            name=name,
            concurrency=concurrency,
            overwrite=overwrite,
            pause=pause,
            give_up_after=give_up_after,
        )
        self._batches.add(batch)
        return batch

    async def drain(self, grace: float) -> list[Ticket]:
        """Queue nothing more, wait for paid jobs, and return the tickets of those that did not end in time.

        Jobs that are not paid for yet fail, uncharged; the others are awaited for `grace` seconds, and one
        more is given to paid requests on their way; the ticket of one that is answered later still goes to
        the journal. After it the client starts no more jobs. Meant for SIGTERM.
        """
        self._runtime.shared()
        for batch in list(self._batches):
            batch.stop()
        return await self._runtime.drain(grace)

    async def quote(self, request: VideoRequest, *, reference_video_seconds: float | None = None) -> Quote:
        """Return the price of a request at this moment; nothing is queued or reserved.

        Args:
            request: what it would be.
            reference_video_seconds: the total length of all reference clips, in seconds, which the price may
                depend on.

        Raises:
            VeniceError: Venice names no price; for a request that it would refuse, why.
        """
        checked_request(request)
        self._runtime.shared()
        return await self._runtime.ask(await price_query(request, reference_video_seconds))

    async def models(self) -> list[VideoModel]:
        """Return the catalogue of video models.

        Raises:
            VeniceError: Venice cannot be reached, or refuses the key.
        """
        return Listing(await self._runtime.ask(list_models()))

    async def choose(
        self,
        models: Iterable[VideoModel],
        *,
        accepts: Collection[str] = (),
        max_usd: float | None = None,
        request: VideoRequest | None = None,
    ) -> VideoModel:
        """Return the cheapest of `models`, by their quotes at this moment, that can do what is wanted.

        Models that are offline are passed over; nothing is queued or reserved.

        Args:
            models: such as those of `models()`.
            accepts: what it must work on, in the words of `VideoModel.accepts`.
            max_usd: the most that the clip may cost, in USD.
            request: the clip to compare prices of; each model gets it under its own id, and one whose `check`
                finds a problem is passed over. Left out, prices are those of each model's shortest clip.

        Raises:
            UsageError: none of the models can do it.
            BudgetExceededError: all are dearer than `max_usd`.
            VeniceError: no model had a price.
        """
        check_number("max_usd", max_usd, low=0, or_none=True)
        return await cheapest(models, self.quote, accepts=accepts, max_usd=max_usd, request=request)

    async def rate_limits(self) -> AccountLimits:
        """Return what the key may do, and the balances.

        Raises:
            VeniceError: Venice cannot be reached, or refuses the key.
        """
        return await self._runtime.ask(read_limits())

    @property
    def balances(self) -> Mapping[str, float]:
        """The account's balances by currency, such as `USD`, before the last request whose answer had them.

        Ordinary answers have them; it is empty until one came. `rate_limits` asks for them.
        """
        return dict(self._runtime.shared().caller.balances)

    @property
    def deprecations(self) -> Mapping[str, str]:
        """Announced removals of models, by the model's id, as answers told them; each is logged once."""
        return dict(self._runtime.shared().caller.deprecations)

    async def complete(self, ticket: Ticket | str) -> None:
        """Delete the server's copy of a public job's clip. It neither cancels nor refunds a running job.

        Raises:
            UsageError: that is no ticket.
            VeniceError: it was not deleted. The error carries the ticket.
        """
        found = parsed_ticket(ticket)
        del ticket
        await self._clean(complete, checked_ticket(found))

    async def revoke(self, ticket: Ticket | str) -> None:
        """Delete the server's copy of a private job's clip, and its link with it.

        Raises:
            UsageError: that is no ticket, or it has no link.
            VeniceError: it was not deleted. The error carries the ticket.
        """
        found = parsed_ticket(ticket)
        del ticket
        if checked_ticket(found).download_url is None:
            msg = "This ticket has no download link"
            raise UsageError(msg, hint="Use complete(ticket) for a public model's job")
        await self._clean(revoke, checked_ticket(found))

    async def _clean(self, call: Callable[[Ticket], Query[bool]], ticket: Ticket) -> None:
        try:
            await self._runtime.ask(call(ticket))
        except VeniceError as error:
            raise error.with_ticket(ticket) from None
