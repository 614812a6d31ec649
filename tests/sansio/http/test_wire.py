"""Commands as requests, and answers as events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import for_each
from tests.sansio.strategies import json_values
from venice_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ContentPolicyError,
    JobFailedError,
    NotFoundError,
    PaymentRequiredError,
    ProtocolError,
    QueueOutcomeUnknownError,
    RateLimitError,
    ServerError,
    VeniceError,
)
from venice_async.media import Media
from venice_async.requests import (
    CameraPoint,
    Consent,
    Element,
    ImageReference,
    Keyframe,
    VideoReference,
    VideoRequest,
)
from venice_async.results import ConsentRequest, Ticket
from venice_async.sansio.http import wire
from venice_async.sansio.http.wire import (
    EncodedMedia,
    HttpRequest,
    carries_video,
    json_pieces,
    link_request,
    poll_answer,
    poll_request,
    queue_answer,
    queue_request,
    request_body,
)
from venice_async.sansio.job.commands import (
    Fetch,
    Poll,
    Queue,
)
from venice_async.sansio.job.events import (
    Accepted,
    Completed,
    ConsentNeeded,
    Missed,
    Refused,
    StillGoing,
)
from venice_async.sansio.retries import Call

IMAGE = "https://a.example/i.png"
LARGE = "data:image/png;base64," + "A" * 100_000
REQUEST = VideoRequest(model="m", prompt="p")
TICKET = Ticket(model="m", queue_id="q1")
PRIVATE = Ticket(model="m", queue_id="q1", download_url="https://cdn.example/c.mp4?sig=s3cret")
YES = Consent(terms_and_privacy=True, legal_right=True, screening=True)
YES_ON_THE_WIRE = {
    "confirmed_terms_and_privacy": True,
    "confirmed_legal_right": True,
    "confirmed_screening_acknowledged": True,
}

# Every field that either document of the vendor has, with a value as it goes out.
FIELDS: dict[str, Any] = {
    "prompt": "a cat — 猫",
    "duration": "5s",
    "negative_prompt": "dogs",
    "aspect_ratio": "16:9",
    "resolution": "true_1080p",
    "audio": False,
    "image_url": IMAGE,
    "end_image_url": LARGE,
    "audio_url": "https://a.example/a.mp3",
    "video_url": "https://a.example/v.mp4",
    "reference_image_urls": [IMAGE, LARGE] * 15,
    "reference_video_urls": [IMAGE] * 10,
    "reference_audio_urls": [IMAGE] * 10,
    "reference_document_urls": [IMAGE],
    "elements": [
        {"frontal_image_url": LARGE, "reference_image_urls": [IMAGE, LARGE, IMAGE], "audio_url": IMAGE},
        {"video_url": IMAGE},
    ],
    "scene_image_urls": [IMAGE] * 4,
    "keyframes": [{"image_url": LARGE, "frame_index": 0}, {"image_url": IMAGE, "frame_index": 24}],
    "image_references": [{"image_url": IMAGE, "type": "subject", "ref_name": "hero"}],
    "video_references": [{"video_url": IMAGE, "ref_name": "walk", "audio_url": IMAGE}],
    "image_strength": 0.5,
    "voice_id": "eve",
    "anon_user_id": "user 7",
    "omni_reference_task_type": "extend",
    "bitrate_mode": "high",
}


def typed(name: str, value: Any) -> Any:
    """Return a field's value as a caller passes it."""
    kinds = {
        "elements": Element,
        "keyframes": Keyframe,
        "image_references": ImageReference,
        "video_references": VideoReference,
    }
    return [kinds[name](**part) for part in value] if name in kinds else value


def body_of(request: HttpRequest) -> Any:
    assert request.body is not None
    return json.loads(request.body)


def encode(command: Queue | Poll | Fetch) -> HttpRequest:
    """Return the request of a command."""
    match command:
        case Queue(request=request):
            return queue_request(command, request_body(request))
        case Poll(ticket=ticket):
            return poll_request(ticket)
        case Fetch(ticket=ticket):
            return link_request(ticket, {})


