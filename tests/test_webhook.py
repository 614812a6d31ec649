"""What is told when a job has ended: at least once, signed, and never at the cost of the job."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from aiohttp import web

from tests.clients import PUBLIC, client
from tests.venice import Venice, json_answer
from venice_async import (
    APIError,
    UsageError,
    VideoJob,
    Webhook,
    WebhookError,
    verify_webhook,
)
from venice_async.io.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.anyio

SECRET = "a-secret-of-the-shop"
FAILED = json_answer({"error": "The provider refused it", "credits_refunded": True}, status=422)


class Receiver:
    """A server that answers webhooks with statuses, then with 204, and keeps what it got."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.received: list[tuple[Mapping[str, str], bytes]] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/hook", self.take)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/hook?token=in-the-url"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def take(self, request: web.Request) -> web.Response:
        self.received.append((dict(request.headers), await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204)

    def events(self) -> list[dict[str, Any]]:
        return [verify_webhook(body, headers, SECRET) for headers, body in self.received]


async def test_a_webhook_tells_a_clip_signed_and_is_sent_again_until_it_is_taken(tmp_path: Path) -> None:
    async with Receiver(500, 302) as receiver, Venice() as server:
        hook = Webhook(receiver.url, SECRET)
        async with client(server, on_done=hook, journal=tmp_path / "jobs.db") as venice:
            job = venice.generate(PUBLIC, to=tmp_path / "a.mp4", key="order-1", tags={"customer": "acme"})
            video = await job
    first, second, third = receiver.events()
    assert first == second == third
    assert ("video.succeeded", "order-1", {"customer": "acme"}, "a.mp4", video.sha256) == (
        first["type"],
        *(first["data"][name] for name in ("key", "tags", "file", "sha256")),
    )
    assert {first["id"]} == {headers["webhook-id"] for headers, _ in receiver.received}
    assert str(tmp_path) not in receiver.received[0][1].decode()


async def test_a_webhook_that_nobody_takes_costs_no_job_and_its_log_shows_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Receiver(*[500] * 99) as receiver, Venice(retrieve=[FAILED]) as server:
        hook = Webhook(receiver.url, SECRET, patience=10.0)
        async with client(server, on_done=hook) as venice:
            with pytest.raises(APIError, match="refused it"):
                await venice.generate(PUBLIC, to=tmp_path / "a.mp4")
        told = [verify_webhook(body, headers, SECRET) for headers, body in receiver.received]
    assert 3 <= len(told) <= 5
    assert ("video.failed", False, True) == (
        told[0]["type"],
        told[0]["data"]["charged"],
        told[0]["data"]["credits_refunded"],
    )
    assert "did not take the webhook" in caplog.text
    assert "Nothing was charged" not in caplog.text  # of the webhook: the job is another matter
    assert [] == [text for text in (SECRET, "in-the-url") if text in caplog.text + repr(hook)]


async def test_a_webhook_is_sent_whatever_characters_the_server_and_the_file_system_use(
    tmp_path: Path,
) -> None:
    queued = json_answer({"model": "public-model", "queue_id": "job-\ud800"})
    failed = json_answer({"error": "Half a pair: \ud83e", "credits_refunded": True}, status=422)
    async with (
        Receiver() as receiver,
        Venice(queue=[queued], retrieve=[failed]) as server,
        client(server, on_done=Webhook(receiver.url, SECRET)) as venice,
    ):
        with pytest.raises(APIError, match=r"Half a pair: \\ud83e") as caught:
            await venice.generate(PUBLIC, to=tmp_path / "a.mp4")
        assert str(caught.value).encode()
        named = await venice.generate(PUBLIC, to=tmp_path / "\udcff.mp4")
    assert named.path is not None
    first, second = receiver.events()
    assert ("job-\ud800", "Half a pair: \\ud83e") == (first["data"]["queue_id"], first["data"]["message"])
    assert named.path.name == second["data"]["file"]


async def test_the_end_of_a_job_is_told_once_and_not_by_those_who_follow_it(tmp_path: Path) -> None:
    told: list[tuple[str, str | None]] = []
    journal = tmp_path / "jobs.db"

    async def first_hook(job: VideoJob) -> None:
        told.append(("first", job.key))

    def second_hook(job: VideoJob) -> None:  # in a thread
        told.append(("second", job.key))
        raise ValueError

    async with (
        Venice(polls=4) as server,
        client(server, journal=journal, on_done=first_hook) as first,
        client(server, journal=journal, on_done=second_hook) as second,
    ):
        job = first.generate(PUBLIC, to=tmp_path / "a.mp4", key="a")
        await job.queued()
        await second.generate(PUBLIC, to=tmp_path / "a.mp4", key="a")
        await first.generate(PUBLIC, to=tmp_path / "a.mp4", key="a")
        await second.generate(PUBLIC, to=tmp_path / "b.mp4", key="b")
    assert [("first", "a"), ("second", "b")] == sorted(told)


@pytest.mark.parametrize("where", ["file", "postgres"])
async def test_an_end_that_a_process_could_not_tell_is_told_by_the_next_one(
    tmp_path: Path, where: str, request: pytest.FixtureRequest
) -> None:
    journal = request.getfixturevalue("postgres") if where == "postgres" else tmp_path / "jobs.db"
    begun, told = asyncio.Event(), asyncio.Event()
    jobs: list[VideoJob] = []

    async def never_comes_back(_: VideoJob) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def keep(job: VideoJob) -> None:
        jobs.append(job)
        told.set()

    async with Venice() as server:
        async with client(server, journal=journal, on_done=never_comes_back) as venice:
            video = await venice.generate(PUBLIC, to=tmp_path / "a.mp4", key="a", tags={"n": "1"})
            await begun.wait()
            await venice.aclose()
        async with client(server, journal=journal, on_done=keep):
            await told.wait()
        async with client(server, journal=journal, on_done=keep) as venice:
            assert video == await venice.generate(PUBLIC, to=tmp_path / "a.mp4", key="a")
            await asyncio.sleep(40)  # of virtual time: it has looked again
    assert [("a", {"n": "1"}, video)] == [(job.key, job.tags, job.result()) for job in jobs]


async def test_a_forged_changed_or_old_webhook_is_refused(tmp_path: Path) -> None:
    async with (
        Receiver() as receiver,
        Venice() as server,
        client(server, on_done=Webhook(receiver.url, SECRET)) as venice,
    ):
        await venice.generate(PUBLIC, to=tmp_path / "a.mp4")
        while not receiver.received:  # noqa: ASYNC110 - it is in a server, which sets no event
            await asyncio.sleep(0.01)
    ((headers, body),) = receiver.received
    assert verify_webhook(body, headers, ["another-secret-of-it", SECRET]) == json.loads(body)
    later = SystemClock()
    later.time = lambda: SystemClock().time() + 301  # type: ignore[method-assign]
    for other_body, other_headers, secret, clock in (
        (body + b" ", headers, SECRET, None),
        (body, {**headers, "webhook-id": "\udc80"}, SECRET, None),
        (body, {**headers, "webhook-signature": "v1,\udc80"}, SECRET, None),
        (body, {**headers, "webhook-id": "evt_1"}, SECRET, None),
        (body, headers, "another-secret-of-it", None),
        (body, {}, SECRET, None),
        (body, headers, SECRET, later),
    ):
        with pytest.raises(WebhookError):
            verify_webhook(other_body, other_headers, secret, clock=clock)
    text: Any = body.decode()
    with pytest.raises(UsageError, match="must be bytes, as it came, not str"):
        verify_webhook(text, headers, SECRET)


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("http://shop.example/hook", SECRET),
        ("https://user:password@shop.example/", SECRET),
        ("ftp://shop.example", SECRET),
        ("https://shop.example/", "short"),
        ("https://shop.example/", "whsec_no base64"),
        ("https://shop.example/", f"{SECRET}\udce9"),  # as a variable of the environment that is no UTF-8
    ],
)
def test_a_webhook_that_is_not_safe_is_refused_without_showing_it(url: str, secret: str) -> None:
    with pytest.raises(UsageError) as raised:
        Webhook(url, secret)
    assert [] == [text for text in (url, secret) if text in str(raised.value)]
