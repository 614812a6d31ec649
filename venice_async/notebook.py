"""Jobs and clips as HTML, for notebooks. Loaded only where one is shown."""

from __future__ import annotations

import base64
import os
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import quote

from .formatting import as_bytes, as_seconds
from .results import Ticket
from .sansio.job.states import (
    AwaitingConsent,
    Downloading,
    Failed,
    Queueing,
    Quoting,
    Saved,
    State,
    Stopped,
    Succeeded,
    Waiting,
    ticket_of,
)

INLINE_LIMIT: Final = 20 * 1024 * 1024
"""Bytes of a clip that is kept within the notebook, whose file grows by a third more."""

_PLAYER: Final = (
    '<video controls playsinline preload="metadata" style="display:block;max-width:100%;max-height:26rem;'
    'border-radius:6px;background:#000" src="{source}"></video>'
)
_NOTE: Final = '<div style="font-size:.85em;opacity:.75;margin-top:.3em;overflow-wrap:anywhere">{text}</div>'


def video_html(path: Path | None, size: int, *, inline_limit: int = INLINE_LIMIT) -> str:
    """Return a player as HTML for the clip at `path`, of `size` bytes.

    A clip of at most `inline_limit` bytes is read and put into the page, so that it plays wherever the
    notebook goes; a larger one is named by its path relative to the working folder, which a notebook server
    serves when it lies in its tree. A clip that was streamed (`None`), or is gone, is said to be so.
    """
    if path is None:
        return _NOTE.format(text=f"A clip of {as_bytes(size)} that went to a stream")
    try:
        source = _inlined(path) if size <= inline_limit else _address(path)
    except OSError:
        return _NOTE.format(text=f"{escape(str(path))} cannot be read any more")
    return _PLAYER.format(source=escape(source)) + _NOTE.format(text=f"{escape(str(path))}, {as_bytes(size)}")


def _inlined(path: Path) -> str:
    return f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _address(path: Path) -> str:
    return quote(os.fsencode(os.path.relpath(path.absolute(), Path.cwd())))


_BOX: Final = '<div style="max-width:36rem;line-height:1.5;overflow-wrap:anywhere">{content}</div>'
_HEAD: Final = (
    '<div style="display:flex;justify-content:space-between;gap:1em"><b>{what}</b>'
    '<span style="opacity:.75;font-variant-numeric:tabular-nums">{detail}</span></div>'
)
_BAR: Final = '<progress max="1"{value} style="width:100%"></progress>'
_SMALL: Final = '<div style="font-size:.85em;opacity:.75">{text}</div>'


def state_html(state: State) -> str:
    """Return where a job stands as HTML: what is going on, a bar, and the job; when it succeeded, its clip.

    Nothing secret is in it: of a ticket the model and the id, of an error what it says.
    """
    if isinstance(state, Succeeded):
        return video_html(state.video.path, state.video.size)
    if isinstance(state, Failed):  # what the error says names the job
        head = _HEAD.format(what=f"Failed: {type(state.error).__name__}", detail="")
        return _BOX.format(content=f"{head}<div>{escape(str(state.error))}</div>")
    if isinstance(state, Stopped):
        detail = "its ticket stays good" if state.ticket else "nothing was queued"
        content = _HEAD.format(what="No longer watched", detail=detail)
    else:
        what, detail, part = _progress(state)
        value = "" if part is None else f' value="{part:.3f}"'
        content = _HEAD.format(what=what, detail=detail) + _BAR.format(value=value)
    return _BOX.format(content=content + _job(ticket_of(state)))


def _progress(
    state: Quoting | Queueing | AwaitingConsent | Waiting | Downloading | Saved,
) -> tuple[str, str, float | None]:
    """Return what is going on, how far, and the part that is done, if that is known."""
    match state:
        case Quoting():
            return "Asking for the price", "", None
        case Queueing():
            return "Queueing", "", None
        case AwaitingConsent():
            return "Waiting for consent", "nothing is queued yet", None
        case Waiting():
            return "Generating", _times(state), state.progress
        case Downloading():
            of = f" of {as_bytes(state.total)}" if state.total else ""
            return "Downloading", f"{as_bytes(state.received)}{of}", state.progress
        case Saved():
            return "Saved", as_bytes(state.video.size), 1.0


def _times(state: Waiting) -> str:
    parts = (
        f"{as_seconds(state.elapsed)} so far" if state.elapsed is not None else "",
        f"about {as_seconds(state.eta)} left" if state.eta is not None else "",
    )
    return ", ".join(filter(None, parts))


def _job(ticket: Ticket | None) -> str:
    return _SMALL.format(text=f"{escape(ticket.model)}, job {escape(ticket.queue_id)}") if ticket else ""
