"""The only seam: what the rest needs of the network, of time and of chance."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from attrs import field, frozen

from ..errors import VeniceError
from ..sansio.http.wire import HttpRequest


@frozen
class Content:
    """What came of the body of an answer.

    Attributes:
        data: the bytes, without content codings.
        failure: why they are not whole: a `DisconnectedError`, a `ReadTimeoutError`, or a `ProtocolError` for
            a body that is too long or damaged; None if they are.
    """

    data: bytes = field(repr=False)
    failure: VeniceError | None = None


class Response(Protocol):
    """One answer, its head read and its body still on the wire."""

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
        """Whether any byte of the request's body was asked for: if not, another than the server answered."""
        ...

    async def peek(self) -> bytes:
        """Return the first bytes of the body, which are still to be read: about 12, or all of a shorter one.

        Raises `DisconnectedError` or `ReadTimeoutError` when it is cut or goes quiet.
        """
        ...

    async def read(self, limit: int) -> Content:
        """Return what can be had of the body, at most `limit` bytes; when called again, the same."""
        ...

    def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the body as it comes, never more than about 1 MiB at once.

        Raises `DisconnectedError` or `ReadTimeoutError` when it is cut or goes quiet.
        """
        ...


class Transport(Protocol):
    """Sends one request, once."""

    def send(self, request: HttpRequest) -> AbstractAsyncContextManager[Response]:
        """Send `request` once and yield its answer; leaving the block drops what was not read.

        Raises `ConnectError` (nothing was sent), `ReadTimeoutError` or `DisconnectedError`.
        """
        ...


class Clock(Protocol):
    """Time and chance."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        ...

    def chance(self) -> float:
        """Return a random number in [0, 1)."""
        ...
