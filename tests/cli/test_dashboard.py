"""The dashboard: what a person sees of a journal that others work on, and who may see it."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from tests.browser import tab
from venice_async import Consent, JobFailedError, Ticket, Video, VideoRequest
from venice_async.cli.dashboard.feed import Feed
from venice_async.cli.dashboard.server import serving
from venice_async.io.clock import SystemClock
from venice_async.io.journal.entries import JournalEntry
from venice_async.io.journal.journal import Journal
from venice_async.sandbox.clips.render import render_clip
from venice_async.sansio.http.secrets import Secret
from venice_async.sansio.job.states import Failed, Queueing, Succeeded, Waiting

from .shell import Shell, beside

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

LINK = "https://cdn.example/clip.mp4?sig=SECRETLINK"
REQUEST = VideoRequest(model="model", prompt="a fox", duration="5s")


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("venice_async.cli.dashboard.feed.PAUSE", 0.02)


class Asked:
    """Questions of consent that wait for a person."""

    def __init__(self) -> None:
        names = ("terms_and_privacy", "legal_right", "screening")
        question = {"key": "order-7", "prompt": "a dance", "policy": "Be good", "docs": None}
        self.waiting: list[dict[str, Any]] = [{**question, "statements": [[name, name] for name in names]}]
        self.answers: list[tuple[str, Consent | None]] = []

    async def facts(self, _: list[dict[str, Any]]) -> dict[str, Any]:
        return {"questions": self.waiting}

    async def answer(self, key: str, consent: Consent | None) -> bool:
        self.answers.append((key, consent))
        known, self.waiting = bool(self.waiting), []
        return known


class Stage:
    """A journal that a process works on, and its dashboard."""

    def __init__(self, journal: Journal, feed: Feed, port: int, folder: Path) -> None:
        self.journal = journal
        self.feed = feed
        self.address = f"http://127.0.0.1:{port}/"
        self.folder = folder

    async def job(self, key: str, clip: bytes | None = None, **facts: Any) -> str:
        """Work on a job, to its end if there is a clip; return its id."""
        entry = JournalEntry(state=Queueing(request=REQUEST), request=REQUEST, key=key, usd=0.25, **facts)
        entry = await self.journal.begin(entry)
        ticket = Ticket(model="model", queue_id=f"queue-{key}", download_url=LINK)
        await self.journal.record(entry.id, Waiting(ticket=ticket))
        if clip is not None:
            path = self.folder / f"{key}.mp4"
            path.write_bytes(clip)
            video = Video(path=path, size=len(clip), sha256="0" * 64, ticket=ticket)
            await self.journal.record(entry.id, Succeeded(video=video))
        return entry.id


@asynccontextmanager
async def staged(
    folder: Path,
    *,
    questions: Asked | None = None,
    place: str | None = None,
    account: str = "",
    secret: Secret | None = None,
    **options: Any,
) -> AsyncGenerator[Stage]:
    path = place or folder / "jobs.db"
    journal = await Journal.open(path, clock=SystemClock(), account=account, secret=secret)
    onlooker = await Journal.open(path, clock=SystemClock())
    feed = Feed(onlooker, "jobs.db", cast("Any", questions))
    asked: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "token": None, **options}
    try:
        async with serving(feed, **asked) as port:
            yield Stage(journal, feed, port, folder)
    finally:
        await onlooker.aclose()
        await journal.aclose()


@asynccontextmanager
async def asking(**options: Any) -> AsyncGenerator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, **options) as session:
        yield session


async def event(stream: aiohttp.StreamReader) -> tuple[str, dict[str, Any]]:
    """Return the id and the data of the next news."""
    number = ""
    while line := (await stream.readline()).decode().rstrip("\n"):
        pass
    while True:
        line = (await stream.readline()).decode().rstrip("\n")
        if line.startswith("id: "):
            number = line[4:]
        if number and line.startswith("data: "):
            return number, json.loads(line[6:])


async def test_a_person_sees_jobs_begin_end_and_play(
    browser: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another process does appears by itself; a card that is being played stays."""
    monkeypatch.setenv("VENICE_DAILY_USD", "5")
    film = render_clip(prompt="a fox", model="model", seconds=1.0, width=160, height=90)
    async with staged(tmp_path) as stage, tab(browser) as page:
        await page.look(stage.address)
        await page.until("document.querySelector('.empty').textContent.startsWith('No jobs yet')")
        first = await stage.job("one", tags={"project": "dawn"})
        await page.until("!!document.querySelector('.working .stage')?.textContent.startsWith('Generating')")
        assert ["one model"] == await page.texts(".head")
        assert ["project: dawn"] == await page.texts(".tags li")
        assert await page.texts(".owners li") == [
            f"process {(await stage.journal.watch({}, most=1)).changed[0].owner[:8]} 1 job"  # type: ignore[index]
        ]
        today = await page.texts(".spend h2 small")
        assert ["today $0.25, this month $0.25 (UTC)"] == today
        assert ["$0.25 of $5.00"] == await page.texts(".spend .gauge p span:last-child")
        second = await stage.job("two", film)
        await page.until(f"!!document.querySelector('#clip-{second}.done button')")
        await page.click(f"#clip-{second} button")
        await page.until("document.querySelector('video')?.currentTime > 0")
        ticket = Ticket(model="model", queue_id="queue-one")
        refusal = JobFailedError("The model is out of ideas", ticket=ticket)
        await stage.journal.record(first, Failed(error=refusal, ticket=ticket, job_failed=True))
        await page.until(f"!!document.querySelector('#clip-{first}.failed')")
        assert "The model is out of ideas" in (await page.texts(".failed .reason"))[0]
        assert await page.run("!!document.querySelector('video')")
        assert [] == page.trouble
        asked = [address for address in page.asked if not address.startswith(("data:", stage.address))]
        assert [] == asked


