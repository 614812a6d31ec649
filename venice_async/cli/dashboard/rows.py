"""What the page shows of a job and of the account's ration: for people, without links and keys."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from ...io.journal.history import Paid, grouped, spans, total
from ...options import Budget
from ...sansio.job.states import (
    AwaitingConsent,
    Downloading,
    Failed,
    Queueing,
    Quoting,
    Saved,
    Stopped,
    Succeeded,
    Waiting,
)
from ...sansio.limits.bucket import FAILURES_PERIOD, PERIOD
from ...sansio.limits.ration import DEAD, Ration
from ..exit_codes import hint
from .page import look

if TYPE_CHECKING:
    from ...io.journal.entries import JournalEntry

_DAYS: Final = 14
_DAY: Final = 86_400.0  # seconds
_MODELS: Final = 8  # the most expensive of the month
_TYPICAL: Final = 0.8  # of a model's P80: roughly the median
_EPOCH: Final = 1e9  # seconds: above it times count from 1970, below it from the boot of a machine
_RESUME: Final = "Go on with: venice-async resume --all"
_LOOK: Final = "Look at your account. Once you know that no clip will come: venice-async jobs --forget "


def row_of(entry: JournalEntry, typical: Mapping[str, float]) -> dict[str, Any]:
    """Return what the page shows of a job; `typical` is how many seconds a job of a model takes."""
    request, model = entry.request, entry.model
    return _known(
        {
            "id": entry.id,
            "key": entry.name or None,
            "tags": dict(entry.tags) or None,
            "model": model,
            "prompt": request.prompt if request else None,
            "duration": _asked_length(request.duration if request else None),
            "seed": request.extra.get("seed") if request else None,
            "usd": entry.usd,
            "created": entry.created,
            "ended": entry.ended,
            "took": None if entry.ended is None else entry.ended - entry.created,
            "since": entry.created,
            "whole": typical.get(model or ""),
            **_standing(entry),
        }
    )


def _standing(entry: JournalEntry) -> dict[str, Any]:
    """Return the status of a job, whether it was paid for, and what to do about it."""
    state, at_work = entry.state, entry.owner is not None
    owner = entry.owner[:8] if entry.owner else None
    paid: dict[str, Any] = {"charged": True, "owner": owner}
    match state:
        case Succeeded(video=video) | Saved(video=video):
            done = {**paid, "status": "done", "label": "Done", "size": video.size}
            return done if video.path is None else {**done, **_file(video.path)}
        case Failed(error=error):
            return _failed(error.message, hint(error), charged=error.charged)
        case Stopped():
            return {**paid, "status": "waiting", "label": "Given up", "reason": "It was removed by hand."}
        case Waiting(final=str() as reason) | Downloading(final=str() as reason):
            said = {"status": "waiting", "label": "Cannot be fetched", "reason": reason}
            return {**paid, **said, "note": "paid for", "hint": _LOOK + entry.id}
        case Waiting() | Downloading() if not at_work:
            said = {"status": "waiting", "label": "Interrupted", "reason": "No process works on it."}
            return {**paid, **said, "note": "paid for", "hint": _RESUME}
        case Waiting(elapsed=elapsed, eta=eta):
            known = {} if elapsed is None or eta is None else {"whole": elapsed + eta}
            return {**paid, "status": "working", "label": "Generating", **known}
        case Downloading(progress=share):
            return {**paid, "status": "working", "label": "Downloading", "share": share}
        case Queueing() if at_work:
            return {"status": "working", "label": "Queueing", "charged": False, "whole": 0, "owner": owner}
        case Queueing():
            return {
                "status": "waiting",
                "label": "Outcome unknown",
                "note": "perhaps paid for",
                "reason": "The answer to its paid request was lost.",
                "hint": _LOOK + entry.id,
                "charged": None,
                "perhaps": True,
            }
        case AwaitingConsent() | Quoting():
            label = "Asking the price" if isinstance(state, Quoting) else "Waits for consent"
            return {"status": "working" if at_work else "waiting", "label": label, "charged": False}


def report_row(
    folder: Path,
    index: int,
    *,
    duration: object = None,
    clip: Path | None = None,
    size: int | None = None,
    error: str | None = None,
    hint: str | None = None,
    charged: bool | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Return what the page in `folder` shows of a request of a batch, `index` counted from 0.

    Posters are made with PyAV where that is installed, some 50 ms each: call this in a worker thread.

    Args:
        folder: where the page is.
        index: the place in the batch, from 0.
        duration: the length that was asked for; shown when the file does not tell its own.
        clip: the file, if there is one.
        size: the file's bytes.
        error: why there is no clip.
        hint: what to do about that.
        charged: whether money was spent; None when that is not known.
        **facts: key, tags, model, prompt and seed; usd, and the seconds it took.
    """
    row = {"id": str(index + 1), "n": index, "duration": _asked_length(duration), **facts}
    if error is not None:
        row |= _failed(error, hint or "", charged=charged)
    elif clip is None:
        reason = "This request has not been finished yet."
        row |= {"status": "waiting", "label": "Not ended", "reason": reason}
    else:
        row |= {"status": "done", "label": "Done", "size": size, **_file(clip)}
        if row.pop("file", None) is not None:  # relative to the page, which is good wherever the folder goes
            row["clip"] = quote(os.fsencode(os.path.relpath(clip.absolute(), folder)))
            if (seen := look(clip)) is not None:
                poster = f"data:image/jpeg;base64,{base64.b64encode(seen.jpeg).decode()}"
                row |= {"poster": poster, "width": seen.width, "height": seen.height, "length": seen.seconds}
    return _known({**row, "charged": charged})


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without its None values, except `charged`, of which None means unknown."""
    return {name: value for name, value in row.items() if value is not None or name == "charged"}


def _failed(reason: str, hint: str, *, charged: bool | None) -> dict[str, Any]:
    note = {True: "paid for", False: "nothing charged", None: "charge unknown"}[charged]
    said = {"status": "failed", "label": "Failed", "note": note, "reason": reason}
    return {**said, "hint": hint or None, "charged": charged}


def _file(clip: Path) -> dict[str, Any]:
    """Return what the page shows of a clip's file."""
    if clip.is_file():
        return {"name": clip.name, "file": clip}
    reason = "The clip is no longer where it was saved."
    return {"label": "File missing", "reason": reason, "name": clip.name}


