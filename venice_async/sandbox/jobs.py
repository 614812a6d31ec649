"""The life of the sandbox's jobs: when they are done, what they cost, where their clips are."""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Mapping
from typing import Any, cast

from attrs import define, field

from .clips.media import frame_size, inspect, reference_seconds, seconds_of
from .ledger import Entry
from .model import CatalogueModel, Delivery
from .records import Charge
from .scenarios import Scenario, Scenarios

_Z80 = 0.8416  # the normal distribution's 80th percentile
_FARTHEST = 3.0  # standard deviations; beyond them a compressed job would take more than a few seconds
_FAILING = frozenset(
    {"content_policy", "inference_failed", "invalid", "failed", "provider_failed", "media_refused"}
)

Clip = bytes | memoryview


@define(eq=False, kw_only=True)
class Job:
    """One queued job. Moments are seconds of the event loop's clock.

    Attributes:
        execution: how long it takes, in seconds as the client sees it.
        p80: what the server reports as the model's P80, in seconds as the client sees it.
        clip: the clip once it is made, which is when it is first asked for.
        broken: whether making the clip failed.
        deleted: whether the media was deleted.
        token: the secret of its link.
        gets: how often its link was fetched.
        prores: whether it is to be a MOV.
        polls: how many polls still find it running although its time is over.
        unfetched: how many polls are still answered that its clip could not be fetched.
    """

    queue_id: str
    model: CatalogueModel
    scenario: Scenario
    request: Mapping[str, Any] = field(repr=False)
    order: Mapping[str, Any]
    usd: float
    queued_at: float
    execution: float
    p80: float
    token: str = field(repr=False)
    clip: Clip | None = field(default=None, repr=False)
    broken: bool = False
    deleted: bool = False
    gets: int = 0
    prores: bool = False
    polls: int = 0
    unfetched: int = 0

    @property
    def media(self) -> tuple[Clip, dict[str, str]]:
        """The clip as it is handed over, and its content type, if any: a MOV if ProRes was asked for."""
        clip, kind = self.clip or b"", "video/mp4"
        if self.prores:
            clip, kind = bytes(clip[:8]) + b"qt  " + bytes(clip[12:]), "video/quicktime"
        named = self.scenario.content_type
        return clip, {} if named == "" else {"Content-Type": named or kind}

    def known(self, now: float) -> bool:
        """Whether a poll knows the job by now."""
        return now >= self.queued_at + self.scenario.unknown_for

    def linked(self, now: float) -> bool:
        """Whether its link is there by now, once it is done."""
        return now >= self.ready_at + self.scenario.link_after

    @property
    def delivery(self) -> Delivery:
        """How the clip is handed over."""
        return self.scenario.delivery or self.model.delivery

    @property
    def ready_at(self) -> float:
        """When the job is done."""
        return self.queued_at + self.execution

    @property
    def succeeds(self) -> bool:
        """Whether it is to end in a clip."""
        return self.scenario.outcome == "completed" and not self.broken

    def done(self, now: float) -> bool:
        """Whether it has ended."""
        return now >= self.ready_at

    def refunded(self, now: float) -> bool:
        """Whether it has failed and its price was given back."""
        return self.scenario.outcome in _FAILING and self.scenario.credits_refunded and self.done(now)

    def charge(self, now: float) -> Charge:
        """Return what was paid for it."""
        return Charge(
            queue_id=self.queue_id,
            model=self.model.id,
            usd=self.usd,
            refunded=self.refunded(now),
            at=self.queued_at,
            request=self.request,
        )


