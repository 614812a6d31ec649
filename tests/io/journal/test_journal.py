"""The life of a job in the journal: what is written, what is erased, who gets it back."""

# disks are filled and statements counted from within:
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from attrs import evolve

from venice_async.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectError,
    ContentPolicyError,
    DownloadError,
    JobFailedError,
    JobTimeoutError,
    JournalError,
    LinkExpiredError,
    NotAVideoError,
    NotFoundError,
    PermissionDeniedError,
    QueueOutcomeUnknownError,
    ServerError,
    UsageError,
    VeniceError,
)
from venice_async.io.journal.entries import JournalEntry
from venice_async.io.journal.journal import Journal
from venice_async.io.journal.sqlite import SqliteDatabase
from venice_async.io.journal.writer import Writer
from venice_async.io.ration.sqlite import LOG_PAGES
from venice_async.media import Media
from venice_async.requests import Consent, Element, VideoRequest
from venice_async.results import ConsentRequest, Ticket
from venice_async.sansio.job.machine import MAX_GETS, resume
from venice_async.sansio.job.states import (
    AwaitingConsent,
    Downloading,
    Failed,
    Queueing,
    Saved,
    State,
    Stopped,
    Succeeded,
    Waiting,
)

from .journals import (
    INTENT,
    LINK,
    MARK,
    REQUEST,
    TICKET,
    VIDEO,
    WAITING,
    StoppedClock,
    both,
    bytes_on_disk,
    download,
    ids,
    job,
    opened,
    ticket,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio

DAY = 24 * 3600.0


@pytest.fixture
async def journal(path: Path | str) -> AsyncGenerator[Journal]:
    async with opened(path) as journal:
        yield journal


@both
async def test_an_intent_is_pending_without_a_ticket(journal: Journal) -> None:
    entry = await journal.begin(job(INTENT, request=REQUEST, to="clip.mp4", overwrite=True, key="k", usd=0.5))
    expected = JournalEntry(
        id=entry.id,
        state=INTENT,
        request=REQUEST,
        to=Path.cwd() / "clip.mp4",
        overwrite=True,
        key="k",
        usd=0.5,
        created=1_700_000_000.0,
        account="a",
    )
    assert expected == entry
    assert [expected] == await journal.pending()
    assert expected.ticket is None


@both
async def test_a_ticket_survives_a_restart_with_all_that_was_asked_for(path: Path | str) -> None:
    async with opened(path) as journal:
        entry_id = (await journal.begin(job(INTENT, request=REQUEST, to=Path("/clips/clip.mp4")))).id
        await journal.record(entry_id, WAITING)
    async with opened(path) as journal:
        (entry,) = await journal.pending()
    assert (WAITING, TICKET) == (entry.state, entry.ticket)
    assert (REQUEST, Path("/clips/clip.mp4")) == (entry.request, entry.to)
    assert entry.ticket is not None
    assert LINK == entry.ticket.download_url


@both
async def test_a_request_comes_back_as_it_was_and_large_media_by_its_digest(journal: Journal) -> None:
    request = VideoRequest(
        model="m",
        prompt="\ud800 half a pair, a 0 \0, and é",
        elements=[Element(frontal_image_url=Media(b"\x89PNG\r\n\x1a\n" * 100_000))],
        consents=Consent(terms_and_privacy=True, legal_right=True, screening=True),
        extra={"new": [1, {"deep": None}]},
    )
    await journal.begin(job(Queueing(request=request), request=request))
    (entry,) = await journal.pending()
    assert request == entry.request


@both
async def test_a_path_that_is_no_text_comes_back_whole(journal: Journal) -> None:
    odd = Path("/clips/\udcff\udcfe?#%.mp4")
    await journal.begin(job(INTENT, to=odd))
    assert [odd] == [entry.to for entry in await journal.pending()]


@both
async def test_an_intent_that_is_withdrawn_is_gone(journal: Journal) -> None:
    await journal.withdraw((await journal.begin(job(INTENT, key="k"))).id)
    assert [] == await journal.pending()
    assert None is await journal.find("k")


@both
async def test_a_job_with_a_ticket_cannot_be_withdrawn(journal: Journal) -> None:
    entry_id = (await journal.begin(job(INTENT))).id
    await journal.record(entry_id, WAITING)
    await journal.withdraw(entry_id)
    assert [entry_id] == await ids(journal)


@both
async def test_gets_of_a_link_are_remembered(path: Path | str) -> None:
    async with opened(path) as journal:
        entry_id = (await journal.begin(job(INTENT))).id
        for gets in (1, 2, 3):
            await journal.record(entry_id, download(gets))
    async with opened(path) as journal:
        assert [download(3)] == [entry.state for entry in await journal.adopt()]


@both
async def test_a_get_that_was_not_made_is_not_counted(journal: Journal) -> None:
    entry_id = (await journal.begin(job(WAITING))).id
    for error in (ConnectError("nobody there"), DownloadError("inside", unsent=True)):
        await journal.record(entry_id, download(3))
        await journal.record(entry_id, failed(error))
        assert [download(2)] == [entry.state for entry in await journal.pending()]
        assert download(2) == (await journal.begin(job(WAITING))).state
    await journal.record(entry_id, download(3))
    await journal.record(entry_id, failed(DownloadError("within a redirect")))
    assert [download(3)] == [entry.state for entry in await journal.pending()][:1]


async def test_success_erases_the_link_from_every_file(journal: Journal, path: Path | str) -> None:
    entry_id = (await journal.begin(job(INTENT, request=REQUEST, key="k"))).id
    for state in (WAITING, download(1), Saved(video=VIDEO)):
        await journal.record(entry_id, state)
        assert MARK in bytes_on_disk(path)
    await journal.record(entry_id, Succeeded(video=VIDEO))
    assert MARK not in bytes_on_disk(path)
    assert [] == await journal.pending()
    assert REQUEST == (await journal.entry(entry_id)).request


async def test_success_among_many_jobs_erases_each_link(journal: Journal, path: Path | str) -> None:
    links = [f"https://files.example/{number:04}?signature=mark{number:04}" for number in range(60)]
    tickets = [Ticket(model="m", queue_id=f"q{n}", download_url=link) for n, link in enumerate(links)]
    requests = [VideoRequest(model="m", prompt="p" * (number * 97 % 1500 + 1)) for number in range(60)]
    found = [
        (await journal.begin(job(Queueing(request=request), request=request))).id for request in requests
    ]
    for entry_id, owned in zip(found, tickets, strict=True):
        await journal.record(entry_id, Waiting(ticket=owned))
        await journal.record(entry_id, download(1, owned))
    for number in range(0, 60, 7):
        video = Succeeded(video=VIDEO.__class__(path=None, size=1, sha256="a", ticket=tickets[number]))
        await journal.record(found[number], video)
        assert f"mark{number:04}".encode() not in bytes_on_disk(path)
    assert b"mark0001" in bytes_on_disk(path)


@both
async def test_a_saved_clip_is_unfinished_until_the_server_is_cleaned_up(path: Path | str) -> None:
    async with opened(path) as journal:
        await journal.record((await journal.begin(job(WAITING))).id, Saved(video=VIDEO))
    async with opened(path) as journal:
        assert [Saved(video=VIDEO)] == [entry.state for entry in await journal.adopt()]


def failed(error: VeniceError, of: Ticket = TICKET, *, for_good: bool = False) -> Failed:
    return Failed(error=error.with_ticket(of), ticket=of, job_failed=for_good)


@pytest.mark.parametrize("stored", [WAITING, download(2), download(MAX_GETS)])
@both
async def test_only_the_servers_word_that_the_job_failed_ends_it(journal: Journal, stored: State) -> None:
    errors = [
        JobTimeoutError("late"),
        DownloadError("cut"),
        BadRequestError("Request ID is invalid", status=400),
        AuthenticationError("key", status=401),
        PermissionDeniedError("edge", status=403),
        NotFoundError("gone", status=404),
        LinkExpiredError("gone", status=410),
        ServerError("once", status=500),
    ]
    entry_id = (await journal.begin(job(INTENT, request=REQUEST, key="k"))).id
    await journal.record(entry_id, stored)
    for error in errors:
        await journal.record(entry_id, failed(error))
        (entry,) = await journal.adopt()
        assert (entry_id, stored, REQUEST) == (entry.id, entry.state, entry.request)
        assert entry == await journal.find("k")


@pytest.mark.parametrize("stored", [WAITING, download(2)])
@both
async def test_what_came_twice_as_it_is_is_known_to_the_next_run_and_may_be_fetched_by_a_person(
    journal: Journal, stored: State
) -> None:
    entry_id = (await journal.begin(job(INTENT))).id
    await journal.record(entry_id, stored)
    await journal.record(entry_id, failed(NotAVideoError("It has no index: a.unverified", final=True)))
    (entry,) = await journal.adopt()
    state, command = resume(entry.state)
    assert isinstance(state, Failed)
    assert command is None
    assert "a.unverified" in str(state.error)
    await journal.release(entry_id)
    begun = await journal.begin(job(WAITING))
    assert (entry_id, stored) == (begun.id, begun.state)
    assert resume(begun.state)[1] is not None


@pytest.mark.parametrize(
    "error", [JobFailedError("no"), ContentPolicyError("no"), ServerError("twice", status=500)]
)
@both
async def test_a_job_that_failed_is_ended_and_its_link_erased(
    journal: Journal, path: Path | str, error: VeniceError
) -> None:
    entry_id = (await journal.begin(job(WAITING, request=REQUEST))).id
    await journal.record(entry_id, failed(error, for_good=True))
    assert [] == await journal.pending()
    assert MARK not in bytes_on_disk(path)
    ended = (await journal.entry(entry_id)).state
    assert isinstance(ended, Failed)
    assert type(error) is type(ended.error)


@both
async def test_an_unknown_outcome_that_was_reported_is_still_pending(journal: Journal) -> None:
    entry_id = (await journal.begin(job(INTENT))).id
    await journal.record(entry_id, Failed(error=QueueOutcomeUnknownError("cut")))
    assert [INTENT] == [entry.state for entry in await journal.pending()]


@both
async def test_what_a_person_forgets_is_struck_off_with_its_gets_and_its_price_still_counted(
    journal: Journal, path: Path | str
) -> None:
    entry_id = (await journal.begin(job(WAITING, request=REQUEST, key="k", usd=0.5))).id
    await journal.record(entry_id, download(4))
    assert not await journal.forget(entry_id)  # we watch it
    await journal.release(entry_id)
    assert await journal.forget(entry_id)
    assert not await journal.forget(entry_id)
    assert [] == await journal.pending()
    assert (None, 0.5) == (await journal.find("k"), await journal.spent("k"))
    assert MARK not in bytes_on_disk(path)
    assert download(4) == (await journal.begin(job(WAITING))).state


OLD_ERRORS = {
    "BadRequestError": True,
    "NotFoundError": True,
    "LinkExpiredError": True,
    "PayloadTooLargeError": True,
    "DownloadError": True,  # with the last GET of a link
    "ContentPolicyError": False,
    "JobFailedError": False,
}


@pytest.mark.parametrize("kind", list(OLD_ERRORS))
@pytest.mark.parametrize("key", ["k", None])
async def test_a_job_that_an_older_version_struck_off_for_a_moments_absence_is_pending_again(
    path: Path | str, kind: str, key: str | None
) -> None:
    clock = StoppedClock()
    async with opened(path, clock) as journal:
        entry_id = (await journal.begin(job(WAITING, key=key))).id
        await journal.record(entry_id, failed(JobFailedError("no"), for_good=True))
        old = {
            "state": "Failed",
            "error": {"kind": kind, "facts": {"message": "no", "status": 400}},
            "ticket": {"model": TICKET.model, "queue_id": TICKET.queue_id},
        }
        await _sql(journal, f"UPDATE jobs SET state = '{json.dumps(old)}'")  # noqa: S608 - a constant
    clock.now += 2 * DAY
    async with opened(path, clock) as journal:
        expected = [Ticket(model=TICKET.model, queue_id=TICKET.queue_id)]
        assert expected * (OLD_ERRORS[kind] and key is not None) == [
            entry.ticket for entry in await journal.pending()
        ]
    clock.now -= 1.5 * DAY
    async with opened(path, clock) as journal:
        assert expected * OLD_ERRORS[kind] == [entry.ticket for entry in await journal.pending()]


@both
async def test_a_failure_that_brings_the_ticket_keeps_it(journal: Journal) -> None:
    entry_id = (await journal.begin(job(INTENT))).id
    await journal.record(entry_id, Failed(error=JobTimeoutError("late").with_ticket(TICKET), ticket=TICKET))
    assert [WAITING] == [entry.state for entry in await journal.adopt()]


@both
async def test_a_job_that_stops_stays_for_whoever_adopts_it(journal: Journal) -> None:
    entry_id = (await journal.begin(job(INTENT))).id
    await journal.record(entry_id, download(1))
    assert [] == await journal.adopt()
    await journal.record(entry_id, Stopped(ticket=TICKET))
    assert [download(1)] == [entry.state for entry in await journal.adopt()]


@both
async def test_a_job_that_waits_for_a_person_owes_nothing(path: Path | str) -> None:
    question = ConsentRequest(flow="f", policy_text="t", consent_version="1", request=REQUEST)
    asking = AwaitingConsent(request=REQUEST, consent_request=question, asked=("f/1",))
    async with opened(path) as journal:
        entry_id = (await journal.begin(job(INTENT))).id
        await journal.record(entry_id, asking)
        assert [] == await journal.pending()
        await journal.record(entry_id, INTENT)
        assert [entry_id] == await ids(journal)
        await journal.record(entry_id, asking)
    async with opened(path) as journal:
        with pytest.raises(JournalError, match="no entry"):
            await journal.entry(entry_id)


@both
async def test_a_late_state_does_not_change_a_job_that_has_ended(journal: Journal) -> None:
    entry_id = (await journal.begin(job(WAITING, key="k"))).id
    await journal.record(entry_id, Succeeded(video=VIDEO))
    await journal.record(entry_id, download(1))
    await journal.record(entry_id, failed(JobFailedError("no"), for_good=True))
    entry = await journal.find("k")
    assert entry is not None
    assert isinstance(entry.state, Succeeded)


@both
async def test_a_state_of_no_job_is_an_error_that_carries_the_ticket(journal: Journal) -> None:
    with pytest.raises(JournalError, match="no entry") as caught:
        await journal.record("nobody", WAITING)
    assert TICKET == caught.value.ticket


@both
async def test_adopting_gives_each_job_once_and_one_by_id(journal: Journal) -> None:
    found = [(await journal.begin(job(Waiting(ticket=ticket(number))))).id for number in range(3)]
    assert [] == await journal.adopt()
    for entry_id in found:
        await journal.release(entry_id)
    assert [found[1]] == [entry.id for entry in await journal.adopt(found[1])]
    assert [] == await journal.adopt(found[1])
    assert [found[0], found[2]] == [entry.id for entry in await journal.adopt()]
    assert found == await ids(journal)


@both
async def test_resuming_a_known_ticket_takes_over_its_entry(journal: Journal) -> None:
    known = (await journal.begin(job(INTENT, request=REQUEST, to="/old.mp4", key="k", usd=0.5))).id
    await journal.record(known, download(3))
    await journal.release(known)
    by_hand = Ticket(model=TICKET.model, queue_id=TICKET.queue_id)
    entry = await journal.begin(job(Waiting(ticket=by_hand), to="/new.mp4"))
    assert [known] == await ids(journal)
    assert (known, download(3), REQUEST) == (entry.id, entry.state, entry.request)
    assert (Path("/new.mp4"), "k", 0.5) == (entry.to, entry.key, entry.usd)


@both
async def test_a_ticket_that_is_watched_is_entered_again_and_ends_with_the_other(
    journal: Journal, path: Path | str
) -> None:
    first = (await journal.begin(job(WAITING, key="first"))).id
    second = (await journal.begin(job(WAITING, key="second"))).id
    assert [first, second] == await ids(journal)
    await journal.record(second, Succeeded(video=VIDEO))
    assert [] == await journal.pending()
    assert MARK not in bytes_on_disk(path)
    entries = [await journal.find(key) for key in ("first", "second")]
    assert [True, True] == [entry is not None and isinstance(entry.state, Succeeded) for entry in entries]


@both
async def test_gets_stay_counted_after_the_job_has_ended(journal: Journal) -> None:
    entry_id = (await journal.begin(job(WAITING))).id
    await journal.record(entry_id, download(MAX_GETS))
    await journal.record(entry_id, failed(JobFailedError("no"), for_good=True))
    assert download(MAX_GETS) == (await journal.begin(job(WAITING))).state


@both
async def test_jobs_of_other_models_with_the_same_queue_id_are_other_jobs(journal: Journal) -> None:
    await journal.begin(job(Waiting(ticket=Ticket(model="a", queue_id="q"))))
    await journal.begin(job(Waiting(ticket=Ticket(model="b", queue_id="q"))))
    assert ["a", "b"] == [entry.ticket.model for entry in await journal.pending() if entry.ticket]


@both
async def test_a_ticket_that_is_no_text_is_kept(journal: Journal) -> None:
    odd = Ticket(model="m\ud800\0", queue_id="\ud800\0'; --", download_url="https://a.example/\ud800\0")
    await journal.begin(job(Waiting(ticket=odd)))
    assert [odd] == [entry.ticket for entry in await journal.pending()]


@both
async def test_a_key_finds_the_clip_rather_than_a_job_and_a_job_rather_than_nothing(journal: Journal) -> None:
    assert None is await journal.find("k")
    gone = (await journal.begin(job(Waiting(ticket=ticket(1)), key="k"))).id
    await journal.record(gone, failed(JobFailedError("no"), ticket(1), for_good=True))
    assert None is await journal.find("k")
    done = (await journal.begin(job(WAITING, key="k"))).id
    running = (await journal.begin(job(Waiting(ticket=ticket(2)), key="k"))).id
    assert running == getattr(await journal.find("k"), "id", None)
    await journal.record(done, Succeeded(video=VIDEO))
    found = await journal.find("k")
    assert found is not None
    assert (done, None) == (found.id, found.request)
    assert isinstance(found.state, Succeeded)
    assert (VIDEO.path, VIDEO.size, VIDEO.sha256) == (
        found.state.video.path,
        found.state.video.size,
        found.state.video.sha256,
    )


@both
async def test_what_those_who_follow_a_job_are_told_holds_no_link(path: Path | str) -> None:
    bare = evolve(TICKET, download_url=None)
    async with opened(path) as journal, opened(path) as follower:
        entry = await journal.begin(job(Waiting(ticket=bare), key="k"))
        assert "works" == getattr(await follower.attach("k", None), "how", None)
        await journal.report({entry.id: Downloading(ticket=bare, via="link", received=5, link=LINK, gets=1)})
        assert MARK not in bytes_on_disk(path)
        (seen,) = (await follower.look([entry.id])).values()
    assert (5, None) == (getattr(seen, "received", None), getattr(seen, "link", None))


@both
async def test_money_is_added_up_exactly_by_prefix(journal: Journal) -> None:
    for number in range(3):
        await journal.begin(job(Waiting(ticket=ticket(number)), key=f"a%/{number}", usd=0.1))
    assert 0.3 == await journal.spent("a%/")
    await journal.begin(job(INTENT, key="a%/intent", usd=1.0))
    await journal.withdraw((await journal.begin(job(INTENT, key="a%/refused", usd=8.0))).id)
    await journal.begin(job(INTENT, key="ab/other", usd=16.0))
    refunded = (await journal.begin(job(Waiting(ticket=ticket(9)), key="a%/refunded", usd=32.0))).id
    error = ContentPolicyError("no", charged=False)
    await journal.record(refunded, failed(error, ticket(9), for_good=True))
    assert 1.3 == await journal.spent("a%/")


@both
async def test_history_without_a_key_goes_after_400_days(path: Path | str) -> None:
    clock = StoppedClock()
    async with opened(path, clock) as journal:
        keys = (None, "k", None)
        found = [(await journal.begin(job(Waiting(ticket=ticket(n)), key=k))).id for n, k in enumerate(keys)]
        for number, entry_id in enumerate(found[:2]):
            video = VIDEO.__class__(path=None, size=1, sha256="a", ticket=ticket(number))
            await journal.record(entry_id, Succeeded(video=video))
    clock.now += 401 * DAY
    async with opened(path, clock) as journal:
        with pytest.raises(JournalError, match="no entry"):
            await journal.entry(found[0])
        assert found[1] == (await journal.entry(found[1])).id
        assert [found[2]] == await ids(journal)


@both
async def test_a_cancelled_record_is_written_all_the_same(journal: Journal) -> None:
    entry_id = (await journal.begin(job(INTENT))).id
    task = asyncio.create_task(journal.record(entry_id, WAITING))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [WAITING] == [entry.state for entry in await journal.pending()]


@both
async def test_a_record_within_a_cancelled_scope_is_written_and_then_the_scope_ends(journal: Journal) -> None:
    entry_id = (await journal.begin(job(INTENT))).id
    with anyio.CancelScope() as scope:
        scope.cancel()
        await journal.record(entry_id, WAITING)
        pytest.fail("the cancellation was swallowed")
    assert [WAITING] == [entry.state for entry in await journal.pending()]


@pytest.mark.parametrize("times", [1, 3])
@both
async def test_a_cancelled_begin_leaves_no_intent_and_no_job_unwatched(journal: Journal, times: int) -> None:
    for state in (INTENT, WAITING):
        task = asyncio.create_task(journal.begin(job(state)))
        for _ in range(times):
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [WAITING] == [entry.state for entry in await journal.adopt()]


async def test_a_begin_within_a_cancelled_scope_writes_nothing(journal: Journal) -> None:
    statements: list[str] = []
    await _sql(journal, trace=statements)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await journal.begin(job(INTENT))
    assert [] == statements


@both
async def test_closing_finishes_what_was_begun(path: Path | str) -> None:
    async with opened(path) as journal:
        entry_id = (await journal.begin(job(INTENT))).id
        late = asyncio.create_task(journal.record(entry_id, WAITING))
        await asyncio.sleep(0)
    await late
    async with opened(path) as journal:
        assert [WAITING] == [entry.state for entry in await journal.pending()]


@both
async def test_a_closed_journal_says_so_and_may_be_closed_again(path: Path | str) -> None:
    async with opened(path) as journal:
        pass
    await journal.aclose()
    with pytest.raises(UsageError, match="closed"):
        await journal.pending()


async def test_what_is_written_at_once_is_written_together_and_fails_alone(journal: Journal) -> None:
    found = [(await journal.begin(job(INTENT))).id for _ in range(20)]
    failures: list[VeniceError] = []

    async def record(number: int, entry_id: str) -> None:
        try:
            await journal.record(entry_id, Waiting(ticket=ticket(number)))
        except JournalError as error:
            failures.append(error)

    async with anyio.create_task_group() as group:
        for number, entry_id in enumerate([*found, "nobody"]):
            group.start_soon(record, number, entry_id)
    assert [ticket(number) for number in range(20)] == [entry.ticket for entry in await journal.pending()]
    assert [ticket(20)] == [failure.ticket for failure in failures]


async def test_many_writes_take_few_transactions(journal: Journal) -> None:
    statements: list[str] = []
    entry_id = (await journal.begin(job(INTENT))).id
    await _sql(journal, trace=statements)
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(journal.record, entry_id, WAITING)
    assert statements.count("COMMIT") < 10


async def test_the_link_is_in_no_repr_log_or_traceback(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    entry_id = (await journal.begin(job(WAITING))).id
    shown = [repr(await journal.pending())]
    await journal.release(entry_id)
    for damage in ("state || '['", "CAST(CAST(state AS BLOB) || X'FF' AS TEXT)"):
        await _sql(journal, f"UPDATE jobs SET state = {damage}")  # noqa: S608 - constants
        for action in (journal.pending, journal.adopt, lambda: journal.record(entry_id, WAITING)):
            with pytest.raises(JournalError, match="damaged") as caught:
                await action()
            lines = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
            shown.append("".join(lines))
    assert [] == [text for text in (*shown, caplog.text) if MARK.decode() in text]


async def test_a_full_disk_is_an_error_that_says_so_and_nothing_is_half_written(journal: Journal) -> None:
    entry_id = (await journal.begin(job(INTENT))).id
    await _sql(journal, "PRAGMA max_page_count = 1")
    request = VideoRequest(model="m", prompt="p" * 19_000)
    with pytest.raises(JournalError, match=r"the disk is full.*Nothing was charged.*Make room"):
        await journal.begin(job(Queueing(request=request), request=request))
    await _sql(journal, "PRAGMA max_page_count = 100000")
    assert [entry_id] == await ids(journal)


async def test_the_error_of_an_order_paid_for_before_whose_journal_can_only_be_read_has_its_ticket(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = SqliteDatabase.execute

    def full(database: SqliteDatabase, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return execute(database, sql, *parameters)

    entry_id = (await journal.begin(job(WAITING, key="order"))).id
    await journal.release(entry_id)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteDatabase, "execute", full)
        with pytest.raises(JournalError, match=r"the disk is full.*has been paid for") as caught:
            await journal.attach("order", None)
    assert TICKET == caught.value.ticket


async def test_all_that_is_asked_of_a_locked_file_at_the_same_time_waits_for_it_together(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = list[bool]()

    def locked(_: SqliteDatabase, *, patient: bool) -> None:
        tries.append(patient)
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    async def record() -> None:
        with pytest.raises(JournalError, match="locked"):
            await journal.record(entry_id, WAITING)

    entry_id = (await journal.begin(job(INTENT))).id
    with monkeypatch.context() as patch:
        patch.setattr(SqliteDatabase, "begin", locked)
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(record)
    assert len(tries) < 5
    assert [WAITING] == [entry.state for entry in await journal.pending()]


async def test_the_log_takes_little_of_the_disk_however_much_is_written_and_nothing_of_a_full_one(
    journal: Journal,
) -> None:
    log = Path(f"{journal.writer.database.name}-wal")
    for number in range(60):
        await journal.begin(job(Queueing(request=VideoRequest(model="m", prompt=f"{number}" * 5_000))))
    assert 0 < log.stat().st_size < 2 * LOG_PAGES * 4_096
    await _sql(journal, "PRAGMA max_page_count = 1")
    with pytest.raises(JournalError, match="the disk is full"):
        await journal.begin(job(Queueing(request=VideoRequest(model="m", prompt="p" * 19_000))))
    assert 0 == log.stat().st_size


async def test_a_read_only_file_is_an_error_that_says_so_and_carries_the_ticket_which_is_written_later(
    journal: Journal,
) -> None:
    entry_id = (await journal.begin(job(INTENT))).id
    await _sql(journal, "PRAGMA query_only = ON")
    with pytest.raises(JournalError, match=r"read-only.*has been paid for.*123e4567") as caught:
        await journal.record(entry_id, WAITING)
    assert TICKET == caught.value.ticket
    journal.writer.beat()  # as each second
    await _sql(journal, "PRAGMA query_only = OFF")
    journal.writer.beat()
    statements: list[str] = []
    await _sql(journal, trace=statements)  # after what the beat asked for
    assert [WAITING] == [entry.state for entry in await journal.pending()]
    assert not [sql for sql in statements if sql.startswith("UPDATE")]


async def _sql(journal: Journal, *statements: str, trace: list[str] | None = None) -> None:
    """Do something to the journal's own connection, in its thread."""

    def act() -> None:
        database = journal.writer.database
        assert isinstance(database, SqliteDatabase)
        connection = database._connection
        assert connection is not None
        if trace is not None:
            connection.set_trace_callback(trace.append)
        for statement in statements:
            connection.execute(statement)

    assert isinstance(journal.writer, Writer)
    await journal.writer._in_thread(act)
