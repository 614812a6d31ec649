"""The journal's file: private, whole, and left as it was unless it is a sound journal."""

# settings are looked at from within:
# pyright: reportPrivateUsage=false

from __future__ import annotations

import errno
import logging
import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from random import Random
from typing import TYPE_CHECKING

import anyio
import pytest
from attrs import evolve

from tests.io.answers import fail
from venice_async.errors import JournalError
from venice_async.io.journal import sqlite as database
from venice_async.io.journal.writer import Writer
from venice_async.requests import VideoRequest
from venice_async.sansio.job.states import Downloading, Queueing, Saved, Succeeded, Waiting

from .journals import (
    INTENT,
    LINK,
    MARK,
    REQUEST,
    TICKET,
    VIDEO,
    WAITING,
    bytes_on_disk,
    download,
    ids,
    job,
    opened,
    ticket,
)

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from venice_async.io.journal.entries import JournalEntry

pytestmark = pytest.mark.anyio

posix = pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")


@contextmanager
def umask(mask: int) -> Generator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(path: Path) -> dict[str, int]:
    return {place.name.removeprefix(path.name): mode(place) for place in path.parent.iterdir()}


async def refused(path: Path, match: str) -> None:
    """Check that the file is refused for that reason and stays as it was, with nothing new beside it."""
    before = path.read_bytes()
    with pytest.raises(JournalError, match=match):
        async with opened(path):
            pass
    assert before == path.read_bytes()
    assert [] == [place for place in path.parent.iterdir() if place.suffix in {".owner", ".new"}]


async def filled(path: Path) -> None:
    """Make a journal with jobs of all kinds, some of them larger than a page."""
    async with opened(path) as journal:
        for number in range(12):
            request = REQUEST.__class__(model="m", prompt="p" * (number * 700 + 1))
            state = Queueing(request=request) if number % 3 else Waiting(ticket=ticket(number))
            entry = await journal.begin(job(state, request=request, to="/clips/a.mp4", key=f"key-{number}"))
            if number % 4 == 0:
                await journal.record(entry.id, download(number % 5, ticket(number)))


