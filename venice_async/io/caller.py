"""One command to one answer: a turn, one request, and what to do after trouble."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

from attrs import frozen

from ..errors import (
    ANSWER_KEPT,
    APIError,
    ProtocolError,
    QueueOutcomeUnknownError,
    TransportError,
    VeniceError,
)
from ..options import Retries
from ..sansio.http.headers import balances, deprecation, retry_after
from ..sansio.http.replies import excerpt
from ..sansio.http.secrets import redact
from ..sansio.http.wire import Answer, HttpRequest, decode, encode
from ..sansio.job.commands import AskPrice, Command, Complete, Fetch, Poll, Price, Query, Queue
from ..sansio.job.events import Accepted, Refused
from ..sansio.retries import (
    Call,
    Retry,
    RetryQuota,
    Trouble,
    Verdict,
    trouble_of,
    verdict,
)
from .pacing.pacer import Pacer, Turn
from .transport import Clock, Content, Response, Transport

LONGEST_REPLY: Final = 1024 * 1024  # bytes of JSON
LONGEST_ERROR: Final = 64 * 1024  # bytes of what an error says
LONGEST_CATALOGUE: Final = 16 * 1024 * 1024  # bytes: the models come with their descriptions

_FIRST_ERROR: Final = 300  # statuses from here on are redacted before they become an error's text

_LONGEST_NOTICE: Final = 300  # characters

log: logging.Logger = logging.getLogger(__name__)


@frozen
class Reply:
    """An answer, read and decoded, with the trouble it means, if any."""

    answer: Answer
    trouble: Trouble | None = None


class Caller:
    """Sends what a job decided, at its turn, and reads the answers. One per client, shared by its jobs.

    Attributes:
        balances: what the account held before the last request that was answered with it, by currency.
        deprecations: what answers said of models that come to an end, by the model's id.
    """

    def __init__(
        self,
        transport: Transport,
        pacer: Pacer,
        clock: Clock,
        *,
        retries: Retries,
        secrets: Callable[[], Sequence[str]],
    ) -> None:
        """Send through `transport`; `secrets` names what must not be echoed."""
        self.pacer = pacer
        self.clock = clock
        self._transport = transport
        self._secrets = secrets
        self._quota = RetryQuota.full(retries)
        self.balances: dict[str, float] = {}
        self.deprecations: dict[str, str] = {}

    async def ask(self, query: Query | Command) -> Answer:
        """Return the answer to a call that costs nothing, tried again as the verdicts allow.

        Raises:
            VeniceError: what the last try ended in.
        """
        attempt = 0
        while True:
            attempt += 1
            failure: Answer | VeniceError
            try:
                reply = await self._ask_once(query)
            except TransportError as error:
                failure, trouble = error, trouble_of(error)
            else:
                if reply.trouble is None:
                    return _raised(reply.answer)
                failure, trouble = reply.answer, reply.trouble
            decided = self.judge(encode(query).call, trouble, attempt=attempt)
            if not isinstance(decided, Retry) or not self._spend():
                return _raised(failure)
            log.info("%s: trying again in %.1f s", type(query).__name__, decided.after)
            await self.clock.sleep(decided.after)

    async def pay(self, request: HttpRequest, command: Queue, turn: Turn) -> Reply:
        """Send the paid request once, on its turn, and return what came of it."""
        try:
            async with self._transport.send(request) as response:
                self._note_headers(command, response.headers)
                answer = await _reported(turn, response)
                content = await answer.read(LONGEST_REPLY)
        except VeniceError as error:
            return Reply(Refused(error), trouble_of(error))
        reply = self._reply(command, answer, content.data)
        if content.failure is not None and response.status < _FIRST_ERROR:
            too_long = isinstance(content.failure, ProtocolError)
            if too_long or not isinstance(
                reply.answer, Accepted
            ):  # else only what follows the ticket was cut
                came = excerpt(redact(content.data, self._known_secrets(command)))
                return Reply(Refused(QueueOutcomeUnknownError(content.failure.message, answer=came)))
        if (
            isinstance(reply.answer, Refused) and not answer.request_sent
        ):  # by a middleware of a borrowed session
            return Reply(reply.answer, Trouble("unsent"))
        return reply

    @asynccontextmanager
    async def poll(self, command: Poll, turn: Turn) -> AsyncGenerator[Response]:
        """Send a poll once, on its turn, and yield the answer, which may be the clip."""
        async with self._transport.send(encode(command)) as response:
            self._note_headers(command, response.headers)
            yield await _reported(turn, response)

    def fetch(self, command: Fetch, headers: dict[str, str]) -> AbstractAsyncContextManager[Response]:
        """GET a link once; no turn is taken, for the link is not the API's."""
        request = encode(command)
        return self._transport.send(
            HttpRequest(call=request.call, method=request.method, url=request.url, headers=headers)
        )

    async def read(self, command: Command | Query, response: Response) -> Reply:
        """Read and decode an answer with a JSON body."""
        limit = LONGEST_REPLY if encode(command).method == "POST" else LONGEST_CATALOGUE
        return self._reply(command, response, await _body(response, limit))

    def judge(self, call: Call, trouble: Trouble, *, attempt: int) -> Verdict:
        """Return what to do after the `attempt`-th trouble in a row."""
        return verdict(call, trouble, attempt=attempt, chance=self.clock.chance())

    async def _ask_once(self, query: Query | Command) -> Reply:
        request = encode(query)
        if request.call in {Call.LINK, Call.REVOKE}:
            async with self._transport.send(request) as response:
                return await self.read(query, response)
        turns = self.pacer.clean_up_turn if isinstance(query, Complete) else self.pacer.free_turn
        async with turns() as turn, self._transport.send(request) as response:
            self._note_headers(query, response.headers)
            return await self.read(query, await _reported(turn, response))

    def _reply(self, command: Command | Query, response: Response, body: bytes) -> Reply:
        status, headers = response.status, response.headers
        said = headers
        if status >= _FIRST_ERROR:
            said, body = self._redacted(command, headers, body)
        answer = _decoded(command, status, said, body)
        if isinstance(answer, Refused) and status < _FIRST_ERROR:
            answer = _decoded(command, status, headers, redact(body, self._known_secrets(command)))
        if status < _FIRST_ERROR:
            self._quota = self._quota.refunded()
            return Reply(answer)
        wait = retry_after(status, headers, body, self.clock.time())
        error = getattr(answer, "error", answer)
        if isinstance(error, APIError):
            error.retry_after = wait
            return Reply(answer, trouble_of(error))
        return Reply(answer, Trouble("status", status=status, retry_after=wait))

    def _note_headers(self, command: Command | Query, headers: Mapping[str, str]) -> None:
        """Keep the balances that an answer tells, and warn once of each model that comes to an end."""
        self.balances.update(balances(headers))
        match command:
            case Queue() | AskPrice() | Price():
                model = command.request.model
            case Poll() | Complete():
                model = command.ticket.model
            case _:
                return
        if (said := deprecation(headers)) and model not in self.deprecations:
            text = _redacted_text(said, self._known_secrets(command))[:_LONGEST_NOTICE]
            self.deprecations[model] = text
            log.warning("The model %s comes to an end: %s", model, text)

    def _redacted(
        self, command: Command | Query, headers: Mapping[str, str], body: bytes
    ) -> tuple[dict[str, str], bytes]:
        secrets = self._known_secrets(command)
        said = {name.lower(): _redacted_text(value, secrets) for name, value in headers.items()}
        return said, redact(body, secrets)

    def _known_secrets(self, command: Command | Query) -> list[str]:
        link: str | None = getattr(getattr(command, "ticket", None), "download_url", None)
        return [*self._secrets(), *([] if link is None else [link])]

    def _spend(self) -> bool:
        left = self._quota.spent()
        self._quota = left or self._quota
        return left is not None


