"""The error tree: every error says what happened, whether money was spent, and what to do next."""

from __future__ import annotations

import copy
import pickle
import re
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

import venice_async
from tests.cases import for_each
from venice_async import Ticket, errors
from venice_async.errors import (
    BudgetExceededError,
    ContentPolicyError,
    DownloadError,
    InvalidRequestError,
    JobTimeoutError,
    QueueOutcomeUnknownError,
    RateLimitError,
    UsageError,
    VeniceError,
    WebhookError,
)

TICKET = Ticket(model="m", queue_id="q1", download_url="https://cdn.example/c?sig=s3cret")

TREE: dict[str, Any] = {
    "UsageError": {},
    "InvalidRequestError": {},
    "TransportError": {
        "ConnectError": {},
        "ReadTimeoutError": {},
        "DisconnectedError": {},
        "QueueOutcomeUnknownError": {},
    },
    "APIError": {
        "BadRequestError": {},
        "AuthenticationError": {},
        "PaymentRequiredError": {},
        "PermissionDeniedError": {},
        "NotFoundError": {},
        "ConflictError": {},
        "LinkExpiredError": {},
        "PayloadTooLargeError": {},
        "ContentPolicyError": {},
        "RateLimitError": {},
        "ServerError": {},
    },
    "ConsentError": {"ConsentRequiredError": {}, "ConsentDeclinedError": {}},
    "JobError": {"JobFailedError": {}, "JobTimeoutError": {}},
    "BudgetExceededError": {},
    "DownloadError": {"TruncatedError": {}, "NotAVideoError": {}},
    "JournalError": {},
    "WebhookError": {},
    "ProtocolError": {},
}


def ours(kind: type[VeniceError]) -> list[type[VeniceError]]:
    """Return the subclasses that the library itself defines."""
    return [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]


def tree(kind: type[VeniceError]) -> dict[str, Any]:
    return {child.__name__: tree(child) for child in ours(kind)}


def every(kind: type[VeniceError] = VeniceError) -> Iterator[type[VeniceError]]:
    yield kind
    for child in ours(kind):
        yield from every(child)


def drawn() -> dict[str, list[str]]:
    """Return the tree of the module's docstring: the names below each name."""
    parents = ["VeniceError"]
    found: dict[str, list[str]] = {}
    for line in (errors.__doc__ or "").splitlines():
        place = re.search(r"[├└]── ", line)
        if place:
            depth = place.start() // 4
            names = re.findall(r"\b[A-Z]\w*Error\b", line.replace("also TimeoutError", ""))
            parents = [*parents[:depth], names[0]]
            found.setdefault(parents[depth - 1], []).extend(names)
    return found


KINDS = list(every())


def test_the_tree_is_the_one_that_was_designed() -> None:
    assert tree(VeniceError) == TREE


def test_the_tree_is_drawn_in_the_docstring_as_it_is() -> None:
    actual = {kind.__name__: [child.__name__ for child in ours(kind)] for kind in KINDS if ours(kind)}
    sketch = drawn()
    listed = {name: sorted(children) for name, children in sketch.items()}
    jobs = actual.pop("JobError")
    assert sorted([*actual.pop("VeniceError"), *jobs]) == listed.pop("VeniceError")
    assert {name: sorted(children) for name, children in actual.items()} == listed


@for_each("kind", KINDS)
def test_every_error_is_public_and_documented(kind: type[VeniceError]) -> None:
    assert getattr(venice_async, kind.__name__) is kind
    assert kind.__name__ in venice_async.__all__
    assert kind.__doc__


@for_each("kind", KINDS)
def test_every_attribute_is_described(kind: type[VeniceError]) -> None:
    attributes = [name for name in vars(kind).get("__annotations__", {}) if name not in {"charged", "hint"}]
    documented = re.findall(r"^ +(\w+): ", kind.__doc__ or "", re.MULTILINE)
    assert set(attributes) <= set(documented)


@for_each("kind", KINDS)
def test_an_error_says_what_happened_and_about_the_money_and_what_to_do(kind: type[VeniceError]) -> None:
    error = kind("It went wrong")
    money = {False: "Nothing was charged.", None: "It is not known whether the job was charged."}
    said = "" if kind in {UsageError, WebhookError} else money[error.charged]
    assert str(error).startswith(f"It went wrong. {said}".strip())
    assert UsageError("No", charged=False).money == money[False]
    assert error.hint in str(error)
    assert re.search(r"[.!?\]]$", str(error))


def test_only_a_lost_answer_leaves_the_charge_unknown() -> None:
    assert [QueueOutcomeUnknownError] == [kind for kind in KINDS if kind.charged is None]


@for_each("kind", KINDS)
def test_an_error_of_a_queued_job_names_it_and_says_that_it_is_paid(kind: type[VeniceError]) -> None:
    error = kind("It went wrong").with_ticket(TICKET)
    assert TICKET is error.ticket
    assert error.charged is True
    assert "The job has been paid for." in str(error)
    assert str(error).endswith("[job q1 on m]")
    assert "s3cret" not in str(error)
    assert "s3cret" not in repr(error)


def test_a_refund_outlasts_the_ticket() -> None:
    error = ContentPolicyError("no", charged=False).with_ticket(TICKET)
    assert error.charged is False
    assert "Nothing was charged." in str(error)


@pytest.mark.parametrize(
    ("message", "said"), [("a", "a."), ("a.", "a."), ("a!", "a!"), ("a?", "a?"), ("", "")]
)
def test_a_message_ends_as_a_sentence(message: str, said: str) -> None:
    assert f"{said} Nothing was charged.".strip() == str(VeniceError(message))


@for_each("kind", KINDS)
def test_an_error_survives_copying_and_pickling(kind: type[VeniceError]) -> None:
    error = kind("It went wrong", charged=None, hint="Do something").with_ticket(TICKET)
    for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own
        assert kind is type(again)
        assert error.facts == again.facts
        assert str(error) == str(again)


def test_what_others_put_on_an_error_survives_pickling_as_well() -> None:
    error = UsageError("It went wrong")
    error.add_note("seen by a tracer")
    vars(error)["trace_id"] = 7
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert vars(error) == vars(again)


def test_the_facts_of_an_error_survive_too() -> None:
    error = RateLimitError(
        "slow", status=429, code="limit", request_id="id", details={"a": [1]}, retry_after=2.5
    )
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    facts = (again.status, again.code, again.request_id, again.details, again.retry_after)
    assert (429, "limit", "id", {"a": [1]}, 2.5) == facts


def test_facts_are_attributes_of_the_class_and_nothing_else() -> None:
    assert {"message": "no", "field": "prompt"} == InvalidRequestError("no", field="prompt").facts
    with pytest.raises(TypeError, match="UsageError has no attribute 'field'"):
        UsageError("no", field="prompt")  # type: ignore[call-arg] # the mistake


def test_a_fact_of_one_error_is_not_one_of_its_class() -> None:
    BudgetExceededError("no", quoted_usd=2.0, limit_usd=1.0)
    assert BudgetExceededError("no").quoted_usd is None
    assert BudgetExceededError.charged is False


def test_a_deadline_is_a_timeout_too() -> None:
    assert isinstance(JobTimeoutError("late"), TimeoutError)
    assert isinstance(JobTimeoutError("late"), errors.JobError)


def test_the_words_of_an_error_end_its_traceback() -> None:
    try:
        raise DownloadError("It was cut", received=5).with_ticket(TICKET)
    except DownloadError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=False).format())
    assert "It was cut. The job has been paid for." in shown
    assert "s3cret" not in shown
