"""A world to run the client in for a long time: a server that counts charges, and processes that are killed.

The server is the sandbox's, asked without a socket; the journal is on disk. A process that is killed leaves
what the disk held at that moment, and nothing that it does afterwards reaches the server or the journal of
the next one. On the loop of a world (`run`) the same choices give the same run.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Final, Self
from unittest import mock
from urllib.parse import urlsplit

import anyio
from attrs import define

from tests.replay import ReplayClock
from tests.venice import model
from venice_async import (
    ConnectError,
    DisconnectedError,
    Failed,
    JournalError,
    Limits,
    QueueOutcomeUnknownError,
    VeniceClient,
    VideoJob,
    VideoRequest,
)
from venice_async.io.journal.entries import JournalEntry
from venice_async.io.journal.journal import Journal
from venice_async.io.transport import Content
from venice_async.sandbox import RecordedRequest, Scenario, tiny_clip
from venice_async.sandbox.jobs import Job
from venice_async.sandbox.options import Options
from venice_async.sandbox.venice import Venice
from venice_async.sansio.http.wire import HttpRequest
from venice_async.sansio.job.states import Downloading, State
from venice_async.sansio.retries import Call

ORIGIN: Final = "http://127.0.0.1:1"
MOST_GETS: Final = 5
PATIENT_GETS: Final = 2
"""GETs of a link that may be made to fail; what is left is for those that a crash cuts short."""

QUEUE_ANSWERS: Final = (
    "well",
    "unsent",
    "lost",
    "lost uncharged",
    "cut",
    "500",
    "500 uncharged",
    "503",
    "429",
    "402",
)
ANSWERS: Final = (
    *("unsent", "lost", "cut", "502", "503", "429", "nonsense"),
    *("404", "400", "403 edge", "COMPLETED", "failed"),
)
SPOILT: Final[Mapping[str, tuple[int, object]]] = {
    **{status: (int(status), {"error": "no"}) for status in ("502", "503", "429", "404")},
    "403 edge": (403, {"message": "Just a moment"}),
    "400": (400, {"error": "Request ID is invalid"}),
    "COMPLETED": (200, {"status": "COMPLETED"}),
    "nonsense": (200, ["?"]),
}
ONLY_OF_POLLS: Final = frozenset({"400", "COMPLETED", "nonsense"})
NEVER: Final = math.inf


@define
class Answer:
    """One answer, of which some may be missing; see `transport.Response`."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    process: Process
    cut: bool = False

    request_sent: bool = True

    async def peek(self) -> bytes:
        return self.body[:16]

    async def read(self, _: int) -> Content:
        data = b""
        try:
            async for chunk in self.chunks():
                data += chunk
        except DisconnectedError as error:
            return Content(data, error)
        return Content(data)

    async def chunks(self) -> AsyncGenerator[bytes]:
        middle = len(self.body) // 2
        await self.process.pass_by("a body begins")
        yield self.body[:middle]
        await self.process.pass_by("half a body")
        if self.cut:
            msg = "cut"
            raise DisconnectedError(msg)
        yield self.body[middle:]

    def close(self) -> None:
        pass


