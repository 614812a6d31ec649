"""What a server says, in whatever shape, becomes an error that keeps its words, or a model."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from time import thread_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import for_each
from tests.sansio.strategies import json_values
from venice_async.errors import APIError, BadRequestError, ContentPolicyError
from venice_async.models import Deprecation, VideoModel
from venice_async.sansio.http.replies import api_error, model


def error(said: object, status: int = 400, headers: Mapping[str, str] | None = None) -> APIError:
    """Return the error that an answer says; `said` is its JSON, or its bytes."""
    return api_error(status, headers or {}, said if isinstance(said, bytes) else json.dumps(said).encode())


SHAPES: list[tuple[Any, str, str | None]] = [
    ({"error": "Invalid model"}, "Invalid model", None),
    ({"error": {"message": "Invalid model", "code": "bad"}}, "Invalid model", "bad"),
    (
        {"error": {"message": "Invalid model", "type": "invalid_request"}},
        "Invalid model",
        "invalid_request",
    ),
    ({"code": "INVALID", "error": "Invalid model"}, "Invalid model", "INVALID"),
    ({"message": "Invalid model"}, "Invalid model", None),
    ({"detail": "Invalid model"}, "Invalid model", None),
    ({"error": {"message": " ", "code": 7}}, "The server answered 400", None),
    ({}, "The server answered 400", None),
    (
        {
            "error": "Invalid request parameters",
            "details": {
                "_errors": ["bad"],
                "duration": {"_errors": ["Required"]},
                "elements": {"0": {"image": {"_errors": ["Too large"]}}},
            },
        },
        "Invalid request parameters: bad; duration: Required; elements: 0: image: Too large",
        None,
    ),
    (
        {
            "error": "Invalid",
            "issues": [{"path": ["a", 0], "message": "x"}, {"path": "b", "message": "y"}],
        },
        "Invalid: a.0: x; b: y",
        None,
    ),
    (
        {"error": "Invalid", "issues": [{"message": "x"}, 7, {"path": ["a"]}, {"message": "x"}]},
        "Invalid: x",
        None,
    ),
    ({"issues": [{"path": [], "message": "x"}]}, "The server answered 400: x", None),
    ({"error": "Invalid", "issues": "x", "details": "y"}, "Invalid: x; y", None),
    (
        {"error": "Invalid", "details": ["x", {"msg": "y", "loc": ["body", "z"]}]},
        "Invalid: x; body.z: y",
        None,
    ),
    (
        {"detail": [{"loc": ["body", "duration"], "msg": "too long"}]},
        "The server answered 400: body.duration: too long",
        None,
    ),
    (["a", 1], 'The server answered 400: ["a", 1]', None),
    ("  words ", "The server answered 400: words", None),
    (7, "The server answered 400: 7", None),
    (b"", "The server answered 400", None),
    (b"plain\n  words", "The server answered 400: plain words", None),
    (
        b"<html><head><title>502 Bad &amp; Gateway</title></head><h1>x</h1></html>",
        "The server answered 400: 502 Bad & Gateway",
        None,
    ),
    (
        b"<p>Error <b>1020</b></p><style>p{color:red}</style><script>alert(1)</script>",
        "The server answered 400: Error 1020",
        None,
    ),
    (b"\xff\xfe", "The server answered 400: \ufffd\ufffd", None),
]


@for_each("said, message, code", SHAPES)
def test_the_words_of_a_server_are_kept_whatever_shape_they_have(
    said: object, message: str, code: str | None
) -> None:
    found = error(said)
    assert type(found) is BadRequestError
    assert (message, code, 400) == (found.message, found.code, found.status)


CLASSES: dict[int, str] = {
    400: "BadRequestError",
    401: "AuthenticationError",
    402: "PaymentRequiredError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    410: "LinkExpiredError",
    413: "PayloadTooLargeError",
    415: "APIError",
    422: "ContentPolicyError",
    429: "RateLimitError",
    500: "ServerError",
    502: "ServerError",
    503: "ServerError",
    504: "ServerError",
    529: "ServerError",
    302: "APIError",
}


@for_each("status, name", CLASSES.items())
def test_the_class_follows_the_status(status: int, name: str) -> None:
    found = error({"error": "no"}, status)
    assert (name, status) == (type(found).__name__, found.status)


def test_what_else_a_body_says_is_kept() -> None:
    found = error({"error": {"message": "m", "code": "c", "param": "duration"}, "issues": [1], "code": "d"})
    assert {"param": "duration", "issues": [1]} == found.details
    assert error({"error": "m"}).details is None
    assert error(b"<html>").details is None


@pytest.mark.parametrize("name", ["x-request-id", "x-venice-request-id", "request-id", "cf-ray"])
def test_the_id_of_the_request_is_kept(name: str) -> None:
    assert "id-1" == error({"error": "no"}, headers={name: "id-1"}).request_id
    assert "id-1" == error(b"<html>", headers={name: "id-1"}).request_id
    assert error(b"").request_id is None


def test_a_refusal_by_policy_says_what_to_do_instead() -> None:
    said = {"credits_refunded": True, "recommended_model": "m2", "suggested_prompt": "a dog", "error": "no"}
    for shape in (said, {"error": said | {"message": "no"}}):
        found = error(shape, 422)
        assert isinstance(found, ContentPolicyError)
        assert (True, "m2", "a dog") == (
            found.credits_refunded,
            found.recommended_model,
            found.suggested_prompt,
        )
        assert found.charged is False


def test_a_422_is_a_matter_of_content_only_where_it_says_so() -> None:
    kinds: dict[str, list[object]] = {
        "ContentPolicyError": [
            {"error": "Your prompt violates the content policy of Venice.ai or the model provider"},
            {"error": {"message": "Refused", "type": "provider_content_policy", "credits_refunded": False}},
            {"code": "IMAGE_MODERATION_FAILED", "error": "The image was refused"},
            {"code": "publicFigure", "error": "The face is too small"},
            {"code": "UNPROCESSABLE", "error": "Your input was blocked by content moderation."},
            {"error": "no", "recommended_model": "m2", "credits_refunded": True},
            {"error": "no"},
        ],
        "BadRequestError": [
            {"code": "VIDEO_DURATION_TOO_LONG", "error": "Refused"},
            {"error": {"message": "no", "code": "IMAGE_TOO_LARGE"}},
            {"code": "invalid-aspect-ratio", "error": "Refused"},
            {"error": "The audio could not be used", "details": "its duration is out of range"},
            {"code": "imageDimensionsUnsupported", "error": "Refused", "recommended_model": "m2"},
        ],
        "APIError": [
            {"error": "The provider failed during this generation", "credits_refunded": True},
            {"error": "Generation failed", "hint": "Try a shorter prompt", "credits_refunded": False},
            {"code": "PROVIDER_ERROR", "error": "For more information ask the provider"},
        ],
    }
    found = {name: [type(error(said, 422)).__name__ for said in group] for name, group in kinds.items()}
    assert {name: [name] * len(group) for name, group in kinds.items()} == found
    assert {422} == {error(said, 422).status for group in kinds.values() for said in group}


def test_a_failed_provider_is_not_blamed_on_the_prompt() -> None:
    found = error({"error": "Generation failed", "credits_refunded": True}, 422)
    assert ("queue it again" in found.hint, False) == (True, found.charged)


def test_what_the_server_advises_is_shown_instead_of_our_advice() -> None:
    for status, said in (
        (422, {"error": "no", "hint": "Crop it"}),
        (400, {"error": {"message": "no", "hint": "Crop it"}}),
    ):
        assert "no. Nothing was charged. Crop it." == str(error(said, status))


def test_the_upstream_request_id_is_shown_and_comes_before_ours() -> None:
    found = error({"error": "no", "request_id": "up-1"}, headers={"x-request-id": "id-1"})
    assert "up-1" == found.request_id
    assert str(found).endswith("[request up-1]")
    assert "17" == error({"error": "no", "request_id": 17}).request_id  # as any id may be a number


def test_a_refund_is_read_from_the_body_of_any_failure_and_believed_only_when_it_is_said() -> None:
    facts = {True: (True, False), False: (False, None), None: (None, None), "yes": (None, None)}
    for refunded, expected in facts.items():
        said = {"error": "no", "credits_refunded": refunded}
        for status, shape in itertools.product(
            (400, 402, 422, 500), (said, {"error": said | {"message": "no"}})
        ):
            found = error(shape, status)
            assert expected == (found.credits_refunded, found.facts.get("charged"))


@pytest.mark.parametrize(
    "said", [{"error": "x" * 9000}, b"x" * 9000, "x" * 9000, {"issues": [{"message": "x" * 9000}]}]
)
def test_a_long_answer_makes_a_short_message(said: object) -> None:
    assert len(error(said).message) < 600


def nested(depth: int) -> bytes:
    inner = b'{"_errors": ["deep"], "a": ' * depth + b"1" + b"}" * depth
    return b'{"error": "no", "details": ' + inner + b', "issues": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize("depth", [1, 10, 100, 400, 900, 100_000])
def test_nesting_of_any_depth_is_survived_and_not_kept(depth: int) -> None:
    found = error(nested(depth))
    assert json.dumps(found.details).count("[") < 40
    assert len(str(found)) < 1000


@pytest.mark.parametrize("said", ["<script" * 150_000, "<title" * 150_000, "<" * 1_000_000])
def test_a_megabyte_of_broken_html_is_read_in_no_time(said: str) -> None:
    start = thread_time()
    error(said)
    error(said.encode())
    assert thread_time() - start < 5


@given(json_values | st.binary(), st.integers(300, 599))
def test_no_answer_raises_anything(said: object, status: int) -> None:
    assert error(said, status).message


def test_a_model_is_read_whole() -> None:
    said: dict[str, Any] = {
        "id": "seedance-2",
        "model_spec": {
            "name": "Seedance 2",
            "privacy": "anonymized",
            "offline": True,
            "beta": True,
            "uncensored": True,
            "description": "Moves.",
            "regionRestrictions": ["CN", 7],
            "traits": ["fast"],
            "pricing": {"5s": {"usd": 0.3}},
            "deprecation": {
                "removesAt": "2027-01-01",
                "startsAt": "2026-12-01",
                "replacementModelId": "seedance-3",
                "autoRemap": True,
            },
            "constraints": {
                "model_type": "text-to-video",
                "aspect_ratios": ["16:9"],
                "resolutions": ["720p"],
                "durations": ["5s", "10s"],
                "audio": True,
                "audio_configurable": True,
                "prompt_character_limit": 4000,
            },
        },
    }
    expected = VideoModel(
        id="seedance-2",
        name="Seedance 2",
        model_type="text-to-video",
        privacy="anonymized",
        aspect_ratios=("16:9",),
        resolutions=("720p",),
        durations=("5s", "10s"),
        audio=True,
        audio_configurable=True,
        prompt_character_limit=4000,
        offline=True,
        beta=True,
        uncensored=True,
        description="Moves.",
        region_restrictions=("CN",),
        deprecation=Deprecation(
            removes_at="2027-01-01", starts_at="2026-12-01", replacement="seedance-3", auto_remap=True
        ),
        pricing={"5s": {"usd": 0.3}},
        traits=("fast",),
    )
    assert expected == model(said)


def test_what_the_catalogue_leaves_out_has_a_default() -> None:
    assert VideoModel(id="m", name="m") == model({"id": "m"})
    spec = {"betaModel": True, "deprecation": {"date": "2027"}, "constraints": {"prompt_character_limit": 0}}
    expected = VideoModel(id="m", name="m", beta=True, deprecation=Deprecation(removes_at="2027"))
    assert expected == model({"id": "m", "model_spec": spec})


@given(json_values)
def test_no_entry_of_the_catalogue_raises_anything(said: object) -> None:
    found = model({"id": "m", "model_spec": said})
    assert found is not None
    assert "m" == found.id
    model(said)
