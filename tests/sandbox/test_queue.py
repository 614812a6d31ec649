"""What may be queued, and how the rest is turned down."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest

from tests.cases import for_each
from venice_async.sandbox import Scenario
from venice_async.sandbox.wire import LARGEST_BODY

from .talk import CONFIRMED, FACES, IMAGE, PICTURE, PRIVATE, TEXT, UPSCALE, Talk, order, talk

pytestmark = pytest.mark.anyio

LINK = "https://example.com/file"
OFFLINE = "hunyuan-text-to-video"
KEYFRAMES = "ltx-2-3-keyframes-to-video"
ELEMENTS = "kling-o3-reference-to-video"
ANGLES = "minimax-h3-max-multi-angle"
VOICES = "wan-2-7-reference-to-video"
POINTS = [{"time": at, "azimuth": 45 * at, "elevation": 0, "distance": 1} for at in (0, 0.5, 1)]
FOLLOWS = "seedance-2-5-reference-to-video"
NEEDS_RATIO = "seedance-2-0-text-to-video"


async def test_a_public_model_answers_model_and_queue_id_and_nothing_else() -> None:
    async with talk() as venice:
        answer = await venice.queue()
        assert [{"model": TEXT, "queue_id": venice.sandbox.charges[0].queue_id}] == [answer.json]


async def test_a_private_model_adds_a_link_on_another_origin() -> None:
    async with talk() as venice:
        answer = await venice.queue(PRIVATE)
        link = answer.json["download_url"]
        assert link.startswith("http://127.0.0.1:")
        assert venice.sandbox.base_url.split("/")[2] != link.split("/")[2]


@for_each("headers", [{}, {"Authorization": "Bearer other"}, {"Authorization": "venice-sandbox-key"}])
async def test_without_the_right_key_every_call_is_a_401(headers: dict[str, str]) -> None:
    async with talk() as venice:
        answers = [
            await venice.call(method, path, headers=headers)
            for method, path in [
                ("POST", "/video/queue"),
                ("POST", "/video/retrieve"),
                ("GET", "/api_keys/rate_limits"),
                ("GET", "/billing/balance"),
            ]
        ]
    assert [(401, {"error": "Authentication failed"})] * 4 == [(item.status, item.json) for item in answers]


WRONG: list[tuple[dict[str, Any], list[Any]]] = [
    ({"prompt": None}, ["prompt"]),
    ({"prompt": ""}, ["prompt"]),
    ({"prompt": 5}, ["prompt"]),
    ({"prompt": "x" * 2501}, ["prompt"]),
    ({"negative_prompt": "x" * 2501}, ["negative_prompt"]),
    ({"duration": None}, ["duration"]),
    ({"duration": "7s"}, ["duration"]),
    ({"duration": 5}, ["duration"]),
    ({"duration": "31s"}, ["duration"]),
    ({"resolution": "2160p"}, ["resolution"]),
    ({"resolution": "huge"}, ["resolution"]),
    ({"aspect_ratio": "21:9"}, ["aspect_ratio"]),
    ({"aspect_ratio": ["16:9"]}, ["aspect_ratio"]),
    ({"audio": "yes"}, ["audio"]),
    ({"upscale_factor": 2}, ["upscale_factor"]),
    ({"image_url": "/etc/passwd"}, ["image_url"]),
    ({"video_url": "ftp://example.com/clip.mp4"}, ["video_url"]),
    ({"reference_image_urls": LINK}, ["reference_image_urls"]),
    ({"reference_image_urls": ["clip.png"]}, ["reference_image_urls", 0]),
    ({"reference_image_urls": [LINK] * 31}, ["reference_image_urls"]),
    ({"reference_document_urls": [LINK] * 2}, ["reference_document_urls"]),
    ({"scene_image_urls": [LINK] * 5}, ["scene_image_urls"]),
    ({"reference_audio_urls": [LINK]}, ["reference_audio_urls"]),
    ({"elements": [{}] * 5}, ["elements"]),
    ({"elements": ["x"]}, ["elements", 0]),
    ({"elements": [{"reference_image_urls": [LINK] * 4}]}, ["elements", 0, "reference_image_urls"]),
    ({"elements": [{"frontal_image_url": "me.png"}]}, ["elements", 0, "frontal_image_url"]),
    ({"keyframes": [{"frame_index": 0}]}, ["keyframes", 0, "image_url"]),
    ({"keyframes": [{"image_url": LINK, "frame_index": -1}]}, ["keyframes", 0, "frame_index"]),
    ({"keyframes": [{"image_url": LINK, "frame_index": 121}]}, ["keyframes", 0, "frame_index"]),
    ({"keyframes": [{"image_url": LINK, "frame_index": 7}] * 2}, ["keyframes", 1, "frame_index"]),
    ({"omni_reference_task_type": "edit"}, ["omni_reference_task_type"]),
    ({"bitrate_mode": "low"}, ["bitrate_mode"]),
    (
        {"consents": {"seedance": {**CONFIRMED, "consent_version": "1"}}},
        ["consents", "seedance", "consent_version"],
    ),
    ({"consents": {"other": {}}}, ["consents", "other"]),
    ({"consents": []}, ["consents"]),
    ({"model": IMAGE}, ["image_url"]),
    ({"model": IMAGE, "image_url": PICTURE, "aspect_ratio": "16:9"}, ["aspect_ratio"]),
    ({"model": NEEDS_RATIO}, ["aspect_ratio"]),
    ({"model": FACES, "reference_image_urls": [LINK] * 10}, ["reference_image_urls"]),
    ({"model": FOLLOWS, "duration": "-1"}, ["duration"]),
    ({"model": FOLLOWS, "aspect_ratio": "adaptive"}, ["aspect_ratio"]),
    ({"model": FOLLOWS, "omni_reference_task_type": "invent"}, ["omni_reference_task_type"]),
    ({"model": KEYFRAMES}, ["keyframes"]),
    ({"model": UPSCALE}, ["video_url"]),
    ({"model": UPSCALE, "video_url": LINK, "resolution": "1080p"}, ["resolution"]),
    ({"model": UPSCALE, "video_url": LINK, "upscale_factor": 3}, ["upscale_factor"]),
    ({"model": UPSCALE, "video_url": LINK, "duration": "Auto"}, ["duration"]),
    ({"model": UPSCALE, "video_url": LINK, "duration": "301"}, ["duration"]),
    ({"model": UPSCALE, "video_url": LINK, "target_fps": 60}, ["target_fps"]),
    ({"model": "topaz-video-deblur", "video_url": LINK, "upscale_factor": 2}, ["upscale_factor"]),
    ({"model": "topaz-video-denoise", "video_url": LINK, "target_fps": 121}, ["target_fps"]),
    (
        {"model": "topaz-video-denoise", "video_url": LINK, "enhancement_model": "astra-1"},
        ["enhancement_model"],
    ),
    ({"model": "topaz-video-denoise", "video_url": LINK, "slowdown_factor": True}, ["slowdown_factor"]),
    ({"model": "topaz-video-denoise", "video_url": LINK, "grain": 0.2}, ["grain"]),
    ({"model": PRIVATE, "audio": False}, ["audio"]),
    ({"model": PRIVATE, "audio_url": LINK}, ["audio_url"]),
    ({"image_url": LINK}, ["image_url"]),
    ({"video_url": LINK}, ["video_url"]),
    ({"model": IMAGE, "image_url": "http://169.254.169.254/latest"}, ["image_url"]),
    ({"model": IMAGE, "image_url": "http://localhost/x.png"}, ["image_url"]),
    ({"model": ELEMENTS, "elements": [{"frontal_image_url": LINK, "video_url": LINK}]}, ["elements", 0]),
    ({"model": ELEMENTS, "elements": [{"video_url": LINK, "audio_url": LINK}]}, ["elements", 0, "audio_url"]),
    ({"image_references": [{"ref_name": "hero"}]}, ["image_references", 0, "image_url"]),
    ({"anon_user_id": "a||b"}, ["anon_user_id"]),
    ({"image_strength": 2}, ["image_strength"]),
    ({"camera_trajectory": POINTS}, ["camera_trajectory"]),
    ({"model": ANGLES, "image_url": LINK, "camera_trajectory": POINTS[:1]}, ["camera_trajectory"]),
    ({"model": ANGLES, "image_url": LINK, "camera_trajectory": POINTS[::-1]}, ["camera_trajectory"]),
    ({"model": ANGLES, "camera_trajectory": POINTS}, ["image_url"]),
    ({"model": ANGLES, "image_url": LINK, "resolution": "768p"}, ["resolution"]),
    ({"model": "none-such"}, ["model"]),
    ({"model": None}, ["model"]),
]


@for_each("fields, path", WRONG)
async def test_a_wrong_field_is_a_400_that_names_it_and_costs_nothing(
    fields: dict[str, Any], path: list[Any]
) -> None:
    async with talk() as venice:
        answer = await venice.queue(**fields)
        assert 400 == answer.status
        assert [path] == [issue["path"] for issue in answer.json["issues"]]
        assert answer.json["details"][path[0]]["_errors"]
        assert [] == venice.sandbox.charges


RIGHT: list[dict[str, Any]] = [
    {
        "negative_prompt": "",
        "aspect_ratio": "9:16",
        "resolution": "1080p",
        "audio": False,
        "bitrate_mode": "high",
    },
    {"a_field_of_tomorrow": {"anything": 1}},
    {"model": IMAGE, "image_url": PICTURE, "end_image_url": LINK, "audio_url": LINK},
    {"model": NEEDS_RATIO, "aspect_ratio": "21:9", "prompt": "x" * 10_000},
    {
        "model": FOLLOWS,
        "duration": "-1",
        "aspect_ratio": "adaptive",
        "reference_video_urls": [LINK + "no-face"],
    },
    {"model": FOLLOWS, "omni_reference_task_type": "edit", "reference_video_urls": [LINK + "no-face"]},
    {"model": ELEMENTS, "elements": [{"frontal_image_url": LINK}], "scene_image_urls": [LINK] * 4},
    {"model": KEYFRAMES, "keyframes": [{"image_url": LINK, "frame_index": at} for at in (0, 120)]},
    {"model": UPSCALE, "video_url": LINK, "upscale_factor": 4, "prompt": None, "duration": None},
    {"model": UPSCALE, "video_url": LINK, "duration": "12.5"},
    {"model": "wan-2-7-video-to-video", "video_url": LINK, "duration": None},
    {
        "model": "topaz-video-astra",
        "video_url": LINK,
        "duration": None,
        "prompt": "sharp eyes",
        "upscale_factor": 4,
        "enhancement_model": "astra-2",
        "target_fps": 60,
        "creativity": 0.5,
        "h264_output": True,
        "output_format": "prores",
    },
    {"model": ANGLES, "image_url": LINK, "prompt": None, "camera_trajectory": POINTS, "resolution": "768P"},
    {"model": VOICES, "video_references": [{"video_url": LINK, "ref_name": "hero", "audio_url": LINK}]},
    {"model": "wan-2-2-text-to-video"},
]


@for_each("fields", RIGHT)
async def test_what_the_documents_allow_is_queued(fields: dict[str, Any]) -> None:
    async with talk() as venice:
        answer = await venice.queue(**fields)
    assert 200 == answer.status, answer.content


async def test_all_that_is_wrong_is_listed_at_once() -> None:
    async with talk() as venice:
        answer = await venice.queue(prompt="", duration="7s", resolution="4k")
    assert [["prompt"], ["duration"], ["resolution"]] == [issue["path"] for issue in answer.json["issues"]]


async def test_a_body_that_is_not_json_is_a_400_and_another_content_type_a_415() -> None:
    async with talk() as venice:
        key = {"Authorization": f"Bearer {venice.sandbox.api_key}"}
        broken = await venice.call(
            "POST", "/video/queue", data=b"{", headers={**key, "Content-Type": "application/json"}
        )
        deep = await venice.call(
            "POST", "/video/queue", data=b"[" * 100_000, headers={**key, "Content-Type": "application/json"}
        )
        array = await venice.call("POST", "/video/queue", [1])
        form = await venice.call("POST", "/video/queue", data={"model": TEXT}, headers=key)
        unsaid = {**key, "Content-Type": "application/x-www-form-urlencoded"}  # what curl -d says
        curl = await venice.call("POST", "/video/queue", data=json.dumps(order()), headers=unsaid)
    assert [400, 400, 400] == [broken.status, deep.status, array.status]
    assert [415, 415] == [form.status, curl.status]


async def test_a_body_above_35_mb_is_a_413_with_a_code() -> None:
    async with talk() as venice:
        headers = {"Authorization": f"Bearer {venice.sandbox.api_key}", "Content-Type": "application/json"}
        fits, above = [
            await venice.call("POST", "/video/queue", data=BytesIO(b"[]".ljust(size)), headers=headers)
            for size in (LARGEST_BODY, LARGEST_BODY + 1)
        ]
    assert [400, 413] == [fits.status, above.status]
    assert "PAYLOAD_TOO_LARGE" == above.json["code"]


async def test_an_unknown_path_is_a_404_and_a_wrong_method_a_405() -> None:
    async with talk() as venice:
        unknown, wrong = await venice.call("GET", "/video"), await venice.call("GET", "/video/queue")
    assert [404, 405] == [unknown.status, wrong.status]


async def test_a_price_above_the_balance_is_a_402_and_the_balance_stays() -> None:
    async with talk(balance=0.99) as venice:
        await venice.queue(resolution="720p")
        answer = await venice.queue(resolution="720p")
        balance = await venice.call("GET", "/billing/balance")
    assert (402, "INSUFFICIENT_BALANCE") == (answer.status, answer.json["code"])
    assert 0.49 == balance.json["balances"]["usd"]


async def test_an_offline_model_is_a_503_with_a_code_and_costs_nothing() -> None:
    async with talk() as venice:
        answer = await venice.queue(OFFLINE)
        assert (503, []) == (answer.status, venice.sandbox.charges)
    assert "MODEL_OFFLINE" == answer.json["code"]


async def test_an_overloaded_model_is_a_429_that_says_when_to_come_back_and_costs_nothing() -> None:
    async with talk(scenarios={TEXT: [Scenario(outcome="overloaded"), Scenario()]}) as venice:
        refused, taken = await venice.queue(), await venice.queue()
        assert (429, 200, 1) == (refused.status, taken.status, len(venice.sandbox.charges))
    assert ("MODEL_OVERLOADED", "30") == (refused.json["code"], refused.headers["Retry-After"])


async def test_a_strict_sandbox_wants_a_ratio_wherever_the_catalogue_lists_any() -> None:
    async with talk(strict=True) as venice:
        without, given = await venice.queue(), await venice.queue(aspect_ratio="16:9")
        none_listed = await venice.queue(IMAGE, image_url=PICTURE)
    assert [400, 200, 200] == [without.status, given.status, none_listed.status]


async def test_an_answer_brings_the_balance_before_it_and_the_end_of_a_model() -> None:
    async with talk(balance=10) as venice:
        first, second = [await venice.queue("wan-2-2-text-to-video", resolution="720p") for _ in range(2)]
        other = await venice.queue()
    balances = [answer.headers["x-venice-balance-usd"] for answer in (first, second)]
    assert ["10.0000", "9.7000"] == balances
    assert "wan-2-7-text-to-video" in first.headers["x-venice-model-deprecation-warning"]
    assert first.headers["x-venice-model-deprecation-date"].startswith("2030-")
    assert "x-venice-model-deprecation-date" not in other.headers


async def test_a_refused_prompt_is_a_422_with_the_suggestion_and_costs_nothing() -> None:
    scenarios = {TEXT: Scenario(outcome="prompt_refused", suggested_prompt="a calm canal")}
    async with talk(scenarios=scenarios) as venice:
        answer = await venice.queue()
        assert (422, "a calm canal") == (answer.status, answer.json["suggested_prompt"])
        assert [] == venice.sandbox.charges


async def test_a_region_that_is_blocked_is_a_403() -> None:
    async with talk(scenarios={"*": Scenario(outcome="region_blocked")}) as venice:
        answer = await venice.queue()
    assert 403 == answer.status


async def ask(venice: Talk, **fields: Any) -> Any:
    """Queue a job on a consent-asking model."""
    return await venice.queue(FACES, **{"reference_image_urls": [PICTURE], **fields})


async def test_face_media_is_a_409_that_says_all_and_costs_nothing() -> None:
    async with talk() as venice:
        answer = await ask(venice, reference_video_urls=[LINK])
        assert 409 == answer.status
        assert "needs_consent" == answer.json["error"]["code"]
        assert "seedance" == answer.json["consent_flow"]
        assert ["reference_image", "reference_video"] == answer.json["face_media_roles"]
        assert {"consent_version", "policy_text"} == answer.json["consent"].keys()
        assert answer.json["docs_url"].startswith("https://")
        assert [] == venice.sandbox.charges


async def test_the_same_body_with_the_three_confirmations_is_queued() -> None:
    async with talk() as venice:
        answer = await ask(venice, consents={"seedance": CONFIRMED})
        assert (200, 1) == (answer.status, len(venice.sandbox.charges))


@for_each("name", sorted(CONFIRMED))
async def test_a_confirmation_that_is_not_true_is_a_400(name: str) -> None:
    async with talk() as venice:
        missing = {key: True for key in CONFIRMED if key != name}
        answers = [
            await ask(venice, consents={"seedance": given})
            for given in (missing, {**CONFIRMED, name: False}, {**CONFIRMED, name: 1})
        ]
    assert [400] * 3 == [answer.status for answer in answers]


async def test_exact_media_once_attested_is_not_asked_about_again() -> None:
    other = PICTURE.replace("aGVsbG8=", "b3RoZXI=")
    async with talk() as venice:
        await ask(venice, consents={"seedance": CONFIRMED})
        again = await ask(venice, prompt="something else")
        same_bytes = await ask(venice, reference_image_urls=[PICTURE.replace("png", "jpeg")])
        fresh = await ask(venice, reference_image_urls=[PICTURE, other])
    assert [200, 200, 409] == [again.status, same_bytes.status, fresh.status]


async def test_no_media_or_media_named_no_face_is_not_asked_about() -> None:
    async with talk() as venice:
        without = await ask(venice, reference_image_urls=None)
        named = await ask(venice, reference_image_urls=["https://example.com/no-face.png"])
    assert [200, 200] == [without.status, named.status]


async def test_a_scenario_decides_when_consent_is_asked_for() -> None:
    scenarios = {FACES: Scenario(consent="never"), IMAGE: Scenario(consent="always")}
    async with talk(scenarios=scenarios) as venice:
        never = await ask(venice)
        always = await venice.queue(IMAGE, image_url=PICTURE, consents={"seedance": CONFIRMED})
    assert [200, 409] == [never.status, always.status]


async def test_requests_are_recorded_without_the_key() -> None:
    async with talk() as venice:
        await venice.queue()
        (request,) = venice.sandbox.requests
        assert ("POST", "/video/queue", "queue", 200, order()) == (
            request.method,
            request.path,
            request.point,
            request.status,
            request.json,
        )
        assert venice.sandbox.api_key not in repr(request)
        assert "authorization" in request.headers
        assert (1, 1, 0) == tuple(
            venice.sandbox.count(what) for what in ("/video/queue", "queue", "retrieve")
        )
