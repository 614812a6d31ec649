"""Answers the requests to the sandbox, without any socket."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from attrs import evolve

from .catalogue import ENDS, CatalogueModel
from .clips.renderer import ClipRenderer
from .consent import ConsentRecord
from .jobs import Job, SandboxJobs
from .limits import RateLimiter
from .options import Options
from .records import RecordedRequest
from .replies import Refused, Reply, coded_error, detailed_error, json_reply, standard_error
from .scenarios import Scenario
from .validation import check_job, check_queue, check_quote, parse

_UNKNOWN = {
    400: "Request ID is invalid.",
    404: "Media could not be found. Request may be invalid, expired, or deleted.",
}
_SAY_REFUND = frozenset({"content_policy", "provider_failed", "media_refused"})
_MODEL_TYPES = frozenset(
    "all asr code embedding image inpaint music text tts upscale video".split()  # noqa: SIM905 - as in the document
)
_LEDGER_FILTERS = frozenset({"startTimestamp", "endTimestamp", "pageSize", "currency"})
_PAGE_SIZES = frozenset(map(str, range(10, 1001)))
_LINK = re.compile(r"/media/([0-9a-f-]{8,36})\.mp4")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")

Stage = Literal[400, 404, "running", "failed", "unfetched", "link", "url", "inline"]
"""What a poll finds: nothing of that id or name, a job in one of its states, or how its clip is had."""


class Venice:
    """The server behind both origins: its jobs, its limits, and the answer to each request.

    Attributes:
        epoch: the Unix time at zero of the event loop's clock, by the server's clock.
        link_base: the origin of links, once it is known.
    """

    def __init__(self, options: Options) -> None:
        self.now: Callable[[], float] = asyncio.get_running_loop().time
        self.epoch: float = time.time() - self.now() + options.clock_skew
        self.options = options
        self.models: dict[str, CatalogueModel] = {model.id: model for model in options.models}
        self.jobs: SandboxJobs = SandboxJobs(options)
        self.limiter: RateLimiter = RateLimiter(options, self.epoch, self.now())
        self.renderer: ClipRenderer = ClipRenderer(options.clips)
        self.link_base = ""
        self._consent = ConsentRecord()

    def http_date(self, moment: float) -> str:
        """Return a moment of the loop's clock as an HTTP date."""
        return formatdate(self.epoch + moment, usegmt=True)

    async def prepared(self, request: RecordedRequest) -> RecordedRequest:
        """Make the clip that answers a request; a poll that it answers becomes the point `video`."""
        job = self.job_of(request)
        if job is None or not job.done(request.at):
            return request
        if request.point == "link":
            await self.renderer.make(job)
        if request.point == "retrieve" and self._stage(job, request) == "inline":
            await self.renderer.make(job)
            if job.succeeds:
                return evolve(request, point="video")
        return request

    def answer(self, request: RecordedRequest) -> Reply:
        """Act on one request."""
        left = self._left(request)
        try:
            reply = _ANSWERS[request.point](self, request)
        except Refused as refused:
            reply = refused.reply
        if request.origin == "link":
            return reply
        model = self.models.get(str(_fields(request).get("model")))
        if model is not None and model.replaced_by is not None:
            warning = f"{model.id} is deprecated and will be removed. Please use {model.replaced_by}."
            reply = reply.with_headers(
                {"x-venice-model-deprecation-warning": warning, "x-venice-model-deprecation-date": ENDS}
            )
        if request.point == "queue":  # what was left before the request
            reply = reply.with_headers({"x-venice-balance-usd": f"{left:.4f}", "x-venice-balance-diem": "0"})
        return reply

    def limit_of(self, request: RecordedRequest) -> str | None:
        """Return which limit a request counts for, if any: of quotes only those for upscaling."""
        if request.point == "quote":
            model = self.models.get(str(_fields(request).get("model")))
            return "upscale_quote" if model is not None and model.upscales else None
        return {"queue": "queue", "retrieve": "retrieve", "video": "retrieve"}.get(request.point)

    def model_of(self, request: RecordedRequest) -> object:
        """Return the id of the model that a request is for: of a link, that of its job."""
        if request.origin == "api":
            return _fields(request).get("model")
        job = self.job_of(request)
        return None if job is None else job.model.id

    def link_of(self, job: Job) -> str:
        """Return the URL of a job's link: a bearer secret."""
        return f"{self.link_base}/media/{job.queue_id}.mp4?signature={job.token}"

    def list_models(self, request: RecordedRequest) -> Reply:
        """`GET /models`."""
        wanted = request.query.get("type", "text")
        if wanted not in _MODEL_TYPES:
            raise Refused(detailed_error([(("type",), "Invalid enum value")]))
        data = [model.listing() for model in self.models.values()] if wanted in {"video", "all"} else []
        return json_reply(200, {"data": data, "object": "list", "type": wanted})

    def quote(self, request: RecordedRequest) -> Reply:
        """`POST /video/quote`; upscalers read the clip, for which a key is needed."""
        body = parse(request)
        model = self._model(body)
        if model.upscales and "authorization" not in request.headers:
            return standard_error(403, "Authentication is required to quote upscale models")
        check_quote(body, model)
        return json_reply(200, {"quote": model.price(body)})

    def queue(self, request: RecordedRequest) -> Reply:
        """`POST /video/queue`."""
        body = parse(request)
        model = self._model(body)
        check_queue(body, model, strict=self.options.strict)
        scenario = self.jobs.scenario(model.id)
        if model.offline:
            return coded_error(503, "MODEL_OFFLINE", "The model is offline. Please try again later.")
        if scenario.outcome in _REFUSALS:
            self.jobs.serve(model.id)
            return _REFUSALS[scenario.outcome](scenario)
        asked = self._consent.ask(body, scenario.consent or ("face_media" if model.asks_consent else "never"))
        if asked is not None:
            return asked
        if model.price(body) > self._left(request):
            return coded_error(402, "INSUFFICIENT_BALANCE", "Insufficient balance to complete this request")
        job = self.jobs.open(model, body, request.at)
        ticket: dict[str, Any] = {
            "model": model.id,
            "queue_id": int(job.queue_id) if scenario.numeric_id else job.queue_id,
        }
        ticket |= {"download_url": self.link_of(job)} if job.delivery == "link" else {}
        return json_reply(200, {scenario.ticket_in: ticket} if scenario.ticket_in else ticket)

    def retrieve(self, request: RecordedRequest) -> Reply:
        """`POST /video/retrieve`."""
        body, now = parse(request), request.at
        check_job(body, optional=("delete_media_on_completion",))
        job = self.job_of(request)
        if job is None:
            return standard_error(400, _UNKNOWN[400])
        match self._stage(job, request):
            case 400 | 404 as status:
                return standard_error(status, _UNKNOWN[status])
            case "running":
                if job.done(now):
                    job.polls -= 1
                return _status(job, "PROCESSING", now)
            case "failed":
                return _failure(job, now)
            case "unfetched":
                job.unfetched -= 1
                return standard_error(502, "The video could not be fetched from the provider")
            case "link":
                return _status(job, "COMPLETED", now)
            case "url":
                link = {"url": self.link_of(job)} if job.linked(now) else {}
                return _status(job, "completed", now, **link)
            case "inline":
                job.deleted = body.get("delete_media_on_completion", False)
                clip, headers = job.media
                return Reply(body=clip, headers=headers)

    def complete(self, request: RecordedRequest) -> Reply:
        """`POST /video/complete`: deletes a clip; it neither cancels nor refunds a job that is running."""
        model, queue_id = check_job(parse(request))
        job, completes = self.jobs.find(queue_id), self.options.completes
        if job is None or job.model.id != model or job.delivery == "link" or completes == "invalid":
            return standard_error(400, _UNKNOWN[400])
        if job.done(request.at) and completes == "deletes":
            job.deleted, job.clip = True, b""
        return json_reply(200, {"success": job.deleted})

    def link(self, request: RecordedRequest) -> Reply:
        """GET a link; every request counts against the limit, answered or not."""
        job, now = self._linked(request), request.at
        if job.gets >= self.options.link_gets:
            return standard_error(429, "This download link was used too often")
        job.gets += 1
        if not job.succeeds or not job.done(now) or job.clip is None:
            return standard_error(404, "Not found")
        if not job.linked(now):
            return standard_error(job.scenario.link_status, "Not found")
        clip, kind = job.media
        size, etag, modified = len(clip), f'"{job.queue_id}-{len(clip)}"', self.http_date(job.ready_at)
        whole = Reply(body=clip, headers={**kind, "ETag": etag, "Last-Modified": modified})
        if not self.options.link_ranges:
            return whole
        whole = whole.with_headers({"Accept-Ranges": "bytes"})
        # A single range by RFC 9110, section 14; all of the clip for anything else.
        named = _RANGE.fullmatch(request.headers.get("range", "").strip())
        start, end = named.groups() if named else ("", "")
        if not start + end or (start and end and int(end) < int(start)):
            return whole
        if request.headers.get("if-range", etag) not in {etag, modified}:
            return whole
        first = int(start) if start else max(0, size - int(end))
        last = min(int(end), size - 1) if start and end else size - 1
        if first >= size:
            return evolve(whole, status=416, body=b"").with_headers(
                {"Content-Range": f"bytes */{size}", "Content-Type": "text/plain"}
            )
        part = evolve(whole, status=206, body=memoryview(clip)[first : last + 1])
        return part.with_headers({"Content-Range": f"bytes {first}-{last}/{size}"})

    def revoke(self, request: RecordedRequest) -> Reply:
        """DELETE a link: it and its clip are gone."""
        job = self._linked(request)
        job.deleted, job.clip = True, b""
        return Reply(status=204)

    def rate_limits(self, request: RecordedRequest) -> Reply:
        """`GET /api_keys/rate_limits`."""
        left = round(self._left(request), 4)
        tomorrow = datetime.fromtimestamp(self.epoch + request.at, UTC) + timedelta(days=1)
        data: dict[str, Any] = {
            "accessPermitted": left > 0,
            "apiTier": {"id": "paid", "isCharged": True},
            "balances": {"USD": left, "DIEM": 0},
            "keyExpiration": None,
            "nextEpochBegins": tomorrow.strftime("%Y-%m-%dT00:00:00.000Z"),
            "rateLimits": [],  # it lists nothing for video models
        }
        return json_reply(200, {"data": data})

    def show_balance(self, request: RecordedRequest) -> Reply:
        """`GET /billing/balance`."""
        left = round(self._left(request), 4)
        content = {
            "canConsume": left > 0,
            "consumptionCurrency": "USD",
            "balances": {"diem": 0, "usd": left},
            "diemEpochAllocation": 0,
        }
        return json_reply(200, content)

    def show_ledger(self, request: RecordedRequest) -> Reply:
        """`GET /billing/usage-history`: a charge for each job, and refunds, in order, a page at a time.

        A query is either filters or a cursor alone, as at the vendor's: anything else is refused.
        """
        wanted, offset = dict(request.query), 0
        if "cursor" in wanted:
            if len(wanted) > 1:
                raise Refused(standard_error(400, "cursor excludes all other parameters"))
            cursor = wanted["cursor"]
            try:
                filters, start_at = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
                wanted, offset = dict(filters), int(start_at)
            except (ValueError, TypeError):
                message = "Invalid or expired cursor; restart from the first page"
                raise Refused(standard_error(400, message)) from None
        size = wanted.get("pageSize", "1000")
        if not wanted.keys() <= _LEDGER_FILTERS or size not in _PAGE_SIZES:
            raise Refused(standard_error(400, "Invalid query parameters"))
        try:
            start = datetime.fromisoformat(wanted.get("startTimestamp", "0001-01-01T00:00:00Z")).timestamp()
            end = datetime.fromisoformat(wanted.get("endTimestamp", "9999-12-31T00:00:00Z")).timestamp()
        except ValueError:
            raise Refused(standard_error(400, "Invalid timestamp")) from None
        moved = [(job.queued_at, -job.usd, job) for job in self.jobs.all()]
        moved += [(job.ready_at, job.usd, job) for _, _, job in moved if job.refunded(request.at)]
        rows: list[dict[str, Any]] = []
        for moment, usd, job in sorted(moved, key=lambda entry: entry[0]):
            if start <= moment + self.epoch < end and wanted.get("currency") in {None, "USD"}:
                at = datetime.fromtimestamp(moment + self.epoch, UTC)
                rows.append(
                    {
                        "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                        "sku": f"{job.model.id}-video-second",
                        "units": 1,
                        "pricePerUnitUsd": abs(usd),
                        "amount": usd,
                        "currency": "USD",
                        "notes": "API Inference" if usd < 0 else "Refund",
                        "inferenceDetails": {"requestId": job.queue_id, "inferenceExecutionTime": None},
                    }
                )
        until = offset + int(size)
        more = base64.urlsafe_b64encode(json.dumps([wanted, until]).encode()).decode().rstrip("=")
        return json_reply(
            200, {"data": rows[offset:until], "nextCursor": more if until < len(rows) else None}
        )

    def _model(self, body: Mapping[str, Any]) -> CatalogueModel:
        name = body.get("model")
        if not isinstance(name, str):
            message = "Required" if "model" not in body else "Expected string"
            raise Refused(detailed_error([(("model",), message)]))
        if name not in self.models:
            raise Refused(detailed_error([(("model",), "Specified model not found")]))
        return self.models[name]

    def job_of(self, request: RecordedRequest) -> Job | None:
        """Return the job that a request names, by its id or by its link."""
        if request.origin == "api":
            return self.jobs.find(str(_fields(request).get("queue_id")))
        named = _LINK.fullmatch(request.path)
        job = self.jobs.find(named[1]) if named else None
        signature = parse_qs(urlsplit(request.target).query).get("signature")
        return job if job is not None and signature == [job.token] else None

    def _linked(self, request: RecordedRequest) -> Job:
        """Return the job of a link that is still good."""
        job = self.job_of(request)
        if job is None:
            raise Refused(standard_error(404, "Not found"))
        if self._gone(job, request.at):
            raise Refused(standard_error(410, "This download link has expired"))
        return job

    def _stage(self, job: Job, request: RecordedRequest) -> Stage:
        """Return what a poll finds; nothing is changed by asking."""
        now = request.at
        if now >= job.queued_at + self.options.id_lifetime:
            return 400
        if _fields(request).get("model") != job.model.id:
            return 404
        if now < job.queued_at + job.scenario.unknown_for:
            return job.scenario.unknown_status
        if job.delivery != "link" and self._gone(job, now):
            return 404
        if not job.done(now) or job.polls:
            return "running"
        if not job.succeeds:
            return "failed"
        return "unfetched" if job.unfetched else job.delivery

    def _gone(self, job: Job, now: float) -> bool:
        return job.deleted or now >= job.queued_at + self.options.media_lifetime

    def _left(self, request: RecordedRequest) -> float:
        return self.options.balance - self.jobs.spent(request.at)


