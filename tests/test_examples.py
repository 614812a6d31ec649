"""Every example, run as a user would: a process of its own, over real sockets, killed and started again."""

from __future__ import annotations

import ast
import csv
import hashlib
import http.client
import http.server
import json
import runpy
import signal
import socket
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import anyio
import pytest

from tests.browser import tab
from tests.cases import for_each
from tests.programs import PATIENCE, PICTURE, ROOT, Programs, example, wait_until
from venice_async.sandbox import Sandbox, Scenario, tiny_clip
from venice_async.sandbox.clips.render import render_clip

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

CLIP = tiny_clip(200_000)
PUBLIC = "wan-2-7-text-to-video"
PRIVATE = "grok-imagine-text-to-video-private"
CONSENT = "seedance-2-0-image-to-video"
DEAR = "ltx-2-3-keyframes-to-video"
ORDER = {"model": PRIVATE, "prompt": "A gondola at dawn", "duration": "5s", "aspect_ratio": "16:9"}
TYPICAL = 75.0  # seconds; the P80 of the private model
INSTALLS = {
    "dbos": "dbos",
    "fastapi": "fastapi",
    "obstore": "storage",
    "opentelemetry": "opentelemetry-sdk",
    "psycopg_pool": "fleet",
    "pydantic": "fastapi",
    "uvicorn": "uvicorn",
}
"""What brings a module that an example imports: a package, or an extra of ours."""
HELD = Scenario(seconds=1e9, estimate=4.0)
"""Jobs that last until `let_go`, however slow the machine is."""
NEVER = Scenario(outcome="never")
NAMES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


@pytest.fixture
def scenarios() -> list[Scenario]:
    """Let jobs take about as long as the server says they do, or nobody would ask in time."""
    return [Scenario(seconds=TYPICAL)]


@pytest.fixture
def venice_sandbox_options(scenarios: list[Scenario]) -> dict[str, Any]:
    """Take tiny clips, half a second for a job, and no request that Venice would refuse."""
    return {"clips": CLIP, "speed": TYPICAL / 0.5, "scenarios": {"*": scenarios}, "strict": True}


@pytest.fixture
def programs(nursery: None, venice_sandbox: Sandbox, tmp_path: Path) -> Programs:
    """Return what runs programs against the sandbox."""
    return Programs(venice_sandbox, tmp_path)


def let_go(sandbox: Sandbox) -> None:
    """End the jobs that are held."""
    assert sandbox._venice is not None
    for charge in sandbox.charges:
        job = sandbox._venice.jobs.find(charge.queue_id)
        if job is not None and job.scenario is HELD:
            job.execution = 0.0


def clips(folder: Path) -> list[bytes]:
    """Return the clips in a folder, and see that nothing half-done lies beside them."""
    assert [] == list(folder.glob(".*.part"))
    return [path.read_bytes() for path in sorted(folder.glob("*.mp4"))]


def test_text_to_video_saves_a_clip(programs: Programs, venice_sandbox: Sandbox) -> None:
    said = programs.run(*example("text_to_video.py", "A gondola at dawn", "clip.mp4"))
    assert [CLIP] == clips(programs.folder)
    assert f"200,000 bytes, sha256 {hashlib.sha256(CLIP).hexdigest()[:12]}" in said
    assert ["A gondola at dawn"] == [request.json["prompt"] for request in paid(venice_sandbox)]


class TestChain:
    @pytest.fixture
    def venice_sandbox_options(self) -> dict[str, Any]:
        clip = render_clip(prompt="a boat", model="m", seconds=0.5, width=128, height=128)
        return {"clips": clip, "strict": True}

    def test_chain_begins_each_clip_with_the_last_frame_of_the_one_before(
        self, programs: Programs, venice_sandbox: Sandbox
    ) -> None:
        (programs.folder / "portrait.png").write_bytes(PICTURE)
        said = programs.run(*example("chain.py", "wan-2-7-image-to-video", "portrait.png", "film.mp4"))
        assert f"saved {programs.folder / 'film.mp4'}" == said.strip()
        assert 3 == len(clips(programs.folder))
        first, second = paid(venice_sandbox)
        assert first.json["image_url"] != second.json["image_url"]
        assert second.json["image_url"].startswith("data:image/png;base64,")


