"""The README and the guide are true: snippets and commands run, tables are complete, links lead somewhere."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import sys
import tomllib
from contextlib import ExitStack, redirect_stdout
from io import StringIO
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any, get_args

import attrs
import av
import pytest

import venice_async
from tests.documents import GUIDE, PAGES, README, ROOT, Block, Page, spans
from tests.programs import PICTURE, Programs
from venice_async import (
    Budget,
    Limits,
    Links,
    Polling,
    Retries,
    State,
    Timeouts,
    VeniceClient,
    VeniceError,
    VideoRequest,
)
from venice_async.cli import main
from venice_async.cli.app import app
from venice_async.cli.exit_codes import TABLE
from venice_async.sandbox import Outcome, Sandbox, Scenario, tiny_clip
from venice_async.sandbox.catalogue import CATALOGUE
from venice_async.sandbox.clips.render import render_clip
from venice_async.sandbox.scenario_file import parse_scenarios

if TYPE_CHECKING:
    from collections.abc import Mapping

CLIP = tiny_clip(300_000)
COMMAND = Path(sys.executable).with_name("venice-async")
DATABASE = "postgresql://user:password@host/database"
"""Stands for a database in the guide."""
WORDS = 1_000
"""The README is a front page: more belongs in the guide."""
SAID = {  # what the snippets of a page print
    "README": r"(?s)about \d+ s to go\n.*300000 bytes\n.*^2 \S+\.mp4$.*left\.mp4\n0\.75 \('5s'.*\[Charge\(",
    "jobs": r"(?s)clip\.mp4 300000 \w{64}\nabout \d+ s to go\n.*300000 of 300000 bytes",
    "batches": r"(?s)(?=.*^0 \S+\.mp4$)(?=.*^1 \S+\.mp4$)(?=.*^2 \S+\.mp4$).*^2 whole$",
    "money": r"(?s)\$0\.75; \('5s', .*'480p'.*\$0\.75, above the limit",
    "consent": r"\w+ \w+",
    "crashes": r"(?s)Ticket\(.*left\.mp4\n.*left\.mp4",
    "seedance": r"Strictly edit <Video 1>, changing its weather to snow",
    "services": r"(?s)0 paid job\(s\) are left.*- Queueing\n.*-\S+ Waiting\n.* Succeeded$",
    "storage": r"^memory:///clips/dawn\.mp4 300000$",
    "testing": r"(?s)policies.*\[Charge\(.*refunded=True.*\)\] \d+\n100000$",
}
MADE = {  # the clips that the snippets of a page leave
    "README": {"animated.mp4", "clip.mp4", "later.mp4", "left.mp4", "tested.mp4"},
    "consent": {"agreed.mp4", "order.mp4", "portrait.mp4"},
    "crashes": {"kept.mp4", "left.mp4"},
    "jobs": {"clip.mp4", "later.mp4", "watched.mp4"},
    "media": {"animated.mp4", "film.mp4"},
    "services": {"private.mp4", "reported.mp4"},
    "testing": {"survived.mp4"},
}


@pytest.fixture
def venice_sandbox_options() -> dict[str, Any]:
    """Take tiny clips, a moment for a job, and only what the service itself would take."""
    return {"clips": CLIP, "speed": 600.0, "strict": True}


@pytest.fixture
def programs(nursery: None, venice_sandbox: Sandbox, tmp_path: Path) -> Programs:
    """Return what runs programs against the sandbox."""
    return Programs(venice_sandbox, tmp_path)


def is_program(block: Block) -> bool:
    """Tell whether a block is a whole program or test module, and no fragment."""
    return "asyncio.run(main())" in block.code or "\ndef test_" in block.code


@pytest.mark.parametrize(
    "name", sorted(name for name in PAGES if any(map(is_program, PAGES[name].blocks("python"))))
)
def test_every_whole_program_runs(programs: Programs, tmp_path: Path, name: str) -> None:
    (block,) = filter(is_program, PAGES[name].blocks("python"))
    if "\ndef test_" in block.code:
        (tmp_path / "test_snippet.py").write_text(block.code)
        assert "1 passed" in programs.run(sys.executable, "-m", "pytest", "-q", "test_snippet.py")
        return
    (tmp_path / "program.py").write_text(block.code)
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
@pytest.mark.parametrize("name", sorted(name for name in PAGES if PAGES[name].blocks("python")))
async def test_every_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    page, said = PAGES[name], ""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first-frame.png").write_bytes(PICTURE)
    played = "last_frame(" in page.text  # needs clips that play
    made = render_clip(prompt="a boat", model="m", seconds=0.5, width=128, height=128) if played else CLIP
    async with Sandbox(clips=made, strict=True) as sandbox:
        monkeypatch.setenv("VENICE_API_KEY", sandbox.api_key)
        monkeypatch.setenv("VENICE_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("VENICE_ADMIN_KEY", sandbox.admin_key)
        if "recover()" in page.text:
            await leave_a_job_unfinished(sandbox)
        names: dict[str, Any] = {"show_to_the_user": agree}
        for block in page.blocks("python"):
            if is_program(block):
                continue
            async with VeniceClient() as venice:
                names |= {"VeniceClient": VeniceClient, "VideoRequest": VideoRequest}
                names |= {"venice": venice, "request": wanted()}
                said += await printed(page, block, names)
                if "clip" in names:
                    reader = Reader()
                    await names.pop("clip")(reader)
                    assert CLIP == reader.received
    assert re.search(SAID.get(name, ""), said, re.MULTILINE), said
    assert MADE.get(name, set()) <= {path.name for path in tmp_path.glob("*.mp4")}


STAND_INS = {  # for the engines that the guide writes for, whose servers are not here
    "celery/__init__.py": """
