"""A misspelt model: the error says what may have been meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from venice_async import BadRequestError, VeniceClient, VideoRequest
from venice_async.sandbox import Sandbox, tiny_clip

pytestmark = pytest.mark.anyio

WRONG = VideoRequest(model="wan-2-7-txt-to-video", prompt="a fox", duration="5s")
MEANT = "Did you mean 'wan-2-7-text-to-video'"


async def test_a_misspelt_model_gets_a_suggestion_and_the_catalogue_is_read_once(tmp_path: Path) -> None:
    async with (
        Sandbox(clips=tiny_clip(20_000)) as sandbox,
        VeniceClient(sandbox.api_key, base_url=sandbox.base_url) as venice,
    ):
        with pytest.raises(BadRequestError, match=MEANT):
            await venice.quote(WRONG)
        with pytest.raises(BadRequestError, match=MEANT) as raised:
            await venice.generate(WRONG, to=tmp_path)
        with pytest.raises(BadRequestError, match=MEANT):
            await venice.generate(WRONG, to=tmp_path, max_usd=1.0)
        assert (False, 1) == (raised.value.charged, sandbox.count("models"))
        with pytest.raises(BadRequestError, match=r"VideoModel\.check"):
            await venice.quote(VideoRequest(model="nothing-like-it", prompt="a fox"))
