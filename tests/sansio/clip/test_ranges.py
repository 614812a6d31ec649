"""Going on with a cut download: a range is asked for when it is safe, and believed when it fits exactly."""

from __future__ import annotations

import pytest

from tests.cases import for_each
from venice_async.errors import ProtocolError
from venice_async.sansio.clip.ranges import (
    FromStart,
    Held,
    Onward,
    content_length,
    judge,
    request_headers,
)

TAG = '"v1"'
DATE = "Sat, 22 Aug 2026 10:00:00 GMT"
LATER = "Sat, 22 Aug 2026 10:00:01 GMT"
HELD = Held(received=100, total=1000, validator=TAG)
PART = {"content-range": "bytes 100-999/1000", "content-length": "900", "etag": TAG}


def validator(**headers: str) -> str | None:
    answer = judge(Held(), 200, {name.replace("_", "-"): value for name, value in headers.items()})
    assert isinstance(answer, FromStart)
    return answer.validator


def unusable(held: Held, status: int, headers: dict[str, str]) -> str:
    with pytest.raises(ProtocolError) as caught:
        judge(held, status, headers)
    return caught.value.message


def test_the_first_request_asks_for_the_whole_file_as_it_is() -> None:
    assert {"Accept-Encoding": "identity"} == request_headers(Held())


def test_after_a_cut_the_rest_is_asked_for_if_the_file_is_still_the_same() -> None:
    expected = {"Accept-Encoding": "identity", "Range": "bytes=100-", "If-Range": TAG}
    assert expected == request_headers(HELD)


@pytest.mark.parametrize("held", [Held(received=100, total=1000), Held(total=1000, validator=TAG)])
def test_no_range_is_asked_for_without_proof_or_without_need(held: Held) -> None:
    assert {"Accept-Encoding": "identity"} == request_headers(held)


def test_a_plain_answer_is_the_file_from_its_start_whatever_was_asked() -> None:
    headers = {"content-length": "1000", "etag": TAG, "content-encoding": "identity"}
    assert FromStart(total=1000, validator=TAG, end_marked=True) == judge(HELD, 200, headers)


@pytest.mark.parametrize(
    ("headers", "marked"),
    [({}, False), ({"transfer-encoding": "chunked"}, True), ({"content-length": "5"}, True)],
)
def test_an_end_is_marked_by_a_length_or_a_last_chunk(headers: dict[str, str], *, marked: bool) -> None:
    answer = judge(Held(), 200, headers)
    assert isinstance(answer, FromStart)
    assert marked == answer.end_marked


@pytest.mark.parametrize(
    ("text", "length"),
    [("12", 12), (" 12 ", 12), ("-1", None), ("1.5", None), ("٣", None), ("9" * 30, None), ("", None)],
)
def test_a_length_that_makes_no_sense_is_none(text: str, length: int | None) -> None:
    assert length == content_length({"content-length": text})


def test_a_strong_tag_is_a_validator_and_a_weak_or_broken_one_is_not() -> None:
    assert TAG == validator(etag=TAG)
    assert validator(etag='W/"v1"') is None
    assert validator(etag="v1") is None
    assert validator(etag='"a b"') is None


def test_a_date_is_a_validator_only_without_any_tag() -> None:
    assert DATE == validator(last_modified=DATE)
    assert validator(etag='W/"v1"', last_modified=DATE) is None


def test_a_date_as_young_as_the_answer_is_no_validator() -> None:
    """The file may change again within that second."""
    assert validator(last_modified=DATE, date=DATE) is None
    assert DATE == validator(last_modified=DATE, date=LATER)


def test_a_date_that_is_none_is_no_validator() -> None:
    assert validator(last_modified="yesterday") is None
    assert DATE == validator(last_modified=DATE, date="now")


def test_a_server_that_declines_ranges_is_not_asked_for_any() -> None:
    assert validator(etag=TAG, accept_ranges="none") is None
    assert TAG == validator(etag=TAG, accept_ranges="bytes")


def test_a_part_that_fits_exactly_is_used() -> None:
    assert Onward(total=1000) == judge(HELD, 206, PART)


def test_a_part_may_leave_out_its_length_and_tag() -> None:
    assert Onward(total=1000) == judge(HELD, 206, {"content-range": "Bytes 100-999/1000"})


