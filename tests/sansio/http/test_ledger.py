"""Reading the account's ledger."""

from __future__ import annotations

import json

import pytest

from venice_async import ProtocolError
from venice_async.sansio.billing import LedgerRow
from venice_async.sansio.http.replies import ledger_row
from venice_async.sansio.http.wire import read_ledger

ROW = {
    "timestamp": "2026-11-25T12:00:00.000Z",
    "sku": "video",
    "amount": -0.25,
    "currency": "USD",
    "inferenceDetails": {"requestId": "job-1"},
}
KNOWN = LedgerRow(at=1_795_608_000.0, product="video", amount=-0.25, currency="USD", job="job-1")


def test_the_first_page_is_asked_for_by_time_and_the_others_by_cursor() -> None:
    first = read_ledger(start=0.0, end=1.5)
    start, end = "startTimestamp=1970-01-01T00%3A00%3A00.000Z", "endTimestamp=1970-01-01T00%3A00%3A01.500Z"
    assert f"/billing/usage-history?{start}&{end}&pageSize=1000" == first.request.url
    assert "/billing/usage-history?cursor=c%2F1" == read_ledger(start=0.0, end=1.0, cursor="c/1").request.url


def test_a_page_is_its_rows_and_where_the_next_one_begins() -> None:
    page = read_ledger(start=0.0, end=1.0).read(
        200, {}, json.dumps({"data": [ROW], "nextCursor": "c"}).encode()
    )
    assert ((KNOWN,), "c") == (page.rows, page.cursor)


def test_a_row_that_makes_no_sense_may_be_the_one_that_is_sought() -> None:
    for row in ({**ROW, "amount": "?"}, {**ROW, "timestamp": "noon"}, None):
        assert ledger_row(row) is None
        with pytest.raises(ProtocolError, match="ledger"):
            read_ledger(start=0.0, end=1.0).read(200, {}, json.dumps({"data": [row]}).encode())
