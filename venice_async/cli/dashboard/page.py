"""The page as text: its parts put together, frozen into one file or to be served piece by piece."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib import resources
from typing import Any, Final

_POLICY: Final = (
    "default-src 'none'; img-src data:; media-src 'self' file:; style-src '{style}'; script-src '{script}';"
    " base-uri 'none'; form-action 'none'"
)


def frozen_page(data: Mapping[str, Any]) -> str:
    """Return the page as one file that shows `data`, and needs nothing but the clips it refers to."""
    style, script = asset("page.css"), asset("page.js")
    policy = _POLICY.format(style=_hash(style), script=_hash(script))
    # No "<" in the JSON: whatever a prompt says, it cannot end the element that it lies in.
    text = json.dumps(data).replace("<", "\\u003c")
    return _filled(
        title=data["title"],
        head=f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        style=f"<style>{style}</style>",
        script=f'<script type="application/json" id="data">{text}</script>\n<script>{script}</script>',
    )


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
