"""Calls that cost nothing: what is sent, and how the answer is read."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import for_each
from tests.sansio.http.test_wire import FIELDS, IMAGE, PRIVATE, TICKET, YES, body_of, encode, typed
from tests.sansio.strategies import json_values
from venice_async.errors import (
    AuthenticationError,
    BadRequestError,
    PaymentRequiredError,
    ProtocolError,
    ServerError,
    VeniceError,
)
from venice_async.models import AccountLimits, ModelLimit
from venice_async.requests import VideoRequest
from venice_async.results import Quote
from venice_async.sansio.http.wire import (
    Query,
    complete,
    list_models,
    price,
    price_fields,
    read_limits,
    revoke,
)
from venice_async.sansio.job.commands import Queue
from venice_async.sansio.retries import Call

PRICE = price(VideoRequest(model="m", prompt="p"))


def answer(query: Query[Any], said: object, status: int = 200) -> Any:
    """Return what an answer means; `said` is its JSON, or its bytes."""
    return query.read(status, {}, said if isinstance(said, bytes) else json.dumps(said).encode())


def test_a_quote_is_asked_with_what_decides_the_price_only() -> None:
    everything = {name: typed(name, value) for name, value in FIELDS.items()}
    untold = {"seed": 7, "new_prompt": "x" * 65, "new_url": IMAGE, "new_list": [1], "new_object": {"a": 1}}
    request = VideoRequest(model="m", consents=YES, extra=untold, **everything)
    priced_by = ("duration", "resolution", "aspect_ratio", "audio", "video_url")
    expected = {"model": "m", "reference_image_count": 31} | {name: FIELDS[name] for name in priced_by}
    asked = price(request).request
    assert (Call.OTHER, "POST", "/video/quote") == (asked.call, asked.method, asked.url)
    assert expected == body_of(asked)
    assert expected | {"reference_video_total_duration": 12.5} == price_fields(request, 12.5)


def test_the_price_is_asked_for_the_request_that_is_sent_options_of_tomorrow_included() -> None:
    options = {
        "enhancement_model": "astra-2",
        "target_fps": 60,
        "slowdown_factor": 4,
        "h264_output": False,
        "reference_image_count": 3,
        "reference_video_total_duration": 2.5,
        "resolution": "4k",
        "turbo": True,
    }
    request = VideoRequest(model="m", prompt="p", reference_image_urls=[IMAGE], extra=options)
    assert {"model": "m"} | options == price_fields(request)
    assert options.items() <= body_of(encode(Queue(request))).items()
    told = price_fields(request, 9)
    assert 9 == told["reference_video_total_duration"]
    listed = VideoRequest(model="m", prompt="p", extra={"reference_image_urls": [IMAGE, IMAGE]})
    assert {"model": "m", "reference_image_count": 2} == price_fields(listed)


def test_a_quote_for_upscaling_needs_no_duration() -> None:
    request = VideoRequest(model="m", video_url=IMAGE, upscale_factor=4)
    assert {"model": "m", "video_url": IMAGE, "upscale_factor": 4} == price_fields(request)


def test_a_clean_up_names_the_job_or_deletes_the_link() -> None:
    asked = complete(TICKET).request
    assert (Call.OTHER, "POST", "/video/complete") == (asked.call, asked.method, asked.url)
    assert {"model": "m", "queue_id": "q1"} == body_of(asked)
    deleted = revoke(PRIVATE).request
    assert (Call.REVOKE, "DELETE", PRIVATE.download_url) == (deleted.call, deleted.method, deleted.url)
    assert (None, {}) == (deleted.body, deleted.headers)


def test_models_and_limits_are_read() -> None:
    models, limits = list_models().request, read_limits().request
    assert ("GET", "/models?type=video", None) == (models.method, models.url, models.body)
    assert ("GET", "/api_keys/rate_limits", None) == (limits.method, limits.url, limits.body)


def test_a_price_is_read() -> None:
    assert [Quote(usd=0.25), Quote(usd=0.0)] == [answer(PRICE, {"quote": usd}) for usd in (0.25, 0)]


@pytest.mark.parametrize(
    "said", [{}, {"quote": "0.25"}, {"quote": -1}, {"quote": None}, {"quote": True}, [], b"<html>"]
)
def test_a_price_that_makes_no_sense_is_none(said: object) -> None:
    with pytest.raises(ProtocolError):
        answer(PRICE, said)


def test_an_error_in_place_of_a_price_keeps_its_class() -> None:
    with pytest.raises(PaymentRequiredError):
        answer(PRICE, {"error": "no"}, 402)


def test_the_catalogue_is_read_and_what_is_no_model_in_it_is_left_out() -> None:
    found = answer(list_models(), {"data": [{"id": "a"}, 7, {}, {"id": " "}, {"id": "b", "new": 1}]})
    assert ["a", "b"] == [model.id for model in found]
    assert [] == answer(list_models(), {"data": []})


@pytest.mark.parametrize("said", [{}, {"data": None}, {"data": {}}, [], b"<html>"])
def test_a_catalogue_that_makes_no_sense_is_an_error(said: object) -> None:
    with pytest.raises(ProtocolError):
        answer(list_models(), said)


@for_each("query", [list_models(), read_limits(), PRICE, complete(TICKET), revoke(PRIVATE)])
def test_an_error_on_a_question_is_raised(query: Query[object]) -> None:
    with pytest.raises(AuthenticationError, match="bad key"):
        answer(query, {"error": "bad key"}, 401)


def test_the_limits_of_a_key_are_read() -> None:
    said = {
        "data": {
            "accessPermitted": True,
            "apiTier": {"id": "paid", "isCharged": False},
            "balances": {"USD": 50.23, "DIEM": 100, "VCU": None},
            "keyExpiration": "2027-01-01T00:00:00Z",
            "rateLimits": [
                {"apiModelId": "m", "rateLimits": [{"amount": 40, "type": "RPM"}, {"amount": "x"}]},
                {"rateLimits": [{"amount": 1, "type": "RPD"}]},
            ],
        }
    }
    expected = AccountLimits(
        access_permitted=True,
        tier="paid",
        charged=False,
        balances={"USD": 50.23, "DIEM": 100.0},
        key_expires="2027-01-01T00:00:00Z",
        limits=(
            ModelLimit(model="m", amount=40.0, type="RPM"),
            ModelLimit(model="m", amount=0.0, type=""),
            ModelLimit(model="", amount=1.0, type="RPD"),
        ),
    )
    assert expected == answer(read_limits(), said)
    assert AccountLimits(access_permitted=False) == answer(
        read_limits(), {"data": {"accessPermitted": False}}
    )


@pytest.mark.parametrize("said", [{}, {"data": 7}, {"data": {"accessPermitted": "yes"}}, [], b"<html>"])
def test_limits_that_make_no_sense_are_an_error(said: object) -> None:
    with pytest.raises(ProtocolError):
        answer(read_limits(), said)


def test_a_clean_up_that_fails_says_why() -> None:
    for said in ({"success": True}, {}, b"", b"ok"):
        answer(complete(TICKET), said)
    for status in (200, 204, 404, 410):
        answer(revoke(PRIVATE), b"", status)
    with pytest.raises(ProtocolError):
        answer(complete(TICKET), {"success": False})
    with pytest.raises(BadRequestError):
        answer(complete(TICKET), {"error": "Request ID is invalid"}, 400)
    with pytest.raises(ServerError):
        answer(revoke(PRIVATE), b"", 500)


def test_what_a_question_names_in_secret_is_told_to_those_who_redact() -> None:
    assert [TICKET, PRIVATE] == [complete(of).request.ticket for of in (TICKET, PRIVATE)]
    assert PRIVATE == revoke(PRIVATE).request.ticket
    assert "s3cret" not in repr([revoke(PRIVATE), revoke(PRIVATE).request, PRICE])


@given(json_values, st.integers(200, 599))
def test_no_answer_to_a_question_raises_anything_but_our_errors(said: object, status: int) -> None:
    for query in (list_models(), read_limits(), PRICE, complete(TICKET), revoke(PRIVATE)):
        with suppress(VeniceError):
            answer(query, said, status)