def test_a_part_may_be_the_first_to_tell_the_size() -> None:
    assert Onward(total=1000) == judge(Held(received=100, validator=TAG), 206, PART)


def test_a_part_may_end_before_the_file_does() -> None:
    assert Onward(total=1000) == judge(
        HELD, 206, {"content-range": "bytes 100-499/1000", "content-length": "400"}
    )


def test_a_part_of_the_same_date_is_used() -> None:
    held = Held(received=100, total=1000, validator=DATE)
    assert Onward(total=1000) == judge(held, 206, PART | {"last-modified": DATE})
    assert unusable(held, 206, PART | {"last-modified": LATER})


@for_each(
    "wrong",
    [
        {"content-range": "bytes 101-999/1000", "content-length": "899"},
        {"content-range": "bytes 100-999/1001"},
        {"content-range": "bytes 100-1000/1000", "content-length": "901"},
        {"content-range": "bytes 100-99/1000", "content-length": "0"},
        {"content-range": "bytes 100-999/*"},
        {"content-range": "bytes 0-999/1000", "content-length": "900"},
        {"content-range": "bytes 0-1000/1000", "content-length": "1001"},
        {"content-range": "bytes */1000"},
        {"content-range": "items 100-999/1000"},
        {"content-range": ""},
        {"content-type": "multipart/byteranges; boundary=x", "content-range": ""},
        {"content-length": "899"},
        {"etag": '"v2"'},
        {"etag": 'W/"v1"'},
        {"content-encoding": "gzip"},
    ],
)
def test_a_part_that_does_not_fit_is_never_used(wrong: dict[str, str]) -> None:
    assert unusable(HELD, 206, PART | wrong)


def test_nothing_is_missing_when_the_server_counts_as_many_bytes() -> None:
    assert Onward(total=1000) == judge(
        Held(received=1000, validator=TAG), 416, {"content-range": "bytes */1000"}
    )
    held = Held(received=1000, total=1000, validator=TAG)
    assert Onward(total=1000) == judge(held, 416, {"content-range": "bytes */1000"})


@pytest.mark.parametrize("value", ["bytes */999", "bytes */1001", "bytes 0-99/100", ""])
def test_a_range_refused_for_another_size_means_nothing(value: str) -> None:
    held = Held(received=1000, validator=TAG)
    assert unusable(held, 416, {"content-range": value})


def test_a_range_refused_at_a_size_other_than_the_announced_one_means_nothing() -> None:
    held = Held(received=900, total=1000, validator=TAG)
    assert unusable(held, 416, {"content-range": "bytes */900"})


@pytest.mark.parametrize("held", [Held(), Held(received=100, total=1000), HELD])
def test_a_part_that_is_the_whole_or_its_beginning_is_the_file_from_its_start(held: Held) -> None:
    whole = {"content-range": "bytes 0-999/1000", "content-length": "1000", "etag": TAG}
    assert FromStart(total=1000, validator=TAG, end_marked=True) == judge(held, 206, whole)
    first = {"content-range": "bytes 0-499/1000", "content-length": "500"}
    assert FromStart(total=1000, end_marked=True) == judge(held, 206, first)
    assert FromStart() == judge(held, 206, {"content-range": "bytes 0-499/*"})


@pytest.mark.parametrize("held", [Held(), Held(received=100, total=1000)])
def test_an_answer_to_a_range_that_was_not_asked_for_is_never_used(held: Held) -> None:
    for status, headers in (
        (206, PART),
        (206, {"content-length": "1000"}),
        (416, {"content-range": "bytes */100"}),
    ):
        assert unusable(held, status, headers)


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip"])
def test_a_compressed_clip_is_read_for_what_it_is_and_a_compressed_part_is_not(encoding: str) -> None:
    headers = PART | {"content-encoding": encoding}
    answer = judge(HELD, 200, headers)
    assert isinstance(answer, FromStart)
    assert "compressed" in (answer.spoilt or "")
    assert unusable(HELD, 206, headers)


def test_what_a_proxy_says_it_changed_is_judged_by_what_it_is() -> None:
    assert FromStart(total=5, end_marked=True) == judge(Held(), 203, {"content-length": "5"})


@pytest.mark.parametrize("status", [201, 204, 304, 404, 500])
def test_any_other_status_is_no_clip(status: int) -> None:
    assert f"Status {status} came where a clip should be" == unusable(HELD, status, {})
