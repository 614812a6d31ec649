"""What a sandbox may be told: its rate limits, its catalogue, its scenarios and faults, and all the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from attrs import define, field, frozen

from ..options import bound, check_kind, flag, kind, one_of
from .catalogue import CATALOGUE, CatalogueModel
from .clips.media import Clips
from .scenarios import COUNT, NONE_OR_COUNT, Fault, Faults, Scenario, Scenarios

Completes = Literal["deletes", "invalid", "fails"]
"""What `/video/complete` does: it deletes, answers 400 to every id, or says `"success": false`."""

Window = Literal["fixed", "sliding"]
"""Whether windows follow each other, or one ends at every request."""

ResetUnit = Literal["milliseconds", "seconds"]
"""What the reset headers count in."""


@frozen(kw_only=True)
class RateLimits:
    """What one key may do, in real seconds whatever the sandbox's `speed`.

    Attributes:
        queue: requests to `/video/queue` in a period; 40 by the vendor's rate limit page.
        retrieve: requests to `/video/retrieve` in a period; 120 by the same page.
        upscale_quote: requests to `/video/quote` for upscaling in a period.
        period: seconds that a window spans.
        window: `fixed` windows follow each other, a `sliding` one ends at every request.
            Which of them the vendor has is not documented.
        phase: seconds by which the first fixed window is cut short.
        reset_unit: what the reset headers count in; documented as a Unix time, seen as milliseconds.
        retry_after: whether a 429 carries `Retry-After` too.
        failures: failed requests (4xx but 429) allowed in `failure_period`; one more blocks the key.
            None for no block.
        failure_period: seconds in which failures are counted.
        block: seconds that a block lasts.
    """

    queue: int = field(default=40, validator=COUNT)
    retrieve: int = field(default=120, validator=COUNT)
    upscale_quote: int = field(default=40, validator=COUNT)
    period: float = field(default=60.0, validator=bound(0, above=True))
    window: Window = field(default="fixed", validator=one_of(Window))
    phase: float = field(default=0.0, validator=bound(0))
    reset_unit: ResetUnit = field(default="milliseconds", validator=one_of(ResetUnit))
    retry_after: bool = field(default=False, validator=flag())
    failures: int | None = field(default=20, validator=NONE_OR_COUNT)
    failure_period: float = field(default=30.0, validator=bound(0, above=True))
    block: float = field(default=30.0, validator=bound(0, above=True))


@define(kw_only=True, eq=False)
class Options:
    """The arguments of a `Sandbox`, which says what they mean."""

    speed: float = field(default=60.0, validator=bound(0, above=True))
    port: int = field(default=0, validator=bound(0, high=65_535, whole=True))
    api_key: str = field(default="venice-sandbox-key", repr=False, validator=kind(str, what="text"))
    admin_key: str = field(default="venice-sandbox-admin-key", repr=False, validator=kind(str, what="text"))
    seed: int = field(default=0, validator=kind(int, what="a whole number"))
    sigma: float = field(default=0.4, validator=bound(0))
    balance: float = field(default=1_000_000.0, validator=bound(-math.inf))
    models: Sequence[CatalogueModel] = field(
        factory=lambda: CATALOGUE, repr=False, validator=kind(Sequence, what="a list of CatalogueModel")
    )
    scenarios: Scenarios = field(
        factory=dict[str, Scenario], validator=kind(Mapping, what="a mapping of model ids to Scenario")
    )
    faults: Iterable[Faults] = field(default=(), validator=kind(Iterable, what="a list of Fault"))
    limits: RateLimits | None = field(
        factory=RateLimits, validator=kind(RateLimits, what="a RateLimits or None", or_none=True)
    )
    clips: Clips | None = field(
        default=None,
        repr=False,
        validator=kind(bytes, memoryview, Callable, what="bytes or a function", or_none=True),
    )
    media_lifetime: float = field(default=86_400.0, validator=bound(0, above=True))
    id_lifetime: float = field(default=86_400.0, validator=bound(0, above=True))
    completes: Completes = field(default="deletes", validator=one_of(Completes))
    strict: bool = field(default=False, validator=flag())
    link_gets: int = field(default=5, validator=COUNT)
    link_ranges: bool = field(default=True, validator=flag())
    clock_skew: float = field(default=0.0, validator=bound(-math.inf))

    def __attrs_post_init__(self) -> None:
        """Check the items of the lists."""
        for model in self.models:
            check_kind("Each of models", model, CatalogueModel, what="a CatalogueModel")
        for name, found in self.scenarios.items():
            for scenario in found if isinstance(found, Sequence) else (found,):
                check_kind(f"Each of scenarios, of {name!r},", scenario, Scenario, what="a Scenario")
        self.faults = list(self.faults)
        for fault in self.faults:
            check_kind("Each of faults", fault, Fault, Callable, what="a Fault or a function")
