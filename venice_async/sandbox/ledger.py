"""The account's ledger as `/billing/usage-history` tells it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from .jobs import Job
from .records import RecordedRequest
from .replies import Refused, Reply, json_reply, standard_error

_FILTERS = frozenset({"startTimestamp", "endTimestamp", "pageSize", "currency"})
_SIZES = frozenset(map(str, range(10, 1001)))


def ledger_page(jobs: Iterable[Job], request: RecordedRequest, epoch: float) -> Reply:
    """Return a page of the ledger: a charge for each job, and refunds, in order.

    `epoch` is the Unix time at zero of the loop's clock. A query is either filters or a cursor alone, as at
    the vendor's: anything else is refused.
    """
    wanted, offset = dict(request.query), 0
    if "cursor" in wanted:
        if len(wanted) > 1:
            raise Refused(standard_error(400, "cursor excludes all other parameters"))
        cursor = wanted["cursor"]
        try:
            filters, start_at = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            wanted, offset = dict(filters), int(start_at)
        except (ValueError, TypeError):
            message = "Invalid or expired cursor; restart from the first page"
            raise Refused(standard_error(400, message)) from None
    size = wanted.get("pageSize", "1000")
    if not wanted.keys() <= _FILTERS or size not in _SIZES:
        raise Refused(standard_error(400, "Invalid query parameters"))
    try:
        start = datetime.fromisoformat(wanted.get("startTimestamp", "0001-01-01T00:00:00Z")).timestamp()
        end = datetime.fromisoformat(wanted.get("endTimestamp", "9999-12-31T00:00:00Z")).timestamp()
    except ValueError:
        raise Refused(standard_error(400, "Invalid timestamp")) from None
    moved = [(job.queued_at, -job.usd, job) for job in jobs]
    moved += [(job.ready_at, job.usd, job) for _, _, job in moved if job.refunded(request.at)]
    rows: list[dict[str, Any]] = []
    for moment, usd, job in sorted(moved, key=lambda entry: entry[0]):
        if start <= moment + epoch < end and wanted.get("currency") in {None, "USD"}:
            at = datetime.fromtimestamp(moment + epoch, UTC)
            rows.append(
                {
                    "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                    "sku": f"{job.model.id}-video-second",
                    "units": 1,
                    "pricePerUnitUsd": abs(usd),
                    "amount": usd,
                    "currency": "USD",
                    "notes": "API Inference" if usd < 0 else "Refund",
                    "inferenceDetails": {"requestId": job.queue_id, "inferenceExecutionTime": None},
                }
            )
    until = offset + int(size)
    more = base64.urlsafe_b64encode(json.dumps([wanted, until]).encode()).decode().rstrip("=")
    return json_reply(200, {"data": rows[offset:until], "nextCursor": more if until < len(rows) else None})
