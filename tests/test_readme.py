"""The README is true: every snippet and command runs, every table is complete, every link leads somewhere."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import sys
import tomllib
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import attrs
import av
import pytest
import typer

import venice_async
from tests.programs import PICTURE, Programs
from tests.readme import PATH, Block, anchors, blocks, prose, section, spans, table
from venice_async import Limits, Polling, Retries, State, Timeouts, VeniceClient, VeniceError, VideoRequest
from venice_async.cli.app import app
from venice_async.cli.exits import TABLE
from venice_async.sandbox import Sandbox, tiny_clip

if TYPE_CHECKING:
    from collections.abc import Mapping

CLIP = tiny_clip(300_000)
COMMAND = Path(sys.executable).with_name("venice-async")
SAID = {  # what a section's snippet prints
    "Watch a job": r"(?s)about \d+ s to go\n.*300000 of 300000 bytes",
    "Many at once": r"(?s)(?=.*^0 \S+\.mp4$)(?=.*^1 \S+\.mp4$)(?=.*^2 \S+\.mp4$)",
    "Survive a crash": r"(?s)Ticket\(.*left\.mp4\n.*left\.mp4",
    "Know the price, and the models": r"0\.75 USD; \('5s', .*'480p'",
    "Stop watching, and go on later": r"^$",
    "Logs, metrics and traces": r"(?s)- Queueing\n.*-\S+ Waiting\n.* Succeeded$",
    "Test your own code": r"(?s)policies.*\[Charge\(.*refunded=True.*\)\] \d+$",
}


@pytest.fixture
def venice_sandbox_options() -> dict[str, Any]:
    """Take tiny clips."""
    return {"clips": CLIP}


@pytest.fixture
def programs(venice_sandbox: Sandbox, tmp_path: Path) -> Programs:
    """Return what runs programs against the sandbox."""
    return Programs(venice_sandbox, tmp_path)


def test_the_first_snippet_is_a_whole_program(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(blocks("python")[0].code)
    said = programs.run(sys.executable, "program.py")
    assert CLIP == (tmp_path / "clip.mp4").read_bytes()
    assert said.startswith(f"{tmp_path / 'clip.mp4'} {len(CLIP)} ")


class Reader:
    """Stands for a web response."""

    def __init__(self) -> None:
        self.received = b""

    async def write(self, chunk: bytes) -> None:
        self.received += chunk


@pytest.mark.anyio
async def test_every_other_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first-frame.png").write_bytes(PICTURE)
    said: dict[str, str] = {}
    async with Sandbox(clips=CLIP) as sandbox:
        monkeypatch.setenv("VENICE_API_KEY", sandbox.api_key)
        monkeypatch.setenv("VENICE_BASE_URL", sandbox.base_url)
        await leave_a_job_unfinished(sandbox)
        names: dict[str, Any] = {"show_to_the_user": agree, "VideoRequest": VideoRequest}
        for block in blocks("python")[1:]:
            async with VeniceClient() as venice:
                names |= {"venice": venice, "request": wanted()}
                said[block.section] = await printed(block, names)
                if block.section == "Straight into a response":
                    reader = Reader()
                    await names["clip"](reader)
                    assert CLIP == reader.received
    for heading, pattern in SAID.items():
        assert re.search(pattern, said[heading], re.MULTILINE), said[heading]
    assert 3 == len(list((tmp_path / "clips").glob("*.mp4")))
    assert {"clip.mp4", "later.mp4", "left.mp4", "animated.mp4", "portrait.mp4", "told.mp4"} == {
        path.name for path in tmp_path.glob("*.mp4")
    }
    assert 2 == names["larger"].upscale_factor
    assert names["story"].prompt.startswith("Refer to <Subject 1> in <Image 1>")


def wanted() -> VideoRequest:
    """Return the request of the README's first snippet."""
    call = next(
        node
        for node in ast.walk(ast.parse(blocks("python")[0].code))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "VideoRequest"
    )
    return VideoRequest(**{str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords})


