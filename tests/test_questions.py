"""Calls that cost nothing: prices, models, limits, clean-up."""

# a clean-up is asked for from within:
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve

from tests.clients import PRIVATE, PUBLIC, client, wire
from tests.venice import KEY, Venice, fault, html_answer, json_answer, no_capacity, rate_limited
from venice_async import (
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    DisconnectedError,
    JournalError,
    Media,
    ProtocolError,
    Quote,
    Retries,
    ServerError,
    Ticket,
    UsageError,
    VeniceClient,
    VideoRequest,
)
from venice_async.io.caller import SCARCE
from venice_async.sandbox import Fault, Sandbox, tiny_clip

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
CLIP = tiny_clip(500)

MODEL = {
    "id": "gondola-1",
    "model_spec": {
        "name": "Gondola 1",
        "privacy": "anonymized",
        "pricing": {"per_second": {"usd": 0.1}},
        "something_new": {"unknown": True},
        "constraints": {
            "model_type": "text-to-video",
            "aspect_ratios": ["16:9"],
            "resolutions": ["720p", "1080p"],
            "durations": ["5s", "10s"],
            "audio": True,
            "audio_configurable": False,
            "prompt_character_limit": 100,
        },
    },
}


async def test_a_quote_sends_what_the_price_depends_on_and_nothing_else() -> None:
    request = VideoRequest(
        model="m",
        prompt="secret plans",
        duration=5,
        resolution="720p",
        image_url="https://a.example/b.png",
        audio=False,
    )
    async with Venice(quote=[json_answer({"quote": 0.25})]) as server, client(server) as venice:
        assert Quote(usd=0.25) == await venice.quote(request, reference_video_seconds=7.5)
        expected = {
            "model": "m",
            "duration": "5s",
            "resolution": "720p",
            "audio": False,
            "reference_video_total_duration": 7.5,
        }
        assert expected == server.requests[0].json


