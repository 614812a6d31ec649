"""Options are checked when they are made."""

from __future__ import annotations

import math
from inspect import cleandoc
from typing import Any

import pytest
from attrs import fields

from tests.cases import for_each
from venice_async import Budget, Limits, Links, Polling, Retries, Timeouts, UsageError

KINDS: list[Any] = [Budget, Timeouts, Limits, Polling, Retries, Links]


@for_each(
    "kind, name, value, says",
    [
        (Timeouts, "connect", 0, "Timeouts.connect must be a number above 0, not 0"),
        (Timeouts, "read", -1, "above 0"),
        (Timeouts, "read", None, "above 0, not None"),
        (Timeouts, "job", 0, "Timeouts.job must be a number above 0"),
        (Timeouts, "job", "60", "not '60'"),
        (Timeouts, "connect", math.nan, "not nan"),
        (Timeouts, "connect", True, "not True"),
        (Limits, "share", 0, "above 0 and at most 1, not 0"),
        (Limits, "share", 1.01, "above 0 and at most 1, not 1.01"),
        (Limits, "queue_per_minute", 0, "above 0"),
        (Limits, "retrieve_per_minute", -5, "above 0"),
        (Limits, "account", " ", "Limits.account must be a name or None, not ' '"),
        (Limits, "failures", 1, "at least 2 and at most 50, not 1"),
        (Limits, "failures", 51, "at least 2 and at most 50, not 51"),
        (
            Limits,
            "failures",
            20.5,
            "must be a whole number at least 2 and at most 50, not 20.5",
        ),
        (Polling, "price", 0, "above 0"),
        (Polling, "min_gap", 0, "above 0"),
        (Retries, "quota", -1, "at least 0, not -1"),
        (Retries, "cost", [], "at least 0"),
        (Links, "allow", ["198.18.0.0/99"], "Links.allow must be networks such as"),
        (Links, "allow", 5.5, "Links.allow must be networks such as"),
        (Links, "proxy", "socks5://127.0.0.1:1080", "must be the http(s) URL of a proxy"),
        (Links, "proxy", "proxy.example:3128", "must be the http(s) URL of a proxy"),
        (Links, "proxy", 8080, "must be the http(s) URL of a proxy"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(kind: Any, name: str, value: object, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        kind(**{name: value})
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Timeouts, {"connect": 0.001, "read": 1, "job": None}),
        (Timeouts, {"read": math.inf, "job": 7200}),
        (Limits, {"share": 1, "failures": 2}),
        (Limits, {"share": 0.5, "failures": 50, "account": "team"}),
        (Polling, {"min_gap": 5, "max_gap": 5}),
        (Retries, {"quota": 0, "cost": 0, "refund": 0}),
    ],
)
def test_an_option_at_its_bound_is_fine(kind: Any, values: dict[str, Any]) -> None:
    assert values.items() <= {name.name: getattr(kind(**values), name.name) for name in fields(kind)}.items()


def test_gaps_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match=r"min_gap \(9\) is above Polling.max_gap \(3\)"):
        Polling(min_gap=9, max_gap=3)


@pytest.mark.parametrize("kind", KINDS)
def test_options_are_frozen_keywords_and_every_one_is_described(kind: Any) -> None:
    for field in fields(kind):
        assert field.kw_only
        assert f"\n    {field.name}: " in cleandoc(kind.__doc__)
        with pytest.raises(AttributeError):
            setattr(kind(), field.name, 1)


def test_the_defaults_are_what_the_vendor_and_the_design_say() -> None:
    assert Timeouts(connect=10.0, read=30.0, queue=600.0, job=None) == Timeouts()
    assert Limits(queue_per_minute=40, retrieve_per_minute=120, share=1.0, failures=20) == Limits()
    assert Polling(price=0.03, min_gap=1.0, max_gap=30.0) == Polling()
    assert Retries(quota=50, cost=5, refund=1) == Retries()


def test_the_password_of_a_proxy_is_shown_nowhere() -> None:
    assert "s3cret" not in repr(Links(proxy="http://user:s3cret@proxy.example:3128"))
    with pytest.raises(UsageError) as caught:
        Links(proxy="ftp://user:s3cret@proxy.example:3128")
    assert "s3cret" not in str(caught.value)
