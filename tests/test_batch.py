"""Batches: outcomes as they finish, one exact budget, and nothing paid twice however often they are run."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve

from tests.cases import for_each
from tests.clients import PUBLIC, client, until
from tests.venice import Venice, at, fault, json_answer
from venice_async import (
    Batch,
    BudgetExceededError,
    Consent,
    ConsentRequest,
    ContentPolicyError,
    DownloadError,
    Media,
    Outcome,
    PaymentRequiredError,
    QueueOutcomeUnknownError,
    UsageError,
    VeniceError,
    VideoRequest,
)
from venice_async.sandbox import Fault, RecordedRequest
from venice_async.sansio.converter import request_key

pytestmark = pytest.mark.anyio

REFUSED = json_answer({"error": "The prompt violates the policy"}, status=422)
NEWS = json_answer({"status": "PROCESSING"})
EMPTY = json_answer({"error": "Insufficient balance"}, status=402)


def request(index: int) -> VideoRequest:
    """Return one of many requests."""
    return VideoRequest(model="public-model", prompt=f"Gondola {index}", duration="5s")


def several(count: int) -> list[VideoRequest]:
    """Return the first `count` of them."""
    return [request(index) for index in range(count)]


def prompts(server: Venice) -> list[str]:
    """Return what was paid for."""
    return sorted(charge.request["prompt"] for charge in server.charges)


async def collect(batch: Batch) -> dict[int, Outcome]:
    """Return the outcomes of a batch by index."""
    return {outcome.index: outcome async for outcome in batch}


async def test_an_awaited_batch_is_the_list_of_outcomes_in_the_order_of_the_requests(tmp_path: Path) -> None:
    async with Venice(queue=[REFUSED]) as server, client(server) as venice:
        outcomes = await venice.batch(several(3), into=tmp_path)
    assert [0, 1, 2] == [outcome.index for outcome in outcomes]
    assert [ContentPolicyError] == [type(outcome.error) for outcome in outcomes if outcome.error]


async def test_each_request_ends_in_one_outcome_and_the_folder_is_made(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        outcomes = await collect(venice.batch(several(5), into=tmp_path / "new" / "clips"))
    assert [0, 1, 2, 3, 4] == sorted(outcomes)
    for index, outcome in outcomes.items():
        assert (request(index), None) == (outcome.request, outcome.error)
        assert outcome.video is not None
        assert outcome.video.path is not None
        assert tmp_path / "new" / "clips" == outcome.video.path.parent
    assert 5 == len(server.charges)


async def test_a_failure_is_an_outcome_and_stops_nothing_else(tmp_path: Path) -> None:
    async with Venice(queue=[REFUSED]) as server, client(server) as venice:
        outcomes = await collect(venice.batch(several(4), into=tmp_path))
    failed = [outcome for outcome in outcomes.values() if outcome.error]
    assert [ContentPolicyError] == [type(outcome.error) for outcome in failed]
    assert [None] == [outcome.video for outcome in failed]
    assert 3 == len(server.charges)


async def test_with_stop_nothing_more_is_queued_after_a_failure(tmp_path: Path) -> None:
    async with Venice(queue=[REFUSED]) as server, client(server) as venice:
        outcomes = await collect(venice.batch(several(50), into=tmp_path, on_error="stop", concurrency=2))
    assert [] != [outcome for outcome in outcomes.values() if isinstance(outcome.error, ContentPolicyError)]
    assert 3 >= len(outcomes)
    assert 2 >= len(server.charges)


async def test_requests_are_not_read_ahead_of_those_who_take_the_outcomes(tmp_path: Path) -> None:
    read: list[int] = []

    def source() -> Iterator[VideoRequest]:
        for index in range(1000):
            read.append(index)
            yield request(index)

    async with Venice(polls=0) as server, client(server) as venice:
        batch = venice.batch(source(), into=tmp_path, concurrency=3)
        async for _ in batch:
            await anyio.sleep(60)
            assert 3 + 2 >= len(read)
            if len(read) >= 4:
                break
    assert 6 >= len(server.charges)


async def test_requests_may_come_from_an_async_iterable(tmp_path: Path) -> None:
    async def source() -> AsyncIterator[VideoRequest]:
        for index in range(3):
            await anyio.sleep(1)
            yield request(index)

    async with Venice() as server, client(server) as venice:
        assert [0, 1, 2] == sorted(await collect(venice.batch(source(), into=tmp_path)))


async def test_a_source_that_fails_raises_after_the_outcomes_of_what_was_started(tmp_path: Path) -> None:
    def source() -> Iterator[VideoRequest]:
        yield request(0)
        raise LookupError

    async with Venice() as server, client(server) as venice:
        taken: list[Outcome] = []
        with pytest.raises(LookupError):
            async for outcome in venice.batch(source(), into=tmp_path):
                taken.append(outcome)  # noqa: PERF401 - what came before the error counts
    assert [0] == [outcome.index for outcome in taken]


async def test_a_budget_is_never_exceeded_and_what_is_refused_is_given_back(tmp_path: Path) -> None:
    async with Venice(queue=[REFUSED], quote=[]) as server, client(server) as venice:
        batch = venice.batch(several(10), into=tmp_path, max_usd=1.00, concurrency=1)
        outcomes = await collect(batch)
        assert 1.00 == batch.spent_usd
    kinds = [type(outcome.error) for _, outcome in sorted(outcomes.items())]
    assert [ContentPolicyError, *[type(None)] * 4, *[BudgetExceededError] * 5] == kinds
    assert 4 == len(server.charges)


async def test_a_budget_that_is_all_reserved_waits_for_what_may_be_refused_before_it_refuses(
    tmp_path: Path,
) -> None:
    slow = [at("queue", evolve(REFUSED, delay=5.0)), fault(delay=5.0)]
    async with Venice(queue=slow) as server, client(server) as venice:
        usd = (await venice.quote(request(0))).usd
        batch = venice.batch(several(4), into=tmp_path, max_usd=2 * usd)
        errors = [outcome.error for outcome in await batch]
        kinds = sorted(type(error).__name__ for error in errors)
        assert ["BudgetExceededError", "ContentPolicyError", "NoneType", "NoneType"] == kinds
        assert (2, 2 * usd) == (len(server.charges), batch.spent_usd)


async def test_a_budget_is_exact_for_prices_that_binary_fractions_cannot_hold(tmp_path: Path) -> None:
    dime = json_answer({"quote": 0.1})
    async with Venice(quote=[dime] * 20) as server, client(server) as venice:
        await collect(venice.batch(several(20), into=tmp_path, max_usd=0.8))
        assert 8 == len(server.charges)


async def test_an_unknown_outcome_stays_reserved(tmp_path: Path) -> None:
    async with Venice(queue=[fault(drop="after")]) as server, client(server) as venice:
        batch = venice.batch(several(3), into=tmp_path, max_usd=0.50, concurrency=1)
        outcomes = await collect(batch)
        assert [QueueOutcomeUnknownError, type(None), BudgetExceededError] == [
            type(outcomes[index].error) for index in range(3)
        ]
        assert 0.50 == batch.spent_usd


async def test_an_empty_balance_pauses_the_rest_instead_of_failing_it(tmp_path: Path) -> None:
    async with Venice(queue=[EMPTY] * 12) as server, client(server) as venice:
        batch = venice.batch(several(30), into=tmp_path, pause=60)
        outcomes: dict[int, Outcome] = {}
        async for outcome in batch:
            outcomes[outcome.index] = outcome
        assert [None] * 30 == [outcome.error for outcome in outcomes.values()]
        assert 30 == len(server.charges)
        assert not batch.paused


async def test_a_paused_batch_tries_again_from_time_to_time_with_one_request(tmp_path: Path) -> None:
    async with Venice(queue=[EMPTY] * 1000) as server:
        with pytest.raises(TimeoutError):
            async with client(server) as venice:
                batch = venice.batch(several(300), into=tmp_path, pause=60)
                with anyio.fail_after(3600):
                    await collect(batch)
    assert 60 + 10 >= len(server.requests)


async def test_a_batch_that_was_killed_goes_on_where_it_was_and_pays_for_nothing_twice(
    tmp_path: Path,
) -> None:
    journal, into = tmp_path / "jobs.db", tmp_path / "clips"
    async with Venice(polls=3) as server:
        with pytest.raises(ZeroDivisionError):
            async with client(server, journal=journal) as venice:
                taken = 0
                async for _ in venice.batch(several(20), into=into, max_usd=10):
                    taken += 1
                    if taken == 7:
                        raise ZeroDivisionError
        async with client(server, journal=journal) as venice:
            outcomes = await collect(venice.batch(several(20), into=into, max_usd=10))
            assert [None] * 20 == [outcomes[index].error for index in range(20)]
            assert [0.25] * 20 == [outcomes[index].usd for index in range(20)]
        assert sorted(f"Gondola {index}" for index in range(20)) == prompts(server)
        assert 20 == len(list(into.iterdir()))


async def test_equal_requests_of_one_batch_are_different_clips(tmp_path: Path) -> None:
    for _ in range(2):
        async with Venice() as server, client(server, journal=tmp_path / "jobs.db") as venice:
            outcomes = await collect(venice.batch([PUBLIC] * 3, into=tmp_path / "clips"))
            paths = {outcome.video.path for outcome in outcomes.values() if outcome.video}
            assert 3 == len(paths)
    assert [] == server.charges


async def test_the_budget_counts_what_earlier_runs_into_the_folder_have_spent(tmp_path: Path) -> None:
    async with Venice() as server:
        for count, expected in ((2, 0.50), (5, 1.00)):
            async with client(server, journal=tmp_path / "jobs.db") as venice:
                batch = venice.batch(several(count), into=tmp_path / "clips", max_usd=1.00)
                await collect(batch)
                assert expected == batch.spent_usd
        assert 4 == len(server.charges)


async def test_a_clip_that_was_paid_for_and_is_gone_is_not_quietly_paid_for_again(tmp_path: Path) -> None:
    async with Venice() as server, client(server, journal=tmp_path / "jobs.db") as venice:
        first = await collect(venice.batch(several(1), into=tmp_path / "clips"))
        assert first[0].video is not None
        Path(first[0].video).unlink()
        second = await collect(venice.batch(several(1), into=tmp_path / "clips"))
        assert (DownloadError, True) == (type(second[0].error), second[0].error and second[0].error.charged)
        assert 1 == len(server.charges)


async def test_a_request_of_unknown_outcome_is_reported_again_and_never_resent(tmp_path: Path) -> None:
    async with Venice(queue=[fault(drop="after")]) as server:
        for _ in range(2):
            async with client(server, journal=tmp_path / "jobs.db") as venice:
                outcomes = await collect(venice.batch(several(1), into=tmp_path / "clips"))
                assert isinstance(outcomes[0].error, QueueOutcomeUnknownError)
        assert 1 == len(server.charges)


async def test_what_tells_large_requests_apart_is_reckoned_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip of 25 MB as a `data:` URL held it up for a fifth of a second, and its refusal for longer."""
    threads: list[threading.Thread] = []

    def noted(request: VideoRequest) -> str:
        threads.append(threading.current_thread())
        return request_key(request)

    monkeypatch.setattr("venice_async.batch.request_key", noted)
    large = evolve(request(0), image_url="data:image/png;base64," + "iVBORw0KGgoA" * 10_000)
    async with Venice(queue=[REFUSED]) as server, client(server) as venice:
        (outcome,) = await venice.batch([large], into=tmp_path)
    assert isinstance(outcome.error, ContentPolicyError)
    assert (2, False) == (len(threads), threading.current_thread() in threads)