async def test_a_quote_for_upscaling_needs_no_duration_and_carries_the_clip(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    request = VideoRequest(model="upscaler", video_url=Media(tmp_path / "clip.mp4"), upscale_factor=2)
    async with Venice() as server, client(server) as venice:
        await venice.quote(request)
        assert {"model", "upscale_factor", "video_url"} == server.requests[0].json.keys()
        assert server.requests[0].json["video_url"].startswith("data:video/mp4;base64,")


async def test_reference_clips_are_measured_where_they_are_at_hand(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "walk.mp4").write_bytes(tiny_clip(seconds=7.5))
    encoded = "data:video/mp4;base64," + b64encode(tiny_clip(seconds=3)).decode()
    clips: list[str | Media] = [Media(tmp_path / "walk.mp4"), Media(tiny_clip(seconds=2)), encoded]
    named: Any = [{"video_url": Media(tiny_clip(seconds=1.25))}]
    request = VideoRequest(
        model="m", prompt="p", duration="5s", reference_video_urls=clips, video_references=named
    )
    async with Venice() as server, client(server) as venice:
        await venice.quote(request)
        await venice.generate(request, to=tmp_path / "clip.mp4", max_usd=1)
        await venice.quote(request, reference_video_seconds=15)
        await venice.quote(evolve(request, extra={"reference_video_total_duration": 16}))
        asked = [item.json for item in server.requests if item.path.endswith("/quote")]
    assert [13.75, 13.75, 15, 16] == [body["reference_video_total_duration"] for body in asked]
    assert "reference clip" not in caplog.text


@pytest.mark.parametrize(
    "clip", ["https://a.example/walk.mp4", Media(b"\x1aE\xdf\xa3 webm"), Media("no/such.mp4")]
)
async def test_a_price_without_a_reference_clip_of_unknown_length_says_so(
    clip: str | Media, caplog: pytest.LogCaptureFixture
) -> None:
    known = Media(tiny_clip(seconds=2))
    async with Venice() as server, client(server) as venice:
        for clips in ([clip], [clip, known]):
            request = VideoRequest(model="m", prompt="p", duration="5s", reference_video_urls=clips)
            await venice.quote(request)
        asked = [item.json.get("reference_video_total_duration") for item in server.requests]
    assert [None, 2] == asked
    assert 2 == caplog.text.count("leaves out 1 reference clip(s) of unknown length")


async def test_media_in_fields_of_tomorrow_are_read_and_encoded(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PNG)
    extra = {
        "mask_image_url": Media(tmp_path / "cat.png"),
        "new": [{"image": Media(PNG)}],
        "video_url": Media(CLIP),
    }
    request = VideoRequest(model="upscaler", prompt="p", extra=extra)
    async with Venice() as server, client(server) as venice:
        await venice.generate(request, to=tmp_path / "clip.mp4", max_usd=1)
        bodies = {item.path.rpartition("/")[2]: item.json for item in server.requests}
    url = "data:image/png;base64," + b64encode(PNG).decode()
    clip = "data:video/mp4;base64," + b64encode(CLIP).decode()
    assert {"model": "upscaler", "video_url": clip} == bodies["quote"]
    sent = {"mask_image_url": url, "new": [{"image": url}], "video_url": clip}
    assert {"model": "upscaler", "prompt": "p"} | sent == bodies["queue"]


async def test_models_are_typed_and_check_lists_every_problem_of_a_request() -> None:
    catalogue = json_answer({"object": "list", "data": [MODEL, {"no": "id"}, 7]})
    async with Venice(models=[catalogue]) as server, client(server) as venice:
        (model,) = await venice.models()
        assert {"type": "video"} == server.requests[0].query
    assert ("gondola-1", ("5s", "10s"), 100) == (model.id, model.durations, model.prompt_character_limit)
    fine = VideoRequest(
        model="gondola-1", prompt="A gondola", duration=5, resolution="720p", aspect_ratio="16:9"
    )
    assert [] == model.check(fine)
    wrong = VideoRequest(
        model="gondola-1", prompt="x" * 101, duration=7, resolution="4k", aspect_ratio="1:1", audio=True
    )
    assert ["aspect_ratio", "audio", "duration", "prompt", "resolution"] == sorted(
        problem.field for problem in model.check(wrong)
    )
    assert "5s, 10s" in " ".join(map(str, model.check(wrong)))


async def test_the_keys_limits_and_balances_are_typed() -> None:
    answer = {
        "data": {
            "accessPermitted": True,
            "apiTier": {"id": "paid", "isCharged": True},
            "balances": {"USD": 50.23, "DIEM": 100.023},
            "keyExpiration": None,
            "nextEpochBegins": "2026-05-07T00:00:00.000Z",
            "rateLimits": [{"apiModelId": "m", "rateLimits": [{"amount": 40, "type": "RPM"}]}],
        }
    }
    async with Venice(always=json_answer(answer)) as server, client(server) as venice:
        limits = await venice.rate_limits()
    assert (True, "paid", 50.23) == (limits.access_permitted, limits.tier, limits.balances["USD"])
    assert [("m", 40.0, "RPM")] == [(limit.model, limit.amount, limit.type) for limit in limits.limits]


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param([fault(drop="after")] * 2, id="cut"),
        pytest.param([json_answer({"quote": 1}, cut_at=3)] * 2, id="cut in the body"),
        pytest.param([fault(delay=100)], id="no answer"),
        pytest.param([html_answer(status=502)] * 3, id="502"),
        pytest.param([json_answer({"error": "x"}, status=503)] * 3, id="503"),
        pytest.param([rate_limited(10)] * 3, id="429"),
    ],
)
async def test_a_question_survives_a_hiccup(trouble: list[Fault]) -> None:
    async with Venice(quote=trouble) as server, client(server) as venice:
        assert 0.25 == (await venice.quote(PUBLIC)).usd
        assert len(trouble) + 1 == len(server.requests)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (fault(drop="after"), DisconnectedError),
        (json_answer({"error": "broken"}, status=500), ServerError),
        (json_answer({"error": "No such key"}, status=401), AuthenticationError),
        (html_answer(), ProtocolError),
    ],
)
async def test_a_question_that_cannot_be_answered_ends_in_the_last_error(
    answer: Fault, error: type[Exception]
) -> None:
    async with Venice(always=answer) as server, client(server) as venice:
        with pytest.raises(error):
            await venice.quote(PUBLIC)
        assert 10 >= len(server.requests)


