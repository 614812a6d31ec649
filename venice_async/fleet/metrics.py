"""What a worker says of itself over HTTP: whether it lives, whether it is ready, and its figures."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from ..errors import JournalError, UsageError

if TYPE_CHECKING:
    from .worker import Worker

_JOBS: Final = "SELECT kind, count(*) FROM orders GROUP BY kind ORDER BY kind"
_SPENT: Final = "SELECT coalesce(sum(usd), 0) FROM jobs"
_UNKNOWN: Final = "SELECT count(*) FROM jobs WHERE kind = 'Queueing' AND owner IS NULL"
_OLDEST: Final = """SELECT coalesce(extract(epoch FROM now() - min(created)), 0)::float8 FROM orders
    WHERE kind = 'Submitted' AND ended IS NULL"""
_QUESTIONS: Final = (
    "SELECT count(*) FROM orders WHERE question IS NOT NULL AND answer IS NULL AND ended IS NULL"
)


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
                await worker.orders.ping()
                return web.Response(text="ok\n")
        except JournalError as error:
            return web.Response(status=503, text=f"{error.message}\n")
        return web.Response(status=503, text="starting or leaving\n")

    async def metrics(_: web.Request) -> web.Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=(await exposition(worker)).encode(), headers={"Content-Type": kind})

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


async def exposition(worker: Worker) -> str:
    """Return the figures in the text format of Prometheus; those of the store while it can be reached."""
    lines = [
        *_metric("venice_worker_ready", "gauge", "Whether it takes jobs.", {"": int(worker.ready)}),
        *_metric("venice_worker_slots", "gauge", "Jobs that this worker does at once.", {"": worker.slots}),
        *_metric("venice_worker_jobs", "gauge", "Jobs that this worker works on.", {"": worker.working}),
        *_metric(
            "venice_worker_ended_total",
            "counter",
            "Jobs that ended here, by Succeeded or the class of the error.",
            {f'{{outcome="{name}"}}': count for name, count in sorted(worker.counts.items())},
        ),
    ]
    try:
        jobs = await worker.orders.rows(_JOBS)
        singles = [(await worker.orders.rows(sql))[0][0] for sql in (_SPENT, _UNKNOWN, _OLDEST, _QUESTIONS)]
    except JournalError:
        return "\n".join([*lines, ""])
    spent, unknown, oldest, questions = singles
    lines += _metric(
        "venice_fleet_jobs",
        "gauge",
        "Jobs of the fleet by state.",
        {f'{{state="{kind}"}}': n for kind, n in jobs},
    )
    lines += _metric("venice_fleet_spend_usd", "gauge", "USD that the journal's jobs cost.", {"": spent})
    lines += _metric(
        "venice_fleet_unknown_outcomes", "gauge", "Paid requests of unknown outcome.", {"": unknown}
    )
    lines += _metric(
        "venice_fleet_oldest_submitted_seconds", "gauge", "Age of the oldest job that waits.", {"": oldest}
    )
    lines += _metric(
        "venice_fleet_questions", "gauge", "Questions that wait for a person's answer.", {"": questions}
    )
    return "\n".join([*lines, ""])


def _metric(name: str, kind: str, text: str, values: dict[str, float]) -> list[str]:
    samples = [f"{name}{labels} {value:g}" for labels, value in values.items()]
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *samples]
