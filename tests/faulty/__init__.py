"""A raw socket server that can lie, and a small Venice built on it that counts what it charges."""

from .clip import SMALLEST, make_mp4
from .replies import (
    Reply,
    abuse_block,
    gzipped,
    html_reply,
    json_reply,
    no_capacity,
    partial_reply,
    ranged_reply,
    rate_limited,
    redirect,
    unsatisfiable,
    video_reply,
)
from .server import FaultyServer, Request
from .venice import FaultyVenice, Job

__all__ = [
    "SMALLEST",
    "FaultyServer",
    "FaultyVenice",
    "Job",
    "Reply",
    "Request",
    "abuse_block",
    "gzipped",
    "html_reply",
    "json_reply",
    "make_mp4",
    "no_capacity",
    "partial_reply",
    "ranged_reply",
    "rate_limited",
    "redirect",
    "unsatisfiable",
    "video_reply",
]
