"""Jobs and clips as HTML, for notebooks. Imported only when one is shown."""

from __future__ import annotations

import base64
import os
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import quote

from .formatting import as_bytes, as_seconds
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
"""Bytes: a clip up to this size is embedded in the notebook, as base64."""

_PLAYER: Final = (
    '<video controls playsinline preload="metadata" style="display:block;max-width:100%;max-height:26rem;'
    'border-radius:6px;background:#000" src="{source}"></video>'
)
_NOTE: Final = '<div style="font-size:.85em;opacity:.75;margin-top:.3em;overflow-wrap:anywhere">{text}</div>'


def video_html(path: Path | None, size: int, *, inline_limit: int = INLINE_LIMIT) -> str:
    """Return an HTML player for the clip at `path`, of `size` bytes.

    A clip of at most `inline_limit` bytes is embedded, so that it plays after an export. A larger clip is
    linked by its path relative to the working folder. A clip that was streamed (`path` is None) or cannot be
    read is described in words.
    """
    if path is None:
        return _NOTE.format(text=f"A streamed clip of {as_bytes(size)}")
    try:
        if size <= inline_limit:
            source = f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"
        else:
            source = quote(os.fsencode(os.path.relpath(path.absolute(), Path.cwd())))
    except OSError:
        return _NOTE.format(text=f"{escape(str(path))} cannot be read")
    return _PLAYER.format(source=escape(source)) + _NOTE.format(text=f"{escape(str(path))}, {as_bytes(size)}")


_BOX: Final = '<div style="max-width:36rem;line-height:1.5;overflow-wrap:anywhere">{content}</div>'
_HEAD: Final = (
    '<div style="display:flex;justify-content:space-between;gap:1em"><b>{what}</b>'
    '<span style="opacity:.75;font-variant-numeric:tabular-nums">{detail}</span></div>'
)
_BAR: Final = '<progress max="1"{value} style="width:100%"></progress>'
_SMALL: Final = '<div style="font-size:.85em;opacity:.75">{text}</div>'


def state_html(state: State) -> str:
    """Return the state of a job as HTML: what it is doing, a progress bar and its id; at the end its clip.

    It contains no secret: only the model and id of a ticket, and the message of an error.
    """
    ticket = ticket_of(state)
    match state:
        case Succeeded(video=video):
            return video_html(video.path, video.size)
        case Failed(error=error):  # the message names the job
            head = _HEAD.format(what=f"Failed: {type(error).__name__}", detail="")
            return _BOX.format(content=f"{head}<div>{escape(str(error))}</div>")
        case Stopped():
            detail = "its ticket is still valid" if ticket else "nothing was queued"
            content = _HEAD.format(what="No longer watched", detail=detail)
        case _:
            what, detail, part = _progress(state)
            value = "" if part is None else f' value="{part:.3f}"'
            content = _HEAD.format(what=what, detail=detail) + _BAR.format(value=value)
    if ticket is not None:
        content += _SMALL.format(text=f"{escape(ticket.model)}, job {escape(ticket.queue_id)}")
    return _BOX.format(content=content)


def _progress(
    state: Quoting | Queueing | AwaitingConsent | Waiting | Downloading | Saved,
) -> tuple[str, str, float | None]:
    """Return what the job is doing, how far it is, and the fraction that is done, if that is known."""
    match state:
        case Quoting():
            return "Asking for the price", "", None
        case Queueing():
            return "Queueing", "", None
        case AwaitingConsent():
            return "Waiting for consent", "nothing is queued yet", None
        case Waiting():
            times = (
                "" if state.elapsed is None else f"{as_seconds(state.elapsed)} so far",
                "" if state.eta is None else f"about {as_seconds(state.eta)} left",
            )
            return "Generating", ", ".join(filter(None, times)), state.progress
        case Downloading():
            of = f" of {as_bytes(state.total)}" if state.total else ""
            return "Downloading", f"{as_bytes(state.received)}{of}", state.progress
        case Saved():
            return "Saved", as_bytes(state.video.size), 1.0
