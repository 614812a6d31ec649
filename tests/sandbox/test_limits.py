"""Rate limits, their headers, and the block after too many failures."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

import anyio
import attrs
import pytest

from tests.cases import for_each
from venice_async.sandbox import Fault, RateLimits

from .talk import UPSCALE, Answer, Talk, talk

pytestmark = pytest.mark.anyio

SMALL = RateLimits(queue=3, failures=None)


def stamp(answer: Answer) -> float:
    """Return when the limit resets by the answer, in seconds from the answer's own Date."""
    sent = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    return int(answer.headers["x-ratelimit-reset-requests"]) / 1000 - sent


async def statuses(venice: Talk, count: int) -> list[int]:
    """Queue so many jobs."""
    return [(await venice.queue()).status for _ in range(count)]


async def test_forty_jobs_a_minute_and_not_one_more() -> None:
    async with talk() as venice:
        answers = await statuses(venice, 41)
        assert [200] * 40 + [429] == answers
        assert 40 == len(venice.sandbox.charges)


async def test_a_hundred_and_twenty_polls_a_minute_and_not_one_more() -> None:
    async with talk(limits=RateLimits(failures=None)) as venice:
        ticket = (await venice.queue()).json
        answers = [(await venice.retrieve(ticket)).status for _ in range(121)]
    assert [200] * 120 + [429] == answers


async def test_forty_quotes_for_upscaling_a_minute_while_others_are_not_counted() -> None:
    async with talk() as venice:
        clip = {"video_url": "https://example.com/x.mp4", "duration": None}
        answers = [(await venice.quote(UPSCALE, **clip)).status for _ in range(41)]
        others = [(await venice.quote()).status for _ in range(41)]
        await anyio.sleep(60)
        later = (await venice.quote(UPSCALE, **clip)).status
    assert ([200] * 40 + [429], [200] * 41, 200) == (answers, others, later)


async def test_limits_are_in_real_seconds_whatever_the_speed() -> None:
    async with talk(limits=SMALL, speed=1000) as venice:
        await statuses(venice, 3)
        await anyio.sleep(59)
        assert [429] == await statuses(venice, 1)
        await anyio.sleep(1)
        assert [200] * 3 == await statuses(venice, 3)


async def test_the_headers_count_down_to_a_reset_in_unix_milliseconds() -> None:
    async with talk(limits=SMALL) as venice:
        await anyio.sleep(20)
        answers = [await venice.queue() for _ in range(4)]
    assert ["3"] * 4 == [answer.headers["x-ratelimit-limit-requests"] for answer in answers]
    assert ["2", "1", "0", "0"] == [answer.headers["x-ratelimit-remaining-requests"] for answer in answers]
    assert all(39 < stamp(answer) < 42 for answer in answers)
    assert "Retry-After" not in answers[3].headers


async def test_the_reset_may_be_told_in_seconds_and_as_retry_after() -> None:
    limits = attrs.evolve(SMALL, queue=0, reset_unit="seconds", retry_after=True)
    async with talk(limits=limits) as venice:
        await anyio.sleep(20)
        answer = await venice.queue()
    assert "40" == answer.headers["Retry-After"]
    assert 35 < int(answer.headers["x-ratelimit-reset-requests"]) - time.time() < 65


async def test_fixed_windows_follow_each_other_from_the_start_less_the_phase() -> None:
    async with talk(limits=attrs.evolve(SMALL, phase=50.0)) as venice:
        assert [200] * 3 + [429] == await statuses(venice, 4)
        await anyio.sleep(10)
        assert [200] * 3 + [429] == await statuses(venice, 4)


async def test_a_sliding_window_frees_a_place_a_minute_after_it_was_taken() -> None:
    async with talk(limits=attrs.evolve(SMALL, window="sliding")) as venice:
        for _ in range(3):
            await venice.queue()
            await anyio.sleep(10)
        refused = await venice.queue()
        assert (429, True) == (refused.status, 29 < stamp(refused) < 32)
        await anyio.sleep(30)
        assert [200, 429] == await statuses(venice, 2)
        await anyio.sleep(10)
        assert [200, 429] == await statuses(venice, 2)


async def test_other_calls_are_not_limited_and_carry_no_headers() -> None:
    async with talk(limits=attrs.evolve(SMALL, queue=0, retrieve=0)) as venice:
        answer = await venice.quote()
    assert (200, False) == (answer.status, "x-ratelimit-limit-requests" in answer.headers)


async def test_limits_may_be_changed_and_switched_off_while_it_runs() -> None:
    async with talk(limits=SMALL) as venice:
        assert [200] * 3 + [429] == await statuses(venice, 4)
        venice.sandbox.limits = attrs.evolve(SMALL, queue=5)
        assert [200] * 2 + [429] == await statuses(venice, 3)
        venice.sandbox.limits = None
        answers = [await venice.queue() for _ in range(50)]
    assert [(200, False)] * 50 == [
        (item.status, "x-ratelimit-limit-requests" in item.headers) for item in answers
    ]


async def fail(venice: Talk, count: int) -> list[Answer]:
    """Make so many requests that fail."""
    return [await venice.call("GET", "/nothing") for _ in range(count)]


async def test_more_than_twenty_failures_in_thirty_seconds_block_the_key_for_thirty() -> None:
    async with talk() as venice:
        assert {404} == {answer.status for answer in await fail(venice, 21)}
        blocked = await venice.quote()
        says = "Too many failed attempts (> 20) resulting in a non-success status code"
        assert (429, says) == (blocked.status, blocked.json["error"])
        assert "0" == blocked.headers["x-ratelimit-remaining"]
        assert 29 < int(blocked.headers["x-ratelimit-resets"]) / 1000 - _date(blocked) < 32
        await anyio.sleep(29.9)
        assert 429 == (await venice.quote()).status
        await anyio.sleep(0.1)
        assert 200 == (await venice.quote()).status


def _date(answer: Answer) -> float:
    return parsedate_to_datetime(answer.headers["Date"]).timestamp()


async def test_twenty_failures_or_older_ones_do_not_block() -> None:
    async with talk() as venice:
        await fail(venice, 20)
        await anyio.sleep(30)
        await fail(venice, 20)
        assert 200 == (await venice.quote()).status


@for_each(
    "options, blocked",
    [
        ({"limits": RateLimits(queue=0)}, False),
        ({"faults": [Fault(on="queue", status=503, times=None)]}, False),
        ({"faults": [Fault(on="queue", status=400, times=None)]}, True),
    ],
)
async def test_of_injected_answers_and_refusals_only_client_errors_count_as_failures(
    options: dict[str, Any], *, blocked: bool
) -> None:
    async with talk(**options) as venice:
        await statuses(venice, 21)
        assert blocked == (429 == (await venice.quote()).status)


async def test_every_answer_tells_how_many_more_may_fail() -> None:
    async with talk() as venice:
        answers = [await venice.quote(), *await fail(venice, 2), await venice.quote()]
    assert ["20", "19", "18", "18"] == [answer.headers["x-ratelimit-remaining"] for answer in answers]


async def test_answers_during_a_block_do_not_prolong_it() -> None:
    async with talk() as venice:
        await fail(venice, 21)
        await anyio.sleep(20)
        await fail(venice, 40)
        await anyio.sleep(10)
        assert 200 == (await venice.quote()).status


async def test_a_skewed_clock_shows_in_date_and_reset_alike() -> None:
    async with talk(clock_skew=3600) as venice:
        answer = await venice.queue()
    assert 3590 < _date(answer) - time.time() < 3610
    assert 58 < stamp(answer) < 62
