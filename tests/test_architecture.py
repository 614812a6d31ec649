"""The layers, kept: who may import whom, and what stays out of the quiet middle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from attrs import frozen

import venice_async

PACKAGE = Path(venice_async.__file__).parent
LONGEST = 500
"""Lines: above it a file is asking to be two."""

# From top to bottom. A module imports from the rows below its own, and from its own without a cycle. A name
# stands for all that is in it, less what has a name of its own further up or down.
ROWS: tuple[tuple[str, ...], ...] = (
    ("__main__", "cli", "sandbox"),
    ("fleet",),
    ("",),
    ("client", "batch", "journal_calls", "chaining", "seedance", "upscaling", "webhook"),
    ("engine.runtime", "engine.completion"),  # they start the jobs, and tell of their end
    ("job",),
    ("engine",),
    ("io.caller", "io.uploads", "io.delivery", "io.journal"),
    ("io.pacing", "io.ration", "io.aiohttp", "io.links"),
    ("io", "io.transport", "io.clock", "io.disk", "io.shielding"),
    ("notebook",),
    ("sansio.job", "sansio.http"),
    (
        *("sansio", "sansio.limits", "sansio.polling", "sansio.clip", "sansio.retries", "sansio.converter"),
        *("sansio.job.states", "sansio.http.headers"),  # values, which limits and the converter read
    ),
    ("requests", "results", "models", "options", "media", "formatting", "markup", "validators"),
    ("errors", "version"),
)

# What touches the world, and the modules that may: the rest of the package decides or passes on.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "aiohttp": (
        "io.aiohttp",
        "io.delivery.s3_requests",
        "io.links",
        "sandbox",
        "sandbox.*",
        "cli.dashboard.server",
        "webhook",
        "fleet.metrics",
    ),
    "sqlite3": ("io.*",),
    "socket": ("io.*", "sandbox.*", "cli.*"),
    "ssl": ("io.*", "sandbox.*"),
    "time": ("io.*", "sandbox.*", "cli.*"),
    "random": ("io.*", "sandbox.*"),
    "secrets": ("io.*", "sandbox.*", "cli.*"),
    "uuid": ("io.*", "sandbox.*"),
    "subprocess": ("cli.*",),
    "psycopg": ("io.postgres", "io.journal.postgres", "io.ration.postgres", "fleet.*"),
    "psycopg_pool": ("fleet.*",),
    "procrastinate": ("fleet.*",),
    "cryptography": ("io.journal.postgres",),
    "cyclopts": ("cli.*",),
    "rich": ("cli", "cli.*"),
    "av": ("chaining", "sandbox.*", "cli.*"),
    "obstore": ("io.delivery.object_store", "io.delivery.s3_requests", "io.delivery.stores"),
    "PIL": ("chaining", "sandbox.*", "cli.*"),
    "pytest": ("sandbox.*",),
}

FOR_ANNOTATIONS = {
    ("client", "aiohttp"),
    ("client", "obstore"),
    ("engine.spec", "aiohttp"),
    ("options", "aiohttp"),
    ("options", "ssl"),
}
"""A borrowed session is named in a signature, and nowhere else."""

NAMED_ABOVE = {("errors", "results")}
"""The one import against the rows, for type checkers alone: an error names the types of its ticket and of the
question of consent, and what reads a ticket raises an error."""

PURE_FROM = next(place for place, row in enumerate(ROWS) if "sansio.job" in row)
WORLD = frozenset({"asyncio", "anyio", "threading", "concurrent", "select", "signal", "sched", *ONLY_IN})


@frozen
class Import:
    """One module imported by another; `checked_only` if only a type checker does it."""

    name: str
    checked_only: bool


@cache
def sources() -> dict[str, Path]:
    """Return the files of the package by the name of their module, the package itself being the empty one."""
    found: dict[str, Path] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(sources()[module].read_text(encoding="utf-8"))


def base_of(module: str, level: int) -> list[str]:
    """Return the package that a relative import of that level starts from."""
    parts = module.split(".") if module else []
    up = level - (sources()[module].name == "__init__.py")
    return parts[: len(parts) - up]


def of_ours(parts: list[str], names: list[str]) -> Iterator[str]:
    """Yield the modules that `from parts import names` means: submodules where there are such."""
    for name in names:
        whole = ".".join([*parts, name])
        yield whole if whole in sources() else ".".join(parts)


def named(module: str, node: ast.AST) -> Iterator[str]:
    """Yield what an import statement names: modules of ours as `.name`, others as they are."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (
                "." + alias.name.partition("venice_async")[2].lstrip(".") if ours(alias.name) else alias.name
            )
    elif isinstance(node, ast.ImportFrom):
        names = [alias.name for alias in node.names]
        if node.level:
            parts = [*base_of(module, node.level), *(node.module or "").split(".")]
            yield from ("." + name for name in of_ours([part for part in parts if part], names))
        elif ours(node.module or ""):
            yield from ("." + name for name in of_ours((node.module or "").split(".")[1:], names))
        else:
            yield node.module or ""


