"""The life of the sandbox's jobs: when they are done, what they cost, where their clips are."""

from __future__ import annotations

import math
import random
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

from attrs import define, field

from .catalogue import CatalogueModel, Delivery
from .clips.media import Clip, frame_size, inspect, seconds_of
from .options import Options
from .records import Charge
from .scenarios import Scenario

_Z80 = 0.8416  # the normal distribution's 80th percentile
_FARTHEST = 3.0  # standard deviations; beyond them a compressed job would take more than a few seconds
_FAILING = frozenset(
    {"content_policy", "inference_failed", "invalid", "failed", "provider_failed", "media_refused"}
)


@define(eq=False, kw_only=True)
class Job:
    """One queued job. Moments are seconds of the event loop's clock.

    Attributes:
        request: the body that was paid for.
        execution: how long it takes, in seconds as the client sees it.
        p80: what the server reports as the model's P80, in seconds as the client sees it.
        token: the secret of its link.
        clip: the clip once it is made, which is when it is first asked for.
        broken: whether making the clip failed.
        deleted: whether the media was deleted.
        gets: how often its link was fetched.
        polls: how many polls still find it running although its time is over.
        unfetched: how many polls are still answered that its clip could not be fetched.
    """

    queue_id: str
    model: CatalogueModel
    scenario: Scenario
    request: Mapping[str, Any] = field(repr=False)
    usd: float
    queued_at: float
    execution: float
    p80: float
    token: str = field(repr=False)
    clip: Clip | None = field(default=None, repr=False)
    broken: bool = False
    deleted: bool = False
    gets: int = 0
    polls: int = 0
    unfetched: int = 0

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

    def linked(self, now: float) -> bool:
        """Whether its link is there by now, once it is done."""
        return now >= self.ready_at + self.scenario.link_after

    def refunded(self, now: float) -> bool:
        """Whether it has failed and its price was given back."""
        return self.scenario.outcome in _FAILING and self.scenario.credits_refunded and self.done(now)

    @property
    def media(self) -> tuple[Clip, dict[str, str]]:
        """The clip as it is handed over, and its content type, if any: a MOV if ProRes was asked for."""
        clip, kind = self.clip or b"", "video/mp4"
        if self.request.get("output_format") == "prores":
            clip, kind = bytes(clip[:8]) + b"qt  " + bytes(clip[12:]), "video/quicktime"
        named = self.scenario.content_type
        return clip, {} if named == "" else {"Content-Type": named or kind}

    def order(self) -> dict[str, Any]:
        """Return the arguments of the renderer."""
        body, model = self.request, self.model
        width, height = frame_size(body.get("resolution") or model.dearest, body.get("aspect_ratio"))
        if model.upscales:
            source = inspect(body.get("video_url"))
            factor = body.get("upscale_factor", 2) if model.factors else 1
            width, height = source.width * factor, source.height * factor
        return {
            "prompt": body.get("prompt", ""),
            "model": model.id,
            "seconds": seconds_of(body, upscales=model.takes_clip),
            "width": width,
            "height": height,
        }


class SandboxJobs:
    """All jobs ever queued.

    Their times and ids are drawn from the option `seed`: the same requests in the same order get the same.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._served = Counter[str]()
        self._times = random.Random(options.seed)  # noqa: S311 - simulation
        self._names = random.Random(f"names {options.seed}")  # noqa: S311 - the sandbox guards nothing of value
        self._jobs: dict[str, Job] = {}
        self._charged = 0.0
        self._failing: list[Job] = []

    def charges(self, now: float) -> list[Charge]:
        """Return what was paid for each job, in the order in which they were queued."""
        return [
            Charge(
                queue_id=job.queue_id,
                model=job.model.id,
                usd=job.usd,
                refunded=job.refunded(now),
                at=job.queued_at,
                request=job.request,
            )
            for job in self.all()
        ]

    def all(self) -> list[Job]:
        """Return all jobs, in the order in which they were queued."""
        return list(self._jobs.values())

    def find(self, queue_id: str) -> Job | None:
        """Return a job by its id."""
        return self._jobs.get(queue_id)

    def scenario(self, model: str) -> Scenario:
        """Return what happens to the next job of a model, without taking it from a sequence."""
        scenarios = self._options.scenarios
        entry = scenarios.get(model) or scenarios.get("*") or Scenario()
        return entry if isinstance(entry, Scenario) else entry[min(self._served[model], len(entry) - 1)]

    def serve(self, model: str) -> None:
        """Go on to a model's next scenario, in a sequence of them."""
        self._served[model] += 1

    def open(self, model: CatalogueModel, body: Mapping[str, Any], now: float) -> Job:
        """Accept a request: from here on it is a job, and paid for."""
        scenario, speed = self.scenario(model.id), self._options.speed
        self.serve(model.id)
        name = self._names.getrandbits(128)
        execution = math.inf
        if scenario.outcome != "never":
            deviation = max(-_FARTHEST, min(_FARTHEST, self._times.gauss(0, 1)))
            sigma = self._options.sigma if scenario.sigma is None else scenario.sigma
            drawn = model.p80 * math.exp(sigma * (deviation - _Z80))
            execution = (drawn if scenario.seconds is None else scenario.seconds) / speed
        job = Job(
            queue_id=str(name >> 75) if scenario.numeric_id else str(uuid.UUID(int=name, version=4)),
            model=model,
            scenario=scenario,
            request=body,
            usd=model.price(body),
            queued_at=now,
            execution=execution,
            p80=model.p80 * scenario.estimate / speed,
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
