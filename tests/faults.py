"""What can go wrong with an answer, by name, and the rules that hold whatever does."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from attrs import evolve

from tests.clients import PUBLIC, client
from tests.faulty import FaultyVenice, Reply, Request, gzipped, html_reply, json_reply, make_mp4
from tests.faulty.clip import box
from venice_async import VeniceError, Video, VideoRequest

Spoil: TypeAlias = Callable[[Reply], Reply]

MOST_GETS = 5


def cut(part: float, *, reset: bool = False) -> Spoil:
    """End the connection after that part of the body; above 1, one byte before its end."""

    def spoil(reply: Reply) -> Reply:
        end = len(reply.body) - 1 if part > 1 else int(len(reply.body) * part)
        return evolve(reply, cut_at=end, reset=reset)

    return spoil


def headed(**headers: str | None) -> Spoil:
    """Change headers; an underscore is a hyphen."""
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda reply: evolve(reply, headers={**reply.headers, **changed})


def told(length: Callable[[int], int]) -> Spoil:
    """Tell a length that is not the body's."""
    return lambda reply: evolve(reply, length=length(len(reply.body)))


def part(start: int, more: int) -> Spoil:
    """Call the whole a part that begins at `start`, of a file of `more` bytes more."""

    def spoil(reply: Reply) -> Reply:
        size = len(reply.body)
        stated = f"bytes {start}-{start + size - 1}/{size + start + more}"
        return evolve(reply, status=206, headers={**reply.headers, "content-range": stated})

    return spoil


