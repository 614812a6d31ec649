"""Which fault strikes next, and what it makes of an answer."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter

from attrs import define, field

from .records import RecordedRequest
from .replies import Reply
from .scenarios import Coding, Fault, Faults

_JSON = "application/json; charset=utf-8"


@define(eq=False)
class FaultPlan:
    """The faults declared, in order; more may be added at any time."""

    faults: list[Faults]
    _met: Counter[int] = field(factory=Counter[int], init=False)  # how many requests each was for

    def next(self, request: RecordedRequest, model: object) -> Fault | None:
        """Return the fault that strikes a request for a model."""
        points = {request.point, "retrieve"} if request.point == "video" else {request.point}
        for number, fault in enumerate(self.faults):
            if not isinstance(fault, Fault):
                if (found := fault(request)) is not None:
                    return found
            elif fault.on in points and fault.model in {None, "", model}:
                if fault.times is not None and self._met[number] >= fault.skip + fault.times:
                    continue
                self._met[number] += 1
                if self._met[number] > fault.skip:
                    return fault
        return None


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
    blocks = [body[at : at + _BLOCK] for at in range(0, len(body), _BLOCK)]
    match coding:
        case "gzip" | "x-gzip":
            return gzip.compress(body)
        case "deflate":
            return zlib.compress(body)
        case "br":  # RFC 7932, 9.2: a window of 64 KiB, uncompressed meta-blocks, an empty last one
            bits = [(len(block) - 1) << 3 | 1 << 19 for block in blocks]
            heads = [(bit << (number == 0)).to_bytes(3, "little") for number, bit in enumerate(bits)]
            begin, end = b"", b"\x03" if blocks else b"\x06"
        case "zstd":  # RFC 8878, 3.1.1: a frame of raw blocks that says its size
            blocks = blocks or [b""]
            bits = [len(block) << 3 | (number == len(blocks)) for number, block in enumerate(blocks, 1)]
            heads = [bit.to_bytes(3, "little") for bit in bits]
            begin, end = b"\x28\xb5\x2f\xfd\xa0" + len(body).to_bytes(4, "little"), b""
    return begin + b"".join(head + block for head, block in zip(heads, blocks, strict=True)) + end


_BLOCK = 1 << 16  # bytes