_ANSWERS: Mapping[str, Callable[[Venice, RecordedRequest], Reply]] = {
    "models": Venice.list_models,
    "quote": Venice.quote,
    "queue": Venice.queue,
    "retrieve": Venice.retrieve,
    "video": Venice.retrieve,
    "complete": Venice.complete,
    "link": Venice.link,
    "revoke": Venice.revoke,
    "rate_limits": Venice.rate_limits,
    "balance": Venice.show_balance,
    "ledger": Venice.show_ledger,
}

_REFUSALS: Mapping[str, Callable[[Scenario], Reply]] = {
    "prompt_refused": lambda scenario: json_reply(
        422,
        {"error": "Your prompt violates the content policy of Venice.ai or the model provider"}
        | ({"suggested_prompt": scenario.suggested_prompt} if scenario.suggested_prompt else {}),
    ),
    "region_blocked": lambda _: standard_error(403, "The specified model is unavailable in your region."),
    "overloaded": lambda _: coded_error(
        429, "MODEL_OVERLOADED", "The model is currently overloaded. Please try again later."
    ).with_headers({"Retry-After": "30"}),
}
"""By outcome: the answers to a request that is refused before it is charged."""

_FAILURES: Mapping[str, tuple[int, dict[str, Any]]] = {
    "provider_failed": (422, {"error": "The model provider failed to generate the video"}),
    "media_refused": (
        422,
        {"error": "The video is longer than the model takes", "code": "VIDEO_DURATION_TOO_LONG"},
    ),
    "inference_failed": (500, {"error": "Inference processing failed"}),
}


