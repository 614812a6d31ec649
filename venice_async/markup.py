"""Clips and tables as HTML, for notebooks.

Colours are those of the page around, so that what is shown can be read in a light and in a dark notebook.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import quote

from .formatting import as_bytes

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


_TABLE: Final = (
    '<table style="border-collapse:collapse;color:inherit;background:none;font-variant-numeric:tabular-nums">'
    "<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
)
_CELL: Final = (
    '<{tag} style="text-align:left;vertical-align:top;padding:.2em 1em .2em 0;color:inherit;background:none;'
    'border:0;border-bottom:1px solid #8888;white-space:{wrap}">{text}</{tag}>'
)


def table_html(columns: Mapping[str, Sequence[str]]) -> str:
    """Return a table of texts by the titles of their columns; a column without any text is left out."""
    shown = {title: cells for title, cells in columns.items() if any(cells)}
    head = "".join(_CELL.format(tag="th", text=escape(title), wrap="nowrap") for title in shown)
    body = ""
    for first, *rest in zip(*shown.values(), strict=True):  # the first is a name, to be copied
        cells = _CELL.format(tag="td", text=escape(first), wrap="nowrap")
        cells += "".join(_CELL.format(tag="td", text=escape(cell), wrap="normal") for cell in rest)
        body += f"<tr>{cells}</tr>"
    return _TABLE.format(head=head, body=body)
