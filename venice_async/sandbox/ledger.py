"""The account's ledger as `/billing/usage-history` tells it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import frozen

from .replies import Refused, Reply, json_reply, standard_error

_FILTERS = frozenset({"startTimestamp", "endTimestamp", "pageSize", "currency"})
_SIZES = range(10, 1001)


@frozen(kw_only=True)
class Entry:
    """Money taken, or given back; `at` in seconds of the event loop's clock."""

    at: float
    model: str
    usd: float
    job: str


def ledger_page(entries: Sequence[Entry], query: Mapping[str, str], epoch: float) -> Reply:
    """Return a page of the ledger; `epoch` is the Unix time at zero of the loop's clock.

    A query is either filters or a cursor alone, as at the vendor's: anything else is refused.
    """
    wanted, offset = dict(query), 0
    if "cursor" in wanted:
        if len(wanted) > 1:
            raise Refused(standard_error(400, "cursor excludes all other parameters"))
        cursor = wanted["cursor"]
        try:
            wanted, offset = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        except (ValueError, TypeError):
            message = "Invalid or expired cursor; restart from the first page"
            raise Refused(standard_error(400, message)) from None
    if not wanted.keys() <= _FILTERS or int(wanted.get("pageSize", "1000")) not in _SIZES:
        raise Refused(standard_error(400, "Invalid query parameters"))
    start, end = (_moment(wanted.get(name)) for name in ("startTimestamp", "endTimestamp"))
    rows = [
        _row(entry, entry.at + epoch)
        for entry in entries
        if (start is None or entry.at + epoch >= start) and (end is None or entry.at + epoch < end)
    ]
    rows = [row for row in rows if wanted.get("currency") in {None, row["currency"]}]
    until = offset + int(wanted.get("pageSize", "1000"))
    more = base64.urlsafe_b64encode(json.dumps([wanted, until]).encode()).decode().rstrip("=")
    return json_reply(200, {"data": rows[offset:until], "nextCursor": more if until < len(rows) else None})


def _moment(text: str | None) -> float | None:
    try:
        return None if text is None else datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise Refused(standard_error(400, "Invalid timestamp")) from None


def _row(entry: Entry, at: float) -> dict[str, Any]:
    return {
        "timestamp": datetime.fromtimestamp(at, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z"),
        "sku": f"{entry.model}-video-second",
        "units": 1,
        "pricePerUnitUsd": abs(entry.usd),
        "amount": entry.usd,
        "currency": "USD",
        "notes": "API Inference" if entry.usd < 0 else "Refund",
        "inferenceDetails": {"requestId": entry.job, "inferenceExecutionTime": None},
    }
