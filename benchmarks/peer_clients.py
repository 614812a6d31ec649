"""One client and many jobs, in an interpreter of its own: `peers.py` runs it where that client is installed.

Prints one line of JSON: how the jobs ended, seconds, processor seconds without imports, and MiB at most.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .files import write, write_durably

WAIT = 5.0  # seconds between two polls of the vendor's sample
OK, TOO_MANY = 200, 429
_ROUNDING = 0.01  # seconds by which a clock may be off
Job = Callable[[Path], Awaitable[object]]


class Plan:
    """What to do: so many jobs of a model, their clips to a folder."""

    def __init__(self) -> None:
        """Read the command line."""
        parser = argparse.ArgumentParser()
        parser.add_argument("client", choices=sorted(CLIENTS))
        parser.add_argument("--origin", required=True)
        parser.add_argument("--model", required=True)
        parser.add_argument("--jobs", type=int, required=True)
        parser.add_argument(
            "--seconds", type=float, required=True, help="that a job takes: only oracles look"
        )
        parser.add_argument("--polls", type=float, required=True, help="a minute that the server takes")
        parser.add_argument("--cap", type=float, required=True)
        parser.add_argument("--folder", type=Path, required=True)
        options = parser.parse_args()
        self.client: str = options.client
        self.base_url = f"{options.origin}/api/v1"
        self.model: str = options.model
        self.jobs: int = options.jobs
        self.seconds: float = options.seconds
        self.polls: float = options.polls
        self.cap: float = options.cap
        self.folder: Path = options.folder
        self.ends = Counter[str]()

    async def run_all(self, job: Job) -> None:
        """Run all jobs at once, and count how they end."""
        await asyncio.gather(*(self._run(job, number) for number in range(self.jobs)))

    async def _run(self, job: Job, number: int) -> None:
        try:
            await job(self.folder / f"{number}.mp4")
        except Exception as error:  # noqa: BLE001 - whatever it is ends the job
            self.ends[type(error).__name__] += 1
        else:
            self.ends["finished"] += 1


async def ours(plan: Plan) -> None:
    """Use this library."""
    venice_async: Any = importlib.import_module("venice_async")
    request = venice_async.VideoRequest(model=plan.model, prompt="p", duration="5s")
    limits = venice_async.Limits(queue_per_minute=1e6)  # it is lifted at the server, and a key's owner knows
    client = venice_async.VeniceClient("key", base_url=plan.base_url, limits=limits)
    began(plan)
    async with client as venice:
        await plan.run_all(lambda path: venice.generate(request, to=path))


async def venice_py(plan: Plan, **options: Any) -> None:
    """Use venice-py, as its documentation has it."""
    venice_ai: Any = importlib.import_module("venice_ai")
    made = venice_ai.VeniceClient(api_key="key", base_url=plan.base_url, **options)
    began(plan)
    async with made as client:

        async def job(path: Path) -> None:
            run = client.video.run(model=plan.model, prompt="p", duration_seconds=5)
            async with await run as one:
                await one.download(path, await one.wait())

        await plan.run_all(job)


async def venice_py_limited(plan: Plan) -> None:
    """Use venice-py with the rate limiter that it brings along."""
    await venice_py(plan, rate_limiter=importlib.import_module("venice_ai.rate_limiting").SimpleRateLimiter())


async def veniceresch(plan: Plan) -> None:
    """Use veniceresch: its own wait, then the link."""
    module: Any = importlib.import_module("veniceresch")
    made = module.AsyncVeniceClient(api_key="key", base_url=plan.base_url)
    began(plan)
    async with made as client:

        async def job(path: Path) -> None:
            queued = await client.video.queue(model=plan.model, prompt="p", duration="5s")
            names = {"model": queued.model, "queue_id": queued.queue_id}
            await client.video.wait_for_completion(**names)
            clip = await client.video.download(**names, download_url=queued.download_url)
            await asyncio.to_thread(path.write_bytes, clip)

        await plan.run_all(job)


async def sample(plan: Plan) -> None:
    """Poll every five seconds, as the vendor's sample; a 429 is not the end, it polls again."""
    await bare(plan, lambda: asyncio.sleep(WAIT), first=False)


async def oracle(plan: Plan, *, lasting: bool = False) -> None:
    """Poll with bare aiohttp once each job has ended, at the rate there is: the fewest requests possible."""
    loop = asyncio.get_running_loop()
    latest = 0.0

    async def turn() -> None:
        nonlocal latest
        latest = max(loop.time() + plan.seconds, latest + 60 / plan.polls)
        await asyncio.sleep(latest - loop.time() + _ROUNDING)

    await bare(plan, turn, first=True, lasting=lasting)


async def lasting_oracle(plan: Plan) -> None:
    """Do as the oracle does, pay on fresh connections, and write files that are digested and last."""
    await oracle(plan, lasting=True)


async def bare(
    plan: Plan, turn: Callable[[], Awaitable[None]], *, first: bool, lasting: bool = False
) -> None:
    """Queue, poll after each turn until the clip comes, write it, complete: with nothing but aiohttp."""
    aiohttp: Any = importlib.import_module("aiohttp")
    began(plan)
    headers = {"authorization": "Bearer key"}
    connector = aiohttp.TCPConnector(force_close=lasting)
    store = write_durably if lasting else write
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        aiohttp.ClientSession(headers=headers, connector=connector) as paid,
    ):

        async def post(name: str, **said: str) -> tuple[int, str, bytes]:
            sender = paid if lasting and name == "queue" else session
            async with sender.post(f"{plan.base_url}/video/{name}", json=said) as response:
                return response.status, response.content_type, await response.read()

        async def job(path: Path) -> None:
            _, _, body = await post("queue", model=plan.model, prompt="p", duration="5s")
            names = {"model": plan.model, "queue_id": json.loads(body)["queue_id"]}
            if first:
                await turn()
            while True:
                status, kind, body = await post("retrieve", **names)
                if status == OK and kind == "video/mp4":
                    break
                if status not in {OK, TOO_MANY}:
                    message = f"status {status}"
                    raise RuntimeError(message)
                await turn()
            await asyncio.to_thread(store, path, body)
            await post("complete", **names)

        await plan.run_all(job)


CLIENTS: dict[str, Callable[[Plan], Awaitable[None]]] = {
    "ours": ours,
    "venice-py": venice_py,
    "venice-py-limited": venice_py_limited,
    "veniceresch": veniceresch,
    "sample": sample,
    "oracle": oracle,
    "lasting-oracle": lasting_oracle,
}
_BEGAN = {"wall": 0.0, "cpu": 0.0}


def began(_: Plan) -> None:
    """Count from here on: everything is imported."""
    _BEGAN.update(wall=time.perf_counter(), cpu=time.process_time())


async def run(plan: Plan) -> None:
    """Run one client until all its jobs have ended, or the time is over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(plan.cap):
            await CLIENTS[plan.client](plan)


def main() -> None:
    """Run it, and say what it took."""
    plan = Plan()
    asyncio.run(run(plan))
    highest = Path("/proc/self/status").read_text(encoding="ascii").partition("VmHWM:")[2].split()[0]
    found = {
        "ends": dict(plan.ends),
        "seconds": time.perf_counter() - _BEGAN["wall"],
        "cpu": time.process_time() - _BEGAN["cpu"],
        "mib": int(highest) / 1024,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
