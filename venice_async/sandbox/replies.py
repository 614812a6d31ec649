"""Answers as values, among them the error bodies in the shapes that the vendor documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Self

from attrs import evolve, field, frozen

Issue = tuple[tuple[str | int, ...], str]
"""What is wrong with a request: the path of the field, and a message."""

_JSON = {"Content-Type": "application/json; charset=utf-8"}


@frozen(kw_only=True)
class Reply:
    """One answer, before a fault changes it.

    Attributes:
        status: the HTTP status.
        body: the whole body.
        headers: everything but Date, Content-Length and the rate limit's.
    """

    status: int = 200
    body: bytes | memoryview = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(factory=dict[str, str])

    def with_headers(self, headers: Mapping[str, str]) -> Self:
        """Return the same answer with these headers too."""
        return evolve(self, headers={**self.headers, **headers})


class Refused(Exception):  # noqa: N818 - a jump to the answer, not an error of anybody's
    """Raised with the answer that refuses a request."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def json_reply(status: int, content: object) -> Reply:
    """Return an answer with a JSON body."""
    return Reply(status=status, body=json.dumps(content, separators=(",", ":")).encode(), headers=_JSON)


def standard_error(status: int, message: str) -> Reply:
    """`{"error": text}`."""
    return json_reply(status, {"error": message})


def coded_error(status: int, code: str, message: str) -> Reply:
    """`{"code", "error"}`."""
    return json_reply(status, {"code": code, "error": message})


def detailed_error(issues: Iterable[Issue]) -> Reply:
    """Return 400 with `error`, `details` by field and the list of `issues`."""
    details: dict[str, Any] = {"_errors": []}
    listed: list[dict[str, Any]] = []
    for path, message in issues:
        errors = details.setdefault(str(path[0]), {"_errors": []})["_errors"] if path else details["_errors"]
        errors.append(message)
        listed.append({"path": list(path), "message": message})
    return json_reply(400, {"error": "Invalid request parameters", "details": details, "issues": listed})
