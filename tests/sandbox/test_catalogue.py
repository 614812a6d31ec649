"""What the sandbox offers, and for how much."""

from __future__ import annotations

import pytest

from venice_async.sandbox import CATALOGUE

from .talk import FACES, PRIVATE, TEXT, UPSCALE, talk

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