async def test_a_request_that_was_refused_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    async with Venice(queue=[REFUSED]) as server:
        for expected in (ContentPolicyError, type(None)):
            async with client(server, journal=tmp_path / "jobs.db") as venice:
                outcomes = await collect(venice.batch(several(1), into=tmp_path / "clips"))
                assert expected is type(outcomes[0].error)


async def test_a_key_of_ones_own_names_a_request_across_runs(tmp_path: Path) -> None:
    async with Venice() as server:
        for prompt in ("first wording", "second wording"):
            async with client(server, journal=tmp_path / "jobs.db") as venice:
                request = VideoRequest(model="m", prompt=prompt, duration="5s")
                await collect(venice.batch([request], into=tmp_path / "clips", key=lambda _: "shot-1"))
        assert ["first wording"] == prompts(server)


def asking_for(role: str) -> Callable[[RecordedRequest], Fault | None]:
    """Return what answers each paid request without consents by the question for the faces of a role."""
    question = {
        "error": {"code": "needs_consent", "message": "Consent is needed"},
        "consent_flow": "seedance",
        "face_media_roles": [role],
        "consent": {"consent_version": "v1", "policy_text": "Policy"},
        "docs_url": "https://docs.example",
    }

    def needs_consent(call: RecordedRequest) -> Fault | None:
        is_asked = call.point == "queue" and "consents" not in call.json
        return json_answer(question, status=409) if is_asked else None

    return needs_consent


