"""What a sandbox may be told: its rate limits, its catalogue, its scenarios and faults, and all the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from attrs import define, field, frozen
from attrs.validators import ge, gt

from .catalogue import CATALOGUE, CatalogueModel
from .clips.media import Clips
from .scenarios import NONE_OR_COUNT, Faults, Scenario, Scenarios, one_of

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

    queue: int = field(default=40, validator=ge(0))
    retrieve: int = field(default=120, validator=ge(0))
    upscale_quote: int = field(default=40, validator=ge(0))
    period: float = field(default=60.0, validator=gt(0))
    window: Window = field(default="fixed", validator=one_of(Window))
    phase: float = field(default=0.0, validator=ge(0))
    reset_unit: ResetUnit = field(default="milliseconds", validator=one_of(ResetUnit))
    retry_after: bool = False
    failures: int | None = field(default=20, validator=NONE_OR_COUNT)
    failure_period: float = field(default=30.0, validator=gt(0))
    block: float = field(default=30.0, validator=gt(0))


@define(kw_only=True, eq=False)
class Options:
    """The arguments of a `Sandbox`, which says what they mean."""

    speed: float = field(default=60.0, validator=gt(0))
    port: int = field(default=0, validator=ge(0))
    api_key: str = field(default="venice-sandbox-key", repr=False)
    admin_key: str = field(default="venice-sandbox-admin-key", repr=False)
    seed: int = 0
    sigma: float = field(default=0.4, validator=ge(0))
    balance: float = 1_000_000.0
    models: Sequence[CatalogueModel] = field(factory=lambda: CATALOGUE, repr=False)
    scenarios: Scenarios = field(factory=dict[str, Scenario])
    faults: Iterable[Faults] = ()
    limits: RateLimits | None = field(factory=RateLimits)
    clips: Clips | None = field(default=None, repr=False)
    media_lifetime: float = field(default=86_400.0, validator=gt(0))
    id_lifetime: float = field(default=86_400.0, validator=gt(0))
    completes: Completes = field(default="deletes", validator=one_of(Completes))
    strict: bool = False
    link_gets: int = field(default=5, validator=ge(0))
    link_ranges: bool = True
    clock_skew: float = 0.0
