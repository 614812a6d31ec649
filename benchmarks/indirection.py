"""How far must one jump to follow one clip? What runs for it, and into what the code is cut.

    python -m benchmarks.indirection             the counts
    python -m benchmarks.indirection --list      also name the functions, by module
    python -m benchmarks.indirection --helpers   name the helpers used once, by module, and run no clip

One public clip, with a journal, from `generate` to the end of the client's block, on a server in a process of
its own (`loopback.py`). A function counts once however often it runs; comprehensions, classes and modules are
none. A helper is a function whose name begins with an underscore and is read once within its module. The
length of a function is that of its lines, decorators left out, docstrings included.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import statistics
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import venice_async
from venice_async import VeniceClient, VideoRequest

from .common import print_table, serving
from .loopback import Options

PACKAGE = Path(venice_async.__file__).parent
LEAF = ("cli", "sandbox")
"""What is not part of the core."""


async def one_clip(origin: str, folder: Path) -> None:
    """Run one public job with a journal, and leave the client."""
    async with VeniceClient("key", base_url=f"{origin}/api/v1", journal=folder / "jobs.db") as venice:
        request = VideoRequest(model="public", prompt="A gondola at dawn", duration="5s")
        await venice.generate(request, to=folder / "clip.mp4")


def followed(origin: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the functions that run for one clip by the file of their module: on the loop, and in all."""
    seen: dict[bool, set[CodeType]] = {True: set(), False: set()}

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            seen[threading.current_thread() is threading.main_thread()].add(frame.f_code)

    with tempfile.TemporaryDirectory() as warm, tempfile.TemporaryDirectory() as folder:
        asyncio.run(one_clip(origin, Path(warm)))  # so that no import is counted
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            asyncio.run(one_clip(origin, Path(folder)))
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    return ours(seen[True]), ours(seen[True] | seen[False])


def ours(codes: set[CodeType]) -> dict[str, list[str]]:
    """Return the names of the library's own functions, by the file of their module."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for code in sorted(codes, key=lambda code: (code.co_filename, code.co_firstlineno)):
        path = Path(code.co_filename)
        if path.is_relative_to(PACKAGE) and (code.co_name == "<lambda>" or not code.co_name.startswith("<")):
            found[str(path.relative_to(PACKAGE))].append(code.co_qualname)
    return dict(found)


def cut() -> tuple[dict[str, list[str]], list[int]]:
    """Return the helpers used once, by the file of their module, and the lengths of all functions."""
    helpers, lengths = defaultdict[str, list[str]](list), list[int]()
    for path in sorted(PACKAGE.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        reads = Counter(node.id for node in nodes if isinstance(node, ast.Name))
        reads.update(node.attr for node in nodes if isinstance(node, ast.Attribute))
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths.append((node.end_lineno or node.lineno) - node.lineno + 1)
                if node.name.startswith("_") and not node.name.startswith("__") and reads[node.name] == 1:
                    helpers[str(path.relative_to(PACKAGE))].append(f"{node.name} ({lengths[-1]})")
    return dict(helpers), sorted(lengths)


def lines(*, core: bool) -> int:
    """Return the lines of the package, or of its core."""
    return sum(
        len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
        if not (core and path.relative_to(PACKAGE).parts[0] in LEAF)
    )


def main() -> None:
    """Read the command line, count, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="name the functions")
    parser.add_argument("--helpers", action="store_true", help="name the helpers used once, and run no clip")
    options = parser.parse_args()
    helpers, lengths = cut()
    if options.helpers:
        for module, names in helpers.items():
            print(f"{module}: {', '.join(names)}")
        return
    with serving(Options()) as origin:
        on_loop, found = followed(origin)
    count, once = len(lengths), sum(map(len, helpers.values()))
    parts = statistics.quantiles(lengths, n=10, method="inclusive")
    rows: list[list[object]] = [
        ["functions that one clip runs on the event loop", sum(map(len, on_loop.values())), "180"],
        ["modules they are in", len(on_loop), "25"],
        ["functions with those in worker threads", sum(map(len, found.values())), ""],
        ["modules they are in", len(found), ""],
        ["helpers used once, of all functions", f"{once / count:.1%} ({once} of {count})", "8 %"],
        ["lines of the core", lines(core=True), "8500"],
        ["lines of all", lines(core=False), "14500"],
        ["length of a function, median", round(parts[4]), "9"],
        ["length of a function, 90th percentile", round(parts[8]), "28"],
    ]
    print_table(["what", "is", "goal"], rows)
    for module, names in found.items() if options.list else ():
        print(f"{module}: {', '.join(names)}")


if __name__ == "__main__":
    main()
