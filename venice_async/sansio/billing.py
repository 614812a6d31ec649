"""Settles paid requests whose answers were lost, by the account's ledger.

Venice has no way to ask for a job by its request. Its ledger lists every charge with its time, its product
(the model's id and a unit) and the id of the job; a refund is a row of the same id. So a charge belongs to a
request if it is of the same model and price, came within minutes of it, and its job is not known already.
What fits several requests, or several charges, is left to a person. So is a request without a
fitting charge if an unexplained one is near: prices change, and a large request takes long to arrive.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Final, Literal

from attrs import field, frozen

BEFORE: Final = 30.0  # seconds by which the server's clock may be behind
AFTER: Final = 300.0  # seconds in which a request that was sent is charged, and the ledger shows it
REFUNDED_WITHIN: Final = 3600.0  # seconds in which a job that fails has failed
_CENT: Final = 0.01
_DOLLARS: Final = frozenset({"USD", "BUNDLED_CREDITS"})

Finding = Literal["charged", "refunded", "not charged", "unsettled"]
"""The outcome of a paid request, by the ledger."""


@frozen(kw_only=True)
class LedgerRow:
    """One row of the account's ledger.

    Attributes:
        at: when, in seconds since the Unix epoch.
        product: what was paid for: a model's id, and a unit behind it.
        amount: negative for a charge, positive for a refund.
        currency: such as `"USD"` or `"DIEM"`.
        job: the job's id, where the row is about one.
    """

    at: float
    product: str
    amount: float
    currency: str
    job: str | None = None


@frozen(kw_only=True)
class PaidRequest:
    """A paid request whose outcome is unknown.

    Attributes:
        model: the model's id.
        at: when it was sent, in seconds since the Unix epoch.
        usd: what it was to cost, in USD, where that was asked.
        content: the same for requests that ask for the same.
    """

    model: str
    at: float
    usd: float | None
    content: str


@frozen(kw_only=True)
class LedgerAnswer:
    """What the ledger says of one request.

    Attributes:
        finding: the outcome.
        row: the charge, where there is one.
        reason: why it is unsettled.
    """

    finding: Finding
    row: LedgerRow | None = field(default=None)
    reason: str = ""


def spans(requests: Sequence[PaidRequest], now: float) -> list[tuple[float, float]]:
    """Return the spans of time in which the ledger may list the requests, in order and without overlap."""
    found: list[tuple[float, float]] = []
    for at in sorted(request.at for request in requests):
        start, end = at - BEFORE, max(at, min(now, at + REFUNDED_WITHIN)) + BEFORE
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found


def settle(
    requests: Sequence[PaidRequest], rows: Sequence[LedgerRow], known: Collection[str], now: float
) -> list[LedgerAnswer]:
    """Return what the ledger says of each request; `known` are the ids of jobs that need no explanation."""
    charges = [row for row in rows if row.amount < 0 and row.job not in known]
    refunds = {row.job for row in rows if row.amount > 0 and row.job is not None}
    fitting = [
        [row for row in charges if _is_of(row, request, AFTER) and _costs(row, request)]
        for request in requests
    ]
    unexplained = [row for row in charges if not any(row in mine for mine in fitting)]
    answers: list[LedgerAnswer] = []
    for index, (request, mine) in enumerate(zip(requests, fitting, strict=True)):
        # A charge that does not fit may still be the request's, at another price or later.
        near = [
            row
            for row in unexplained
            if _is_of(row, request, REFUNDED_WITHIN if _costs(row, request) else AFTER)
        ]
        rivals = [other for other, theirs in enumerate(fitting) if any(row in mine for row in theirs)]
        alike = all(fitting[one] == mine and requests[one].content == request.content for one in rivals)
        if not mine and now < request.at + AFTER:
            reason = f"a charge may still come: ask again in {AFTER:.0f} s"
            answer = LedgerAnswer(finding="unsettled", reason=reason)
        elif not mine and near:
            charge = f"a charge of {-near[0].amount:g} {near[0].currency} for the same model"
            reason = f"{charge}, {near[0].at - request.at:.0f} s after it, may be its own"
            answer = LedgerAnswer(finding="unsettled", reason=reason)
        elif not mine:
            answer = LedgerAnswer(finding="not charged")
        elif len(mine) != len(rivals) or not alike:
            reason = f"{len(mine)} charges fit {len(rivals)} such requests, and nothing tells which is which"
            answer = LedgerAnswer(finding="unsettled", reason=reason)
        else:
            row = mine[rivals.index(index)]  # of requests that ask for the same, any charge will do
            refunded = row.job is not None and row.job in refunds
            answer = LedgerAnswer(finding="refunded" if refunded else "charged", row=row)
        answers.append(answer)
    return answers


def _is_of(row: LedgerRow, request: PaidRequest, within: float) -> bool:
    """Tell whether a charge is for the model of a request, and came at most so many seconds after it."""
    is_for_model = row.product == request.model or row.product.startswith(f"{request.model}-")
    return is_for_model and request.at - BEFORE <= row.at <= request.at + within


def _costs(row: LedgerRow, request: PaidRequest) -> bool:
    told = request.usd if row.currency in _DOLLARS else None
    return told is None or math.isclose(-row.amount, told, abs_tol=_CENT)
