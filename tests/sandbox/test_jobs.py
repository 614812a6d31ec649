"""The life of a job, from queued to deleted."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import anyio
import pytest
from attrs import evolve

from tests.cases import for_each
from venice_async import VeniceClient, VideoRequest
from venice_async.sandbox import Outcome, Scenario

from .talk import CLIP, PRIVATE, TEXT, Talk, talk

pytestmark = pytest.mark.anyio

AT_ONCE = {"*": Scenario(seconds=0)}
IN_TEN = {"*": Scenario(seconds=10)}


async def test_a_running_job_reports_the_p80_and_its_own_time_in_milliseconds() -> None:
    async with talk(speed=1, scenarios=IN_TEN) as venice:
        ticket = (await venice.queue()).json
        await anyio.sleep(4)
        answer = await venice.retrieve(ticket)
    assert {
        "status": "PROCESSING",
        "average_execution_time": 145_000,
        "execution_duration": 4_000,
    } == answer.json


async def test_speed_compresses_both_times_as_the_client_sees_them() -> None:
    async with talk(speed=10, scenarios=IN_TEN) as venice:
        ticket = (await venice.queue()).json
        await anyio.sleep(0.75)
        running = await venice.retrieve(ticket)
        await anyio.sleep(0.25)
        done = await venice.retrieve(ticket)
    assert [14_500, 750] == [running.json["average_execution_time"], running.json["execution_duration"]]
    assert CLIP == done.content


async def test_a_public_clip_is_the_body_of_the_poll_as_often_as_asked_for() -> None:
    async with talk(scenarios=AT_ONCE) as venice:
        ticket = (await venice.queue()).json
        answers = [await venice.retrieve(ticket) for _ in range(3)]
    assert [("video/mp4", CLIP)] * 3 == [(item.headers["Content-Type"], item.content) for item in answers]


async def test_a_private_job_answers_json_for_ever_and_its_time_stops() -> None:
    async with talk(speed=1, scenarios=IN_TEN) as venice:
        ticket = (await venice.queue(PRIVATE)).json
        await anyio.sleep(100)
        answers = [await venice.retrieve(ticket) for _ in range(2)]
    expected = {"status": "COMPLETED", "average_execution_time": 75_000, "execution_duration": 10_000}
    assert [expected] * 2 == [answer.json for answer in answers]


async def test_a_url_in_a_lower_case_completed_answer_leads_to_the_clip() -> None:
    async with talk(scenarios={"*": Scenario(seconds=0, delivery="url")}) as venice:
        ticket = (await venice.queue()).json
        answer = (await venice.retrieve(ticket)).json
        clip = await venice.fetch("GET", answer["url"])
    assert ("completed", CLIP) == (answer["status"], clip.content)
    assert {"model", "queue_id"} == ticket.keys()


async def test_complete_deletes_the_clip_and_may_be_repeated() -> None:
    async with talk(scenarios=AT_ONCE) as venice:
        ticket = (await venice.queue()).json
        answers = [await venice.complete(ticket) for _ in range(2)]
        gone = await venice.retrieve(ticket)
    assert [{"success": True}] * 2 == [answer.json for answer in answers]
    assert 404 == gone.status


async def test_complete_on_a_running_job_neither_cancels_nor_refunds() -> None:
    async with talk(speed=1, scenarios=IN_TEN) as venice:
        ticket = (await venice.queue()).json
        answer = await venice.complete(ticket)
        await anyio.sleep(10)
        done = await venice.retrieve(ticket)
        assert [False] == [charge.refunded for charge in venice.sandbox.charges]
    assert ({"success": False}, CLIP) == (answer.json, done.content)


async def test_complete_on_a_private_job_is_an_invalid_request_id() -> None:
    async with talk(scenarios=AT_ONCE) as venice:
        answer = await venice.complete((await venice.queue(PRIVATE)).json)
    assert (400, "Request ID is invalid.") == (answer.status, answer.json["error"])


async def test_an_id_never_issued_is_a_400_and_one_of_another_model_a_404() -> None:
    async with talk(scenarios=AT_ONCE) as venice:
        ticket = (await venice.queue()).json
        never = await venice.retrieve({**ticket, "queue_id": "00000000-0000-4000-8000-000000000000"})
        other = await venice.retrieve({**ticket, "model": PRIVATE})
        assert 0 == venice.sandbox.count("video")
    assert [(400, "Request ID is invalid.")] == [(never.status, never.json["error"])]
    assert 404 == other.status


@for_each(
    "body", [{}, {"model": TEXT}, {"model": TEXT, "queue_id": 5}, {"model": TEXT, "queue_id": "x", "more": 1}]
)
async def test_a_poll_takes_a_model_and_a_queue_id_and_nothing_unknown(body: dict[str, Any]) -> None:
    async with talk() as venice:
        answer = await venice.call("POST", "/video/retrieve", body)
    assert (400, True) == (answer.status, bool(answer.json["issues"]))


async def test_delete_media_on_completion_deletes_with_the_first_delivery() -> None:
    async with talk(scenarios=AT_ONCE) as venice:
        ticket = (await venice.queue()).json
        first = await venice.retrieve(ticket, delete_media_on_completion=True)
        second = await venice.retrieve(ticket)
    assert (CLIP, 404) == (first.content, second.status)


async def test_a_clip_expires_and_so_does_the_id_of_its_job_after_a_day() -> None:
    async with talk(scenarios=AT_ONCE, media_lifetime=3600) as venice:
        ticket = (await venice.queue()).json
        seen: list[Any] = []
        for seconds in (3599, 1, 82_799, 1):
            await anyio.sleep(seconds)
            seen.append(await venice.retrieve(ticket))
    assert [200, 404, 404, 400] == [answer.status for answer in seen]
    assert "Request ID is invalid" in seen[-1].json["error"]


async def test_a_clip_outlives_the_id_of_its_job_at_its_link() -> None:
    async with talk(scenarios=AT_ONCE, id_lifetime=3600) as venice:
        ticket = (await venice.queue(PRIVATE)).json
        await anyio.sleep(3600)
        poll = await venice.retrieve(ticket)
        clip = await venice.fetch("GET", ticket["download_url"])
    assert (400, CLIP) == (poll.status, clip.content)


async def test_a_clip_may_come_without_any_content_type_and_an_id_may_be_a_number(tmp_path: Path) -> None:
    odd = Scenario(seconds=0, content_type="", numeric_id=True)
    async with talk(scenarios={"*": odd}) as venice:
        ticket = (await venice.queue()).json
        clip = await venice.retrieve({**ticket, "queue_id": str(ticket["queue_id"])})
        async with VeniceClient(venice.sandbox.api_key, base_url=venice.sandbox.base_url) as client:
            for model in (TEXT, PRIVATE):
                request = VideoRequest(model=model, prompt="p", duration="5s")
                video = await client.generate(request, to=tmp_path)
                assert (True, len(CLIP)) == (video.ticket.queue_id.isdigit(), video.size)
    assert isinstance(ticket["queue_id"], int)
    assert ("Content-Type" not in clip.headers, CLIP) == (True, clip.content)


async def failure(outcome: Outcome, **more: Any) -> tuple[int, Any, bool]:
    """Return how a job with this outcome ends: status, body, whether it was refunded."""
    async with talk(scenarios={"*": Scenario(outcome=outcome, seconds=0, **more)}) as venice:
        answer = await venice.retrieve((await venice.queue()).json)
        return answer.status, answer.json, venice.sandbox.charges[0].refunded


async def test_a_provider_policy_is_a_422_that_says_whether_credits_were_refunded() -> None:
    status, body, refunded = await failure("content_policy", recommended_model=PRIVATE)
    assert (422, True) == (status, refunded)
    assert ("provider_content_policy", True) == (body["error"]["type"], body["error"]["credits_refunded"])
    assert PRIVATE == body["error"]["recommended_model"]


async def test_a_failure_may_be_left_unrefunded() -> None:
    status, body, refunded = await failure("content_policy", credits_refunded=False)
    assert (422, False, False) == (status, body["error"]["credits_refunded"], refunded)


@for_each(
    "outcome, status, refunded",
    [
        ("inference_failed", 500, True),
        ("capacity", 503, False),
        ("invalid", 400, True),
        ("provider_failed", 422, True),
        ("media_refused", 422, True),
    ],
)
async def test_failures_arrive_as_http_errors_on_the_poll(
    outcome: Outcome, status: int, *, refunded: bool
) -> None:
    assert (status, refunded) == (await failure(outcome))[::2]


async def test_a_failure_says_what_became_of_the_money_as_the_vendor_does_or_as_it_is_told_to() -> None:
    told = {}
    for outcome in ("content_policy", "provider_failed", "inference_failed", "invalid", "failed"):
        usual, kept, silent = [
            (await failure(outcome, **more))[1]
            for more in ({}, {"credits_refunded": False, "tells_refund": True}, {"tells_refund": False})
        ]
        bodies = [
            body["error"] if isinstance(body["error"], dict) else body for body in (usual, kept, silent)
        ]
        told[outcome] = [body.get("credits_refunded") for body in bodies]
    on_422, elsewhere = [True, False, None], [None, False, None]
    expected = dict.fromkeys(("content_policy", "provider_failed"), on_422)
    assert expected | dict.fromkeys(("inference_failed", "invalid", "failed"), elsewhere) == told


async def test_a_recorded_failure_is_told_by_every_later_poll() -> None:
    for outcome in ("inference_failed", "provider_failed"):
        async with talk(scenarios={"*": Scenario(outcome=outcome, seconds=0)}) as venice:
            ticket = (await venice.queue()).json
            first, second = [await venice.retrieve(ticket) for _ in range(2)]
        assert (first.status, first.content) == (second.status, second.content)


async def test_a_job_may_be_done_at_a_certain_poll() -> None:
    async with talk(speed=1, scenarios={"*": Scenario(seconds=0, polls=2)}) as venice:
        for model in (TEXT, PRIVATE):
            ticket = (await venice.queue(model)).json
            running = []
            for _ in "12":
                await anyio.sleep(10)
                running.append((await venice.retrieve(ticket)).json)
            done = await venice.retrieve(ticket)
            assert [("PROCESSING", 10_000), ("PROCESSING", 20_000)] == [
                (news["status"], news["execution_duration"]) for news in running
            ]
            assert CLIP == done.content if model == TEXT else done.json["status"] == "COMPLETED"


async def test_a_job_may_be_unknown_at_first_and_its_clip_unfetched() -> None:
    shy = Scenario(seconds=0, unknown_for=10, unfetched=2)
    for unknown in (404, 400):
        async with talk(scenarios={"*": evolve(shy, unknown_status=unknown)}) as venice:
            ticket = (await venice.queue()).json
            at_first = await venice.retrieve(ticket)
            await anyio.sleep(10)
            later = [await venice.retrieve(ticket) for _ in range(3)]
        assert [unknown, 502, 502, 200] == [answer.status for answer in (at_first, *later)]


async def test_a_link_may_come_later_than_the_word_completed() -> None:
    for delivery in ("link", "url"):
        late = Scenario(seconds=0, delivery=delivery, link_after=10, link_status=403)
        async with talk(scenarios={"*": late}) as venice:
            ticket = (await venice.queue()).json
            early = (await venice.retrieve(ticket)).json
            refused = await venice.fetch("GET", ticket["download_url"]) if delivery == "link" else None
            await anyio.sleep(10)
            url = ticket.get("download_url") or (await venice.retrieve(ticket)).json["url"]
            clip = await venice.fetch("GET", url)
        assert ("completed", False) == (early["status"].lower(), "url" in early)
        assert refused is None or 403 == refused.status
        assert CLIP == clip.content


async def test_a_clip_may_be_called_something_else_and_prores_is_a_mov() -> None:
    async with talk(scenarios={"*": Scenario(seconds=0, content_type="text/plain")}) as venice:
        renamed = await venice.retrieve((await venice.queue()).json)
    async with talk(scenarios=AT_ONCE) as venice:
        clip = {"video_url": "https://example.com/x.mp4", "duration": None, "output_format": "prores"}
        mov = await venice.retrieve((await venice.queue("topaz-video-denoise", **clip)).json)
    assert ("text/plain", CLIP) == (renamed.headers["Content-Type"], renamed.content)
    assert ("video/quicktime", b"ftypqt  ") == (mov.headers["Content-Type"], mov.content[4:12])


async def test_a_ticket_may_be_one_level_down() -> None:
    for place in ("data", "result"):
        async with talk(scenarios={"*": Scenario(ticket_in=place)}) as venice:
            answer = await venice.queue()
        assert {"model", "queue_id"} == answer.json[place].keys()


async def test_complete_may_answer_400_to_all_or_say_that_it_failed() -> None:
    for completes, expected in (
        ("invalid", (400, {"error": "Request ID is invalid."})),
        ("fails", (200, {"success": False})),
    ):
        async with talk(scenarios=AT_ONCE, completes=completes) as venice:
            ticket = (await venice.queue()).json
            answer = await venice.complete(ticket)
            still = await venice.retrieve(ticket)
        assert expected == (answer.status, answer.json)
        assert CLIP == still.content


async def test_a_failed_status_is_json() -> None:
    status, body, refunded = await failure("failed")
    assert (200, "FAILED", True) == (status, body["status"], refunded)


async def test_a_job_that_never_ends_stays_processing() -> None:
    async with talk(scenarios={"*": Scenario(outcome="never")}) as venice:
        ticket = (await venice.queue()).json
        await anyio.sleep(80_000)
        answer = await venice.retrieve(ticket)
    assert ("PROCESSING", 80_000_000) == (answer.json["status"], answer.json["execution_duration"])


async def test_a_refund_goes_back_to_the_balance() -> None:
    async with talk(balance=10, scenarios={"*": Scenario(outcome="inference_failed", seconds=60)}) as venice:
        await venice.queue(resolution="720p")
        during = await venice.call("GET", "/billing/balance")
        await anyio.sleep(1)
        after = await venice.call("GET", "/api_keys/rate_limits")
    assert [9.5, 10] == [during.json["balances"]["usd"], after.json["data"]["balances"]["USD"]]


async def test_a_sequence_of_scenarios_serves_one_job_each_and_the_last_stays() -> None:
    sequence = [
        Scenario(outcome="prompt_refused"),
        Scenario(outcome="inference_failed", seconds=0),
        Scenario(seconds=0),
    ]
    async with talk(scenarios={TEXT: sequence}) as venice:
        refused = await venice.queue()
        polls = [await venice.retrieve((await venice.queue()).json) for _ in range(3)]
    assert [422, 500, 200, 200] == [refused.status, *(poll.status for poll in polls)]


async def test_a_scenario_may_report_an_estimate_that_is_wrong() -> None:
    async with talk(speed=1, scenarios={"*": Scenario(estimate=2.0)}) as venice:
        answer = await venice.retrieve((await venice.queue()).json)
    assert 290_000 == answer.json["average_execution_time"]


async def took(venice: Talk) -> float:
    """Queue a private job; return how long it took, in seconds."""
    ticket = (await venice.queue(PRIVATE)).json
    await anyio.sleep(1_000)
    duration: int = (await venice.retrieve(ticket)).json["execution_duration"]
    return duration / 1000


async def test_job_times_are_lognormal_around_the_p80_and_the_same_for_the_same_seed() -> None:
    runs: list[list[float]] = []
    for seed in (1, 1, 2):
        async with talk(speed=1, seed=seed, limits=None) as venice:
            runs.append([await took(venice) for _ in range(200)])
    logarithms = [math.log(seconds) for seconds in runs[0]]
    late = sum(seconds > 75 for seconds in runs[0]) / 200
    assert runs[0] == runs[1] != runs[2]
    assert abs(stdev(logarithms) - 0.4) < 0.05
    assert abs(mean(logarithms) - (math.log(75) - 0.8416 * 0.4)) < 0.08
    assert 0.13 < late < 0.27


async def test_at_speed_60_no_job_takes_longer_than_a_few_seconds() -> None:
    async with talk(limits=None) as venice:
        times = [await took(venice) for _ in range(100)]
    assert max(times) < 75 / 60 * math.exp(0.4 * (3 - 0.84))


async def test_a_function_makes_each_jobs_clip_and_is_told_what_to_show() -> None:
    def clip(*, prompt: str, model: str, seconds: float, width: int, height: int) -> bytes:
        return f"{prompt} {model} {seconds} {width}x{height}".encode()

    async with talk(clips=clip, scenarios=AT_ONCE) as venice:
        answer = await venice.retrieve((await venice.queue(resolution="480p", aspect_ratio="9:16")).json)
    assert f"a canal at dawn {TEXT} 5.0 480x854".encode() == answer.content


async def test_the_rate_limit_page_tells_limits_and_balances() -> None:
    async with talk(balance=3) as venice:
        data = (await venice.call("GET", "/api_keys/rate_limits")).json["data"]
    assert (True, {"USD": 3, "DIEM": 0}) == (data["accessPermitted"], data["balances"])
    assert [] == data["rateLimits"]


@for_each(
    "query, status",
    [
        ({}, 200),
        ({"pageSize": "10", "startTimestamp": "2026-01-01", "endTimestamp": "2100-01-01T00:00:00Z"}, 200),
        ({"pageSize": "9"}, 400),
        ({"pageSize": "many"}, 400),
        ({"startTimestamp": "yesterday"}, 400),
        ({"model": TEXT}, 400),
        ({"cursor": "x", "pageSize": "10"}, 400),
        ({"cursor": "!"}, 400),
        ({"cursor": "WzEsMl0"}, 400),
    ],
)
async def test_the_ledger_answers_filters_or_its_own_cursor_and_nothing_else(
    query: dict[str, str], status: int
) -> None:
    async with talk() as venice:
        key = {"Authorization": f"Bearer {venice.sandbox.admin_key}"}
        answer = await venice.call("GET", "/billing/usage-history", headers=key, params=query)
    assert status == answer.status
