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

from tests.faulty import (
    SMALLEST,
    FaultyVenice,
    Reply,
    Request,
    gzipped,
    html_reply,
    json_reply,
    make_mp4,
    unsatisfiable,
)
from venice_async import Limits, VeniceClient, VeniceError, VideoRequest

JOBS = 25
"""Jobs of one server at a time."""

SPOILT = 0.75
"""The part of the answers with a clip that go wrong."""

MOST_GETS = 5

Spoil: TypeAlias = Callable[[Reply, Request, random.Random], Reply]


def cut(reply: Reply, _: Request, chance: random.Random) -> Reply:
    """End the connection early, by FIN or RST."""
    return evolve(reply, cut_at=place(reply, chance), reset=chance.choice([True, False]))


def silent(reply: Reply, _: Request, chance: random.Random) -> Reply:
    """End it early without having told the length."""
    return evolve(reply, headers={**reply.headers, "content-length": None}, cut_at=place(reply, chance))


def misstated(reply: Reply, _: Request, chance: random.Random) -> Reply:
    """Tell a length that is too short or too long."""
    return evolve(reply, length=max(0, len(reply.body) + chance.randint(-2000, 2000)))


def shortened(reply: Reply, _: Request, chance: random.Random) -> Reply:
    """Send less, and tell a length that fits."""
    return evolve(reply, body=reply.body[: place(reply, chance)])


def unended(reply: Reply, _: Request, chance: random.Random) -> Reply:
    """Send chunks, and end them early or not at all."""
    return evolve(reply, chunked=True, unterminated=True, cut_at=chance.choice([None, place(reply, chance)]))


def chunked_short(reply: Reply, request: Request, chance: random.Random) -> Reply:
    """Send too few chunks and end them properly, as a proxy does that lost its source."""
    return evolve(shortened(reply, request, chance), chunked=True)


def compressed(reply: Reply, _: Request, chance: random.Random) -> Reply:
    """Compress it although that was declined, and cut that at times."""
    packed = gzipped(reply)
    return evolve(packed, body=packed.body[: chance.choice([None, len(packed.body) // 2])])


def misplaced(reply: Reply, _: Request, chance: random.Random) -> Reply:
    """Send a part, of another place or of a file of another size."""
    size = len(reply.body)
    start, total = chance.choice([0, 1, size // 2]), size + chance.choice([0, 1, 4000])
    headers = {**reply.headers, "content-range": f"bytes {start}-{start + size - 1}/{total}"}
    return evolve(reply, status=206, headers=headers)


def unavailable(reply: Reply, request: Request, chance: random.Random) -> Reply:
    """Refuse a range, and tell any size; of a poll nobody asks for one."""
    return (
        unsatisfiable(chance.randint(0, 100_000)) if request.method == "GET" else cut(reply, request, chance)
    )


def retagged(reply: Reply, _: Request, chance: random.Random) -> Reply:
    """Give the file another tag, a weak one or none, and cut it at times."""
    tag = chance.choice(['"2"', 'W/"1"', None])
    spoilt = evolve(reply, headers={**reply.headers, "etag": tag})
    return evolve(spoilt, cut_at=chance.choice([None, place(reply, chance)]))


def something_else(_: Reply, __: Request, chance: random.Random) -> Reply:
    """Send what is no video, and call it one at times."""
    other = chance.choice([json_reply({"status": "COMPLETED"}), html_reply(), Reply(status=503), Reply()])
    kind = chance.choice(["video/mp4", other.headers.get("content-type")])
    return evolve(other, headers={**other.headers, "content-type": kind})


def stalled(reply: Reply, _: Request, chance: random.Random) -> Reply:
    """Fall silent after the headers or within the body."""
    return evolve(reply, pause_at=chance.choice([0, place(reply, chance)]))


def dripping(reply: Reply, _: Request, __: random.Random) -> Reply:
    """Send a few bytes a second."""
    return evolve(reply, drip=1.0, drip_size=100)


SPOILS: tuple[Spoil, ...] = (
    cut,
    silent,
    misstated,
    shortened,
    unended,
    chunked_short,
    compressed,
    misplaced,
    unavailable,
    retagged,
    something_else,
    stalled,
    dripping,
)


def place(reply: Reply, chance: random.Random) -> int:
    """Return a place in the body, often near one of its ends."""
    size = len(reply.body)
    return chance.choice(
        [chance.randint(0, size), min(size, chance.randint(0, 60)), max(0, size - chance.randint(0, 9))]
    )


class Unreliable(FaultyVenice):
    """A Venice whose clips mostly arrive spoilt, and which exchanges the clip of a link now and then."""

    def __init__(self, chance: random.Random) -> None:
        """Draw a clip and its successor."""
        self.chance = chance
        self.spoilt: Counter[str] = Counter()
        self.clips = [
            make_mp4(chance.choice([SMALLEST, 300, 5_000, 150_000]), chance.randrange(1000)) for _ in "12"
        ]
        super().__init__(clip=self.clips[0], polls=0)

    def answer(self, request: Request) -> Reply:
        """Spoil the answer that is due, if it is a clip."""
        reply = super().answer(request)
        if reply.headers.get("content-type") != "video/mp4" or self.chance.random() > SPOILT:
            return reply
        spoil = self.chance.choice(SPOILS)
        self.spoilt[spoil.__name__] += 1
        if spoil is retagged:
            reply = evolve(reply, status=200, body=self.clips[1])
        return spoil(reply, request, self.chance)


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
        if path.read_bytes() in server.clips and video.size == path.stat().st_size
        else "BAD: another file"
    )


async def run_block(chance: random.Random, jobs: int, found: Counter[str], spoilt: Counter[str]) -> None:
    """Run some jobs against one server, and look at what they left."""
    with tempfile.TemporaryDirectory() as name:
        async with Unreliable(chance) as server:
            limits = Limits(queue_per_minute=100_000, retrieve_per_minute=100_000)
            async with VeniceClient("key", base_url=server.base_url, limits=limits, sidecars=False) as venice:
                work = [download(venice, number, server, Path(name)) for number in range(jobs)]
                found.update(await asyncio.gather(*work))
        gets = Counter(request.path for request in server.asked("GET /link"))
        unverified = [path.read_bytes() for path in Path(name).glob("*.unverified")]
        leftovers = [path for path in Path(name).iterdir() if path.suffix not in {".mp4", ".unverified"}]
        found["BAD: leftovers"] += bool(leftovers)
        found["BAD: a whole clip that was not verified"] += any(clip in unverified for clip in server.clips)
        found["BAD: charged twice"] += len(server.charges) != jobs
        found["BAD: too many GETs"] += max(gets.values(), default=0) > MOST_GETS
        spoilt.update(server.spoilt)
