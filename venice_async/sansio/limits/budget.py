"""A budget in USD, exact to the cent."""

from __future__ import annotations

from decimal import Decimal

from ...errors import BudgetExceededError
from ...formatting import as_usd


class Budget:
    """A budget from which prices are reserved before they are spent, exact to the cent."""

    def __init__(self, limit: float | None, spent: float = 0.0) -> None:
        """Allow `limit` USD, of which `spent` are gone; None for no limit."""
        self._limit = None if limit is None else _exact(limit)
        self._reserved = _exact(spent)

    @property
    def reserved(self) -> float:
        """USD spent, or reserved for requests in flight."""
        return float(self._reserved)

    def reserve(self, usd: float) -> None:
        """Reserve `usd`.

        Raises:
            BudgetExceededError: there is less left.
        """
        if self._limit is not None and self._reserved + _exact(usd) > self._limit:
            left, limit = float(self._limit - self._reserved), float(self._limit)
            message = f"The quote is {as_usd(usd)}, and {as_usd(left)} of {as_usd(limit)} are left"
            raise BudgetExceededError(
                message,
                cli_hint="Raise --budget, or ask for less",
                quoted_usd=usd,
                limit_usd=limit,
            )
        self._reserved += _exact(usd)

    def release(self, usd: float) -> None:
        """Give back what was not spent."""
        self._reserved -= _exact(usd)


def _exact(usd: float) -> Decimal:
    return Decimal(str(usd))
