"""`venice-async batch`: many clips from one file."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import anyio
from attrs import evolve, frozen
from cyclopts import Parameter
from cyclopts.validators import Number

from ...errors import UsageError, VeniceError
from ...formatting import as_usd
from ...sansio.converter import request_key
from ..batch_file import Line, Variants, read_batch, unknown_fields
from ..completions import Model
from ..exit_codes import hint
from ..options import BATCH, Access, ConfirmOptions, Output, Place, Seconds, Text, Usd
from ..prices import all_prices, confirm_price, show_prices
from ..request_options import PictureOptions, values
from ..run_jobs import BatchRun
from ..screen.screen import ScreenHere
from ..session import open_session
from ..stdio import read_text
from . import command

if TYPE_CHECKING:
    from ...io.journal.entries import JournalEntry
    from ...requests import VideoRequest

EXAMPLES: Final = """\
venice-async batch jobs.jsonl --into clips/ --budget 20
venice-async batch jobs.csv --into clips/ --budget 20 --results results.jsonl --report
venice-async batch animals.csv --into clips/ -p "A {animal} in {place}" --vary seed=1,2 --dry-run
echo '{"prompt": "a fox", "duration": "5s", "aspect_ratio": "16:9"}' | venice-async batch - -m MODEL --into .

A line of jobs.jsonl: {"model": "MODEL", "prompt": "a fox", "aspect_ratio": "16:9", "duration": "5s"}
The first line of jobs.csv: key,model,prompt,duration,image_url,tag:customer
Run the same command again to go on: with the journal, nothing is paid for twice.
"""


@Parameter(name="*", group=BATCH)
@frozen(kw_only=True)
class RunOptions:
    """How a batch goes.

    Attributes:
        stop_on_error: Queue nothing more after a failure.
        concurrency: Jobs at once.
        name: How clips are called, such as '{key}-{n:03}'; by default by their prompts and short ids.
        overwrite: Replace files that exist.
        grace: On Ctrl-C: how long to wait for what is nearly done.
        timeout: How long one job may take.
        give_up_after: Identical refusals of a prompt or image after which no more like it are sent; 0: never.
    """

    stop_on_error: bool = False
    concurrency: Annotated[int, Parameter(metavar="N", show_default=True, validator=Number(gte=1))] = 200
    name: Text | None = None
    overwrite: bool = False
    grace: Annotated[float, Parameter(metavar="SECONDS", show_default=True, validator=Number(gte=0))] = 5.0
    timeout: Seconds | None = None
    give_up_after: Annotated[int, Parameter(metavar="N", show_default=True, validator=Number(gte=0))] = 3


@command(EXAMPLES)
async def batch(
    file: Annotated[Path, Parameter(metavar="FILE", allow_leading_hyphen=True)],
    /,
    *,
    into: Annotated[Place, Parameter(alias="-o", metavar="FOLDER")],
    model: Model | None = None,
    budget: Annotated[Usd | None, Parameter(alias="--max-usd")] = None,
    dry_run: bool = False,
    variants: Variants = Variants(),
    confirm: ConfirmOptions = ConfirmOptions(),
    results: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    report: bool = False,
    running: RunOptions = RunOptions(),
    picture: PictureOptions = PictureOptions(),
    access: Access = Access(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Generate many clips within a budget; run it again to continue.

    Outcomes go to stdout as JSON lines, or to --results. A failure is an outcome
    and stops nothing else. Options of picture and sound fill in what a line
    leaves out.

    Args:
        file: The requests: .jsonl or .csv; - for JSON lines on stdin.
        into: Where the clips go, made if it is missing; or s3://bucket/clips/.
        model: The model of lines without one.
        budget: The most that all may cost, earlier runs into the folder included.
        dry_run: Say what all would cost, and what cannot be priced; queue nothing.
        results: Write the outcomes here, as JSON lines.
        report: Write report.html beside the clips: a page to look at.
    """
    started = time.time()
    if report and not isinstance(into, Path):
        msg = "--report needs a folder for the clips: the page shows them from beside it"
        raise UsageError(msg, hint="Leave --report out, or send the clips to a folder")
    defaults: dict[str, Any] = {**values(picture), **({"model": model} if model else {})}
    lines = await anyio.to_thread.run_sync(read_batch, await read_text(file), file, defaults, variants)
    for remark in unknown_fields(lines):
        screen.insist(f"{file}: {remark}", "yellow")
    if dry_run:
        async with open_session(screen, evolve(access, journal=None, no_journal=True)) as session:
            return await show_prices(session.venice, lines, budget, screen)
    line_of = {id(line.request): line for line in lines}

    def key_of(request: VideoRequest) -> str:
        return line_of[id(request)].key or request_key(request)

    run = BatchRun(screen, lines, into=into, grace=running.grace)
    with ExitStack() as stack:
        run.results = await anyio.to_thread.run_sync(_open_output, into, results, stack)
        async with open_session(screen, access, seconds=running.timeout, on_state=run.heard) as session:
            if session.journal is not None:
                screen.interrupts.farewell = "Stopped at once. Run the same command again to go on."
            if budget is None:
                with screen.waiting("asking the prices"):
                    prices = await all_prices(session.venice, [line.request for line in lines])
                if unpriced := [price for price in prices if isinstance(price, VeniceError)]:
                    raise unpriced[0]
                total = math.fsum(price for price in prices if not isinstance(price, VeniceError))
                screen.note(f"{_clips(len(lines))}, {as_usd(total)} in all; --budget limits it")
                await confirm_price(total, None, confirm, screen)
            clips = session.venice.batch(
                (line.request for line in lines),
                into=into,
                max_usd=math.inf if budget is None else budget,
                on_error="stop" if running.stop_on_error else "collect",
                key=key_of if any(line.key is not None for line in lines) else None,
                tags=lambda request: line_of[id(request)].tags,
                concurrency=running.concurrency,
                overwrite=running.overwrite,
                name=running.name,
                give_up_after=running.give_up_after or None,
                max_each=lambda request: line_of[id(request)].max_usd,
            )
            code = await run.until_the_end(session, clips, budget)
            known: dict[str, JournalEntry] = {}
            earlier = any(outcome.video and outcome.earlier for outcome, _ in run.outcomes.values())
            if report and earlier and session.journal is not None:  # it tells when they were made
                entries = await session.venice.history(state="succeeded")
                known = {entry.ticket.queue_id: entry for entry in entries if entry.ticket is not None}
    if report and isinstance(into, Path):
        path = await anyio.to_thread.run_sync(_write_report, run, lines, into, started, known)
        screen.note(f"Report: {path}")
    return code


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def _open_output(into: Path | str, results: Path | None, stack: ExitStack) -> TextIO | None:
    """Make the folder and the file for the outcomes, before any money is spent."""
    try:
        if isinstance(into, Path):
            into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"The folder {str(into)!r} cannot be made: {error.strerror}"
        raise UsageError(msg) from error
    try:
        return None if results is None else stack.enter_context(results.open("w", encoding="utf-8"))
    except OSError as error:
        msg = f"{str(results)!r} cannot be written: {error.strerror}"
        raise UsageError(msg) from error


