"""Money that is set aside before it is spent."""

from __future__ import annotations

from decimal import Decimal

from .errors import BudgetExceededError


class Budget:
    """Money that is reserved before it is spent, exactly."""

    def __init__(self, limit: float | None, spent: float = 0.0) -> None:
        """Allow `limit` USD, of which `spent` are gone; None for no limit."""
        self._limit = None if limit is None else _exact(limit)
        self._reserved = _exact(spent)

    @property
    def reserved(self) -> float:
        """USD spent, or set aside for requests on their way."""
        return float(self._reserved)

    def reserve(self, usd: float) -> None:
        """Set `usd` aside.

        Raises:
            BudgetExceededError: there is less left.
        """
        if self._limit is not None and self._reserved + _exact(usd) > self._limit:
            left = self._limit - self._reserved
            message = f"The quote is {usd:g} USD, and {left} of {self._limit} USD are left"
            raise BudgetExceededError(message, quoted_usd=usd, limit_usd=float(self._limit))
        self._reserved += _exact(usd)

    def release(self, usd: float) -> None:
        """Give back what was not spent."""
        self._reserved -= _exact(usd)


def _exact(usd: float) -> Decimal:
    return Decimal(str(usd))
