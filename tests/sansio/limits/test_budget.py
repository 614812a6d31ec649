"""Reserving prices from a budget."""

from __future__ import annotations

import pytest

from venice_async import BudgetExceededError
from venice_async.sansio.limits.budget import Reservations


def test_prices_are_reserved_exact_to_the_cent_until_the_limit() -> None:
    budget = Reservations(0.3, 0.1)
    budget.reserve(0.1)
    budget.reserve(0.1)
    with pytest.raises(BudgetExceededError) as caught:
        budget.reserve(0.01)
    assert (0.3, 0.01, 0.3) == (budget.reserved, caught.value.quoted_usd, caught.value.limit_usd)
    assert "$0.00 of $0.30 are left" in caught.value.message
    budget.release(0.1)
    budget.reserve(0.1)
    assert 0.3 == budget.reserved


def test_without_a_limit_everything_is_reserved() -> None:
    budget = Reservations(None)
    budget.reserve(1000.0)
    assert 1000.0 == budget.reserved