def sent(**fields: Any) -> Any:
    """Return the JSON body of a paid request."""
    return body_of(encode(Queue(VideoRequest(model="m", **fields))))


def answer(command: Queue | Ticket, said: object, status: int = 200) -> Any:
    """Return what an answer to a paid request or a poll means; `said` is its JSON, or its bytes."""
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    if isinstance(command, Queue):
        return queue_answer(command, status, {}, body)
    return poll_answer(command, status, {}, body)


def test_all_fields_go_out_together_under_their_wire_names() -> None:
    assert {"model": "m"} | FIELDS == sent(**{name: typed(name, value) for name, value in FIELDS.items()})


@for_each("name", sorted(FIELDS.keys() - {"reference_audio_urls"}))
def test_a_field_goes_out_alone_and_what_is_unset_is_absent(name: str) -> None:
    beside = {} if name == "prompt" else {"prompt": "p"}
    expected = {"model": "m", **beside, name: FIELDS[name]}
    assert expected == sent(**beside, **{name: typed(name, FIELDS[name])})


def test_a_list_or_a_tuple_is_the_same_on_the_wire() -> None:
    assert sent(prompt="p", scene_image_urls=[IMAGE]) == sent(prompt="p", scene_image_urls=(IMAGE,))


def test_lists_of_objects_go_out_alike_as_objects_and_as_mappings() -> None:
    trajectory: list[dict[str, float]] = [
        {"time": 0, "azimuth": 0, "elevation": 0, "distance": 1},
        {"time": 1, "azimuth": -45.5, "elevation": 10, "distance": 0.5},
    ]
    objects = {
        name: value
        for name, value in FIELDS.items()
        if isinstance(value, list) and isinstance(value[0], dict)
    }
    assert objects == {name: value for name, value in sent(prompt="p", **objects).items() if name in objects}
    body = sent(image_url=IMAGE, camera_trajectory=trajectory)
    assert {"model": "m", "image_url": IMAGE, "camera_trajectory": trajectory} == body
    assert body == sent(image_url=IMAGE, camera_trajectory=[CameraPoint(**point) for point in trajectory])


def test_an_element_says_only_what_is_set() -> None:
    assert [{"video_url": IMAGE}] == sent(prompt="p", elements=[Element(video_url=IMAGE)])["elements"]


@pytest.mark.parametrize(("duration", "word"), [(5, "5s"), ("1 gen", "1 gen"), (-1, "-1"), ("Auto", "Auto")])
def test_a_duration_may_be_seconds(duration: str | int, word: str) -> None:
    assert word == sent(prompt="p", duration=duration)["duration"]


def test_upscaling_goes_out_without_prompt_duration_and_resolution() -> None:
    assert {"model": "m", "video_url": IMAGE, "upscale_factor": 2} == sent(video_url=IMAGE, upscale_factor=2)


@given(
    st.dictionaries(st.text(min_size=1).filter(lambda name: name not in {"consents", "extra"}), json_values)
)
def test_fields_of_tomorrow_go_out_as_they_are(extra: dict[str, Any]) -> None:
    beside = {"model": "m", "prompt": "p"}
    new = {name: value for name, value in extra.items() if name not in beside}
    assert beside | new == sent(prompt="p", extra=new)


def test_a_lone_surrogate_in_a_prompt_goes_out_as_a_question_mark() -> None:
    assert "a?" == sent(prompt="a\ud800")["prompt"]


