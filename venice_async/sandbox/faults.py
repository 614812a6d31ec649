"""Which fault strikes next, and what it makes of an answer."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection, Iterable

from attrs import define, field

from .records import RecordedRequest
from .replies import Reply
from .scenarios import Coding, Fault, Faults, Point

_JSON = "application/json; charset=utf-8"


@define(eq=False)
class _Planned:
    fault: Faults
    passed: int = 0
    struck: int = 0

    def strikes(self, request: RecordedRequest, points: Collection[Point], model: str | None) -> Fault | None:
        """Return the fault if it strikes this request, which is counted."""
        fault = self.fault
        if not isinstance(fault, Fault):
            return fault(request)
        if fault.on not in points or (fault.model or model) != model or self.struck == fault.times:
            return None
        if self.passed < fault.skip:
            self.passed += 1
            return None
        self.struck += 1
        return fault


@define(eq=False)
class FaultPlan:
    """The faults declared, in order, and how far each has come."""

    _planned: list[_Planned] = field(factory=list[_Planned], init=False)

    def add(self, faults: Iterable[Faults]) -> None:
        """Queue more faults behind those declared before."""
        self._planned.extend(_Planned(fault) for fault in faults)

    def next(self, request: RecordedRequest, points: Collection[Point], model: str | None) -> Fault | None:
        """Return the fault that strikes a request at any of `points`."""
        struck = (planned.strikes(request, points, model) for planned in self._planned)
        return next((fault for fault in struck if fault is not None), None)


def with_fault(fault: Fault, true: Reply) -> Reply:
    """Return what is answered in place of the `true` answer."""
    status = true.status if fault.status is None else fault.status
    headers, body = dict(true.headers), true.body
    if fault.status is not None or fault.body is not None:
        said: object = {"error": f"Injected by the sandbox: {status}"} if fault.body is None else fault.body
        if isinstance(said, bytes):
            body, kind = said, headers.get("Content-Type") or "application/octet-stream"
        elif isinstance(said, str):
            body, kind = said.encode(), "text/html; charset=utf-8"
        else:
            body, kind = json.dumps(said).encode(), _JSON
        headers["Content-Type"] = kind
    for name, value in fault.headers.items():
        headers = {key: kept for key, kept in headers.items() if key.lower() != name.lower()}
        headers |= {} if value is None else {name: value}
    if fault.coding is not None:
        body, headers["Content-Encoding"] = encode(bytes(body), fault.coding), fault.coding
    return Reply(status=status, body=body, headers=headers)


def encode(body: bytes, coding: Coding) -> bytes:
    """Return a body in a content coding; Brotli and Zstandard in blocks that are stored, not compressed."""
    match coding:
        case "gzip" | "x-gzip":
            return gzip.compress(body)
        case "deflate":
            return zlib.compress(body)
        case "br":  # RFC 7932, 9.2: a window of 64 KiB, uncompressed meta-blocks, an empty last one
            blocks = [body[at : at + _BLOCK] for at in range(0, len(body), _BLOCK)]
            bits = [(len(block) - 1) << 3 | 1 << 19 for block in blocks]
            heads = [(bit << (number == 0)).to_bytes(3, "little") for number, bit in enumerate(bits)]
            end = b"\x03" if blocks else b"\x06"
            return b"".join(head + block for head, block in zip(heads, blocks, strict=True)) + end
        case "zstd":  # RFC 8878, 3.1.1: a frame of raw blocks that says its size
            starts = range(0, len(body), _BLOCK) or (0,)
            heads = [
                (len(body[at : at + _BLOCK]) << 3 | (at + _BLOCK >= len(body))).to_bytes(3, "little")
                for at in starts
            ]
            frame = b"\x28\xb5\x2f\xfd\xa0" + len(body).to_bytes(4, "little")
            return frame + b"".join(
                head + body[at : at + _BLOCK] for head, at in zip(heads, starts, strict=True)
            )


_BLOCK = 1 << 16  # bytes
