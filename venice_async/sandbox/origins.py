"""The two origins: they read requests, record them with their answers, and send the answers.

A link has no key, a strong ETag, ranges, and only a few GETs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, cast

from aiohttp import web
from attrs import define, evolve

from .clips.renderer import ClipRenderer
from .clock import LoopClock
from .faults import FaultPlan, with_fault
from .jobs import Clip, Job, SandboxJobs
from .records import RecordedRequest
from .replies import Reply, coded_error, standard_error
from .scenarios import Fault, Point
from .venice import Call, Venice
from .wire import LARGEST_BODY, read_body, send

PREFIX = "/api/v1"

_ROUTES: Mapping[tuple[str, str], Point] = {
    ("GET", "/models"): "models",
    ("POST", "/video/quote"): "quote",
    ("POST", "/video/queue"): "queue",
    ("POST", "/video/retrieve"): "retrieve",
    ("POST", "/video/complete"): "complete",
    ("GET", "/api_keys/rate_limits"): "rate_limits",
    ("GET", "/billing/balance"): "balance",
    ("GET", "/billing/usage-history"): "ledger",
}
_PATHS = frozenset(path for _, path in _ROUTES)
_LINK = re.compile(r"/media/([0-9a-f-]{8,36})\.mp4")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_KEYLESS = frozenset({"models", "quote"})
_FAILED = frozenset(range(400, 500)) - {429}  # what the vendor counts towards the block


@define(eq=False, kw_only=True)
class ApiOrigin:
    """Serves the API. A block comes first, then the key, the rate limits, a fault, and the call itself."""

    venice: Venice
    plan: FaultPlan
    api_key: str
    admin_key: str
    requests: list[RecordedRequest]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        raw = await read_body(request)
        now = self.venice.clock.now()
        path = request.path.removeprefix(PREFIX)
        point = _ROUTES.get((request.method, path)) if request.path.startswith(PREFIX) else None
        call = Call(
            query=request.query,
            content_type=request.headers.get("Content-Type", ""),
            raw=raw or b"",
            body=_parsed(raw),
            keyed="Authorization" in request.headers,
            now=now,
        )
        reply, fault, record = self._turned_away(request, point, raw, now), None, None
        if reply is None and point is not None:
            delivers = point == "retrieve" and await self.venice.delivers(call.body, now)
            record = _record(request, path, "video" if delivers else point, call)
            reply, fault = self._answer(record, point, ("retrieve", "video") if delivers else (point,), call)
        if reply is None and path in _PATHS:
            reply = standard_error(405, "Method not allowed")
        reply = reply or standard_error(404, "The requested resource was not found")
        number = {"x-request-id": f"sandbox-{len(self.requests) + 1}"}
        reply = evolve(reply, headers={**number, **reply.headers})
        status = None if fault is not None and fault.silent else reply.status
        if status is not None and status in _FAILED:
            self.venice.limiter.failed(now)
        reply = _with(reply, self.venice.limiter.failure_headers(now))
        record = record or _record(request, path, point or "", call)
        self.requests.append(evolve(record, status=status))
        return await send(request, reply, fault, date=self.venice.clock.http_date(now))

    def _turned_away(
        self, request: web.BaseRequest, point: Point | None, raw: bytes | None, now: float
    ) -> Reply | None:
        blocked = self.venice.limiter.blocked(now)
        if blocked is not None:
            return blocked
        shown = request.headers.get("Authorization")
        keys = {f"Bearer {self.admin_key}"}
        if point != "ledger":
            keys.add(f"Bearer {self.api_key}")
        if shown not in keys and (shown is not None or point not in _KEYLESS):
            return standard_error(401, "Authentication failed")
        if raw is None:
            size = LARGEST_BODY // 1024**2
            return coded_error(
                413, "PAYLOAD_TOO_LARGE", f"Request exceeds the maximum allowed size of {size} MB."
            )
        return None

    def _answer(
        self, request: RecordedRequest, point: Point, points: tuple[Point, ...], call: Call
    ) -> tuple[Reply, Fault | None]:
        headers: dict[str, str] = {}
        if (kind := self.venice.rated(point, call.body)) is not None:
            headers, refusal = self.venice.limiter.take(kind, call.now)
            if refusal is not None:
                return _with(refusal, headers), None
        fault = self.plan.next(request, points, (call.body or {}).get("model"))
        acts = fault is None or fault.acts
        reply = _with(self.venice.answer(point, call) if acts else Reply(), headers)
        return (reply if fault is None else with_fault(fault, reply)), fault


@define(eq=False, kw_only=True)
class LinkOrigin:
    """Serves clips by link: no key is asked for, and none may be sent.

    Attributes:
        gets: GETs that a link allows.
        lifetime: seconds for which a link is valid, counted from when the job was queued.
        ranges: whether `Range` is honoured.
    """

    jobs: SandboxJobs
    clock: LoopClock
    gets: int
    lifetime: float
    ranges: bool
    renderer: ClipRenderer
    plan: FaultPlan
    api_key: str
    requests: list[RecordedRequest]
    leaks: list[RecordedRequest]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        raw = await read_body(request)
        now = self.clock.now()
        points: dict[str, Point] = {"GET": "link", "DELETE": "revoke"}
        point = points.get(request.method)
        job = self._find(request.path, request.query.get("signature"))
        if job is not None and point == "link" and job.done(now):
            await self.renderer.make(job)
        call = Call(query={}, content_type="", raw=raw or b"", body=_parsed(raw), now=now)
        record = _record(request, request.path, point or "", call, origin="link")
        reply, fault = self._answer(record, point, job, now)
        record = evolve(record, status=None if fault is not None and fault.silent else reply.status)
        self.requests.append(record)
        if self.api_key in request.path_qs or any(
            self.api_key in value for value in request.headers.values()
        ):
            self.leaks.append(record)
        return await send(request, reply, fault, date=self.clock.http_date(now))

    def _answer(
        self, request: RecordedRequest, point: Point | None, job: Job | None, now: float
    ) -> tuple[Reply, Fault | None]:
        if point is None:
            return standard_error(405, "Method not allowed"), None
        fault = self.plan.next(request, (point,), job.model.id if job is not None else None)
        if fault is not None and not fault.acts:
            return with_fault(fault, Reply()), fault
        reply = self._get(job, request.headers, now) if point == "link" else self._delete(job, now)
        return (reply if fault is None else with_fault(fault, reply)), fault

    def _find(self, path: str, signature: str | None) -> Job | None:
        """Return the job whose link this is."""
        named = _LINK.fullmatch(path)
        job = self.jobs.find(named[1]) if named else None
        return job if job is not None and job.token == signature else None

    def _get(self, job: Job | None, headers: Mapping[str, str], now: float) -> Reply:
        """Answer a GET; each one counts, whatever comes of it."""
        if job is None:
            return standard_error(404, "Not found")
        if self._gone(job, now):
            return standard_error(410, "This download link has expired")
        if job.gets >= self.gets:
            return standard_error(429, "This download link was used too often")
        job.gets += 1
        if not job.succeeds or not job.done(now) or job.clip is None:
            return standard_error(404, "Not found")
        if not job.linked(now):
            return standard_error(job.scenario.link_status, "Not found")
        clip, kind = job.media
        etag, modified = f'"{job.queue_id}-{len(clip)}"', self.clock.http_date(job.ready_at)
        common = {**kind, "ETag": etag, "Last-Modified": modified}
        if not self.ranges:
            return Reply(body=clip, headers=common)
        common["Accept-Ranges"] = "bytes"
        if headers.get("if-range", etag) not in {etag, modified}:
            return Reply(body=clip, headers=common)
        return _ranged(clip, headers.get("range", ""), common)

    def _delete(self, job: Job | None, now: float) -> Reply:
        """Answer a DELETE: the link and its clip are gone."""
        if job is None:
            return standard_error(404, "Not found")
        if self._gone(job, now):
            return standard_error(410, "This download link has expired")
        job.deleted, job.clip = True, b""
        return Reply(status=204)

    def _gone(self, job: Job, now: float) -> bool:
        return job.deleted or now >= job.queued_at + self.lifetime


def _ranged(clip: Clip, wanted: str, headers: dict[str, str]) -> Reply:
    """Return the single range `wanted` by RFC 9110, section 14; all of the clip for anything else."""
    named = _RANGE.fullmatch(wanted.strip())
    if named is None or not any(named.groups()):
        return Reply(body=clip, headers=headers)
    size = len(clip)
    if named[1]:
        first, last = int(named[1]), min(int(named[2] or size), size - 1)
        if named[2] and int(named[2]) < first:
            return Reply(body=clip, headers=headers)
    else:
        first, last = max(0, size - int(named[2])), size - 1
    if first >= size:
        headers = {**headers, "Content-Range": f"bytes */{size}", "Content-Type": "text/plain"}
        return Reply(status=416, headers=headers)
    headers = {**headers, "Content-Range": f"bytes {first}-{last}/{size}"}
    return Reply(status=206, body=memoryview(clip)[first : last + 1], headers=headers)


def _parsed(raw: bytes | None) -> Mapping[str, Any] | None:
    try:
        body: object = json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", body) if isinstance(body, dict) else None


def _with(reply: Reply, headers: dict[str, str]) -> Reply:
    return evolve(reply, headers={**reply.headers, **headers}) if headers else reply


def _record(
    request: web.BaseRequest,
    path: str,
    point: str,
    call: Call,
    *,
    origin: Literal["api", "link"] = "api",
) -> RecordedRequest:
    headers = {name.lower(): value for name, value in request.headers.items()}
    if "authorization" in headers:
        headers["authorization"] = "(not kept)"
    peer = request.get_extra_info("peername")
    return RecordedRequest(
        method=request.method,
        path=path,
        point=point,
        json=call.body,
        headers=headers,
        query=dict(call.query),
        body=call.raw,
        target=request.raw_path,
        connection=peer[1] if peer else 0,
        at=call.now,
        origin=origin,
    )
