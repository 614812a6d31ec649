"""Runs every check in a temporary folder: a line for a step that is green, the whole log of one that is not.

bash .ci/run              all steps
bash .ci/run lint types   these steps

It needs Python 3.11 or newer with pip, and a package index. Python 3.12 and 3.13 are tested where they are
installed.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).resolve().parents[1]
PIP = ".venv/bin/python -m pip -qq --disable-pip-version-check"
PYTEST = ".venv/bin/python -m pytest -q -p no:xdist -p no:cacheprovider"  # two steps run at a time
LEAST_COMPLETE = 99.0
"""Per cent of the public names whose types must be known."""
TOUCHES_DEPENDENCIES = (
    "tests/io/delivery/test_object_store.py tests/io/delivery/test_part_file.py tests/io/test_aiohttp.py"
    " tests/io/journal/test_journal.py tests/io/journal/test_postgres.py tests/sandbox/clips"
    " tests/sandbox/test_faults.py tests/sandbox/test_lifecycle.py tests/sandbox/test_plugin.py"
    " tests/sansio/test_converter.py tests/cli/test_generate.py tests/test_batch.py tests/test_chaining.py"
    " tests/test_client.py tests/test_fleet.py tests/test_uvloop.py"
)
"""Each dependency and what is done with it: the rest is arithmetic on our own values."""

running: set[subprocess.Popen[str]] = set()
locks: defaultdict[Path, Lock] = defaultdict(Lock)
"""Held while a tree or its environment is made."""


class StepError(Exception):
    """A command of a step has failed."""


class Step:
    """One check. Steps of one tree share a copy of the working tree and its virtual environment."""

    def __init__(self, name: str, tree: Path) -> None:
        """Copy the working tree to `tree`, unless another step has."""
        self.name, self.tree, self.log = name, tree, ""
        with locks[tree]:
            for path in [] if tree.exists() else sources():
                (tree / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / path, tree / path)

    def run(self, command: str) -> str:
        """Run a shell command in the tree and return what it wrote.

        Raises:
            StepError: its exit code is not 0.
        """
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("VENICE_", "PYTHON"))
        }
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.tree,
            env={
                **kept,
                "CI": "true",
                "PIP_NO_COMPILE": "1",
                "PATH": f"{self.tree}/.venv/bin:{os.environ['PATH']}",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        running.add(process)
        said, _ = process.communicate()
        running.discard(process)
        self.log += f"$ {command}\n{said}"
        if process.returncode:
            raise StepError(self.name)
        return said

    def environment(self, extra: str, *, python: str = sys.executable, options: str = "") -> None:
        """Make the virtual environment, with the package and one of its extras, unless another step has."""
        with locks[self.tree]:
            if not (self.tree / ".venv").exists():
                self.run(f"{python} -m venv .venv")
            if not (done := self.tree / f".venv/{extra}").exists():
                what = f"install {options} --editable '.[{extra}]'"
                quick = f"{PIP} install uv && .venv/bin/uv -q pip {what} --python .venv/bin/python"
                self.run(f"{quick} || {PIP} {what}")
                done.touch()

    def documented(self, heading: str) -> str:
        """Run the first command line of a section of the README, as it stands."""
        readme = (self.tree / "README.md").read_text(encoding="utf-8")
        block = re.search(rf"\n## {heading}\n.*?```sh\n(.*?)```", readme, re.DOTALL)
        return self.run(block[1] if block else "false")


def sources() -> Iterator[Path]:
    """Yield the files of the working tree that git would not ignore, relative to it."""
    ignored = [*(ROOT / ".gitignore").read_text(encoding="utf-8").replace("/\n", "\n").split(), ".git"]
    for folder, folders, files in os.walk(ROOT):
        for names in (folders, files):
            names[:] = [name for name in names if not any(fnmatch.fnmatch(name, each) for each in ignored)]
        yield from ((Path(folder) / name).relative_to(ROOT) for name in files)


def last_line(said: str) -> str:
    """Return the last line that says something."""
    return [line for line in said.splitlines() if line.strip()][-1]


def tests(step: Step) -> str:
    """Run the README's test command on a clean checkout; nothing is added to its environment meanwhile."""
    with locks[step.tree]:
        return last_line(step.documented("Tests"))


def quick_start(step: Step) -> str:
    """Run the README's Quick start on a clean checkout."""
    step.documented("Quick start")
    return f"clip.mp4, {(step.tree / 'clip.mp4').stat().st_size:,} bytes"


