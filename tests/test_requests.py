"""What you send is checked before anything is sent: each refusal names its field and its limit."""

from __future__ import annotations

from inspect import cleandoc
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, fields

from tests.cases import for_each
from venice_async import Consent, Element, InvalidRequestError, Keyframe, Media, VideoRequest

URL = "https://a.example/cat.png"
YES = Consent(terms_and_privacy=True, legal_right=True, screening=True)


def request(**values: Any) -> VideoRequest:
    known: dict[str, Any] = {"model": "m", "prompt": "a cat"} | values
    return VideoRequest(**known)


def refused(**values: Any) -> InvalidRequestError:
    """Return why a request is refused."""
    with pytest.raises(InvalidRequestError) as caught:
        request(**values)
    assert caught.value.charged is False
    return caught.value


LISTS = {
    "reference_image_urls": 30,
    "reference_video_urls": 10,
    "reference_audio_urls": 10,
    "reference_document_urls": 1,
    "scene_image_urls": 4,
}
MEDIA = ["image_url", "end_image_url", "audio_url", "video_url"]
WORDS = ["aspect_ratio", "resolution", "omni_reference_task_type", "bitrate_mode", "duration"]


@for_each(
    "values, field, limit",
    [
        ({"prompt": ""}, "prompt", 1),
        ({"prompt": " \n"}, "prompt", 1),
        ({"prompt": None}, "prompt", 1),
        ({"prompt": "x" * 20_001}, "prompt", 20_000),
        ({"prompt": 7}, "prompt", None),
        ({"prompt": b"a cat"}, "prompt", None),
        ({"negative_prompt": "x" * 20_001}, "negative_prompt", 20_000),
        ({"negative_prompt": 7}, "negative_prompt", None),
        ({"model": ""}, "model", None),
        ({"model": None, "prompt": "p"}, "model", None),
        ({"duration": 0}, "duration", 1),
        ({"duration": -2}, "duration", 1),
        ({"duration": "-5s"}, "duration", 1),
        ({"duration": True}, "duration", None),
        ({"duration": 5.5}, "duration", None),
        ({"upscale_factor": 0}, "upscale_factor", 1),
        ({"upscale_factor": "2"}, "upscale_factor", 1),
        ({"upscale_factor": True}, "upscale_factor", 1),
        ({"upscale_factor": 2, "resolution": "1080p"}, "resolution", None),
        ({"audio": 1}, "audio", None),
        ({"audio": "yes"}, "audio", None),
        ({"reference_audio_urls": [URL]}, "reference_audio_urls", 1),
        ({"elements": [Element()] * 5}, "elements", 4),
        ({"elements": [URL]}, "elements", None),
        ({"elements": Element()}, "elements", None),
        ({"keyframes": [Keyframe(image_url=URL, frame_index=i) for i in range(11)]}, "keyframes", 10),
        ({"keyframes": [{"image_url": URL}]}, "keyframes", None),
        ({"keyframes": [{"image_url": URL, "frame_index": 0, "time": 1}]}, "keyframes", None),
        ({"elements": [{"video_url": URL, "frontal_image_url": URL}]}, "elements", None),
        ({"image_references": [{"ref_name": "hero"}]}, "image_references", None),
        ({"image_strength": 1.1}, "image_strength", (0, 1)),
        ({"image_strength": "1"}, "image_strength", (0, 1)),
        ({"voice_id": ""}, "voice_id", None),
        ({"anon_user_id": "x" * 129}, "anon_user_id", 128),
        ({"anon_user_id": "a||b"}, "anon_user_id", 128),
        ({"anon_user_id": "käse"}, "anon_user_id", 128),
        ({"anon_user_id": "a\nb"}, "anon_user_id", 128),
        (
            {"keyframes": [Keyframe(image_url=URL, frame_index=7)] * 2},
            "keyframes",
            "unique frame_index",
        ),
        ({"keyframes": [Keyframe(image_url=URL, frame_index=121)], "duration": "5s"}, "keyframes", 120),
        ({"consents": Consent(terms_and_privacy=True, legal_right=False, screening=True)}, "consents", None),
        ({"consents": True}, "consents", None),
        ({"extra": {"audio": True}, "audio": False}, "extra", None),
        ({"extra": {"prompt": "a dog"}}, "extra", None),
        ({"extra": {"scene_image_urls": []}, "scene_image_urls": [URL]}, "extra", None),
        ({"extra": {"consents": {}}}, "extra", None),
        ({"extra": {"extra": {}}}, "extra", None),
        ({"extra": [("new", 1)]}, "extra", None),
        ({"extra": {1: "one"}}, "extra", None),
        ({"extra": {"new": object()}}, "extra", None),
        ({"extra": {"new": float("nan")}}, "extra", None),
        ({"extra": {"new": [{"deep": {1: 2}}]}}, "extra", None),
        ({"extra": {"new": {1, 2}}}, "extra", None),
    ],
)
def test_what_cannot_succeed_is_refused(values: dict[str, Any], field: str, limit: object) -> None:
    error = refused(**values)
    assert (field, limit) == (error.field, error.limit)
    assert field in error.message


