"""How jobs end, as answers."""

from __future__ import annotations

from .jobs import Job
from .replies import Reply, detailed_error, json_reply, prompt_refused, provider_policy, standard_error
from .scenarios import Scenario


def refused(scenario: Scenario) -> Reply | None:
    """Return the answer to a request that is turned away before it is charged, None if it is welcome."""
    if scenario.outcome == "prompt_refused":
        return prompt_refused(scenario.suggested_prompt)
    if scenario.outcome == "region_blocked":
        return standard_error(403, "The specified model is unavailable in your region.")
    return None


def status(job: Job, name: str, now: float, **more: str) -> Reply:
    """Return a JSON status; its times are those that the client sees, `speed` included."""
    running = now - job.queued_at
    duration = min(running, job.execution) if job.done(now) else running
    content = {
        "status": name,
        "average_execution_time": round(job.p80 * 1000),
        "execution_duration": round(duration * 1000),
    }
    return json_reply(200, content | more)


def failure(job: Job, now: float) -> Reply:
    """Return how a job that has failed answers a poll."""
    scenario = job.scenario
    outcome = "inference_failed" if job.broken else scenario.outcome
    if outcome == "content_policy":
        return provider_policy(refunded=scenario.credits_refunded, recommended=scenario.recommended_model)
    if outcome == "failed":
        return status(job, "FAILED", now)
    if outcome == "invalid":
        return detailed_error([((), "The request failed validation at the provider")])
    if outcome == "capacity":
        return standard_error(503, "The model is at capacity. Please try again later.")
    return standard_error(500, "Inference processing failed")
