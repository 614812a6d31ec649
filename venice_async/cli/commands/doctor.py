"""`venice-async doctor`: what may be wrong, and what to do about it."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio
from attrs import asdict, frozen

from ...errors import (
    AuthenticationError,
    PermissionDeniedError,
    UsageError,
    VeniceError,
)
from ...sansio.http.queries import ListModels
from .. import exits
from ..connection import Connection, Journalling, Session, opened
from ..exits import exit_code
from ..failures import CHOOSE, hint
from ..journals import exists, pending
from ..options import flag, value
from .probe import examine

if TYPE_CHECKING:
    from ...models import AccountLimits, VideoModel
    from ..interrupts import Interrupts
    from ..screen.screen import Screen

EXAMPLES: Final = """\
venice-async doctor
venice-async doctor --spend 0.50
"""
_LOW: Final = 1.0  # USD: less than most clips of ten seconds cost
_SKEW: Final = 30.0  # seconds: more than that, and reset times of rate limits are misread
_MARKS: Final = {True: ("✓", "green"), False: ("✗", "red"), None: ("!", "yellow")}


@frozen(kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        what: what was looked at.
        ok: whether it is in order; None for a warning.
        text: what was found.
        advice: what to do about it.
        code: the exit code when it is not in order.
    """

    what: str
    ok: bool | None
    text: str
    advice: str = ""
    code: int = exits.FAILED


async def doctor(
    *,
    screen: Screen,
    interrupts: Interrupts,
    spend: Annotated[
        float | None,
        value(
            takes="USD",
            says="Make the cheapest clip of each delivery, for at most this, and tell what only that shows.",
            min=0,
        ),
    ] = None,
    yes: Annotated[bool, flag("--yes", "-y", says="Do not ask before --spend spends.")] = False,
    journalling: Journalling,
    connection: Connection,
) -> int:
    """Check key, limits, balance, models, journal and clock, each with what to do about it.

    Without --spend nothing is charged.
    """
    if spend is not None and journalling.no_journal:
        msg = "--spend keeps its tickets in the journal, so --no-journal cannot be"
        raise UsageError(msg)
    findings = [] if connection.sandbox else [await _check_journal(connection, journalling)]
    probes: list[dict[str, Any]] = []
    async with _reached(connection, journalling if spend is not None else None, findings) as session:
        if session is not None:
            with screen.waiting("asking the service"):
                findings += await _check_service(session)
            if not screen.as_json:
                _show(screen, findings)
            if spend is not None and all(finding.ok is not False for finding in findings):
                probes = await examine(session, screen, interrupts, at_most=spend, yes=yes)
    if screen.as_json:
        told: dict[str, Any] = {"probes": probes} if probes else {}
        listed = [asdict(finding) for finding in findings]
        screen.emit({"ok": _code(findings) == exits.OK, "findings": listed, **told})
    elif session is None:
        _show(screen, findings)
    return _code(findings)


@asynccontextmanager
async def _reached(
    connection: Connection, journalling: Journalling | None, findings: list[Finding]
) -> AsyncGenerator[Session | None]:
    """Open a client; one that cannot be opened is a finding."""
    manager = opened(connection, journalling)
    try:
        session = await manager.__aenter__()
    except VeniceError as error:
        findings.append(_trouble("key", error))
        yield None
        return
    try:
        yield session
    except BaseException as error:
        await manager.__aexit__(type(error), error, error.__traceback__)
        raise
    await manager.__aexit__(None, None, None)


def _code(findings: Sequence[Finding]) -> int:
    return next((finding.code for finding in findings if finding.ok is False), exits.OK)


def _show(screen: Screen, findings: Sequence[Finding]) -> None:
    for finding in findings:
        mark, style = _MARKS[finding.ok]
        screen.result(f"{mark} {finding.what:<8} {finding.text}", style if finding.ok is not True else "")
        if finding.advice:
            screen.result(f"  {'':<8} {finding.advice}")


async def _check_service(session: Session) -> list[Finding]:
    try:
        account = await session.venice.rate_limits()
    except VeniceError as error:
        refused = isinstance(error, AuthenticationError | PermissionDeniedError)
        return [_trouble("key" if refused else "service", error)]
    found = [_check_key(account), _check_balance(account), _check_limits(account)]
    try:
        found.append(_check_models(await session.venice.models()))
        found.append(await _check_clock(session))
    except VeniceError as error:
        found.append(_trouble("models", error))
    return found


def _trouble(what: str, error: VeniceError) -> Finding:
    return Finding(what=what, ok=False, text=error.message, advice=hint(error), code=exit_code(error))


