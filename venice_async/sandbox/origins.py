"""The two origins: a request is read, recorded, perhaps struck by a fault, and answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from aiohttp import web
from attrs import define, evolve, field

from .faults import FaultPlan, with_fault
from .records import RecordedRequest
from .replies import Reply, coded_error, standard_error
from .scenarios import Point
from .venice import Venice
from .wire import LARGEST_BODY, read_request, send

PREFIX = "/api/v1"

_CALLS: Mapping[str, tuple[str, Point]] = {
    "/models": ("GET", "models"),
    "/video/quote": ("POST", "quote"),
    "/video/queue": ("POST", "queue"),
    "/video/retrieve": ("POST", "retrieve"),
    "/video/complete": ("POST", "complete"),
    "/api_keys/rate_limits": ("GET", "rate_limits"),
    "/billing/balance": ("GET", "balance"),
    "/billing/usage-history": ("GET", "ledger"),
}
_KEYLESS = frozenset({"models", "quote"})


@define(eq=False)
class Origins:
    """Serves the API, and on an origin of its own the links, where no key is asked for and none may be sent.

    Attributes:
        requests: every request, with what was answered.
        leaks: requests to a link that carried the API key.
    """

    venice: Venice
    plan: FaultPlan
    requests: list[RecordedRequest] = field(repr=False)
    leaks: list[RecordedRequest] = field(repr=False)

    async def handle(self, asked: web.BaseRequest, origin: Literal["api", "link"]) -> web.StreamResponse:
        """Answer one request. A block comes first, then the key, the rate limits, a fault, and the call."""
        venice, path = self.venice, asked.path
        if origin == "link":
            point = {"GET": "link", "DELETE": "revoke"}.get(asked.method, "")
        else:
            path = path.removeprefix(PREFIX)
            method, named = _CALLS.get(path, ("", ""))
            point = named if asked.path.startswith(PREFIX) and asked.method == method else ""
        request, too_large = await read_request(asked, origin=origin, path=path, point=point, now=venice.now)
        reply = self._refusal(request, asked.headers.get("Authorization"), too_large=too_large)
        fault = None
        if reply is None:
            request = await venice.prepared(request)
            headers, reply = venice.limiter.take(venice.limit_of(request), request.at)
            if reply is None:
                fault = self.plan.next(request, venice.model_of(request))
                reply = venice.answer(request) if fault is None or fault.acts else Reply()
            reply = reply.with_headers(headers)
        if fault is not None:
            reply = with_fault(fault, reply)
        status = None if fault is not None and fault.silent else reply.status
        if origin == "api":
            number = {"x-request-id": f"sandbox-{len(self.requests) + 1}"}
            failures = venice.limiter.answered(status, request.at)
            reply = evolve(reply, headers={**number, **reply.headers, **failures})
        request = evolve(request, status=status)
        self.requests.append(request)
        key = venice.options.api_key
        if origin == "link" and any(key in text for text in (asked.path_qs, *asked.headers.values())):
            self.leaks.append(request)
        return await send(asked, reply, fault, date=venice.http_date(request.at))

    def _refusal(self, request: RecordedRequest, key: str | None, *, too_large: bool) -> Reply | None:
        """Return the answer to a request that is no call, or that may not be made."""
        if request.origin == "api":
            blocked = self.venice.limiter.blocked(request.at)
            if blocked is not None:
                return blocked
            options = self.venice.options
            keys = {f"Bearer {options.admin_key}"}
            if request.point != "ledger":
                keys.add(f"Bearer {options.api_key}")
            if key not in keys and (key is not None or request.point not in _KEYLESS):
                return standard_error(401, "Authentication failed")
            if too_large:
                size = LARGEST_BODY // 1024**2
                message = f"Request exceeds the maximum allowed size of {size} MB."
                return coded_error(413, "PAYLOAD_TOO_LARGE", message)
            if not request.point and request.path not in _CALLS:
                return standard_error(404, "The requested resource was not found")
        return None if request.point else standard_error(405, "Method not allowed")