def ours(name: str) -> bool:
    return name.partition(".")[0] == "venice_async"


@cache
def imports(module: str) -> tuple[Import, ...]:
    """Return all imports of a module: at its top, in its functions, and those for type checkers."""
    for_checkers = [
        node
        for block in ast.walk(tree(module))
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for part in block.body
        for node in ast.walk(part)
    ]
    return tuple(
        Import(name, any(node is other for other in for_checkers))
        for node in ast.walk(tree(module))
        for name in named(module, node)
    )


def inside(module: str) -> set[str]:
    """Return the modules of ours that a module imports."""
    found = {item.name[1:] for item in imports(module) if item.name.startswith(".")} - {module}
    return found - {name for importer, name in NAMED_ABOVE if importer == module}


def matches(module: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(module, pattern) for pattern in patterns)


def row_of(module: str) -> int | None:
    """Return the row of a module, which is that of its own name or of the nearest folder around it."""
    parts = module.split(".")
    for size in range(len(parts), 0, -1):
        for place, row in enumerate(ROWS):
            if ".".join(parts[:size]) in row:
                return place
    return None


MODULES = sorted(sources())
PURE = [module for module in MODULES if (row_of(module) or 0) >= PURE_FROM]


def test_the_walk_sees_what_is_imported() -> None:
    assert {"errors", "requests", "results", "sansio.job.commands"} <= inside("sansio.job.machine")
    assert "io.journal.journal" in inside("engine.runtime") | inside("client")
    assert "aiohttp" in {item.name for item in imports("io.aiohttp")}
    assert {Import("aiohttp", checked_only=True)} == {
        item for item in imports("client") if item.name == "aiohttp"
    }
    assert {"client", "errors", "sansio.job.states"} <= inside("")
    assert {"errors", "requests", "sansio.job.machine", "sansio.clip.mp4"} <= set(PURE)


def test_every_module_has_a_row_and_imports_from_below_or_from_its_own_without_a_cycle() -> None:
    assert [] == [module for module in MODULES if row_of(module) is None], "give them a place in ROWS"
    upwards = [
        f"{module} imports {name}"
        for module in MODULES
        for name in sorted(inside(module))
        if (row_of(name) or 0) < (row_of(module) or 0)
    ]
    assert [] == upwards
    try:
        TopologicalSorter({module: inside(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(f"imports in a circle: {error.args[1]}")


def test_what_touches_the_world_is_imported_where_it_belongs() -> None:
    misplaced = [
        f"{module} imports {item.name}"
        for module in MODULES
        for item in imports(module)
        for top in [item.name.partition(".")[0]]
        if top in ONLY_IN and not matches(module, ONLY_IN[top])
        if not (item.checked_only and (module, top) in FOR_ANNOTATIONS)
    ]
    assert [] == misplaced


def test_the_middle_knows_no_network_no_clock_no_chance_no_threads_and_no_async() -> None:
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    clocks = {"now", "utcnow", "today", "monotonic", "perf_counter", "urandom"}
    found = [
        f"{module} imports {item.name}"
        for module in PURE
        for item in imports(module)
        for top in [item.name.partition(".")[0]]
        if top in WORLD and not (item.checked_only and (module, top) in FOR_ANNOTATIONS)
    ]
    found += [
        f"{module}:{getattr(node, 'lineno', 0)} {ast.unparse(node).splitlines()[0]}"
        for module in PURE
        for node in ast.walk(tree(module))
        if isinstance(node, kinds) or (isinstance(node, ast.Attribute) and node.attr in clocks)
    ]
    assert [] == found


def test_every_module_says_what_it_is_for_is_short_and_imports_its_own_relatively() -> None:
    assert [] == [module for module in MODULES if not ast.get_docstring(tree(module))]
    lines = {module: len(sources()[module].read_text(encoding="utf-8").splitlines()) for module in MODULES}
    assert {} == {module: count for module, count in lines.items() if count > LONGEST}
    absolute = [
        f"{module} imports from {node.module}"
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ImportFrom) and not node.level and ours(node.module or "")
    ]
    assert [] == absolute


def test_importing_the_library_loads_nothing_that_only_some_need() -> None:
    some = ["cli", "sandbox", "io.journal.journal"]
    foreign = [
        "sqlite3",
        "psycopg",
        "cryptography",
        "rich",
        "cyclopts",
        "av",
        "numpy",
        "PIL",
        "pytest",
        "hypothesis",
        "uvloop",
    ]
    code = f"""
import sys
from venice_async import *
names = {[f"venice_async.{name}" for name in some] + foreign!r}
print([name for name in sys.modules if any(name == other or name.startswith(other + ".") for other in names)])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    assert "[]" == ran.stdout.strip()


def test_the_package_holds_modules_the_marker_of_types_and_the_licence() -> None:
    others = {path.name for path in PACKAGE.iterdir() if path.is_file() and path.suffix != ".py"}
    assert {"py.typed", "LICENSE"} == others
