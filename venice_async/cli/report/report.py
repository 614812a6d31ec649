"""A page to look at: one self-contained `report.html` beside the clips of a batch."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

from attrs import frozen

from ...formatting import as_bytes, as_date, as_seconds, as_usd

if TYPE_CHECKING:
    from .poster import Look  # it needs PyAV, which is in an extra

_LONG: Final = 180  # characters of a prompt that is folded: about four lines of a card


@frozen(kw_only=True)
class ReportItem:
    """One request of a batch and how it ended.

    Attributes:
        index: its place in the batch, from 0.
        model: the model's id.
        prompt: what was asked for; None where the model takes no prompt.
        clip: the file; None when there is none.
        duration: the length asked for, such as `"5s"`; shown when the file does not tell its own.
        seconds: how long it took, from queueing to the file.
        usd: the price, in USD.
        size: bytes of the file.
        error: why there is no clip, in words for people and without secrets; None when nothing failed.
        charged: whether money was spent; None when that is not known.
    """

    index: int
    model: str
    prompt: str | None = None
    clip: Path | None = None
    duration: str | None = None
    seconds: float | None = None
    usd: float | None = None
    size: int | None = None
    error: str | None = None
    charged: bool | None = None

    @property
    def status(self) -> Literal["done", "failed", "waiting"]:
        """Whether it has a clip, has failed, or has not ended."""
        if self.error is not None:
            return "failed"
        return "waiting" if self.clip is None else "done"


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
    page = render(items, folder=path.absolute().parent, title=title, started=started, finished=finished)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(page.encode(errors="replace"))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def render(
    items: Sequence[ReportItem],
    *,
    folder: Path,
    title: str,
    started: datetime | None = None,
    finished: datetime | None = None,
) -> str:
    """Return the page, for a place in `folder`."""
    style, script = _asset("report.css"), _asset("report.js")
    return Template(_asset("report.html")).substitute(
        title=escape(title),
        when=_when(started, finished),
        totals=_totals(items, started, finished),
        filters=_filters(items),
        cards="\n".join(_card(item, folder) for item in items),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
    )


def _asset(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _when(started: datetime | None, finished: datetime | None) -> str:
    days = [as_date(moment) for moment in (started, finished) if moment is not None]
    if started and finished and started.date() == finished.date():
        days[1] = f"{finished:%H:%M}"
    return escape(" to ".join(days))


def _totals(items: Sequence[ReportItem], started: datetime | None, finished: datetime | None) -> str:
    count = {name: sum(item.status == name for item in items) for name in ("done", "failed", "waiting")}
    waiting = f"{count['waiting']} not ended" if count["waiting"] else ""
    jobs = sum(item.seconds or 0.0 for item in items)
    took = (finished - started).total_seconds() if started and finished else None
    tiles = [
        ("Clips", f"{count['done']} <small>of {len(items)}</small>", waiting, "done"),
        ("Spent", *_spent(items), "spent"),
        ("Time", as_seconds(took), f"{as_seconds(jobs)} one by one", "time")
        if took is not None
        else ("Time of jobs", as_seconds(jobs), "", "time"),
        ("Failed", str(count["failed"]), "", "failed" if count["failed"] else "none"),
    ]
    return "\n".join(
        f'<div class="{kind}"><dt>{name}</dt><dd>{value}</dd><dd class="note">{note}</dd></div>'
        for name, value, note, kind in tiles
    )


def _spent(items: Iterable[ReportItem]) -> tuple[str, str]:
    """Return what was surely spent, and what is not known of it."""
    paid = [item for item in items if item.charged]
    perhaps = [item.usd for item in items if item.charged is None and item.usd is not None]
    known = [item.usd for item in paid if item.usd is not None]
    notes = (
        f"and up to {as_usd(sum(perhaps))} unknown" if perhaps else "",
        f"price known for {len(known)} of {len(paid)}" if len(known) < len(paid) else "",
    )
    return as_usd(sum(known)) if known or not paid else "not known", ", ".join(filter(None, notes))


def _filters(items: Sequence[ReportItem]) -> str:
    names = {"all": "All", "done": "Clips", "failed": "Failed", "waiting": "Not ended"}
    counts = {name: sum(name in {"all", item.status} for item in items) for name in names}
    return "\n".join(
        f'<button type="button" data-show="{name}" aria-pressed="{str(name == "all").lower()}">'
        f"{label} <span>{counts[name]}</span></button>"
        for name, label in names.items()
        if name == "all" or 0 < counts[name] < len(items)
    )


def _card(item: ReportItem, folder: Path) -> str:
    seen = _look(item.clip) if item.clip is not None else None
    return (
        f'<article class="card {item.status}" data-status="{item.status}" id="clip-{item.index + 1}">'
        f"{_stage(item, seen, folder)}"
        f'<div class="text"><p class="head"><b>{item.index + 1}</b> <code>{escape(item.model)}</code></p>'
        f"{_prompt(item.prompt)}{_facts(item, seen)}{_file(item, folder)}</div></article>"
    )


def _stage(item: ReportItem, seen: Look | None, folder: Path) -> str:
    if item.error is not None:
        return _said(f"Failed <span>{_MONEY[item.charged]}</span>", item.error)
    if item.clip is None:
        return _said("Not ended", "This request has not been finished yet.")
    if not item.clip.exists():
        return _said("File missing", "The clip is no longer where it was saved.")
    source, name = escape(_url(item.clip, folder)), f'aria-label="Clip {item.index + 1}"'
    if seen is None:  # a browser shows a frame of its own only where it is sent to one
        return (
            f'<div class="stage"><video controls playsinline preload="metadata" src="{source}#t=0.1" {name}>'
            "</video></div>"
        )
    poster = f"data:image/jpeg;base64,{base64.b64encode(seen.jpeg).decode()}"
    return (
        f'<div class="stage"><video controls playsinline preload="none" width="{seen.width}"'
        f' height="{seen.height}" poster="{poster}" src="{source}" {name}></video></div>'
    )


_MONEY: Final = {True: "paid for", False: "nothing charged", None: "charge unknown"}


def _said(verdict: str, reason: str) -> str:
    return (
        f'<div class="stage said"><p class="verdict">{verdict}</p>'
        f'<p class="reason" dir="auto">{escape(reason)}</p></div>'
    )


def _prompt(prompt: str | None) -> str:
    if prompt is None:
        return ""
    text = escape(prompt)
    if len(prompt) <= _LONG and prompt.count("\n") < _LINES:
        return f'<p class="prompt" dir="auto">{text}</p>'
    return f'<details class="prompt"><summary dir="auto">{text}</summary></details>'


_LINES: Final = 4


def _facts(item: ReportItem, seen: Look | None) -> str:
    length = as_seconds(seen.seconds) if seen and seen.seconds else _asked(item.duration)
    facts = (
        ("Quote" if item.charged is False else "Price", as_usd(item.usd) if item.usd is not None else None),
        ("Length", length),
        ("Size", f"{seen.width}{_TIMES}{seen.height}" if seen else None),
        ("Took", as_seconds(item.seconds) if item.seconds is not None else None),
    )
    shown = (f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts if value)
    return f'<dl class="facts">{"".join(shown)}</dl>'


_TIMES: Final = "\N{MULTIPLICATION SIGN}"


def _asked(duration: str | None) -> str | None:
    number = (duration or "").removesuffix("s")
    return f"{number} s" if number.isdigit() else duration


def _file(item: ReportItem, folder: Path) -> str:
    if item.clip is None or item.error is not None:
        return ""
    size = f" <span>{as_bytes(item.size)}</span>" if item.size is not None else ""
    link = f'<a href="{escape(_url(item.clip, folder))}" download>{escape(item.clip.name)}</a>'
    return f'<p class="file">{link}{size}</p>'


def _url(clip: Path, folder: Path) -> str:
    """Return the clip's address relative to the page, which is good wherever the folder goes."""
    return quote(os.fsencode(os.path.relpath(clip.absolute(), folder)))


def _look(clip: Path) -> Look | None:
    try:
        from .poster import look  # noqa: PLC0415 - PyAV is in an extra, and a report does without
    except ImportError:
        return None
    return look(clip)
