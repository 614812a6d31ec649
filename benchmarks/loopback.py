"""A small, quick Venice on loopback, to be run in a process of its own: `common.serving` starts it.

It answers any number of jobs, known or not, checks no request and renders nothing: the clip is the same for
all. `public` models give it inline, `private` ones by link. Limits are counted by `strict_server`, in fixed
windows that begin at the start or at `POST /bench/reset`, which tells what was asked for until then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import signal
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

from attrs import asdict, define, field, frozen

from .strict_server import BLOCK, EPOCH, FAILURE_PERIOD, FAILURES, PERIOD, Counter

MIB = 1 << 20
OK, REFUSED = 200, 429


@frozen(kw_only=True)
class Options:
    """What the server is like.

    Attributes:
        seconds: that each job takes, from its queueing, or from the last reset if it was queued elsewhere.
        p80: seconds that the server says its jobs take; as long as they do by default.
        retrieve_limit: polls in a window; none by default.
        queue_limit: paid requests in a window; none by default.
        clip_bytes: size of the clip.
    """

    seconds: float = 0.0
    p80: float | None = None
    retrieve_limit: int | None = None
    queue_limit: int | None = None
    clip_bytes: int = 64 * 1024


@define
class Counts:
    """What was asked for since the last reset.

    Attributes:
        queued: jobs, all of them charged.
        polls: requests to retrieve, refused ones included.
        completed: clips that were deleted at the client's wish.
        delivered: clips that were sent.
        requests: all requests.
        refused: those answered by 429.
        blocks: how often the key was blocked.
    """

    queued: int = 0
    polls: int = 0
    completed: int = 0
    delivered: int = 0
    requests: int = 0
    refused: int = 0
    blocks: int = 0


@frozen
class Reply:
    """One answer; a file instead of a body is sent from the page cache."""

    status: int = OK
    body: bytes = b"{}"
    headers: dict[str, str] = field(factory=dict[str, str])
    kind: str = "application/json"
    file: Path | None = None


class Key:
    """What one key may still do: two limits, and a block for who does not heed them."""

    def __init__(self, options: Options) -> None:
        """Begin the windows now."""
        phase = PERIOD - clock() % PERIOD
        limits = {"queue": options.queue_limit, "retrieve": options.retrieve_limit}
        self.counters = {
            name: Counter(limit=limit, phase=phase) for name, limit in limits.items() if limit is not None
        }
        self._failed = deque[float]()
        self._blocked_until = -math.inf

    def take(self, name: str, counts: Counts) -> Reply | dict[str, str]:
        """Return the answer that refuses a request, or the headers for the one that does not."""
        now = clock()
        if now < self._blocked_until:
            reset = str(math.ceil((EPOCH + self._blocked_until) * 1000))
            return _refusal(counts, "Too many failed attempts", {"x-ratelimit-resets": reset})
        if name not in self.counters:
            return {}
        allowed, headers = self.counters[name].take(now)
        if allowed:
            return headers
        self._failed.append(now)
        while self._failed[0] <= now - FAILURE_PERIOD:
            self._failed.popleft()
        if len(self._failed) > FAILURES:
            self._blocked_until, counts.blocks = now + BLOCK, counts.blocks + 1
            self._failed.clear()
        return _refusal(counts, "Rate limit exceeded", headers)


class Venice:
    """All of the server but its sockets."""

    def __init__(self, options: Options, clip: Path) -> None:
        """Serve `clip`."""
        self.options = options
        self._clip = clip
        self._body = clip.read_bytes() if options.clip_bytes <= MIB else None
        self.reset()

    def reset(self) -> None:
        """Forget everything, and begin new windows."""
        self.counts = Counts()
        self._key = Key(self.options)
        self._started = time.monotonic()
        self._queued_at: dict[str, float] = {}

    def answer(self, method: str, target: str, origin: str, body: bytes) -> Reply:
        """Answer one request."""
        if target == "/bench/reset":
            counts = json.dumps(asdict(self.counts)).encode()
            self.reset()
            return Reply(body=counts)
        self.counts.requests += 1
        if target.startswith("/link/"):
            return self._video() if method == "GET" else Reply(204, b"")
        name = target.partition("?")[0].rpartition("/")[2]
        self.counts.polls += name == "retrieve"
        taken = self._key.take(name, self.counts)
        return (
            taken if isinstance(taken, Reply) else self._call(name, json.loads(body or "{}"), taken, origin)
        )

    def _call(self, name: str, said: dict[str, Any], taken: dict[str, str], origin: str) -> Reply:
        match name:
            case "queue":
                return _json(self._queue(said, origin), taken)
            case "retrieve":
                return self._retrieve(said, taken)
            case "complete":
                self.counts.completed += 1
                return _json({"success": True}, taken)
            case _:
                return _json({"object": "list", "type": "video", "data": []}, taken)

    def _queue(self, said: dict[str, Any], origin: str) -> dict[str, Any]:
        self.counts.queued += 1
        name = f"job-{self.counts.queued}"
        self._queued_at[name] = time.monotonic()
        link = {"download_url": f"{origin}/link/{name}"} if said["model"].startswith("private") else {}
        return {"model": said["model"], "queue_id": name, **link}

    def _retrieve(self, said: dict[str, Any], headers: dict[str, str]) -> Reply:
        age = time.monotonic() - self._queued_at.get(said["queue_id"], self._started)
        done = age >= self.options.seconds
        if done and not said["model"].startswith("private"):
            return self._video(headers)
        p80 = self.options.seconds if self.options.p80 is None else self.options.p80
        times = {"average_execution_time": p80 * 1000, "execution_duration": age * 1000}
        return _json({"status": "COMPLETED" if done else "PROCESSING", **times}, headers)

    def _video(self, headers: dict[str, str] | None = None) -> Reply:
        self.counts.delivered += 1
        if self._body is None:
            return Reply(kind="video/mp4", headers=headers or {}, file=self._clip)
        return Reply(kind="video/mp4", headers=headers or {}, body=self._body)


class Connection(asyncio.Protocol):
    """HTTP/1.1 as far as it is needed here: one request after the other, with a `Content-Length` if any."""

    def __init__(self, venice: Venice) -> None:
        """Speak for `venice`."""
        self._venice = venice
        self._buffer = b""
        self._transport: Any = None
        self._sending: asyncio.Task[Any] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where to write."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request as soon as it is whole."""
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        length = int(headers.get("content-length", 0))
        if not found or len(rest) < length:
            return
        self._buffer = rest[length:]
        method, target, _ = lines[0].split(" ")
        reply = self._venice.answer(method, target, f"http://{headers['host']}", rest[:length])
        self._send(reply, last=headers.get("connection", "").lower() == "close")

    def _send(self, reply: Reply, *, last: bool) -> None:
        size = reply.file.stat().st_size if reply.file is not None else len(reply.body)
        head = {
            "content-type": reply.kind,
            "content-length": str(size),
            "connection": "close" if last else "keep-alive",
            **reply.headers,
        }
        lines = [f"HTTP/1.1 {reply.status} OK", *(f"{name}: {value}" for name, value in head.items()), "", ""]
        self._transport.write("\r\n".join(lines).encode() + (b"" if reply.file is not None else reply.body))
        if reply.file is not None:
            self._sending = asyncio.ensure_future(self._send_file(reply.file))
        elif last:
            self._transport.close()

    async def _send_file(self, path: Path) -> None:
        with path.open("rb") as file:
            try:
                await asyncio.get_running_loop().sendfile(self._transport, file)
            except OSError:
                self._transport.close()


