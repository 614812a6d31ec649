"""Consent: asked when the server asks, once for a policy, by a person and nobody else."""

from __future__ import annotations

import time

import anyio
import pytest

from tests.clients import client, until
from tests.venice import Venice, json_answer
from venice_async import (
    AwaitingConsent,
    ConflictError,
    Consent,
    ConsentDeclinedError,
    ConsentError,
    ConsentRequest,
    ConsentRequiredError,
    Media,
    VideoRequest,
)
from venice_async.io.delivery.sinks import MemorySink
from venice_async.sandbox import Fault
from venice_async.sansio.http.wire import request_body

pytestmark = pytest.mark.anyio

YES = Consent(terms_and_privacy=True, legal_right=True, screening=True)
PORTRAIT = VideoRequest(
    model="seedance", prompt="A smile", duration="5s", image_url=Media(b"\x89PNG\r\n\x1a\n" + bytes(1000))
)
ON_THE_WIRE = {
    "seedance": {
        "confirmed_terms_and_privacy": True,
        "confirmed_legal_right": True,
        "confirmed_screening_acknowledged": True,
    }
}


def needs_consent(version: str = "v1") -> Fault:
    """Return the question, as the vendor documents it."""
    question = {
        "error": {"code": "needs_consent", "message": "Consent is needed"},
        "consent_flow": "seedance",
        "face_media_roles": ["image"],
        "consent": {"consent_version": version, "policy_text": "The whole policy."},
        "docs_url": "https://docs.example/consent",
    }
    return json_answer(question, status=409)


async def test_the_same_body_is_sent_again_with_exactly_the_three_statements() -> None:
    asked: list[ConsentRequest] = []

    async def ask(question: ConsentRequest) -> Consent:
        asked.append(question)
        return YES

    async with Venice(queue=[needs_consent()]) as server, client(server, on_consent=ask) as venice:
        job = venice.generate(PORTRAIT, to=MemorySink())
        await job.queued()
        job.cancel()
        first, second = server.asked("POST /video/queue")
        assert {**first.json, "consents": ON_THE_WIRE} == second.json
        assert second.body.startswith(first.body[:-1])
        assert 1 == len(server.charges)
    (question,) = asked
    assert ("seedance", "The whole policy.", "v1") == (
        question.flow,
        question.policy_text,
        question.consent_version,
    )
    assert (("image",), PORTRAIT) == (question.face_media_roles, question.request)
    assert "https://docs.example/consent" == question.docs_url


async def test_a_plain_function_may_wait_for_a_person_without_holding_up_the_loop() -> None:
    def ask(_: ConsentRequest) -> Consent:
        time.sleep(0.05)  # a worker thread's time, not the loop's
        return YES

    async with Venice(queue=[needs_consent()]) as server, client(server, on_consent=ask) as venice:
        job = venice.stream(PORTRAIT)
        async for _ in job.stream():
            pass
        assert 1 == len(server.charges)


async def test_while_a_person_thinks_no_connection_and_no_turn_is_held() -> None:
    answer = anyio.Event()

    async def ask(_: ConsentRequest) -> Consent:
        await answer.wait()
        return YES

    async with Venice(queue=[needs_consent()]) as server, client(server, on_consent=ask) as venice:
        waiting = venice.generate(PORTRAIT, to=MemorySink())
        await until(lambda: isinstance(waiting.state, AwaitingConsent))
        await anyio.sleep(300)
        plain = VideoRequest(model="m", prompt="p", duration="5s")
        others = [venice.generate(plain, to=MemorySink()) for _ in range(3)]
        for other in others:
            await other.queued()
        assert isinstance(waiting.state, AwaitingConsent)
        answer.set()
        await waiting.queued()
        for job in (waiting, *others):
            job.cancel()
        assert 4 == len(server.charges)


async def test_a_cancelled_job_opens_no_second_prompt_and_the_next_ones_get_the_answer_to_the_first() -> None:
    prompts: list[ConsentRequest] = []
    told = anyio.Event()

    async def ask(question: ConsentRequest) -> Consent:
        prompts.append(question)
        await told.wait()
        return YES

    questions = [needs_consent()] * 3
    async with Venice(queue=questions) as server, client(server, on_consent=ask) as venice:
        first, *others = [venice.generate(PORTRAIT, to=MemorySink()) for _ in "123"]
        await until(lambda: isinstance(first.state, AwaitingConsent))
        first.cancel()
        await first.ended()
        await until(lambda: all(isinstance(job.state, AwaitingConsent) for job in others))
        assert 1 == len(prompts)
        told.set()
        for job in others:
            await job.queued()
            job.cancel()
        assert (1, 2) == (len(prompts), len(server.charges))


async def test_a_question_that_nobody_waits_for_any_more_does_not_keep_a_client_open() -> None:
    async def ask(_: ConsentRequest) -> Consent:
        await anyio.sleep_forever()
        return YES

    async with Venice(queue=[needs_consent()]) as server:
        async with client(server, on_consent=ask) as venice:
            job = venice.generate(PORTRAIT, to=MemorySink())
            await until(lambda: isinstance(job.state, AwaitingConsent))
            job.cancel()
        assert [] == server.charges