def test_progress_tells_how_a_job_goes_to_its_end(programs: Programs) -> None:
    said = programs.run(*example("progress.py", PRIVATE, "A gondola at dawn", "clip.mp4")).splitlines()
    assert "queued" in said
    assert f"saved {programs.folder / 'clip.mp4'}" == said[-1]
    assert [CLIP] == clips(programs.folder)


@pytest.mark.parametrize("scenarios", [[Scenario(seconds=TYPICAL, outcome="content_policy")]])
def test_progress_tells_of_a_failure_before_it_is_raised(programs: Programs) -> None:
    said = programs.run(*example("progress.py", PUBLIC, "A gondola at dawn", "clip.mp4"), code=1)
    assert said.index("failed: ") < said.index("Traceback")
    assert "ExceptionGroup" not in said


@pytest.mark.parametrize(("answers", "saved"), [(("yes", "yes", "yes"), 1), (("yes", "no", "yes"), 0)])
def test_image_with_consent_asks_for_all_three_statements(
    programs: Programs, venice_sandbox: Sandbox, answers: tuple[str, ...], saved: int
) -> None:
    (programs.folder / "portrait.png").write_bytes(PICTURE)
    command = example("image_with_consent.py", CONSENT, "portrait.png", "clip.mp4")
    said = programs.run(*command, stdin="".join(f"{answer}\n" for answer in answers))
    assert 3 == said.count("[yes/no]")
    assert saved == len(venice_sandbox.charges) == len(clips(programs.folder))
    assert ("Saved" if saved else "Nothing was charged") in said


def test_signed_requests_signs_each_of_them(programs: Programs, venice_sandbox: Sandbox) -> None:
    programs.run(*example("signed_requests.py", "signing-key", "A gondola at dawn", "clip.mp4"))
    assert [CLIP] == clips(programs.folder)
    api = [request.headers for request in venice_sandbox.requests if request.origin == "api"]
    assert len(api) == len({headers["x-signature"] for headers in api}) > 3


@pytest.mark.parametrize("scenarios", [[HELD]])
def test_resume_after_crash_goes_on_with_what_was_paid_for(
    programs: Programs, venice_sandbox: Sandbox
) -> None:
    command = example("resume_after_crash.py", "jobs.db", PRIVATE, "A gondola at dawn", "clip.mp4")
    with programs.started(*command) as process:
        wait_until(lambda: venice_sandbox.count("retrieve"))
        process.kill()
    let_go(venice_sandbox)
    assert [] == clips(programs.folder)
    assert "Resuming 1 job(s)" in programs.run(*command)
    assert [CLIP] == clips(programs.folder)
    assert 1 == len(venice_sandbox.charges)


