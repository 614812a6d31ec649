"""The two origins: they read requests, record them with their answers, and send the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, cast

from aiohttp import web
from attrs import define, evolve

from .clips.studio import Studio
from .faults import FaultPlan, bend
from .jobs import Job
from .link import LinkHost
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
        points: tuple[Point, ...] = () if point is None else (point,)
        call = Call(
            query=request.query,
            content_type=request.headers.get("Content-Type", ""),
            raw=raw or b"",
            body=_parsed(raw),
            keyed="Authorization" in request.headers,
            now=now,
        )
        reply, fault = self._turned_away(request, point, raw, now), None
        if reply is None and point is not None:
            if point == "retrieve" and await self.venice.delivers(call.body, now):
                points = ("retrieve", "video")
            reply, fault = self._answer(point, points, call)
        reply = _numbered(reply or _no_route(path), len(self.requests) + 1)
        status = None if fault is not None and fault.silent else reply.status
        if status is not None and status in _FAILED:
            self.venice.gate.failed(now)
        reply = _with(reply, self.venice.gate.failure_headers(now))
        self.requests.append(_record(request, path, points[-1] if points else "", call, status))
        return await send(request, reply, fault, date=self.venice.clock.http_date(now))

    def _turned_away(
        self, request: web.BaseRequest, point: Point | None, raw: bytes | None, now: float
    ) -> Reply | None:
        blocked = self.venice.gate.blocked(now)
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

    def _answer(self, point: Point, points: tuple[Point, ...], call: Call) -> tuple[Reply, Fault | None]:
        headers: dict[str, str] = {}
        if (kind := self.venice.rated(point, call.body)) is not None:
            headers, refusal = self.venice.gate.take(kind, call.now)
            if refusal is not None:
                return _with(refusal, headers), None
        model = (call.body or {}).get("model")
        fault = self.plan.next(points, model)
        acts = fault is None or fault.acts
        reply = _with(self.venice.answer(point, call) if acts else Reply(), headers)
        return (reply if fault is None else bend(fault, reply)), fault


@define(eq=False, kw_only=True)
class LinkOrigin:
    """Serves the links: no key is asked for, and none may be sent."""

    links: LinkHost
    studio: Studio
    plan: FaultPlan
    api_key: str
    requests: list[RecordedRequest]
    leaks: list[RecordedRequest]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        raw = await read_body(request)
        now = self.links.clock.now()
        points: dict[str, Point] = {"GET": "link", "DELETE": "revoke"}
        point = points.get(request.method)
        job = self.links.find(request.path, request.query.get("signature"))
        if job is not None and point == "link" and job.done(now):
            await self.studio.make(job)
        reply, fault = self._answer(request, point, job, now)
        call = Call(query={}, content_type="", raw=raw or b"", body=_parsed(raw), now=now)
        status = None if fault is not None and fault.silent else reply.status
        record = _record(request, request.path, point or "", call, status, origin="link")
        self.requests.append(record)
        if self.api_key in request.path_qs or any(
            self.api_key in value for value in request.headers.values()
        ):
            self.leaks.append(record)
        return await send(request, reply, fault, date=self.links.clock.http_date(now))

    def _answer(
        self, request: web.BaseRequest, point: Point | None, job: Job | None, now: float
    ) -> tuple[Reply, Fault | None]:
        if point is None:
            return standard_error(405, "Method not allowed"), None
        fault = self.plan.next((point,), job.model.id if job is not None else None)
        if fault is not None and not fault.acts:
            return bend(fault, Reply()), fault
        headers = {name.lower(): value for name, value in request.headers.items()}
        reply = self.links.get(job, headers, now) if point == "link" else self.links.delete(job, now)
        return (reply if fault is None else bend(fault, reply)), fault


def _parsed(raw: bytes | None) -> Mapping[str, Any] | None:
    try:
        body: object = json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", body) if isinstance(body, dict) else None


def _with(reply: Reply, headers: dict[str, str]) -> Reply:
    return evolve(reply, headers={**reply.headers, **headers}) if headers else reply


def _numbered(reply: Reply, number: int) -> Reply:
    return evolve(reply, headers={"x-request-id": f"sandbox-{number}", **reply.headers})


def _no_route(path: str) -> Reply:
    if path in _PATHS:
        return standard_error(405, "Method not allowed")
    return standard_error(404, "The requested resource was not found")


def _record(
    request: web.BaseRequest,
    path: str,
    point: str,
    call: Call,
    status: int | None,
    *,
    origin: Literal["api", "link"] = "api",
) -> RecordedRequest:
    headers = {name.lower(): value for name, value in request.headers.items()}
    if "authorization" in headers:
        headers["authorization"] = "(not kept)"
    return RecordedRequest(
        method=request.method,
        path=path,
        point=point,
        json=call.body,
        headers=headers,
        query=dict(call.query),
        status=status,
        at=call.now,
        origin=origin,
    )
