"""Downloads from a server that spoils most of its answers, and what they leave behind."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from attrs import evolve

from tests.faults import MOST_GETS, WHOLE
from tests.venice import (
    KEY,
    Answer,
    Venice,
    compressed,
    fault,
    html_answer,
    in_chunks,
    json_answer,
    remade,
    unsatisfiable,
)
from venice_async import Limits, VeniceClient, VeniceError, VideoRequest
from venice_async.sandbox import Fault, RecordedRequest, tiny_clip

JOBS = 25
"""Jobs of one server at a time."""

SMALLEST = 297
"""Bytes of the smallest clip."""

SPOILT = 0.75
"""The part of the answers with a clip that go wrong."""

Spoil: TypeAlias = Callable[["Unreliable", RecordedRequest, random.Random], Fault]


def cut(_: Unreliable, __: RecordedRequest, chance: random.Random) -> Fault:
    """End the connection early, by FIN or RST."""
    return remade(partly(chance), reset_at=chance.choice([WHOLE, None]))


def silent(_: Unreliable, __: RecordedRequest, chance: random.Random) -> Fault:
    """End it early without having told the length."""
    return remade(lambda honest: partly(chance)(honest).headed(content_length=None))


def misstated(_: Unreliable, __: RecordedRequest, chance: random.Random) -> Fault:
    """Tell a length that is too short or too long."""
    by = chance.randint(-2000, 2000)
    return remade(
        lambda honest: honest.headed(content_length=str(max(0, len(honest.body) + by))),
        stall_at=WHOLE if by <= 0 else None,
    )


def shortened(_: Unreliable, __: RecordedRequest, chance: random.Random) -> Fault:
    """Send less, and tell a length that fits."""
    return remade(lambda honest: honest.containing(partly(chance)(honest).body))


def unended(_: Unreliable, __: RecordedRequest, chance: random.Random) -> Fault:
    """Send chunks, and end them early or not at all."""
    early = chance.choice([True, False])
    return remade(lambda honest: in_chunks(partly(chance)(honest) if early else honest, end=b""))


def chunked_short(_: Unreliable, __: RecordedRequest, chance: random.Random) -> Fault:
    """Send too few chunks and end them properly, as a proxy does that lost its source."""
    return remade(lambda honest: in_chunks(partly(chance)(honest)))


def packed(_: Unreliable, __: RecordedRequest, chance: random.Random) -> Fault:
    """Compress it although that was declined, and cut that at times."""
    half = chance.choice([True, False])

    def made(honest: Answer) -> Answer:
        whole = compressed(honest)
        return whole.containing(whole.body[: len(whole.body) // 2]) if half else whole

    return remade(made)


def misplaced(_: Unreliable, __: RecordedRequest, chance: random.Random) -> Fault:
    """Send a part, of another place or of a file of another size."""

    def made(honest: Answer) -> Answer:
        size = len(honest.body)
        start, total = chance.choice([0, 1, size // 2]), size + chance.choice([0, 1, 4000])
        stated = f"bytes {start}-{start + size - 1}/{total}"
        return evolve(honest.headed(content_range=stated), status=206)

    return remade(made)


def unavailable(server: Unreliable, request: RecordedRequest, chance: random.Random) -> Fault:
    """Refuse a range, and tell any size; of a poll nobody asks for one."""
    by_link = request.point == "link"
    return unsatisfiable(chance.randint(0, 100_000)) if by_link else cut(server, request, chance)


def retagged(server: Unreliable, _: RecordedRequest, chance: random.Random) -> Fault:
    """Send another file with another tag, a weak one or none, and cut it at times."""
    tag, early = chance.choice(['"2"', 'W/"1"', None]), chance.choice([True, False])

    def made(honest: Answer) -> Answer:
        other = evolve(honest, status=200).containing(server.drawn[1])
        other = other.headed(etag=tag, last_modified=None, content_range=None)
        return partly(chance)(other) if early else other

    return remade(made)


def something_else(_: Unreliable, __: RecordedRequest, chance: random.Random) -> Fault:
    """Send what is no video, and call it one at times."""
    busy, empty = json_answer(None, status=503), fault(status=200, body=b"")
    other = chance.choice([json_answer({"status": "COMPLETED"}), html_answer(), busy, empty])
    kind = chance.choice(["video/mp4", other.headers.get("Content-Type")])
    return evolve(other, headers={**other.headers, "Content-Type": kind})


def stalled(_: Unreliable, __: RecordedRequest, chance: random.Random) -> Fault:
    """Fall silent after the headers or within the body."""
    at_once = chance.choice([True, False])
    return remade(
        lambda honest: evolve(honest, body=b"") if at_once else partly(chance)(honest), stall_at=WHOLE
    )


def dripping(_: Unreliable, __: RecordedRequest, ___: random.Random) -> Fault:
    """Send a few bytes a second."""
    return fault(bytes_per_second=100)


SPOILS: tuple[Spoil, ...] = (
    cut,
    silent,
    misstated,
    shortened,
    unended,
    chunked_short,
    packed,
    misplaced,
    unavailable,
    retagged,
    something_else,
    stalled,
    dripping,
)


def partly(chance: random.Random) -> Callable[[Answer], Answer]:
    """Return what ends a body at a place in it, often near one of its ends; the length told stays."""

    def made(whole: Answer) -> Answer:
        size = len(whole.body)
        places = [
            chance.randint(0, size),
            min(size, chance.randint(0, 60)),
            max(0, size - chance.randint(0, 9)),
        ]
        return evolve(whole, body=whole.body[: chance.choice(places)])

    return made


class Unreliable(Venice):
    """A Venice whose clips mostly arrive spoilt, and which exchanges the clip of a link now and then."""

    def __init__(self, chance: random.Random) -> None:
        """Draw a clip and its successor."""
        self.chance = chance
        self.spoilt: Counter[str] = Counter()
        sizes = [chance.choice([SMALLEST, 300, 5_000, 150_000]) for _ in "12"]
        self.drawn = [tiny_clip(size, seed=chance.randrange(1000)) for size in sizes]
        super().__init__(self._spoil, clip=self.drawn[0], polls=0)

    def _spoil(self, request: RecordedRequest) -> Fault | None:
        """Spoil the answer that is due, if it is a clip."""
        if request.point not in {"video", "link"} or self.chance.random() > SPOILT:
            return None
        spoil = self.chance.choice(SPOILS)
        self.spoilt[spoil.__name__] += 1
        return spoil(self, request, self.chance)


async def download(venice: VeniceClient, number: int, server: Unreliable, folder: Path) -> str:
    """Run one job; return what came of it, beginning with "BAD" if it should not have."""
    path = folder / f"{number}.mp4"
    model = "private" if number % 2 else "public"
    try:
        video = await venice.generate(VideoRequest(model=model, prompt="p", duration="5s"), to=path)
    except VeniceError as error:
        if path.exists() or error.ticket is None:
            return f"BAD: {type(error).__name__} with a file or without a ticket"
        return type(error).__name__
    return (
        "whole"
        if path.read_bytes() in server.drawn and video.size == path.stat().st_size
        else "BAD: another file"
    )


async def run_block(chance: random.Random, jobs: int, found: Counter[str], spoilt: Counter[str]) -> None:
    """Run some jobs against one server, and look at what they left."""
    with tempfile.TemporaryDirectory() as name:
        async with Unreliable(chance) as server:
            limits = Limits(queue_per_minute=100_000, retrieve_per_minute=100_000)
            async with VeniceClient(KEY, base_url=server.base_url, limits=limits, sidecars=False) as venice:
                work = [download(venice, number, server, Path(name)) for number in range(jobs)]
                found.update(await asyncio.gather(*work))
        gets = Counter(request.path for request in server.asked("GET /link"))
        unverified = [path.read_bytes() for path in Path(name).glob("*.unverified")]
        leftovers = [path for path in Path(name).iterdir() if path.suffix not in {".mp4", ".unverified"}]
        found["BAD: leftovers"] += bool(leftovers)
        found["BAD: a whole clip that was not verified"] += any(clip in unverified for clip in server.drawn)
        found["BAD: charged twice"] += len(server.charges) != jobs
        found["BAD: too many GETs"] += max(gets.values(), default=0) > MOST_GETS
        spoilt.update(server.spoilt)
