"""Health, readiness and metrics of a worker, over HTTP."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import anyio.to_thread
from aiohttp import web
from attrs import define, field

from ..errors import JournalError, UsageError
from ..sansio.limits.bucket import FAILURES_PERIOD, PERIOD
from ..sansio.limits.ration import Ration, UnknownVersionError, load

if TYPE_CHECKING:
    from .orders import Orders
    from .worker import Worker

_UNDER_WAY: Final = "SELECT kind, count(*) FROM orders WHERE ended IS NULL GROUP BY kind"
_ENDED: Final = "SELECT kind, count(*) FROM orders WHERE ended IS NOT NULL GROUP BY kind"
_SPENT: Final = "SELECT coalesce(sum(usd), 0) FROM jobs"
_SINGLES: Final = """SELECT (SELECT count(*) FROM jobs WHERE kind = 'Queueing' AND owner IS NULL),
    (SELECT coalesce(extract(epoch FROM now() - min(created)), 0)::float8 FROM orders
    WHERE kind = 'Submitted' AND ended IS NULL),
    (SELECT count(*) FROM orders WHERE question IS NOT NULL AND answer IS NULL AND ended IS NULL)"""
_RATIONS: Final = """SELECT left(account, 8), ration, extract(epoch FROM clock_timestamp())::float8
    FROM rations WHERE substring(ration FROM '"latest": ([0-9.]+)')::float8 > extract(epoch FROM now()) - 60
    ORDER BY account LIMIT 100"""
_REST: Final = 100.0  # a scan is good for so many times as long as it took

Metric: TypeAlias = tuple[str, str, str, Mapping[str, float]]
"""Name, type, help, and the values by what follows the name: `""`, or labels."""


@define(eq=False)
class Totals:
    """Figures that need a scan of all jobs, which takes at most a hundredth of the time."""

    ended: dict[str, int] = field(factory=dict[str, int])
    usd: float = 0.0
    _good_until: float = -math.inf

    async def count(self, orders: Orders) -> None:
        """Scan, unless the last scan is still good.

        Raises:
            JournalError: the database cannot be used.
        """
        began = anyio.current_time()
        if began < self._good_until:
            return
        self.ended = dict(await orders.rows(_ENDED))
        ((self.usd,),) = await orders.rows(_SPENT)
        now = anyio.current_time()
        self._good_until = now + _REST * (now - began)


@asynccontextmanager
async def serving(worker: Worker, *, host: str, port: int) -> AsyncGenerator[int]:
    """Serve `/healthz`, `/readyz` and `/metrics` within the block, and give the port.

    Raises:
        UsageError: the port cannot be used.
    """

    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        try:
            if worker.ready:
                await worker.orders.rows("SELECT 1")
                return web.Response(text="ok\n")
        except JournalError as error:
            return web.Response(status=503, text=f"{error.message}\n")
        return web.Response(status=503, text="starting or leaving\n")

    async def metrics(_: web.Request) -> web.Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=(await exposition(worker, totals)).encode(), headers={"Content-Type": kind})

    totals = Totals()
    app = web.Application()
    app.add_routes([web.get("/healthz", healthy), web.get("/readyz", ready), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            msg = f"Port {port} of {host} cannot be used: {error.strerror or error}"
            raise UsageError(msg, hint="Choose another one with --port, or 0 for any") from error
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def exposition(worker: Worker, totals: Totals) -> str:
    """Return the figures in the text format of Prometheus; those of the store while it can be reached."""
    delays = worker.delays
    metrics: list[Metric] = [
        ("venice_worker_ready", "gauge", "Whether it takes jobs.", {"": int(worker.ready)}),
        ("venice_worker_slots", "gauge", "Jobs that this worker does at once.", {"": worker.slots}),
        ("venice_worker_jobs", "gauge", "Jobs that this worker works on.", {"": worker.working}),
        (
            "venice_worker_ended_total",
            "counter",
            "Jobs that ended here, by Succeeded or the class of the error.",
            {f'{{outcome="{name}"}}': count for name, count in sorted(worker.counts.items())},
        ),
        (
            "venice_worker_notice_delay_seconds",
            "histogram",
            "From the end of a job to the poll that finds it: half of the time since it was known to run.",
            {f'_bucket{{le="{bound}"}}': count for bound, count in delays.counts.items()}
            | {'_bucket{le="+Inf"}': delays.count, "_sum": delays.total, "_count": delays.count},
        ),
    ]
    with suppress(JournalError):
        rations = await worker.orders.rows(_RATIONS)
        await totals.count(worker.orders)
        jobs = Counter(totals.ended) + Counter(dict(await worker.orders.rows(_UNDER_WAY)))
        ((unknown, oldest, questions),) = await worker.orders.rows(_SINGLES)
        metrics += [
            (
                "venice_fleet_jobs",
                "gauge",
                "Jobs of the fleet by state.",
                {f'{{state="{kind}"}}': count for kind, count in sorted(jobs.items())},
            ),
            ("venice_fleet_spend_usd", "gauge", "USD that the journal's jobs cost.", {"": totals.usd}),
            ("venice_fleet_unknown_outcomes", "gauge", "Paid requests of unknown outcome.", {"": unknown}),
            (
                "venice_fleet_oldest_submitted_seconds",
                "gauge",
                "Age of the oldest job that waits.",
                {"": oldest},
            ),
            (
                "venice_fleet_questions",
                "gauge",
                "Questions that wait for a person's answer.",
                {"": questions},
            ),
            *await anyio.to_thread.run_sync(_of_rations, rations),
        ]
    lines: list[str] = []
    for name, kind, text, values in metrics:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{labels} {value:.15g}" for labels, value in values.items()]
    return "\n".join([*lines, ""])


def _of_rations(rows: Iterable[tuple[str, str, float]]) -> list[Metric]:
    """Return what the accounts in use have sent, and may send, by the beginning of their digests."""
    used, most, failed, blocked, refused = (dict[str, float]() for _ in range(5))
    for account, text, now in rows:
        try:
            ration = cast("Ration", load(text))
        except UnknownVersionError:
            continue
        own = f'account="{account}"'
        for name, bucket in (("polls", ration.polls), ("queue", ration.queue)):
            used[f'{{{own},limit="{name}"}}'] = bucket.used(now - PERIOD)
            most[f'{{{own},limit="{name}"}}'] = bucket.limit * ration.limits.share
        failed[f"{{{own}}}"] = sum(now - FAILURES_PERIOD < at for at in ration.failures.failed)
        blocked[f"{{{own}}}"] = max(ration.blocked_until - now, 0.0)
        for reason in ("limited", "blocked", "overloaded"):
            refused[f'{{{own},reason="{reason}"}}'] = ration.refusals.get(reason, 0)
    return [
        ("venice_fleet_ration_used", "gauge", "Requests of the last minute, of all workers.", used),
        ("venice_fleet_ration_limit", "gauge", "Requests that a minute allows.", most),
        ("venice_fleet_ration_failures", "gauge", "Requests that failed of late.", failed),
        ("venice_fleet_ration_blocked_seconds", "gauge", "Until the key is taken again.", blocked),
        ("venice_fleet_refusals_total", "counter", "Requests that were answered 429.", refused),
    ]
