"""What the journal tells of what ended and what it cost, and the budget of a day and a month."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cases import for_each
from venice_async import (
    Budget,
    BudgetExceededError,
    Media,
    QueueOutcomeUnknownError,
    Ticket,
    UsageError,
    VeniceClient,
    VeniceError,
    VideoRequest,
)
from venice_async.io.journal.entries import pack_ended
from venice_async.io.journal.history import Paid, grouped, moment
from venice_async.notebook import Listing
from venice_async.sandbox import Fault, Sandbox, Scenario, tiny_clip
from venice_async.sansio.converter import converter

pytestmark = pytest.mark.anyio

MODEL, PRIVATE = "wan-2-7-text-to-video", "grok-imagine-text-to-video-private"
CLIP = tiny_clip(2_000)
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()


@pytest.fixture(params=["file", "postgres"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A journal of each kind."""
    return request.getfixturevalue("postgres") if request.param == "postgres" else tmp_path / "jobs.db"


def request(prompt: str = "a fox", model: str = MODEL, **fields: Any) -> VideoRequest:
    return VideoRequest(model=model, prompt=prompt, duration="5s", **fields)


def venice(sandbox: Sandbox, folder: Path, **options: Any) -> VeniceClient:
    journal: dict[str, Any] = {"journal": folder / "jobs.db", **options}
    return VeniceClient(sandbox.api_key, base_url=sandbox.base_url, **journal)


def quiet(**options: Any) -> Sandbox:
    return Sandbox(clips=CLIP, **options)


async def test_history_has_what_ended_with_prompt_price_and_times_but_no_link(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "venice_async")
    signed = "https://pictures.example/a.png?signature=SECRET"
    async with quiet() as sandbox, venice(sandbox, tmp_path) as client:
        await client.generate(
            request(), to=tmp_path / "a.mp4", key="order-1", tags={"film": "dawn"}, max_usd=9
        )
        await client.generate(request("an owl", PRIVATE), to=tmp_path / "b.mp4")
        bad = request("no", "grok-imagine-image-to-video-private", image_url=signed)
        job = client.generate(bad, to=tmp_path / "c.mp4")
        await job
        newest, owl, fox = shown = await client.history()
        assert isinstance(shown, Listing)
        assert f"on {MODEL} (key='order-1', tags={{'film': 'dawn'}})" in caplog.text
        assert ["a fox", "an owl", "no"] == [one.request and one.request.prompt for one in (fox, owl, newest)]
        assert (0.75, MODEL, "order-1", "film", tmp_path / "a.mp4") == (
            fox.usd,
            fox.model,
            fox.key,
            *fox.tags,
            fox.to,
        )
        assert fox.ended is not None
        assert fox.ended > fox.created > 0
        assert "https://pictures.example/a.png" == (newest.request and newest.request.image_url)
        assert owl.ticket is not None
        assert owl.ticket.download_url is None
        cases: list[tuple[dict[str, Any], list[Any]]] = [
            ({"key": "order-1"}, [fox]),
            ({"tag": "film=dawn"}, [fox]),
            ({"tag": "film"}, [fox]),
            ({"tag": "film=dusk"}, []),
            ({"model": PRIVATE}, [owl]),
            ({"limit": 2}, [newest, owl]),
            ({"state": "succeeded", "since": "1h"}, [newest, owl, fox]),
            ({"state": "unfinished"}, []),
            ({"since": datetime.now(UTC) + timedelta(days=9999)}, []),
        ]
        for wanted, found in cases:
            assert found == await client.history(**wanted), wanted
        assert {MODEL: 0.75} == await client.spend()
        assert {"dawn": 0.75} == await client.spend(by="tag:film", since=timedelta(days=1))
    content = b"".join(path.read_bytes() for path in tmp_path.glob("jobs.db*"))
    assert b"SECRET" not in content


@for_each(
    "media, kept",
    [
        ("https://a.example/b.png?signature=SECRET", "https://a.example/b.png"),
        ("https://me:SECRET@a.example:8443/b.png#SECRET", "https://a.example:8443/b.png"),
        ("data:image/png;base64,SECRET", "data:image/png;base64,..."),
        (Media(b"SECRET"), Media(b"SECRET")),
    ],
)
def test_of_what_ended_a_request_is_kept_without_the_secrets_of_its_media(media: Any, kept: Any) -> None:
    """And a prompt as it is, whatever it begins with."""
    text = pack_ended(converter().unstructure(request("data: a, b? c", image_url=media)))
    assert text is not None
    assert "SECRET" not in text
    assert request("data: a, b? c", image_url=kept) == converter().structure(json.loads(text), VideoRequest)


def test_spend_is_counted_by_model_day_folder_and_tag() -> None:
    paid = [
        Paid(usd=0.1, at=NOON, model="a", tags={"film": "dawn", "take": "1"}, to="/clips/one/1.mp4"),
        Paid(usd=0.2, at=NOON + 11 * 3600, model="b", tags={"film": "dusk"}, to="s3://bucket/one/2.mp4"),
        Paid(usd=0.7, at=NOON + 13 * 3600, model="b"),
    ]
    folders = {"/clips/v1.5": "/clips/v1.5", "/clips/{n}": "/clips", "s3://b/c/": "s3://b/c", "/a.mp4": "/"}
    assert folders == {to: Paid(usd=0, at=0, to=to).shares("folder")[0] for to in folders}
    assert {"b": 0.9, "a": 0.1} == grouped(paid, "model")
    assert [("2026-11-25", 0.3), ("2026-11-26", 0.7)] == list(grouped(paid, "day").items())
    assert {"": 0.7, "s3://bucket/one": 0.2, "/clips/one": 0.1} == grouped(paid, "folder")
    assert {"": 0.7, "film=dusk": 0.2, "film=dawn": 0.1, "take=1": 0.1} == grouped(paid, "tag")
    assert {"": 0.7, "dusk": 0.2, "dawn": 0.1} == grouped(paid, "tag:film")
    with pytest.raises(UsageError, match="not by 'week'"):
        grouped([], "week")


