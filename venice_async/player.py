"""A clip as a player in a notebook."""

from __future__ import annotations

import base64
import os
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import quote

from .figures import as_bytes

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
