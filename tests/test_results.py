"""What you get back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from tests.sansio.strategies import tickets
from venice_async import ConsentRequest, Problem, Ticket, UsageError, Video, VideoModel, VideoRequest

URL = "https://a.example/cat.png"
TICKET = Ticket(model="m", queue_id="q1")
MODEL = VideoModel(
    id="m",
    model_type="text-to-video",
    aspect_ratios=("16:9", "9:16"),
    resolutions=("720p",),
    durations=("5s", "10s", "Auto"),
    audio_configurable=True,
    prompt_character_limit=10,
)


@given(tickets)
def test_a_ticket_equals_itself_after_json(ticket: Ticket) -> None:
    text = ticket.to_json()
    assert ticket == Ticket.from_json(text)
    assert ticket == Ticket.from_json(text.encode())
    assert hash(ticket) == hash(Ticket.from_json(text))


def test_a_ticket_is_json_with_its_link_and_without_what_is_absent() -> None:
    assert {"model": "m", "queue_id": "q1"} == json.loads(TICKET.to_json())
    private = Ticket(model="m", queue_id="q1", download_url=URL)
    assert {"model": "m", "queue_id": "q1", "download_url": URL} == json.loads(private.to_json())


def test_a_ticket_does_not_show_its_link() -> None:
    assert "Ticket(model='m', queue_id='q1')" == repr(Ticket(model="m", queue_id="q1", download_url=URL))


def test_a_ticket_of_a_later_version_can_be_read() -> None:
    assert TICKET == Ticket.from_json('{"model": "m", "queue_id": "q1", "download_url": null, "new": 1}')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "q1",
        "[]",
        "7",
        "{}",
        '{"model": "m"}',
        '{"model": "m", "queue_id": 7}',
        '{"model": "m", "queue_id": "q1", "download_url": 7}',
        b"\xff",
        "[" * 100_000,
    ],
)
def test_what_is_no_ticket_is_told_without_showing_it(text: str | bytes) -> None:
    with pytest.raises(UsageError, match="not a ticket") as caught:
        Ticket.from_json(text)
    assert caught.value.__cause__ is None


def test_a_clip_stands_where_a_path_is_wanted() -> None:
    assert "clip.mp4" == os.fspath(Video(path=Path("clip.mp4"), size=1, sha256="00", ticket=TICKET))
    with pytest.raises(UsageError, match="has no path"):
        os.fspath(Video(path=None, size=1, sha256="00", ticket=TICKET))


def test_a_policy_is_told_by_its_flow_and_version() -> None:
    assert "f/v" == ConsentRequest(flow="f", policy_text="t", consent_version="v").policy


def test_a_problem_says_itself_in_one_line() -> None:
    assert "f: wrong" == str(Problem(field="f", message="wrong"))
    assert "f: wrong (allowed: a, b)" == str(Problem(field="f", message="wrong", allowed=("a", "b")))


def problems(by: VideoModel = MODEL, /, **values: Any) -> list[str]:
    """Return the fields that a model finds fault with."""
    known: dict[str, Any] = {"model": "m", "prompt": "a cat", "duration": 5} | values
    return [problem.field for problem in by.check(VideoRequest(**known))]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"aspect_ratio": "16:9", "resolution": "720P", "duration": "AUTO", "audio": False},
        {"prompt": "x" * 10, "negative_prompt": "x" * 10},
    ],
)
def test_a_model_finds_no_fault_with_what_it_takes(values: dict[str, Any]) -> None:
    assert [] == problems(**values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"model": "other"}, ["model"]),
        ({"prompt": "x" * 11}, ["prompt"]),
        ({"negative_prompt": "x" * 11}, ["negative_prompt"]),
        ({"prompt": None, "image_url": URL}, ["prompt"]),
        ({"aspect_ratio": "1:1"}, ["aspect_ratio"]),
        ({"resolution": "4k"}, ["resolution"]),
        ({"duration": "7s"}, ["duration"]),
        ({"duration": None}, ["duration"]),
        (
            {"aspect_ratio": "1:1", "resolution": "4k", "duration": 7},
            ["aspect_ratio", "resolution", "duration"],
        ),
    ],
)
def test_a_model_names_every_field_it_would_refuse(values: dict[str, Any], expected: list[str]) -> None:
    assert expected == problems(**values)


def test_a_model_says_what_it_takes_instead() -> None:
    request = VideoRequest(model="m", prompt="p", duration=5, aspect_ratio="1:1")
    message = "'1:1' is not among what the model takes"
    assert [Problem(field="aspect_ratio", message=message, allowed=("16:9", "9:16"))] == MODEL.check(request)


def test_a_model_that_takes_no_choice_says_so() -> None:
    plain = VideoModel(id="m")
    assert [] == problems(plain, duration=None)
    values = {"aspect_ratio": "1:1", "resolution": "720p", "audio": True}
    assert ["audio", "aspect_ratio", "resolution", "duration"] == problems(plain, **values)


def test_an_offline_model_is_a_problem() -> None:
    assert ["model"] == problems(VideoModel(id="m", offline=True, durations=("5s",)))


@pytest.mark.parametrize("values", [{"image_url": URL}, {"reference_image_urls": [URL]}])
def test_an_image_model_needs_an_image(values: dict[str, Any]) -> None:
    model = VideoModel(id="m", model_type="image-to-video", durations=("5s",))
    assert ["image_url"] == problems(model)
    assert ([] if "image_url" in values else ["image_url"]) == problems(model, **values)


def test_upscaling_needs_no_duration() -> None:
    model = VideoModel(id="m", durations=("5s",))
    assert [] == problems(model, prompt=None, duration=None, video_url=URL, upscale_factor=2)
