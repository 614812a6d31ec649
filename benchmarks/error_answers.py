"""How long one error answer holds the event loop while many private jobs are in flight.

    python -m benchmarks.error_answers [--jobs 500]

An error is redacted before anybody may read it, by the key and the link of the one request that it answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import TYPE_CHECKING

from attrs import field, frozen

from venice_async import Limits, Polling, Retries, Ticket
from venice_async.io.caller import Caller
from venice_async.io.clock import SystemClock
from venice_async.io.pacing.pacer import Pacer
from venice_async.io.transport import Content
from venice_async.sansio.http.secrets import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from venice_async.sansio.http.wire import HttpRequest

HEADERS = {f"x-header-{number}": "abc/def; q=1, Fri, 15 Jan 2027 08:00:00 GMT" for number in range(12)}
PAGE = b'<a href="https://edge.example/5xx?ray=1&amp;b=2">What&#39;s up</a> 100% '


def said(errors: int) -> bytes:
    """Return the JSON of an error."""
    return json.dumps({"error": "Failed", "details": {"_errors": ["x" * 50] * errors}}).encode()


BODIES = {"JSON of 1 KiB": said(18), "JSON of 64 KiB": said(1170), "a page of 64 KiB": PAGE * 910}


@frozen
class Refusal:
    """An answer that is an error."""

    body: bytes = field(repr=False)
    status: int = 502
    headers: Mapping[str, str] = HEADERS
    request_sent: bool = True

    async def peek(self) -> bytes:
        """Return the body."""
        return self.body

    async def read(self, limit: int) -> Content:
        """Return the body."""
        return Content(self.body[:limit])

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the body."""
        yield self.body

    def close(self) -> None:
        """Do nothing."""


class Refusing:
    """A transport that answers every request with one error."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def send(self, request: HttpRequest) -> Refusal:  # noqa: ARG002 - all the same
        """Answer."""
        return Refusal(self.body)


async def measure(jobs: int, body: bytes) -> list[float]:
    """Return the milliseconds of CPU for which each answer to `jobs` polls held the loop."""
    clock = SystemClock()
    pacer = Pacer(limits=Limits(retrieve_per_minute=1e5), polling=Polling(), clock=clock)
    caller = Caller(Refusing(body), pacer, clock, retries=Retries(), api_key=Secret("key-0123456789abcdef"))
    took: list[float] = []
    for number in range(jobs):
        link = f"https://cdn.example/clips/{number:032}.mp4?X-Signature={'s3cret' * 20}{number}&X-Expires=60"
        ticket = Ticket(model="m", queue_id=f"q{number}", download_url=link)
        began = time.thread_time()
        await caller.read_poll(ticket, Refusal(body))
        took.append((time.thread_time() - began) * 1000)
    return sorted(took)


def main() -> None:
    """Measure, and print a row for each body."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=500, help="private jobs in flight")
    jobs = parser.parse_args().jobs
    for name, body in BODIES.items():
        took = asyncio.run(measure(jobs, body))
        print(f"{name}, {jobs} jobs: median {took[len(took) // 2]:.2f} ms, worst {took[-1]:.2f} ms")


if __name__ == "__main__":
    main()