@pytest.mark.parametrize(("name", "limit"), LISTS.items())
def test_too_many_of_a_kind_are_refused(name: str, limit: int) -> None:
    beside = {"image_url": URL}
    assert limit == len(getattr(request(**{name: [URL] * limit}, **beside), name))
    error = refused(**{name: [URL] * (limit + 1)}, **beside)
    assert (name, limit) == (error.field, error.limit)
    assert f"{name} takes at most {limit}, not {limit + 1}" == error.message


def test_an_element_takes_three_more_views() -> None:
    assert 3 == len(Element(reference_image_urls=[URL] * 3).reference_image_urls)
    with pytest.raises(InvalidRequestError) as caught:
        Element(reference_image_urls=[URL] * 4)
    assert ("elements.reference_image_urls", 3) == (caught.value.field, caught.value.limit)


POINTS: list[dict[str, Any]] = [
    {"time": 0, "azimuth": 0, "elevation": 0, "distance": 1},
    {"time": 0.5, "azimuth": -90, "elevation": -90, "distance": 0.1},
    {"time": 1, "azimuth": 45.5, "elevation": 90, "distance": 9},
]


def test_a_camera_trajectory_is_checked_point_by_point_and_as_a_whole() -> None:
    made = request(prompt=None, image_url=URL, camera_trajectory=POINTS)
    assert [0, 0.5, 1] == [point.time for point in made.camera_trajectory]
    broken: dict[str, list[dict[str, Any]]] = {
        "camera_trajectory": [
            {"camera_trajectory": POINTS[:1]},
            {"camera_trajectory": [POINTS[0] | {"time": i / 12} for i in range(13)]},
            {"camera_trajectory": [POINTS[0], POINTS[0]]},
            {"camera_trajectory": POINTS[::-1]},
            {"camera_trajectory": [POINTS[0], POINTS[2] | {"azimuth": 11_521}]},
            {"camera_trajectory": [POINTS[0], POINTS[1] | {"azimuth": 6000}, POINTS[2]]},
            {"camera_trajectory": [POINTS[0], {"time": 1}]},
            {"camera_trajectory": [POINTS[0], POINTS[1] | {"roll": 0}]},
        ],
        "time": [
            {"camera_trajectory": [POINTS[0] | {"time": value}, POINTS[2]]}
            for value in (-0.1, 1.1, "0", None)
        ],
        "azimuth": [
            {"camera_trajectory": [POINTS[0] | {"azimuth": float(value)}, POINTS[2]]}
            for value in ("inf", "nan")
        ],
        "elevation": [
            {"camera_trajectory": [POINTS[0] | {"elevation": value}, POINTS[2]]} for value in (-91, 90.5)
        ],
        "distance": [
            {"camera_trajectory": [POINTS[0] | {"distance": value}, POINTS[2]]} for value in (0, -1, True)
        ],
        "image_url": [{"camera_trajectory": POINTS, "image_url": None}],
        "aspect_ratio": [{"camera_trajectory": POINTS, "aspect_ratio": "16:9"}],
    }
    found = {
        field: [refused(**{"image_url": URL} | values).field for values in group]
        for field, group in broken.items()
    }
    assert {field: [field] * len(group) for field, group in broken.items()} == found


