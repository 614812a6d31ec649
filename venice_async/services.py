"""What the jobs of a client share."""

from __future__ import annotations

from pathlib import Path

from attrs import field, frozen

from .consent import OnConsent
from .io.caller import Caller
from .io.records import Records
from .io.transport import Clock
from .options import Timeouts


@frozen(kw_only=True)
class Services:
    """What the jobs of a client share.

    Attributes:
        caller: sends requests, at their turn.
        clock: time and chance.
        records: the journal, or what stands for none.
        timeouts: how long to wait.
        on_consent: whom to ask for consent.
        claims: the files that running jobs are bound for.
    """

    caller: Caller
    clock: Clock
    records: Records
    timeouts: Timeouts
    on_consent: OnConsent | None = None
    claims: set[Path] = field(factory=set[Path])
