"""How fast does a large clip arrive? The library, verified and synced, beside bare aiohttp and curl.

    python -m benchmarks.throughput              512 MiB, the median of 5
    python -m benchmarks.throughput --quick      64 MiB, the median of 3
    python -m benchmarks.throughput --folder /dev/shm    without the disk's share in it

The server (`loopback.py`, a process of its own) sends the clip from the page cache. The library reads it,
digests it, walks its boxes, writes it, brings it to stable storage and renames it, inline or by link; it is
timed from `generate` to the end, clean-up included. Bare aiohttp writes 64 KiB at a time to a file, and curl
writes to one; neither waits for the disk. "Synced" is bare aiohttp that does, and digests. All take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import aiohttp

from venice_async import Limits, VeniceClient, VideoRequest

from .common import MIB, load_note, middle, print_table, serving
from .loopback import Options

BARE = "bare aiohttp to a file"
Work = Callable[[], Awaitable[object]]


async def ours(venice: VeniceClient, model: str, path: Path) -> None:
    """Bring a clip home."""
    await venice.generate(VideoRequest(model=model, prompt="p", duration="5s"), to=path, overwrite=True)


async def bare(url: str, path: Path, *, synced: bool = False) -> None:
    """Fetch `url` to a file with nothing but aiohttp."""
    digest = hashlib.sha256()
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        with path.open("wb") as file:
            async for chunk in response.content.iter_chunked(MIB // 16):
                file.write(chunk)
                if synced:
                    digest.update(chunk)
            if synced:
                os.fsync(file.fileno())


async def curl(url: str, path: Path) -> None:
    """Fetch `url` with curl."""
    process = await asyncio.create_subprocess_exec("curl", "--silent", "--fail", "--output", str(path), url)
    if await process.wait():
        message = "curl failed"
        raise RuntimeError(message)


async def measure(origin: str, folder: Path, options: argparse.Namespace) -> None:
    """Let all take turns, and print the table."""
    base, link, path = f"{origin}/api/v1", f"{origin}/link/clip", folder / "clip.mp4"
    limits = Limits(queue_per_minute=1e9, retrieve_per_minute=1e9)
    taken: dict[str, list[tuple[float, float]]] = {}
    for number in range(options.runs + 1):
        async with VeniceClient("key", base_url=base, limits=limits) as venice:
            kinds: dict[str, Work] = {
                BARE: lambda: bare(link, path),
                "**venice_async**, inline": partial(ours, venice, "public", path),
                "**venice_async**, by link": partial(ours, venice, "private", path),
                "bare aiohttp, digested and synced": lambda: bare(link, path, synced=True),
            }
            if shutil.which("curl"):
                kinds["curl to a file"] = lambda: curl(link, path)
            for name, work in kinds.items():
                found = await timed(work, path)
                if number:  # the first round warms up
                    taken.setdefault(name, []).append(found)
    show(taken, options)


async def timed(work: Work, path: Path) -> tuple[float, float]:
    """Return the seconds it took, and those of this process's CPU."""
    began, cpu = time.perf_counter(), time.process_time()
    await work()
    found = time.perf_counter() - began, time.process_time() - cpu
    await asyncio.to_thread(path.unlink)
    return found


def show(taken: dict[str, list[tuple[float, float]]], options: argparse.Namespace) -> None:
    """Print medians, and how fast each was beside bare aiohttp."""
    rows: list[list[object]] = []
    beside = middle(wall for wall, _ in taken[BARE])
    for name, times in taken.items():
        wall = middle(wall for wall, _ in times)
        cpu = "" if name.startswith("curl") else f"{middle(cpu for _, cpu in times):.2f}"
        spread = f"{min(wall for wall, _ in times):.2f} to {max(wall for wall, _ in times):.2f}"
        rows.append([name, f"{wall:.2f}", spread, f"{options.mib / wall:.0f}", f"{beside / wall:.2f}", cpu])
    print(f"medians of {options.runs}, to {options.folder}; {load_note()}\n")
    print_table([f"{options.mib} MiB", "seconds", "range", "MiB/s", "speed to bare", "CPU s"], rows)


def main() -> None:
    """Read the command line; start the server and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--mib", type=int)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where to write")
    options = parser.parse_args()
    options.mib = options.mib or (64 if options.quick else 512)
    options.runs = options.runs or (3 if options.quick else 5)
    server = Options(clip_bytes=options.mib * MIB)
    with serving(server) as origin, tempfile.TemporaryDirectory(dir=options.folder) as folder:
        asyncio.run(measure(origin, Path(folder), options))


if __name__ == "__main__":
    main()