def _asked_length(duration: object) -> str | None:
    """Return the length that was asked for, for people."""
    text = "" if duration is None else str(duration)
    number = text.removesuffix("s")
    return f"{number} s" if number.isdigit() else text or None


def typical_seconds(ration: Ration) -> dict[str, float]:
    """Return the usual seconds of a job by model, as the processes of the ration have learned."""
    found: dict[str, float] = {}
    for name, model in ration.models.items():
        if model.completions:
            found[name] = median(seconds for _, _, seconds in model.completions)
        elif model.p80 is not None:
            found[name] = model.p80 * _TYPICAL
    return found


def gauges(name: str, ration: Ration) -> dict[str, Any]:
    """Return what the page shows of a ration, at this moment."""
    now = time.time() if ration.latest > _EPOCH else time.monotonic()
    limits = ration.limits
    alive = {process: one for process, one in ration.processes.items() if now - one.at < DEAD}
    holders = [
        {
            "process": process[:8],
            "flying": sum(flight.process == process for flight in ration.flights.values()),
            "wanting": sum(map(len, one.bids.values())),
        }
        for process, one in sorted(alive.items())
    ]
    return {
        "name": f"account {name[:8]}",
        "polls": [ration.polls.used(now - PERIOD), ration.polls.limit * limits.share],
        "queue": [ration.queue.used(now - PERIOD), ration.queue.limit * limits.share],
        "failures": [sum(now - FAILURES_PERIOD < at for at in ration.failures.failed), limits.failures],
        "blocked": max(ration.blocked_until - now, 0.0),
        "holders": holders,
    }


def spend_since(now: float) -> float:
    """Return since when spend is shown: the month, or two weeks if those began before."""
    day, month = spans(now)
    return min(month, day - (_DAYS - 1) * _DAY)


def spending(paid: Sequence[Paid], budget: Budget, now: float) -> dict[str, Any]:
    """Return what the page shows of money: the last days, the month's models, and the budget."""
    day, month = spans(now)
    this_month = [one for one in paid if one.at >= month]
    by_day = grouped(paid, "day")
    dates = [datetime.fromtimestamp(day - back * _DAY, UTC).date().isoformat() for back in range(_DAYS)]
    return {
        "days": [[date, by_day.get(date, 0.0)] for date in reversed(dates)],
        "models": list(grouped(this_month, "model").items())[:_MODELS],
        "today": total(one for one in paid if one.at >= day),
        "month": total(this_month),
        "daily": budget.daily,
        "monthly": budget.monthly,
    }
