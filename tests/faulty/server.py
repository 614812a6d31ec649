"""The server under the lies: it reads HTTP/1.1 honestly and answers as told, byte by byte."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Self

from attrs import evolve, field, frozen

from .replies import PIECE, Reply

if TYPE_CHECKING:
    from types import TracebackType

LARGEST_HEAD = 1 << 20
MOMENT = 0.01
"""Seconds in which a client takes what was sent, before a reset wipes out what it has buffered."""


@frozen(kw_only=True)
class Request:
    """One request, fully received.

    Attributes:
        method: in capitals.
        path: without the query.
        query: behind the question mark.
        headers: names in lower case.
        body: the bytes, unchunked.
        port: of this server, which it came in by.
        connection: how many connections were made before its own.
        number: how many requests came on this connection before it.
        at: seconds on the loop's clock.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str] = field(repr=lambda headers: str(sorted(headers)))
    body: bytes = field(repr=lambda body: f"<{len(body)} bytes>")
    port: int
    connection: int
    number: int
    at: float

    @property
    def json(self) -> Any:
        """The body, as JSON."""
        return json.loads(self.body)


Answer = Reply | Callable[[Request], Reply]
Script = Callable[[Request], Reply] | Iterable[Answer]


class FaultyServer:
    """A server on two loopback ports, which are two origins, that answers from a script.

    The script is asked about each request, or is a list used up in the order of the requests, after which
    each gets a 500. Leaving the block drops all connections; an error in the script is raised then.

    Attributes:
        port: the first port.
        other_port: the second.
        requests: all that were fully received.
        connections: how many were accepted.
        deaf_at: bytes of a request's body after which to reset the connection; None hears everything.
        hangs_up_on_reuse: answer no second request on a connection.
        skew: seconds that the date header is ahead.
    """

    def __init__(self, script: Script = ()) -> None:
        """Keep the script; nothing listens yet."""
        self.requests: list[Request] = []
        self.connections = 0
        self.deaf_at: int | None = None
        self.hangs_up_on_reuse = False
        self.skew = 0.0
        self._script = script if callable(script) else _one_by_one(script)
        self._conversations: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []

    async def __aenter__(self) -> Self:
        """Listen."""
        self._epoch = time.time() - asyncio.get_running_loop().time()
        self._listeners = [
            await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=LARGEST_HEAD) for _ in "12"
        ]
        self.port, self.other_port = (each.sockets[0].getsockname()[1] for each in self._listeners)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening, drop all connections, and raise what went wrong in the script."""
        for listener in self._listeners:
            listener.close()
        for conversation in self._conversations:
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)
        if self._errors and error is None:
            raise self._errors[0]

    @property
    def origin(self) -> str:
        """The first origin, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def other_origin(self) -> str:
        """The second origin."""
        return f"http://127.0.0.1:{self.other_port}"

    def now(self) -> float:
        """Return the server's idea of the Unix time, which moves with the loop's clock."""
        return self._epoch + asyncio.get_running_loop().time() + self.skew

    def answer(self, request: Request) -> Reply:
        """Decide on the reply."""
        return self._script(request)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.create_task(self._converse(reader, writer, self.connections))
        self.connections += 1
        self._conversations.add(conversation)
        conversation.add_done_callback(self._conversations.discard)

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        writer.transport.set_write_buffer_limits(0)
        try:
            number = 0
            while await self._exchange(reader, writer, connection, number):
                number += 1
        except (OSError, EOFError):
            pass  # the client hung up
        except Exception as error:  # noqa: BLE001 - raised where the test can see it
            self._errors.append(error)
        finally:
            writer.transport.abort()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int, number: int
    ) -> bool:
        """Hear one request and answer it; tell whether the connection goes on."""
        request = await self._hear(reader, writer, connection, number)
        if request is None:
            return await _hang_up(writer, reset=True)
        self.requests.append(request)
        if number and self.hangs_up_on_reuse:
            return await _hang_up(writer, reset=False)
        reply = self.answer(request)
        await self._send(reply, writer)
        return await _hang_up(writer, reset=reply.reset) if reply.hangs_up else True

    async def _hear(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int, number: int
    ) -> Request | None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])
        }
        if self.deaf_at is not None and int(headers.get("content-length", self.deaf_at + 1)) > self.deaf_at:
            await reader.readexactly(self.deaf_at)
            return None
        method, target, _ = head[0].split(" ")
        path, _, query = target.partition("?")
        return Request(
            method=method,
            path=path,
            query=query,
            headers=headers,
            body=await _body(reader, headers),
            port=writer.get_extra_info("sockname")[1],
            connection=connection,
            number=number,
            at=asyncio.get_running_loop().time(),
        )

    async def _send(self, reply: Reply, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(reply.delay)
        writer.write(reply.head(formatdate(self.now(), usegmt=True))[: reply.cut_head_at])
        await writer.drain()
        if reply.cut_head_at is None:
            await _send_body(reply, writer)


async def _send_body(reply: Reply, writer: asyncio.StreamWriter) -> None:
    if reply.endless and not reply.drip:
        reply = evolve(reply, body=reply.body * (PIECE // len(reply.body) + 1))
    while True:
        for wait, piece in reply.pieces():
            await asyncio.sleep(wait)
            writer.write(_chunk(piece) if reply.in_chunks and piece else piece)
            await writer.drain()
        if not reply.endless:
            break
    if reply.in_chunks and not (reply.unterminated or reply.cut_at is not None):
        writer.write(_chunk(b""))
        await writer.drain()


async def _hang_up(writer: asyncio.StreamWriter, *, reset: bool) -> bool:
    if reset:
        await asyncio.sleep(MOMENT)
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = bytearray()
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return bytes(body)


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _one_by_one(answers: Iterable[Answer]) -> Callable[[Request], Reply]:
    left = iter(answers)

    def answer(request: Request) -> Reply:
        found = next(left, Reply(status=500))
        return found(request) if callable(found) else found

    return answer
