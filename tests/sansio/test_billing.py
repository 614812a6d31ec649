"""Which charge of the ledger belongs to which paid request."""

from __future__ import annotations

from tests.cases import for_each
from venice_async.sansio.billing import AFTER, REFUNDED_WITHIN, LedgerRow, PaidRequest, settle, spans

NOW = 10_000.0


def _paid(
    at: float = 5_000.0, *, model: str = "m", usd: float | None = 0.25, content: str = "a"
) -> PaidRequest:
    return PaidRequest(model=model, at=at, usd=usd, content=content)


def _row(
    at: float = 5_001.0, amount: float = -0.25, *, product: str = "m-video", job: str | None = "q"
) -> LedgerRow:
    return LedgerRow(at=at, product=product, amount=amount, currency="USD", job=job)


@for_each(
    "requests, rows, findings",
    [
        ([_paid()], [_row()], ["charged"]),
        ([_paid()], [_row(), _row(5_100.0, 0.25)], ["refunded"]),
        ([_paid()], [], ["not charged"]),
        ([_paid(NOW - 1)], [], ["unsettled"]),
        ([_paid()], [_row(job="known")], ["not charged"]),
        ([_paid()], [_row(product="m2-video")], ["not charged"]),
        ([_paid()], [_row(amount=-0.5)], ["unsettled"]),
        ([_paid()], [_row(5_000 + AFTER + 1, amount=-0.5)], ["not charged"]),
        ([_paid(usd=None)], [_row(amount=-0.5)], ["charged"]),
        ([_paid()], [_row(5_000 + AFTER + 1)], ["unsettled"]),
        ([_paid()], [_row(5_000 + REFUNDED_WITHIN + 1)], ["not charged"]),
        ([_paid(), _paid(4_000.0)], [_row()], ["charged", "not charged"]),
        ([_paid()], [_row(), _row(job="other")], ["unsettled"]),
        ([_paid(), _paid(5_010)], [_row(), _row(5_011, job="other")], ["charged", "charged"]),
        ([_paid(), _paid(5_010, content="b")], [_row(), _row(5_011, job="o")], ["unsettled", "unsettled"]),
        ([_paid(), _paid(usd=0.5, content="b")], [_row(), _row(amount=-0.5)], ["charged", "charged"]),
        ([_paid(), _paid(5_010)], [_row()], ["unsettled", "unsettled"]),
    ],
)
def test_a_charge_is_taken_for_a_request_only_if_nothing_else_can_be_meant(
    requests: list[PaidRequest], rows: list[LedgerRow], findings: list[str]
) -> None:
    found = settle(requests, rows, {"known"}, NOW)
    assert findings == [one.finding for one in found]
    assert all(one.reason for one in found if one.finding == "unsettled")
    rows_used = [one.row for one in found if one.row is not None]
    assert len(rows_used) == len(set(rows_used))


def test_the_ledger_is_asked_for_the_minutes_of_the_requests_and_their_refunds() -> None:
    assert [(70.0, 3_830.0), (8_970.0, 10_030.0)] == spans([_paid(200.0), _paid(100.0), _paid(9_000.0)], NOW)
