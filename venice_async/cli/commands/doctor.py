"""`venice-async doctor`: what may be wrong, and what to do about it."""

from __future__ import annotations

import math
import os
import stat
import time
from contextlib import closing
from email.utils import parsedate_to_datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final

import anyio
from attrs import asdict, evolve, frozen

from ...errors import ReadTimeoutError, UsageError, VeniceError
from ...formatting import as_usd
from ...options import Timeouts
from ...sansio.http.wire import list_models
from ...validators import without_password
from .. import exit_codes
from ..exit_codes import exit_code, hint
from ..options import CHOOSE, Access, CheckedAccess, Output
from ..screen.screen import ScreenHere
from ..session import open_journal, open_session
from . import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...models import AccountLimits, VideoModel
    from ..session import Session

EXAMPLES: Final = """\
venice-async doctor
venice-async doctor --sandbox
"""
_LOW: Final = 1.0  # USD: less than most clips of ten seconds cost
_SKEW: Final = 30.0  # seconds: more than that, and reset times of rate limits are misread
_PATIENCE: Final = 1.7  # seconds for the first answer
_HANG: Final = 11  # columns of a mark and what was looked at
_MARKS: Final = {True: ("✓", ""), False: ("✗", "red"), None: ("!", "yellow")}


@frozen
class Finding:
    """What one check found.

    Attributes:
        what: what was looked at.
        text: what was found.
        advice: what to do about it.
        ok: whether it is in order; None for a warning.
        code: the exit code when it is not in order.
    """

    what: str
    text: str
    advice: str = ""
    ok: bool | None = True
    code: int = exit_codes.FAILED


_DELIVERY: Final = Finding(
    "delivery", "by link if the answer to the paid request has a download_url, whatever the model's privacy"
)


@command(EXAMPLES)
async def doctor(
    *, access: CheckedAccess = CheckedAccess(), output: Output = Output(), screen: ScreenHere
) -> int:
    """Check key, limits, balance, models, journal and clock. Nothing is charged.

    It says what to do about each.
    """
    findings = [] if access.sandbox else [await _check_journal(access)]
    try:
        async with open_session(screen, evolve(access, journal=None, no_journal=True)) as session:
            with screen.waiting("asking the service"):
                clock = await _check_clock(session)
                findings += [*_check_account(await session.venice.rate_limits()), _DELIVERY]
                try:
                    findings.append(_check_models(await session.venice.models()))
                except VeniceError as error:
                    findings.append(_trouble("models", error))
                findings.append(clock)
    except VeniceError as error:
        trouble = _trouble("settings" if isinstance(error, UsageError) else "service", error)
        findings.append(evolve(trouble, what="key") if trouble.code == exit_codes.KEY else trouble)
    code = next((finding.code for finding in findings if finding.ok is False), exit_codes.OK)
    if screen.as_json:
        rows = [asdict(one) | {"code": one.code if one.ok is False else exit_codes.OK} for one in findings]
        screen.emit({"ok": code == exit_codes.OK, "findings": rows})
        return code
    for finding in findings:
        mark, style = _MARKS[finding.ok]
        screen.result(f"{mark} {finding.what:<8} {finding.text}", style, hang=_HANG)
        if finding.advice:
            screen.result(" " * _HANG + finding.advice, hang=_HANG)
    return code


def _trouble(what: str, error: VeniceError) -> Finding:
    return Finding(what, error.message, hint(error), ok=False, code=exit_code(error))


def _check_account(account: AccountLimits) -> list[Finding]:
    """Look at the key, the largest balance, for a clip is paid for from one of them, and the rate limits."""
    tier = f", tier {account.tier}" if account.tier else ""
    ends = f", ends {account.key_expires[:10]}" if account.key_expires else ""
    key = Finding("key", f"accepted{tier}{ends}")
    if not account.access_permitted:
        advice = "Look at the key's rights and the balance at venice.ai/settings/api"
        text = f"accepted, but it may not be used{tier}"
        key = Finding("key", text, advice, ok=False, code=exit_codes.KEY)
    amounts = [
        as_usd(amount) if name == "USD" else f"{amount:,.2f} {name}"
        for name, amount in account.balances.items()
    ]
    balance = Finding("balance", ", ".join(amounts) or "not told")
    most = max(account.balances.values(), default=math.inf)
    if most < _LOW:
        advice = (
            "Top up at venice.ai; a clip may cost more than is left, and one currency must cover it whole"
        )
        ok = None if most > 0 else False
        balance = evolve(balance, advice=advice, ok=ok, code=exit_codes.PAYMENT)
    rates = [limit.amount for limit in account.limits if limit.type.upper() == "RPM" and limit.amount]
    text = "not told; 40 paid requests and 120 polls a minute are assumed"
    if rates:
        span = dict.fromkeys((f"{min(rates):g}", f"{max(rates):g}"))
        text = f"{' to '.join(span)} requests a minute, by model"
    return [key, balance, Finding("limits", text)]


