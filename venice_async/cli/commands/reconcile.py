"""`venice-async reconcile`: what became of paid requests whose answers were lost."""

from __future__ import annotations

import os
from typing import Annotated, Final

from attrs import evolve
from cyclopts import Parameter

from ...errors import UsageError
from ...formatting import as_usd
from .. import exit_codes
from ..explain import ticket_json
from ..options import Access, Output
from ..screen.screen import ScreenHere
from ..session import open_session
from . import command

EXAMPLES: Final = """\
VENICE_ADMIN_KEY=... venice-async reconcile
venice-async reconcile --json
"""


@command(EXAMPLES)
async def reconcile(
    *,
    admin_key: Annotated[str | None, Parameter(metavar="KEY")] = None,
    access: Access = Access(),
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Settle paid requests of unknown outcome by the account's ledger. Nothing is paid.

    What was charged can be resumed then; what was not can be sent again.

    Args:
        admin_key: An ADMIN key of the account; better set VENICE_ADMIN_KEY.
    """
    admin_key = admin_key or os.environ.get("VENICE_ADMIN_KEY") or None
    if admin_key is None:
        msg = "There is no admin key"
        raise UsageError(msg, hint="Set VENICE_ADMIN_KEY (make an ADMIN key at venice.ai/settings/api)")
    if access.api_key is None and not os.environ.get("VENICE_API_KEY"):
        access = evolve(access, api_key=admin_key)
    async with open_session(screen, access) as session:
        with screen.waiting("reading the ledger"):
            found = await session.venice.reconcile(admin_key=admin_key)
    if screen.as_json:
        records = [
            {
                "id": one.entry.id,
                "outcome": one.finding,
                "usd": one.usd,
                "ticket": ticket_json(one.ticket) if one.ticket else None,
                "reason": one.reason or None,
            }
            for one in found
        ]
        screen.emit([{name: part for name, part in item.items() if part is not None} for item in records])
    elif found:
        screen.table(
            [
                {
                    "id": one.entry.id,
                    "outcome": one.finding,
                    "price": "" if one.usd is None else as_usd(one.usd),
                    "job": one.ticket.queue_id if one.ticket else "",
                    "model": one.entry.model or "?",
                    "why": one.reason,
                    "prompt": (one.entry.request and one.entry.request.prompt) or "",
                }
                for one in found
            ]
        )
    if not found:
        screen.note("No paid request is of unknown outcome.")
    if any(one.ticket for one in found):
        screen.note("Go on with what was charged: venice-async resume --all")
    if any(one.finding in {"not charged", "refunded"} for one in found):
        screen.note("What was not charged, or refunded, is out of the journal: send it again if you like.")
    unsettled = any(one.finding == "unsettled" for one in found)
    if unsettled:
        screen.insist(
            "What is unsettled: look at your generations on venice.ai, then venice-async jobs --forget ID"
        )
    return exit_codes.UNKNOWN if unsettled else exit_codes.OK