class SandboxJobs:
    """All jobs ever queued; it draws their times and names."""

    def __init__(self, scenarios: Scenarios, *, speed: float, sigma: float, seed: int) -> None:
        """Draw from `seed`: the same requests in the same order take the same times."""
        self._scenarios = scenarios
        self._served: dict[str, int] = {}
        self._speed = speed
        self._sigma = sigma
        self._times = random.Random(seed)  # noqa: S311 - simulation
        self._names = random.Random(f"names {seed}")  # noqa: S311 - the sandbox guards nothing of value
        self._jobs: dict[str, Job] = {}
        self._charged = 0.0
        self._failing: list[Job] = []

    def charges(self, now: float) -> list[Charge]:
        """Return what was paid for each job, in the order in which they were queued."""
        return [job.charge(now) for job in list(self._jobs.values())]

    def ledger(self, now: float) -> list[Entry]:
        """Return what the ledger holds by `now`, in order: a charge for each job, and refunds."""
        jobs = list(self._jobs.values())
        charged = [
            Entry(at=job.queued_at, model=job.model.id, usd=-job.usd, job=job.queue_id) for job in jobs
        ]
        refunded = [
            Entry(at=job.ready_at, model=job.model.id, usd=job.usd, job=job.queue_id)
            for job in self._failing
            if job.refunded(now)
        ]
        return sorted(charged + refunded, key=lambda entry: entry.at)

    def find(self, queue_id: str) -> Job | None:
        """Return a job by its id."""
        return self._jobs.get(queue_id)

    def scenario(self, model: str) -> Scenario:
        """Return what happens to the next job of a model, without taking it from a sequence."""
        entry = self._scenarios.get(model) or self._scenarios.get("*") or Scenario()
        if isinstance(entry, Scenario):
            return entry
        return entry[min(self._served.get(model, 0), len(entry) - 1)]

    def serve(self, model: str) -> None:
        """Go on to a model's next scenario, in a sequence of them."""
        self._served[model] = self._served.get(model, 0) + 1

    def open(self, model: CatalogueModel, body: Mapping[str, Any], now: float) -> Job:
        """Accept a request: from here on it is a job, and paid for."""
        scenario = self.scenario(model.id)
        self.serve(model.id)
        name = self._names.getrandbits(128)
        execution = math.inf
        if scenario.outcome != "never":
            deviation = max(-_FARTHEST, min(_FARTHEST, self._times.gauss(0, 1)))
            sigma = self._sigma if scenario.sigma is None else scenario.sigma
            drawn = model.p80 * math.exp(sigma * (deviation - _Z80))
            execution = (drawn if scenario.seconds is None else scenario.seconds) / self._speed
        job = Job(
            queue_id=str(name >> 75) if scenario.numeric_id else str(uuid.UUID(int=name, version=4)),
            model=model,
            scenario=scenario,
            request=body,
            order=_order(model, body),
            prores=body.get("output_format") == "prores",
            usd=price(model, body),
            queued_at=now,
            execution=execution,
            p80=model.p80 * scenario.estimate / self._speed,
            token=f"{self._names.getrandbits(160):040x}",
            polls=scenario.polls,
            unfetched=scenario.unfetched,
        )
        self._jobs[job.queue_id] = job
        self._charged += job.usd
        if scenario.outcome in _FAILING:
            self._failing.append(job)
        return job

    def spent(self, now: float) -> float:
        """Return what all jobs cost in USD, less what was refunded."""
        return self._charged - math.fsum(job.usd for job in self._failing if job.refunded(now))


def price(model: CatalogueModel, body: Mapping[str, Any]) -> float:
    """Return the price in USD of a request to generate or to quote.

    A quote that does not say how many reference images there are is for one.
    """
    images = body.get("reference_image_urls")
    usd = model.usd(
        seconds=seconds_of(body, upscales=model.takes_clip),
        resolution=body.get("resolution") if model.resolutions else None,
        audio=body.get("audio", True),
        reference_seconds=reference_seconds(body),
        images=body.get(
            "reference_image_count", len(cast("list[object]", images)) if isinstance(images, list) else 1
        ),
    )
    if not model.takes_clip:
        return usd
    factor = body.get("upscale_factor", 2) if model.upscales and model.factors else 1
    return round(usd * factor * model.enhancement(body), 4)


def _order(model: CatalogueModel, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the renderer is told."""
    size = frame_size(body.get("resolution") or model.dearest, body.get("aspect_ratio"))
    if model.upscales:
        source = inspect(body.get("video_url"))
        factor = body.get("upscale_factor", 2) if model.factors else 1
        size = source.width * factor, source.height * factor
    return {
        "prompt": body.get("prompt", ""),
        "model": model.id,
        "seconds": seconds_of(body, upscales=model.takes_clip),
        "width": size[0],
        "height": size[1],
    }