def test_encoded_media_go_out_wherever_they_stand_whatever_the_other_texts_are() -> None:
    url = EncodedMedia("image/png", "digest", [b"AA", b"AA"])
    extra = {"media": "media", "list": [url, "media-", {"deep": url}], '"media"': 1}
    request = VideoRequest(
        model="m", prompt='"media"', image_url=url, elements=[Element(video_url=url)], extra=extra
    )
    expected = {
        "model": "m",
        "prompt": '"media"',
        "image_url": "data:image/png;base64,AAAA",
        "elements": [{"video_url": "data:image/png;base64,AAAA"}],
        **extra,
        "list": ["data:image/png;base64,AAAA", "media-", {"deep": "data:image/png;base64,AAAA"}],
    }
    assert expected == json.loads(request_body(request))


def test_media_keep_their_names_where_names_are_sorted() -> None:
    """They were swapped, so that another request could have the same digest."""
    first, second = (EncodedMedia("image/png", "digest", [piece]) for piece in (b"AA", b"BB"))
    expected = '{"a": "data:image/png;base64,BB", "b": "data:image/png;base64,AA"}'
    assert expected == b"".join(json_pieces({"b": first, "a": second}, sort_keys=True)).decode()


def test_a_long_text_is_written_in_pieces_that_make_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "TEXT_PIECE", 7)
    text = 'a "long"\\ text,\n with \x00, \U0001f98a, ä and \ud800 \ud83e'
    expected = text.replace("\ud800", "?").replace("\ud83e", "?")
    assert [expected, {"deep": expected}] == sent(prompt=text, extra={"new": [text, {"deep": text}]})["new"]


def test_media_that_is_not_encoded_yet_never_goes_out() -> None:
    with pytest.raises(TypeError, match="Media is not JSON"):
        request_body(VideoRequest(model="m", prompt="p", image_url=Media(b"x")))


def test_a_paid_request_is_one_post_of_json() -> None:
    request = encode(Queue(REQUEST))
    assert (Call.QUEUE, "POST", "/video/queue") == (request.call, request.method, request.url)
    assert "application/json" == request.headers["content-type"]


def test_consents_take_their_exact_form_and_nothing_more() -> None:
    expected = {"model": "m", "prompt": "p", "consents": {"seedance": YES_ON_THE_WIRE}}
    assert expected == body_of(encode(Queue(REQUEST, YES, "seedance")))
    beforehand = VideoRequest(model="m", prompt="p", consents=YES)
    assert expected == body_of(encode(Queue(beforehand)))


def test_consents_are_added_to_the_very_bytes_that_were_sent_before() -> None:
    body = request_body(REQUEST)
    again = queue_request(Queue(REQUEST, YES, "other"), body).body
    assert again is not None
    assert again.startswith(body[:-1])
    assert {"model": "m", "prompt": "p", "consents": {"other": YES_ON_THE_WIRE}} == json.loads(again)
    assert body == queue_request(Queue(REQUEST), body).body


def test_what_was_asked_joins_what_was_attested_beforehand() -> None:
    beforehand = VideoRequest(model="m", prompt="p", consents=YES)
    both = {"seedance": YES_ON_THE_WIRE, "other": YES_ON_THE_WIRE}
    assert both == body_of(encode(Queue(beforehand, YES, "other")))["consents"]
    for command in (Queue(REQUEST, None, "other"), Queue(REQUEST, YES, None)):
        assert "consents" not in body_of(encode(command))


def test_a_poll_names_the_job_and_never_asks_to_delete_on_completion() -> None:
    poll = encode(Poll(PRIVATE))
    assert (Call.RETRIEVE, "POST", "/video/retrieve") == (poll.call, poll.method, poll.url)
    assert {"model": "m", "queue_id": "q1"} == body_of(poll)
    assert "video/mp4" in poll.headers["accept"]


def test_a_link_is_fetched_as_it_was_given() -> None:
    fetch = encode(Fetch(PRIVATE, 2))
    assert (Call.LINK, "GET", PRIVATE.download_url) == (fetch.call, fetch.method, fetch.url)


def test_a_request_shows_neither_link_nor_body() -> None:
    assert "s3cret" not in repr(encode(Fetch(PRIVATE, 1)))
    assert "q1" not in repr(encode(Poll(PRIVATE)))


