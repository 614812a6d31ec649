"""Where a job stands: one poll, which never takes the clip."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from venice_async import BadRequestError, Downloading, Failed, Ticket, VeniceClient, VideoRequest, Waiting
from venice_async.sandbox import Sandbox, Scenario, tiny_clip

pytestmark = pytest.mark.anyio

CLIP = tiny_clip(30_000)
PUBLIC = "wan-2-7-text-to-video"
PRIVATE = "grok-imagine-text-to-video-private"
REFUSED = "wan-2-7-image-to-video"


async def test_a_status_tells_how_far_a_job_is_and_leaves_its_clip_where_it_is(tmp_path: Path) -> None:
    scenarios = {PUBLIC: Scenario(seconds=60), PRIVATE: Scenario(seconds=60)}
    async with (
        Sandbox(speed=1, clips=CLIP, scenarios=scenarios) as sandbox,
        VeniceClient(sandbox.api_key, base_url=sandbox.base_url) as venice,
    ):
        for model, via, total in ((PUBLIC, "poll", len(CLIP)), (PRIVATE, "link", None)):
            job = venice.generate(VideoRequest(model=model, prompt="a fox", duration="5s"), to=tmp_path)
            ticket = await job.queued()
            job.cancel()
            await anyio.sleep(20)
            state = await venice.status(ticket)
            assert isinstance(state, Waiting)
            assert 20 == pytest.approx(state.elapsed, abs=1)
            await anyio.sleep(60)
            for _ in range(2):
                state = await venice.status(ticket.to_json())
                assert isinstance(state, Downloading)
                assert (via, 0, total, 0) == (state.via, state.received, state.total, state.gets)
            video = await venice.resume(ticket, to=tmp_path / f"{via}.mp4")
            assert CLIP == Path(video).read_bytes()


async def test_a_status_of_a_job_that_failed_is_a_state_and_of_one_that_is_not_known_an_error(
    tmp_path: Path,
) -> None:
    scenarios = {PUBLIC: Scenario(outcome="content_policy", seconds=1)}
    async with (
        Sandbox(speed=1, clips=CLIP, scenarios=scenarios) as sandbox,
        VeniceClient(sandbox.api_key, base_url=sandbox.base_url) as venice,
    ):
        job = venice.generate(VideoRequest(model=PUBLIC, prompt="a fox", duration="5s"), to=tmp_path)
        ticket = await job.queued()
        job.cancel()
        await anyio.sleep(2)
        state = await venice.status(ticket)
        assert isinstance(state, Failed)
        assert (True, ticket) == (state.job_failed, state.ticket)
        unknown = Ticket(model=PUBLIC, queue_id="00000000-0000-4000-8000-000000000000")
        with pytest.raises(BadRequestError, match="Request ID is invalid") as raised:
            await venice.status(unknown)
        assert unknown == raised.value.ticket