def _write_report(
    run: BatchRun, lines: Sequence[Line], into: Path, started: float, known: Mapping[str, JournalEntry]
) -> Path:
    """Write `report.html` into the folder of the clips and return its path.

    What an earlier run made has the times that are `known` of it.
    """
    from ..dashboard.page import write_report  # noqa: PLC0415 - for those who ask for a report
    from ..dashboard.rows import report_row  # noqa: PLC0415 - see above

    rows: list[dict[str, Any]] = []
    times: list[float] = []
    for index, line in enumerate(lines):
        outcome, seconds = run.outcomes.get(index, (None, None))
        video, error = (outcome.video, outcome.error) if outcome else (None, None)
        entry = known.get(video.ticket.queue_id) if video and outcome and outcome.earlier else None
        if entry is not None and entry.ended is not None:
            seconds = entry.ended - entry.created
            times += [entry.created, entry.ended]
        elif outcome is not None:
            times += [started, time.time()]
        row = report_row(
            into.absolute(),
            index,
            key=line.key or line.variant or None,
            tags=dict(line.tags) or None,
            model=line.request.model,
            prompt=line.request.prompt,
            clip=video.path if video else None,
            duration=line.request.duration,
            seed=line.request.extra.get("seed"),
            took=seconds,
            usd=outcome.usd if outcome else None,
            size=video.size if video else None,
            error=error.message if error else None,
            hint=hint(error) if error else None,
            charged=True if video else error.charged if error else None,
        )
        rows.append(row)
    path = into / "report.html"
    title = f"{into.resolve().name}: {_clips(len(lines))}"
    first, last = min(times, default=started), max(times, default=started)
    try:
        write_report(path, {"title": title, "started": first, "finished": last, "rows": rows})
    except OSError as error:
        msg = f"The report cannot be written: {error.strerror}"
        raise UsageError(msg, hint="The clips are there") from error
    return path
