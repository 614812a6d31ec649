"""Less waste: what would be refused again is not sent, what was refunded is tried once more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients import PUBLIC, client
from tests.venice import Venice, fault, json_answer
from venice_async import (
    ContentPolicyError,
    InvalidRequestError,
    Outcome,
    Retries,
    UsageError,
    VeniceClient,
    VideoRequest,
)
from venice_async.sandbox import Sandbox, Scenario, tiny_clip

pytestmark = pytest.mark.anyio

REFUSED = json_answer({"error": "The image shows a public figure"}, status=422)
MODEL = "wan-2-7-text-to-video"
CLIP = tiny_clip(20_000)


def _portrait(number: int) -> VideoRequest:
    return VideoRequest(
        model="public-model", prompt=f"take {number}", duration="5s", image_url="https://example.com/face.png"
    )


async def _outcomes(
    venice: VeniceClient, requests: list[VideoRequest], into: Path, **options: int | None
) -> list[Outcome]:
    found = [outcome async for outcome in venice.batch(requests, into=into, concurrency=1, **options)]  # type: ignore[arg-type]
    return sorted(found, key=lambda outcome: outcome.index)


async def test_a_batch_gives_up_on_an_image_that_was_refused_three_times(
    tmp_path: Path,
) -> None:
    requests = [*map(_portrait, range(6)), PUBLIC]
    async with Venice(queue=[REFUSED] * 3) as server, client(server) as venice:
        outcomes = await _outcomes(venice, requests, tmp_path, give_up_after=3)
        assert (4, 1) == (len(server.asked("POST /video/queue")), len(server.charges))
    assert [ContentPolicyError] * 3 + [InvalidRequestError] * 3 == [type(one.error) for one in outcomes[:6]]
    error = outcomes[5].error
    assert error is not None
    assert "3 requests with the same image_url were refused in the same way: The image shows" in error.message
    assert (False, None) == (error.charged, outcomes[6].error)


async def test_an_image_that_worked_once_is_not_given_up(tmp_path: Path) -> None:
    async with Venice(queue=[REFUSED, fault(), *[REFUSED] * 4]) as server, client(server) as venice:
        outcomes = await _outcomes(venice, [_portrait(number) for number in range(6)], tmp_path)
    assert 5 == sum(isinstance(one.error, ContentPolicyError) for one in outcomes)


async def test_giving_up_can_be_switched_off_and_needs_a_sound_number(tmp_path: Path) -> None:
    async with Venice(queue=[REFUSED] * 5) as server, client(server) as venice:
        outcomes = await _outcomes(venice, [_portrait(1)] * 5, tmp_path, give_up_after=None)
        assert [ContentPolicyError] * 5 == [type(one.error) for one in outcomes]
        with pytest.raises(UsageError, match="give_up_after"):
            venice.batch([], into=tmp_path, give_up_after=0)


async def test_a_job_that_failed_and_was_refunded_is_queued_once_more_and_never_twice(
    tmp_path: Path,
) -> None:
    failed = Scenario(outcome="provider_failed", seconds=1, tells_refund=True)
    request = VideoRequest(model=MODEL, prompt="a fox", duration="5s")
    scenarios = {MODEL: [failed, Scenario(seconds=1), failed, failed, Scenario(seconds=1)]}
    async with (
        Sandbox(clips=CLIP, speed=1, scenarios=scenarios) as sandbox,
        VeniceClient(
            sandbox.api_key,
            base_url=sandbox.base_url,
            journal=tmp_path / "jobs.db",
            retries=Retries(refunded=True),
        ) as venice,
    ):
        video = await venice.generate(request, to=tmp_path / "clip.mp4", key="order-1")
        assert CLIP == Path(video).read_bytes()
        assert [True, False] == [charge.refunded for charge in sandbox.charges]
        assert sandbox.charges[1].queue_id == video.ticket.queue_id
        with pytest.raises(Exception, match="Nothing was charged"):
            await venice.generate(request, to=tmp_path / "other.mp4", max_usd=1.0)
        assert [True, False, True, True] == [charge.refunded for charge in sandbox.charges]
        assert [] == list(await venice.pending())


async def test_without_a_refund_that_is_told_nothing_is_queued_again(tmp_path: Path) -> None:
    kept = Scenario(outcome="provider_failed", seconds=1, tells_refund=False)
    request = VideoRequest(model=MODEL, prompt="a fox", duration="5s")
    async with (
        Sandbox(clips=CLIP, speed=1, scenarios={MODEL: kept}) as sandbox,
        VeniceClient(sandbox.api_key, base_url=sandbox.base_url, retries=Retries(refunded=True)) as venice,
    ):
        with pytest.raises(Exception, match="refund"):
            await venice.generate(request, to=tmp_path / "clip.mp4")
        assert 1 == len(sandbox.charges)