@frozen
class _ReadResponse:
    """An answer whose body is read already."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    request_sent: bool

    async def read(self, limit: int) -> Content:
        return Content(self.body[:limit])

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.body


async def _reported(turn: Turn, response: Response) -> Response:
    """Report an answer to the pacer at once; a 429 once its body is read, which says what it means."""
    if response.status != HTTPStatus.TOO_MANY_REQUESTS:
        turn.answered(response.status, response.headers)
        return response
    body = await _body(response, LONGEST_ERROR)
    turn.answered(response.status, response.headers, body)
    return _ReadResponse(response.status, response.headers, body, response.request_sent)


async def _body(response: Response, limit: int) -> bytes:
    """Return the body of an answer. Of an error it may be lost: the status says enough."""
    if response.status >= _FIRST_ERROR:
        return (await response.read(LONGEST_ERROR)).data
    content = await response.read(limit)
    if content.failure is not None:
        raise content.failure
    return content.data


def _redacted_text(text: str, secrets: Sequence[str]) -> str:
    return redact(text.encode("utf-8", "surrogateescape"), secrets).decode("utf-8", "replace")


def unknown_outcome(error: VeniceError, *, fingerprint: str, at: str) -> QueueOutcomeUnknownError:
    """Return the error for a paid request whose answer is lost, or makes no sense."""
    message = f"A paid request was sent and may have been accepted: {error.message}"
    found = QueueOutcomeUnknownError(message, fingerprint=fingerprint, at=at, bytes_sent=True)
    if isinstance(error, QueueOutcomeUnknownError) and error.answer is not None:
        found.answer, found.hint = error.answer, ANSWER_KEPT
    return found


def _decoded(command: Any, status: int, headers: Any, body: bytes) -> Any:
    try:
        return decode(command, status, headers, body)
    except VeniceError as error:
        return error.with_traceback(None)


def _raised(failure: Answer | VeniceError) -> Answer:
    if isinstance(failure, VeniceError):
        raise failure
    return failure
