"""What an answer says about waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import for_each
from venice_async.sansio.http.headers import (
    Allowance,
    FailureAllowance,
    Refusal,
    allowance,
    balances,
    deprecation,
    failure_allowance,
    refusal,
    retry_after,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = 1_800_000_000.0
DATE = "Fri, 15 Jan 2027 08:00:00 GMT"  # NOW, in the server's words
SPENT = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1800000040000"}
FAILURES_LEFT = {"x-ratelimit-remaining": "12", "x-ratelimit-resets": "1800000025000"}
NO_FAILURES_LEFT = FAILURES_LEFT | {"x-ratelimit-remaining": "0"}
BLOCKED = b'{"error": "Too many failed attempts (> 50) resulting in a non-success status code."}'
OVERLOADED = b'{"error": {"code": "MODEL_OVERLOADED", "message": "Try again later"}}'


@for_each(
    "headers, seconds",
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 7.25 "}, 7.25),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:20 GMT"}, 20.0),
        ({"retry-after": "Fri, 15 Jan 2027 09:00:20 GMT", "date": "Fri, 15 Jan 2027 09:00:00 GMT"}, 20.0),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:20 -0000"}, 20.0),
        ({"retry-after": "Sat, 16 Jan 2027 08:00:20 GMT"}, None),
        ({"retry-after": "Fri, 15 Jan 2027 07:59:20 GMT"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "86400"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Fri, 99 Foo 2027 08:00:20 GMT"}, None),
        ({}, None),
        ({"x-ratelimit-reset-requests": "1800000031500"}, 31.5),
        ({"x-ratelimit-reset-requests": "1800000031"}, 32.0),
        ({"x-ratelimit-reset-requests": "31"}, 32.0),
        ({"x-ratelimit-reset-requests": "1799999990000"}, None),
        ({"x-ratelimit-reset-requests": "1800086400000"}, None),
        ({"x-ratelimit-reset-requests": "-3"}, None),
        ({"x-ratelimit-reset-requests": "1800003620000", "date": "Fri, 15 Jan 2027 09:00:00 GMT"}, 20.0),
        ({"x-ratelimit-reset-requests": "30", "x-ratelimit-remaining-requests": "4"}, None),
        ({"x-ratelimit-reset-requests": "30", "x-ratelimit-remaining-requests": "0"}, 31.0),
    ],
)
def test_the_servers_wish_to_wait_is_read_in_every_form_and_nonsense_is_not(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert seconds == retry_after(429, headers, b"", NOW)
    if "date" not in headers:
        assert seconds == retry_after(429, {**headers, "date": DATE}, b"", NOW + 3600)


@given(
    headers=st.dictionaries(
        st.sampled_from(
            [
                "retry-after",
                "date",
                "x-ratelimit-remaining",
                "x-ratelimit-resets",
                "x-ratelimit-reset-requests",
                "x-ratelimit-limit-requests",
            ]
        ),
        st.text() | st.integers().map(str) | st.floats().map(str),
    ),
    status=st.sampled_from([200, 400, 429, 502, 503]),
    body=st.sampled_from([b"", BLOCKED, OVERLOADED]),
)
def test_whatever_an_answer_holds_the_wait_is_credible(
    headers: dict[str, str], status: int, body: bytes
) -> None:
    wait = retry_after(status, headers, body, NOW)
    assert wait is None or 0 <= wait <= 300


@pytest.mark.parametrize("status", [200, 400, 404, 500, 502, 503, 504])
def test_the_accounts_that_come_on_every_answer_ask_for_a_wait_on_a_429_only(status: int) -> None:
    accounts = SPENT | NO_FAILURES_LEFT
    assert None is retry_after(status, accounts, BLOCKED, NOW)
    assert 3.0 == retry_after(status, accounts | {"retry-after": "3"}, BLOCKED, NOW)


@for_each(
    "headers, body, meaning",
    [
        (FAILURES_LEFT, b"", Refusal(reason="limited")),
        (SPENT | FAILURES_LEFT, b"", Refusal(reason="limited", wait=40.0)),
        (SPENT | {"retry-after": "50"}, b"", Refusal(reason="limited", wait=50.0)),
        (NO_FAILURES_LEFT, b"", Refusal(reason="blocked", wait=25.0)),
        (FAILURES_LEFT, BLOCKED, Refusal(reason="blocked", wait=25.0)),
        (FAILURES_LEFT | {"retry-after": "28"}, BLOCKED, Refusal(reason="blocked", wait=28.0)),
        ({}, BLOCKED, Refusal(reason="blocked", wait=30.0)),
        ({"x-ratelimit-resets": "1900000000000"}, BLOCKED, Refusal(reason="blocked", wait=30.0)),
        ({}, OVERLOADED, Refusal(reason="overloaded", wait=30.0)),
        (FAILURES_LEFT | {"retry-after": "5"}, OVERLOADED, Refusal(reason="overloaded", wait=5.0)),
        (SPENT, OVERLOADED, Refusal(reason="limited", wait=40.0)),
    ],
)
def test_a_429_tells_a_spent_limit_from_a_block_and_from_an_overloaded_model(
    headers: Mapping[str, str], body: bytes, meaning: Refusal
) -> None:
    assert meaning == refusal(headers, body, NOW)


def test_the_account_of_a_limit_is_read_whole() -> None:
    headers = {
        "x-ratelimit-limit-requests": "120, 120;w=60",
        "x-ratelimit-remaining-requests": "11",
        "x-ratelimit-reset-requests": "1800000031500",
    }
    assert Allowance(limit=120.0, remaining=11.0, reset=31.5, mark="1800000031500") == allowance(headers, NOW)


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1e9", "10000000"])
def test_an_absurd_limit_is_not_believed(limit: str) -> None:
    assert allowance({"x-ratelimit-limit-requests": limit}, NOW).limit is None


def test_more_remaining_than_the_limit_is_not_believed() -> None:
    headers = {"x-ratelimit-limit-requests": "5", "x-ratelimit-remaining-requests": "6"}
    assert allowance(headers, NOW).remaining is None


def test_a_reset_that_counts_seconds_does_not_name_its_window() -> None:
    assert allowance({"x-ratelimit-reset-requests": "31"}, NOW).mark is None


def test_the_account_of_the_failure_budget_is_read_apart_from_the_rate_limits() -> None:
    assert FailureAllowance(remaining=12.0, reset=25.0) == failure_allowance(SPENT | FAILURES_LEFT, NOW)
    for name in FAILURES_LEFT:
        assert None is failure_allowance(FAILURES_LEFT | {name: "1900000000000x"}, NOW)
    assert None is failure_allowance(SPENT, NOW)


def test_balances_and_the_end_of_a_model_are_read_where_an_answer_tells_them() -> None:
    headers = {
        "x-venice-balance-usd": "12.50",
        "x-venice-balance-diem": "much",
        "x-venice-model-deprecation-warning": "Use another one",
        "x-venice-model-deprecation-date": "2026-12-01",
    }
    assert {"USD": 12.5} == balances(headers)
    assert "Use another one (2026-12-01)" == deprecation(headers)
    assert ({}, "") == (balances({}), deprecation({}))