# The answer to a paid request


def test_an_accepted_request_has_a_ticket() -> None:
    said = {"model": "m-2", "queue_id": " q1 ", "download_url": "https://cdn.example/c", "new": 1}
    expected = Ticket(model="m-2", queue_id="q1", download_url="https://cdn.example/c")
    assert Accepted(expected) == answer(Queue(REQUEST), said)
    assert Accepted(TICKET) == answer(Queue(REQUEST), {"queue_id": "q1", "model": None, "download_url": None})


def test_the_id_that_was_paid_for_is_read_in_any_sensible_form() -> None:
    answers: list[object] = [
        {"queue_id": 12345},
        {"data": {"queue_id": "12345"}},
        {"model": "m", "result": {"queue_id": 12345, "model": None}},
        b'\xef\xbb\xbf {"queue_id": "12345"}',
        b'{"queue_id": "12345"}\n<!-- served by edge 7 -->',
        b'{"queue_id": "12345", "note": "\xff"}',
    ]
    expected = Accepted(Ticket(model="m", queue_id="12345"))
    assert [expected] * len(answers) == [answer(Queue(REQUEST), said) for said in answers]
    linked = {"download_url": "https://cdn.example/c", "data": {"queue_id": 1, "model": "m-2"}}
    expected = Accepted(Ticket(model="m-2", queue_id="1", download_url="https://cdn.example/c"))
    assert expected == answer(Queue(REQUEST), linked)


@for_each(
    "said",
    [b"", b"<html>ok</html>", b'{"queue_id": "q', [], 7, {}, {"queue_id": True}, {"queue_id": " "}, b"\xff"],
)
def test_a_success_that_makes_no_sense_may_have_been_charged_and_is_kept(said: object) -> None:
    event = answer(Queue(REQUEST), said)
    assert isinstance(event, Refused)
    assert isinstance(event.error, QueueOutcomeUnknownError)
    assert event.error.charged is None
    whole = said if isinstance(said, bytes) else json.dumps(said).encode()
    assert ("base64:/w==" if said == b"\xff" else whole.decode()) == event.error.answer


QUESTION: dict[str, Any] = {
    "error": {"code": "needs_consent", "message": "Please agree"},
    "consent_flow": "seedance",
    "face_media_roles": ["image", "reference_video", 7],
    "consent": {"consent_version": "2026-05", "policy_text": "Be good."},
    "docs_url": "https://docs.example",
}


def test_a_question_for_consent_is_read_whole() -> None:
    expected = ConsentRequest(
        flow="seedance",
        policy_text="Be good.",
        consent_version="2026-05",
        face_media_roles=("image", "reference_video"),
        docs_url="https://docs.example",
        message="Please agree",
    )
    assert ConsentNeeded(expected) == answer(Queue(REQUEST), QUESTION, 409)


@pytest.mark.parametrize(
    "changed",
    [
        {"error": "Please agree", "code": "needs_consent"},
        {"face_media_roles": None, "docs_url": 7},
        {"consent": {"policy_text": "Be good."}},
    ],
)
def test_a_question_for_consent_is_known_by_its_code_and_policy(changed: dict[str, Any]) -> None:
    event = answer(Queue(REQUEST), QUESTION | changed, 409)
    assert isinstance(event, ConsentNeeded)
    assert ("seedance", "Be good.") == (event.consent_request.flow, event.consent_request.policy_text)


OTHER_CONFLICTS: list[Any] = [
    {"error": {"code": "duplicate", "message": "taken"}},
    {"error": "taken"},
    QUESTION | {"error": {"code": "other"}},
    QUESTION | {"consent": {}},
    QUESTION | {"consent_flow": None},
    b"<html>Conflict</html>",
]


@pytest.mark.parametrize("said", OTHER_CONFLICTS)
def test_any_other_conflict_is_an_ordinary_error(said: object) -> None:
    event = answer(Queue(REQUEST), said, 409)
    assert isinstance(event, Refused)
    assert isinstance(event.error, ConflictError)