def clock() -> float:
    """Return the time as `strict_server` counts it."""
    return time.time() - EPOCH


def _refusal(counts: Counts, message: str, headers: dict[str, str]) -> Reply:
    counts.refused += 1
    return Reply(REFUSED, json.dumps({"error": message}).encode(), headers)


def _json(value: dict[str, Any], headers: dict[str, str]) -> Reply:
    return Reply(body=json.dumps(value).encode(), headers=headers)


def clip_start(size: int) -> bytes:
    """Return what stands before the media in an MP4 of `size` bytes: the least that a player opens."""
    track = _box(b"tkhd", bytes(84)) + _box(b"mdia", _box(b"minf", b""))
    index = _box(b"moov", _box(b"mvhd", bytes(100)) + _box(b"trak", track))
    start = _box(b"ftyp", b"isom\0\0\0\0") + index + (1).to_bytes(4, "big") + b"mdat"
    return start + (size - len(start) + 8).to_bytes(8, "big")


def _box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def write_clip(path: Path, size: int) -> None:
    """Write an MP4 of `size` bytes: whole in its boxes, and nothing to look at."""
    start = clip_start(size)
    block = bytes(range(256)) * (MIB // 256)
    with path.open("wb") as file:
        file.write(start)
        for left in range(size - len(start), 0, -MIB):
            file.write(block[:left])


async def serve(options: Options, clip: Path) -> None:
    """Serve until killed; tell the port on standard output."""
    venice = Venice(options, clip)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(venice), "127.0.0.1", 0, backlog=8192)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def leave(*_: object) -> None:
    """Stop by way of the clean-up."""
    sys.exit()


def main() -> None:
    """Read the options, as JSON, from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("options", type=json.loads)
    options = Options(**parser.parse_args().options)
    signal.signal(signal.SIGTERM, leave)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, options.clip_bytes)
        asyncio.run(serve(options, clip))


if __name__ == "__main__":
    main()