class World:
    """The server, the disk, and the one process that lives at a time.

    Attributes:
        gets: how often each link was fetched, by its path.
        faults: how the next answers to anything but a paid request go wrong.
        steps: what was done, by kind.
        crashes: by where the process was.
        story: what passed, with its time: equal choices tell equal stories.
        used_up: the prompts of which a job said that it failed with the last GET of its link. One is counted
            before it is made, so that a crash may cost one that the server never sees.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder = folder
        self.clips = folder / "clips"
        self.clips.mkdir()
        self.chance = random.Random(seed)
        self.story: list[tuple[float, str]] = []
        self.server: Venice | None = None
        self.gets: Counter[str] = Counter()
        self.faults: list[str] = []
        self.orders: dict[str, str] = {}
        self.names = 0
        self.lives = 0
        self.process: Process | None = None
        self.crashes: Counter[str] = Counter()
        self.used_up: set[str] = set()

    @property
    def jobs(self) -> list[Job]:
        """The server's jobs."""
        return [] if self.server is None else self.server.jobs.all()

    @property
    def charges(self) -> Counter[str]:
        """How often each request was paid for, by its prompt."""
        return Counter(job.request["prompt"] for job in self.jobs)

    async def live(self) -> None:
        """Let a process live, and take up what the one before left."""
        assert self.process is None
        self.server = self.server or Venice(
            Options(
                models=[model("model"), model("model-private")],
                scenarios={"*": Scenario(seconds=NEVER)},
                speed=1,
                limits=None,
                clips=lambda *, prompt, **_: self.clip(prompt),
                link_gets=1_000,
                media_lifetime=NEVER,
                id_lifetime=NEVER,
            )
        )
        self.server.link_base = ORIGIN
        self.lives += 1
        self.process = Process(self, self.folder / f"life-{self.lives}")
        await self.process.begin()
        self.tell("began")

    def tell(self, what: str) -> None:
        """Note what passes."""
        self.story.append((asyncio.get_running_loop().time(), what))

    async def leave(self) -> None:
        """End the process in good order."""
        assert self.process is not None
        await self.process.venice.aclose()
        await self.process.end()
        self._bury()

    async def crash(self) -> None:
        """Kill the process, now."""
        assert self.process is not None
        self.process.die("waiting")
        await self.settle()

    async def settle(self) -> None:
        """Bury a process that was killed."""
        if self.process is not None and self.process.dead:
            with anyio.move_on_after(5):
                await self.process.venice.aclose()
            await self.process.end()
            self._bury()

    def order(self, *, private: bool, answer: str) -> VideoJob:
        """Have the process pay for one more clip; `answer` is how its paid request goes."""
        assert self.process is not None
        self.names += 1
        name = f"clip-{self.names}"
        self.orders[name] = answer
        request = VideoRequest(model="model-private" if private else "model", prompt=name, duration="5s")
        job = self.process.venice.generate(request, to=self.clips / f"{name}.mp4")
        self.process.started.append(job)
        return job

    def complete(self) -> None:
        """Let the server finish its work."""
        for job in self.jobs:
            job.execution = 0.0

    def clip(self, name: str) -> bytes:
        return tiny_clip(300, seed=int(name.partition("-")[2]))

    def check(self) -> None:
        """Assert what must hold at any moment."""
        assert {1} >= set(self.charges.values()), "charged twice"
        assert MOST_GETS >= max(self.gets.values(), default=0), "too many GETs"
        for path in self.clips.glob("*.mp4"):
            assert path.read_bytes() == self.clip(path.stem), f"{path.name} is damaged"

    async def finish(self) -> Counter[str]:
        """Bring everything home with a server in good health, and say what came of it: nothing is lost."""
        self.faults.clear()
        self.orders.clear()
        await self.settle()
        if self.process is not None:
            self.process.crash_in = None
            await self.leave()
        self.complete()
        await self.live()
        assert self.process is not None
        unknown: set[str] = set()
        for started in self.process.started:
            await started.ended()
            name, state = (started.request and started.request.prompt) or "", started.state
            if isinstance(state, Failed) and isinstance(state.error, QueueOutcomeUnknownError):
                unknown.add(name)
            if isinstance(state, Failed) and "was used" in state.error.message:
                self.used_up.add(name)  # it was so when the process began
        self.check()
        found: Counter[str] = Counter(orders=self.names)
        for job in self.jobs:
            name = job.request["prompt"]
            saved = (self.clips / f"{name}.mp4").exists()
            lost = not (saved or not job.succeeds or name in unknown | self.used_up)
            assert not lost, f"{name} was paid for and is lost"
            fate = (
                "saved" if saved else "failed" if not job.succeeds else "unknown" if name in unknown else ""
            )
            found[fate or "link used up"] += 1
        assert [] == [path.name for path in self.clips.iterdir() if path.suffix != ".mp4"], (
            "part files are left"
        )
        await self.leave()
        self.check()
        return found

    def _bury(self) -> None:
        assert self.process is not None
        if not self.process.dead:
            self.process.keep()
        shutil.rmtree(self.process.folder)
        self.process = None

    async def answer(self, request: HttpRequest, process: Process) -> Answer:
        """Do what is asked, and answer; what was paid for may fail, and an answer go wrong or be cut."""
        assert self.server is not None
        by_link = request.call in {Call.LINK, Call.REVOKE}
        url = urlsplit(request.url)
        fields: dict[str, Any] = json.loads(request.body or b"{}")
        asked = RecordedRequest(
            method=request.method,
            path=url.path,
            point="complete" if request.call is Call.OTHER else request.call.value,
            json=fields,
            headers={"content-type": "application/json"} | {n.lower(): v for n, v in request.headers.items()},
            target=request.url.removeprefix(ORIGIN),
            at=self.server.now(),
            origin="link" if by_link else "api",
        )
        fault = ""
        if request.call is Call.QUEUE:
            fault = self.orders.pop(fields["prompt"], "well")
            if fault == "lost uncharged":
                raise DisconnectedError(fault)
            if fault in {"503", "429", "402", "500 uncharged"}:
                return reply(process, int(fault[:3]), {"error": "no", "code": "MODEL_OFFLINE"})
        else:
            if request.call is Call.LINK:
                self.gets[url.path] += 1
            job = self.server.job_of(asked)
            assert job is not None
            name = job.request["prompt"]
            if request.call in {Call.OTHER, Call.REVOKE}:
                kept = (self.clips / f"{name}.mp4").read_bytes()
                assert kept == self.clip(name), "deleted before it was safe"
            elif self.faults and (request.call is Call.RETRIEVE or self.gets[url.path] <= PATIENT_GETS):
                fault = self.faults.pop()
            if fault == "failed" and request.call is Call.RETRIEVE and not job.done(asked.at):
                job.scenario, job.execution = Scenario(outcome="inference_failed"), 0.0
            spoilt = fault in SPOILT and not (by_link and fault in ONLY_OF_POLLS)
            if job.succeeds and spoilt and not (fault == "COMPLETED" and job.delivery == "link"):
                return reply(process, *SPOILT[fault])
        given = self.server.answer(await self.server.prepared(asked))
        if fault == "500":
            return reply(process, 500, {"error": "charged all the same"})
        if fault == "lost" and request.call is Call.QUEUE:
            raise DisconnectedError(fault)
        headers = {name.lower(): text for name, text in given.headers.items()}
        if by_link:
            headers["content-length"] = str(len(given.body))
        return Answer(
            given.status, bytes(given.body), headers, process, fault == "cut" or (fault == "lost" and by_link)
        )


