"""Sends requests at their turn, reads the answers, and judges whether to retry."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, closing, nullcontext
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar

import anyio
from attrs import define, field

from ..errors import (
    APIError,
    BadRequestError,
    ConnectError,
    NotFoundError,
    ProtocolError,
    QueueOutcomeUnknownError,
    RateLimitError,
    TransportError,
    VeniceError,
)
from ..formatting import did_you_mean
from ..options import Retries
from ..results import Ticket
from ..sansio.http.headers import balances, deprecation, retry_after
from ..sansio.http.replies import api_error, excerpt
from ..sansio.http.secrets import Secret, redact, redact_headers
from ..sansio.http.wire import (
    HttpRequest,
    PollEvent,
    Query,
    QueueEvent,
    complete,
    list_models,
    poll_answer,
    queue_answer,
    revoke,
)
from ..sansio.job.commands import Queue
from ..sansio.job.events import Accepted, CleanedUp, Missed, Refused
from ..sansio.limits.ration import Lane
from ..sansio.retries import LINKS, Attempts, Call, GiveUp, Retry, Verdict
from .pacing.pacer import Pacer
from .pacing.queues import Turn
from .request_hook import RequestHook
from .shielding import in_thread
from .transport import Clock, Content, Response, Transport

LONGEST_REPLY: Final = 1024 * 1024  # bytes of JSON
LONGEST_ERROR: Final = 64 * 1024  # bytes of what an error says
LONGEST_PAGE: Final = 16 * 1024  # bytes of it, where it is no JSON
LONGEST_CATALOGUE: Final = 16 * 1024 * 1024  # bytes: the models come with their descriptions

SCARCE: Final = 30.0  # seconds before a retry that must come, once the quota is used up
_FIRST_ERROR: Final = 300  # statuses from here on are redacted before they become an error's text
_LONGEST_NOTICE: Final = 300  # characters
_CLEAN_UP_MOST: Final = 15.0  # seconds: the clip is safe, so nobody should wait for this for long
_QUIET: Final = 3600.0  # seconds without a clean-up by poll, once the server has refused one
_PAUSE: Final = 60.0  # seconds, after one that failed otherwise
_NO_MODEL: Final = re.compile(
    r"\bmodel\b.*\b(not found|unknown|invalid|exist)|\b(unknown|invalid|no such)\b.*\bmodel\b", re.IGNORECASE
)

_SHORT: Final = 4 * 1024  # bytes; a longer text may be all escapes, and take a second to be redacted

T = TypeVar("T")

log: logging.Logger = logging.getLogger(__name__)


@define(eq=False)
class Caller:
    """Sends the requests of a client's jobs at their turn, and reads the answers.

    No error shows the key or a link: the secrets of a request are redacted from its answer before it becomes
    an error's text.

    Retries are limited, so that an outage does not cause a storm of them: each takes tokens from a bucket
    that successes refill. Without them, a request that can be given up is; a poll or a GET of a paid job
    waits for `SCARCE` seconds instead.

    Attributes:
        pacer: gives requests their turns.
        clock: time and chance.
        balances: what the account held before the last request that was answered with it, by currency.
        deprecations: what answers said of models that come to an end, by the model's id.
        date: the `Date` header of the last answer to a free call; empty before.
    """

    _transport: Transport
    pacer: Pacer
    clock: Clock
    _retries: Retries = field(kw_only=True, alias="retries")
    _api_key: Secret = field(kw_only=True, alias="api_key")
    _hook: RequestHook | None = field(kw_only=True, alias="hook", default=None)
    balances: dict[str, float] = field(init=False, factory=dict[str, float])
    deprecations: dict[str, str] = field(init=False, factory=dict[str, str])
    date: str = field(init=False, default="")
    _spent: float = field(init=False, default=0.0)  # tokens of the quota
    _models: frozenset[str] | None = field(init=False, default=None)
    _cleaning: anyio.Lock = field(init=False, factory=partial(anyio.Lock, fast_acquire=True))
    _quiet_until: float = field(init=False, default=-math.inf)

    async def ask(self, query: Query[T], *, check: Callable[[], None] = lambda: None) -> T:
        """Return the answer to a call that costs nothing; a failure is retried as the verdicts allow.

        Before each try, at its turn, `check` may raise what forbids it.

        Raises:
            VeniceError: the failure of the last try.
        """
        attempts = Attempts()
        while True:
            try:
                return await self._ask_once(query, check)
            except VeniceError as error:
                failure = error.with_traceback(None)  # its frames hold what the server said
            decided: Verdict = GiveUp()
            if isinstance(failure, TransportError | APIError):
                attempts, decided = self.judge(attempts, query.request.call, failure)
            if not isinstance(decided, Retry):
                raise failure
            log.info("A request for %s failed: trying again in %.1f s", query.name, decided.after)
            await self.clock.sleep(decided.after)

    async def _ask_once(self, query: Query[T], check: Callable[[], None]) -> T:
        request, turn = query.request, None
        async with AsyncExitStack() as stack:
            if request.call is not Call.REVOKE:
                lane: Lane = "clean-up" if query.is_clean_up else "free"
                turn = await stack.enter_async_context(self.pacer.turn(lane))
            try:
                check()
            except VeniceError:
                if turn is not None:
                    turn.unsent()
                raise
            response = stack.enter_context(closing(await self.send(request, turn)))
            content = await response.read(LONGEST_CATALOGUE)
            self.date = response.headers.get("date", "")
        if content.failure is not None and response.status < _FIRST_ERROR:
            raise content.failure
        return await self._understood(query.read, request.ticket, response, content)

    async def pay(self, request: HttpRequest, command: Queue, turn: Turn) -> QueueEvent:
        """Send the paid request once, on its turn, and return the event that its answer means."""
        try:
            with closing(await self.send(request, turn)) as response:
                content = await response.read(LONGEST_REPLY)
        except VeniceError as error:
            return Refused(error)
        event = await self._understood(partial(queue_answer, command), None, response, content)
        failure = content.failure if response.status < _FIRST_ERROR else None
        # A body that is too long or damaged is not the API's; of one that is cut, the ticket may have come.
        if failure and (isinstance(failure, ProtocolError) or not isinstance(event, Accepted)):
            came = excerpt(await _redacted(content.data, self._secrets(None)))
            return Refused(QueueOutcomeUnknownError(failure.message, answer=came))
        if isinstance(event, Refused) and not response.request_sent:
            return Refused(
                ConnectError(f"A middleware answered in the server's place: {event.error.message}")
            )
        return event

    async def read_poll(self, ticket: Ticket, response: Response) -> PollEvent:
        """Read the answer to a poll that is not the clip."""
        content = await response.read(LONGEST_REPLY)
        if content.failure is not None and response.status < _FIRST_ERROR:
            return Missed(content.failure)
        read = partial(poll_answer, ticket)
        return await self._understood(read, ticket, response, content)

    async def read_refusal(self, ticket: Ticket, response: Response) -> VeniceError:
        """Read the answer of a link that is not the clip."""
        refusal = await self._understood(
            lambda status, headers, body: Refused(api_error(status, headers, body)),
            ticket,
            response,
            await response.read(LONGEST_ERROR),
        )
        return refusal.error

    async def explained(self, error: VeniceError, model: str | None) -> VeniceError:
        """Return `error`; if it says that there is no such model, with those that look like it.

        The catalogue is read once at most.
        """
        named = isinstance(error, BadRequestError | NotFoundError) and _NO_MODEL.search(error.message)
        if not named or model is None or error.ticket is not None:
            return error
        if self._models is None:
            self._models = frozenset()
            try:
                self._models = frozenset(known.id for known in await self.ask(list_models()))
            except VeniceError:
                return error
        near = "" if model in self._models else did_you_mean(model, sorted(self._models))
        return error.with_facts(hint=near, cli_hint=near) if near else error

    async def clean_up(self, ticket: Ticket, check: Callable[[], None]) -> CleanedUp:
        """Delete the server's copy of a job's clip, or leave it to expire. It never raises.

        Nothing is sent once `check` raises: then another process has the job, and cleans up itself.

        `/video/complete` answers 400 to everybody at times, and each such answer counts against the key, like
        any failed request. So one is sent at a time, and after one that failed none for a while.
        """
        has_link = ticket.download_url is not None
        error: VeniceError | None = None
        with anyio.move_on_after(_CLEAN_UP_MOST):
            async with nullcontext() if has_link else self._cleaning:
                if not has_link and self.clock.monotonic() < self._quiet_until:
                    return CleanedUp()
                error = TransportError(f"The clean-up took longer than {_CLEAN_UP_MOST:.0f} s")
                try:
                    await self.ask(revoke(ticket) if has_link else complete(ticket), check=check)
                    error = None
                except VeniceError as failure:
                    error = failure
        if error is not None and has_link:
            log.warning("The link of job %s may still work: %s", ticket.queue_id, error.message)
        elif error is not None:
            log.debug("The copy of job %s is left to expire: %s", ticket.queue_id, error.message)
            if isinstance(error, APIError) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                self._quiet_until = self.clock.monotonic() + _QUIET
            elif isinstance(error, APIError | TransportError):  # but not "success": false, for one
                self._quiet_until = self.clock.monotonic() + _PAUSE
        return CleanedUp(error)

    def judge(self, attempts: Attempts, call: Call, error: VeniceError) -> tuple[Attempts, Verdict]:
        """Return the attempts with one more failure, and what to do about it, as far as the tokens last."""
        attempts, decided = attempts.judge(call, error, chance=self.clock.chance())
        return attempts, GiveUp() if isinstance(decided, Retry) and not self._spend(call, error) else decided

    def ration(self, call: Call, error: VeniceError, pause: float) -> float:
        """Return the seconds before a retry that must be made: many, once the tokens are used up."""
        return pause if self._spend(call, error) else max(pause, SCARCE)

    def _spend(self, call: Call, error: VeniceError) -> bool:
        if isinstance(error, RateLimitError) and call is not Call.OTHER:
            return True  # the server says when to come again
        if self._spent + self._retries.cost > self._retries.quota:
            return False
        self._spent += self._retries.cost
        return True

    async def send(self, request: HttpRequest, turn: Turn | None = None) -> Response:
        """Send a request once, and return the answer, which the caller closes.

        A request to the API has a `turn`, to which the answer is reported; of a 429 the body, too, which says
        why.
        """
        if self._hook is not None:
            request = await self._hook.applied(request)
        response = await self._transport.send(request)
        try:
            if response.status < _FIRST_ERROR:
                self._spent = max(0.0, self._spent - self._retries.refund)
            if request.call not in LINKS:
                self.balances.update(balances(response.headers))
                model, said = request.model, deprecation(response.headers)
                if said and model is not None and model not in self.deprecations:  # each is logged once
                    told = redact_headers({"": said}, self._secrets(request.ticket))[""][:_LONGEST_NOTICE]
                    self.deprecations[model] = told
                    log.warning("The model %s comes to an end: %s", model, told)
            if turn is not None:
                limited = response.status == HTTPStatus.TOO_MANY_REQUESTS
                body = (await response.read(LONGEST_ERROR)).data if limited else b""
                turn.answered(response.status, response.headers, body)
        except BaseException:
            response.close()
            raise
        return response

    async def _understood(
        self,
        read: Callable[[int, Mapping[str, str], bytes], T],
        ticket: Ticket | None,
        response: Response,
        content: Content,
    ) -> T:
        """Return what `read` makes of an answer about `ticket`, if any; an error is read without secrets."""
        status, headers, body = response.status, response.headers, content.data
        if status < _FIRST_ERROR:
            found = read(status, headers, body)
            if not isinstance(found, Refused):
                return found
        wait = retry_after(status, headers, body, self.clock.time())
        secrets = self._secrets(ticket)
        if not body.lstrip().startswith((b"{", b"[")):
            body = body[:LONGEST_PAGE]
        try:
            found = read(status, redact_headers(headers, secrets), await _redacted(body, secrets))
        except APIError as error:
            error.retry_after = wait
            raise
        if isinstance(found, Refused | Missed) and isinstance(found.error, APIError):
            found.error.retry_after = wait
        return found

    def _secrets(self, ticket: Ticket | None) -> tuple[str, ...]:
        link = None if ticket is None else ticket.download_url
        added = () if self._hook is None else self._hook.secrets
        return (self._api_key.reveal(), *([] if link is None else [link]), *added)


async def _redacted(body: bytes, secrets: tuple[str, ...]) -> bytes:
    return redact(body, secrets) if len(body) <= _SHORT else await in_thread(redact, body, secrets)