async def test_retries_of_a_client_are_rationed() -> None:
    async with Venice(always=html_answer(status=502)) as server, client(server) as venice:
        for _ in range(6):
            with pytest.raises(ServerError):
                await venice.quote(PUBLIC)
        assert 6 + 50 // 5 == len(server.requests)


async def test_what_works_earns_retries_back() -> None:
    script = [html_answer(status=502), json_answer({"quote": 0.25})] * 9
    async with (
        Venice(quote=script) as server,
        client(server, retries=Retries(quota=5, cost=5, refund=5)) as venice,
    ):
        assert [0.25] * 9 == [(await venice.quote(PUBLIC)).usd for _ in range(9)]


async def test_the_polls_of_a_client_draw_on_its_quota_and_are_only_slower_without(tmp_path: Path) -> None:
    async def took(retries: Retries) -> float:
        refusals = [json_answer({"error": "No answer"}, status=502)] * 30
        async with (
            Venice(retrieve=refusals, polls=0) as server,
            client(server, retries=retries) as venice,
        ):
            began = anyio.current_time()
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", overwrite=True)
            return anyio.current_time() - began

    freely, rationed, without = [await took(Retries(quota=quota)) for quota in (1e6, 50, 0)]
    assert freely < 15 * 30 < rationed < without
    assert 30 * SCARCE - 1 < without < 30 * SCARCE + 120


async def test_a_paid_request_that_met_no_server_is_not_tried_again_without_quota(tmp_path: Path) -> None:
    async with (
        Venice(queue=[no_capacity()]) as server,
        client(server, retries=Retries(quota=4)) as venice,
    ):
        with pytest.raises(ServerError, match="Nothing was charged"):
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert 1 == len(server.requests)


async def test_complete_deletes_a_public_clip_and_revoke_a_private_one(tmp_path: Path) -> None:
    async with Venice(polls=0) as server, client(server) as venice:
        public = await venice.generate(PUBLIC, to=tmp_path)
        private = await venice.generate(PRIVATE, to=tmp_path)
        await venice.complete(public.ticket)
        await venice.revoke(private.ticket)
        assert ["POST /video/complete", "DELETE /link"] == wire(server)[-2:]
        with pytest.raises(UsageError, match="no download link"):
            await venice.revoke(Ticket(model="m", queue_id="q"))


async def test_a_refused_clean_up_of_ones_own_carries_the_ticket() -> None:
    refusal = json_answer({"error": "Request ID is invalid"}, status=400)
    async with Venice(complete=[refusal]) as server, client(server) as venice:
        with pytest.raises(BadRequestError) as caught:
            await venice.complete(Ticket(model="m", queue_id="never-issued"))
        assert caught.value.ticket is not None
        assert "never-issued" == caught.value.ticket.queue_id


async def test_a_clean_up_that_fails_never_fails_the_job_and_is_said_in_the_debug_log_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for number, refusal in enumerate(UNCLEAN):
        async with Venice(complete=[refusal] * 9) as server, client(server) as venice:
            began = anyio.current_time()
            video = await venice.generate(PUBLIC, to=tmp_path / f"{number}.mp4")
            assert video.size == len(server.clip)
            assert 60 >= anyio.current_time() - began
    said = [record for record in caplog.records if "left to expire" in record.getMessage()]
    assert ["DEBUG"] * len(UNCLEAN) == [record.levelname for record in said]


INVALID_ID = json_answer({"error": "Request ID is invalid."}, status=400)
UNCLEAN = (
    INVALID_ID,
    json_answer({"error": "no"}, status=404),
    json_answer({"error": "no"}, status=500),
    json_answer({"success": False}),
    fault(delay=3600),
)


async def test_a_process_whose_jobs_are_anothers_meanwhile_does_not_clean_up() -> None:
    def taken_over() -> None:
        msg = "Others may have the job"
        raise JournalError(msg)

    async with Venice() as server, client(server) as venice:
        for link in (None, f"{server.base_url}/clip"):
            ticket = Ticket(model="public-model", queue_id="1", download_url=link)
            event = await venice._runtime.shared().caller.clean_up(ticket, taken_over)
            assert isinstance(event.error, JournalError)
        assert [] == server.requests