async def leave_a_job_unfinished(sandbox: Sandbox) -> None:
    """Do as a process that dies while it waits."""
    with pytest.raises(ZeroDivisionError):
        async with VeniceClient(journal="jobs.db") as venice:
            await venice.generate(wanted(), to="left.mp4").queued()
            raise ZeroDivisionError
    assert 1 == len(sandbox.charges)


async def agree(policy: str) -> bool:
    """Stand for a person who reads and agrees."""
    return bool(policy)


async def printed(block: Block, names: dict[str, Any]) -> str:
    """Run a snippet, which may await, and return what it prints; its tracebacks name the README's lines."""
    tree = ast.increment_lineno(ast.parse(block.code), block.line - 1)
    code = compile(tree, str(PATH), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    output = StringIO()
    with redirect_stdout(output):
        running = eval(code, names)  # noqa: S307 - our own README
        if inspect.isawaitable(running):
            await running
    return output.getvalue()


def one_command(heading: str) -> list[str]:
    """Return the parts of the one command line that begins a section."""
    block = next(block for block in blocks("sh") if block.section == heading)
    assert 1 == len(block.code.splitlines())
    return [part.strip() for part in block.code.split("&&")]


def test_the_quick_start_sets_up_everything_and_makes_a_clip_that_plays(
    programs: Programs, tmp_path: Path
) -> None:
    environment, install, run = one_command("Quick start")
    assert "python3 -m venv .venv" == environment
    assert install.startswith(".venv/bin/pip install ")
    assert "'.[cli,sandbox]'" in install
    words = shlex.split(run)
    assert ".venv/bin/venice-async" == words[0]
    assert {"--sandbox", "--overwrite"} <= set(words)  # it costs nothing, and works a second time
    programs.run(COMMAND, *words[1:])
    with av.open(tmp_path / "clip.mp4") as clip:
        frames = sum(1 for _ in clip.decode(video=0))
        seconds = float(clip.duration or 0) / av.time_base
    assert frames >= 5 * 10
    assert 5.0 == pytest.approx(seconds, abs=0.2)


def test_the_tests_line_sets_up_everything_and_runs_pytest() -> None:
    environment, install, run = one_command("Tests")
    assert "python3 -m venv .venv" == environment
    assert install.startswith(".venv/bin/pip install ")
    assert "'.[test]'" in install
    assert ".venv/bin/python -m pytest" == run


def test_the_install_lines_name_extras_that_exist() -> None:
    (lines,) = [block.code.splitlines() for block in blocks("") if block.section == "Install"]
    project = tomllib.loads((PATH.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {
        name for line in lines for found in re.findall(r"\[([\w,]+)\]", line) for name in found.split(",")
    }
    assert all(line.startswith("pip install ") for line in lines)
    assert {"cli", "sandbox"} == wanted <= set(project["optional-dependencies"])


def test_every_other_command_runs(programs: Programs, tmp_path: Path) -> None:
    (jobs,) = blocks("json")
    (tmp_path / "jobs.jsonl").write_text(jobs.code)
    others = [block for block in blocks("sh") if block.section not in {"Quick start", "Tests"}]
    lines = [shlex.split(line) for block in others for line in block.code.splitlines()]
    said = {words[1]: programs.run(COMMAND, *words[1:]) for words in lines}
    assert {"models", "quote", "generate", "batch", "jobs", "resume", "doctor"} == said.keys()
    assert CLIP == (tmp_path / "dawn.mp4").read_bytes()
    assert [CLIP] == [path.read_bytes() for path in tmp_path.glob("clips/*.mp4")]
    assert (tmp_path / "clips" / "report.html").exists()
    assert "wan-2-7-text-to-video" in said["models"]
    assert "0.75" in said["quote"]
    assert "clock" in said["doctor"]


def test_every_command_that_the_text_names_exists_with_its_options() -> None:
    named = [shlex.split(span) for span in spans(prose()) if span.startswith("venice-async ")]
    root = cast("Any", typer.main.get_command(app))
    assert len(named) >= 4
    for words in named:
        command = root.commands[words[1]]
        known = {flag for parameter in command.params for flag in parameter.opts}
        assert set() == {word for word in words if word.startswith("--")} - known


def test_the_table_of_exit_codes_is_that_of_the_command_line() -> None:
    assert [[str(row.code), row.text] for row in TABLE] == table("Command line")


def test_the_table_of_states_is_complete_and_names_what_they_carry() -> None:
    rows = [
        (spans(cells[0]), [span.removeprefix(".") for span in spans(cells[2])]) for cells in table("Guide")
    ]
    assert {kind.__name__ for kind in get_args(State)} == {name for names, _ in rows for name in names}
    for names, facts in rows:
        known = [set(dir(getattr(venice_async, name))) for name in names]
        assert all(any(fact in facts_of_one for facts_of_one in known) for fact in facts)


def public_errors() -> set[str]:
    """Return the names of all errors that can be imported."""
    found = {name: getattr(venice_async, name) for name in venice_async.__all__}
    return {name for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, VeniceError)}


def test_the_table_of_errors_is_complete_and_agrees_with_the_classes() -> None:
    named = {span for span in spans(section("When something goes wrong")) if span.endswith("Error")}
    assert public_errors() == named
    for cells in table("When something goes wrong"):
        charged = {"no": False, "**not known**": None}.get(cells[2], ...)
        kinds = [getattr(venice_async, span) for span in spans(cells[0]) if span.endswith("Error")]
        facts = [
            span.lstrip(".") for cell in cells[1:3] for span in spans(cell) if re.fullmatch(r"\.\w+", span)
        ]
        assert kinds
        assert charged is ... or {charged} == {kind.charged for kind in kinds}
        assert all(
            hasattr(kind, fact) for kind in kinds for fact in facts if kind is not venice_async.UsageError
        )


def test_the_table_of_options_is_complete_and_agrees_with_the_defaults() -> None:
    named: dict[str, set[str]] = {}
    for cells in table("Options"):
        for span in spans(cells[0]):
            owner, values = option(span)
            assert values == {name: default_of(owner)[name] for name in values}
            named.setdefault(owner, set()).update(values)
    owners = ("VeniceClient", "Timeouts", "Limits", "Polling", "Retries", "generate", "batch")
    assert {owner: set(default_of(owner)) for owner in owners} == named


def option(text: str) -> tuple[str, Mapping[str, object]]:
    """Return whose options a cell names, and their values; `journal=None` is one of the client's."""
    whole = text if "(" in text else f"VeniceClient({text})"
    call = ast.parse(whole, mode="eval").body
    assert isinstance(call, ast.Call)
    values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    return ast.unparse(call.func), values


def default_of(owner: str) -> dict[str, object]:
    """Return the defaults of an options class or of a method of the client."""
    kinds: dict[str, type[Any]] = {kind.__name__: kind for kind in (Timeouts, Limits, Polling, Retries)}
    if owner in kinds:
        return attrs.asdict(kinds[owner]())
    called: Any = VeniceClient if owner == "VeniceClient" else getattr(VeniceClient, owner)
    parameters = inspect.signature(called).parameters.values()
    known = {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}
    return {name: value for name, value in known.items() if name not in {kind.lower() for kind in kinds}}


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose()):
        path, _, anchor = target.partition("#")
        if re.match(r"https://", path):
            continue
        assert not path or (PATH.parent / path).exists(), target
        assert not anchor or anchor in anchors(), target
    for span in spans(prose()):
        if re.fullmatch(r"(examples|benchmarks|tests)/[\w./]*", span):
            assert (PATH.parent / span).exists(), span
