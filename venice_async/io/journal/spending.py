"""What was paid, and for what: by day, model, tag or folder. Days and months are those of UTC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import PurePath
from typing import Final

from attrs import frozen

from ...errors import UsageError

WAYS: Final = ("model", "day", "folder", "tag")


@frozen(kw_only=True)
class Paid:
    """What one job cost, or may have cost.

    Attributes:
        usd: the price, in USD.
        at: when its paid request was sent, in seconds since the Unix epoch.
        model: the model's id.
        tags: what the caller noted about it.
        to: the destination, or None.
    """

    usd: float
    at: float
    model: str | None = None
    tags: Mapping[str, str] = {}
    to: str | None = None

    def shares(self, by: str) -> list[str]:
        """Return what it counts under: one name, or of tags each; a job without any counts under none: ""."""
        match by.partition(":"):
            case "model", "", _:
                return [self.model or ""]
            case "day", "", _:
                return [datetime.fromtimestamp(self.at, UTC).date().isoformat()]
            case "folder", "", _:
                if self.to is None:
                    return [""]
                return [self.to.rpartition("/")[0] if "://" in self.to else str(PurePath(self.to).parent)]
            case "tag", "", _:
                return [f"{name}={value}" for name, value in self.tags.items()] or [""]
            case "tag", _, name:
                return [self.tags.get(name, "")]
            case _:
                msg = f"Spend is counted by {', '.join(WAYS)} or tag:NAME, not by {by!r}"
                raise UsageError(msg)


def grouped(paid: Iterable[Paid], by: str) -> dict[str, float]:
    """Return the USD by name, the dearest first, days in their order.

    Raises:
        UsageError: `by` is no way to count.
    """
    Paid(usd=0, at=0).shares(by)  # also where nothing was paid
    sums: dict[str, Decimal] = {}
    for one in paid:
        for name in one.shares(by):
            sums[name] = sums.get(name, Decimal()) + Decimal(str(one.usd))
    ordered = sorted(sums.items(), key=lambda item: (item[0],) if by == "day" else (-item[1], item[0]))
    return {name: float(usd) for name, usd in ordered}


def total(paid: Iterable[Paid]) -> float:
    """Return the USD of all, exact in decimals: 3 times 0.1 is 0.3."""
    return float(sum(Decimal(str(one.usd)) for one in paid))


def spans(now: float) -> tuple[float, float]:
    """Return when the day and the month of a moment began."""
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day.timestamp(), day.replace(day=1).timestamp()
