"""A key: one order, paid for once, however often and by however many clients and processes it is placed."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from attrs import evolve

from tests.clients import PRIVATE, PUBLIC, client, wire
from tests.forks import start
from tests.test_consent import YES, needs_consent
from tests.venice import Venice, fault, json_answer
from venice_async import (
    AwaitingConsent,
    BudgetExceededError,
    Consent,
    ConsentDeclinedError,
    ConsentRequest,
    ContentPolicyError,
    DownloadError,
    Downloading,
    Limits,
    Media,
    PaymentRequiredError,
    QueueOutcomeUnknownError,
    UsageError,
    VeniceClient,
    VeniceError,
    VideoRequest,
    Waiting,
)
from venice_async.io.clock import SystemClock
from venice_async.io.journal.entries import JournalEntry
from venice_async.io.journal.journal import Journal
from venice_async.sandbox import Fault
from venice_async.sansio.job.states import Queueing

pytestmark = pytest.mark.anyio

KEY = "order-4711"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
FAILED = json_answer({"error": "The provider refused it", "credits_refunded": True}, status=422)


@pytest.fixture(params=["file", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the options of clients that share a journal, in a file and in Postgres."""
    if request.param == "file":
        return {"journal": tmp_path / "jobs.db"}
    ration = "venice_async.io.ration.postgres.PostgresRation"
    monkeypatch.setattr(ration, lambda *_, **__: None)  # it goes by the clock of the database, which is real
    return {"journal": request.getfixturevalue("postgres")}


def polls(server: Venice) -> int:
    """Return how often the server was asked how a job goes."""
    return wire(server).count("POST /video/retrieve")


