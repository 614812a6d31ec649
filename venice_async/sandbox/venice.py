"""Answers the requests to the sandbox, without any socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from attrs import define, evolve, field, frozen

from .clips.renderer import ClipRenderer
from .clock import LoopClock
from .consent import ConsentRecord
from .jobs import Job, SandboxJobs, price
from .ledger import ledger_page
from .limits import Kind, RateLimiter
from .model import ENDS, CatalogueModel
from .replies import (
    Refused,
    Reply,
    coded_error,
    detailed_error,
    json_reply,
    prompt_refused,
    provider_policy,
    standard_error,
)
from .scenarios import Point, Scenario
from .validation import check_job, check_queue, check_quote, parse

_UNKNOWN_MEDIA = "Media could not be found. Request may be invalid, expired, or deleted."
_UNKNOWN_ID = "Request ID is invalid."
_UNKNOWN = {400: _UNKNOWN_ID, 404: _UNKNOWN_MEDIA}
_TOLD = frozenset({"content_policy", "provider_failed", "media_refused"})
_MODEL_TYPES = frozenset(
    "all asr code embedding image inpaint music text tts upscale video".split()  # noqa: SIM905 - as in the document
)


@frozen(kw_only=True)
class Call:
    """One request to the API, its body read.

    Attributes:
        query: the query's parameters.
        content_type: the request's Content-Type.
        raw: the body.
        body: the body, parsed, when it is a JSON object.
        keyed: whether it came with the key.
        now: when it arrived, in seconds of the event loop's clock.
    """

    query: Mapping[str, str]
    content_type: str
    raw: bytes = field(repr=False)
    body: Mapping[str, Any] | None
    keyed: bool = True
    now: float

    def json(self) -> Mapping[str, Any]:
        """Return the body; raise `Refused` if it is not sent as JSON, or not a JSON object."""
        if self.body is None or "json" not in self.content_type:
            return parse(self.raw, self.content_type)
        return self.body


Completes = Literal["deletes", "invalid", "fails"]
"""What `/video/complete` does: it deletes, answers 400 to every id, or says `"success": false`."""


@define(eq=False, kw_only=True)
class Venice:
    """Answers the API's calls.

    Attributes:
        models: the catalogue by id.
        balance: what the account held at the start, in USD.
        media_lifetime: seconds for which a clip and its link are kept, counted from when the job was queued.
        id_lifetime: seconds for which the job's id is known, counted alike.
        completes: what becomes of a clean-up.
        strict: whether `aspect_ratio` is needed wherever the catalogue lists any.
        link_base: the origin of links, once it is known.
    """

    models: Mapping[str, CatalogueModel]
    jobs: SandboxJobs
    renderer: ClipRenderer
    limiter: RateLimiter
    clock: LoopClock
    balance: float
    media_lifetime: float
    id_lifetime: float
    completes: Completes = "deletes"
    strict: bool = False
    link_base: str = ""
    _consent: ConsentRecord = field(factory=ConsentRecord, init=False)

    def answer(self, point: Point, call: Call) -> Reply:
        """Act on one call."""
        left = self._left(call.now)
        try:
            reply = _ANSWERS[point](self, call)
        except Refused as turned_down:
            reply = turned_down.reply
        model = self.models.get(str((call.body or {}).get("model")))
        news = {}
        if model is not None and model.replaced_by is not None:
            warning = f"{model.id} is deprecated and will be removed. Please use {model.replaced_by}."
            news = {"x-venice-model-deprecation-warning": warning, "x-venice-model-deprecation-date": ENDS}
        if point == "queue":  # what was left before the request
            news |= {"x-venice-balance-usd": f"{left:.4f}", "x-venice-balance-diem": "0"}
        return evolve(reply, headers={**reply.headers, **news}) if news else reply

    def rated(self, point: Point, body: Mapping[str, Any] | None) -> Kind | None:
        """Return which limit a call counts for, if any: of quotes only those for upscaling."""
        if point == "quote":
            model = self.models.get(str((body or {}).get("model")))
            return "upscale_quote" if model is not None and model.upscales else None
        return point if point == "queue" or point == "retrieve" else None  # noqa: PLR1714 - which pyright narrows

    async def delivers(self, body: Mapping[str, Any] | None, now: float) -> bool:
        """Whether a poll with this body is answered by a clip, which is made if it is."""
        job = self.jobs.find(str((body or {}).get("queue_id")))
        if job is None or job.delivery != "inline" or job.unfetched or self._gone(job, now):
            return False
        if now >= job.queued_at + self.id_lifetime:
            return False
        if not job.known(now) or not job.done(now) or job.polls:
            return False
        await self.renderer.make(job)
        return job.succeeds

    def link_of(self, job: Job) -> str:
        """Return the URL of a job's link: a bearer secret."""
        return f"{self.link_base}/media/{job.queue_id}.mp4?signature={job.token}"

    def list_models(self, call: Call) -> Reply:
        """`GET /models`."""
        wanted = call.query.get("type", "text")
        if wanted not in _MODEL_TYPES:
            raise Refused(detailed_error([(("type",), "Invalid enum value")]))
        data = [model.listing() for model in self.models.values()] if wanted in {"video", "all"} else []
        return json_reply(200, {"data": data, "object": "list", "type": wanted})

    def quote(self, call: Call) -> Reply:
        """`POST /video/quote`; upscalers read the clip, for which a key is needed."""
        body = call.json()
        model = self._model(body)
        if model.upscales and not call.keyed:
            return standard_error(403, "Authentication is required to quote upscale models")
        check_quote(body, model)
        return json_reply(200, {"quote": price(model, body)})

    def queue(self, call: Call) -> Reply:
        """`POST /video/queue`."""
        body = call.json()
        model = self._model(body)
        check_queue(body, model, strict=self.strict)
        scenario = self.jobs.scenario(model.id)
        if model.offline:
            raise Refused(coded_error(503, "MODEL_OFFLINE", "The model is offline. Please try again later."))
        refusal = _refused(scenario)
        if refusal is not None:
            self.jobs.serve(model.id)
            raise Refused(refusal)
        asked = self._consent.ask(body, scenario.consent or ("face_media" if model.asks_consent else "never"))
        if asked is not None:
            raise Refused(asked)
        if price(model, body) > self._left(call.now):
            raise Refused(
                coded_error(402, "INSUFFICIENT_BALANCE", "Insufficient balance to complete this request")
            )
        job = self.jobs.open(model, body, call.now)
        ticket: dict[str, Any] = {
            "model": model.id,
            "queue_id": int(job.queue_id) if scenario.numeric_id else job.queue_id,
        }
        ticket |= {"download_url": self.link_of(job)} if job.delivery == "link" else {}
        return json_reply(200, {scenario.ticket_in: ticket} if scenario.ticket_in else ticket)

    def retrieve(self, call: Call) -> Reply:
        """`POST /video/retrieve`."""
        body = call.json()
        model, queue_id = check_job(body, optional=("delete_media_on_completion",))
        job = self.jobs.find(queue_id)
        if job is None or call.now >= job.queued_at + self.id_lifetime:
            return standard_error(400, _UNKNOWN_ID)
        if job.model.id != model:
            return standard_error(404, _UNKNOWN_MEDIA)
        if not job.known(call.now):
            return standard_error(job.scenario.unknown_status, _UNKNOWN[job.scenario.unknown_status])
        if job.delivery != "link" and self._gone(job, call.now):
            return standard_error(404, _UNKNOWN_MEDIA)
        if not job.done(call.now):
            return _status(job, "PROCESSING", call.now)
        if job.polls:
            job.polls -= 1
            return _status(job, "PROCESSING", call.now)
        if not job.succeeds:
            return _failure(job, call.now)
        if job.unfetched:
            job.unfetched -= 1
            return standard_error(502, "The video could not be fetched from the provider")
        if job.delivery == "link":
            return _status(job, "COMPLETED", call.now)
        if job.delivery == "url":
            link = {"url": self.link_of(job)} if job.linked(call.now) else {}
            return _status(job, "completed", call.now, **link)
        job.deleted = body.get("delete_media_on_completion", False)
        clip, headers = job.media
        return Reply(body=clip, headers=headers)

    def complete(self, call: Call) -> Reply:
        """`POST /video/complete`: deletes a clip; it neither cancels nor refunds a job that is running."""
        model, queue_id = check_job(call.json())
        job = self.jobs.find(queue_id)
        if job is None or job.model.id != model or job.delivery == "link" or self.completes == "invalid":
            return standard_error(400, _UNKNOWN_ID)
        if job.done(call.now) and self.completes == "deletes":
            job.deleted, job.clip = True, b""
        return json_reply(200, {"success": job.deleted})

    def rate_limits(self, call: Call) -> Reply:
        """`GET /api_keys/rate_limits`."""
        left = round(self._left(call.now), 4)
        tomorrow = datetime.fromtimestamp(self.clock.unix(call.now), UTC) + timedelta(days=1)
        data: dict[str, Any] = {
            "accessPermitted": left > 0,
            "apiTier": {"id": "paid", "isCharged": True},
            "balances": {"USD": left, "DIEM": 0},
            "keyExpiration": None,
            "nextEpochBegins": tomorrow.strftime("%Y-%m-%dT00:00:00.000Z"),
            "rateLimits": [],  # it lists nothing for video models
        }
        return json_reply(200, {"data": data})

    def show_balance(self, call: Call) -> Reply:
        """`GET /billing/balance`."""
        left = round(self._left(call.now), 4)
        content = {
            "canConsume": left > 0,
            "consumptionCurrency": "USD",
            "balances": {"diem": 0, "usd": left},
            "diemEpochAllocation": 0,
        }
        return json_reply(200, content)

    def show_ledger(self, call: Call) -> Reply:
        """`GET /billing/usage-history`: charges and refunds, a page at a time."""
        return ledger_page(self.jobs.ledger(call.now), call.query, self.clock.unix(0.0))

    def _model(self, body: Mapping[str, Any]) -> CatalogueModel:
        name = body.get("model")
        if not isinstance(name, str):
            message = "Required" if "model" not in body else "Expected string"
            raise Refused(detailed_error([(("model",), message)]))
        if name not in self.models:
            raise Refused(detailed_error([(("model",), "Specified model not found")]))
        return self.models[name]

    def _gone(self, job: Job, now: float) -> bool:
        return job.deleted or now >= job.queued_at + self.media_lifetime

    def _left(self, now: float) -> float:
        return self.balance - self.jobs.spent(now)


