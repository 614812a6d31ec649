"""Answers without a network, a clock that is set by hand, and a file system that fails on demand."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, TypeAlias

from attrs import define, field

from venice_async.errors import DisconnectedError, VeniceError
from venice_async.io.transport import Content

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    import pytest


Piece: TypeAlias = "bytes | VeniceError | Callable[[], None]"


@define
class HandClock:
    """A clock that moves only when told to."""

    now: float = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def chance(self) -> float:
        return 0.5


@define
class FakeResponse:
    """An answer whose body comes in `pieces`; an exception among them is raised, a function is called."""

    pieces: list[Piece]
    status: int = 200
    headers: Mapping[str, str] = field(factory=dict[str, str])
    closed: bool = False
    request_sent: bool = True

    async def peek(self) -> bytes:
        return next((piece for piece in self.pieces if isinstance(piece, bytes)), b"")

    async def read(self, limit: int) -> Content:
        return Content(b"".join([chunk async for chunk in self.chunks()])[:limit])

    async def chunks(self) -> AsyncGenerator[bytes]:
        try:
            for piece in self.pieces:
                if isinstance(piece, VeniceError):
                    raise piece
                if isinstance(piece, bytes):
                    yield piece
                else:
                    piece()
        finally:
            self.closed = True

    def close(self) -> None:
        self.closed = True


def whole(clip: bytes, *, size: int = 1000, **headers: str) -> FakeResponse:
    """Return a complete answer with its length announced."""
    return FakeResponse(sliced(clip, size), 200, {"content-length": f"{len(clip)}", **named(headers)})


def cut(clip: bytes, at: int, **headers: str) -> FakeResponse:
    """Return an answer whose connection breaks after `at` bytes."""
    pieces = [*sliced(clip[:at], 1000), DisconnectedError("The connection was cut")]
    return FakeResponse(pieces, 200, {"content-length": f"{len(clip)}", **named(headers)})


def silent(body: bytes, **headers: str) -> FakeResponse:
    """Return an answer that ends with its connection, as if all had come."""
    return FakeResponse(sliced(body, 1000), 200, named(headers))


def part(clip: bytes, start: int, **headers: str) -> FakeResponse:
    """Return the answer to a range that runs to the end."""
    known = {
        "content-range": f"bytes {start}-{len(clip) - 1}/{len(clip)}",
        "content-length": f"{len(clip) - start}",
    }
    return FakeResponse(sliced(clip[start:], 1000), 206, known | named(headers))


def sliced(data: bytes, size: int) -> list[Piece]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def fail(
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    code: int = errno.EIO,
    *,
    when: Callable[[Any], bool] = bool,
) -> None:
    """Make `os.function` fail with `code`, whenever `when` says so of its first argument."""
    real = getattr(os, function)

    def failing(*args: Any, **options: Any) -> Any:
        if when(args[0]):
            raise OSError(code, os.strerror(code))
        return real(*args, **options)

    monkeypatch.setattr(os, function, failing)
