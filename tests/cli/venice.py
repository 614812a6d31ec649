"""A Venice for the tests of the command line, in a process of its own: `python -m tests.cli.venice`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
from attrs import evolve

from venice_async.sandbox import CATALOGUE, CatalogueModel, Fault, RateLimits, Sandbox, Scenario, tiny_clip
from venice_async.sandbox.clips.render import render_clip

PUBLIC = "wan-2-7-text-to-video"
PRIVATE = "grok-imagine-text-to-video-private"
CONSENT = "seedance-2-0-image-to-video"
UNDER_WAY = "done-once-let-go"
"""Every other job is done when it is first asked for: nobody waits a second for its next poll."""
REFUSED = "content-refused"
NEVER = "never-done"
LOST = "answer-lost"
LOST_ONCE = "answer-lost-for-one-job"
ODD = "answer-odd"
HELD = "answer-held"
UNDONE = "clip-held"
BROKE = "balance-empty"

LET_GO = Path("let-go")
"""A file in the folder of the server: once it is there, answers that were held are given."""


async def _once_let_go(answer: bytes) -> AsyncIterator[bytes]:
    while not LET_GO.exists():  # noqa: ASYNC110 - another process makes it
        await anyio.sleep(0.01)
    yield answer


async def _working_until_let_go(answer: bytes) -> AsyncIterator[bytes]:
    news = b'{"status": "PROCESSING", "average_execution_time": 145000, "execution_duration": 100000}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(news)
    yield answer if LET_GO.exists() else head + news


SCENARIOS = {
    "*": Scenario(seconds=0),
    REFUSED: Scenario(outcome="content_policy", seconds=1, recommended_model=PUBLIC),
    NEVER: Scenario(outcome="never"),
}
FAULTS = (
    Fault(on="queue", model=LOST, drop="after", times=None),
    Fault(on="queue", model=LOST_ONCE, drop="after", times=None),
    Fault(on="queue", model=ODD, status=200, processed=True, body={"as": "job seventeen"}, times=None),
    Fault(on="queue", model=HELD, raw=_once_let_go, times=None),
    Fault(on="retrieve", model=UNDONE, raw=_once_let_go, times=None),
    Fault(on="retrieve", model=UNDER_WAY, raw=_working_until_let_go, times=None),
    Fault(on="queue", model=BROKE, status=402, body={"error": "Insufficient balance"}, times=None),
)


def _models() -> list[CatalogueModel]:
    public = next(model for model in CATALOGUE if model.id == PUBLIC)
    return [
        *CATALOGUE,
        *(
            evolve(public, id=name)
            for name in (UNDER_WAY, REFUSED, NEVER, LOST, LOST_ONCE, ODD, HELD, UNDONE, BROKE)
        ),
    ]


def _clip(*, prompt: str, model: str, seconds: float, width: int, height: int) -> bytes:
    """Return a clip that costs nothing to make, unless the prompt asks for a picture."""
    if "picture" not in prompt:
        return tiny_clip(20_000)
    return render_clip(prompt=prompt, model=model, seconds=1.0, width=160, height=90)


async def _serve() -> None:
    sandbox = Sandbox(speed=1000, clips=_clip, models=_models(), scenarios=SCENARIOS, faults=FAULTS)
    sandbox.limits = RateLimits(queue=6000, retrieve=6000, period=4.0, failures=None)
    async with sandbox:
        sys.stdout.write(f"{sandbox.base_url}\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(_serve)
