"""What the sandbox records for assertions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen


@frozen(kw_only=True)
class Charge:
    """Money taken for one job.

    Attributes:
        queue_id: the job.
        model: its model's id.
        usd: the price in USD.
        refunded: whether it was given back.
        at: when, in seconds of the event loop's clock.
        request: the body that was paid for.
    """

    queue_id: str
    model: str
    usd: float
    refunded: bool
    at: float
    request: Mapping[str, Any] = field(factory=dict[str, Any], repr=False)


@frozen(kw_only=True)
class RecordedRequest:
    """One request as it arrived.

    Attributes:
        method: the HTTP method.
        path: below the base URL, such as `/video/queue`, without a query.
        point: the call by its name, such as `queue`, `link`, `revoke`, or `video` for a poll answered
            by the clip; empty for a path that does not exist.
        json: the body, parsed; None when there was none or it was not JSON.
        body: the body as it came.
        headers: by lower-case name; of `authorization` only that it was there.
        query: what followed the path; a link's signature is left out.
        target: the path and the query as they were written, a link's signature included.
        connection: the client's port, which tells its connections apart.
        status: what was answered; None before, and when the connection was closed without an answer.
        at: when, in seconds of the event loop's clock.
        origin: `api`, or `link` for the other origin.
    """

    method: str
    path: str
    point: str
    json: Any
    headers: Mapping[str, str]
    query: Mapping[str, str] = field(factory=dict[str, str])
    body: bytes = field(default=b"", repr=False)
    target: str = field(default="", repr=False)
    connection: int = 0
    status: int | None = None
    at: float
    origin: Literal["api", "link"] = "api"
