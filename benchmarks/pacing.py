"""How soon and with how many polls are finished jobs noticed? The pacer beside other ways, in virtual time.

    python -m benchmarks.pacing                  the whole, some minutes
    python -m benchmarks.pacing --quick          fewer repetitions, under a minute
    python -m benchmarks.pacing --plot out.png   the guide's table and picture, a minute (needs matplotlib)

The pacer is the real code, driven by one task a job on an event loop whose clock jumps. The server is as
strict as the vendor's documents allow: 120 polls in a window of 60 s of random phase, fixed or sliding, and
a block of 30 s after more than 20 refusals in 30 s. Jobs take lognormal times with P80 = 145 s.
"""

from __future__ import annotations

import argparse
import functools
import math
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen

from .pacing_plot import draw_plot
from .polling_rivals import Z80, Outcome, backoff, eta_sleep, fixed, fixed_limited, optimum, oracle
from .strict_server import Counter, StrictServer
from .virtual_pacer import P80, paced

BRIEF = 10.0  # seconds that each of 200 jobs takes
MANY = 50  # jobs, that need no repetition
Policy = Callable[[Sequence[float], Sequence[float], StrictServer], Outcome]


@frozen(kw_only=True)
class Case:
    """One experiment.

    Attributes:
        jobs: how many.
        spread: sigma of the logarithm of the times they take.
        arrival: all at once, or 40 a minute.
        p80: their true P80, whatever the server says it is.
        early: the part of them that ends within 1 to 20 s.
        window: what windows the server keeps.
        travel: most seconds that a poll takes there and back, for the pacer only.
        repetitions: how often, each with other jobs and another phase.
        takes: seconds that each job takes, if all take the same.
        phase: of the server's windows, if not random.
        middle: how many jobs to leave out at either end, so as to see the steady state only.
    """

    jobs: int
    spread: float = 0.3
    arrival: Literal["at once", "40/min"] = "40/min"
    p80: float = P80
    early: float = 0.0
    window: Literal["fixed", "sliding"] = "fixed"
    travel: float = 0.0
    repetitions: int = 1
    takes: float | None = None
    phase: float | None = None
    middle: int = 0

    def draw(self, repetition: int) -> tuple[list[float], list[float], StrictServer]:
        """Return the times that jobs take, their starts, and a server."""
        chance = random.Random(f"{self.jobs} {self.spread} {repetition}")
        location = math.log(self.p80) - Z80 * self.spread
        takes = [chance.lognormvariate(location, self.spread) for _ in range(self.jobs)]
        takes = [chance.uniform(1, 20) if chance.random() < self.early else one for one in takes]
        if self.takes is not None:
            takes = [self.takes] * self.jobs
        starts = [0.0 if self.arrival == "at once" else 1.5 * job for job in range(self.jobs)]
        phase = chance.uniform(0, 60) if self.phase is None else self.phase
        return takes, starts, StrictServer(Counter(window=self.window, phase=phase))


@frozen
class Result:
    """What all repetitions of a case gave together."""

    late: list[float] = field(repr=False)
    polls: float
    refused: float
    blocks: float
    ends: float
    cpu: float

    @property
    def mean(self) -> float:
        """Mean delay in seconds."""
        return sum(self.late) / len(self.late)

    @property
    def p95(self) -> float:
        """The delay in seconds that 95 % of jobs stay below."""
        return sorted(self.late)[math.ceil(0.95 * len(self.late)) - 1]


POLICIES: dict[str, Policy] = {
    "fixed 5 s (the vendor's sample)": fixed,
    "fixed 5 s + shared limiter": fixed_limited,
    "backoff 1 to 30 s": backoff,
    "sleep P80/2, then 5 s + limiter": eta_sleep,
    "**venice_async**": paced,
    "oracle that knows each end": oracle,
}
SHORT = {name: POLICIES[name] for name in list(POLICIES)[1:5] if name != "backoff 1 to 30 s"}


def measure(policy: Policy, case: Case) -> Result:
    """Run a case under a policy."""
    if policy is paced:
        policy = functools.partial(paced, travel=case.travel)
    outcomes = [policy(*case.draw(repetition)) for repetition in range(case.repetitions)]
    requests = sum(outcome.requests for outcome in outcomes)
    return Result(
        [late for outcome in outcomes for late in outcome.late[case.middle : case.jobs - case.middle]],
        requests / case.jobs / case.repetitions,
        sum(outcome.refused for outcome in outcomes) / case.repetitions,
        sum(outcome.blocks for outcome in outcomes) / case.repetitions,
        sum(outcome.ends for outcome in outcomes) / case.repetitions,
        sum(outcome.cpu for outcome in outcomes) / requests,
    )


def side_by_side(
    title: str, policies: dict[str, Policy], cases: list[Case], pool: ProcessPoolExecutor
) -> dict[str, list[Result]]:
    """Print a table of policies against cases; return the results, by policy."""
    futures = [[pool.submit(measure, policy, case) for case in cases] for policy in policies.values()]
    heads = [f"N={case.jobs}, sigma {case.spread:g}" for case in cases]
    print(f"\n### {title}\n\npolls a job · mean delay s · p95 s · 429s a run (blocks)\n")
    print("| policy | " + " | ".join(heads) + " |\n" + "|---" * (len(heads) + 1) + "|")
    results: dict[str, list[Result]] = {}
    for name, row in zip(policies, futures, strict=True):
        results[name] = [future.result() for future in row]
        print(f"| {name} | " + " | ".join(map(cell, results[name])) + " |", flush=True)
    return results