def unmarked(reply: Reply) -> Reply:
    """Leave out the length, and end with the connection after two thirds."""
    return evolve(headed(content_length=None)(reply), cut_at=len(reply.body) * 2 // 3)


def garbled(reply: Reply) -> Reply:
    """Send it in one chunk, and then what is no chunk."""
    headers = {**reply.headers, "transfer-encoding": "chunked", "content-length": None}
    return evolve(reply, headers=headers, body=b"%x\r\n%b\r\nno size\r\n" % (len(reply.body), reply.body))


def short_chunks(reply: Reply) -> Reply:
    """Send half in chunks, and no end."""
    return evolve(reply, body=reply.body[: len(reply.body) // 2], unterminated=True)


SPOILS: dict[str, Spoil] = {
    "FIN before the head": lambda reply: evolve(reply, cut_head_at=0),
    "FIN in the head": lambda reply: evolve(reply, cut_head_at=25),
    "FIN at byte 0": cut(0),
    "FIN half-way": cut(0.5),
    "FIN one byte early": cut(2),
    "RST before the head": lambda reply: evolve(reply, cut_head_at=0, reset=True),
    "RST at byte 0": cut(0, reset=True),
    "RST half-way": cut(0.5, reset=True),
    "RST one byte early": cut(2, reset=True),
    "Content-Length too short": told(lambda size: size - 7),
    "Content-Length too long": told(lambda size: size + 7),
    "Content-Length absurd": headed(content_length="many"),
    "Content-Length twice told": headed(transfer_encoding="chunked"),
    "no Content-Length, cut": unmarked,
    "chunks without an end": short_chunks,
    "a chunk of no size": lambda reply: evolve(
        reply, headers={**reply.headers, "transfer-encoding": "chunked", "content-length": None}
    ),
    "a chunk of no size after the others": garbled,
    "nothing": lambda reply: evolve(reply, body=b""),
    "no content": lambda reply: evolve(reply, status=204, body=b"", headers={}),
    "gzip, cut": lambda reply: evolve(gzipped(reply), body=gzipped(reply).body[:-9]),
    "gzip that is none": headed(content_encoding="gzip"),
    "206 from another place": part(500, 0),
    "206 of a larger file": part(0, 500),
    "206 without a range": lambda reply: evolve(reply, status=206),
    "JSON of no use": lambda _: json_reply({"a": 1}),
    "a JSON list": lambda _: json_reply([1, [2]]),
    "JSON called a video": lambda _: json_reply({"a": 1}, headers={"content-type": "video/mp4"}),
    "HTML": lambda _: html_reply(),
    "HTML called a video": lambda _: html_reply(headers={"content-type": "video/mp4"}),
    "boxes of another kind": lambda reply: evolve(reply, body=box(b"skip", bytes(300)) + make_mp4(400)[24:]),
    "an index without a track": lambda reply: evolve(reply, body=reply.body.replace(b"trak", b"free")),
    "not HTTP": lambda reply: evolve(reply, status=99, headers={"": "\0", "content-length": "-1"}),
    "stall before the head": lambda reply: evolve(reply, delay=3_600),
    "stall after the head": lambda reply: evolve(reply, pause_at=0),
    "stall in the body": lambda reply: evolve(reply, pause_at=len(reply.body) // 2),
    "one byte a second": lambda reply: evolve(reply, drip=1.0),
    "one byte a second, for ever": lambda reply: evolve(reply, drip=1.0, endless=True),
    "500": lambda _: json_reply({"error": "Inference failed"}, status=500),
    "502": lambda _: html_reply(status=502),
    "503": lambda _: json_reply({"error": "At capacity"}, status=503),
    "504": lambda _: html_reply(status=504),
    "429": lambda _: json_reply({"error": "Too many"}, status=429),
    "408": lambda _: Reply(status=408),
    "endless": lambda reply: evolve(reply, body=b'{"a": "' + b"x" * 1000, endless=True),
}
"""Each makes of an honest answer one that is of no use, and after which another try may bring a good one."""

UNCHANGING: tuple[Spoil, ...] = tuple(
    SPOILS[name]
    for name in (
        "Content-Length too short",
        "gzip, cut",
        "gzip that is none",
        "boxes of another kind",
        "an index without a track",
    )
)
"""Those of a clip that come whole: the same a second time is the end."""


class Witness(FaultyVenice):
    """A Venice that notes whether the clip was safe when its copy was given up.

    Attributes:
        folder: where the only job's clip is to go.
        cleaned: of each clean-up, whether the clip was there.
    """

    def __init__(self, folder: Path, **answers: Any) -> None:
        self.folder = folder
        self.cleaned: list[bool] = []
        super().__init__(**answers)

    @property
    def path(self) -> Path:
        return self.folder / "clip.mp4"

    def answer(self, request: Request) -> Reply:
        if request.method == "DELETE" or request.path.endswith("/complete"):
            self.cleaned.append(self.path.exists() and self.path.read_bytes() == self.clip)
        return super().answer(request)

    def check(self, outcome: Video | VeniceError) -> None:
        """Assert the rules: the clip or nothing, a way on, one charge, few GETs, no clean-up too early."""
        left = [path.name for path in self.folder.iterdir()]
        if isinstance(outcome, Video):
            assert ["clip.mp4"] == left
            assert self.clip == self.path.read_bytes()
            assert (len(self.clip), hashlib.sha256(self.clip).hexdigest()) == (outcome.size, outcome.sha256)
            assert {True} >= set(self.cleaned)
        else:
            kept = getattr(outcome, "unverified", None)
            assert ([] if kept is None else [kept.name]) == left
            assert outcome.ticket is not None
            assert "job-1" == outcome.ticket.queue_id
            assert outcome.charged is not False
            assert [] == self.cleaned
        assert 1 == len(self.charges)
        gets = Counter(request.path for request in self.asked("GET /link"))
        assert MOST_GETS >= max(gets.values(), default=0)


async def run_job(
    server: Witness, request: VideoRequest = PUBLIC, *, max_usd: float | None = None, **options: Any
) -> Video | VeniceError:
    """Run one job, check the rules, and return how it ended."""
    outcome: Video | VeniceError
    async with client(server, **options) as venice:
        try:
            outcome = await venice.generate(request, to=server.path, max_usd=max_usd)
        except VeniceError as error:
            outcome = error
    server.check(outcome)
    return outcome