@pytest.mark.parametrize("scenarios", [[HELD, NEVER]])
@pytest.mark.parametrize("name", ["service_aiohttp.py", "service_fastapi.py"])
def test_a_service_of_two_replicas_survives_a_kill_and_leaves_in_good_order(
    programs: Programs, venice_sandbox: Sandbox, name: str
) -> None:
    port, other = free_port(), free_port()
    named = {"Idempotency-Key": "order-4711"}
    with programs.started(*example(name, "clips", other)) as survivor:
        with programs.started(*example(name, "clips", port)) as process:
            wait_until(lambda: listens(port) and listens(other))
            assert ask(port, "POST", "/clips", [ORDER])[0] in {400, 422}
            assert 422 == ask(port, "POST", "/clips", {**ORDER, "prompt": ""})[0]
            assert ask(port, "POST", "/clips", {**ORDER, "aspectratio": "16:9"})[0] in {400, 422}
            assert 422 == ask(port, "POST", "/clips", {**ORDER, "model": "no-such-model"})[0]
            assert 422 == ask(port, "POST", "/clips", {**ORDER, "model": DEAR, "duration": "20s"})[0]
            assert 404 == ask(port, "GET", "/clips/no-such-clip/events")[0]
            assert [200, 200] == [ask(port, "GET", f"/{name}z")[0] for name in ("health", "ready")]
            placed = [ask(each, "POST", "/clips", ORDER, headers=named) for each in (port, other)]
            assert [(202, {"id": "order-4711"})] * 2 == placed  # paid for once
            assert 409 == ask(other, "POST", "/clips", {**ORDER, "prompt": "Rain"}, headers=named)[0]
            one = "/clips/order-4711"
            assert ["waiting"] * 2 == [ask(each, "GET", one)[1]["state"] for each in (port, other)]
            assert 404 == ask(port, "GET", f"{one}/video")[0]
            following = events(other, f"{one}/events")
            states = [next(following)]
            process.kill()
        let_go(venice_sandbox)
        states += following  # the other replica has taken it over
        ended = {"Last-Event-ID": states[-1]["state"]}
        assert (204, b"") == ask(other, "GET", f"{one}/events", headers=ended)  # no browser reconnects
        assert ("waiting", "succeeded") == (states[0]["state"], states[-1]["state"])
        assert [state for state in states if "link" in json.dumps(state)] == []
        assert (200, CLIP) == ask(other, "GET", f"{one}/video")
        assert (206, CLIP[100:200]) == ask(other, "GET", f"{one}/video", headers={"Range": "bytes=100-199"})
        second = ask(other, "POST", "/clips", ORDER)[1]["id"]
        one_who_leaves, one_who_stays = (events(other, f"/clips/{second}/events") for _ in range(2))
        assert ["waiting"] * 2 == [next(stream)["state"] for stream in (one_who_leaves, one_who_stays)]
        one_who_leaves.close()
        survivor.send_signal(signal.SIGTERM)
        assert {"waiting"} >= {state["state"] for state in one_who_stays}  # cut, and no end: it reconnects
        assert survivor.wait(PATIENCE) in {0, -signal.SIGTERM}
    assert "1 paid job(s) are left" in programs.output()
    with programs.started(*example(name, "clips", port)):
        wait_until(lambda: listens(port))
        assert "succeeded" == ask(port, "GET", one)[1]["state"]
        assert "waiting" == ask(port, "GET", f"/clips/{second}")[1]["state"]
    assert [CLIP] == clips(programs.folder / "clips")
    assert (2, 0) == (len(venice_sandbox.charges), programs.output().count("Traceback"))


def test_service_of_a_fleet_takes_orders_in_one_transaction_and_hands_out_links_from_any_replica(
    programs: Programs, venice_sandbox: Sandbox, fleet_database: str, s3: Any
) -> None:
    ports = [free_port(), free_port()]
    programs.environment |= s3.environment()
    worker = [sys.executable, "-m", "venice_async", "worker", "--journal", fleet_database]
    command = example("service_fleet.py", fleet_database, "s3://bucket/clips")
    with ExitStack() as stack:
        replicas = [stack.enter_context(programs.started(*command, port)) for port in ports]
        wait_until(lambda: all(map(listens, ports)))
        assert 404 == ask(ports[0], "GET", "/orders/99")[0]
        assert 422 == ask(ports[0], "POST", "/orders", {**ORDER, "prompt": "x" * 100_000})[0]
        status, answer = ask(ports[0], "POST", "/orders", ORDER)
        one = f"/orders/{answer['id']}"
        assert (202, "submitted") == (status, ask(ports[1], "GET", one)[1]["state"])
        following = events(ports[1], f"{one}/events")
        assert "submitted" == next(following)["state"]
        replicas[1].kill()  # while a browser watches
        replicas[1].wait(PATIENCE)
        with suppress(OSError, http.client.HTTPException):
            assert [] == list(following)
        stack.enter_context(programs.started(*command, ports[1]))
        wait_until(lambda: listens(ports[1]))
        process = stack.enter_context(programs.started(*worker))
        following = events(ports[1], f"{one}/events", headers={"Last-Event-ID": "submitted"})
        assert "succeeded" == list(following)[-1]["state"]
        assert 204 == ask(ports[0], "GET", f"{one}/events", headers={"Last-Event-ID": "succeeded"})[0]
        with urlopen(f"http://127.0.0.1:{ports[0]}{one}/video", timeout=PATIENCE) as clip:
            assert CLIP == clip.read()
        assert CLIP == s3.objects()[f"clips/{answer['id']}.mp4"]
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(PATIENCE)
    assert (1, 0) == (len(venice_sandbox.charges), programs.output().count("Traceback"))


