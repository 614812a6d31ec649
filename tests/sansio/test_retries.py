from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import for_each
from venice_async.errors import (
    APIError,
    BadRequestError,
    ConnectError,
    DisconnectedError,
    ServerError,
    UsageError,
    VeniceError,
)
from venice_async.sansio.retries import (
    Attempts,
    Call,
    GiveUp,
    Retry,
    Unknown,
    Verdict,
    is_unknown_id,
    kind_of,
)

EVER = 10_000
UNSENT, INTERRUPTED = ConnectError("Refused"), DisconnectedError("Cut")
NO_CAPACITY = ServerError("Busy", status=503, code="MODEL_OFFLINE")
ALL = [UNSENT, INTERRUPTED, NO_CAPACITY, *(APIError("No", status=status) for status in range(200, 600))]


def decide(call: Call, trouble: VeniceError | str | int, attempt: int = 1, chance: float = 0.5) -> Verdict:
    """Return the verdict on the `attempt`th trouble of its kind in a row."""
    if isinstance(trouble, int):
        trouble = APIError("No", status=trouble)
    elif isinstance(trouble, str):
        trouble = UNSENT if trouble == "unsent" else INTERRUPTED
    attempts = Attempts({kind_of(call, trouble): (attempt - 1, 0.0)})
    return attempts.judge(call, trouble, chance=chance)[1]


def retries(call: Call, trouble: str | int) -> int:
    """Count the retries before it ends, at most `EVER`."""
    for attempt in range(1, 12):
        if not isinstance(decide(call, trouble, attempt), Retry):
            return attempt - 1
    return EVER if isinstance(decide(call, trouble, EVER), Retry) else -1


@for_each(
    "call, trouble, times",
    [
        (Call.QUEUE, "unsent", 3),
        (Call.QUEUE, 429, EVER),
        (Call.RETRIEVE, "unsent", EVER),
        (Call.RETRIEVE, "interrupted", EVER),
        (Call.RETRIEVE, 200, EVER),
        (Call.RETRIEVE, 302, EVER),
        (Call.RETRIEVE, 408, EVER),
        (Call.RETRIEVE, 429, EVER),
        (Call.RETRIEVE, 500, 1),
        (Call.RETRIEVE, 502, EVER),
        (Call.RETRIEVE, 503, EVER),
        (Call.RETRIEVE, 504, EVER),
        (Call.RETRIEVE, 522, EVER),
        (Call.OTHER, "unsent", 5),
        (Call.OTHER, "interrupted", 5),
        (Call.OTHER, 408, 5),
        (Call.OTHER, 429, 8),
        (Call.OTHER, 500, 4),
        (Call.OTHER, 502, 5),
        (Call.OTHER, 503, 8),
        (Call.LINK, "interrupted", EVER),
        (Call.LINK, 425, EVER),
        (Call.LINK, 429, EVER),
        (Call.LINK, 500, EVER),
        (Call.REVOKE, "unsent", 1),
        (Call.REVOKE, "interrupted", 1),
        (Call.REVOKE, 429, 1),
        (Call.REVOKE, 500, 1),
    ],
)
def test_trouble_is_met_with_so_many_retries(call: Call, trouble: str | int, times: int) -> None:
    assert times == retries(call, trouble)


@for_each("trouble", ["interrupted", 200, 302, 500, 501, 502, 503, 504, 520, 599])
def test_a_paid_request_that_may_have_been_accepted_is_never_sent_again(trouble: str | int) -> None:
    assert Unknown() == decide(Call.QUEUE, trouble)


def test_a_503_is_no_acceptance_only_where_it_names_the_lack_of_capacity() -> None:
    said = [
        ServerError("Busy", status=503, code="MODEL_OFFLINE"),
        ServerError("MODEL_AT_CAPACITY: try later", status=503),
        ServerError("Busy", status=503, details={"reason": ["MODEL_AT_CAPACITY"]}),
    ]
    for error in said:
        attempts, verdicts = Attempts(), list[Verdict]()
        for _ in range(6):
            attempts, found = attempts.judge(Call.QUEUE, error, chance=0.5)
            verdicts.append(found)
        assert [True] * 5 + [False] == [isinstance(found, Retry) for found in verdicts]
    others = [ServerError("The model is at capacity", status=503), ServerError("MODEL_OFFLINE", status=502)]
    assert [Unknown()] * 2 == [Attempts().judge(Call.QUEUE, error, chance=0.5)[1] for error in others]


