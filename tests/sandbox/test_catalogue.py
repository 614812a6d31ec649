"""What the sandbox offers, and for how much."""

from __future__ import annotations

import json
from typing import Any

import pytest

from venice_async import VideoRequest
from venice_async.sandbox import CATALOGUE
from venice_async.sandbox.validation import check_queue
from venice_async.sansio.http.replies import model as read
from venice_async.sansio.http.wire import request_body

from .talk import FACES, PICTURE, PRIVATE, TEXT, UPSCALE, order, talk

pytestmark = pytest.mark.anyio


async def test_models_lists_the_catalogue_when_asked_for_videos() -> None:
    async with talk() as venice:
        answer = await venice.call("GET", "/models", params={"type": "video"})
    assert [model.id for model in CATALOGUE] == [entry["id"] for entry in answer.json["data"]]
    assert "video" == answer.json["type"]


async def test_models_lists_no_video_model_when_not_asked_for_one() -> None:
    async with talk() as venice:
        answer = await venice.call("GET", "/models")
    assert {"data": [], "object": "list", "type": "text"} == answer.json


async def test_models_refuses_a_type_that_is_none() -> None:
    async with talk() as venice:
        unknown, images = [
            await venice.call("GET", "/models", params={"type": kind}) for kind in ("films", "image")
        ]
    assert (400, 200, "image") == (unknown.status, images.status, images.json["type"])


async def test_models_needs_no_key_and_refuses_a_wrong_one() -> None:
    async with talk() as venice:
        without = await venice.call("GET", "/models", headers={})
        wrong = await venice.call("GET", "/models", headers={"Authorization": "Bearer other"})
    assert [200, 401] == [without.status, wrong.status]


async def test_the_first_model_is_public_text_to_video_and_takes_five_seconds_of_720p() -> None:
    async with talk() as venice:
        answer = await venice.call("GET", "/models", params={"type": "video"})
    spec = answer.json["data"][0]["model_spec"]
    assert ("anonymized", "text-to-video") == (spec["privacy"], spec["constraints"]["model_type"])
    assert "5s" in spec["constraints"]["durations"]
    assert "720p" in spec["constraints"]["resolutions"]


async def test_a_model_whose_id_says_private_is_listed_as_private() -> None:
    async with talk() as venice:
        answer = await venice.call("GET", "/models", params={"type": "video"})
    listed = {entry["id"]: entry["model_spec"]["privacy"] for entry in answer.json["data"]}
    assert {name: "private" if "private" in name else "anonymized" for name in listed} == listed


async def test_a_quote_is_seconds_times_the_price_of_the_resolution() -> None:
    async with talk() as venice:
        answer = await venice.quote(duration="10s", resolution="720p", prompt=None)
    assert {"quote": 1.0} == answer.json


async def test_an_omitted_resolution_is_quoted_as_the_dearest() -> None:
    async with talk() as venice:
        omitted, dearest = await venice.quote(), await venice.quote(resolution="1080p")
    assert dearest.json == omitted.json


async def test_a_clip_without_sound_is_cheaper_where_sound_can_be_switched_off() -> None:
    async with talk() as venice:
        silent = await venice.quote(resolution="720p", audio=False)
        private = await venice.quote(PRIVATE, resolution="720p", audio=False)
    assert [0.4, 0.35] == [silent.json["quote"], private.json["quote"]]


async def test_stated_seconds_of_reference_video_raise_a_quote() -> None:
    async with talk() as venice:
        answer = await venice.quote(FACES, resolution="720p", reference_video_total_duration=10)
    assert {"quote": 1.65} == answer.json


async def test_upscaling_is_quoted_without_a_duration_and_by_its_factor() -> None:
    source = {"prompt": None, "duration": None, "video_url": "https://example.com/clip.mp4"}
    async with talk() as venice:
        double = await venice.quote(UPSCALE, **source)
        fourfold = await venice.quote(UPSCALE, upscale_factor=4, **source)
    assert [{"quote": 0.5}, {"quote": 1.0}] == [double.json, fourfold.json]


async def test_options_and_images_move_a_quote_and_a_quote_without_them_is_too_low() -> None:
    source: dict[str, object] = {"prompt": None, "duration": None, "video_url": "https://example.com/x.mp4"}
    reference = "kling-o3-reference-to-video"
    async with talk() as venice:
        plain = await venice.quote("topaz-video-astra", **source)
        dear = await venice.quote(
            "topaz-video-astra", **source, enhancement_model="astra-2", target_fps=60, slowdown_factor=4
        )
        one, four = await venice.quote(reference), await venice.quote(reference, reference_image_count=4)
    assert 32 == dear.json["quote"] / plain.json["quote"]
    assert 0.06 == round(four.json["quote"] - one.json["quote"], 4)