class TestWatch:
    """The page on which a person watches an order, in a real browser."""

    @pytest.fixture
    def clip(self) -> bytes:
        return render_clip(prompt="a boat", model="m", seconds=0.5, width=128, height=128)

    @pytest.fixture
    def venice_sandbox_options(self, clip: bytes) -> dict[str, Any]:
        return {"clips": clip, "speed": 10.0, "scenarios": {"*": [HELD]}}

    @pytest.mark.anyio
    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    @pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
    async def test_the_page_goes_on_to_the_clip_though_its_replica_restarts(
        self,
        programs: Programs,
        venice_sandbox: Sandbox,
        fleet_database: str,
        s3: Any,
        browser: int,
        clip: bytes,
        sent: signal.Signals,
    ) -> None:
        said, progress = (f"document.querySelector('{name}')" for name in ("p", "progress"))
        programs.environment |= s3.environment()
        port = free_port()
        service = example("service_fleet.py", fleet_database, "s3://bucket/clips", port)
        worker = [sys.executable, "-m", "venice_async", "worker", "--journal", fleet_database]
        with programs.started(*worker), ExitStack() as replicas:
            replica = replicas.enter_context(programs.started(*service))
            wait_until(lambda: listens(port))
            number = ask(port, "POST", "/orders", ORDER)[1]["id"]
            assert 404 == ask(port, "GET", f"/orders/{number + 1}/watch")[0]
            async with tab(browser) as page:
                await page.look(f"http://127.0.0.1:{port}/orders/{number}/watch")
                await page.until(f"{said}.textContent == 'Being generated' && {progress}.value > 0")
                before = await page.run(f"{progress}.value")
                replica.send_signal(sent)
                assert replica.wait(PATIENCE) in {0, -sent}
                await page.until(f"{said}.textContent.includes('lost')")
                with refusing(port) as refused, anyio.fail_after(PATIENCE):  # as a proxy in front does
                    while len(refused) < 2:  # noqa: ASYNC110 - in a thread
                        await anyio.sleep(0.05)
                replicas.enter_context(programs.started(*service))
                await page.until(f"{said}.textContent == 'Being generated' && {progress}.value > {before}")
                let_go(venice_sandbox)
                await page.until("document.querySelector('video').videoWidth == 128")
                assert ["Ready"] == await page.texts("p")
                assert 1 == sum(address.endswith("/watch") for address in page.asked)
        assert clip == s3.objects()[f"clips/{number}.mp4"]
        assert (1, 0) == (len(venice_sandbox.charges), programs.output().count("Traceback"))


@contextmanager
def refusing(port: int) -> Generator[list[str]]:
    """Answer 503 to everybody within the block; give the paths that were asked for."""
    asked: list[str] = []

    class Refusal(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(503)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Refusal) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("scenarios", [[HELD]])
def test_dbos_sqlite_goes_on_after_a_kill_with_what_was_paid_for(
    programs: Programs, venice_sandbox: Sandbox
) -> None:
    command = example("dbos_sqlite.py", PRIVATE, "clips", "order-4711", "A gondola at dawn")
    with programs.started(*command) as process:
        wait_until(lambda: venice_sandbox.count("retrieve"))
        process.kill()
    let_go(venice_sandbox)
    assert "clip: " in programs.run(*command)
    assert [CLIP] == clips(programs.folder / "clips")
    assert 1 == len(venice_sandbox.charges)


def test_batch_from_csv_makes_a_clip_for_every_line_and_pays_for_none_twice(
    programs: Programs, venice_sandbox: Sandbox
) -> None:
    lines = (
        "prompt,duration,aspect_ratio,resolution",
        "A gondola at dawn,5s,16:9,480p",
        "A gondola at noon,10s,16:9,",
        "Rain,99s,16:9,",
    )
    (programs.folder / "shots.csv").write_text("\n".join(lines))
    command = example("batch_from_csv.py", "shots.csv", "clips", PUBLIC, "20.00")
    programs.run(*command)
    said = programs.run(*command)
    assert [CLIP, CLIP] == clips(programs.folder / "clips")
    assert 2 == len(venice_sandbox.charges)
    assert f"${sum(charge.usd for charge in venice_sandbox.charges):.2f} of $20.00 are spent" in said
    with (programs.folder / "clips" / "results.csv").open(newline="") as file:
        results = sorted(csv.DictReader(file), key=lambda row: row["line"])
    assert [("1", "True"), ("2", "True"), ("3", "False")] == [
        (row["line"], row["charged"]) for row in results
    ]
    assert [True, True, False] == [bool(row["clip"]) for row in results]


