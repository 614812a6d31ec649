"""How jobs end, as answers."""

from __future__ import annotations

from .jobs import Job
from .replies import Reply, coded_error, json_reply, prompt_refused, provider_policy, standard_error
from .scenarios import Scenario


def refused(scenario: Scenario) -> Reply | None:
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


def status(job: Job, name: str, now: float, **more: object) -> Reply:
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
            return status(job, "FAILED", now, error="The generation failed", **money)
        case "invalid":
            message = "The request failed validation at the provider"
            return json_reply(
                400, {"error": message, "details": message, "request_id": f"upstream-{job.queue_id}", **money}
            )
        case _:
            return json_reply(500, {"error": "Inference processing failed", **money})


_TOLD = frozenset({"content_policy", "provider_failed", "media_refused"})