class Celery:
    def __init__(self, name, *, broker):
        self.settings = []

    def task(self, **settings):
        self.settings.append(settings)
        return lambda work: work
""",
    "celery/signals.py": """
class worker_process_init:
    connect = staticmethod(lambda starts: starts)
""",
    "temporalio/__init__.py": "",
    "temporalio/activity.py": """
defn = lambda work: work
beats = []
heartbeat = lambda: beats.append("beat")
""",
    "temporalio/common.py": """
class RetryPolicy:
    def __init__(self, *, initial_interval):
        self.pause = initial_interval
""",
    "temporalio/workflow.py": """
from types import SimpleNamespace

defn = run = lambda work: work
info = lambda: SimpleNamespace(workflow_id="order-3")


async def execute_activity(name, *, args, result_type, retry_policy, **timeouts):
    import activities

    return result_type(await getattr(activities, name)(*args))
""",
}
CELERY = """
import tasks

tasks.start()
print(tasks.clip("order-1", "wan-2-7-text-to-video", "A gondola"))
print(tasks.clip("order-1", "wan-2-7-text-to-video", "A gondola"))
print(tasks.clip("order-2", "wan-2-6-text-to-video", "A gondola"))
tasks.asyncio.run_coroutine_threadsafe(tasks.venice.aclose(), tasks.loop).result()
assert tasks.TEMPORARY == tasks.app.settings[0]["autoretry_for"]
"""
TEMPORAL = """
import asyncio
import activities, workflows


async def main():
    async with activities.venice:
        print(await workflows.Order().run("wan-2-7-text-to-video", "A gondola"))


asyncio.run(main())
"""


def test_the_snippets_for_other_engines_run(
    programs: Programs, venice_sandbox: Sandbox, tmp_path: Path, postgres: str, s3: Any
) -> None:
    programs.environment |= s3.environment()
    for name, code in STAND_INS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code)
    make, celery, activity, workflow = (block.code for block in GUIDE["engines"].blocks("py"))
    modules = {"tasks": make + celery, "activities": make + activity, "workflows": workflow}
    modules |= {"celery_worker": CELERY, "temporal_worker": TEMPORAL}
    for name, code in modules.items():
        (tmp_path / f"{name}.py").write_text(code.replace(DATABASE, postgres))
    said = "".join(
        programs.run(sys.executable, f"{name}.py") for name in ("celery_worker", "temporal_worker")
    )
    outcomes = [ast.literal_eval(line) for line in said.splitlines()]
    assert [True, True, False, True] == [outcome["charged"] for outcome in outcomes]
    assert ["clip", "clip", "failed", "clip"] == [outcome["outcome"] for outcome in outcomes]
    clips = {name: data for name, data in s3.objects().items() if name.endswith(".mp4")}
    assert {"clips/order-1.mp4": CLIP, "clips/order-3.mp4": CLIP} == clips
    assert 2 == len(venice_sandbox.charges)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("crashes", r"\[\]"),
        ("fleet", r"s3://bucket/clips/A-gondola-at-dawn-\w+\.mp4"),
        ("storage", r"s3://bucket/clips/dawn\.mp4 300000 \w{64}"),
    ],
)
def test_the_snippets_for_a_database_and_an_object_store_run(
    programs: Programs, fleet_database: str, s3: Any, name: str, said: str
) -> None:
    programs.environment |= s3.environment()
    (block,) = GUIDE[name].blocks("py")
    body = block.code.replace(DATABASE, fleet_database)
    program = f"""