class Process:
    """One life of the client.

    Attributes:
        dead: whether it was killed: nothing that it does counts from then on.
        crash_in: after how many points it is to be killed; None lets it live.
        crash_at: at which kind of point it is to be killed; None lets it live.
        started: its jobs.
    """

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.dead = False
        self.crash_in: int | None = None
        self.crash_at: str | None = None
        self.started: list[VideoJob] = []
        self.gets: Counter[str] = Counter()
        folder.mkdir(exist_ok=True)

    async def begin(self) -> None:
        """Open the client, and recover."""
        limits = Limits(queue_per_minute=100_000, retrieve_per_minute=100_000)
        self.venice = VeniceClient(
            "key",
            sidecars=False,
            base_url=f"{ORIGIN}/api/v1",
            journal=self.folder / "jobs.db",
            limits=limits,
            on_state=self.note,
        )
        journal = type("Journal", (WatchedJournal,), {"process": self})
        with (
            mock.patch("venice_async.engine.runtime.AiohttpTransport", return_value=Wire(self)),
            mock.patch(
                "venice_async.engine.runtime.SystemClock", return_value=ReplayClock(self.world.chance)
            ),
            mock.patch("venice_async.io.journal.journal.Journal", journal),
        ):
            await self.venice.__aenter__()
        self.started += await self.venice.recover()

    def note(self, job: VideoJob, state: State) -> None:
        """Note that a link is used up."""
        self.world.tell(f"{job.request and job.request.prompt} {type(state).__name__}")
        assert job.request is not None
        if isinstance(state, Downloading):
            self.gets[job.request.prompt or ""] = state.gets
        if isinstance(state, Failed) and not self.dead and self.gets[job.request.prompt or ""] == MOST_GETS:
            self.world.used_up.add(job.request.prompt or "")

    def die(self, where: str) -> None:
        """Be killed, once: keep what is on the disk now, and do nothing any more."""
        if self.dead:
            return
        self.world.tell(f"killed {where}")
        self.world.crashes[where] += 1
        self.keep()
        self.dead = True

    def keep(self) -> None:
        """Hand the journal on as it is, between two transactions."""
        heir = self.world.folder / f"life-{self.world.lives + 1}"
        shutil.copytree(self.folder, heir, ignore=shutil.ignore_patterns("*.owner", "*-shm"))

    async def end(self) -> None:
        """Let what is left of a killed process come to its end."""
        task = self.venice._runtime._task
        assert task is not None
        await asyncio.wait({task})

    async def pass_by(self, where: str) -> None:
        """Pass a point at which the process may be killed; a dead one gets no further."""
        await anyio.lowlevel.checkpoint()
        self.world.tell(where)
        if self.crash_in is not None and not self.dead:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.die(where)
        if where == self.crash_at and not self.dead:
            self.die(where)
        if self.dead:
            msg = "the process is dead"
            raise DisconnectedError(msg)


