"""A page to look at: one self-contained `report.html` beside the clips of a batch."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

from attrs import frozen
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ...formatting import as_bytes, as_date, as_seconds, as_usd

if TYPE_CHECKING:
    from .poster import Look  # it needs PyAV, which is in an extra

_LONG: Final = 180  # characters of a prompt that is folded: about four lines of a card
_LINES: Final = 4


@frozen(kw_only=True)
class ReportItem:
    """One request of a batch and how it ended.

    Attributes:
        index: its place in the batch, from 0.
        key: what it is called; None where it has no name.
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
    key: str | None = None
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

    @property
    def folded(self) -> bool:
        """Whether the prompt is too long to be shown whole at once."""
        return len(self.prompt or "") > _LONG or (self.prompt or "").count("\n") >= _LINES

    @property
    def asked_length(self) -> str | None:
        """The length asked for, for people."""
        number = (self.duration or "").removesuffix("s")
        return f"{number} s" if number.isdigit() else self.duration


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
    page = _rendered(items, path.absolute().parent, title, started, finished)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(page.encode(errors="replace"))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _rendered(
    items: Sequence[ReportItem], folder: Path, title: str, started: datetime | None, finished: datetime | None
) -> str:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(usd=as_usd, seconds=as_seconds, bytes=as_bytes, date=as_date)

    def url(clip: Path) -> str:
        """Return the clip's address relative to the page, which is good wherever the folder goes."""
        return quote(os.fsencode(os.path.relpath(clip.absolute(), folder)))

    style, script = _asset("report.css"), _asset("report.js")
    paid = [item for item in items if item.charged]
    return environment.from_string(_asset("report.html")).render(
        title=title,
        items=items,
        started=started,
        finished=finished,
        counts={kind: sum(item.status == kind for item in items) for kind in ("done", "failed", "waiting")},
        paid=paid,
        prices=[item.usd for item in paid if item.usd is not None],
        perhaps=sum(item.usd or 0.0 for item in items if item.charged is None),
        look=_look,
        url=url,
        style=Markup(style),  # noqa: S704 - a file of ours
        script=Markup(script),  # noqa: S704 - a file of ours
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _asset(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _look(clip: Path) -> Look | None:
    """Return what a clip looks like; None where it, or PyAV, cannot tell."""
    try:
        from .poster import look  # noqa: PLC0415 - PyAV is in an extra, and a report does without
    except ImportError:
        return None
    return look(clip)