def _check_models(models: Sequence[VideoModel]) -> Finding:
    if not models:
        advice = "The key may not be entitled to video; look at its rights"
        return Finding("models", "0 video models", advice, ok=False, code=exit_codes.KEY)
    offline = sum(model.offline for model in models)
    text = f"{len(models)} video models" + (f", {offline} offline" if offline else "")
    ending = {model.id: model.deprecation.replacement for model in models if model.deprecation is not None}
    if not ending:
        return Finding("models", text)
    names = ", ".join(name + (f" with {other}" if other else "") for name, other in ending.items())
    return Finding("models", f"{text}, {len(ending)} to be removed", f"Replace {names}")


async def _check_clock(session: Session) -> Finding:
    """Compare the clocks: the reset times of rate limits are the server's.

    It asks once and waits a moment only, so that the doctor soon knows when nothing answers.

    Raises:
        VeniceError: nothing answered.
    """
    from ...io.aiohttp import AiohttpTransport  # noqa: PLC0415 - the network is loaded by commands that use it

    base_url, before, said = session.base_url, time.time(), None
    with anyio.move_on_after(_PATIENCE):
        async with AiohttpTransport(
            base_url=base_url, api_key=session.api_key, timeouts=Timeouts()
        ) as transport:
            with closing(await transport.send(list_models().request)) as response:
                said = response.headers.get("date", "")
    after = time.time()
    if said is None:
        msg = f"{base_url} gave no answer within {_PATIENCE:g} s"
        raise ReadTimeoutError(msg)
    try:
        theirs = parsedate_to_datetime(said).timestamp() + 0.5  # a date is cut to whole seconds
    except ValueError:
        return Finding("clock", "the server sent no date", "Its reset times are ignored", ok=None)
    skew = (before + after) / 2 - theirs
    apart = f"{abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}" if abs(skew) >= 1 else "as the server's"
    clock = Finding("clock", f"{apart}, answers in {(after - before) * 1000:.0f} ms")
    if abs(skew) <= _SKEW:
        return clock
    advice = "Set this machine's clock, such as by NTP; until then reset times are read by the server's clock"
    return evolve(clock, advice=advice, ok=None)


async def _check_journal(access: Access) -> Finding:
    try:
        path = access.journal_path
        if path is None:
            advice = "A crash may lose a paid job's ticket; leave out --no-journal"
            return Finding("journal", "none is kept", advice, ok=None)
        async with open_journal(path) as journal:
            entries = None if journal is None else await journal.pending()
    except VeniceError as error:
        return _trouble("journal", error)
    if isinstance(path, Path):
        if entries is None:
            return await anyio.to_thread.run_sync(_check_folder, path)
        if stat.S_IMODE((await anyio.Path(path).stat()).st_mode) & 0o077:
            advice = f"It holds links that are secrets: chmod 600 {path}"
            text = f"{path} can be read by others"
            return Finding("journal", text, advice, ok=False, code=exit_codes.FILES)
    count, held = len(entries or ()), entries.held if entries else 0
    watched = f", {held} watched by another process" if held else ""
    advice = "Go on with them: venice-async resume --all" if count else ""
    return Finding("journal", f"{without_password(path)}, {count} unfinished{watched}", advice)


def _check_folder(path: Path) -> Finding:
    """See whether a journal that is not there yet can be made: in its folder, or the nearest that exists."""
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    try:
        TemporaryFile(dir=folder).close()
    except OSError as error:
        text = f"{path} cannot be made: {error.strerror} in {folder}"
        return Finding("journal", text, CHOOSE, ok=False, code=exit_codes.FILES)
    return Finding("journal", f"{path}, made at the first job")