class Wire:
    """The network between a process and the server; see `transport.Transport`."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def send(self, request: HttpRequest) -> Answer:
        world, name = self.process.world, request.call.value
        await self.process.pass_by(f"before {name}")
        await anyio.sleep(world.chance.random())
        await self.process.pass_by(f"sending {name}")
        self.fail("unsent", request, ConnectError)
        answer = await world.answer(request, self.process)
        world.check()
        await anyio.sleep(world.chance.random())
        await self.process.pass_by(f"after {name}")
        if request.call is not Call.LINK:
            self.fail("lost", request, DisconnectedError)
        return answer

    def fail(self, fault: str, request: HttpRequest, error: type[Exception]) -> None:
        """Fail in that way if it is due."""
        world = self.process.world
        if request.call is Call.QUEUE:
            name = json.loads(request.body or b"{}")["prompt"]
            if fault == "unsent" and world.orders.get(name) == "unsent":
                del world.orders[name]
                raise error(fault)
        elif world.faults and world.faults[-1] == fault:
            world.faults.pop()
            raise error(fault)


class WatchedJournal(Journal):
    """A journal whose process may be killed before and after each of its writes."""

    process: Process

    async def begin(self, entry: JournalEntry, **more: Any) -> JournalEntry:
        await self._at("before begin")
        begun = await super().begin(entry, **more)
        await self._at("after begin")
        return begun

    async def record(self, entry_id: str, state: State) -> None:
        kind = type(state).__name__
        await self._at(f"before record {kind}")
        await super().record(entry_id, state)
        await self._at(f"after record {kind}")

    async def withdraw(self, entry_id: str) -> None:  # type: ignore[misc, override]  # final for all but tests; see `_operation`
        await self._at("before withdraw")
        await super().withdraw(entry_id)
        await self._at("after withdraw")

    async def _at(self, where: str) -> None:
        try:
            await self.process.pass_by(where)
        except DisconnectedError as error:
            msg = "the process is dead"
            raise JournalError(msg) from error


def reply(process: Process, status: int, value: object, *, cut: bool = False) -> Answer:
    """Answer with JSON."""
    return Answer(status, json.dumps(value).encode(), {"content-type": "application/json"}, process, cut)


async def take_step(world: World, counts: Counter[str]) -> None:
    """Do something at random, as a user, a network or a machine would."""
    chance = world.chance
    await world.settle()
    if world.process is None:
        counts["restart"] += 1
        await world.live()
        return
    kind = chance.choices(
        ("queue", "wait", "cancel", "drop", "complete", "arm", "crash", "leave"),
        (20, 34, 4, 14, 12, 10, 3, 3),
    )[0]
    counts[kind] += 1
    match kind:
        case "queue":
            answer = chance.choice(QUEUE_ANSWERS) if chance.random() < 0.5 else "well"
            world.order(private=chance.random() < 0.5, answer=answer)
        case "wait":
            await anyio.sleep(10 ** chance.uniform(-2, 2))
        case "cancel" if world.process.started:
            chance.choice(world.process.started).cancel()
        case "drop":
            world.faults += chance.choices(ANSWERS, k=chance.randint(1, 4))
        case "complete":
            world.complete()
        case "arm":
            world.process.crash_in = chance.randint(0, 25)
        case "crash":
            await world.crash()
        case "leave":
            await world.leave()
        case _:
            pass
    await world.settle()
    world.check()
