"""Where verified bytes go: the Protocol, and the sinks that are not a file on disk.

A sink only keeps bytes. That they are a whole clip is the business of `Delivery`, which fills it.
"""

from __future__ import annotations

import inspect
import io
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

from ...errors import DownloadError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from pathlib import Path

_AHEAD: Final = 4  # chunks that a reader may lag behind
_PATIENCE: Final = 60.0  # seconds to wait for somebody who begins to read; reading itself may take its time


class Sink(Protocol):
    """Takes the bytes of one clip: `open`, `write` any number of times, then `commit` or `abort`.

    A method that fails raises `DownloadError`, and only `abort` may follow. `abort` may follow anything, any
    number of times, and after a `commit` that succeeded it does nothing.
    """

    @property
    def restartable(self) -> bool:
        """Whether what was written can be taken back."""
        ...

    @property
    def batch(self) -> int:
        """The preferred number of bytes in one `write`."""
        ...

    async def open(self) -> None:
        """Get ready; the first bytes are known to be a video's."""
        ...

    async def write(self, chunks: Sequence[bytes]) -> None:
        """Keep the chunks, in order."""
        ...

    async def restart(self) -> None:
        """Forget everything written; only if `restartable`."""
        ...

    async def commit(self) -> Path | str | None:
        """Make what was written final, and return the file or the URL where it is now, if it is kept."""
        ...

    async def abort(self) -> None:
        """Remove what was written."""
        ...


class MemorySink:
    """Keeps a clip in memory.

    Attributes:
        data: the whole clip once it is verified, until then empty.
    """

    restartable: bool = True
    batch: int = 1 << 20

    def __init__(self) -> None:
        self.data: bytes = b""
        self._pieces: list[bytes] = []

    async def open(self) -> None:
        """Do nothing: memory is ready."""

    async def write(self, chunks: Sequence[bytes]) -> None:
        """Keep the chunks."""
        self._pieces += chunks

    async def restart(self) -> None:
        """Drop the chunks."""
        self._pieces.clear()

    async def commit(self) -> None:
        """Make the clip available as `data`."""
        self.data = b"".join(self._pieces)
        self._pieces.clear()

    async def abort(self) -> None:
        """Drop the chunks."""
        self._pieces.clear()


class _Stream:
    """A sink that hands each chunk on at once, and cannot take it back."""

    restartable: bool = False
    batch: int = 1

    def __init__(self) -> None:
        self._handed_on: int = 0

    async def open(self) -> None:
        """Do nothing: whoever takes the chunks is ready."""

    async def restart(self) -> None:
        """Refuse."""
        msg = f"{self._handed_on} bytes were handed on and cannot be taken back"
        raise DownloadError(msg)

    async def commit(self) -> None:
        """Do nothing: everything was handed on."""

    async def abort(self) -> None:
        """Do nothing: there is nothing to take back."""


class Writer(Protocol):
    """An open file or response of an asyncio library: a `write` to await."""

    def write(self, data: bytes, /) -> Awaitable[object]:
        """Write `data`."""
        ...


class Sender(Protocol):
    """An open stream of an asyncio library: a `send` to await."""

    def send(self, item: bytes, /) -> Awaitable[object]:
        """Send `item`."""
        ...


class WriterSink(_Stream):
    """Passes a clip on, chunk by chunk, to any object with an async `write` or `send`.

    That is anything with `send(bytes)` or `write(bytes)` to await, such as an `anyio` stream, an `anyio` file
    or an `aiohttp.web.StreamResponse`; or an `asyncio.StreamWriter`, which is drained. The caller opened it
    and closes it. It cannot give back what it took: if the delivery fails, the error says how much that was.
    """

    def __init__(self, writer: object) -> None:
        """Pass chunks to `writer`.

        Raises:
            UsageError: it cannot be written to asynchronously.
        """
        super().__init__()
        method: Any = getattr(writer, "send", None) or getattr(writer, "write", None)
        if method is None or isinstance(writer, io.IOBase):
            msg = f"A {type(writer).__name__} cannot be written to asynchronously"
            hint = "Pass a path, or something with an async write() or send(), such as a file of anyio"
            raise UsageError(msg, hint=hint)
        self._write = method
        self._drain: Callable[[], Awaitable[None]] | None = getattr(writer, "drain", None)

    async def write(self, chunks: Sequence[bytes]) -> None:
        """Pass the chunks on, and wait until the writer has taken them."""
        for chunk in chunks:
            try:
                taken = self._write(chunk)
                if inspect.isawaitable(taken):
                    await taken
                if self._drain is not None:
                    await self._drain()
            except Exception as error:
                msg = f"The writer refused the clip after {self._handed_on} bytes: {type(error).__name__}"
                raise DownloadError(msg) from error
            self._handed_on += len(chunk)


class QueueSink(_Stream):
    """Passes a clip to one reader, chunk by chunk: `async for chunk in sink`.

    The reader ends with the delivery, whole or not: ask the job which. A slow reader slows the delivery down;
    one that stops early calls `aclose`, which makes the delivery fail, as does nobody reading at all.

    Attributes:
        begun: whether somebody reads, or did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begun: bool = False
        self._chunks: deque[bytes] = deque()
        self._changed = anyio.Event()
        self._idle = False  # whether the reader is done with its last chunk, and waits for another
        self._ended = False
        self._left = False

    async def write(self, chunks: Sequence[bytes]) -> None:
        """Pass the chunks on as the reader has room."""
        for chunk in chunks:
            while len(self._chunks) >= _AHEAD or self._left:
                await self._reader_moves()
            self._chunks.append(chunk)
            self._handed_on += len(chunk)
            self._notify()

    async def commit(self) -> None:
        """Wait until the reader is done with the last chunk, before Venice's copy is deleted; let it end."""
        while self._chunks or not self._idle:
            await self._reader_moves()
        await self.abort()

    async def abort(self) -> None:
        """Let the reader end."""
        self._ended = True
        self._notify()

    async def aclose(self) -> None:
        """Stop reading."""
        self._left = True
        self._chunks.clear()
        self._notify()

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        """Yield the chunks as they come, until the delivery ends."""
        self.begun = True
        while self._chunks or not self._ended:
            self._idle = not self._chunks
            self._notify()
            if self._idle:
                await self._changed.wait()
            else:
                yield self._chunks.popleft()

    async def _reader_moves(self) -> None:
        """Wait until the reader takes or awaits a chunk.

        Raises:
            DownloadError: it has stopped, or nobody has begun to read in time.
        """
        if self._left:
            msg = f"The reader stopped after {self._handed_on} bytes"
            raise DownloadError(msg)
        with anyio.move_on_after(None if self.begun else _PATIENCE):
            await self._changed.wait()
            return
        msg = f"The clip had no destination, and nobody began to read it within {_PATIENCE:.0f} s"
        raise DownloadError(msg)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
