"""Draws what `pacing.py` measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Result(Protocol):
    """What one policy gave in one case."""

    @property
    def mean(self) -> float:
        """Mean delay in seconds."""
        ...

    @property
    def refused(self) -> float:
        """429s a run."""
        ...


Table = Mapping[str, Sequence[Result]]
COLOURS = ["#a8a8a8", "#6f8fae", "#c9a15b", "#8a9a6b", "#c8102e", "#404040"]


def draw_plot(path: Path, jobs: Sequence[int], results: Table, wrong: Mapping[str, Table]) -> None:
    """Draw delay and refusals against the number of jobs, and what a wrong estimate costs ten jobs."""
    import matplotlib as mpl  # noqa: PLC0415 - only needed for --plot

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after its backend was chosen

    figure: Any
    figure, (delay, refusals, estimate) = plt.subplots(1, 3, figsize=(13.5, 4.6), layout="constrained")
    colour = dict(zip(results, COLOURS, strict=True))
    for name, row in results.items():
        wide, top = (3.0, 4) if name.startswith("**") else (1.6, 2)
        style: dict[str, Any] = {"color": colour[name], "linewidth": wide, "marker": "o", "zorder": top}
        delay.plot(jobs, [max(result.mean, 0.05) for result in row], label=name.strip("*"), **style)
        refusals.plot(jobs, [result.refused for result in row], **style)
    delay.set(title="mean delay until a finished clip is noticed, s", yscale="log")
    refusals.set(title="429s a run", yscale="symlog", ylim=(-0.3, None))
    for panel in (delay, refusals):
        panel.set(xscale="log", xlabel="jobs, submitted at 40 a minute")
        panel.set_xticks(jobs, [str(one) for one in jobs])
        panel.minorticks_off()
    for place, name in enumerate(next(iter(wrong.values()))):
        bars = [table[name][0].mean for table in wrong.values()]
        spots = [index + 0.27 * (place - 1) for index in range(len(wrong))]
        estimate.bar_label(estimate.bar(spots, bars, 0.25, color=colour[name]), fmt="%.1f", fontsize=8)
    estimate.set(title="mean delay of 10 jobs told P80 = 145 s, s")
    estimate.set_xticks(range(len(wrong)), list(wrong))
    for panel in (delay, refusals, estimate):
        panel.grid(alpha=0.3)
        panel.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(
        "Polling under one budget of 120 polls a minute (lognormal job times, P80 145 s, sigma 0.6)"
    )
    figure.savefig(path, dpi=130)
