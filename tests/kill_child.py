"""Runs jobs that are killed at a step: of the journal by themselves, within a request by the server.

Reads a task as a line of JSON, forks a process that does it, and says its id and how it ended, a line each.
This process imports everything once and starts no thread, so that a fork costs little.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

from venice_async import Polling, VeniceClient, VideoRequest
from venice_async.io.journal.journal import Journal

EAGER = Polling(price=1e-6, min_gap=0.01, max_gap=0.02)


def die_at(step: str) -> None:
    """Have this process killed just before or after that step of the journal."""

    def pass_by(here: str) -> None:
        if here == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(name: str) -> Callable[..., Any]:
        method = getattr(Journal, name)

        @wraps(method)
        async def call(self: Journal, *arguments: Any, **options: Any) -> Any:
            said = [getattr(argument, "state", argument) for argument in arguments]
            states = [type(argument).__name__ for argument in said if not isinstance(argument, str)]
            what = " ".join([name, *states])
            pass_by(f"before {what}")
            found = await method(self, *arguments, **options)
            pass_by(f"after {what}")
            return found

        return call

    for name in ("begin", "record", "withdraw"):
        setattr(Journal, name, watched(name))


async def work(task: dict[str, str]) -> None:
    """Bring one clip home."""
    folder = task["folder"]
    journal = f"{folder}/private/jobs.db"
    async with VeniceClient(task["key"], base_url=task["base_url"], journal=journal, polling=EAGER) as venice:
        request = VideoRequest(model=task["model"], prompt="p", duration="5s")
        await venice.generate(request, to=f"{folder}/clip.mp4")


def main() -> None:
    import_module(
        "venice_async.engine.runtime"
    )  # it brings all the rest, otherwise loaded when a client is made
    for line in sys.stdin:
        task = json.loads(line)
        process = os.fork()
        if not process:
            die_at(task["step"])
            asyncio.run(work(task))
            os._exit(0)
        print("pid", process, flush=True)  # noqa: T201 - to the test
        _, status = os.waitpid(process, 0)
        print("ended", status, flush=True)  # noqa: T201 - to the test


if __name__ == "__main__":
    main()