async def test_a_quote_needs_no_key_but_for_upscalers_and_drops_what_a_model_does_not_take() -> None:
    clip = {"model": UPSCALE, "video_url": "https://example.com/x.mp4"}
    async with talk() as venice:
        bodies = (order(PRIVATE, audio=False, upscale_factor=2, new=1), clip)
        without = [await venice.call("POST", "/video/quote", body, headers={}) for body in bodies]
    assert [200, 403] == [answer.status for answer in without]


async def test_the_catalogue_looks_like_the_vendors() -> None:
    async with talk() as venice:
        listed = (await venice.call("GET", "/models", params={"type": "video"})).json["data"]
    specs = {entry["id"]: entry["model_spec"] for entry in listed}
    assert not [name for name, spec in specs.items() if "pricing" in spec]
    kinds = {name: spec["constraints"]["model_type"] for name, spec in specs.items()}
    assert {"image-to-video"} == {
        kind for name, kind in kinds.items() if "reference" in name or "angle" in name
    }
    assert ["Auto"] == specs["topaz-video-denoise"]["constraints"]["durations"]
    assert {"models", "sliders", "selects", "no_upscale_models", "h264_output", "prompt"} == specs[
        "topaz-video-astra"
    ]["constraints"]["topaz"].keys()


async def test_whether_a_model_is_private_does_not_tell_how_it_delivers() -> None:
    async with talk() as venice:
        lite = await venice.queue("grok-imagine-1-5-lite-text-to-video")
        private = await venice.queue("seedance-2-5-us-image-to-video-private", image_url=PICTURE)
    assert ("anonymized", True) == (
        listed_privacy("grok-imagine-1-5-lite-text-to-video"),
        "download_url" in lite.json,
    )
    assert ("private", False) == (
        listed_privacy("seedance-2-5-us-image-to-video-private"),
        "download_url" in private.json,
    )


def listed_privacy(name: str) -> str:
    """Return what the catalogue says of a model's privacy."""
    found: str = next(model for model in CATALOGUE if model.id == name).listing()["model_spec"]["privacy"]
    return found


def test_a_model_that_takes_a_request_finds_no_fault_with_it() -> None:
    """What the catalogue says is enough to write a request for each model."""
    for entry in CATALOGUE:
        model = read(entry.listing())
        assert model is not None
        needs: dict[str, Any] = {name: "https://example.com/x" for name in entry.needs if name != "keyframes"}
        if "keyframes" in entry.needs:
            needs["keyframes"] = [{"image_url": "https://example.com/x", "frame_index": 0}]
        if "reference_images" in model.accepts:
            needs["reference_image_urls"] = ["https://example.com/x"]
        request = VideoRequest(
            model=entry.id,
            prompt="a canal",
            duration=None if model.durations == ("Auto",) else model.durations[0],
            aspect_ratio=next(iter(model.aspect_ratios), None),
            **needs,
        )
        assert ([], entry.offline) == ([p for p in model.check(request) if p.field != "model"], model.offline)
        check_queue(request_fields_of(request), entry, strict=True)


def request_fields_of(request: VideoRequest) -> dict[str, Any]:
    """Return the body of a request."""
    found: dict[str, Any] = json.loads(request_body(request))
    return found


async def test_a_quote_for_what_the_model_cannot_do_is_a_400_that_names_the_field() -> None:
    async with talk() as venice:
        answer = await venice.quote(duration="30s", resolution="4k")
    assert 400 == answer.status
    assert [["duration"], ["resolution"]] == [issue["path"] for issue in answer.json["issues"]]


async def test_a_quote_charges_nothing() -> None:
    async with talk() as venice:
        await venice.quote()
        assert [] == venice.sandbox.charges


async def test_what_is_charged_is_what_was_quoted() -> None:
    async with talk() as venice:
        quoted = await venice.quote(TEXT, duration="15s", resolution="480p", audio=False)
        await venice.queue(TEXT, duration="15s", resolution="480p", audio=False)
        assert [quoted.json["quote"]] == [charge.usd for charge in venice.sandbox.charges]