@posix
@pytest.mark.parametrize("mask", [0, 0o077, 0o777])
async def test_files_and_new_folders_are_private_under_any_umask(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "a" / "b" / "jobs.db"
    with umask(mask):
        async with opened(path) as journal:
            await journal.begin(job(INTENT))
            found = modes(path)
    assert {"", "-wal", "-shm"} <= found.keys()
    assert {0o600} == set(found.values())
    assert (0o700, 0o700) == (mode(tmp_path / "a"), mode(tmp_path / "a" / "b"))


@posix
async def test_a_journal_that_others_can_read_is_made_private(path: Path) -> None:
    async with opened(path):
        pass
    path.chmod(0o644)
    with umask(0):
        async with opened(path) as journal:
            await journal.begin(job(INTENT))
            assert {0o600} == set(modes(path).values())


@posix
@pytest.mark.parametrize(
    ("permissions", "warned"), [(0o700, False), (0o755, False), (0o775, True), (0o757, True)]
)
async def test_an_existing_folder_is_left_alone_but_warned_of_if_others_may_write_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, permissions: int, warned: bool
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(permissions)
    with caplog.at_level(logging.WARNING):
        async with opened(folder / "jobs.db"):
            pass
    assert permissions == mode(folder)
    assert warned == ("can be written to by others" in caplog.text)
    assert [] == [record.name for record in caplog.records if not record.name.startswith("venice_async")]


async def test_a_closed_journal_is_one_file(path: Path) -> None:
    async with opened(path) as journal:
        await journal.begin(job(INTENT))
    assert ["jobs.db"] == [place.name for place in path.parent.iterdir()]


async def test_any_name_will_do_for_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%41 é\udcff'.db"
    async with opened(path) as journal:
        entry = await journal.begin(job(INTENT))
    async with opened(path) as journal:
        assert [entry.id] == await ids(journal)
    assert [path] == list(tmp_path.iterdir())


@posix
async def test_a_journal_reached_by_a_symbolic_link_is_the_same_journal(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "other.db").symlink_to(tmp_path / "real" / "jobs.db")
    async with opened(tmp_path / "other.db") as journal, opened(tmp_path / "real" / "jobs.db") as beside:
        await journal.begin(job(INTENT))
        assert [] == await beside.adopt()


async def test_it_is_durable_and_keeps_nothing_that_was_deleted(path: Path) -> None:
    async with opened(path) as journal:
        found: dict[str, object] = {}

        def look() -> None:
            used = journal.writer.database
            assert isinstance(used, database.SqliteDatabase)
            connection = used._connection
            assert connection is not None
            for name in ("journal_mode", "synchronous", "secure_delete", "application_id", "user_version"):
                (found[name],) = connection.execute(f"PRAGMA {name}").fetchone()

        assert isinstance(journal.writer, Writer)
        await journal.writer._in_thread(look)
    expected = {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "application_id": database.APPLICATION_ID,
        "user_version": database.VERSION,
    }
    assert expected == found


async def test_a_file_that_is_no_database_is_not_touched(path: Path) -> None:
    for content in (b"hello", b"x" * 10_000, b"SQLite format 3\0", b"SQLite format 3\0" + b"x" * 5_000):
        path.write_bytes(content)
        await refused(path, "is not a journal|is damaged|belongs to another program")
        assert ["jobs.db"] == [place.name for place in path.parent.iterdir()]


async def test_an_empty_file_is_not_touched(path: Path) -> None:
    path.touch()
    await refused(path, r"it is empty.*Remove the file")


@pytest.mark.parametrize("journal_mode", ["delete", "wal"])
async def test_the_database_of_another_program_is_not_touched(path: Path, journal_mode: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.execute("CREATE TABLE jobs (id)")
    await refused(path, "belongs to another program")
    assert ["jobs.db"] == [place.name for place in path.parent.iterdir()]


def as_of_version(path: Path, version: int) -> None:
    """Make of a journal what an older version of this library would have made."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        columns = [column.split()[0] for column in database._COLUMNS]
        rows = connection.execute(f"SELECT {', '.join(columns)} FROM jobs ORDER BY rowid").fetchall()  # noqa: S608 - constants
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        for statement in (*database._OLDER[version], f"PRAGMA application_id = {database.APPLICATION_ID}"):
            connection.execute(statement)
        connection.executemany(f"INSERT INTO jobs VALUES ({', '.join('?' * len(columns))})", rows)  # noqa: S608 - constants
        connection.execute(f"PRAGMA user_version = {version}")
        connection.commit()


@pytest.mark.parametrize("version", [1, 2])
async def test_a_journal_of_an_older_version_is_brought_up_to_date_and_keeps_its_jobs(
    path: Path, version: int
) -> None:
    await filled(path)
    async with opened(path) as journal:
        expected = await journal.pending()
    as_of_version(path, version)
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(_looks, path, expected)
    await _looks(path, expected)


async def _looks(path: Path, expected: list[JournalEntry]) -> None:
    async with opened(path) as journal:
        found = await journal.pending()
        assert [(one.id, one.key, one.to, one.state, one.request) for one in expected] == [
            (one.id, one.key, one.to, one.state, one.request) for one in found
        ]


async def test_a_newer_journal_is_not_touched(path: Path) -> None:
    await filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version = {database.VERSION + 1}")
    await refused(path, r"newer than 3.*Update this library")


@pytest.mark.parametrize(
    "change",
    [
        "PRAGMA user_version = 0",
        "CREATE TRIGGER t AFTER INSERT ON jobs BEGIN DELETE FROM jobs; END",
        "DROP INDEX jobs_by_key",
        "ALTER TABLE jobs ADD COLUMN more",
        "UPDATE jobs SET state = '{' WHERE key = 'key-0'",
        "UPDATE jobs SET state = '[]' WHERE key = 'key-0'",
        "UPDATE jobs SET kind = 'Saved' WHERE key = 'key-0'",
        "UPDATE jobs SET job = 'other' WHERE key = 'key-0'",
        "UPDATE jobs SET created = 'yesterday' WHERE key = 'key-0'",
        "UPDATE jobs SET request = '{\"model\": 5}' WHERE key = 'key-0'",
    ],
)
async def test_a_journal_that_someone_changed_is_not_touched(path: Path, change: str) -> None:
    await filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(change)
    await refused(path, "is damaged")


async def test_a_folder_or_a_pipe_is_no_journal(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(JournalError, match="it is not a file"):
            async with opened(path):
                pass


async def test_a_place_where_no_file_can_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"Not a directory|File exists"):
        async with opened(tmp_path / "file" / "jobs.db"):
            pass


async def works_or_is_refused(path: Path) -> bool:
    """Open and use a file that may be damaged; tell whether it was refused, and is then as it was."""
    before = path.read_bytes()
    try:
        async with opened(path) as journal:
            await journal.adopt()
            entry = await journal.begin(job(INTENT, request=REQUEST, key="new"))
            await journal.record(entry.id, WAITING)
            await journal.find("key-3")
    except JournalError as error:
        reasons = "is damaged|is not a journal|belongs to another program|newer than|is empty"
        assert re.search(reasons, str(error)), str(error)  # noqa: PT017 - it may not be raised at all
        assert before == path.read_bytes()
        return True
    return False


async def test_a_file_cut_anywhere_works_or_is_refused_and_left_as_it_was(path: Path) -> None:
    await filled(path)
    content, random = path.read_bytes(), Random(1)
    refusals = 0
    for _ in range(25):
        path.write_bytes(content[: random.randrange(len(content))])
        refusals += await works_or_is_refused(path)
        _clear(path)
    assert refusals == 25


async def test_a_file_with_wrong_bytes_works_or_is_refused_and_left_as_it_was(path: Path) -> None:
    await filled(path)
    content, random = path.read_bytes(), Random(2)
    refusals = 0
    for number in range(40):
        damaged = bytearray(content)
        for _ in range(1 + number % 8):
            damaged[random.randrange(len(damaged))] ^= 1 + random.randrange(255)
        path.write_bytes(damaged)
        refusals += await works_or_is_refused(path)
        _clear(path)
    assert refusals > 0


async def test_a_log_that_is_cut_or_wrong_loses_no_more_than_its_end(path: Path) -> None:
    async with opened(path) as journal:
        entry = await journal.begin(job(WAITING))
        for gets in range(1, 6):
            await journal.record(entry.id, download(gets))
        content, log = path.read_bytes(), path.with_name("jobs.db-wal").read_bytes()
    random = Random(3)
    for _ in range(15):
        place = random.randrange(len(log))
        for damaged in (log[:place], log[:place] + bytes([log[place] ^ 255]) + log[place + 1 :]):
            _clear(path)
            path.write_bytes(content)
            path.with_name("jobs.db-wal").write_bytes(damaged)
            async with opened(path) as journal:
                assert {state for entry in await journal.adopt() for state in [entry.state]} <= {
                    WAITING,
                    *(download(gets) for gets in range(1, 6)),
                }


async def test_a_journal_whose_log_was_half_transferred_is_sound(path: Path) -> None:
    log = path.with_name("jobs.db-wal")
    async with opened(path) as journal:
        short = path.read_bytes()
        found = [
            (await journal.begin(job(INTENT, request=REQUEST, to="/" + "a" * 3_000))).id for _ in range(20)
        ]
        kept = log.read_bytes()
    whole = path.read_bytes()
    assert len(short) < len(whole)
    path.write_bytes(whole[:4096] + short[4096:])
    log.write_bytes(kept)
    async with opened(path) as journal:
        assert found == [entry.id for entry in await journal.adopt()]


async def test_a_file_removed_or_replaced_under_way_is_noticed_before_money_is_spent(path: Path) -> None:
    async with opened(path) as journal:
        path.rename(path.with_suffix(".gone"))
        with pytest.raises(JournalError, match="removed or replaced"):
            await journal.begin(job(INTENT))
        path.touch()
        with pytest.raises(JournalError, match="removed or replaced"):
            await journal.begin(job(INTENT))


@pytest.mark.parametrize("name", ["~/jobs.db", "sqlite:///jobs.db", "mysql://u:secret@h/db", "/", "a\0b"])
async def test_a_name_that_is_no_file_is_refused_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JournalError, match="cannot be used") as caught:
        async with opened(name):
            pass
    assert "secret" not in str(caught.value)
    assert [] == list(tmp_path.iterdir())


async def test_another_programs_lock_is_waited_for_and_a_ticket_that_came_meanwhile_is_written_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(path) as journal:
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            threading.Timer(1.5 * database.BUSY_TIMEOUT, lambda: other.execute("ROLLBACK")).start()
            entry = await journal.begin(job(INTENT))
            monkeypatch.setattr(database, "TRIES", 1)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalError, match="another program keeps it locked"):
                await journal.record(entry.id, WAITING)
            other.execute("ROLLBACK")
            assert [WAITING] == [entry.state for entry in await journal.pending()]


async def test_a_link_that_a_reader_keeps_in_the_log_is_erased_at_the_next_chance(path: Path) -> None:
    async with opened(path) as journal:
        entry = await journal.begin(job(WAITING))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM jobs").fetchall()
            await journal.record(entry.id, Succeeded(video=VIDEO))
            assert MARK in bytes_on_disk(path)
        await journal.pending()
        assert MARK not in bytes_on_disk(path)


async def test_the_log_is_emptied_at_the_end_of_a_job_that_had_a_secret_and_of_no_other(path: Path) -> None:
    log = path.with_name("jobs.db-wal")
    bare = evolve(TICKET, download_url=None)
    named = Downloading(ticket=bare, via="link", gets=1, link=LINK)  # by the server's answer to a poll
    signed = VideoRequest(model="m", prompt="p", image_url=f"https://files.example/a.png?key={MARK.decode()}")
    found: list[tuple[bool, bool]] = []
    async with opened(path) as journal:
        for request, begun, states in (
            (REQUEST, INTENT, [Waiting(ticket=bare)]),
            (signed, Queueing(request=signed), [Waiting(ticket=bare)]),
            (REQUEST, INTENT, [named, Saved(video=evolve(VIDEO, ticket=bare))]),
            (REQUEST, INTENT, [WAITING]),
        ):
            entry = await journal.begin(job(begun, request=request))
            for state in (*states, Succeeded(video=evolve(VIDEO, ticket=bare))):
                await journal.record(entry.id, state)
            found.append((MARK in bytes_on_disk(path), log.stat().st_size > 0))
    assert [(False, True), (False, False), (False, True), (False, False)] == found


async def test_the_link_of_another_entry_of_the_same_job_is_erased_with_it(path: Path) -> None:
    bare = evolve(TICKET, download_url=None)
    async with opened(path) as journal:
        ours = await journal.begin(job(Waiting(ticket=bare)))
        await journal.begin(job(WAITING))
        assert MARK in bytes_on_disk(path)
        await journal.record(ours.id, Succeeded(video=evolve(VIDEO, ticket=bare)))
        assert MARK not in bytes_on_disk(path)


async def test_what_a_killed_process_could_not_finish_making_is_removed(path: Path) -> None:
    token = "0123456789abcdef" * 2
    ends = ("owner", "new", "new-wal", "new-journal")
    leftovers = [path.with_name(f"jobs.db.{token}.{end}") for end in ends]
    strangers = [path.with_name("jobs.db.backup.owner"), path.with_name("other.db.new")]
    for place in (*leftovers, *strangers):
        place.touch()
    async with opened(path):
        assert [] == [place for place in leftovers if place.exists()]
    assert strangers == [place for place in strangers if place.exists()]


async def test_of_two_that_make_the_file_at_once_neither_loses_a_job(path: Path) -> None:
    token = "f" * 32
    database._create(path, token)
    async with opened(path) as journal:
        entry = await journal.begin(job(INTENT))
        database._create(path, token)
        assert [entry.id] == await ids(journal)
    assert ["jobs.db"] == [place.name for place in path.parent.iterdir()]


async def test_a_folder_that_cannot_be_synced_at_all_will_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enotsup_of_macos = 45
    for code in (enotsup_of_macos, errno.EINVAL, errno.EACCES):
        with monkeypatch.context() as patch:
            fail(patch, "fsync", code)
            async with opened(path):
                pass
        path.unlink()


async def test_a_file_system_without_links_will_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(type(path), "hardlink_to", refuse)
    async with opened(path) as journal:
        entry = await journal.begin(job(INTENT))
    async with opened(path) as journal:
        assert [entry.id] == await ids(journal)


def test_the_package_does_not_load_sqlite_until_there_is_a_journal() -> None:
    code = "import sys, venice_async; sys.exit('sqlite3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False)  # noqa: S603 - our own code
    assert 0 == done.returncode


def _clear(path: Path) -> None:
    for place in path.parent.iterdir():
        place.unlink()