def _check_key(account: AccountLimits) -> Finding:
    tier = f", tier {account.tier}" if account.tier else ""
    ends = f", ends {account.key_expires[:10]}" if account.key_expires else ""
    if not account.access_permitted:
        advice = "Look at the key's rights and the balance at venice.ai/settings/api"
        return Finding(
            what="key",
            ok=False,
            text=f"accepted, but it may not be used{tier}",
            advice=advice,
            code=exits.KEY,
        )
    return Finding(what="key", ok=True, text=f"accepted{tier}{ends}")


def _check_balance(account: AccountLimits) -> Finding:
    text = ", ".join(f"{name} {amount:,.2f}" for name, amount in account.balances.items()) or "not told"
    largest = max(
        account.balances.values(), default=0.0
    )  # a job is charged to one currency that covers it whole
    if account.balances and largest < _LOW:
        ok = None if largest > 0 else False
        advice = (
            "Top up at venice.ai; a clip may cost more than is left, and one currency must cover it whole"
        )
        return Finding(what="balance", ok=ok, text=text, advice=advice, code=exits.PAYMENT)
    return Finding(what="balance", ok=True, text=text)


def _check_limits(account: AccountLimits) -> Finding:
    amounts = sorted(
        {limit.amount for limit in account.limits if limit.type.upper() == "RPM" and limit.amount}
    )
    if not amounts:
        return Finding(what="limits", ok=True, text="not told; 40 queued and 120 polled a minute are assumed")
    span = f"{amounts[0]:g}" if len(amounts) == 1 else f"{amounts[0]:g} to {amounts[-1]:g}"
    return Finding(what="limits", ok=True, text=f"{span} requests a minute, by model")


def _check_models(models: Sequence[VideoModel]) -> Finding:
    offline = sum(model.offline for model in models)
    ending = [model for model in models if model.deprecation is not None]
    text = f"{len(models)} video models" + (f", {offline} offline" if offline else "")
    if not models:
        advice = "The key may not be entitled to video; look at its rights"
        return Finding(what="models", ok=False, text=text, advice=advice, code=exits.KEY)
    if ending:
        names = ", ".join(
            f"{model.id} (use {model.deprecation.replacement})"
            if model.deprecation and model.deprecation.replacement
            else model.id
            for model in ending
        )
        return Finding(
            what="models", ok=True, text=f"{text}, {len(ending)} coming to an end", advice=f"Leave {names}"
        )
    return Finding(what="models", ok=True, text=text)


async def _check_clock(session: Session) -> Finding:
    """Compare the clocks: the reset times of rate limits are the server's."""
    async with session.transport() as transport:
        before = time.time()
        async with transport.send(ListModels().request) as response:
            said = response.headers.get("date", "")
    after = time.time()
    try:
        theirs = parsedate_to_datetime(said).timestamp()
    except ValueError:
        return Finding(
            what="clock", ok=None, text="the server told no date", advice="Its reset times are disbelieved"
        )
    skew = (
        (before + after) / 2 - theirs - 0.5
    )  # a date is cut to whole seconds: half of one is to be expected
    text = (
        f"{abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}, answers in {(after - before) * 1000:.0f} ms"
    )
    if abs(skew) > _SKEW:
        advice = (
            "Set this machine's clock, by NTP for example: until then reset times are read by the server's"
        )
        return Finding(what="clock", ok=None, text=text, advice=advice)
    return Finding(what="clock", ok=True, text=text)


async def _check_journal(connection: Connection, journalling: Journalling) -> Finding:
    try:
        path = journalling.path(connection)
        if path is None:
            advice = "A crash may lose a paid job's ticket; leave out --no-journal"
            return Finding(what="journal", ok=None, text="none is kept", advice=advice)
        if not await exists(path):
            return await anyio.to_thread.run_sync(_check_folder, path)
        count = len(await pending(path))
        readable = stat.S_IMODE((await anyio.Path(path).stat()).st_mode) & 0o077
    except VeniceError as error:
        return _trouble("journal", error)
    if readable:
        advice = f"It holds links that are secrets: chmod 600 {path}"
        return Finding(
            what="journal", ok=False, text=f"{path} can be read by others", advice=advice, code=exits.FILES
        )
    advice = "Go on with them: venice-async resume --all" if count else ""
    return Finding(what="journal", ok=True, text=f"{path}, {count} unfinished", advice=advice)


def _check_folder(path: Path) -> Finding:
    """See whether a journal that is not there yet can be made: in its folder, or the nearest that exists."""
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        text = f"{path} cannot be made: {error.strerror} in {folder}"
        return Finding(what="journal", ok=False, text=text, advice=CHOOSE, code=exits.FILES)
    return Finding(what="journal", ok=True, text=f"{path}, made at the first job")