async def test_nobody_to_ask_is_an_error_that_carries_the_request() -> None:
    async with Venice(queue=[needs_consent()]) as server, client(server) as venice:
        with pytest.raises(ConsentRequiredError) as caught:
            await venice.generate(PORTRAIT, to=MemorySink())
        question = caught.value.consent_request
        assert question is not None
        assert (PORTRAIT, "The whole policy.") == (question.request, question.policy_text)
        assert caught.value.charged is False
        assert [] == server.charges


@pytest.mark.parametrize(
    "answer",
    [None, Consent(terms_and_privacy=True, legal_right=True, screening=False)],
    ids=["None", "two of three"],
)
async def test_less_than_all_three_statements_is_a_refusal_and_nothing_is_sent(
    answer: Consent | None,
) -> None:
    async with (
        Venice(queue=[needs_consent()]) as server,
        client(server, on_consent=lambda _: answer) as venice,
    ):
        with pytest.raises(ConsentDeclinedError):
            await venice.generate(PORTRAIT, to=MemorySink())
        assert 1 == len(server.requests)


async def test_a_second_question_for_the_same_policy_is_an_error_and_no_loop() -> None:
    asked: list[ConsentRequest] = []

    def ask(question: ConsentRequest) -> Consent:
        asked.append(question)
        return YES

    async with Venice(queue=[needs_consent()] * 9) as server, client(server, on_consent=ask) as venice:
        with pytest.raises(ConsentError, match="again"):
            await venice.generate(PORTRAIT, to=MemorySink())
        assert (1, 2, []) == (len(asked), len(server.requests), server.charges)


async def test_a_question_for_another_policy_is_asked_too_but_not_for_ever() -> None:
    asked: list[str] = []

    def ask(question: ConsentRequest) -> Consent:
        asked.append(question.consent_version)
        return YES

    questions = [needs_consent(f"v{number}") for number in range(9)]
    async with Venice(queue=questions) as server, client(server, on_consent=ask) as venice:
        with pytest.raises(ConsentError):
            await venice.generate(PORTRAIT, to=MemorySink())
        assert ["v0", "v1", "v2"] == asked
        assert [] == server.charges


async def test_what_was_attested_beforehand_is_sent_and_nobody_is_asked() -> None:
    request = VideoRequest(model="m", prompt="p", duration="5s", consents=YES)
    async with Venice() as server, client(server) as venice:
        job = venice.generate(request, to=MemorySink())
        await job.queued()
        job.cancel()
        assert ON_THE_WIRE == server.charges[0].request["consents"]


async def test_a_question_beyond_what_was_attested_beforehand_is_told_from_a_first_one() -> None:
    request = VideoRequest(model="m", prompt="p", duration="5s", consents=YES)
    async with Venice(queue=[needs_consent()]) as server, client(server) as venice:
        with pytest.raises(ConsentRequiredError, match="beyond what the request attests"):
            await venice.generate(request, to=MemorySink())
        assert [] == server.charges


async def test_a_callback_that_fails_ends_the_job_with_its_reason() -> None:
    def ask(_: ConsentRequest) -> Consent:
        message = "the desk is closed"
        raise LookupError(message)

    async with Venice(queue=[needs_consent()]) as server, client(server, on_consent=ask) as venice:
        with pytest.raises(ConsentError, match="the desk is closed") as caught:
            await venice.generate(PORTRAIT, to=MemorySink())
        assert isinstance(caught.value.__cause__, LookupError)
        assert [] == server.charges


async def test_a_callback_that_answers_yes_in_its_own_way_has_not_consented() -> None:
    async with (
        Venice(queue=[needs_consent()]) as server,
        client(server, on_consent=lambda _: True) as venice,
    ):
        with pytest.raises(ConsentError, match="must return a Consent"):
            await venice.generate(PORTRAIT, to=MemorySink())
        assert 1 == len(server.requests)


async def test_another_conflict_is_an_ordinary_error() -> None:
    conflict = json_answer({"error": {"code": "conflict", "message": "Busy"}}, status=409)
    async with Venice(queue=[conflict]) as server, client(server, on_consent=lambda _: YES) as venice:
        with pytest.raises(ConflictError, match="Busy"):
            await venice.generate(PORTRAIT, to=MemorySink())


async def test_media_are_encoded_once_however_often_the_request_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded: list[VideoRequest] = []

    def counting(request: VideoRequest) -> bytes:
        encoded.append(request)
        return request_body(request)

    monkeypatch.setattr("venice_async.io.uploads.request_body", counting)
    async with (
        Venice(queue=[needs_consent()]) as server,
        client(server, on_consent=lambda _: YES) as venice,
    ):
        job = venice.generate(PORTRAIT, to=MemorySink())
        await job.queued()
        job.cancel()
    assert 1 == len(encoded)
