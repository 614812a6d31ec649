"""What does it cost to send a clip to an object store? Time and memory, beside obstore's own put of a file.

    python -m benchmarks.object_store                 512 MiB to a real S3 server on this machine
    python -m benchmarks.object_store --mib 64
    python -m benchmarks.object_store --url s3://bucket/folder/     to a store of yours

One process serves clips, another S3 (moto); the client is the real one. The clip comes by link and goes out
in parts, verified. Obstore alone puts a file that lies on disk already, with nothing checked, in parts of the
same size, as many at once. Without object storage one copies by hand: first to a file, verified and synced,
then that put. Memory is the growth of what is resident; and, in a run of its own, the peak of what Python
allocates. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import anyio
import obstore
from obstore.store import from_url

from venice_async import VeniceClient, VideoRequest
from venice_async.io.delivery.object_store import AT_ONCE, PART

from .common import MIB, TOP
from .memory import SMALL, watched

SERVE_S3 = """
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
import logging
import threading
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
threading.Event().wait()
"""


async def put(store: Any, path: Path) -> float:
    """Put a file with obstore alone; return the seconds taken."""
    began = time.perf_counter()
    await obstore.put_async(
        store, "by-obstore.mp4", path, use_multipart=True, chunk_size=PART, max_concurrency=AT_ONCE
    )
    return time.perf_counter() - began


async def generate(venice: VeniceClient, size: int, to: str | Path) -> float:
    """Bring a clip to its destination; return the seconds taken."""
    began = time.perf_counter()
    request = VideoRequest(model=f"private-{size}", prompt="p", duration="5s")
    await venice.generate(request, to=to, overwrite=True)
    return time.perf_counter() - began


async def by_hand(venice: VeniceClient, size: int, store: Any, path: Path) -> float:
    """Bring a clip to a file and put that; return the seconds taken."""
    return await generate(venice, size, path) + await put(store, path)


async def compare(port: int, size: int, folder: Path, url: str) -> None:
    """Measure all three, and print the table."""
    store: Any = from_url(url, client_options={"allow_http": True})
    clip, to = folder / "clip.mp4", f"{url.rstrip('/')}/clip.mp4"
    print(f"| {size // MIB} MiB to an object store | seconds | MiB/s | RSS growth, MiB | traced peak, MiB |")
    print("|---|---|---|---|---|")
    async with VeniceClient("key", base_url=f"http://127.0.0.1:{port}/api/v1") as venice:
        await generate(venice, 4 * SMALL, to)  # everything is imported, every pool is warm
        taken, watcher = await watched(generate(venice, size, to))
        tracemalloc.start()
        level = tracemalloc.get_traced_memory()[0]
        await generate(venice, size, to)
        peak = tracemalloc.get_traced_memory()[1] - level
        tracemalloc.stop()
        say(
            "streamed from Venice, verified, moved into place",
            size,
            taken,
            watcher.grown,
            f"{peak / MIB:.1f}",
        )
        taken, watcher = await watched(by_hand(venice, size, store, clip))
        say("to a file, verified and synced, then obstore's put", size, taken, watcher.grown)
    taken, watcher = await watched(put(store, clip))
    say("obstore's put alone, of a file that is there", size, taken, watcher.grown)


def say(name: str, size: int, seconds: float, grown: int, peak: str = "") -> None:
    """Print a line of the table."""
    print(f"| {name} | {seconds:.2f} | {size / MIB / seconds:.0f} | {grown / MIB:.1f} | {peak} |", flush=True)


def main() -> None:
    """Read the command line; start the servers and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--url", default="", help="a folder in a store of yours, with credentials as usual")
    options = parser.parse_args()
    serve_clips = [sys.executable, "-m", "benchmarks.memory", "--serve"]
    servers = [
        subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
        for command in (serve_clips, *([] if options.url else [[sys.executable, "-c", SERVE_S3]]))
    ]
    try:
        ports = [int(server.stdout.readline() if server.stdout else "") for server in servers]
        if not options.url:
            endpoint = f"http://127.0.0.1:{ports[1]}"
            os.environ.update(AWS_ENDPOINT=endpoint, AWS_ACCESS_KEY_ID="k", AWS_SECRET_ACCESS_KEY="s")  # noqa: S106 - of nobody
            urlopen(Request(f"{endpoint}/bucket", method="PUT")).close()  # noqa: S310 - our own server
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            anyio.run(
                compare, ports[0], options.mib * MIB, Path(folder), options.url or "s3://bucket/folder/"
            )
    finally:
        for server in servers:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
