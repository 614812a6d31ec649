"""Values as JSON: what the journal keeps and gives back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from tests.sansio.strategies import errors, requests
from venice_async.errors import (
    BadRequestError,
    ConsentDeclinedError,
    InvalidRequestError,
    JournalError,
    VeniceError,
)
from venice_async.io.journal.entries import StoreAwayError
from venice_async.media import Media
from venice_async.requests import Element, Keyframe, VideoRequest
from venice_async.results import ConsentRequest, Ticket, Video
from venice_async.sansio.converter import (
    LARGE_DATA_URL,
    converter,
    dump_state,
    load_state,
    media_in,
    request_fields,
    request_key,
)
from venice_async.sansio.job.states import Failed, Queueing, Saved, State, Waiting

REQUEST = VideoRequest(model="m", prompt="p")
TICKET = Ticket(model="m", queue_id="q1", download_url="https://cdn.example/x?sig=1")


def kept(state: State) -> Any:
    """Return what the journal holds of a state."""
    return json.loads(dump_state(state))


def again(request: VideoRequest) -> VideoRequest:
    """Return a request as the journal gives it back."""
    return converter().structure(json.loads(json.dumps(converter().unstructure(request))), VideoRequest)


def failed(error: VeniceError) -> VeniceError:
    """Return an error as the journal gives it back."""
    state = load_state(dump_state(Failed(error=error)))
    assert isinstance(state, Failed)
    return state.error


@given(requests)
def test_a_request_outlives_the_journal(request: VideoRequest) -> None:
    assert request == again(request)
    assert hash(request) == hash(again(request))


@given(errors)
def test_an_error_outlives_the_journal(error: VeniceError) -> None:
    found = failed(error)
    assert type(error) is type(found)
    assert error.facts == found.facts
    assert str(error) == str(found)


def test_a_state_is_tagged_with_its_name_and_says_only_what_is_set_of_a_request() -> None:
    found = kept(Queueing(request=REQUEST))
    assert "Queueing" == found["state"]
    assert {"model": "m", "prompt": "p"} == found["request"]


def test_the_journal_keeps_the_link_of_a_ticket() -> None:
    assert "https://cdn.example/x?sig=1" == kept(Waiting(ticket=TICKET))["ticket"]["download_url"]


def test_bytes_are_kept_by_their_digest_and_files_by_their_path() -> None:
    data, file = Media(b"secret pixels", media_type="image/png"), Media("cat.png")
    request = VideoRequest(model="m", prompt="p", image_url=data, reference_image_urls=[file])
    text = dump_state(Queueing(request=request))
    assert "pixels" not in text
    assert "c2VjcmV0" not in text
    found = again(request)
    assert request == found
    assert isinstance(found.image_url, Media)
    assert (data.sha256, None) == (found.image_url.sha256, found.image_url.data)
    assert Media(Path("cat.png")) == found.reference_image_urls[0]


@pytest.mark.parametrize("place", ["image_url", "reference_image_urls", "elements", "keyframes"])
def test_a_long_data_url_is_kept_by_its_digest_wherever_it_stands(place: str) -> None:
    url = "data:image/png;base64," + "A" * LARGE_DATA_URL
    values: dict[str, Any] = {
        "image_url": url,
        "reference_image_urls": [url],
        "elements": [Element(frontal_image_url=url)],
        "keyframes": [Keyframe(image_url=url, frame_index=0)],
    }
    request = VideoRequest(model="m", prompt="p", **{place: values[place]})
    assert len(json.dumps(converter().unstructure(request))) < 1000
    assert again(request) == again(again(request))


def test_a_path_is_kept_as_text() -> None:
    video = Video(path=Path("clips/a.mp4"), size=1, sha256="00", ticket=TICKET)
    assert "clips/a.mp4" == kept(Saved(video=video))["video"]["path"]
    assert Saved(video=video) == load_state(dump_state(Saved(video=video)))


def test_an_error_keeps_its_ticket_and_its_question() -> None:
    question = ConsentRequest(flow="f", policy_text="t", consent_version="v", request=REQUEST)
    error = ConsentDeclinedError("no", consent_request=question).with_ticket(TICKET)
    found = failed(error)
    assert isinstance(found, ConsentDeclinedError)
    assert (question, TICKET, True) == (found.consent_request, found.ticket, found.charged)


def test_a_fact_that_is_no_json_is_kept_as_text() -> None:
    found = [failed(InvalidRequestError("no", field="f", limit=limit)) for limit in (Path("x"), {1})]
    assert ["x", "{1}"] == [error.facts["limit"] for error in found]


def test_an_error_of_a_class_that_is_not_public_is_kept_as_the_public_one_it_is_derived_from() -> None:
    class OwnError(BadRequestError):
        """Made by a caller."""

    assert BadRequestError is type(failed(OwnError("no", status=400)))
    assert JournalError is type(failed(StoreAwayError("it cannot be reached")))


def test_an_error_of_another_version_is_kept_by_its_message() -> None:
    record = kept(Failed(error=BadRequestError("no", status=400)))
    record["error"]["kind"] = "NewError"
    record["error"]["facts"]["news"] = 1
    found = load_state(json.dumps(record))
    assert isinstance(found, Failed)
    assert VeniceError is type(found.error)
    assert {"message": "no"} == found.error.facts


def test_a_field_of_another_version_is_left_out() -> None:
    record = kept(Waiting(ticket=TICKET)) | {"news": 1}
    assert Waiting(ticket=TICKET) == load_state(json.dumps(record))


def test_fields_are_what_is_set_without_consents_and_with_extra() -> None:
    request = VideoRequest(model="m", prompt="p", audio=False, extra={"new": [1, (2,)]})
    assert {"model": "m", "prompt": "p", "audio": False, "new": [1, [2]]} == request_fields(request)


def test_the_key_of_a_request_tells_it_from_others() -> None:
    same = VideoRequest(model="m", prompt="p", reference_image_urls=())
    other = VideoRequest(model="m", prompt="q")
    with_bytes = [VideoRequest(model="m", prompt="p", image_url=Media(data)) for data in (b"a", b"b")]
    assert request_key(REQUEST) == request_key(same)
    assert 4 == len({request_key(request) for request in (REQUEST, other, *with_bytes)})


def test_a_field_that_becomes_known_keeps_the_key_that_it_had_in_extra() -> None:
    points = [{"time": at, "azimuth": 45 * at, "elevation": 0, "distance": 1.5} for at in (0, 1)]
    newer: dict[str, Any] = {
        "anon_user_id": "7",
        "camera_trajectory": points,
        "image_references": [{"image_url": "https://a.example/i.png", "ref_name": "hero"}],
        "image_strength": 0.5,
        "video_references": [{"video_url": "https://a.example/v.mp4"}],
        "voice_id": "eve",
    }
    common: dict[str, Any] = {"model": "m", "prompt": "p", "image_url": "https://a.example/i.png"}
    before = VideoRequest(**common, extra=newer | {"seed": 1})
    assert request_key(before) == request_key(VideoRequest(**common, **newer, extra={"seed": 1}))


def test_the_media_of_a_request_are_found_in_whatever_field_they_are() -> None:
    url, mask = "https://a.example/1.png", Media("mask.png")
    request = VideoRequest(
        model="m",
        prompt=url,
        reference_image_urls=[url],
        keyframes=[Keyframe(image_url=url, frame_index=0)],
        extra={"seed": 7, "masks": [mask], "pose_url": mask},
    )
    found = list(media_in(converter().unstructure(request)))
    known = {"$media": {"path": "mask.png"}}
    expected = [("reference_image_url", url), ("image_url", url), ("mask", known), ("pose_url", known)]
    assert expected == found


def test_media_in_fields_of_tomorrow_outlive_the_journal() -> None:
    extra = {
        "a": [Media("cat.png"), {"b": Media(b"x", media_type="image/png")}],
        "c": {"$media": {}},
        "d": {"$media": 7},
    }
    request = VideoRequest(model="m", prompt="p", extra=extra)
    assert request == again(request)
    assert "cat.png" in json.dumps(converter().unstructure(request))