FACES: list[Callable[[Media], dict[str, Any]]] = [
    lambda face: {"reference_image_urls": [face]},
    lambda face: {"image_references": [{"image_url": face}]},
    lambda face: {"elements": [{"frontal_image_url": face}]},
    lambda face: {"extra": {"mask": face}},
]


@for_each("faces", FACES)
async def test_other_faces_are_another_question_in_whatever_field_they_are(
    tmp_path: Path, faces: Callable[[Media], dict[str, Any]]
) -> None:
    asked: list[ConsentRequest] = []

    def ask(question: ConsentRequest) -> Consent:
        asked.append(question)
        return Consent(terms_and_privacy=True, legal_right=True, screening=True)

    images = [Media(b"\x89PNG\r\n\x1a\n" + bytes([index]) * 20) for index in (0, 1, 0, 1)]
    requests = [
        VideoRequest(model="seedance", prompt="A smile", duration="5s", **faces(image)) for image in images
    ]
    async with Venice(asking_for("reference_image")) as server, client(server, on_consent=ask) as venice:
        outcomes = await collect(venice.batch(requests, into=tmp_path))
        assert [None] * 4 == [outcome.error for outcome in outcomes.values()]
    assert 2 == len(asked)


async def test_consent_is_asked_once_for_a_policy_and_its_media_by_all_jobs_of_a_batch(
    tmp_path: Path,
) -> None:
    asked: list[ConsentRequest] = []

    async def ask(question: ConsentRequest) -> Consent:
        asked.append(question)
        await anyio.sleep(30)
        return Consent(terms_and_privacy=True, legal_right=True, screening=True)

    faces = [Media(b"\x89PNG\r\n\x1a\n" + bytes([index]) * 20) for index in range(2)]
    requests = [
        VideoRequest(model="seedance", prompt=f"Smile {index}", duration="5s", image_url=faces[index % 2])
        for index in range(10)
    ]
    async with Venice(asking_for("image")) as server, client(server, on_consent=ask) as venice:
        outcomes = await collect(venice.batch(requests, into=tmp_path))
        assert [None] * 10 == [outcome.error for outcome in outcomes.values()]
        assert 10 == len(server.charges)
    assert 2 == len(asked)


