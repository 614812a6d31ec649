"""What can go wrong with an answer, by name, and the rules that hold whatever does."""

from __future__ import annotations

import gzip
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
from attrs import evolve

from tests.boxes import box
from tests.clients import PUBLIC, client
from tests.venice import (
    Answer,
    Venice,
    answer,
    chunk,
    endless,
    fault,
    head,
    html_answer,
    in_chunks,
    json_answer,
    lost,
    remade,
)
from venice_async import VeniceError, Video, VideoRequest
from venice_async.sandbox import Fault, RecordedRequest, tiny_clip

MOST_GETS = 5
WHOLE = 1 << 40
"""More bytes than any answer has: what ends there ends after all of it."""


def cut(part: float, *, reset: bool = False) -> Fault:
    """End the connection after that part of the body; above 1, one byte before its end."""

    def kept(honest: Answer) -> Answer:
        size = len(honest.body)
        return evolve(honest, body=honest.body[: size - 1 if part > 1 else int(size * part)])

    return remade(kept, reset_at=WHOLE) if reset else remade(kept)


def headed(**headers: str | None) -> Fault:
    """Change headers and nothing else."""
    return remade(lambda honest: honest.headed(**headers))


def misstated(by: int, *, then_open: bool = False) -> Fault:
    """Tell a length that is so many bytes too large; leave the connection open afterwards, or end it."""
    return remade(
        lambda honest: honest.headed(content_length=str(len(honest.body) + by)),
        stall_at=WHOLE if then_open else None,
    )


def part(start: int, more: int) -> Fault:
    """Call the whole a part that begins at `start`, of a file of `more` bytes more."""

    def renamed(honest: Answer) -> Answer:
        size = len(honest.body)
        stated = f"bytes {start}-{start + size - 1}/{size + start + more}"
        return evolve(honest.headed(content_range=stated), status=206)

    return remade(renamed)


def halved(honest: Answer) -> Answer:
    return evolve(honest, body=honest.body[: len(honest.body) // 2])


def unmarked(honest: Answer) -> Answer:
    """Leave out the length, and end with the connection after two thirds."""
    return evolve(honest.headed(content_length=None), body=honest.body[: len(honest.body) * 2 // 3])


def torn(honest: Answer) -> Answer:
    """Compress it, and keep back the end."""
    packed = gzip.compress(honest.body, mtime=0)
    return honest.headed(content_encoding="gzip").containing(packed[:-9])


def dripping(raw: bytes) -> AsyncGenerator[bytes]:
    """Send the body over and over, in chunks of one byte a second."""
    honest = Answer.parsed(raw)

    async def pieces() -> AsyncGenerator[bytes]:
        yield evolve(honest.headed(content_length=None, transfer_encoding="chunked"), body=b"").raw
        while True:
            for byte in honest.body:
                await anyio.sleep(1)
                yield chunk(bytes([byte]))

    return pieces()


SPOILS: dict[str, Fault] = {
    "FIN before the head": lost(),
    "FIN in the head": lost(25),
    "FIN at byte 0": cut(0),
    "FIN half-way": cut(0.5),
    "FIN one byte early": cut(2),
    "RST before the head": lost(reset=True),
    "RST at byte 0": cut(0, reset=True),
    "RST half-way": cut(0.5, reset=True),
    "RST one byte early": cut(2, reset=True),
    "Content-Length too short": misstated(-7, then_open=True),
    "Content-Length too long": misstated(7),
    "Content-Length absurd": headed(content_length="many"),
    "Content-Length twice told": headed(transfer_encoding="chunked"),
    "no Content-Length, cut": remade(unmarked),
    "chunks without an end": remade(lambda honest: in_chunks(halved(honest), end=b"")),
    "a chunk of no size": headed(transfer_encoding="chunked", content_length=None),
    "a chunk of no size after the others": remade(lambda honest: in_chunks(honest, end=b"no size\r\n")),
    "nothing": fault(body=b""),
    "no content": fault(raw=head(204), processed=True),
    "gzip, cut": remade(torn),
    "gzip that is none": fault(headers={"Content-Encoding": "gzip"}),
    "206 from another place": part(500, 0),
    "206 of a larger file": part(0, 500),
    "206 without a range": remade(lambda honest: evolve(honest, status=206)),
    "JSON of no use": json_answer({"a": 1}),
    "a JSON list": json_answer([1, [2]]),
    "JSON called a video": json_answer({"a": 1}, headers={"content-type": "video/mp4"}),
    "HTML": html_answer(),
    "HTML called a video": html_answer(headers={"content-type": "video/mp4"}),
    "boxes of another kind": fault(body=box(b"skip", bytes(300)) + tiny_clip(400)[24:]),
    "an index without a track": remade(
        lambda honest: evolve(honest, body=honest.body.replace(b"trak", b"free"))
    ),
    "not HTTP": remade(
        lambda honest: evolve(honest.headed(content_length="-1"), status=99).headed(**{"": "\0"})
    ),
    "stall before the head": fault(delay=3_600),
    "stall after the head": fault(stall_at=0),
    "stall in the body": remade(halved, stall_at=WHOLE),
    "one byte a second": fault(bytes_per_second=1),
    "one byte a second, for ever": fault(raw=dripping),
    "500": json_answer({"error": "Inference failed"}, status=500),
    "502": html_answer(status=502),
    "503": json_answer({"error": "At capacity"}, status=503),
    "504": html_answer(status=504),
    "429": json_answer({"error": "Too many"}, status=429),
    "408": answer(b"", "text/plain", status=408),
    "endless": endless(b'{"a": "' + b"x" * 1000),
}
"""Each makes of an honest answer one that is of no use, and after which another try may bring a good one."""

UNCHANGING = frozenset(
    {
        "Content-Length too short",
        "gzip, cut",
        "gzip that is none",
        "boxes of another kind",
        "an index without a track",
    }
)
"""Those of a clip that come whole: the same a second time is the end."""


class Witness(Venice):
    """A Venice that notes whether the clip was safe when its copy was given up.

    Attributes:
        folder: where the only job's clip is to go; it is made if need be.
        cleaned: of each clean-up, whether the clip was there.
    """

    def __init__(self, folder: Path, *faults: Any, **answers: Any) -> None:
        super().__init__(self._note, *faults, **answers)
        self.folder = folder
        self.cleaned: list[bool] = []
        folder.mkdir(exist_ok=True)

    @property
    def path(self) -> Path:
        return self.folder / "clip.mp4"

    def _note(self, request: RecordedRequest) -> None:
        if request.point in {"complete", "revoke"}:
            self.cleaned.append(self.path.exists() and self.path.read_bytes() == self.clip)

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
            assert self.charges[0].queue_id == outcome.ticket.queue_id
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
