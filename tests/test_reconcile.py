"""Paid requests of unknown outcome, settled by the ledger."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve

from venice_async import (
    AuthenticationError,
    ProtocolError,
    QueueOutcomeUnknownError,
    UsageError,
    VeniceClient,
    VideoRequest,
)
from venice_async.engine import reconcile as engine_reconcile
from venice_async.io.clock import SystemClock
from venice_async.sandbox import Fault, Sandbox, tiny_clip
from venice_async.sansio.billing import LedgerRow
from venice_async.sansio.http.secrets import Secret
from venice_async.sansio.http.wire import LedgerPage, Query, read_ledger

pytestmark = pytest.mark.anyio

CLIP = tiny_clip(30_000)
REQUEST = VideoRequest(model="wan-2-7-text-to-video", prompt="a fox", duration="5s", resolution="480p")


async def _lose(venice: VeniceClient, to: Path) -> None:
    with pytest.raises(QueueOutcomeUnknownError):
        await venice.generate(REQUEST, to=to, max_usd=1.0)


async def test_what_was_charged_is_watched_again_and_what_was_not_may_be_sent_again(tmp_path: Path) -> None:
    faults = [Fault(on="queue", skip=1, drop="after"), Fault(on="queue", skip=1, drop="before")]
    journal = tmp_path / "jobs.db"
    async with (
        Sandbox(clips=CLIP, faults=faults) as sandbox,
        VeniceClient(sandbox.api_key, base_url=sandbox.base_url, journal=journal) as venice,
    ):
        await venice.generate(REQUEST, to=tmp_path / "known.mp4")
        await _lose(venice, tmp_path / "lost.mp4")
        [found] = await venice.reconcile(admin_key=sandbox.admin_key)
        assert ("charged", 0.25, sandbox.charges[1].queue_id) == (
            found.finding,
            found.usd,
            found.ticket and found.ticket.queue_id,
        )
        [job] = await venice.recover()
        assert CLIP == Path(await job).read_bytes()

        await _lose(venice, tmp_path / "unsent.mp4")
        [found] = await venice.reconcile(admin_key=sandbox.admin_key)
        assert ("unsettled", "a charge may still come: ask again in 300 s") == (found.finding, found.reason)
        assert [None] == [entry.ticket for entry in await venice.pending()]
        with closing(sqlite3.connect(journal)) as beside, beside:
            beside.execute("UPDATE jobs SET created = created - 7200 WHERE kind = 'Queueing'")
        [found] = await venice.reconcile(admin_key=sandbox.admin_key)
        assert ("not charged", None) == (found.finding, found.ticket)
        assert ([], []) == (list(await venice.pending()), await venice.reconcile(admin_key=sandbox.admin_key))


async def test_the_ledger_needs_an_admin_key_and_what_is_unknown_stays_unknown_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VENICE_ADMIN_KEY", raising=False)
    async with (
        Sandbox(clips=CLIP, faults=[Fault(on="queue", drop="after")]) as sandbox,
        VeniceClient(sandbox.api_key, base_url=sandbox.base_url, journal=tmp_path / "jobs.db") as venice,
    ):
        await _lose(venice, tmp_path / "lost.mp4")
        with pytest.raises(UsageError, match="There is no admin key"):
            await venice.reconcile()
        with pytest.raises(AuthenticationError, match="needs an ADMIN key"):
            await venice.reconcile(admin_key=sandbox.api_key)
        [entry] = await venice.pending()
        assert entry.ticket is None


async def test_the_ledger_is_read_page_by_page(tmp_path: Path) -> None:
    async with (
        Sandbox(clips=CLIP) as sandbox,
        VeniceClient(sandbox.admin_key, base_url=sandbox.base_url, journal=tmp_path / "jobs.db") as venice,
    ):
        jobs = [venice.generate(REQUEST, to=tmp_path) for _ in range(12)]
        for job in jobs:
            await job
        async with venice._runtime.caller_with(Secret(sandbox.admin_key)) as caller:
            now, cursor = time.time(), None
            rows: list[LedgerRow] = []
            for _ in range(2):
                page = await caller.ask(read_ledger(now - 60, now + 600, cursor, size=10))
                rows += page.rows
                cursor = page.cursor
        assert (None, [charge.queue_id for charge in sandbox.charges]) == (cursor, [row.job for row in rows])


async def test_nothing_is_settled_by_a_clock_that_is_not_the_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        Sandbox(clips=CLIP, faults=[Fault(on="queue", drop="after")]) as sandbox,
        VeniceClient(sandbox.api_key, base_url=sandbox.base_url, journal=tmp_path / "jobs.db") as venice,
    ):
        right = SystemClock.time
        with monkeypatch.context() as patch:
            patch.setattr(SystemClock, "time", lambda clock: right(clock) - 7200)
            await _lose(venice, tmp_path / "lost.mp4")
            patch.setattr(SystemClock, "time", lambda clock: right(clock) - 3600)
            [found] = await venice.reconcile(admin_key=sandbox.admin_key)
        assert "unsettled" == found.finding
        assert "differ by 3600 s" in found.reason or "differ by 3599 s" in found.reason
        assert 1 == len(await venice.pending())


async def test_a_ledger_whose_pages_repeat_is_an_error_and_nothing_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(start: float, end: float, _: str | None = None) -> Query[LedgerPage]:
        return evolve(read_ledger(start, end), answer=lambda _: LedgerPage((), "again"))

    monkeypatch.setattr(engine_reconcile, "read_ledger", ask)
    async with (
        Sandbox(clips=CLIP, faults=[Fault(on="queue", drop="after")]) as sandbox,
        VeniceClient(sandbox.api_key, base_url=sandbox.base_url, journal=tmp_path / "jobs.db") as venice,
    ):
        await _lose(venice, tmp_path / "lost.mp4")
        with pytest.raises(ProtocolError, match="leads back to an earlier one"):
            await venice.reconcile(admin_key=sandbox.admin_key)
        assert 1 == len(await venice.pending())
