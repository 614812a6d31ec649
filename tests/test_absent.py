"""Unknown is not gone: what the server does not know for a while is asked for again, never paid for again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.clients import PRIVATE, PUBLIC, client, until
from tests.venice import (
    CLIP,
    Answer,
    Venice,
    answer,
    at,
    html_answer,
    json_answer,
    named,
    remade,
    video_answer,
)
from venice_async import (
    BadRequestError,
    ContentPolicyError,
    DownloadError,
    JobFailedError,
    LinkExpiredError,
    NotAVideoError,
    NotFoundError,
    Outcome,
    PermissionDeniedError,
    ServerError,
    UsageError,
    VeniceClient,
    VeniceError,
    VideoRequest,
)
from venice_async.sandbox import Fault, RecordedRequest, Scenario

pytestmark = pytest.mark.anyio

EVER = 10_000
PATIENCE = 400
"""Seconds after which a job that stays absent is an error."""

NOT_FOUND = json_answer({"error": "Not found"}, status=404)
INVALID_ID = json_answer({"error": "Request ID is invalid."}, status=400)
FORBIDDEN = json_answer({"error": {"message": "The model is not available here"}}, status=403)
GONE = json_answer({"error": "Gone"}, status=410)
EDGE = html_answer(status=403)
GATEWAY_JSON = json_answer({"message": "Forbidden"}, status=403)
PROBLEM = json_answer({"title": "Error 1015", "status": 429, "detail": "You are rate limited"}, status=403)
COMPLETED = json_answer({"status": "COMPLETED"})
NOTHING = video_answer(b"")
STORE = answer(b"<Error>AccessDenied</Error>", "application/xml", status=403)


class Late(Venice):
    """A Venice that answers to polls, or to the link, with `said` for `seconds` from the first time on."""

    def __init__(self, where: str, said: Fault, seconds: float, *, after: int = 0) -> None:
        super().__init__(self._decide)
        self._where, self._said, self._seconds, self._after = where, at("link", said), seconds, after
        self._since: float | None = None

    def _decide(self, request: RecordedRequest) -> Fault | None:
        if self._where not in named(request):
            return None
        self._after -= 1
        if self._after >= 0:
            return None
        self._since = request.at if self._since is None else self._since
        return self._said if request.at - self._since < self._seconds else None


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        pytest.param(NOT_FOUND, 80, id="404"),
        pytest.param(INVALID_ID, 80, id="400"),
        pytest.param(COMPLETED, 80, id="completed without a clip"),
        pytest.param(NOTHING, 80, id="an empty clip"),
        pytest.param(EDGE, 600, id="a challenge of an edge"),
        pytest.param(GATEWAY_JSON, 600, id="the JSON of a gateway"),
        pytest.param(PROBLEM, 600, id="the JSON of an edge"),
    ],
)
@pytest.mark.parametrize("after", [0, 2], ids=["at first", "in the middle"])
async def test_a_job_that_is_not_there_for_a_while_is_delivered_all_the_same(
    tmp_path: Path, said: Fault, seconds: float, after: int
) -> None:
    async with Late("/retrieve", said, seconds, after=after) as server, client(server) as venice:
        await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert CLIP == (tmp_path / "clip.mp4").read_bytes()
        assert 1 == len(server.charges)
        times = [request.at for request in server.asked("POST /video/retrieve")]
        assert len(times) < 8 + seconds / 5


@pytest.mark.parametrize("said", [NOT_FOUND, STORE, NOTHING, html_answer()])
async def test_a_link_that_has_no_clip_for_a_while_is_asked_within_its_gets(
    tmp_path: Path, said: Fault
) -> None:
    async with Late("/link", said, 30) as server, client(server) as venice:
        await venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
        assert CLIP == (tmp_path / "clip.mp4").read_bytes()
        assert 5 >= server.gets


async def once(venice: VeniceClient, request: VideoRequest, into: Path) -> Outcome:
    """Run a batch of one request."""
    (outcome,) = [outcome async for outcome in venice.batch([request], into=into, max_usd=1.0)]
    return outcome


@pytest.mark.parametrize(
    ("where", "said", "expected"),
    [
        ("/retrieve", NOT_FOUND, NotFoundError),
        ("/retrieve", INVALID_ID, BadRequestError),
        ("/retrieve", json_answer({"error": "No such field"}, status=400), BadRequestError),
        ("/retrieve", FORBIDDEN, PermissionDeniedError),
        ("/retrieve", GONE, LinkExpiredError),
        ("/retrieve", COMPLETED, DownloadError),
        ("/link", NOT_FOUND, NotFoundError),
        ("/link", STORE, PermissionDeniedError),
        ("/link", GONE, LinkExpiredError),
        ("/link", NOTHING, DownloadError),
    ],
)
async def test_a_job_that_stays_absent_is_pending_until_a_person_forgets_it_and_never_paid_for_again(
    tmp_path: Path, where: str, said: Fault, expected: type[VeniceError]
) -> None:
    request = PRIVATE if where == "/link" else PUBLIC
    async with Late(where, said, EVER) as server:
        for _ in range(3):
            async with client(server, journal=tmp_path / "jobs.db") as venice:
                with anyio.fail_after(PATIENCE):
                    outcome = await once(venice, request, tmp_path / "clips")
                error = outcome.error
                assert error is not None
                assert isinstance(error, expected | DownloadError)  # the link is used up, says the next run
                assert error.ticket is not None
                assert (True, server.charges[0].queue_id) == (error.charged, error.ticket.queue_id)
                (entry,) = await venice.pending()
                assert 1 == len(server.charges)
        assert 5 >= server.gets
        async with client(server, journal=tmp_path / "jobs.db") as venice:
            await venice.forget(entry)
            assert [] == await venice.pending()
            await once(venice, request, tmp_path / "clips")
            assert 2 == len(server.charges)


async def test_what_came_twice_as_it_is_leaves_the_other_gets_to_a_person(tmp_path: Path) -> None:
    web = b"\x1aE\xdf\xa3" + bytes(2000)
    async with Venice(polls=0, link=[video_answer(web)] * 2) as server:
        for _ in range(3):
            async with client(server, journal=tmp_path / "jobs.db") as venice:
                outcome = await once(venice, PRIVATE, tmp_path / "clips")
                assert isinstance(outcome.error, NotAVideoError)
                assert "unverified" in str(outcome.error)
                assert (2, 1) == (server.gets, len(server.charges))
                (entry,) = await venice.pending()
        (kept,) = (tmp_path / "clips").iterdir()
        assert web == kept.read_bytes()
        assert "DELETE" not in {request.method for request in server.requests}
        async with client(server, journal=tmp_path / "jobs.db") as venice:
            assert entry.ticket is not None
            await venice.resume(entry.ticket, to=tmp_path / "clip.mp4")
            assert (3, []) == (server.gets, await venice.pending())


async def test_a_job_that_comes_back_after_its_error_is_delivered_by_the_next_run(tmp_path: Path) -> None:
    async with Late("/retrieve", NOT_FOUND, 500) as server:
        outcomes: list[Outcome] = []
        for _ in range(4):
            async with client(server, journal=tmp_path / "jobs.db") as venice:
                outcomes.append(await once(venice, PUBLIC, tmp_path / "clips"))
        assert [NotFoundError] * 2 == [type(outcome.error) for outcome in outcomes[:2]]
        assert outcomes[-1].video is not None
        assert 1 == len(server.charges)


def refunding(body: dict[str, Any], status: int, refunded: bool | None) -> Fault:
    told = {} if refunded is None else {"credits_refunded": refunded}
    return json_answer({**body, **told}, status=status)


@pytest.mark.parametrize("refunded", [True, False, None])
@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({"error": "The content violates the policy"}, 422, ContentPolicyError),
        ({"error": "Inference failed"}, 500, ServerError),
        ({"status": "FAILED", "error": {"message": "out of memory"}}, 200, JobFailedError),
    ],
)
async def test_a_job_that_failed_is_over_says_whether_it_was_refunded_and_gives_its_price_back_if_so(
    tmp_path: Path, body: dict[str, Any], status: int, expected: type[VeniceError], refunded: bool | None
) -> None:
    failed = refunding(body, status, refunded)
    async with (
        Venice(retrieve=[failed] * 2, polls=0) as server,
        client(server, journal=tmp_path / "jobs.db") as venice,
    ):
        batch = venice.batch([PUBLIC], into=tmp_path / "clips", max_usd=1.0)
        (outcome,) = [outcome async for outcome in batch]
        assert outcome.error is not None
        assert expected.__name__ in [kind.__name__ for kind in type(outcome.error).__mro__]
        assert (None if refunded is None else not refunded) is outcome.error.charged
        assert (0.0 if refunded else 0.25) == batch.spent_usd
        assert [] == await venice.pending()
        assert (2 if status == 500 and refunded is None else 1) == len(server.asked("POST /video/retrieve"))


async def test_any_failure_that_says_what_became_of_the_credits_is_one(tmp_path: Path) -> None:
    refused = refunding({"error": "The input is not valid for the provider"}, 400, refunded=True)
    async with (
        Venice(retrieve=[refused], polls=0) as server,
        client(server, journal=tmp_path / "jobs.db") as venice,
    ):
        outcome = await once(venice, PUBLIC, tmp_path / "clips")
        assert isinstance(outcome.error, BadRequestError)
        assert outcome.error.charged is False
        assert [] == await venice.pending()


async def test_an_expired_id_says_how_long_ids_are_known(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        with pytest.raises(BadRequestError, match="24 hours"):
            await venice.resume('{"model": "m", "queue_id": "of-yesterday"}', to=tmp_path / "clip.mp4")


@pytest.mark.parametrize("word", ["COMPLETED", "SUCCEEDED", "Ready", "PROCESSING", None])
async def test_a_status_that_brings_a_link_is_done_whatever_its_word(
    tmp_path: Path, word: str | None
) -> None:
    def done(honest: Answer) -> Answer:
        status = {} if word is None else {"status": word}
        return honest.containing(json.dumps({**status, "url": json.loads(honest.body)["url"]}).encode())

    by_url = {"*": Scenario(seconds=0, delivery="url")}
    async with Venice(retrieve=[remade(done)], scenarios=by_url) as server, client(server) as venice:
        await venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        assert (1, 1) == (len(server.asked("POST /video/retrieve")), server.gets)


async def test_what_somebody_works_on_is_not_forgotten(tmp_path: Path) -> None:
    async with (
        Late("/retrieve", NOT_FOUND, 30) as server,
        client(server, journal=tmp_path / "j.db") as venice,
    ):
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        await job.queued()
        (entry,) = await venice.pending()
        async with client(server, journal=tmp_path / "j.db") as other:
            for each in (venice, other):
                with pytest.raises(UsageError, match="nothing works on"):
                    await each.forget(entry)
        await job


async def test_what_another_living_client_holds_is_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = tmp_path / "jobs.db"
    async with Venice(polls=20) as server, client(server, journal=journal) as venice:
        batch = venice.batch([PUBLIC], into=tmp_path / "clips")
        first = asyncio.ensure_future(anext(aiter(batch)))
        await until(lambda: bool(server.charges))
        async with client(server, journal=journal) as other:
            found = await other.pending()
            assert ([], 1) == (found, found.held)
            assert [] == await other.recover()
            assert "1 unfinished job" in caplog.text
            outcome = await once(other, PUBLIC, tmp_path / "clips")
            assert outcome.earlier
        assert (await first).video == outcome.video
        assert 1 == len(server.charges)