async def test_a_clean_up_that_is_refused_is_not_tried_again_for_an_hour(tmp_path: Path) -> None:
    async with Venice(complete=[INVALID_ID] * 99, polls=0) as server, client(server) as venice:
        jobs = [venice.generate(PUBLIC, to=tmp_path / f"{index}.mp4") for index in range(30)]
        await asyncio.gather(*jobs)
        assert 1 == len(server.asked("POST /video/complete"))
        await anyio.sleep(3601)
        await venice.generate(PUBLIC, to=tmp_path / "later.mp4")
        assert 2 == len(server.asked("POST /video/complete"))


async def test_clean_ups_that_work_are_all_sent_one_after_another(tmp_path: Path) -> None:
    slow = [json_answer({"success": True}, delay=1.0)] * 6
    async with Venice(complete=slow, polls=0) as server, client(server) as venice:
        jobs = [venice.generate(PUBLIC, to=tmp_path / f"{index}.mp4") for index in range(6)]
        await asyncio.gather(*jobs)
        times = [request.at for request in server.asked("POST /video/complete")]
        assert 6 == len(times)
        assert 1.0 <= min(later - at for at, later in pairwise(times))


async def test_what_answers_say_of_the_balance_and_of_the_end_of_a_model_is_passed_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = {
        "X-Venice-Balance-USD": "9.5",  # names of headers come in any case
        "x-venice-balance-diem": "n/a",
        "x-venice-model-deprecation-warning": f"use wan-3; key {KEY}",
        "x-venice-model-deprecation-date": "2030-01-01",
    }
    price = fault(headers=told)
    async with Venice(quote=[price, price]) as server, client(server) as venice:
        assert ({}, {}) == (venice.balances, venice.deprecations)
        for request in (PUBLIC, PUBLIC):
            await venice.quote(request)
        await venice.quote(evolve(PUBLIC, model="m"))
        assert {"USD": 9.5} == venice.balances
        (text,) = venice.deprecations.values()
        assert [PUBLIC.model] == [*venice.deprecations]
    assert text.startswith("use wan-3; key ")
    assert text.endswith(" (2030-01-01)")
    assert KEY not in text + caplog.text
    assert 1 == caplog.text.count("comes to an end")


async def test_the_cheapest_model_that_takes_what_is_wanted_is_chosen_by_its_quote() -> None:
    clip = VideoRequest(model="any", prompt="p", duration="10s", image_url="https://a.example/i.png")
    async with (
        Sandbox(clips=CLIP) as sandbox,
        VeniceClient(sandbox.api_key, base_url=sandbox.base_url) as venice,
    ):
        models = await venice.models()
        chosen = {
            "any": await venice.choose(models),
            "references": await venice.choose(models, accepts={"reference_images", "video_references"}),
            "moving": await venice.choose(models, accepts=["image", "camera_trajectory"], max_usd=0.2),
            "ten seconds of an image": await venice.choose(models, accepts={"image"}, request=clip),
        }
        with pytest.raises(BudgetExceededError) as dear:
            await venice.choose(models, accepts={"elements"}, max_usd=0.2)
        impossible: Any
        for impossible in ({"accepts": {"smell"}}, {"request": evolve(clip, prompt="x" * 20_000)}):
            with pytest.raises(UsageError):
                await venice.choose(models, **impossible)
        with pytest.raises(UsageError, match="depends on the clip"):
            await venice.choose(models, accepts={"video"})
        assert [] == sandbox.charges
        assert all(request.status == 200 for request in sandbox.requests)
    expected = {
        "any": "grok-imagine-text-to-video-private",
        "references": "wan-2-7-reference-to-video",
        "moving": "minimax-h3-max-multi-angle",
        "ten seconds of an image": "grok-imagine-image-to-video-private",
    }
    assert expected == {name: model.id for name, model in chosen.items()}
    assert 0.2 == dear.value.limit_usd