@given(trouble=st.sampled_from(ALL), attempt=st.integers(1, 100), chance=st.floats(0, 1, exclude_max=True))
def test_the_paid_request_is_resent_only_where_it_was_provably_not_accepted(
    trouble: VeniceError, attempt: int, chance: float
) -> None:
    if isinstance(decide(Call.QUEUE, trouble, attempt, chance), Retry):
        assert trouble in {UNSENT, NO_CAPACITY} or (isinstance(trouble, APIError) and trouble.status == 429)


@given(trouble=st.sampled_from(ALL), attempt=st.integers(1, 100))
def test_no_other_call_ends_in_doubt(trouble: VeniceError, attempt: int) -> None:
    assert Unknown() not in {decide(call, trouble, attempt) for call in set(Call) - {Call.QUEUE}}


def test_a_request_that_cannot_be_made_is_not_retried() -> None:
    for call in Call:
        assert (Attempts(), GiveUp()) == Attempts().judge(call, UsageError("Closed"), chance=0.5)


def test_an_error_that_is_the_callers_is_final() -> None:
    statuses = (400, 401, 402, 403, 404, 409, 410, 413, 422)
    retried = [
        (call, status) for call in Call for status in statuses if not isinstance(decide(call, status), GiveUp)
    ]
    absent = [
        (Call.RETRIEVE, 404),
        (Call.LINK, 403),
        (Call.LINK, 404),
    ]  # a job or a clip that is not there yet
    assert absent == retried


@pytest.mark.parametrize(
    "message",
    [
        "Request ID is invalid.",
        "Request ID is invalid",
        "request_id: invalid",
        "Invalid queue_id",
        "The queue ID has expired",
        "Unknown job id: 7",
    ],
)
def test_an_unknown_id_is_known_in_whatever_words(message: str) -> None:
    assert is_unknown_id(BadRequestError(message, status=400))


@pytest.mark.parametrize(
    "error",
    [
        BadRequestError("The duration is invalid", status=400),
        BadRequestError("image_url is invalid", status=400),
        APIError("Request ID is invalid", status=402),
    ],
)
def test_another_refusal_is_not_taken_for_an_unknown_id(error: APIError) -> None:
    assert not is_unknown_id(error)


def test_the_jitter_is_full_and_doubles_up_to_its_cap() -> None:
    delays = [decide(Call.RETRIEVE, 502, attempt, 0.5) for attempt in (1, 2, 3, 4, 5, 6, 50)]
    assert [Retry(after) for after in (0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0)] == delays
    assert Retry(0.0) == decide(Call.RETRIEVE, "unsent", 9, 0.0)
    assert Retry(30.0) == decide(Call.RETRIEVE, 503, 9, 0.5)


def test_what_the_server_asks_is_waited_for_but_on_a_503_at_most_a_minute() -> None:
    assert Retry(7.0) == decide(Call.QUEUE, APIError("No", status=429, retry_after=7.0))
    assert Retry(200.0) == decide(Call.RETRIEVE, APIError("No", status=429, retry_after=200.0))
    assert Retry(60.0) == decide(Call.RETRIEVE, APIError("No", status=503, retry_after=200.0))
    assert Retry(10.0) == decide(Call.RETRIEVE, APIError("No", status=502, retry_after=2.0), 9, 0.5)


def test_a_link_is_left_alone_for_ten_seconds_unless_the_server_says_otherwise() -> None:
    assert Retry(10.0) == decide(Call.LINK, 429)
    assert Retry(2.0) == decide(Call.LINK, APIError("No", status=429, retry_after=2.0))
    assert Retry(0.5) == decide(Call.LINK, "interrupted")
