"""What does a large clip cost? Memory, the event loop's patience, and time, beside bare aiohttp.

    python -m benchmarks.memory                  1 GiB inline and by link
    python -m benchmarks.memory --quick          64 MiB
    python -m benchmarks.memory --mib 256 --folder /mnt/disk

A server in another process delivers one clip; the client is the real one. Traced memory is the peak of what
Python allocates above the level before the download, in a run of its own, for tracing is slow. RSS and lag
come from another task, which asks to be woken every millisecond. Bare aiohttp writes what it reads to a file:
no digest, no check, nothing brought to stable storage. Prints a Markdown table.
"""

# ruff: noqa: ASYNC240 - nothing else waits for this loop

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import anyio
from attrs import define, field

from venice_async import VeniceClient, VideoRequest

from .common import MIB, TOP
from .loopback import clip_start

PAGE = os.sysconf("SC_PAGE_SIZE")
SMALL = 4 * MIB
"""Bytes of a first clip, after which everything is imported and every pool is warm."""


async def serve() -> None:
    """Deliver clips: the model's id, "public-SIZE" or "private-SIZE", says how and how large."""
    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                (int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length")),
                0,
            )
            body = json.loads(await reader.readexactly(length) or "{}")
            await answer(head.split("\r\n")[0], body, writer)
    except (EOFError, OSError):
        writer.close()


async def answer(line: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    """Answer one request."""
    method, path, _ = line.split(" ")
    model = body.get("model", "")
    if method == "GET" or (path.endswith("retrieve") and model.startswith("public")):
        await send_clip(int((model or path).rpartition("-")[2]), writer)
        return
    origin = f"http://127.0.0.1:{writer.get_extra_info('sockname')[1]}"
    reply = {"model": model, "queue_id": "job", "status": "COMPLETED", "success": True}
    if path.endswith("queue") and model.startswith("private"):
        reply["download_url"] = f"{origin}/link/{model}"
    text = json.dumps(reply).encode()
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text) + text
    )


async def send_clip(size: int, writer: asyncio.StreamWriter) -> None:
    """Send an MP4 of `size` bytes."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\n\r\n" % size)
    start = clip_start(size)
    block = bytes(range(256)) * (MIB // 256)
    writer.write(start)
    for left in range(size - len(start), 0, -MIB):
        writer.write(block[:left])
        await writer.drain()


@define
class Watcher:
    """Watches the loop's lag and the process's memory while something else runs.

    Attributes:
        lag: seconds that the loop was late at most.
        grown: bytes that the resident memory was above its first level at most.
    """

    lag: float = 0.0
    grown: int = 0
    _first: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Note the level."""
        self._first = resident()

    async def watch(self) -> None:
        """Watch until cancelled."""
        while True:
            asleep = time.perf_counter()
            await asyncio.sleep(0.001)
            self.lag = max(self.lag, time.perf_counter() - asleep - 0.001)
            self.grown = max(self.grown, resident() - self._first)


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


async def generate(venice: VeniceClient, model: str, path: Path) -> float:
    """Bring a clip home and drop it; return the seconds taken."""
    began = time.perf_counter()
    await venice.generate(VideoRequest(model=model, prompt="p", duration="5s"), to=path, overwrite=True)
    taken = time.perf_counter() - began
    await anyio.Path(path).unlink()
    return taken


async def watched(work: Coroutine[Any, Any, float]) -> tuple[float, Watcher]:
    """Return what `work` does, and what the watcher saw meanwhile."""
    watcher, taken = Watcher(), list[float]()
    async with anyio.create_task_group() as group:
        group.start_soon(watcher.watch)
        taken.append(await work)
        group.cancel_scope.cancel()
    return taken[0], watcher


async def measured(venice: VeniceClient, model: str, path: Path) -> tuple[float, Watcher, int]:
    """Return the seconds, what the watcher saw, and the peak of traced memory in bytes."""
    taken, watcher = await watched(generate(venice, model, path))
    tracemalloc.start()
    level = tracemalloc.get_traced_memory()[0]
    await generate(venice, model, path)
    peak = tracemalloc.get_traced_memory()[1] - level
    tracemalloc.stop()
    return taken, watcher, peak


async def bare(url: str, path: Path) -> float:
    """Fetch `url` to a file with nothing but aiohttp; return the seconds taken."""
    began = time.perf_counter()
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        with path.open("wb") as file:
            async for chunk in response.content.iter_chunked(MIB // 16):
                file.write(chunk)
    taken = time.perf_counter() - began
    path.unlink()
    return taken


async def compare(port: int, size: int, folder: Path) -> None:
    """Measure both deliveries and bare aiohttp, and print the table."""
    path = folder / "clip.mp4"
    origin = f"http://127.0.0.1:{port}"
    print(f"| {size // MIB} MiB | seconds | MiB/s | RSS growth, MiB | traced peak, MiB | loop lag, ms |")
    print("|---|---|---|---|---|---|")
    async with VeniceClient("key", base_url=f"{origin}/api/v1") as venice:
        for kind, name in (("public", "inline"), ("private", "by link")):
            await generate(venice, f"{kind}-{SMALL}", path)
            taken, watcher, peak = await measured(venice, f"{kind}-{size}", path)
            facts = f"{watcher.grown / MIB:.1f} | {peak / MIB:.1f} | {watcher.lag * 1000:.1f}"
            print(
                f"| {name}, verified, synced | {taken:.2f} | {size / MIB / taken:.0f} | {facts} |", flush=True
            )
    taken, watcher = await watched(bare(f"{origin}/link/private-{size}", path))
    facts = f"{watcher.grown / MIB:.1f} | | {watcher.lag * 1000:.1f}"
    print(f"| bare aiohttp to a file | {taken:.2f} | {size / MIB / taken:.0f} | {facts} |", flush=True)
    taken, watcher = await watched(asyncio.sleep(taken, taken))
    print(f"| an idle event loop | | | | | {watcher.lag * 1000:.1f} |")


def main() -> None:
    """Read the command line; start the server and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--quick", dest="mib", action="store_const", const=64, help="64 MiB")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    command = [sys.executable, "-m", "benchmarks.memory", "--serve"]
    server = subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this very file
    try:
        port = int(server.stdout.readline() if server.stdout else "")
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            anyio.run(compare, port, options.mib * MIB, Path(folder))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
