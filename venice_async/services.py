"""What the jobs of a client share."""

from __future__ import annotations

from attrs import frozen

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
    """

    caller: Caller
    clock: Clock
    records: Records
    timeouts: Timeouts
    on_consent: OnConsent | None = None
