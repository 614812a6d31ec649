"""A budget in USD, exact to the cent."""

from __future__ import annotations

from decimal import Decimal

from ...errors import BudgetExceededError
from ...formatting import as_usd


class Reservations:
    """A sum from which prices are reserved before they are spent, exact to the cent."""

    def __init__(self, limit: float | None, spent: float = 0.0, *, of: str = "", hint: str = "") -> None:
        """Allow `limit` USD, of which `spent` are gone; None for no limit. Errors say whose limit it is."""
        self._of, self._hint = of, hint
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
            left_of = f"{as_usd(max(left, 0.0))} of {self._of}{as_usd(limit)} are left"
            message = f"The quote is {as_usd(usd)}, and {left_of}"
            raise BudgetExceededError(
                message,
                hint=self._hint or BudgetExceededError.hint,
                cli_hint=self._hint or "Raise --budget, or ask for less",
                quoted_usd=usd,
                limit_usd=limit,
            )
        self._reserved += _exact(usd)

    def release(self, usd: float) -> None:
        """Give back what was not spent."""
        self._reserved -= _exact(usd)


def _exact(usd: float) -> Decimal:
    return Decimal(str(usd))