def test_a_question_for_consent_is_one_on_a_409_only() -> None:
    event = answer(Queue(REQUEST), QUESTION, 400)
    assert isinstance(event, Refused)
    assert isinstance(event.error, BadRequestError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthenticationError),
        (402, PaymentRequiredError),
        (422, ContentPolicyError),
        (429, RateLimitError),
        (500, ServerError),
    ],
)
def test_an_error_on_a_paid_request_is_refused_with_its_class(status: int, kind: type[APIError]) -> None:
    event = answer(Queue(REQUEST), {"error": "no"}, status)
    assert isinstance(event, Refused)
    assert isinstance(event.error, kind)


# The answer to a poll


@pytest.mark.parametrize(
    "word", ["PROCESSING", "processing", "QUEUED", "PENDING", "some_new_word", " Rendering "]
)
def test_a_status_nobody_knows_is_still_going(word: str) -> None:
    said: dict[str, Any] = {
        "status": word,
        "average_execution_time": 145_000,
        "execution_duration": 53_200.5,
        "new": [],
    }
    assert StillGoing(elapsed=53.2005, average=145.0) == answer(TICKET, said)


@for_each("nonsense", [None, "145000", True, -1, float("inf"), float("nan"), 10**400, [], {}])
def test_a_time_that_makes_no_sense_is_left_out(nonsense: object) -> None:
    said = {"status": "PROCESSING", "average_execution_time": nonsense, "execution_duration": nonsense}
    assert StillGoing() == answer(TICKET, said)


@for_each("word", ["COMPLETED", "completed", "Completed "])
@for_each("name", ["url", "video_url", "download_url"])
def test_a_job_is_completed_in_any_case_with_a_link_under_any_name(word: str, name: str) -> None:
    said = {"status": word, name: "https://cdn.example/x", "execution_duration": 1000}
    assert Completed(link="https://cdn.example/x", elapsed=1.0) == answer(TICKET, said)


def test_a_job_may_be_completed_without_a_link() -> None:
    assert Completed() == answer(TICKET, {"status": "COMPLETED", "url": None, "video_url": 7})


@pytest.mark.parametrize("word", ["FAILED", "error", "Cancelled", "CANCELED", "REJECTED", "expired"])
def test_a_job_that_failed_is_the_end_of_it(word: str) -> None:
    event = answer(TICKET, {"status": word})
    assert isinstance(event, Refused)
    assert isinstance(event.error, JobFailedError)
    assert f"The job ended as {word}" == event.error.message


@pytest.mark.parametrize(
    "said",
    [{"error": "out of memory"}, {"error": {"message": "out of memory"}}, {"message": "out of memory"}],
)
def test_a_job_that_failed_says_why(said: dict[str, Any]) -> None:
    event = answer(TICKET, {"status": "FAILED"} | said)
    assert isinstance(event, Refused)
    assert "The job ended as FAILED: out of memory" == event.error.message


@for_each(
    "said",
    [
        b"",
        b"\xff\xfe",
        b"<html><title>Just a moment</title></html>",
        [],
        7,
        "PROCESSING",
        None,
        {},
        {"status": 7},
        {"status": None},
        {"status": "  "},
        {"status": ["PROCESSING"]},
        b"[" * 100_000,
        b'{"status":' * 100_000,
        b"1" * 10_000,
    ],
)
def test_a_poll_answered_with_nonsense_is_a_miss(said: object) -> None:
    event = answer(TICKET, said)
    assert isinstance(event, Missed)
    assert isinstance(event.error, ProtocolError)


