"""What do other ways to the same clips cost? Many jobs at once, on one strict server, each client in turn.

    python -m benchmarks.peers                   200 jobs of 10 s, some ten minutes
    python -m benchmarks.peers --quick           60 jobs, at most a minute each
    python -m benchmarks.peers --plot out.png    also draw it (needs matplotlib)

The server is `loopback.py`: 120 polls in fixed windows of a minute, which begin with each client; the limit
of paid requests is lifted, so that all jobs run at once (`--queue-limit 40` sets it again). After more than
20 refusals in 30 s the key is blocked for 30 s. Each client runs all jobs at once in a fresh interpreter, and
has `--cap` seconds. venice-py and veniceresch are installed into environments of their own, in the folder
`--environments`; veniceresch can do links only, the others take the clip inline. The sample is the vendor's:
a poll every five seconds, whatever the answer. The oracle is bare aiohttp that knows when each job ends and
how often it may poll: it makes the fewest calls there can be; once more it pays on fresh connections, digests
the clips and syncs them. A clip counts when its file is whole, byte by
byte. The CPU is the client's alone, without imports; the memory is its highest, all included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from attrs import frozen

from .common import in_process, load_note, print_table, reset, serving
from .loopback import Counts, Options, write_clip

POLLS = 120  # a minute


@frozen(kw_only=True)
class Contender:
    """One client.

    Attributes:
        name: as shown.
        client: its name in `peer_clients.py`.
        model: `public` for inline clips, `private` for links.
        package: what to install for it, if it is not here.
    """

    name: str
    client: str
    model: str = "public"
    package: str | None = None


@frozen(kw_only=True)
class Result:
    """What came of one.

    Attributes:
        whole: clips that are there, byte by byte.
        counts: what the server saw.
        said: what the client said of itself.
    """

    whole: int
    counts: Counts
    said: dict[str, Any]


VENICE_PY, VENICERESCH = "venice-py==2.9.0", "veniceresch==0.6.2"
CONTENDERS = (
    Contender(name="**venice_async**", client="ours"),
    Contender(name="**venice_async**, by link", client="ours", model="private"),
    Contender(name="venice-py 2.9.0", client="venice-py", package=VENICE_PY),
    Contender(name="venice-py 2.9.0 with its limiter", client="venice-py-limited", package=VENICE_PY),
    Contender(name="veniceresch 0.6.2, by link", client="veniceresch", model="private", package=VENICERESCH),
    Contender(name="the vendor's sample, aiohttp", client="sample"),
    Contender(name="oracle, bare aiohttp", client="oracle"),
    Contender(name="oracle, as careful with money and files", client="lasting-oracle"),
)


def environment(folder: Path, package: str) -> str:
    """Return the interpreter of an environment with `package`, made if it is missing."""
    home = folder / package
    python, ready = home / "bin" / "python", home / "ready"
    if not ready.exists():
        print(f"installing {package} into {home}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)  # noqa: S603 - fixed
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", package], check=True)  # noqa: S603 - fixed
        ready.touch()
    return str(python)


def measure(contender: Contender, options: argparse.Namespace, origin: str) -> Result:
    """Run one client."""
    package = contender.package
    python = sys.executable if package is None else environment(options.environments, package)
    reset(origin)
    with tempfile.TemporaryDirectory() as name:
        arguments = {
            "origin": origin,
            "model": contender.model,
            "jobs": options.jobs,
            "seconds": options.seconds,
            "polls": POLLS,
            "cap": options.cap,
            "folder": name,
        }
        spelt = [f"--{key}={value}" for key, value in arguments.items()]
        said = in_process("peer_clients", contender.client, *spelt, python=python)
        whole = count_whole(Path(name), options.kib * 1024)
    return Result(whole=whole, counts=reset(origin), said=said)


def count_whole(folder: Path, size: int) -> int:
    """Return how many files in `folder` are the server's clip."""
    expected = folder / "expected"
    write_clip(expected, size)
    clip = expected.read_bytes()
    return sum(path.read_bytes() == clip for path in folder.glob("*.mp4"))


