"""Settles paid requests of unknown outcome by the account's ledger."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio
from attrs import frozen

from ..errors import AuthenticationError, ProtocolError
from ..io.caller import Caller
from ..io.journal.entries import JournalEntry
from ..results import Ticket
from ..sansio.billing import BEFORE, Finding, LedgerAnswer, LedgerRow, PaidRequest, settle, spans
from ..sansio.http.headers import server_time
from ..sansio.http.wire import read_ledger
from ..sansio.job.states import Queueing, Waiting
from .spec import Shared

if TYPE_CHECKING:
    from ..io.journal.journal import Journal

_ADMIN: Final = "The ledger needs an ADMIN key: make one at venice.ai/settings/api"

log: logging.Logger = logging.getLogger(__name__)


@frozen(kw_only=True)
class Settlement:
    """What the account's ledger says of a paid request whose outcome was unknown.

    Attributes:
        entry: the request, as the journal knew it.
        finding: `"charged"`: the job was accepted, and `recover()` goes on with it where there is a
            `ticket`; `"refunded"` or `"not charged"`: the journal has removed it, and it may be sent again;
            `"unsettled"`: the ledger has no answer, and the journal keeps it.
        usd: what was charged, in USD or in another currency of the account.
        ticket: the job, where the ledger names it.
        reason: why it is unsettled.
    """

    entry: JournalEntry
    finding: Finding
    usd: float | None = None
    ticket: Ticket | None = None
    reason: str = ""


async def reconcile(shared: Shared, journal: Journal, caller: Caller) -> list[Settlement]:
    """Settle the requests that nobody works on; `caller` has the admin key. See `VeniceClient.reconcile`."""
    unknown = [entry for entry in await journal.pending() if isinstance(entry.state, Queueing)]
    mine = [entry for entry in unknown if await journal.adopt(entry.id)]
    requests = [
        PaidRequest(
            model=entry.request.model if entry.request else "",
            at=entry.created,
            usd=entry.usd,
            content=repr(entry.request),
        )
        for entry in mine
    ]
    now, settled = shared.clock.time(), list[Settlement]()
    try:
        rows: list[LedgerRow] = []
        for start, end in spans(requests, now):
            page = await caller.ask(read_ledger(start, end))
            rows += page.rows
            seen: set[str] = set()
            while page.cursor is not None:
                if page.cursor in seen:
                    msg = "The ledger has no end: one of its pages leads back to an earlier one"
                    raise ProtocolError(msg)
                seen.add(page.cursor)
                page = await caller.ask(read_ledger(start, end, page.cursor))
                rows += page.rows
        answers = settle(requests, rows, await journal.known_jobs(), now)
        skew = shared.clock.time() - server_time({"date": caller.date}, shared.clock.time())
        if abs(skew) > BEFORE:
            reason = f"this machine's clock and the server's differ by {abs(skew):.0f} s: set it first"
            answers = [LedgerAnswer(finding="unsettled", reason=reason) for _ in answers]
        for entry, answer in zip(mine, answers, strict=True):
            finding, row, ticket = answer.finding, answer.row, None
            if finding == "charged" and row is not None and row.job is not None and entry.request is not None:
                ticket = Ticket(model=entry.request.model, queue_id=row.job)
                await journal.record(entry.id, Waiting(ticket=ticket))
            elif finding in {"refunded", "not charged"}:
                await journal.withdraw(entry.id)
            log.info("The paid request %s is %s by the ledger", entry.id, finding)
            usd = None if row is None else -row.amount
            settled.append(
                Settlement(entry=entry, finding=finding, usd=usd, ticket=ticket, reason=answer.reason)
            )
    except AuthenticationError as error:
        raise error.with_facts(hint=_ADMIN) from None
    finally:
        with anyio.CancelScope(shield=True):
            for entry in mine:
                await journal.release(entry.id)
    return settled