def test_media_stands_anywhere_in_fields_of_tomorrow() -> None:
    extra = {"new": [{"deep": (Media(b"x"), {"deeper": Media("cat.png")})}], "one": Media(b"y")}
    made = request(extra=extra)
    assert {"new": [{"deep": [Media(b"x"), {"deeper": Media("cat.png")}]}], "one": Media(b"y")} == made.extra
    assert "Media" in repr(made)


@pytest.mark.parametrize("frame_index", [-1, 1.5, "1", None, True])
def test_a_frame_is_a_whole_number(frame_index: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Keyframe(image_url=URL, frame_index=frame_index)
    assert ("frame_index", None if frame_index is None else 0) == (caught.value.field, caught.value.limit)


@for_each("name", WORDS)
@for_each("value", ["", "  ", b"16:9", ["16:9"]])
def test_an_open_enumeration_takes_any_word_but_no_blank(name: str, value: object) -> None:
    assert name == refused(**{name: value}).field
    assert "of tomorrow" == getattr(request(**{name: "of tomorrow"}), name)


BAD_URLS = [
    "",
    "cat.png",
    "/etc/passwd",
    "file:///etc/passwd",
    "ftp://a.example/cat.png",
    "https://",
    "https:///cat.png",
    "https://a b.example/",
    "https://a.example/a b",
    "https://a.example/\n",
    "https://a.example:0/",
    "https://a.example:99999/",
    "http://[::1/",
    "data:",
    "data:,x",
    "data:image/png;base64,",
    "data:image/png;base64",
    b"https://a.example/cat.png",
    7,
]


@for_each("name", [*MEDIA, *LISTS])
@for_each("value", BAD_URLS)
def test_a_bad_url_is_refused_and_a_text_is_never_a_file(name: str, value: object) -> None:
    assert name == refused(**{name: [value] if name in LISTS else value}).field


@pytest.mark.parametrize(
    "value",
    [
        URL,
        "HTTP://a.example:8080/cat.png?x=1#y",
        "https://[2001:db8::1]/cat",
        "data:image/png;base64,iVBORw0KGgo=",
        "data:image/svg+xml;charset=utf-8,<svg/>",
        Media("cat.png"),
        Media(b"bytes"),
    ],
)
def test_media_is_a_url_or_media(value: str | Media) -> None:
    assert value == request(image_url=value).image_url
    assert (value,) == request(scene_image_urls=[value]).scene_image_urls
    assert value == Element(video_url=value).video_url
    assert value == Keyframe(image_url=value, frame_index=0).image_url


def test_a_text_for_a_file_is_told_about_media() -> None:
    assert "Media(path)" in refused(image_url="cat.png").hint


@for_each("name", [*LISTS, "elements", "keyframes", "camera_trajectory", "video_references"])
@for_each("value", [URL, {URL}, 7, {"a": 1}, iter([URL])])
def test_a_list_is_a_list_or_a_tuple(name: str, value: object) -> None:
    assert name == refused(**{name: value}).field


def test_a_list_a_tuple_and_nothing_are_alike() -> None:
    assert request(scene_image_urls=[URL]) == request(scene_image_urls=(URL,))
    assert request() == request(scene_image_urls=[]) == request(scene_image_urls=None) == request(extra=None)
    assert hash(request(scene_image_urls=[URL])) == hash(request(scene_image_urls=(URL,)))


def test_what_a_list_holds_later_is_not_the_requests() -> None:
    urls, extra = [URL], {"new": [1]}
    made = request(scene_image_urls=urls, extra=extra)
    urls.append(URL)
    extra["new"].append(2)
    assert (URL,) == made.scene_image_urls
    assert {"new": [1]} == made.extra


@for_each(
    "duration, kept, seconds",
    [
        (5, "5s", 5),
        ("12s", "12s", 12),
        ("1 gen", "1 gen", None),
        (-1, "-1", None),
        ("auto", "auto", None),
        ("12.5", "12.5", 12.5),
        ("7", "7", 7),
        (None, None, None),
    ],
)
def test_a_duration_is_a_word_or_seconds(
    duration: str | int | None, kept: str | None, seconds: float | None
) -> None:
    made = request(duration=duration)
    assert (kept, seconds) == (made.duration, made.seconds)


@pytest.mark.parametrize("beside", ["reference_image_urls", "reference_video_urls", "image_url", "video_url"])
def test_audio_stands_beside_an_image_or_a_clip(beside: str) -> None:
    value = [URL] if beside in LISTS else URL
    assert (URL,) == request(reference_audio_urls=[URL], **{beside: value}).reference_audio_urls


def test_a_keyframe_may_be_the_last_frame_and_anywhere_without_a_duration() -> None:
    last = Keyframe(image_url=URL, frame_index=120)
    assert (last,) == request(keyframes=[last], duration=5).keyframes
    assert (last,) == request(keyframes=[last]).keyframes
    assert (last,) == request(keyframes=[last], duration="auto").keyframes


@pytest.mark.parametrize(
    "values",
    [
        {"image_url": URL},
        {"video_url": URL, "upscale_factor": 2},
        {"reference_image_urls": [URL]},
        {"elements": [Element(video_url=URL)]},
        {"extra": {"new": 1}},
    ],
)
def test_a_prompt_may_be_left_out_where_there_is_something_to_work_on(values: dict[str, Any]) -> None:
    assert request(prompt=None, **values).prompt is None


def test_a_prompt_may_be_as_long_as_the_longest_limit() -> None:
    assert 20_000 == len(request(prompt="x" * 20_000).prompt or "")


def test_fields_of_tomorrow_are_kept_as_json_keeps_them() -> None:
    assert {"new": [1, {"a": None}]} == request(extra={"new": (1, {"a": None})}).extra
    assert request(extra={"new": (1,)}) == request(extra={"new": [1]})


def test_consent_beforehand_is_three_times_true() -> None:
    assert YES == request(consents=YES).consents
    assert YES.complete
    for name in ("terms_and_privacy", "legal_right", "screening"):
        for no in (False, 1, "yes", None):
            changes: dict[str, Any] = {name: no}
            assert not evolve(YES, **changes).complete


def test_consent_has_no_default() -> None:
    with pytest.raises(TypeError):
        Consent()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] - the very point


