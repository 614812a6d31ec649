"""The sandbox as most tests want it: plain models, no limits, and each call's first answers from a list."""

# what tests know of its link origin and its clock:
# pyright: reportPrivateUsage=false

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any, Self

import anyio.lowlevel
from attrs import evolve, frozen

from venice_async.sandbox import CatalogueModel, Fault, Point, RecordedRequest, Sandbox, Scenario, tiny_clip
from venice_async.sandbox.scenarios import Faults

KEY = "test-key-0123456789"
CLIP = tiny_clip(100_000)
POINTS: tuple[Point, ...] = (
    "models",
    "quote",
    "queue",
    "retrieve",
    "complete",
    "link",
    "revoke",
    "rate_limits",
)

PIECE = 65_536
UNDECIDED = frozenset({500, 502, 504})
"""Errors after which a paid request may have been accepted; here it was."""


def model(name: str) -> CatalogueModel:
    """Return a model at 5 cents a second: its name says what is special about it, if anything."""
    return CatalogueModel(
        id=name,
        name=name,
        kind="video",
        usd_per_second={"any": 0.05},
        p80=145.0,
        aspect_ratios=("16:9",),
        audio=True,
        audio_configurable=True,
        delivery="link" if "private" in name else "inline",
        upscales=name == "upscaler",
    )


MODELS = [
    model(name)
    for name in ("public-model", "model-private", "public", "private", "model", "m", "seedance", "upscaler")
]


class Venice(Sandbox):
    """A sandbox that answers each call with the faults listed for it, then with `always`, then honestly.

    Attributes:
        clip: what every job delivers.
    """

    def __init__(
        self,
        *faults: Faults,
        models: Iterable[Fault] = (),
        quote: Iterable[Fault] = (),
        queue: Iterable[Fault] = (),
        retrieve: Iterable[Fault] = (),
        video: Iterable[Fault] = (),
        complete: Iterable[Fault] = (),
        link: Iterable[Fault] = (),
        revoke: Iterable[Fault] = (),
        always: Fault | None = None,
        clip: bytes = CLIP,
        polls: int = 2,
        **options: Any,
    ) -> None:
        """Take faults, some of them by call; `polls` find each job running."""
        self.clip = clip
        listed: dict[Point, Iterable[Fault]] = {
            "models": models,
            "quote": quote,
            "queue": queue,
            "retrieve": retrieve,
            "video": video,
            "complete": complete,
            "link": link,
            "revoke": revoke,
        }
        planned = [at(point, fault) for point, answers in listed.items() for fault in answers]
        if always is not None:
            planned += [at(point, evolve(always, times=None)) for point in POINTS]
        options.setdefault("scenarios", {"*": Scenario(seconds=0, polls=polls)})
        super().__init__(
            api_key=options.pop("api_key", KEY),
            speed=1,
            models=MODELS,
            limits=None,
            clips=lambda **_: self.clip,
            faults=[*faults, *planned],
            **options,
        )

    @property
    def gets(self) -> int:
        """How many GETs the links have had."""
        return self.count("link")

    @property
    def origin(self) -> str:
        """The API's origin."""
        return self.base_url.removesuffix("/api/v1")

    @property
    def other_origin(self) -> str:
        """The origin of links."""
        assert self._venice is not None
        return self._venice.link_base

    def now(self) -> float:
        """Return the server's idea of the Unix time."""
        assert self._venice is not None
        return self._venice.epoch + self._venice.now()

    def asked(self, call: str) -> list[RecordedRequest]:
        """Return the requests of a call, named as by `wire`."""
        return [request for request in self.requests if named(request) == call]


def named(request: RecordedRequest) -> str:
    """Return what was called, as "POST /video/queue" or "GET /link"."""
    return f"{request.method} {'/link' if request.origin == 'link' else request.path}"


def at(point: Point, fault: Fault) -> Fault:
    """Return a fault for another call; only a paid request that is answered so has been acted upon."""
    return evolve(fault, on=point, processed=fault.processed and point == "queue")


def fault(**changes: Any) -> Fault:
    """Return a fault; which call it strikes is said by whoever lists it."""
    return Fault(on="queue", **changes)


def answer(
    body: bytes, kind: str, *, status: int = 200, headers: Mapping[str, str | None] | None = None, **more: Any
) -> Fault:
    """Answer with a body; a paid request so answered was accepted, if it succeeded or nobody can know."""
    more.setdefault("processed", status < 400 or status in UNDECIDED)
    return fault(status=status, body=body, headers={"Content-Type": kind, **(headers or {})}, **more)


def json_answer(value: object, **changes: Any) -> Fault:
    """Answer with JSON."""
    return answer(json.dumps(value).encode(), "application/json", **changes)


def video_answer(data: bytes, **changes: Any) -> Fault:
    """Answer with a whole clip."""
    return answer(data, "video/mp4", **changes)


def html_answer(**changes: Any) -> Fault:
    """Answer with a page, as an edge or a captive portal does."""
    return answer(b"<!doctype html><title>Please wait</title>", "text/html", **changes)


