"""What is handed out: a wheel with what it needs and nothing else, a source archive that can be tested."""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest

from tests.documents import README, Page
from venice_async import __version__

ROOT = Path(__file__).parents[1]
TOP = {"README.md", "pyproject.toml", "venice_async", "tests", "benchmarks", "examples"}
ADDED = {"PKG-INFO"}  # by the source archive
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# A folder of the machine that a file was written on; such a path means nothing on another.
FOREIGN = re.compile(r"(?<![\w.:/-])/(?:work|root|home|Users)/\w")


def ignored() -> list[str]:
    """Return the patterns of what a checkout may hold beside its files."""
    return (ROOT / ".gitignore").read_text(encoding="utf-8").replace("/\n", "\n").split()


def files() -> list[Path]:
    """Return the files of the repository, without what is ignored."""
    patterns = [*ignored(), ".git"]

    def kept(name: str) -> bool:
        return not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)

    found: list[Path] = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = filter(kept, folders)  # what is ignored may be large
        found += [Path(folder) / name for name in names if kept(name)]
    return found


def build(*command: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own build
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel's content."""
    folder = tmp_path_factory.mktemp("wheel")
    build("hatchling", "build", "--target", "wheel", "--directory", str(folder))
    (archive,) = folder.glob("venice_async-*-py3-none-any.whl")
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder / "content")  # noqa: S202 - we have just built it
    return folder / "content"


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    (info,) = wheel.glob("*.dist-info")
    packed = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file()}
    ours = {path.relative_to(ROOT).as_posix() for path in files() if ROOT / "venice_async" in path.parents}
    assert ours == {name for name in packed if not name.startswith(info.name)}
    assert {
        "venice_async/py.typed",
        *(f"venice_async/cli/dashboard/page.{kind}" for kind in ("html", "css", "js")),
    } <= ours


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    (info,) = wheel.glob("*.dist-info")
    said = message_from_string((info / "METADATA").read_text(encoding="utf-8"))
    assert ("venice-async", __version__) == (said["Name"], said["Version"])
    assert ">=3.11" == said["Requires-Python"]
    assert ("MIT", ["venice_async/LICENSE"]) == (said["License-Expression"], said.get_all("License-File"))
    assert "permission notice shall be included in all" in (
        info / "licenses" / said["License-File"]
    ).read_text(encoding="utf-8")
    extras = {"cli", "demo", "fleet", "media", "postgres", "sandbox", "storage", "test", "dev"}
    assert extras == set(said.get_all("Provides-Extra", []))
    needed = [line for line in said.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert ["aiohttp", "anyio", "attrs", "cattrs"] == sorted(re.split(r"[^\w-]", line)[0] for line in needed)


def test_the_index_shows_the_readme_without_links_that_lead_nowhere_there(wheel: Path) -> None:
    (info,) = wheel.glob("*.dist-info")
    shown = Page(info / "METADATA")
    assert [] == re.findall(r"\]\((?!https://)[^)]*\)", shown.prose)
    assert README.headings == shown.headings
    assert [block.code for block in README.blocks("python")] == [
        block.code for block in shown.blocks("python")
    ]


def test_the_wheel_offers_a_command_and_a_pytest_plugin_that_load(wheel: Path) -> None:
    (info,) = wheel.glob("*.dist-info")
    points = ConfigParser()
    points.read(info / "entry_points.txt")
    offered = {section: dict(points[section]) for section in points.sections()}
    assert {
        "console_scripts": {"venice-async": "venice_async.cli:main"},
        "pytest11": {"venice_async": "venice_async.sandbox.pytest_plugin"},
    } == offered
    code = "import venice_async.cli, venice_async.sandbox.pytest_plugin as plugin; print(plugin.__file__)"
    found = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], cwd=wheel, capture_output=True, text=True, check=True, timeout=300
    )
    assert found.stdout.startswith(str(wheel.resolve()))


def test_the_source_archive_holds_all_that_its_tests_need(tmp_path: Path) -> None:
    build("hatchling", "build", "--target", "sdist", "--directory", str(tmp_path))
    (archive,) = tmp_path.glob("venice_async-*.tar.gz")
    with tarfile.open(archive) as content:
        packed = {name.partition("/")[2] for name in content.getnames()}
    assert {path.relative_to(ROOT).as_posix() for path in files()} <= packed


def test_the_repository_keeps_its_top_level_short() -> None:
    patterns = ignored()
    seen = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    strange = {name for name in seen if not any(fnmatch.fnmatch(name, each) for each in patterns)} - ADDED
    assert strange <= TOP
    assert seen >= TOP - {"benchmarks", "examples"}


def test_no_file_names_a_folder_of_the_machine_it_was_written_on() -> None:
    assert [] == [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in files()
        for found in FOREIGN.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]


def test_everything_that_an_extra_names_has_a_lowest_version() -> None:
    extras = PROJECT["project"]["optional-dependencies"].values()
    named = [*PROJECT["project"]["dependencies"], *(need for extra in extras for need in extra)]
    assert [] == [need for need in named if ">=" not in need and not need.startswith("venice-async[")]
