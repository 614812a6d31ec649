"""Jobs, and lists of jobs, clips and models, as HTML for notebooks."""

from __future__ import annotations

from html import escape
from typing import Any, Final, TypeVar

from .formatting import as_bytes, as_seconds, as_usd
from .markup import table_html, video_html
from .models import VideoModel
from .requests import VideoRequest
from .results import Outcome
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

T = TypeVar("T")

_PROMPT: Final = 80  # characters of a prompt in a table
_BOX: Final = '<div style="max-width:36rem;line-height:1.5;overflow-wrap:anywhere">{content}</div>'
_HEAD: Final = (
    '<div style="display:flex;justify-content:space-between;gap:1em"><b>{what}</b>'
    '<span style="opacity:.75;font-variant-numeric:tabular-nums">{detail}</span></div>'
)
_BAR: Final = '<progress max="1"{value} style="width:100%"></progress>'
_SMALL: Final = '<div style="font-size:.85em;opacity:.75">{text}</div>'


class Listing(list[T]):
    """A list of models, outcomes, jobs or journal entries: a notebook shows it as a table."""

    def _repr_html_(self) -> str:
        if not self:
            return _SMALL.format(text="None")
        rows = [_row(item) for item in self]
        table = table_html({title: [row.get(title, "") for row in rows] for title in rows[0]})
        return table + _SMALL.format(text=f"{len(self)} in all")


def _row(item: Any) -> dict[str, str]:
    """Return the cells of one item by the titles of their columns."""
    match item:
        case VideoModel():
            notes = [word for word in ("offline", "beta") if getattr(item, word)]
            notes += [f"ends {(item.deprecation.removes_at or 'some day')[:10]}"] if item.deprecation else []
            return {
                "model": item.id,
                "kind": item.model_type,
                "takes": ", ".join(sorted(item.accepts)),
                "durations": ", ".join(item.durations),
                "resolutions": ", ".join(item.resolutions),
                "aspect ratios": ", ".join(item.aspect_ratios),
                "sound": "to choose" if item.audio_configurable else "yes" if item.audio else "",
                "": ", ".join(notes),
            }
        case Outcome():
            ended = "" if item.video is None else str(item.video.path or as_bytes(item.video.size))
            return {
                "#": str(item.index),
                "model": item.request.model,
                "prompt": _short(item.request),
                "clip": ended,
                "error": "" if item.error is None else str(item.error),
                "price": "" if item.usd is None else as_usd(item.usd),
            }
        case _:  # a job, or an entry of the journal
            ticket, request, to = ticket_of(item.state), item.request, getattr(item, "to", None)
            usd: float | None = getattr(item, "usd", None)
            return {
                "job": ticket.queue_id if ticket else "not queued",
                "key": getattr(item, "name", item.key) or "",
                "model": request.model if request else ticket.model if ticket else "",
                "prompt": _short(request),
                "state": " ".join(filter(None, _progress(item.state)[:2])),
                "to": "" if to is None else str(to),
                "price": "" if usd is None else as_usd(usd),
            }


def _short(request: VideoRequest | None) -> str:
    prompt = " ".join(((request and request.prompt) or "").split())
    return prompt if len(prompt) <= _PROMPT else f"{prompt[:_PROMPT]}…"


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


def _progress(state: State) -> tuple[str, str, float | None]:
    """Return what the job is doing, how far it is or why, and the fraction that is done, if that is known."""
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
        case Succeeded(video=video):
            return "Done", str(video.path or as_bytes(video.size)), 1.0
        case Failed(error=error):
            return "Failed", str(error), None
        case Stopped():
            return "No longer watched", "", None