def partial_answer(
    data: bytes,
    start: int,
    *,
    total: int | None = None,
    headers: Mapping[str, str | None] | None = None,
    **changes: Any,
) -> Fault:
    """Answer a range with the bytes from `start` on; the total that is told may be wrong."""
    stated = f"bytes {start}-{len(data) - 1}/{len(data) if total is None else total}"
    changes = {"status": 206, **changes}
    return video_answer(data[start:], headers={"Content-Range": stated, **(headers or {})}, **changes)


def unsatisfiable(size: int) -> Fault:
    """Answer a range that starts behind the end of a file of `size` bytes."""
    return answer(b"", "text/plain", status=416, headers={"Content-Range": f"bytes */{size}"})


def redirect(location: str, status: int = 302) -> Fault:
    """Answer with another address."""
    return answer(b"", "text/plain", status=status, headers={"Location": location})


def rate_limited(until: object = None, *, retry_after: str | None = None, **headers: str) -> Fault:
    """Refuse for the rate; `until` is the reset header's text, a timestamp or nonsense."""
    told: dict[str, str | None] = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": None if until is None else str(until),
        "retry-after": retry_after,
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }
    return json_answer({"error": "Rate limit exceeded"}, status=429, headers=told)


def abuse_block(until: object) -> Fault:
    """Refuse a key that failed too often."""
    headers = {"x-ratelimit-resets": str(until)}
    return json_answer({"error": "Too many failed attempts"}, status=429, headers=headers)


def no_capacity(code: str = "MODEL_AT_CAPACITY") -> Fault:
    """Refuse for want of capacity, in the one way that says a paid request was not accepted."""
    return json_answer({"error": "The model is at capacity", "code": code}, status=503)


@frozen
class Answer:
    """An honest answer, to make another of it.

    Attributes:
        status: the HTTP status.
        headers: by lower-case name.
        body: the whole body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def parsed(cls, raw: bytes) -> Self:
        """Read an answer off the wire."""
        top, _, body = raw.partition(b"\r\n\r\n")
        status, *lines = top.decode("latin-1").split("\r\n")
        headers = (line.partition(":") for line in lines)
        return cls(int(status.split()[1]), {name.lower(): text.strip() for name, _, text in headers}, body)

    @property
    def raw(self) -> bytes:
        """The answer as on the wire."""
        return head(self.status, **self.headers) + self.body

    def headed(self, **headers: str | None) -> Self:
        """Change headers, or leave out those that are None; an underscore is a hyphen."""
        changed = {**self.headers, **{name.replace("_", "-"): text for name, text in headers.items()}}
        return evolve(self, headers={name: text for name, text in changed.items() if text is not None})

    def containing(self, body: bytes) -> Self:
        """Change the body, and its length with it."""
        return evolve(self.headed(content_length=str(len(body))), body=body)


def remade(change: Callable[[Answer], Answer], **more: Any) -> Fault:
    """Send what `change` makes of the honest answer."""

    async def made(raw: bytes) -> AsyncGenerator[bytes]:
        changed = change(Answer.parsed(raw))
        yield evolve(changed, body=b"").raw
        for start in range(0, len(changed.body), PIECE):
            await anyio.lowlevel.checkpoint()  # or all of it is read at once
            yield changed.body[start : start + PIECE]

    return fault(raw=made, **more)


def compressed(answer: Answer) -> Answer:
    """Compress an answer, whether or not the client accepts that."""
    return answer.headed(content_encoding="gzip").containing(gzip.compress(answer.body, mtime=0))


def in_chunks(answer: Answer, *, end: bytes = b"0\r\n\r\n") -> Answer:
    """Send the body in one chunk, and then `end`."""
    sent = answer.headed(content_length=None, transfer_encoding="chunked")
    return evolve(sent, body=chunk(answer.body) + end)


def lost(at: int = 0, *, reset: bool = False, **more: Any) -> Fault:
    """End the connection after so many bytes of the answer, its head included, by FIN or RST."""
    return fault(raw=lambda raw: raw, **{"reset_at" if reset else "cut_at": at}, **more)


def linked(url: str) -> Fault:
    """Give another link with the honest ticket."""
    return remade(
        lambda answer: answer.containing(json.dumps(json.loads(answer.body) | {"download_url": url}).encode())
    )


def endless(body: bytes, *, status: int = 200) -> Fault:
    """Answer with a body that is repeated until the client hangs up."""

    async def pieces() -> AsyncGenerator[bytes]:
        yield head(status, content_type="application/json", transfer_encoding="chunked")
        while True:
            yield chunk(body * (1 + 65_536 // len(body)))

    return fault(raw=lambda _: pieces())


def head(status: int, **headers: str) -> bytes:
    """Return the head of an answer; an underscore is a hyphen."""
    lines = [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status} Said", *lines, "", ""]).encode()


def chunk(piece: bytes) -> bytes:
    """Return a piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)