def row(contender: Contender, result: Result, jobs: int) -> Sequence[object]:
    """Return one line of the table."""
    counts, said = result.counts, result.said
    ends = {name: count for name, count in said["ends"].items() if name != "finished"}
    left = jobs - sum(said["ends"].values())
    otherwise = [
        *(f"{count} {name}" for name, count in ends.items()),
        *([f"{left} out of time"] if left else []),
    ]
    return (
        contender.name,
        f"{result.whole} of {jobs}",
        counts.requests,
        f"{counts.polls / jobs:.2f}",
        counts.refused,
        counts.blocks,
        f"{said['cpu']:.2f}",
        f"{said['cpu'] / max(counts.requests, 1) * 1000:.1f}",
        f"{said['mib']:.0f}",
        f"{said['seconds']:.1f}",
        ", ".join(otherwise) or "nothing",
    )


def draw_plot(path: Path, results: dict[str, Result], jobs: int) -> None:
    """Draw what was finished, asked and refused."""
    import_module("matplotlib").use("Agg")  # only needed here
    pyplot: Any = import_module("matplotlib.pyplot")
    figure, panels = pyplot.subplots(1, 4, figsize=(14, 3.8), layout="constrained", sharey=True)
    names = [name.strip("*").replace("**", "") for name in reversed(results)]
    last_first = list(reversed(results.values()))
    shown: dict[str, list[float]] = {
        f"clips finished whole, of {jobs}": [result.whole for result in last_first],
        "requests": [result.counts.requests for result in last_first],
        "429s": [result.counts.refused for result in last_first],
        "client's CPU, s": [result.said["cpu"] for result in last_first],
    }
    colours = ["#c8102e" if name.startswith("venice_async") else "#8a97a5" for name in names]
    for panel, (title, values) in zip(panels, shown.items(), strict=True):
        bars = panel.barh(names, values, color=colours)
        panel.bar_label(bars, fmt="%.1f" if "CPU" in title else "%d", padding=3, fontsize=8)
        panel.set(title=title, xlim=(0, 1.18 * max(*values, 1)))
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Read the command line, and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--seconds", type=float, default=10.0, help="that each job takes")
    parser.add_argument("--queue-limit", type=int, help="paid requests a minute; no limit by default")
    parser.add_argument("--kib", type=int, default=256, help="of each clip")
    parser.add_argument("--cap", type=float, help="seconds for each client")
    parser.add_argument("--only", nargs="+", metavar="CLIENT", help="as named in peer_clients.py")
    parser.add_argument("--plot", type=Path)
    cache = Path(tempfile.gettempdir()) / "venice-async-peers"
    parser.add_argument("--environments", type=Path, default=cache, help="where to install the others")
    options = parser.parse_args()
    options.jobs = options.jobs or (60 if options.quick else 200)
    options.cap = options.cap or (60.0 if options.quick else 150.0)
    compare(options)


def compare(options: argparse.Namespace) -> None:
    """Run them one after the other."""
    server = Options(
        seconds=options.seconds,
        retrieve_limit=POLLS,
        queue_limit=options.queue_limit,
        clip_bytes=options.kib * 1024,
    )
    results: dict[str, Result] = {}
    rows: list[Sequence[object]] = []
    chosen = [one for one in CONTENDERS if not options.only or one.client in options.only]
    print(f"{options.jobs} jobs of {options.seconds:g} s at once; {load_note()}\n")
    with serving(server) as origin:
        for contender in chosen:
            result = results[contender.name] = measure(contender, options, origin)
            rows.append(row(contender, result, options.jobs))
            print(contender.name, "done", file=sys.stderr)
    head = "client|whole|requests|polls/job|429s|blocks|CPU s|CPU ms/request|peak MiB|seconds|ended otherwise"
    print_table(head.split("|"), rows)
    if options.plot:
        draw_plot(options.plot, results, options.jobs)


if __name__ == "__main__":
    main()