def types(step: Step) -> str:
    """Run both type checkers, strict, and see how complete the public types are."""
    step.environment("dev")
    step.run("mypy && pyright")
    verified = step.run("pyright --ignoreexternal --verifytypes venice_async || true")
    score = re.search(r"Type completeness score: ([\d.]+)%", verified)
    if score is None or float(score[1]) < LEAST_COMPLETE:
        raise StepError(step.name)
    return f"mypy and pyright, both strict; public types are {score[1]} % complete"


def lint(step: Step) -> str:
    """Check format, rules, spelling, metadata, the workflows of the hosting service and the manifests."""
    step.environment("dev")
    step.run("ruff check . && ruff format --check .")
    step.run("codespell README.md .docs .github .ci venice_async tests benchmarks examples")
    step.run("validate-pyproject pyproject.toml && actionlint .github/workflows/*.yml")
    step.run("kubernetes-validate --strict examples/deploy/kubernetes/*.yaml")
    return "format, rules, spelling, metadata, workflows and manifests"


def core(step: Step) -> str:
    """Measure the coverage of what decides, with few examples: the tests have run with all of them."""
    step.environment("dev")
    step.run(f"HYPOTHESIS_PROFILE=coverage coverage run {PYTEST.partition(' ')[2]} tests/sansio")
    return last_line(step.run("coverage report"))


def site(step: Step) -> str:
    """Build the guide as a site, strict, and the wheel."""
    step.environment("dev")
    step.run("zensical build --strict -f .zensical.toml")
    step.run(f"{PIP} wheel --no-deps --wheel-dir dist .")
    (wheel,) = (step.tree / "dist").glob("*.whl")
    return f"{len(list((step.tree / '.site').rglob('index.html')))} pages; {wheel.name}"


def lowest(step: Step) -> str:
    """Test what touches the dependencies with their lowest versions that are allowed."""
    project = tomllib.loads((step.tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = project["dependencies"] + [
        need for extra in project["optional-dependencies"].values() for need in extra
    ]
    pins = [re.sub(r"^([\w-]+)[^>]*>=([\d.]+).*", r"\1==\2", need) for need in needs if ">=" in need]
    (step.tree / "lowest.txt").write_text("\n".join(pins))
    step.environment("test", options="--constraint lowest.txt")
    return last_line(step.run(f"{PYTEST} {TOUCHES_DEPENDENCIES}"))


def newer(python: str, step: Step) -> str:
    """Test what touches the dependencies on another Python."""
    step.environment("test", python=python)
    return last_line(step.run(f"{PYTEST} {TOUCHES_DEPENDENCIES}"))


def others() -> dict[str, tuple[str, Callable[[Step], str]]]:
    """Return a step for every other Python that is installed and runs."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found: dict[str, tuple[str, Callable[[Step], str]]] = {}
    for name in ("python3.12", "python3.13"):
        for python in (name, *(str(path) for path in pyenv.glob(f"*/bin/{name}"))):
            with suppress(OSError):
                if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
                    found.setdefault(name, (name, partial(newer, python)))
    return found


# In the order in which they begin, two at a time: the folder whose copy a step works in, and the step. Those
# that need more than the tests add it to their environment once they have run.
STEPS: dict[str, tuple[str, Callable[[Step], str]]] = {
    "tests": ("tests", tests),
    **others(),
    "lowest": ("lowest", lowest),
    "quickstart": ("quickstart", quick_start),
    "types": ("tests", types),
    "core": ("tests", core),
    "site": ("tests", site),
    "lint": ("tests", lint),
}


def attempt(name: str, folder: Path) -> str | None:
    """Run a step, print its verdict, and return its result, or None if it failed."""
    began = time.monotonic()
    tree, check = STEPS[name]
    step = Step(name, folder / tree)
    try:
        result = check(step)
    except StepError:
        print(f"✗ {name}\n{step.log}", flush=True)
        return None
    print(f"✓ {name:<11}{time.monotonic() - began:4.0f} s  {result.strip('= ')}", flush=True)
    return result


def main(names: list[str]) -> int:
    """Run the steps and return the exit code."""
    if unknown := set(names) - set(STEPS):
        print(f"No step is called {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
        return 2
    names = names or list(STEPS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: nothing is left behind
    with tempfile.TemporaryDirectory(prefix="venice-async-ci-") as folder, ThreadPoolExecutor(2) as pool:
        attempts = {name: pool.submit(attempt, name, Path(folder)) for name in names}
        try:
            results = {name: future.result() for name, future in attempts.items()}
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
            return 130
    failed = [name for name, result in results.items() if result is None]
    print(f"{', '.join(failed)} failed" if failed else f"All {len(names)} steps passed")
    if tests_said := results.get("tests"):
        print(tests_said)  # pytest's closing line, as it stands
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