def test_a_request_is_frozen_and_takes_keywords_only() -> None:
    with pytest.raises(AttributeError):
        request().prompt = "a dog"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue] - the very point
    with pytest.raises(TypeError):
        VideoRequest("m", "p")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] - the very point


def test_every_field_is_described() -> None:
    described = cleandoc(VideoRequest.__doc__ or "")
    assert [] == [field.name for field in fields(VideoRequest) if f"\n    {field.name}: " not in described]


def test_a_repr_is_short_and_shows_no_query() -> None:
    signed = "https://s3.example/cat.png?X-Signature=s3cret"
    made = request(
        prompt="x" * 20_000,
        image_url="data:image/png;base64," + "A" * 1_000_000,
        end_image_url=signed,
        reference_image_urls=[signed] * 3,
        elements=[Element(frontal_image_url=signed, reference_image_urls=[signed])],
        keyframes=[Keyframe(image_url=signed, frame_index=0)],
        extra={"new_url": signed, "more": [signed, {"deep": signed}], "long": "x" * 1_000_000, "few": 7},
    )
    shown = repr(made)
    assert "s3cret" not in shown
    assert "https://s3.example/cat.png?…" in shown
    assert "<20000 characters>" in shown
    assert "'few': 7" in shown
    assert len(shown) < 2500


def test_a_request_shows_what_is_set_and_no_query_of_a_url() -> None:
    request = VideoRequest(
        model="m",
        prompt="A gondola",
        duration=5,
        image_url="https://a.example/b?signature=s3cret",
        elements=[Element(video_url="https://a.example/c.mp4")],
    )
    assert (
        "VideoRequest(model='m', prompt='A gondola', duration='5s', image_url='https://a.example/b?…', "
        "elements=(Element(video_url='https://a.example/c.mp4')))"
    ) == repr(request)


@pytest.mark.parametrize("file", [Path("cat.png"), b"PNG"])
def test_a_file_that_is_not_wrapped_gets_the_hint_that_text_gets(file: Any) -> None:
    cases: list[dict[str, Any]] = [
        {"image_url": file},
        {"reference_image_urls": [file]},
        {"image_url": "cat.png"},
    ]
    for given in cases:
        with pytest.raises(InvalidRequestError, match=r"pass Media\(path\)"):
            VideoRequest(model="m", prompt="p", **given)