def cell(result: Result) -> str:
    """Show a result in a table."""
    blocks = f" ({result.blocks:.0f})" if result.blocks else ""
    return f"{result.polls:.1f} · {result.mean:.1f} · {result.p95:.1f} · {result.refused:.0f}{blocks}"


def strictness(pool: ProcessPoolExecutor, *, quick: bool) -> None:
    """Print what the pacer is refused by either kind of window, and what it costs."""
    print("\n### The pacer against strict windows, sigma 0.3\n")
    print(
        "| N | arrival | window | round trip s | 429s | blocks | polls/job | mean delay s | CPU ms a poll |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    cases = [
        Case(
            jobs=jobs,
            arrival=arrival,
            window=window,
            travel=travel,
            repetitions=1 if quick or jobs > MANY else 5,
        )
        for jobs in (1, 10, 100, 500)
        for arrival in ("at once", "40/min")
        for window in ("fixed", "sliding")
        for travel in (0.0, 1.0)
    ]
    for case, result in zip(cases, pool.map(functools.partial(measure, paced), cases), strict=True):
        print(
            f"| {case.jobs} | {case.arrival} | {case.window} | {case.travel:g} | {result.refused:g} "
            f"| {result.blocks:g} | {result.polls:.1f} | {result.mean:.2f} | {1000 * result.cpu:.2f} |",
            flush=True,
        )


def drain(pool: ProcessPoolExecutor) -> None:
    """Print how long 200 jobs of 10 s at once take."""
    print("\n### 200 jobs of 10 s at once, 120 polls a minute; the server says P80 = 145 s\n")
    print("| policy | window | phase s | floor s | finished s | polls/job | 429s |\n" + "|---" * 7 + "|")
    for name, policy in {"fixed 5 s + shared limiter": fixed_limited, "**venice_async**": paced}.items():
        cases = [
            Case(jobs=200, takes=BRIEF, arrival="at once", phase=phase)
            for phase in (0.0, 15.0, 30.0, 45.0, 58.0)
        ]
        cases.append(Case(jobs=200, takes=BRIEF, arrival="at once", window="sliding"))
        for case, result in zip(cases, pool.map(functools.partial(measure, policy), cases), strict=True):
            phase = "" if case.phase is None else f"{case.phase:g}"
            print(
                f"| {name} | {case.window} | {phase} | {floor(case.phase):.0f} | {result.ends:.0f} "
                f"| {result.polls:.2f} | {result.refused:g} |"
            )


def floor(phase: float | None) -> float:
    """Return when 200 jobs that all end after 10 s can have been noticed at 120 a window."""
    if phase is None:
        return 70.0
    turn = 60.0 - phase
    return turn if turn > BRIEF else turn + 60.0


def optimal(pool: ProcessPoolExecutor, *, quick: bool) -> None:
    """Print the saturated steady state beside the exact optimum."""
    jobs = 700 if quick else 1500
    print(f"\n### Saturated: {jobs} jobs, 40 a minute, 3 polls each, without the first and last 150\n")
    print("| sigma | exact optimum, knows sigma | pacer, fixed windows | sliding windows | fixed + limiter |")
    print("|---|---|---|---|---|")
    for spread in (0.3, 0.6):
        best = pool.submit(optimum, spread, 3.0, step=1.0 if quick else 0.5)
        case = functools.partial(Case, jobs=jobs, spread=spread, middle=150)
        runs = [
            pool.submit(measure, paced, case()),
            pool.submit(measure, paced, case(window="sliding")),
            pool.submit(measure, fixed_limited, case()),
        ]
        ratios = [f"{run.result().mean:.1f} s ({run.result().mean / best.result():.2f}x)" for run in runs]
        print(f"| {spread:g} | {best.result():.1f} s | " + " | ".join(ratios) + " |", flush=True)


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--plot", type=Path, help="draw a PNG there, of what the guide shows")
    options = parser.parse_args()
    often = {1: 30, 10: 5, 100: 2, 500: 1} if options.quick else {1: 300, 10: 40, 100: 8, 500: 3}

    def cases(spread: float, jobs: Sequence[int] = (1, 10, 100, 500), **others: Any) -> list[Case]:
        return [Case(jobs=one, spread=spread, repetitions=often[one], **others) for one in jobs]

    print("## How soon finished jobs are noticed")
    print("\nP80 145 s, 120 polls a minute in fixed windows, with the block.")
    few = (1, 10, 100)
    estimates: dict[str, dict[str, Any]] = {
        "true P80 72 s": {"p80": P80 / 2},
        "145 s": {},
        "290 s": {"p80": P80 * 2},
    }
    with ProcessPoolExecutor() as pool:
        plotted = side_by_side("Submitted at 40 a minute, sigma 0.6", POLICIES, cases(0.6), pool)
        if options.plot:
            wrong = {
                title: side_by_side(
                    f"The server says P80 = 145 s: {title}", SHORT, cases(0.6, (10,), **others), pool
                )
                for title, others in estimates.items()
            }
            draw_plot(options.plot, [1, 10, 100, 500], plotted, wrong)
            return
        side_by_side("Submitted at 40 a minute, sigma 0.3", POLICIES, cases(0.3), pool)
        for spread in (0.3, 0.6):
            side_by_side(f"All at once, sigma {spread:g}", POLICIES, cases(spread, arrival="at once"), pool)
        for title, others in (estimates | {"one in ten fails within 20 s": {"early": 0.1}}).items():
            mixed = cases(0.6, few, **others) + cases(0.3, few, **others)
            side_by_side(f"The server says P80 = 145 s: {title}", SHORT, mixed, pool)
        optimal(pool, quick=options.quick)
        drain(pool)
        strictness(pool, quick=options.quick)


if __name__ == "__main__":
    main()