def _fields(request: RecordedRequest) -> Mapping[str, Any]:
    return request.json or {}


def _status(job: Job, name: str, now: float, **more: object) -> Reply:
    """Return a JSON status; its times are those that the client sees, `speed` included."""
    running = now - job.queued_at
    duration = running if name == "PROCESSING" else min(running, job.execution)
    content = {
        "status": name,
        "average_execution_time": round(job.p80 * 1000),
        "execution_duration": round(duration * 1000),
    }
    return json_reply(200, content | more)


def _failure(job: Job, now: float) -> Reply:
    """Return how a job that has failed answers a poll, and every later one."""
    scenario = job.scenario
    outcome = "inference_failed" if job.broken else scenario.outcome
    told = outcome in _SAY_REFUND if scenario.tells_refund is None else scenario.tells_refund
    money = {"credits_refunded": scenario.credits_refunded} if told else {}
    match outcome:
        case "capacity":
            return coded_error(503, "MODEL_AT_CAPACITY", "The model is at capacity. Please try again later.")
        case "content_policy":
            message = "The selected model provider rejected this request due to its content policies."
            message += " Credits have been refunded." if told and scenario.credits_refunded else ""
            error: dict[str, Any] = {"message": message, "type": "provider_content_policy", **money}
            if scenario.recommended_model is not None:
                error["message"] += f" Try using {scenario.recommended_model} instead."
                error["recommended_model"] = scenario.recommended_model
            return json_reply(422, {"error": error})
        case "failed":
            return _status(job, "FAILED", now, error="The generation failed", **money)
        case "invalid":
            message = "The request failed validation at the provider"
            content = {"error": message, "details": message, "request_id": f"upstream-{job.queue_id}"}
            return json_reply(400, content | money)
        case _:
            status, content = _FAILURES[outcome]
            hint = {"hint": scenario.hint} if outcome == "provider_failed" else {}
            return json_reply(status, content | money | hint)
