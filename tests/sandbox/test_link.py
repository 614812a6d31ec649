"""The private link: another origin, ranges, few GETs, one end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from tests.cases import for_each
from venice_async.sandbox import Scenario

from .talk import CLIP, PRIVATE, Answer, Talk, talk

pytestmark = pytest.mark.anyio

SIZE = len(CLIP)


@asynccontextmanager
async def link(seconds: float = 0, **options: Any) -> AsyncGenerator[tuple[Talk, str]]:
    """Run a sandbox with one private job, and yield its link."""
    async with talk(scenarios={"*": Scenario(seconds=seconds)}, **options) as venice:
        yield venice, (await venice.queue(PRIVATE)).json["download_url"]


async def get(venice: Talk, url: str, **headers: str) -> Answer:
    """GET a link; underscores in names of headers are hyphens."""
    return await venice.fetch(
        "GET", url, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


async def test_it_serves_the_clip_without_a_key() -> None:
    async with link() as (venice, url):
        answer = await get(venice, url)
        assert (200, "video/mp4", CLIP) == (answer.status, answer.headers["Content-Type"], answer.content)
        assert str(SIZE) == answer.headers["Content-Length"]
        assert "bytes" == answer.headers["Accept-Ranges"]
        assert answer.headers["ETag"].startswith('"')
        assert answer.headers["Last-Modified"].endswith("GMT")
        assert [] == venice.sandbox.leaked_keys


async def test_a_key_sent_along_is_reported() -> None:
    async with link() as (venice, url):
        await get(venice, url, Authorization=f"Bearer {venice.sandbox.api_key}")
        (leak,) = venice.sandbox.leaked_keys
        assert ("link", "link") == (leak.origin, leak.point)


@for_each(
    "wanted, first, last",
    [
        ("bytes=0-0", 0, 0),
        ("bytes=500-", 500, SIZE - 1),
        ("bytes=10-99999", 10, SIZE - 1),
        ("bytes=-7", SIZE - 7, SIZE - 1),
    ],
)
async def test_a_range_is_answered_by_206_with_just_that(wanted: str, first: int, last: int) -> None:
    async with link() as (venice, url):
        answer = await get(venice, url, Range=wanted)
    assert (206, CLIP[first : last + 1]) == (answer.status, answer.content)
    assert f"bytes {first}-{last}/{SIZE}" == answer.headers["Content-Range"]


async def test_a_range_beyond_the_end_is_a_416_that_tells_the_size() -> None:
    async with link() as (venice, url):
        answer = await get(venice, url, Range=f"bytes={SIZE}-")
    assert (416, f"bytes */{SIZE}") == (answer.status, answer.headers["Content-Range"])


@for_each("wanted", ["bytes=5-2", "bytes=-", "bytes=0-1,5-6", "items=0-1"])
async def test_a_range_that_makes_no_sense_is_ignored(wanted: str) -> None:
    async with link() as (venice, url):
        answer = await get(venice, url, Range=wanted)
    assert (200, CLIP) == (answer.status, answer.content)


async def test_if_range_takes_the_etag_or_the_date_and_anything_else_starts_again() -> None:
    async with link() as (venice, url):
        whole = await get(venice, url)
        by_etag = await get(venice, url, Range="bytes=5-", If_Range=whole.headers["ETag"])
        by_date = await get(venice, url, Range="bytes=5-", If_Range=whole.headers["Last-Modified"])
        other = await get(venice, url, Range="bytes=5-", If_Range='"other"')
    assert [206, 206, 200] == [by_etag.status, by_date.status, other.status]


async def test_a_link_may_be_told_to_honour_no_ranges() -> None:
    async with link(link_ranges=False) as (venice, url):
        answer = await get(venice, url, Range="bytes=5-")
    assert (200, CLIP, False) == (answer.status, answer.content, "Accept-Ranges" in answer.headers)


async def test_after_five_gets_it_answers_429() -> None:
    async with link() as (venice, url):
        answers = [await get(venice, url) for _ in range(6)]
    assert [200] * 5 + [429] == [answer.status for answer in answers]


async def test_after_delete_it_is_gone() -> None:
    async with link() as (venice, url):
        deleted = await venice.fetch("DELETE", url)
        after = await get(venice, url)
        again = await venice.fetch("DELETE", url)
        assert [204, 410, 410] == [deleted.status, after.status, again.status]
        assert (2, 1) == (venice.sandbox.count("revoke"), venice.sandbox.count("link"))


async def test_after_a_day_it_is_gone() -> None:
    async with link() as (venice, url):
        await anyio.sleep(86_400)
        answer = await get(venice, url)
    assert 410 == answer.status


async def test_before_the_job_is_done_there_is_nothing_to_get() -> None:
    async with link(seconds=60) as (venice, url):
        early = await get(venice, url)
        await anyio.sleep(1)
        done = await get(venice, url)
    assert [404, 200] == [early.status, done.status]


async def test_without_its_signature_it_is_unknown() -> None:
    async with link() as (venice, url):
        answers = [await get(venice, wrong) for wrong in (url[:-1], url.partition("?")[0])]
        deleted = await venice.fetch("DELETE", url[:-1])
    assert [404, 404, 404] == [answer.status for answer in (*answers, deleted)]


async def test_only_get_and_delete_are_allowed() -> None:
    async with link() as (venice, url):
        answer = await venice.fetch("HEAD", url)
    assert 405 == answer.status


async def test_the_signature_is_not_recorded() -> None:
    async with link() as (venice, url):
        await get(venice, url)
        assert url.partition("signature=")[2] not in repr(venice.sandbox.requests)
