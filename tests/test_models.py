"""What a model says of itself, and of a request, before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cases import for_each
from venice_async import Problem, VideoModel, VideoRequest
from venice_async.sansio.http.replies import model as read

URL = "https://a.example/cat.png"
MODEL = VideoModel(
    id="m",
    model_type="text-to-video",
    aspect_ratios=("16:9", "9:16"),
    resolutions=("720p", "768P"),
    durations=("5s", "10s", "1 gen"),
    audio_configurable=True,
    prompt_character_limit=10,
)


def listed(name: str, kind: str = "image-to-video", **constraints: Any) -> VideoModel:
    """Return a model as the catalogue lists it."""
    found = read(
        {"id": name, "model_spec": {"name": name, "constraints": {"model_type": kind, **constraints}}}
    )
    assert found is not None
    return found


def problems(by: VideoModel = MODEL, /, **values: Any) -> list[str]:
    """Return the fields that a model finds fault with."""
    fitting = {"duration": by.durations[0] if by.durations else None}
    fitting |= {"aspect_ratio": by.aspect_ratios[0]} if by.aspect_ratios else {}
    known: dict[str, Any] = {"model": by.id, "prompt": "a cat", **fitting} | values
    return [problem.field for problem in by.check(VideoRequest(**known))]


def test_a_problem_says_itself_in_one_line() -> None:
    assert "f: wrong" == str(Problem(field="f", message="wrong"))
    assert "f: wrong (allowed: a, b)" == str(Problem(field="f", message="wrong", allowed=("a", "b")))


def test_a_model_finds_no_fault_with_what_it_takes() -> None:
    for values in (
        {},
        {"aspect_ratio": "9:16", "resolution": "720p", "duration": 10, "audio": False},
        {"resolution": "768P", "duration": "1 gen"},
        {"prompt": "x" * 10, "negative_prompt": "x" * 10},
    ):
        assert [] == problems(**values)


@for_each(
    "values, expected",
    [
        ({"model": "other"}, ["model"]),
        ({"prompt": "x" * 11}, ["prompt"]),
        ({"negative_prompt": "x" * 11}, ["negative_prompt"]),
        ({"prompt": None, "extra": {"new": 1}}, ["prompt"]),
        ({"aspect_ratio": "1:1"}, ["aspect_ratio"]),
        ({"aspect_ratio": None}, ["aspect_ratio"]),
        ({"resolution": "4k"}, ["resolution"]),
        ({"resolution": "720P"}, ["resolution"]),
        ({"resolution": "768p"}, ["resolution"]),
        ({"duration": "7s"}, ["duration"]),
        ({"duration": "5S"}, ["duration"]),
        ({"duration": None}, ["duration"]),
        (
            {"aspect_ratio": None, "extra": {"aspect_ratio": "1:1", "resolution": "4k"}},
            ["aspect_ratio", "resolution"],
        ),
        ({"upscale_factor": 2}, ["upscale_factor"]),
        ({"image_url": URL}, ["image_url"]),
        (
            {"aspect_ratio": "1:1", "resolution": "4k", "duration": 7},
            ["aspect_ratio", "resolution", "duration"],
        ),
    ],
)
def test_a_model_names_every_field_it_would_refuse(values: dict[str, Any], expected: list[str]) -> None:
    assert expected == problems(**values)


def test_a_model_says_what_it_takes_instead_and_how_it_is_spelt() -> None:
    request = VideoRequest(model="m", prompt="p", duration=5, aspect_ratio="1:1", resolution="768p")
    expected = [
        Problem(
            field="aspect_ratio",
            message="'1:1' is not among what the model takes",
            allowed=("16:9", "9:16"),
        ),
        Problem(field="resolution", message="'768p' is spelt '768P'", allowed=("720p", "768P")),
    ]
    assert expected == MODEL.check(request)


def test_a_model_that_takes_no_choice_says_so() -> None:
    plain = VideoModel(id="m")
    assert [] == problems(plain)
    values = {"aspect_ratio": "1:1", "resolution": "720p", "audio": True, "duration": 5}
    assert ["audio", "aspect_ratio", "resolution", "duration"] == problems(plain, **values)


def test_an_offline_model_is_a_problem() -> None:
    assert ["model"] == problems(VideoModel(id="m", offline=True, durations=("5s",)))


# What the catalogue calls image-to-video: an id or a name, what such a model takes, what it accepts.
IMAGE_TO_VIDEO: dict[str, tuple[dict[str, Any], str]] = {
    "wan-2-7-image-to-video": ({"image_url": URL}, "image text"),
    "kling-o3-pro-reference-to-video": (
        {"elements": [{"frontal_image_url": URL}]},
        "elements reference_images scene_images text",
    ),
    "seedance-2-5-reference-to-video-basic": (
        {"reference_video_urls": [URL], "aspect_ratio": "adaptive", "duration": "auto"},
        "reference_audios reference_images reference_videos text",
    ),
    "Wan 2.6 R2V": ({"reference_image_urls": [URL]}, "reference_images text"),
    "pixverse-c1-reference-to-video": (
        {"image_references": [{"image_url": URL}]},
        "image_references reference_images text",
    ),
    "pixverse-c1-transition": ({"image_url": URL, "end_image_url": URL}, "end_image image text"),
    "flux-3-first-last-frame-to-video": ({"image_url": URL, "end_image_url": URL}, "end_image image text"),
    "ltx-2-3-keyframes-to-video": ({"keyframes": [{"image_url": URL, "frame_index": 0}]}, "keyframes text"),
    "minimax-h3-max-multi-angle": ({"image_url": URL, "prompt": None}, "camera_trajectory image text"),
}


def test_models_that_are_called_image_to_video_are_told_apart_by_their_names() -> None:
    for name, (material, accepts) in IMAGE_TO_VIDEO.items():
        model = listed(name, durations=["5s"])
        assert [] == problems(model, **material), name
        assert 1 <= len(problems(model)), name
        assert frozenset(accepts.split()) == model.accepts, name


def test_a_trajectory_is_for_multi_angle_models_and_takes_the_shape_of_the_image() -> None:
    points = [{"time": at, "azimuth": 45, "elevation": 0, "distance": 1} for at in (0, 1)]
    values = {"image_url": URL, "camera_trajectory": points, "aspect_ratio": None}
    angle = listed("h3-max", durations=["5s"], aspect_ratios=["16:9"])
    assert ["aspect_ratio", "camera_trajectory"] == problems(angle, **values)
    named = read(
        {"id": "h3", "model_spec": {"name": "H3 Max Multi-Angle", "constraints": {"aspect_ratios": ["16:9"]}}}
    )
    assert named is not None
    assert [] == problems(named, **values)


@pytest.mark.parametrize("name", ["topaz-video-upscale", "wan-2-7-video-to-video", "runway-aleph"])
def test_a_model_that_follows_its_source_takes_no_auto_though_it_is_listed(name: str) -> None:
    model = listed(name, "video", durations=["Auto"])
    for duration in (None, "12.5", "7"):
        assert [] == problems(model, video_url=URL, duration=duration)
    for duration in ("Auto", "auto"):
        assert ["duration"] == problems(model, video_url=URL, duration=duration)
    assert ["video_url"] == problems(model, duration=None)
    assert "video" in model.accepts


def test_an_upscaler_takes_a_factor_unless_it_keeps_the_size() -> None:
    upscaler = listed("topaz-video-upscale", "video", durations=["Auto"], resolutions=["1x", "2x", "4x"])
    clip: dict[str, Any] = {"prompt": None, "video_url": URL, "duration": None}
    assert ([], ["resolution"]) == (
        problems(upscaler, **clip, upscale_factor=2),
        problems(upscaler, **clip, resolution="2x"),
    )
    for name in ("interpolate", "hyperion", "deblur", "colorize"):
        assert ["upscale_factor"] == problems(
            listed(f"topaz-video-{name}", "video"), **clip, upscale_factor=2
        )
    suite = listed(
        "enhancer", "video", topaz={"models": ["a", "b"], "no_upscale_models": ["b"], "prompt": True}
    )
    chosen = {
        name: problems(suite, **clip, upscale_factor=2, extra={"enhancement_model": name}) for name in "ab"
    }
    assert {"a": [], "b": ["upscale_factor"]} == chosen
    assert [frozenset({"video"}), frozenset({"video", "text"})] == [upscaler.accepts, suite.accepts]


def test_what_the_catalogue_says_that_a_model_does_not_take_is_refused() -> None:
    flags: dict[str, Any] = {"audio_input": False, "video_input": False, "per_reference_audio": False}
    values: dict[str, Any] = {"image_url": URL, "audio_url": URL, "video_url": URL}
    voices = {"elements": [{"frontal_image_url": URL, "audio_url": URL}]}
    assert ["audio_url", "video_url"] == problems(listed("x", durations=["5s"], **flags), **values)
    assert ["audio_url"] == problems(listed("x-reference", durations=["5s"], **flags), **voices)
    taken = listed("x", durations=["5s"], audio_input=True, per_reference_audio=True)
    assert [] == problems(taken, image_url=URL, audio_url=URL, **voices)
    assert {"audio", "video_references"} < taken.accepts


def test_what_the_catalogue_says_beyond_this_version_is_kept() -> None:
    entry = {
        "id": "m",
        "model_spec": {"model_sets": ["fast"], "constraints": {"new": [1]}},
        "owned_by": "venice.ai",
    }
    found = read(entry)
    assert found is not None
    assert entry == found.raw
    assert found == VideoModel(id="m", name="m")


# What a vendor may publish tomorrow: a model and its type, its constraints, a request that it takes.
OF_TOMORROW: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "durations are numbers": ("nova", "text-to-video", {"durations": [5, 10]}, {"duration": "10s"}),
    "durations are half seconds": ("nova", "text-to-video", {"durations": [2.5]}, {"duration": "2.5s"}),
    "durations are a span": ("nova", "text-to-video", {"durations": {"min": 3}}, {"duration": "7s"}),
    "ratios are objects": (
        "nova",
        "text-to-video",
        {"durations": ["5s"], "aspect_ratios": [{"value": "1:1"}]},
        {"aspect_ratio": "1:1"},
    ),
    "resolutions are one text": (
        "nova",
        "text-to-video",
        {"durations": ["5s"], "resolutions": "720p"},
        {"resolution": "720p"},
    ),
    "a clip's length is followed, in small letters": (
        "nova-reframe",
        "video",
        {"durations": ["auto"]},
        {"video_url": URL, "duration": None},
    ),
    "a length is chosen or left to the sound": (
        "nova-avatar",
        "image-to-video",
        {"durations": ["Auto", "5s"], "audio_input": True},
        {"image_url": URL, "audio_url": URL, "duration": None},
    ),
    "the type says that it refers": (
        "nova",
        "reference-to-video",
        {"durations": ["5s"]},
        {"reference_image_urls": [URL]},
    ),
    "the type says that it edits": (
        "nova",
        "video-to-video",
        {"durations": ["5s"]},
        {"video_url": URL, "duration": "12.5"},
    ),
    "its sets say that it refers": (
        "nova",
        "image-to-video",
        {"durations": ["5s"], "model_sets": ["reference-to-video"]},
        {"reference_image_urls": [URL]},
    ),
}


def test_a_catalogue_that_names_what_no_request_can_hold_has_a_price_asked_without_it() -> None:
    odd: list[dict[str, Any]] = [{"durations": ["0s"]}, {"durations": [""]}, {"resolutions": [" "]}]
    for constraints in odd:
        assert VideoRequest(model="nova", prompt="-") == listed("nova", **constraints).shortest()


def test_a_field_of_a_wrong_type_in_extra_is_reported_as_a_problem() -> None:
    reference = listed("nova-reference", durations=["5s"], aspect_ratios=["1:1"])
    odd: dict[str, Any] = {"aspect_ratio": None, "extra": {"aspect_ratio": ["1:1"]}}
    assert ["aspect_ratio"] == problems(reference, reference_video_urls=[URL], **odd)


@pytest.mark.parametrize("case", OF_TOMORROW)
def test_what_a_catalogue_of_tomorrow_may_say_is_no_problem(case: str) -> None:
    name, kind, constraints, values = OF_TOMORROW[case]
    model = listed(name, kind, **constraints)
    assert [] == problems(model, **values)
    assert model.shortest().model == name


def test_the_types_of_tomorrow_say_what_they_need() -> None:
    for kind, needed in (("reference-to-video", "reference_image_urls"), ("video-to-video", "video_url")):
        assert [needed] == problems(listed("nova", kind, durations=["5s"])), kind


def test_the_countries_where_a_model_is_blocked_are_a_list_or_one() -> None:
    for restricted, expected in ((["CN", "RU"], ("CN", "RU")), ("CN", ("CN",)), (None, ()), ({}, ())):
        found = read({"id": "m", "model_spec": {"regionRestrictions": restricted}})
        assert found is not None
        assert expected == found.region_restrictions
