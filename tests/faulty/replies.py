"""What to answer, and how to spoil it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, TypedDict, Unpack

from attrs import evolve, field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .server import Request

PIECE = 65_536
LONG = 3_600.0
"""Seconds no client should wait."""

UNDECIDED = frozenset({500, 502, 504})
"""Errors after which a paid request may have been accepted; here it always was."""

BODILESS = frozenset({204, 304})


@frozen(kw_only=True)
class Reply:
    """One answer; every default is honest.

    Attributes:
        status: the HTTP status.
        headers: replace the usual ones, content-length (or transfer-encoding) and date; None leaves one out.
            Without a content-length the end of the connection ends the body.
        body: the body as sent, whatever is claimed about it.
        length: the content-length claimed; None is the true one.
        chunked: send it in chunks.
        unterminated: leave out the chunk that ends a chunked body, and hang up.
        endless: send the body over and over, in chunks, until the client hangs up.
        delay: seconds before the first byte of the head.
        cut_head_at: bytes of the head after which to hang up; 0 answers nothing.
        cut_at: bytes of the body after which to hang up.
        reset: hang up by RST instead of FIN.
        pause_at: bytes of the body after which to stall for `pause` seconds; 0 stalls after the head.
        pause: see there.
        drip: seconds before each `drip_size` bytes of the body.
        drip_size: see there.
        close: hang up afterwards, unannounced.
        charged: whether a paid request so answered was accepted; None: if it succeeded or nobody can know.
    """

    status: int = 200
    headers: Mapping[str, str | None] = field(factory=dict[str, "str | None"])
    body: bytes = field(default=b"", repr=lambda body: f"<{len(body)} bytes>")
    length: int | None = None
    chunked: bool = False
    unterminated: bool = False
    endless: bool = False
    delay: float = 0.0
    cut_head_at: int | None = None
    cut_at: int | None = None
    reset: bool = False
    pause_at: int | None = None
    pause: float = LONG
    drip: float = 0.0
    drip_size: int = 1
    close: bool = False
    charged: bool | None = None

    @property
    def accepted(self) -> bool:
        """Whether a paid request so answered was charged."""
        return (self.status < 400 or self.status in UNDECIDED) if self.charged is None else self.charged

    @property
    def in_chunks(self) -> bool:
        """Whether the body goes out in chunks."""
        return self.chunked or self.unterminated or self.endless

    @property
    def hangs_up(self) -> bool:
        """Whether the connection ends with this reply, planned or not."""
        cut = self.cut_head_at is not None or self.cut_at is not None or self.unterminated
        short = self.length is not None and self.length > len(self.body)
        return self.close or self.reset or cut or short or not self._delimited

    @property
    def _delimited(self) -> bool:
        stated = self.headers.get("content-length", "") is not None
        return self.in_chunks or self.status in BODILESS or stated

    def head(self, date: str) -> bytes:
        """Return the status line and the headers, as on the wire."""
        usual: dict[str, str | None] = {"date": date}
        if self.in_chunks:
            usual["transfer-encoding"] = "chunked"
        elif self.status not in BODILESS:
            usual["content-length"] = str(len(self.body) if self.length is None else self.length)
        lines = [
            f"{name}: {value}" for name, value in (usual | dict(self.headers)).items() if value is not None
        ]
        return "\r\n".join([f"HTTP/1.1 {self.status} Faulty", *lines, "", ""]).encode()

    def pieces(self) -> Iterator[tuple[float, bytes]]:
        """Yield the seconds to wait and the bytes of the body to send then."""
        end = len(self.body) if self.cut_at is None else min(self.cut_at, len(self.body))
        starts = set(range(0, end, self.drip_size if self.drip else PIECE))
        stall = None if self.pause_at is None else min(self.pause_at, end)
        if stall is not None:
            starts.add(stall)
        for start, stop in pairwise([*sorted(starts), end]):
            yield self.drip + (self.pause if start == stall else 0.0), self.body[start:stop]


class Changes(TypedDict, total=False):
    """The fields of a `Reply` that the functions below pass on."""

    status: int
    headers: Mapping[str, str | None]
    length: int | None
    chunked: bool
    unterminated: bool
    endless: bool
    delay: float
    cut_head_at: int | None
    cut_at: int | None
    reset: bool
    pause_at: int | None
    pause: float
    drip: float
    drip_size: int
    close: bool
    charged: bool | None


def json_reply(value: object, **changes: Unpack[Changes]) -> Reply:
    """Answer with JSON."""
    return _reply("application/json", json.dumps(value).encode(), changes)


def video_reply(data: bytes, **changes: Unpack[Changes]) -> Reply:
    """Answer with a whole clip."""
    return _reply("video/mp4", data, changes)


def html_reply(**changes: Unpack[Changes]) -> Reply:
    """Answer with a page, as an edge or a captive portal does."""
    return _reply("text/html", b"<!doctype html><title>Please wait</title>", changes)


def partial_reply(
    data: bytes,
    start: int,
    *,
    stated_start: int | None = None,
    stated_total: int | None = None,
    **changes: Unpack[Changes],
) -> Reply:
    """Answer a range with the bytes from `start` on; what is stated about them may be wrong."""
    first = start if stated_start is None else stated_start
    total = len(data) if stated_total is None else stated_total
    stated = f"bytes {first}-{first + len(data) - start - 1}/{total}"
    return video_reply(data[start:], **_with(changes, 206, {"content-range": stated}))


def unsatisfiable(size: int, **changes: Unpack[Changes]) -> Reply:
    """Answer a range that starts behind the end of a file of `size` bytes."""
    return Reply(**_with(changes, 416, {"content-range": f"bytes */{size}"}))


def ranged_reply(request: Request, data: bytes, *, etag: str = '"1"', **changes: Unpack[Changes]) -> Reply:
    """Answer as an honest file server does: whole, or the range asked for if the file is the same."""
    changes = _with(changes, 200, {"etag": etag, "accept-ranges": "bytes"})
    asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
    if not asked or request.headers.get("if-range", etag) != etag or etag.startswith("W/"):
        return video_reply(data, **changes)
    start, changes["status"] = int(asked[1]), 206
    return partial_reply(data, start, **changes) if start < len(data) else unsatisfiable(len(data))


def redirect(location: str, **changes: Unpack[Changes]) -> Reply:
    """Answer with another address; 302 unless told otherwise."""
    return Reply(**_with(changes, 302, {"location": location}))


def rate_limited(
    until: object = None, *, retry_after: str | None = None, **changes: Unpack[Changes]
) -> Reply:
    """Refuse for the rate; `until` is the reset header's text, a timestamp or nonsense."""
    headers: dict[str, str | None] = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": None if until is None else str(until),
        "retry-after": retry_after,
    }
    return json_reply({"error": "Rate limit exceeded"}, **_with(changes, 429, headers))


def abuse_block(until: object = None, **changes: Unpack[Changes]) -> Reply:
    """Refuse a key that failed too often."""
    headers = {"x-ratelimit-resets": None if until is None else str(until)}
    return json_reply({"error": "Too many failed attempts"}, **_with(changes, 429, headers))


def no_capacity(code: str = "MODEL_AT_CAPACITY", **changes: Unpack[Changes]) -> Reply:
    """Refuse for want of capacity, in the one way that says a paid request was not accepted."""
    return json_reply({"error": "The model is at capacity", "code": code}, **_with(changes, 503, {}))


def gzipped(reply: Reply) -> Reply:
    """Compress an answer, whether or not the client accepts that."""
    headers = {**reply.headers, "content-encoding": "gzip"}
    return evolve(reply, headers=headers, body=gzip.compress(reply.body, mtime=0))


def _reply(kind: str, body: bytes, changes: Changes) -> Reply:
    return Reply(body=body, **_with(changes, 200, {"content-type": kind}))


def _with(changes: Changes, status: int, headers: Mapping[str, str | None]) -> Changes:
    """Return the changes over a status and headers of their own."""
    merged: Changes = {"status": status, **changes}
    merged["headers"] = {**headers, **changes.get("headers", {})}
    return merged