async def test_draining_ends_a_batch_and_the_next_run_has_the_rest(tmp_path: Path) -> None:
    journal, into = tmp_path / "jobs.db", tmp_path / "clips"
    running = True

    def still(call: RecordedRequest) -> Fault | None:
        return NEWS if running and call.point in {"retrieve", "video"} else None

    async with Venice(still, polls=0) as server:
        async with client(server, journal=journal) as venice:
            batch = venice.batch(several(40), into=into, concurrency=10)
            outcomes: list[Outcome] = []

            async def take() -> None:
                outcomes.extend([outcome async for outcome in batch])

            async with anyio.create_task_group() as group:
                group.start_soon(take)
                await until(lambda: len(server.charges) >= 5)
                tickets = await venice.drain(10)
            assert len(server.charges) == len(tickets)
            assert [True] * len(outcomes) == [isinstance(outcome.error, VeniceError) for outcome in outcomes]
        paid = len(server.charges)
        running = False
        async with client(server, journal=journal) as venice:
            rest = await collect(venice.batch(several(40), into=into))
        assert [None] * 40 == [rest[index].error for index in range(40)]
        assert (40, True) == (len(server.charges), paid < 40)


async def test_a_folder_that_cannot_be_made_is_a_clear_error_and_nothing_is_sent(tmp_path: Path) -> None:
    (tmp_path / "clips").write_text("a file")
    async with Venice() as server, client(server) as venice:
        with pytest.raises(UsageError, match="cannot be made"):
            await collect(venice.batch(several(2), into=tmp_path / "clips"))
        assert [] == server.requests


@pytest.mark.parametrize("into", ["a\0b", "\ud83e"])
async def test_a_folder_that_no_file_system_can_name_is_refused(into: str) -> None:
    async with Venice() as server, client(server) as venice:
        with pytest.raises(UsageError, match="into= is not the path of a folder"):
            venice.batch(several(2), into=into)


async def test_a_batch_is_iterated_once_and_takes_requests_only(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        batch = venice.batch(several(1), into=tmp_path)
        await collect(batch)
        with pytest.raises(UsageError, match="once"):
            await collect(batch)
        with pytest.raises(UsageError, match="VideoRequest"):
            await collect(venice.batch(["a prompt"], into=tmp_path))  # type: ignore[list-item] # the mistake
        with pytest.raises(UsageError, match="concurrency"):
            venice.batch([], into=tmp_path, concurrency=0)


async def test_a_paid_request_is_not_lost_to_an_empty_balance_of_others(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        with pytest.raises(PaymentRequiredError):
            server.inject(at("queue", EMPTY))
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert [] == server.charges