async def test_the_same_key_while_we_work_on_it_is_the_very_same_job(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    async with Venice() as server, client(server, **shared) as venice:
        job = venice.generate(PUBLIC, to=tmp_path / "a.mp4", key=KEY, tags={"customer": "acme"})
        assert job is venice.generate(PUBLIC, to=tmp_path / "b.mp4", key=KEY)
        assert (KEY, {"customer": "acme"}) == (job.key, job.tags)
        await job.queued()
        entry = (await venice.pending())[0]
        assert (KEY, {"customer": "acme"}) == (entry.key, entry.tags)
        assert tmp_path / "a.mp4" == (await job).path
        assert 1 == len(server.charges)


async def test_a_key_whose_clip_was_made_gives_it_at_once(tmp_path: Path, shared: dict[str, Any]) -> None:
    to = tmp_path / "clip.mp4"
    async with Venice() as server:
        async with client(server, **shared) as venice:
            made = await venice.generate(PRIVATE, to=to, key=KEY)
            calls = len(server.requests)
            assert made.path == (await venice.generate(PRIVATE, to=to, key=KEY)).path
        async with client(server, **shared) as venice:
            again = venice.generate(PRIVATE, to=tmp_path / "no" / "such" / "folder.mp4", key=KEY)
            assert (made.path, made.sha256) == ((await again).path, (await again).sha256)
        assert calls == len(server.requests)


async def test_what_was_made_and_is_gone_is_an_error_with_its_ticket_and_never_paid_anew(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    async with Venice() as server, client(server, **shared) as venice:
        made = await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
        Path(made).write_bytes(b"cut")
        with pytest.raises(DownloadError, match="gone or has changed") as raised:
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
        assert (made.ticket, True) == (raised.value.ticket, raised.value.charged)
        assert 1 == len(server.charges)


async def test_the_job_of_a_client_that_is_gone_is_taken_over_and_goes_where_it_was_bound_for(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    async with Venice(polls=5) as server:
        async with client(server, **shared) as venice:
            await venice.generate(PRIVATE, to=tmp_path / "first.mp4", key=KEY).queued()
            await venice.aclose()
        async with client(server, **shared) as venice:
            job = venice.generate(PRIVATE, to=tmp_path / "second.mp4", key=KEY)
            assert tmp_path / "first.mp4" == (await job).path
        assert 1 == len(server.charges)
    assert not (tmp_path / "second.mp4").exists()


async def test_what_another_client_works_on_is_followed_to_its_clip_without_a_call(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    async with Venice(polls=8) as server:
        async with client(server, **shared) as first, client(server, **shared) as second:
            job = first.generate(PUBLIC, to=tmp_path / "first.mp4", key=KEY)
            ticket = await job.queued()
            follower = second.generate(PUBLIC, to=tmp_path / "second.mp4", key=KEY)
            states = [state async for state in follower.updates()]
            assert await job == await follower
            assert ticket == follower.ticket
            assert 0 < max(
                state.progress or 0 for state in states if isinstance(state, Waiting | Downloading)
            )
        assert (1, 9) == (len(server.charges), polls(server))


async def test_a_follower_ends_with_the_error_of_the_job_and_so_does_everyone_after_it(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    slow = json_answer({"status": "PROCESSING"})
    async with Venice(retrieve=[slow, slow, slow, FAILED]) as server:
        async with client(server, **shared) as first, client(server, **shared) as second:
            jobs = [first.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)]
            await jobs[0].queued()
            jobs.append(second.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY))
            for job in jobs:
                await job.ended()
            jobs.append(first.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY))
            errors = []
            for job in jobs:
                with pytest.raises(VeniceError) as raised:
                    await job
                errors.append((type(raised.value), raised.value.facts))
        assert [errors[0]] * 3 == errors
        assert (1, False) == (len(server.charges), errors[0][1]["charged"])


async def test_a_follower_takes_over_when_the_client_it_follows_is_gone(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    async with Venice(polls=9) as server, client(server, **shared) as second:
        async with client(server, **shared) as first:
            await first.generate(PUBLIC, to=tmp_path / "first.mp4", key=KEY).queued()
            follower = second.generate(PUBLIC, to=tmp_path / "second.mp4", key=KEY)
            await follower.queued()
            await first.aclose()
        assert tmp_path / "first.mp4" == (await follower).path
        assert 1 == len(server.charges)


async def test_a_follower_that_is_cancelled_only_stops_following(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    async with Venice() as server:
        async with client(server, **shared) as first, client(server, **shared) as second:
            job = first.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
            await job.queued()
            follower = second.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
            await follower.queued()
            assert follower.cancel()
            await follower.ended()
            assert follower.cancelled()
            assert ([], 1) == (pending := await second.pending(), pending.held)
            assert tmp_path / "clip.mp4" == (await job).path
        assert 1 == len(server.charges)


async def test_an_order_placed_by_many_clients_at_once_is_paid_for_once(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    async with Venice(polls=0) as server:
        async with client(server, **shared) as first, client(server, **shared) as second:

            async def place(number: int, venice: Any) -> None:
                paths[number].add(
                    (await venice.generate(PUBLIC, to=to / f"{number}.mp4", key=str(number))).path
                )

            to, began = tmp_path, anyio.current_time()
            paths: list[set[Path]] = [set() for _ in range(40)]
            async with anyio.create_task_group() as group:
                for number in range(40):
                    for venice in (first, second):
                        group.start_soon(place, number, venice)
            assert [{to / f"{number}.mp4"} for number in range(40)] == paths
            assert 90 > anyio.current_time() - began  # a key that was taken costs no turn and is no failure
        assert 40 == len(server.charges)


async def test_an_intent_whose_owner_is_gone_waits_for_its_answer_then_is_unknown_and_never_resent(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    async with Venice(queue=[fault(drop="after")]) as server:
        for _ in range(2):
            async with client(server, **shared) as venice:
                with pytest.raises(QueueOutcomeUnknownError):
                    await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
        assert 1 == len(server.charges)
        async with client(server, **shared) as venice:
            await venice.forget((await venice.pending())[0])  # which frees the key
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
        assert 2 == len(server.charges)


@pytest.mark.parametrize("ahead", [0, 3600])
async def test_the_answer_to_an_intent_may_come_as_long_as_its_owner_would_have_waited_by_whatever_clock(
    tmp_path: Path, shared: dict[str, Any], monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    loop, clock = asyncio.get_running_loop(), SystemClock()
    epoch = time.time() - loop.time()
    monkeypatch.setattr(SystemClock, "time", lambda of: epoch + loop.time() + ahead * (of is clock))
    owner = await Journal.open(shared["journal"], clock=clock)
    intent = JournalEntry(state=Queueing(request=PUBLIC), to=tmp_path / "clip.mp4", key=KEY)
    begun = await owner.begin(intent, answer_within=40)
    await owner.aclose()
    async with Venice() as server, client(server, **shared) as venice:
        at = loop.time()
        with pytest.raises(QueueOutcomeUnknownError):
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
        assert 39 <= loop.time() - at <= 42
        assert [begun.id] == [entry.id for entry in await venice.pending()]
        assert [] == server.charges


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (json_answer({"error": "Insufficient balance"}, status=402), PaymentRequiredError),
        (json_answer({"error": "The prompt violates the policy"}, status=422), ContentPolicyError),
    ],
)
async def test_what_was_refused_without_a_charge_leaves_its_key_free(
    tmp_path: Path, shared: dict[str, Any], answer: Fault, expected: type[VeniceError]
) -> None:
    other = VideoRequest(model="public-model", prompt="Another one", duration="5s")
    async with Venice(queue=[answer]) as server, client(server, **shared) as venice:
        with pytest.raises(expected):
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
        with pytest.raises(BudgetExceededError):
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY, max_usd=0.1)
        await venice.generate(other, to=tmp_path / "clip.mp4", key=KEY)
        assert ["Another one"] == [charge.request["prompt"] for charge in server.charges]


@pytest.mark.parametrize("answer", [YES, None])
async def test_of_two_clients_that_place_an_order_one_asks_the_person_and_both_end_by_the_answer(
    tmp_path: Path, shared: dict[str, Any], answer: Consent | None
) -> None:
    asked: list[ConsentRequest] = []

    async def ask(question: ConsentRequest) -> Consent | None:
        asked.append(question)
        await anyio.sleep(60)
        return answer

    async with (
        Venice(queue=[needs_consent()] * (1 if answer else 2)) as server,
        client(server, on_consent=ask, **shared) as first,
        client(server, on_consent=ask, **shared) as second,
    ):
        jobs = [venice.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY) for venice in (first, second)]
        await anyio.sleep(30)
        assert [AwaitingConsent] * 2 == [type(job.state) for job in jobs]
        assert ([], 0) == (pending := await second.pending(), pending.held)
        ends = await asyncio.gather(*(job.wait() for job in jobs), return_exceptions=True)
        assert (1, 1 if answer else 0) == (len(asked), len(server.charges))
        if answer is not None:
            assert ends[0] == ends[1]
        else:
            assert [ConsentDeclinedError] * 2 == [type(end) for end in ends]
            with pytest.raises(ConsentDeclinedError):  # the key is free again
                await second.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
            assert 2 == len(asked)


async def test_a_question_that_its_asker_gave_up_is_asked_by_the_client_that_waited_for_it(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    async def never(_: ConsentRequest) -> None:
        await anyio.sleep_forever()

    async def yes(_: ConsentRequest) -> Consent:
        return YES

    async with (
        Venice(queue=[needs_consent()] * 2) as server,
        client(server, on_consent=yes, **shared) as second,
    ):
        async with client(server, on_consent=never, **shared) as first:
            job = first.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
            await anyio.sleep(20)
            follower = second.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
            await anyio.sleep(20)
            assert [AwaitingConsent] * 2 == [type(job.state), type(follower.state)]
            await first.aclose()
        assert tmp_path / "clip.mp4" == (await follower).path
        assert 1 == len(server.charges)


async def test_another_request_under_a_key_is_refused_and_the_error_names_what_differs(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    request = VideoRequest(model="model", prompt="It moves", duration="5s", image_url=Media(PNG))
    async with Venice() as server, client(server, **shared) as venice:
        await venice.generate(request, to=tmp_path / "clip.mp4", key=KEY)
        same = evolve(request, image_url=Media(tmp_path / "a.png"))
        await venice.generate(same, to=tmp_path / "other.mp4", key=KEY, max_usd=0, overwrite=True, priority=3)
        other = evolve(request, duration="10s", aspect_ratio="16:9", image_url=Media(PNG + b"x"))
        with pytest.raises(UsageError, match="differs in aspect_ratio, duration, image_url"):
            await venice.generate(other, to=tmp_path / "clip.mp4", key=KEY)
        assert 1 == len(server.charges)


async def test_the_first_call_of_a_key_has_it_even_if_another_one_comes_before_it_has_paid(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    other = evolve(PUBLIC, prompt="Another one")
    async with Venice() as server, client(server, **shared) as venice:
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
        with pytest.raises(UsageError, match="differs in prompt"):
            await venice.generate(other, to=tmp_path / "other.mp4", key=KEY, priority=9)
        assert tmp_path / "clip.mp4" == (await job).path
        assert 1 == len(server.charges)


async def test_a_job_that_was_cancelled_or_is_recovered_is_gone_on_with_under_its_key(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    async with Venice(polls=9) as server:
        async with client(server, **shared) as venice:
            job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
            ticket = await job.queued()
            job.cancel()
            again = venice.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
            assert (True, False) == (job.cancelling(), job is again)
            assert ticket == await again.queued()
            await venice.aclose()
        async with client(server, **shared) as venice:
            (recovered,) = await venice.recover()
            assert recovered is venice.generate(PUBLIC, to=tmp_path / "other.mp4", key=KEY)
            assert tmp_path / "clip.mp4" == (await recovered).path
        assert 1 == len(server.charges)


async def test_a_key_without_a_journal_or_sense_is_refused_at_the_call(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    to = tmp_path / "clip.mp4"
    async with Venice() as server:
        async with client(server) as venice:
            with pytest.raises(UsageError, match="journal"):
                venice.generate(PUBLIC, to=to, key=KEY)
        async with client(server, **shared) as venice:
            for key in ("", " ", "a\nb", "x" * 256, 4711, b"x"):
                with pytest.raises(UsageError, match="key"):
                    venice.generate(PUBLIC, to=to, key=key)  # type: ignore[arg-type] # the mistake
            for tags in ("x", [("a", "b")], {"a": 1}, {1: "a"}, {"": "a"}, {"a": "\0"}):
                with pytest.raises(UsageError, match=r"[Tt]ag"):
                    venice.generate(PUBLIC, to=to, tags=tags)  # type: ignore[arg-type] # the mistake
        assert [] == server.requests


async def test_two_clients_with_the_same_batch_never_exceed_its_budget_together(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    requests = [evolve(PUBLIC, prompt=f"Gondola {index}") for index in range(8)]
    async with Venice(polls=0) as server:
        async with client(server, **shared) as first, client(server, **shared) as second:
            errors: list[type[VeniceError]] = []

            async def run(venice: VeniceClient, mine: list[VideoRequest]) -> None:
                async for outcome in venice.batch(mine, into=tmp_path / "clips", max_usd=1.0):
                    errors.extend([type(outcome.error)] if outcome.error else [])

            async with anyio.create_task_group() as group:
                group.start_soon(run, first, requests[:4])
                group.start_soon(run, second, requests[4:])
        assert 4 == len(server.charges)
        assert [BudgetExceededError] * 4 == errors


async def test_another_api_key_that_finds_only_jobs_of_others_is_warned_unless_its_account_is_named(
    tmp_path: Path, shared: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with Venice(polls=0) as server:
        async with client(server, **shared) as venice:
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY)
        async with client(server, **shared):
            assert "" == caplog.text
        url = server.base_url
        async with VeniceClient("next-key", base_url=url, limits=Limits(account="team"), **shared):
            assert "" == caplog.text
        async with VeniceClient("next-key", base_url=url, **shared):
            assert "holds 1 jobs of other API keys" in caplog.text


async def test_draining_leaves_out_what_another_client_works_on(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    async with (
        Venice(polls=9) as server,
        client(server, **shared) as first,
        client(server, **shared) as second,
    ):
        ticket = await first.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY).queued()
        await second.generate(PUBLIC, to=tmp_path / "clip.mp4", key=KEY).queued()
        assert [] == await second.drain(grace=0)
        assert [ticket] == await first.drain(grace=0)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # in real time
@pytest.mark.usefixtures("nursery")
async def test_two_processes_that_place_the_same_orders_at_once_pay_for_each_once(
    tmp_path: Path, shared: dict[str, Any]
) -> None:
    async with Venice(polls=0) as server:
        command = [sys.executable, "-c", ORDERS, server.base_url, str(tmp_path), str(shared["journal"])]
        root = Path(__file__).parents[1]
        processes = [start(command, cwd=root, env=os.environ) for _ in range(2)]
        assert [0, 0] == [await anyio.to_thread.run_sync(process.wait) for process in processes]
        assert 6 == len(server.charges)
    assert 6 == len(list(tmp_path.glob("*.mp4")))


ORDERS = """
import anyio, sys
from pathlib import Path
from tests.clients import PUBLIC
from tests.venice import KEY
from venice_async import Limits, VeniceClient

async def main(url, folder, journal):
    limits = Limits(queue_per_minute=6000, retrieve_per_minute=6000)
    async with VeniceClient(KEY, base_url=url, journal=journal, limits=limits) as venice:
        jobs = [venice.generate(PUBLIC, to=folder / f"{n}.mp4", key=str(n)) for n in range(6)]
        assert {folder / f"{n}.mp4" for n in range(6)} == {(await job).path for job in jobs}

anyio.run(main, sys.argv[1], Path(sys.argv[2]), sys.argv[3])
"""
