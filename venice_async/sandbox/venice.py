"""The mind of the sandbox: requests in, answers out, and no socket anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import define, field, frozen

from .clips.studio import Studio
from .clock import LoopClock
from .consent import ConsentDesk
from .jobs import Job, JobBook, price
from .limits import Kind, RateGate
from .model import CatalogueModel
from .outcomes import failure, refused, status
from .replies import (
    Refused,
    Reply,
    coded_error,
    detailed_error,
    json_reply,
    standard_error,
)
from .scenarios import Point, Scenario
from .validation import check_job, check_queue, check_quote, parse

_UNKNOWN_MEDIA = "Media could not be found. Request may be invalid, expired, or deleted."
_UNKNOWN_ID = "Request ID is invalid"
_MODEL_TYPES = frozenset(
    "all asr code embedding image inpaint music text tts upscale video".split()  # noqa: SIM905 - as in the document
)
VIDEO = {"Content-Type": "video/mp4"}


@frozen(kw_only=True)
class Call:
    """One request to the API, its body read.

    Attributes:
        query: the query's parameters.
        content_type: the request's Content-Type.
        raw: the body.
        body: the body, parsed, when it is a JSON object.
        now: when it arrived, in seconds of the event loop's clock.
    """

    query: Mapping[str, str]
    content_type: str
    raw: bytes = field(repr=False)
    body: Mapping[str, Any] | None
    now: float

    def json(self) -> Mapping[str, Any]:
        """Return the body; raise `Refused` if it is not sent as JSON, or not a JSON object."""
        if self.body is None or "json" not in self.content_type:
            return parse(self.raw, self.content_type)
        return self.body


@define(eq=False, kw_only=True)
class Venice:
    """Answers the API's calls.

    Attributes:
        models: the catalogue by id.
        balance: what the account held at the start, in USD.
        media_lifetime: seconds for which a clip and its link are kept, counted from when the job was queued.
        link_base: the origin of links, once it is known.
    """

    models: Mapping[str, CatalogueModel]
    book: JobBook
    studio: Studio
    gate: RateGate
    clock: LoopClock
    balance: float
    media_lifetime: float
    link_base: str = ""
    _consent: ConsentDesk = field(factory=ConsentDesk, init=False)

    def answer(self, point: Point, call: Call) -> Reply:
        """Act on one call."""
        try:
            return _ANSWERS[point](self, call)
        except Refused as turned_down:
            return turned_down.reply

    def delivers(self, body: Mapping[str, Any] | None, now: float) -> bool:
        """Whether a poll with this body is answered by a clip."""
        job = self.book.find(str((body or {}).get("queue_id")))
        return (
            job is not None
            and job.delivery == "inline"
            and job.succeeds
            and job.done(now)
            and not self._gone(job, now)
        )

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
        """`POST /video/quote`."""
        body = call.json()
        model = self._model(body)
        check_quote(body, model)
        return json_reply(200, {"quote": price(model, body)})

    def queue(self, call: Call) -> Reply:
        """`POST /video/queue`."""
        body = call.json()
        model = self._model(body)
        check_queue(body, model)
        scenario = self.book.scenario(model.id)
        self._admit(body, model, scenario)
        if price(model, body) > self._left(call.now):
            raise Refused(
                coded_error(402, "INSUFFICIENT_BALANCE", "Insufficient balance to complete this request")
            )
        job = self.book.open(model, body, call.now)
        self.studio.begin(job)
        answer = {"model": model.id, "queue_id": job.queue_id}
        return json_reply(
            200, answer | ({"download_url": self.link_of(job)} if job.delivery == "link" else {})
        )

    def retrieve(self, call: Call) -> Reply:
        """`POST /video/retrieve`."""
        body = call.json()
        job = self._job(*check_job(body, optional=("delete_media_on_completion",)))
        if job.delivery != "link" and self._gone(job, call.now):
            return standard_error(404, _UNKNOWN_MEDIA)
        if not job.done(call.now):
            return status(job, "PROCESSING", call.now)
        if not job.succeeds:
            return failure(job, call.now)
        if job.delivery == "link":
            return status(job, "COMPLETED", call.now)
        if job.delivery == "url":
            return status(job, "completed", call.now, url=self.link_of(job))
        job.deleted = body.get("delete_media_on_completion", False)
        return Reply(body=job.clip or b"", headers=VIDEO)

    def complete(self, call: Call) -> Reply:
        """`POST /video/complete`: deletes a clip; it neither cancels nor refunds a job that is running."""
        model, queue_id = check_job(call.json())
        job = self.book.find(queue_id)
        if job is None or job.model.id != model or job.delivery == "link":
            return standard_error(400, _UNKNOWN_ID)
        if job.done(call.now):
            job.deleted, job.clip = True, b""
        return json_reply(200, {"success": job.done(call.now)})

    def rate_limits(self, call: Call) -> Reply:
        """`GET /api_keys/rate_limits`."""
        left = round(self._left(call.now), 4)
        tomorrow = datetime.fromtimestamp(self.clock.unix(call.now), UTC) + timedelta(days=1)
        data = {
            "accessPermitted": left > 0,
            "apiTier": {"id": "paid", "isCharged": True},
            "balances": {"USD": left, "DIEM": 0},
            "keyExpiration": None,
            "nextEpochBegins": tomorrow.strftime("%Y-%m-%dT00:00:00.000Z"),
            "rateLimits": self._listed_limits(),
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

    def _model(self, body: Mapping[str, Any]) -> CatalogueModel:
        name = body.get("model")
        if not isinstance(name, str):
            message = "Required" if "model" not in body else "Expected string"
            raise Refused(detailed_error([(("model",), message)]))
        if name not in self.models:
            raise Refused(detailed_error([(("model",), "Specified model not found")]))
        return self.models[name]

    def _admit(self, body: Mapping[str, Any], model: CatalogueModel, scenario: Scenario) -> None:
        """Raise `Refused` for what turns a valid request away before it is charged."""
        if model.offline:
            raise Refused(standard_error(503, "The model is offline. Please try again later."))
        refusal = refused(scenario)
        if refusal is not None:
            self.book.serve(model.id)
            raise Refused(refusal)
        asked = self._consent.ask(body, scenario.consent or ("face_media" if model.asks_consent else "never"))
        if asked is not None:
            raise Refused(asked)

    def _job(self, model: str, queue_id: str) -> Job:
        job = self.book.find(queue_id)
        if job is None:
            raise Refused(standard_error(400, _UNKNOWN_ID))
        if job.model.id != model:
            raise Refused(standard_error(404, _UNKNOWN_MEDIA))
        return job

    def _gone(self, job: Job, now: float) -> bool:
        return job.deleted or now >= job.queued_at + self.media_lifetime

    def _left(self, now: float) -> float:
        return self.balance - self.book.spent(now)

    def _listed_limits(self) -> list[dict[str, Any]]:
        limits = self.gate.limits
        if limits is None:
            return []
        amounts = [{"amount": limits.queue, "type": "RPM"}]
        return [{"apiModelId": name, "rateLimits": amounts} for name in self.models]


_ANSWERS: Mapping[str, Callable[[Venice, Call], Reply]] = {
    "models": Venice.list_models,
    "quote": Venice.quote,
    "queue": Venice.queue,
    "retrieve": Venice.retrieve,
    "complete": Venice.complete,
    "rate_limits": Venice.rate_limits,
    "balance": Venice.show_balance,
}

RATED: Mapping[str, Kind] = {"queue": "queue", "retrieve": "retrieve"}
"""Calls that the rate limits count."""
