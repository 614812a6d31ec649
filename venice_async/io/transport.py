"""The interfaces of the network, the clock and randomness, which tests replace."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import Protocol

from attrs import field, frozen

from ..errors import VeniceError
from ..sansio.http.wire import HttpRequest


@frozen
class Content:
    """The body of an answer, as far as it could be read.

    Attributes:
        data: the bytes, without content codings.
        failure: why they are incomplete: a `DisconnectedError`, a `ReadTimeoutError`, or a `ProtocolError`
            for a body that is too long or damaged; None if they are complete.
    """

    data: bytes = field(repr=False)
    failure: VeniceError | None = None


class Response(Protocol):
    """One answer, of which the head has been read."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, their names in lower case."""
        ...

    @property
    def request_sent(self) -> bool:
        """Whether any byte of the request's body was sent: if not, a middleware answered, not the server."""
        ...

    async def peek(self) -> bytes:
        """Return the first bytes of the body without consuming them: about 12, or all of a shorter one.

        Raises `DisconnectedError` or `ReadTimeoutError` when it is cut or stalls.
        """
        ...

    async def read(self, limit: int) -> Content:
        """Return as much of the body as can be read, at most `limit` bytes; the same when called again."""
        ...

    def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the body as it arrives, at most about 1 MiB at once.

        Raises `DisconnectedError` or `ReadTimeoutError` when it is cut or stalls.
        """
        ...

    def close(self) -> None:
        """Discard what was not read."""
        ...


class Transport(Protocol):
    """Sends one request, once."""

    def send(self, request: HttpRequest) -> Awaitable[Response]:
        """Send `request` once and return its answer, which the caller closes.

        Raises `ConnectError` (nothing was sent), `ReadTimeoutError` or `DisconnectedError`.
        """
        ...


class Clock(Protocol):
    """A clock, and random numbers."""

    def monotonic(self) -> float:
        """Monotonic seconds."""
        ...

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        ...

    def chance(self) -> float:
        """Return a random number in [0, 1)."""
        ...
