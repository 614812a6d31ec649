"""Whatever is sent, the sandbox has an answer."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from venice_async.sandbox import CATALOGUE, CatalogueModel
from venice_async.sandbox.consent import ConsentRecord
from venice_async.sandbox.replies import Refused
from venice_async.sandbox.validation import check_job, check_queue, check_quote

from .talk import CONFIRMED

FIELDS = [
    *("model", "queue_id", "prompt", "negative_prompt", "duration", "resolution", "aspect_ratio", "audio"),
    *("upscale_factor", "image_url", "end_image_url", "audio_url", "video_url", "elements", "keyframes"),
    *("reference_image_urls", "reference_video_urls", "reference_audio_urls", "reference_document_urls"),
    *(
        "scene_image_urls",
        "consents",
        "omni_reference_task_type",
        "bitrate_mode",
        "delete_media_on_completion",
    ),
    *("reference_video_total_duration", "frontal_image_url", "frame_index", "seedance"),
]
TEXTS = st.sampled_from(
    ["5s", "auto", "-1", "720p", "16:9", "https://x/y", "data:video/mp4;base64,AAAA", "\ud800", ""]
)
LEAVES = (
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats(allow_nan=False) | TEXTS | st.just(CONFIRMED)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=6,
)
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=8)
MODELS = st.sampled_from(CATALOGUE)


@given(more=BODIES, model=MODELS)
@example(more={"resolution": [None]}, model=next(each for each in CATALOGUE if not each.resolutions))
def test_any_body_is_accepted_and_priced_or_refused(more: dict[str, Any], model: CatalogueModel) -> None:
    body = {"prompt": "x", "duration": (*model.durations, "5s")[0], "aspect_ratio": "16:9", **more}
    for check in (check_queue, check_quote):
        status = 200
        try:
            check(body, model)
        except Refused as refused:
            status = refused.reply.status
        assert status in {200, 400}
        if status == 200:
            assert 0 < model.price(body) < math.inf
        if status == 200 and check is check_queue:
            ConsentRecord().ask(body, "face_media")


@given(body=BODIES)
def test_any_body_names_a_job_or_is_refused(body: dict[str, Any]) -> None:
    names: object = None
    try:
        names = check_job(body)
    except Refused as refused:
        names = refused.reply.status
    assert names in (400, (body.get("model"), body.get("queue_id")))
