"""Reads requests, and sends answers, whole or as a fault has them."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from typing import Any, Literal, NoReturn, cast

import anyio
from aiohttp import web

from .records import RecordedRequest
from .replies import Reply
from .scenarios import Fault

LARGEST_BODY = 35 * 1024 * 1024
"""Bytes that a request's body may have; 35 MB by the vendor's documents."""

_PIECE = 256 * 1024
_MOMENT = 0.01  # seconds in which a client takes what was sent, before a reset wipes it out
_NONE = Fault(on="video")
_AS_IT_IS = Fault(on="video", raw=lambda answer: answer)
"""aiohttp names a type where none is to be named."""
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for no time at all: closing sends RST


async def read_request(
    request: web.BaseRequest,
    *,
    origin: Literal["api", "link"],
    path: str,
    point: str,
    now: Callable[[], float],
) -> tuple[RecordedRequest, bool]:
    """Read a request; return it and whether its body is too large: that is read to its end and dropped."""
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size <= LARGEST_BODY:
            parts.append(part)
    too_large = size > LARGEST_BODY
    body = b"" if too_large else b"".join(parts)
    try:
        parsed: object = json.loads(body) if body else None
    except (ValueError, RecursionError):
        parsed = None
    headers = {name.lower(): value for name, value in request.headers.items()}
    if "authorization" in headers:
        headers["authorization"] = "(not kept)"
    peer = request.get_extra_info("peername")
    record = RecordedRequest(
        method=request.method,
        path=path,
        point=point,
        json=cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else None,
        headers=headers,
        query=dict(request.query) if origin == "api" else {},
        body=body,
        target=request.raw_path,
        connection=peer[1] if peer else 0,
        at=now(),
        origin=origin,
    )
    return record, too_large


async def send(
    request: web.BaseRequest, reply: Reply, fault: Fault | None, *, date: str
) -> web.StreamResponse:
    """Send one answer and return it; with a fault that ends the connection, never return."""
    headers = {"Date": date, **reply.headers}
    if fault is None and reply.body and "Content-Type" not in headers:
        fault = _AS_IT_IS
    if fault is None:
        if len(reply.body) <= _PIECE:
            return web.Response(status=reply.status, body=bytes(reply.body), headers=headers)
        fault = _NONE
    await anyio.sleep(fault.delay)
    if fault.silent:
        await anyio.sleep(fault.hang or 0)
        await _end(request, fault)
    if fault.raw is not None:
        await _send_raw(request, reply, headers, fault)
    response = web.StreamResponse(status=reply.status, headers=headers)
    named = any(name.lower() == "content-length" for name in fault.headers)
    if not named and reply.status != 204:  # noqa: PLR2004 - No Content
        response.content_length = len(reply.body)
    await response.prepare(request)
    rate, view = fault.bytes_per_second, memoryview(reply.body)[: fault.stop_at]
    piece = min(rate or _PIECE, _PIECE)
    for start in range(0, len(view), piece):
        await response.write(view[start : start + piece])
        if rate is not None:
            await anyio.sleep(piece / rate)
    if fault.stop_at is not None:
        await _end(request, fault)
    await response.write_eof()
    return response


async def _send_raw(
    request: web.BaseRequest, honest: Reply, headers: Mapping[str, str], fault: Fault
) -> NoReturn:
    """Write to the connection itself what a fault makes of an answer, and end it."""
    raw: bytes | AsyncIterable[bytes] | None
    if callable(fault.raw):
        named = {"Content-Length": str(len(honest.body)), **headers}
        lines = [f"HTTP/1.1 {honest.status} Sandbox", *(f"{name}: {value}" for name, value in named.items())]
        raw = fault.raw("\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + bytes(honest.body))
    else:
        raw = fault.raw
    left = fault.stop_at
    if isinstance(raw, AsyncIterable):
        try:
            async for piece in raw:
                await request.writer.write(piece[:left])
                left = None if left is None else left - min(left, len(piece))
                if left == 0:
                    break
        finally:
            if isinstance(raw, AsyncGenerator):
                await cast("AsyncGenerator[bytes]", raw).aclose()
    else:
        await request.writer.write((raw or b"")[:left])
    await _end(request, fault)


async def _end(request: web.BaseRequest, fault: Fault) -> NoReturn:
    """Close, reset or leave the connection, and wait for its loss to cancel the handler this runs in."""
    transport = request.transport
    if transport is not None and fault.reset_at is not None:
        await anyio.sleep(_MOMENT)
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    elif transport is not None and fault.stall_at is None:
        transport.close()
    while True:
        await anyio.sleep_forever()
