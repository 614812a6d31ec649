"""A job as live progress in a notebook."""

from __future__ import annotations

from html import escape
from typing import Final

from .figures import as_bytes, as_seconds
from .player import video_html
from .results import Ticket
from .sansio.states import (
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