@for_each(
    "since, seconds",
    [("7d", NOON - 7 * 86400), ("90m", NOON - 5400), ("2026-11-25", NOON - 43200), (None, 0.0)],
)
def test_a_span_or_a_date_is_a_moment(since: str | None, seconds: float) -> None:
    assert seconds == moment(since, NOON)


@for_each("since", ["soon", "7", datetime(2026, 11, 25), 7])  # noqa: DTZ001 - what is refused
def test_what_is_no_moment_is_refused(since: Any) -> None:
    with pytest.raises(UsageError, match=r"'7d'.*which is UTC"):
        moment(since, NOON)


async def test_a_budget_holds_over_all_clients_of_a_journal(tmp_path: Path, journal: Any) -> None:
    """However many ask at once: what is over it is refused before it goes, and says how much is left."""
    async with quiet() as sandbox, venice(sandbox, tmp_path, journal=journal, budget=2.0) as one:
        async with venice(sandbox, tmp_path, journal=journal, budget=Budget(daily=2.0)) as other:
            jobs = [
                client.generate(request(f"shot {number}"), to=tmp_path / f"{number}.mp4")
                for number, client in enumerate([one, other] * 4)
            ]
            failures = [job.exception() for job in jobs if await _ended(job)]
            refused = [error for error in failures if error is not None]
        assert (2, 6, {BudgetExceededError}) == (len(sandbox.charges), len(refused), set(map(type, refused)))
        assert "The quote is $0.75, and $0.50 of the daily $2.00 are left" in str(refused[0])
        assert "VENICE_DAILY_USD" in str(refused[0].hint)  # type: ignore[attr-defined]
        assert {MODEL: 1.5} == await one.spend()


async def test_a_batch_stays_within_the_budget_too(tmp_path: Path) -> None:
    async with quiet() as sandbox, venice(sandbox, tmp_path, budget=Budget(monthly=1.6)) as client:
        outcomes = [outcome async for outcome in client.batch(map(request, "abcd"), into=tmp_path / "clips")]
    assert 2 == len(sandbox.charges)
    assert 2 == sum(isinstance(outcome.error, BudgetExceededError) for outcome in outcomes)


async def test_an_unknown_outcome_counts_and_a_refunded_job_does_not(tmp_path: Path) -> None:
    refused = Scenario(outcome="content_policy", seconds=1)
    lost = [Fault(on="queue", model=PRIVATE, drop="after")]
    sandbox = quiet(scenarios={MODEL: refused}, faults=lost)
    async with sandbox, venice(sandbox, tmp_path, budget=10) as client:
        with pytest.raises(VeniceError):
            await client.generate(request(), to=tmp_path / "a.mp4")
        assert {} == await client.spend()
        with pytest.raises(QueueOutcomeUnknownError):
            await client.generate(request("b", PRIVATE), to=tmp_path / "b.mp4")
        assert [PRIVATE] == list(await client.spend())


async def test_the_environment_sets_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENICE_DAILY_USD", "0.5")
    async with quiet() as sandbox, venice(sandbox, tmp_path) as client:
        with pytest.raises(BudgetExceededError, match=r"\$0.50 of the daily \$0.50"):
            await client.generate(request(), to=tmp_path / "a.mp4")
        assert [] == sandbox.charges
    async with quiet() as sandbox, venice(sandbox, tmp_path, journal=None) as client:
        with pytest.raises(UsageError, match="needs a journal"):
            client.generate(request(), to=tmp_path / "a.mp4")
        with pytest.raises(UsageError, match="needs a journal"):
            client.batch([request()], into=tmp_path)
        assert 0.75 == (await client.quote(request())).usd  # what costs nothing goes on
    monkeypatch.setenv("VENICE_DAILY_USD", "five")
    with pytest.raises(UsageError, match="must be numbers"):
        VeniceClient("key")


def test_a_budget_without_a_journal_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="needs a journal"):
        VeniceClient("key", budget=5)
    with pytest.raises(UsageError, match="at least 0"):
        Budget(daily=-1)


async def test_resuming_costs_nothing_and_passes_any_budget(tmp_path: Path) -> None:
    async with quiet() as sandbox:
        async with venice(sandbox, tmp_path, journal=None) as client:
            job = client.generate(request(), to=tmp_path / "a.mp4")
            ticket = await job.queued()
            job.cancel()
        async with venice(sandbox, tmp_path, budget=0) as client:
            video = await client.resume(Ticket(model=MODEL, queue_id=ticket.queue_id), to=tmp_path / "b.mp4")
    assert CLIP == (video.path or Path()).read_bytes()


async def _ended(job: Any) -> bool:
    await job.ended()
    return True
