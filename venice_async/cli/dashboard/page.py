"""The page as text, live or frozen into one file beside the clips of a batch, and what a clip looks like."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from ...chaining import frame_at, image_of, opened
from ...errors import UsageError

_WIDTH: Final = 480  # pixels: sharp on a card of the report, some 15 KB each
_MICROSECONDS: Final = 1_000_000
_POLICY: Final = (
    "default-src 'none'; img-src data:; media-src 'self' file:; style-src '{style}'; script-src '{script}';"
    " base-uri 'none'; form-action 'none'"
)


def write_report(path: Path, data: Mapping[str, Any]) -> None:
    """Write the page that shows `data` to `path`, whole or not at all; a file of that name is replaced.

    It needs nothing but the clips that the data name, and it runs in any browser without a request to anyone.

    Raises:
        OSError: the file cannot be written.
    """
    style, script = asset("page.css"), asset("page.js")
    policy = _POLICY.format(style=_hash(style), script=_hash(script))
    # No "<" in the JSON: whatever a prompt says, it cannot end the element that it lies in.
    text = json.dumps(data).replace("<", "\\u003c")
    page = _filled(
        title=data["title"],
        head=f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        style=f"<style>{style}</style>",
        script=f'<script type="application/json" id="data">{text}</script>\n<script>{script}</script>',
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


def live_page(title: str, csrf: str) -> str:
    """Return the page that asks its server for everything; `csrf` proves that an answer came from it."""
    return _filled(
        title=title,
        head=f'<meta name="csrf" content="{escape(csrf)}">',
        style='<link rel="stylesheet" href="page.css">',
        script='<script src="page.js"></script>',
    )


@cache
def asset(name: str) -> str:
    """Return the text of one of the page's files."""
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


def _filled(*, title: str, head: str, style: str, script: str) -> str:
    parts = asset("page.html").split("<!--")
    values = {"title": escape(title), "head": head, "style": style, "script": script}
    filled = [parts[0]]
    for part in parts[1:]:
        name, _, rest = part.partition("-->")
        filled += [values[name], rest]
    return "".join(filled)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@frozen(kw_only=True)
class Look:
    """What a clip looks like.

    Attributes:
        width: pixels.
        height: pixels.
        seconds: how long it plays; None when the file does not say.
        jpeg: one frame of it, at most 480 pixels wide.
    """

    width: int
    height: int
    seconds: float | None
    jpeg: bytes


def look(clip: Path) -> Look | None:
    """Return what a clip looks like; None where it cannot be decoded, or PyAV and Pillow are missing."""
    try:
        with opened(clip.absolute()) as container:
            frame = frame_at(container)
            return Look(
                width=frame.width,
                height=frame.height,
                seconds=container.duration / _MICROSECONDS if container.duration else None,
                jpeg=image_of(frame, "jpeg", _WIDTH).data or b"",
            )
    except UsageError:
        return None
