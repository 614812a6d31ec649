"""`venice-async batch`: many clips from one file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TextIO

import anyio
from attrs import frozen

from ...errors import UsageError
from ...formatting import as_usd
from ..batchfile import Line, read_batch, strangers
from ..batchrun import BatchRun
from ..connection import Connection, Journalling, opened
from ..consent import asker
from ..inputs import text_of
from ..options import argument, flag, value
from ..prices import Money, confirmed_price, total_price
from ..request_options import Look

if TYPE_CHECKING:
    from ..interrupts import Interrupts
    from ..screen.screen import Screen

EXAMPLES: Final = """\
venice-async batch jobs.jsonl --into clips/ --budget 20
venice-async batch jobs.csv --into clips/ --budget 20 --results results.jsonl --report
echo '{"prompt": "a fox", "duration": "5s"}' | venice-async batch - -m wan-2-7-text-to-video --into clips/

A line of jobs.jsonl: {"model": "wan-2-7-text-to-video", "prompt": "a fox", "duration": "5s", "key": "fox"}
The first line of jobs.csv: key,model,prompt,duration,image_url
Run the same command again to go on: with the journal, nothing is paid for twice.
"""
_PANEL: Final = "Batch"


@frozen(kw_only=True)
class Spending:
    """What a batch may cost."""

    budget: Annotated[
        float | None,
        value(takes="USD", says="The most that all may cost, earlier runs into the folder included.", min=0),
    ] = None
    yes: Annotated[bool, flag("--yes", "-y", says="Do not ask, whatever it costs.")] = False
    ask_above: Annotated[
        float,
        value(
            takes="USD",
            says="Without a budget: ask before spending more than this.",
            shown=True,
            min=0,
            envvar="VENICE_ASK_ABOVE",
        ),
    ] = 1.0


@frozen(kw_only=True)
class Course:
    """How a batch goes."""

    stop_on_error: Annotated[
        bool, flag("--stop-on-error", says="Queue nothing more after a failure.", panel=_PANEL)
    ] = False
    concurrency: Annotated[int, value(takes="N", says="Jobs at once.", panel=_PANEL, shown=True, min=1)] = 200
    overwrite: Annotated[bool, flag("--overwrite", says="Replace files that exist.", panel=_PANEL)] = False
    grace: Annotated[
        float,
        value(
            takes="SECONDS",
            says="On Ctrl-C: how long to wait for what is nearly done.",
            panel=_PANEL,
            shown=True,
            min=0,
        ),
    ] = 5.0
    timeout: Annotated[
        float | None, value(takes="SECONDS", says="How long one job may take.", panel=_PANEL, min=0.001)
    ] = None


async def batch(
    *,
    screen: Screen,
    interrupts: Interrupts,
    file: Annotated[
        Path, argument(takes="FILE", says="The requests: .jsonl or .csv; - for JSON lines on stdin.")
    ],
    into: Annotated[Path, value(takes="FOLDER", says="Where the clips go; it is made if it is missing.")],
    model: Annotated[
        str | None, value("--model", "-m", takes="ID", says="The model of lines without one.")
    ] = None,
    spending: Spending,
    results: Annotated[
        Path | None, value(takes="FILE", says="Write the outcomes here, as JSON lines.")
    ] = None,
    report: Annotated[
        bool, flag("--report", says="Write report.html beside the clips: a page to look at.")
    ] = False,
    course: Course,
    look: Look,
    journalling: Journalling,
    connection: Connection,
) -> int:
    """Generate many clips, within a budget; run it again to go on where it ended.

    Outcomes go to stdout as JSON lines, or to --results. A failure is an outcome and stops nothing else.
    Options of picture and sound fill in what a line leaves out.
    """
    started = datetime.now(UTC)
    defaults = {**look.values(), **({"model": model} if model else {})}
    lines = await anyio.to_thread.run_sync(read_batch, await text_of(file), file, defaults)
    for stranger in strangers(lines):
        screen.insist(f"{file}: {stranger}", "yellow")
    run = BatchRun(screen, interrupts, lines, into=into, grace=course.grace)
    on_consent = asker(screen)
    if journalling.path(connection) is not None:
        interrupts.farewell = "Stopped at once. Run the same command again to go on."
    with ExitStack() as stack:
        await anyio.to_thread.run_sync(_make_folder, into)
        run.results = _opened(results, stack)
        async with opened(
            connection, journalling, on_consent=on_consent, on_state=run.heard, seconds=course.timeout
        ) as session:
            if spending.budget is None:
                with screen.waiting("asking the prices"):
                    total = await total_price(session.venice, [line.request for line in lines])
                screen.note(f"{_clips(len(lines))}, {as_usd(total)} in all; --budget makes that a bound")
                await confirmed_price(total, Money(yes=spending.yes, ask_above=spending.ask_above), screen)
            course_of_it = session.venice.batch(
                (line.request for line in lines),
                into=into,
                max_usd=math.inf if spending.budget is None else spending.budget,
                on_error="stop" if course.stop_on_error else "collect",
                key=run.key(),
                concurrency=course.concurrency,
                overwrite=course.overwrite,
            )
            code = await run.watch(session, course_of_it, spending.budget)
    if report:
        path = await anyio.to_thread.run_sync(_write_report, run, lines, into, started)
        screen.note(f"Report: {path}")
    return code


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def _make_folder(into: Path) -> None:
    try:
        into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"There cannot be a folder {str(into)!r}: {error.strerror}"
        raise UsageError(msg) from error


def _opened(path: Path | None, stack: ExitStack) -> TextIO | None:
    """Open the file for the outcomes, before any money is spent."""
    if path is None:
        return None
    try:
        return stack.enter_context(path.open("w", encoding="utf-8"))
    except OSError as error:
        msg = f"{str(path)!r} cannot be written: {error.strerror}"
        raise UsageError(msg) from error


def _write_report(run: BatchRun, lines: Sequence[Line], into: Path, started: datetime) -> Path:
    """Write `report.html` into the folder of the clips and return its path."""
    from ..report.report import ReportItem, write_report  # noqa: PLC0415 - PyAV is loaded by those who ask for a report

    items: list[ReportItem] = []
    for index, line in enumerate(lines):
        outcome, seconds = run.outcome(index)
        video, error = (outcome.video, outcome.error) if outcome else (None, None)
        length = line.request.duration
        items.append(
            ReportItem(
                index=index,
                model=line.request.model,
                prompt=line.request.prompt,
                clip=video.path if video else None,
                duration=None if length is None else str(length),
                seconds=seconds,
                usd=outcome.usd if outcome else None,
                size=video.size if video else None,
                error=error.message if error else None,
                charged=True if video else error.charged if error else None,
            )
        )
    path = into / "report.html"
    try:
        write_report(
            path,
            items,
            title=f"{into.resolve().name}: {_clips(len(items))}",
            started=started.astimezone(),
            finished=datetime.now(UTC).astimezone(),
        )
    except OSError as error:
        msg = f"The report cannot be written: {error.strerror}"
        raise UsageError(msg, hint="The clips are there") from error
    return path
