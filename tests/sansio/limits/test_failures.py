"""The failure budget."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venice_async.sansio.http.headers import FailureAllowance
from venice_async.sansio.limits.bucket import FailureBudget


def failed(status: int | None) -> bool:
    budget = FailureBudget()
    budget.ended(0.0, status)
    return [0.0] == budget.failed


def test_what_counts_is_every_4xx_but_429_and_what_never_got_a_status() -> None:
    statuses = [None, *range(200, 600)]
    counted = [status for status in statuses if failed(status)]
    assert [None, *range(400, 429), *range(430, 500)] == counted


def test_failures_and_requests_without_a_status_stay_under_the_limit_together() -> None:
    budget = FailureBudget()
    assert [0.0, math.inf] == [budget.opens(0.0, limit=20, flying=flying) for flying in (18, 19)]
    for _ in range(17):
        budget.ended(2.0, 404)
    assert 2.0 == budget.opens(2.0, limit=20, flying=1)
    assert pytest.approx(32.1) == budget.opens(3.0, limit=20, flying=2)
    assert 33.0 == budget.opens(33.0, limit=20, flying=2)


@given(
    outcomes=st.lists(st.tuples(st.floats(0, 3), st.sampled_from([200, 400, 429, 503, None])), max_size=200),
    limit=st.integers(2, 50),
)
def test_no_thirty_seconds_hold_as_many_failures_as_the_limit(
    outcomes: list[tuple[float, int | None]], limit: int
) -> None:
    budget, now, failures = FailureBudget(), 0.0, list[float]()
    for takes, status in outcomes:
        opens = budget.opens(now, limit=limit, flying=0)
        assert math.isfinite(opens)
        now = opens + takes
        budget.ended(now, status)
        if failed(status):
            failures.append(now)
    assert all(sum(at - 30 < other <= at for other in failures) < limit for at in failures)


def told(remaining: float, reset: float = 20.0) -> FailureAllowance:
    return FailureAllowance(remaining=remaining, reset=reset)


def test_no_more_are_on_their_way_than_the_server_says_may_fail_until_it_forgets() -> None:
    budget = FailureBudget()
    for account in (told(3), told(15)):  # of a model whose account is better
        budget.ended(0.0, 200, account)
    assert [1.0, math.inf] == [budget.opens(1.0, limit=20, flying=flying) for flying in (2, 3)]
    budget.ended(2.0, 400)
    assert math.inf == budget.opens(2.0, limit=20, flying=2)
    assert 20.0 == budget.opens(20.0, limit=20, flying=2)


def test_an_account_of_which_nothing_is_left_is_no_wait_one_request_goes_at_a_time() -> None:
    budget = FailureBudget()
    budget.ended(0.0, 400, told(0))
    assert [0.0, math.inf] == [budget.opens(0.0, limit=20, flying=flying) for flying in (0, 1)]