_ANSWERS: Mapping[str, Callable[[Venice, Call], Reply]] = {
    "models": Venice.list_models,
    "quote": Venice.quote,
    "queue": Venice.queue,
    "retrieve": Venice.retrieve,
    "complete": Venice.complete,
    "rate_limits": Venice.rate_limits,
    "balance": Venice.show_balance,
    "ledger": Venice.show_ledger,
}


def _refused(scenario: Scenario) -> Reply | None:
    """Return the answer to a request that is refused before it is charged; None if it is accepted."""
    if scenario.outcome == "prompt_refused":
        return prompt_refused(scenario.suggested_prompt)
    if scenario.outcome == "region_blocked":
        return standard_error(403, "The specified model is unavailable in your region.")
    if scenario.outcome == "overloaded":
        message = "The model is currently overloaded. Please try again later."
        reply = coded_error(429, "MODEL_OVERLOADED", message)
        return Reply(status=429, body=reply.body, headers={**reply.headers, "Retry-After": "30"})
    return None


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
    if outcome == "capacity":
        return coded_error(503, "MODEL_AT_CAPACITY", "The model is at capacity. Please try again later.")
    told = outcome in _TOLD if scenario.tells_refund is None else scenario.tells_refund
    money = {"credits_refunded": scenario.credits_refunded} if told else {}
    match outcome:
        case "content_policy":
            return provider_policy(
                money, refunded=scenario.credits_refunded, recommended=scenario.recommended_model
            )
        case "provider_failed":
            content = {
                "error": "The model provider failed to generate the video",
                **money,
                "hint": scenario.hint,
            }
            return json_reply(422, content)
        case "media_refused":
            message = "The video is longer than the model takes"
            return json_reply(422, {"error": message, "code": "VIDEO_DURATION_TOO_LONG", **money})
        case "failed":
            return _status(job, "FAILED", now, error="The generation failed", **money)
        case "invalid":
            message = "The request failed validation at the provider"
            return json_reply(
                400, {"error": message, "details": message, "request_id": f"upstream-{job.queue_id}", **money}
            )
        case _:
            return json_reply(500, {"error": "Inference processing failed", **money})