async def test_a_person_answers_a_question_of_consent(browser: int, tmp_path: Path) -> None:
    """Only with every box ticked; the answer comes with proof that our own page sent it."""
    asked = Asked()
    async with staged(tmp_path, questions=asked) as stage, tab(browser) as page:
        await page.look(stage.address)
        await page.until("!!document.querySelector('.question')")
        assert await page.run("document.querySelector('.yes').disabled")
        await page.run("document.querySelectorAll('.question input').forEach(box => box.click())")
        await page.click(".yes")
        await page.until("!document.querySelector('.question')")
        assert [
            ("order-7", Consent(terms_and_privacy=True, legal_right=True, screening=True))
        ] == asked.answers
        assert [] == page.trouble


async def test_it_is_read_on_a_phone_in_the_dark_and_without_motion(browser: int, tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, tab(browser) as page:
        for number in range(3):
            await stage.job(f"a-long-name-of-an-order-{number}")
        await page.look(stage.address, width=390, dark=True, still=True)
        await page.until("document.querySelectorAll('.card').length === 3")
        assert [] == await page.texts(".panels")
        await page.click(".account summary")
        assert ["Spend", "Workers"] == [text.split()[0] for text in await page.texts(".panel")]
        style = "getComputedStyle(document.querySelector('.bar i')).transitionDuration"
        assert (390, "0s") == (await page.run("document.documentElement.scrollWidth"), await page.run(style))
        assert "rgb(19, 20, 22)" == await page.run("getComputedStyle(document.body).backgroundColor")


async def test_jobs_of_a_process_that_is_gone_say_how_they_go_on(browser: int, tmp_path: Path) -> None:
    """What was on its way is told apart from what was paid for."""
    async with staged(tmp_path) as stage, tab(browser) as page:
        await stage.job("paid")
        intent = JournalEntry(state=Queueing(request=REQUEST), request=REQUEST, key="perhaps", usd=0.25)
        await stage.journal.begin(intent)
        await page.look(stage.address)
        await page.until("document.querySelectorAll('.card.working').length === 2")
        await stage.journal.aclose()
        await page.until("document.querySelectorAll('.card.waiting').length === 2")
        perhaps, paid = await page.texts(".stage")
        assert "Interrupted paid for No process works on it. Go on with: venice-async resume --all" == paid
        assert perhaps.startswith("Outcome unknown perhaps paid for The answer to its paid request was lost.")
        assert "venice-async jobs --forget" in perhaps
        assert ["Spent $0.25 and up to $0.25 unknown"] == await page.texts(".totals .spent")
        assert ["Workers 0 processes Nobody works on this journal now."] == await page.texts(".owners")


async def test_a_database_is_looked_at_as_a_file_is(postgres: str, tmp_path: Path) -> None:
    """Without the key, by which alone the links in it can be read."""
    secret = Secret("venice-key")
    async with staged(tmp_path, place=postgres, account="mine", secret=secret) as stage:
        await stage.job("one", b"clip", tags={"project": "dawn"})
        await stage.job("two")
        await stage.feed.look()
        news = stage.feed.news("")
        assert news is not None
        rows = {row["key"]: row for row in json.loads(news.text)["rows"]}
        assert {"one": "done", "two": "working"} == {key: row["status"] for key, row in rows.items()}
        assert "a fox" == rows["one"]["prompt"]
        assert 0.5 == json.loads(news.text)["spend"]["today"]
        assert "SECRETLINK" not in news.text


async def test_a_stream_goes_on_after_the_event_that_was_seen_last(tmp_path: Path) -> None:
    """And tells everything anew where it cannot; never a link, and a heartbeat's pause is not an end."""
    async with staged(tmp_path) as stage, asking() as session:
        await stage.job("one", tags={"project": "dawn"})
        async with session.get(f"{stage.address}events") as answer:
            assert "text/event-stream" == answer.content_type
            seen, whole = await event(answer.content)
            assert (True, ["one"]) == (whole["whole"], [row["key"] for row in whole["rows"]])
            assert "SECRETLINK" not in json.dumps(whole)
            await stage.job("two")
            _, news = await event(answer.content)
            assert (False, ["two"]) == (news["whole"], [row["key"] for row in news["rows"]])
        for known, whole_again, keys in ((seen, False, ["two"]), ("00000000-1", True, ["one", "two"])):
            headers = {"Last-Event-ID": known}
            async with session.get(f"{stage.address}events", headers=headers) as answer:
                _, news = await event(answer.content)
                assert (whole_again, keys) == (news["whole"], sorted(row["key"] for row in news["rows"]))


async def test_a_silent_stream_tells_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("venice_async.cli.dashboard.server.HEARTBEAT", 0.01)
    async with (
        staged(tmp_path) as stage,
        asking() as session,
        session.get(f"{stage.address}events") as answer,
    ):
        await event(answer.content)
        beats = [await answer.content.readline() for _ in range(4)]
        assert {b"\n", b": \n"} == set(beats)


async def test_clips_are_handed_out_in_ranges_and_nothing_else_is(tmp_path: Path) -> None:
    """Only what the journal names: no path leads elsewhere, and no compressed file beside a clip is taken."""
    async with staged(tmp_path) as stage, asking() as session:
        (tmp_path / "secret.mp4").write_bytes(b"not named by the journal")
        job = await stage.job("one", b"0123456789")
        (tmp_path / "one.mp4.gz").write_bytes(b"something else")
        await stage.feed.look()
        headers = {"Range": "bytes=2-4", "Accept-Encoding": "gzip"}
        async with session.get(f"{stage.address}clips/{job}", headers=headers) as answer:
            assert (206, b"234", "video/mp4") == (answer.status, await answer.read(), answer.content_type)
            assert "bytes 2-4/10" == answer.headers["Content-Range"]
        async with session.get(f"{stage.address}clips/{job}", headers={"Accept-Encoding": "gzip"}) as answer:
            assert b"0123456789" == await answer.read()
        for path in (
            "clips/nothing",
            "clips/..%2Fsecret.mp4",
            "clips/%2e%2e/secret.mp4",
            f"clips/{job}/..",
            "jobs.db",
        ):
            async with session.get(f"{stage.address}{path}") as answer:
                assert 404 == answer.status, path
        (tmp_path / "one.mp4").unlink()
        async with session.get(f"{stage.address}clips/{job}") as answer:
            assert 404 == answer.status


async def test_only_who_names_the_server_as_it_is_known_is_answered(tmp_path: Path) -> None:
    """A foreign name that is made to lead here (DNS rebinding) gets nothing."""
    async with staged(tmp_path) as stage, asking() as session:
        port = stage.address.split(":")[2]
        for host, status in (
            ("localhost", 200),
            ("127.0.0.1", 200),
            ("evil.example", 421),
            ("10.0.0.1", 421),
        ):
            async with session.get(stage.address, headers={"Host": f"{host}:{port.strip('/')}"}) as answer:
                assert status == answer.status, host
        async with session.get(stage.address) as answer:
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
            assert "nosniff" == answer.headers["X-Content-Type-Options"]
            assert not re.search(r"<script(?! src)|<style|\son\w+=|\sstyle=", await answer.text())


async def test_elsewhere_than_on_loopback_the_token_opens_the_page(tmp_path: Path) -> None:
    """It is in the address once, then in a cookie that scripts cannot read; a header does as well."""
    async with staged(tmp_path, host="0.0.0.0", token="open-sesame") as stage, asking() as session:  # noqa: S104 - the case
        for path in ("", "events", "page.js", "clips/x", "?token=wrong"):
            async with session.get(f"{stage.address}{path}") as answer:
                assert 401 == answer.status, path
        bearer = {"Authorization": "Bearer open-sesame"}
        async with session.get(f"{stage.address}page.js", headers=bearer) as answer:
            assert 200 == answer.status
        async with session.get(f"{stage.address}?token=open-sesame", allow_redirects=False) as answer:
            assert (303, "/") == (answer.status, answer.headers["Location"])
            cookie = answer.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert "open-sesame" not in cookie
        async with session.get(stage.address) as answer:
            assert 200 == answer.status


async def test_answers_are_taken_from_the_own_page_only(tmp_path: Path) -> None:
    asked = Asked()
    async with staged(tmp_path, questions=asked) as stage, asking() as session:
        async with session.get(stage.address) as answer:
            csrf = re.findall(r'name="csrf" content="([^"]+)"', await answer.text())[0]
        said = {"key": "order-7", "consent": None}
        for headers in (
            {},
            {"X-CSRF-Token": "guessed"},
            {"X-CSRF-Token": csrf, "Origin": "http://evil.example"},
            {"X-CSRF-Token": csrf, "Sec-Fetch-Site": "cross-site"},
        ):
            async with session.post(f"{stage.address}answer", json=said, headers=headers) as answer:
                assert 403 == answer.status, headers
        part = {"terms_and_privacy": True, "legal_right": "yes", "screening": True}
        wrong: tuple[Any, ...] = {**said, "consent": part}, {"key": "order-7"}, []
        for body in wrong:
            headers = {"X-CSRF-Token": csrf}
            async with session.post(f"{stage.address}answer", json=body, headers=headers) as answer:
                assert 400 == answer.status, body
        assert [] == asked.answers
        for status in (204, 409):
            async with session.post(
                f"{stage.address}answer", json=said, headers={"X-CSRF-Token": csrf}
            ) as answer:
                assert status == answer.status
        assert ("order-7", None) == asked.answers[0]


def test_the_command_prints_where_the_page_is_and_ends_by_ctrl_c(shell: Shell, anyio_backend: str) -> None:
    process = beside(
        "dashboard", "--port", "0", "--journal", "jobs.db", folder=shell.folder, env=shell.environment()
    )
    assert process.stdout is not None
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (0, True) == (process.returncode, "The jobs of jobs.db; Ctrl-C ends it." in err)
