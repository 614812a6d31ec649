"""A page to look at: one self-contained `report.html` beside the clips of a batch."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from attrs import frozen

from .page import frozen_page
from .poster import look


@frozen(kw_only=True)
class ReportItem:
    """One request of a batch and how it ended.

    Attributes:
        index: its place in the batch, from 0.
        key: what it is called; None where it has no name.
        tags: what it is marked with.
        model: the model's id.
        prompt: what was asked for; None where the model takes no prompt.
        clip: the file; None when there is none.
        duration: the length asked for, such as `"5s"`; shown when the file does not tell its own.
        seed: the seed asked for.
        seconds: how long it took, from queueing to the file.
        usd: the price, in USD.
        size: bytes of the file.
        error: why there is no clip, in words for people and without secrets; None when nothing failed.
        hint: what to do about the error.
        charged: whether money was spent; None when that is not known.
    """

    index: int
    key: str | None = None
    tags: Mapping[str, str] = {}
    model: str
    prompt: str | None = None
    clip: Path | None = None
    duration: str | None = None
    seed: object = None
    seconds: float | None = None
    usd: float | None = None
    size: int | None = None
    error: str | None = None
    hint: str | None = None
    charged: bool | None = None

    def row(self, folder: Path) -> dict[str, Any]:
        """Return what the page in `folder` shows of it; what is not known is left out."""
        row: dict[str, Any] = {
            "id": str(self.index + 1),
            "n": self.index,
            "key": self.key,
            "tags": dict(self.tags) or None,
            "model": self.model,
            "prompt": self.prompt,
            "duration": asked_length(self.duration),
            "seed": self.seed,
            "took": self.seconds,
            "usd": self.usd,
        }
        if self.error is not None:
            note = {True: "paid for", False: "nothing charged", None: "charge unknown"}[self.charged]
            row |= {"status": "failed", "label": "Failed", "note": note}
            row |= {"reason": self.error, "hint": self.hint or None}
        elif self.clip is None:
            reason = "This request has not been finished yet."
            row |= {"status": "waiting", "label": "Not ended", "reason": reason}
        elif not self.clip.exists():
            row |= {"status": "done", **missing(self.clip)}
        else:
            # Relative to the page, which is good wherever the folder goes.
            url = quote(os.fsencode(os.path.relpath(self.clip.absolute(), folder)))
            row |= {"status": "done", "label": "Done", "clip": url, "name": self.clip.name, "size": self.size}
            if (seen := look(self.clip)) is not None:
                row |= {"poster": seen.poster, "width": seen.width, "height": seen.height}
                row["length"] = seen.seconds
        return {name: value for name, value in row.items() if value is not None} | {"charged": self.charged}


def write_report(
    path: Path,
    items: Sequence[ReportItem],
    *,
    title: str,
    started: datetime | None = None,
    finished: datetime | None = None,
) -> None:
    """Write the page to `path`, whole or not at all; a file of that name is replaced.

    It needs nothing but the clips, which it names by their paths relative to its folder, and it runs in any
    browser without a request to anyone. Posters are made with PyAV where that is installed, some 50 ms each:
    call this in a worker thread.

    Raises:
        OSError: the file cannot be written.
    """
    folder = path.absolute().parent
    page = frozen_page(
        {
            "title": title,
            "started": started and started.timestamp(),
            "finished": finished and finished.timestamp(),
            "rows": [item.row(folder) for item in items],
        }
    )
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(page.encode(errors="replace"))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def missing(clip: Path) -> dict[str, Any]:
    """Return what the page shows of a clip that is gone."""
    reason = "The clip is no longer where it was saved."
    return {"label": "File missing", "reason": reason, "name": clip.name}


def asked_length(duration: str | None) -> str | None:
    """Return the length that was asked for, for people."""
    number = (duration or "").removesuffix("s")
    return f"{number} s" if number.isdigit() else duration