@pytest.mark.parametrize("line", ["A gondola,5s,,more", "A gondola,5s,gondola.png"])
def test_batch_from_csv_names_the_line_that_it_cannot_use(
    programs: Programs, venice_sandbox: Sandbox, line: str
) -> None:
    (programs.folder / "shots.csv").write_text(f"prompt,duration,image_url\nRain,5s,\n{line}\n")
    said = programs.run(*example("batch_from_csv.py", "shots.csv", "clips", PUBLIC, "20.00"), code=1)
    assert "shots.csv, line 3: " in said
    assert ("Traceback" not in said, []) == (True, venice_sandbox.requests)


@pytest.mark.parametrize("scenarios", [[HELD]])
def test_worker_hands_its_paid_jobs_over_to_the_next_one(programs: Programs, venice_sandbox: Sandbox) -> None:
    command = example("worker.py", PRIVATE, "clips", "tickets.jsonl")
    with programs.started(*command) as process:
        assert process.stdin is not None
        process.stdin.write(b"A gondola at dawn\nA gondola at noon\n")
        process.stdin.flush()
        wait_until(lambda: len(venice_sandbox.charges) == 2)
        wait_until(lambda: programs.output().count("generating") >= 2)
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(PATIENCE)
    left = programs.folder / "tickets.jsonl"
    let_go(venice_sandbox)
    assert (2, 0o600) == (len(left.read_text().splitlines()), left.stat().st_mode & 0o777)
    said = programs.run(*command, stdin="")
    assert 2 == said.count("done, ")
    assert [CLIP, CLIP] == clips(programs.folder / "clips")
    assert (2, "") == (len(venice_sandbox.charges), left.read_text())


def test_tracing_opentelemetry_reports_a_span_for_every_job(programs: Programs) -> None:
    said = programs.run(*example("tracing_opentelemetry.py", PRIVATE, "clips", "A gondola at dawn", "Rain"))
    assert 2 == said.count('"name": "venice.job"') == len(clips(programs.folder / "clips"))
    for name in ("Waiting", "Downloading", "Saved", "Succeeded", "venice.job.duration", "venice.clip.size"):
        assert f'"{name}"' in said
    assert "A gondola at dawn" not in said


@for_each("name", NAMES)
def test_an_example_says_what_to_install(name: str) -> None:
    tree = ast.parse((ROOT / "examples" / name).read_text(encoding="utf-8"))
    modules = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    others = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names
    wanted = {INSTALLS[module] for module in others - {"aiohttp", "venice_async"}}
    said = " ".join(line for line in (ast.get_docstring(tree) or "").split("`") if line.startswith("pip "))
    assert {part for part in wanted if part not in said} == set()


@for_each("name", NAMES)
def test_an_example_says_how_to_run_it_and_names_no_model(name: str) -> None:
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")
    assert f"python examples/{name} " in (ast.get_docstring(ast.parse(text)) or "")
    assert not any(family in text for family in ("wan-", "seedance-", "grok-", "kling-", "veo-"))


def test_an_example_without_arguments_says_how_to_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        path = ROOT / "examples" / name
        monkeypatch.setattr(sys, "argv", [str(path)])
        with pytest.raises(SystemExit, match=f"python examples/{name} "):
            runpy.run_path(str(path), run_name="__main__")


def test_every_example_is_run() -> None:
    text = (ROOT / "tests" / "test_examples.py").read_text(encoding="utf-8")
    assert [] == [name for name in NAMES if f'"{name}"' not in text]


def paid(sandbox: Sandbox) -> list[Any]:
    return [request for request in sandbox.requests if request.point == "queue"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def ask(
    port: int, method: str, path: str, body: object = None, *, headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    """Return status and answer: JSON as what it says, anything else as bytes."""
    headers = {"Content-Type": "application/json", **(headers or {})}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        content, kind = response.read(), response.headers.get_content_type()
        return response.status, json.loads(content) if kind == "application/json" else content
    finally:
        connection.close()


def events(port: int, path: str, headers: Mapping[str, str] = {}) -> Generator[dict[str, Any]]:
    """Yield server-sent events until the server ends them; each is named after the state it tells."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        assert "text/event-stream" == response.headers.get_content_type()
        name = ""
        for line in response:
            field, _, value = line.decode().strip().partition(": ")
            if field == "event":
                name = value
            if field == "data":
                known = json.loads(value)
                assert known["state"] == name
                yield known
    finally:
        connection.close()