import asyncio
from venice_async import VeniceClient, VideoRequest


async def main():
    request = {wanted()!r}
    async with VeniceClient() as venice:
{indent(body, " " * 8)}

asyncio.run(main())
"""
    with ExitStack() as stack:
        if name == "fleet":
            stack.enter_context(programs.started(COMMAND, "worker", "--journal", fleet_database))
        assert re.fullmatch(said, programs.run(sys.executable, "-c", program).strip())


def wanted() -> VideoRequest:
    """Return the request of the README's first snippet."""
    call = next(
        node
        for node in ast.walk(ast.parse(README.blocks("python")[0].code))
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


async def printed(page: Page, block: Block, names: dict[str, Any]) -> str:
    """Run a snippet, which may await, and return what it prints; its tracebacks name the page's lines."""
    tree = ast.increment_lineno(ast.parse(block.code), block.line - 1)
    code = compile(tree, str(page.path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    output = StringIO()
    with redirect_stdout(output):
        running = eval(code, names)  # noqa: S307 - our own documents
        if inspect.isawaitable(running):
            await running
    return output.getvalue()


def test_the_readme_is_a_front_page() -> None:
    assert len(README.prose.split()) <= WORDS
    for block in README.blocks("python")[1:]:
        section = README.text.split(f"\n### {block.section}\n", 1)[1].split("\n#", 1)[0]
        text = section.replace(f"```python\n{block.code}```", "")
        assert len([line for line in text.splitlines() if line.strip()]) <= 3, block.section


def one_command(heading: str) -> list[str]:
    """Return the parts of the one command line that begins a section of the README."""
    block = next(block for block in README.blocks("sh") if block.section == heading)
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
    assert run.startswith(".venv/bin/python -m pytest")


@pytest.mark.parametrize("page", [README, GUIDE["index"]])
def test_the_install_lines_name_extras_that_exist(page: Page) -> None:
    (lines,) = [block.code.splitlines() for block in page.blocks("") if block.section == "Install"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {
        name for line in lines for found in re.findall(r"\[([\w,]+)\]", line) for name in found.split(",")
    }
    assert all(line.startswith("pip install ") for line in lines)
    assert {"cli", "sandbox"} <= named <= set(project["optional-dependencies"])


def test_what_is_on_no_index_is_installed_from_the_clone() -> None:
    said = [line for page in PAGES.values() for line in re.findall(r"pip install (\S+)", page.text)]
    assert len(said) > 5
    assert [] == [line for line in said if "venice-async" in line]


def test_the_table_of_the_environment_is_complete() -> None:
    sources = (ROOT / "venice_async").rglob("*.py")
    read = {name for path in sources for name in re.findall(r"\bVENICE_[A-Z]\w*", path.read_text("utf-8"))}
    assert read == {name for cells in GUIDE["options"].table("variable") for name in spans(cells[0])}


def test_every_example_of_the_command_line_has_the_ratio_that_its_model_needs() -> None:
    ratios = {model.id for model in CATALOGUE if model.aspect_ratios}
    texts = [path.read_text("utf-8") for path in (ROOT / "venice_async" / "cli").rglob("*.py")]
    lines = [
        line for text in texts for line in re.findall(r"(?:venice-async|\{NAME\}) generate .*-m .*", text)
    ]
    assert len(lines) >= 5
    for line in lines:
        assert ("--aspect-ratio" in line) == (shlex.split(line.split(" -m ")[1])[0] in ratios), line


def test_every_command_of_the_guide_runs(
    venice_sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VENICE_API_KEY", venice_sandbox.api_key)
    monkeypatch.setenv("VENICE_BASE_URL", venice_sandbox.base_url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (jobs,) = GUIDE["cli"].blocks("json")
    (tmp_path / "jobs.jsonl").write_text(jobs.code)
    blocks = [block for page in GUIDE.values() for block in page.blocks("sh")]
    lines = [shlex.split(line) for block in blocks for line in block.code.splitlines()]
    said: dict[str, str] = {}
    for words in lines:
        assert 0 == main(words[1:]), (words, capsys.readouterr())
        said[words[1]] = capsys.readouterr().out
    assert {"models", "quote", "generate", "batch", "jobs", "spend", "resume", "doctor"} == said.keys()
    assert CLIP == (tmp_path / "dawn.mp4").read_bytes()
    assert [CLIP] == [path.read_bytes() for path in tmp_path.glob("clips/*.mp4")]
    assert (tmp_path / "clips" / "report.html").exists()
    assert "wan-2-7-text-to-video" in said["models"]
    assert "0.75" in said["quote"]
    assert "clock" in said["doctor"]


def test_every_command_that_a_text_names_exists_with_its_options() -> None:
    every = [span for page in PAGES.values() for span in spans(page.prose)]
    named = [shlex.split(span) for span in every if span.startswith("venice-async ")]
    assert len(named) >= 8
    for line in named:
        command, words = app, line
        while words[1:] and words[1] in command:
            command, words = command[words[1]], words[1:]
        options = command.assemble_argument_collection() if command.default_command else ()
        known = {name for option in options for name in option.names}
        assert set() == {word for word in words[1:] if word.startswith("--")} - known, line


def test_the_table_of_commands_is_complete() -> None:
    commands = {name for name in app if not name.startswith("-")}
    assert commands == {span for cells in GUIDE["cli"].table("command") for span in spans(cells[0])}


def test_the_help_of_an_option_is_one_paragraph() -> None:
    groups = [app, app["fleet"], app["seedance"]]
    commands = [group[name] for group in groups for name in group if not name.startswith("-")]
    arguments = [
        argument
        for command in commands
        if command.default_command
        for argument in command.assemble_argument_collection(parse_docstring=True)
    ]
    assert len(arguments) > 100
    assert [] == [argument.name for argument in arguments if "\n" in (argument.parameter.help or "")]


def test_the_table_of_exit_codes_is_that_of_the_command_line() -> None:
    assert [[str(row.code), row.text] for row in TABLE] == GUIDE["cli"].table("exit code")


def test_the_table_of_states_is_complete_and_names_what_they_carry() -> None:
    rows = [
        (spans(cells[0]), [span.removeprefix(".") for span in spans(cells[2])])
        for cells in GUIDE["jobs"].table("state")
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
    page = GUIDE["errors"]
    assert public_errors() == {span for span in spans(page.prose) if span.endswith("Error")}
    for cells in page.table("error"):
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
    for cells in GUIDE["options"].table("option"):
        for span in spans(cells[0]):
            owner, values = option(span)
            assert values == {name: default_of(owner)[name] for name in values}
            named.setdefault(owner, set()).update(values)
    owners = (
        "VeniceClient",
        "Budget",
        "Timeouts",
        "Limits",
        "Polling",
        "Retries",
        "Links",
        "generate",
        "batch",
    )
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
    kinds: dict[str, type[Any]] = {
        kind.__name__: kind for kind in (Budget, Timeouts, Limits, Polling, Retries, Links)
    }
    if owner in kinds:
        return attrs.asdict(kinds[owner]())
    called: Any = VeniceClient if owner == "VeniceClient" else getattr(VeniceClient, owner)
    parameters = inspect.signature(called).parameters.values()
    known = {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}
    return {name: value for name, value in known.items() if name not in {kind.lower() for kind in kinds}}


def test_the_tables_of_scenarios_are_complete() -> None:
    for column, known in (
        ("argument", {each.name for each in attrs.fields(Scenario)}),
        ("outcome", set(get_args(Outcome))),
    ):
        named = {span for cells in GUIDE["testing"].table(column) for span in spans(cells[0])}
        assert known == named


def test_the_scenario_file_of_the_guide_is_one() -> None:
    (block,) = GUIDE["testing"].blocks("toml")
    scenarios, faults = parse_scenarios(block.code, "faults.toml")
    assert (2, ["retrieve", "video"]) == (len(scenarios["*"]), [fault.on for fault in faults])
    assert "always" not in {scenario.consent for scenario in scenarios["*"]}  # such a job is never queued


def test_every_link_leads_somewhere() -> None:
    pages = [*PAGES.values(), *(Page(path) for path in (ROOT / ".github").rglob("*.md"))]
    dead: list[str] = []
    for page in pages:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.prose):
            path, _, anchor = target.partition("#")
            there = page.path.parent / path if path else page.path
            if re.match(r"https://", target):
                continue
            if not there.exists() or (anchor and anchor not in Page(there).anchors):
                dead.append(f"{page.path.name}: {target}")
        for span in spans(page.prose):
            if re.fullmatch(r"[\w./]+/[\w.]+", span) and not span.startswith(("/", "video/")):
                found = any((place / span).exists() for place in (ROOT, ROOT / "venice_async"))
                dead += [] if found else [f"{page.path.name}: {span}"]
            if re.match(r"(python -m benchmarks|pytest )", span):  # what reproduces a figure
                paths = re.findall(r"tests/[\w./]+", span) + [
                    f"{module.replace('.', '/')}.py" for module in re.findall(r"benchmarks\.\w+", span)
                ]
                dead += [f"{page.path.name}: {path}" for path in paths if not (ROOT / path).exists()]
    assert [] == dead


def test_the_site_has_every_page_and_the_front_page_of_the_guide_lists_them() -> None:
    site = tomllib.loads((ROOT / ".zensical.toml").read_text(encoding="utf-8"))["project"]
    pages = {f"{name}.md" for name in GUIDE}
    assert pages == set(re.findall(r"[\w-]+\.md", str(site["nav"])))
    assert pages - {"index.md"} <= set(re.findall(r"\(([\w-]+\.md)\)", GUIDE["index"].text))
    assert pages <= set(re.findall(r"\(\.docs/([\w-]+\.md)\)", README.text))


def test_every_example_is_in_the_guide() -> None:
    shown = re.findall(r'--8<-- "examples/([\w.]+)"', GUIDE["examples"].text)
    assert sorted(path.name for path in (ROOT / "examples").glob("*.py")) == sorted(shown)


def test_the_reference_has_every_public_name() -> None:
    shown = set(re.findall(r"^::: venice_async\.(\w+)$", GUIDE["api"].text, re.MULTILINE))
    inside = public_errors() | {"State", "__version__"}
    assert set(venice_async.__all__) - inside == shown - {"errors", "sandbox"}


def test_the_reference_hides_what_exists_and_is_no_promise() -> None:
    hiding = r'^::: venice_async\.(\w+)\n +options:\n +filters: .*"!\^\(?([\w|]+)'
    hidden = {
        name: set(members.split("|")) for name, members in re.findall(hiding, GUIDE["api"].text, re.MULTILINE)
    }
    assert {"VideoJob", "errors"} == hidden.keys()
    assert set() == hidden["VideoJob"] - set(dir(venice_async.VideoJob))
    errors = venice_async.errors
    classes = inspect.getmembers(errors, lambda it: inspect.isclass(it) and it.__module__ == errors.__name__)
    assert public_errors() == {name for name, _ in classes if name[0] != "_"} - hidden["errors"]


def test_the_page_for_contributors_names_files_and_modules_that_exist() -> None:
    page = Page(ROOT / ".github" / "CONTRIBUTING.md")
    files = [span for span in spans(page.prose) if re.fullmatch(r"[\w./-]+\.(py|md)", span)]
    modules = [span.replace(".", "/") for cells in page.table("row") for span in spans(cells[0])]
    assert (len(files) > 10, len(modules) > 10) == (True, True)
    places = (ROOT, ROOT / "venice_async")
    named = [*files, *(name if (ROOT / "venice_async" / name).is_dir() else f"{name}.py" for name in modules)]
    assert [] == [name for name in named if not any((place / name).exists() for place in places)]
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    examples = [span for span in spans(page.prose) if re.fullmatch(r"test_\w+", span)]
    assert examples == [name for name in examples if f"def {name}(" in tests] != []