def test_what_names_another_job_says_nothing_of_ours_whatever_it_says() -> None:
    link = {"url": "https://cdn.example/x"}
    answers: list[tuple[int, dict[str, Any]]] = [
        *(
            (200, {"status": word, "queue_id": "q2", **link})
            for word in ("FAILED", "COMPLETED", "PROCESSING")
        ),
        (200, {"status": "FAILED", "data": {"queue_id": 7}}),
        (422, {"error": "content policy", "queue_id": "q2", "credits_refunded": True}),
        (500, {"error": {"message": "inference failed", "queue_id": "q2"}}),
        (404, {"error": "not found", "queue_id": "q2"}),
    ]
    for status, said in answers:
        event = answer(TICKET, said, status)
        assert isinstance(event, Missed), said
        assert isinstance(event.error, ProtocolError), said
    for own in ("q1", None, ""):
        said = {"status": "COMPLETED", "model": "renamed", "queue_id": own, **link}
        assert Completed(link="https://cdn.example/x") == answer(TICKET, said)


def test_the_answer_to_a_poll_may_lie_one_level_down() -> None:
    working = {"data": {"queue_id": "q1", "status": "PROCESSING", "execution_duration": 1_000}}
    assert StillGoing(elapsed=1.0) == answer(TICKET, working)
    done = {"success": True, "result": {"status": "COMPLETED", "video_url": "https://cdn.example/x"}}
    assert Completed(link="https://cdn.example/x") == answer(TICKET, done)
    failed = answer(TICKET, {"data": {"status": "failed", "error": "out of memory"}})
    assert isinstance(failed, Refused)
    assert "The job ended as failed: out of memory" == failed.error.message


@pytest.mark.parametrize(
    ("status", "kind"), [(302, APIError), (404, NotFoundError), (422, ContentPolicyError), (503, ServerError)]
)
def test_an_error_on_a_poll_brings_no_news(status: int, kind: type[VeniceError]) -> None:
    event = answer(TICKET, {"error": "no"}, status)
    assert isinstance(event, Missed)
    assert isinstance(event.error, kind)


def test_a_clip_in_a_poll_is_known_by_its_first_bytes_and_only_what_nobody_knows_by_its_label() -> None:
    labels = (
        "video/mp4",
        " Video/MP4; codecs=avc1",
        "application/octet-stream",
        "binary/octet-stream",
        "application/mp4",
        "application/json",
        "text/plain",
        "text/html; x=video/mp4",
        "",
    )
    clip, webm = b"\0\0\0\x18ftypisom", b"\x1a\x45\xdf\xa3\x01\0\0\0\0\0\0\x1f"
    for start in (clip, b"\0\0\0\x08free\0\0\0\0", webm, b"RIFF\x10\0\0\0AVI "):
        assert all(carries_video({"content-type": label}, start) for label in labels)
        assert carries_video({}, start)
    for start in (
        b'{"status": "P',
        b" [1]",
        b"<!doctype html",
        b"upstream connect error",
        "ünï…".encode()[:-1],
    ):
        assert not any(carries_video({"content-type": label}, start) for label in labels)
    for start in (b"\x1f\x8b\x08\0\0\0\0\0\0\0\0\0", b"\x01\x02\x03\xff\xfe\0\0\0\0\0\0\0", b""):
        assert list(labels[:5]) == [
            label for label in labels if carries_video({"content-type": label}, start)
        ]


nonsense: st.SearchStrategy[Any] = st.binary() | json_values


@given(st.sampled_from([Queue(REQUEST), TICKET]), st.integers(200, 599), nonsense)
def test_no_answer_whatever_raises_anything(command: Queue | Ticket, status: int, said: object) -> None:
    assert answer(command, said, status) is not None


def test_a_failed_status_passes_on_the_refund_and_the_advice_of_the_server() -> None:
    said = {
        "status": "FAILED",
        "error": {"message": "Out of memory", "hint": "Ask for 720p", "credits_refunded": True},
    }
    event = answer(TICKET, said)
    assert isinstance(event, Refused)
    expected = "The job ended as FAILED: Out of memory. Nothing was charged. Ask for 720p."
    assert expected == str(event.error)
    assert True is event.error.facts["credits_refunded"]
