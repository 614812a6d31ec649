"""Where a clip goes: what can be known to fail is found before any money is spent."""

from __future__ import annotations

import asyncio
import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.io.answers import fail
from venice_async.errors import DownloadError, UsageError
from venice_async.io.delivery.destination import Destination, check_destination
from venice_async.io.delivery.part_file import is_part_of, job_key, part_path
from venice_async.sansio.naming import in_folder

pytestmark = pytest.mark.anyio


async def test_a_file_in_a_folder_is_where_the_clip_goes(tmp_path: Path) -> None:
    target = await check_destination(tmp_path / "clip.mp4")
    assert Destination(place=tmp_path / "clip.mp4", overwrite=False) == target


async def test_a_folder_names_the_clip_after_its_job(tmp_path: Path) -> None:
    for to in (tmp_path, f"{tmp_path}/", str(tmp_path)):
        target = await check_destination(to, values={"model": "wan-2.1"})
        assert target.naming is not None
        assert (tmp_path, "wan-2.1-job-7.mp4") == (target.place, next(target.naming.names("job-7")))


async def test_a_relative_path_is_fixed_when_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    target = await check_destination("clip.mp4")
    monkeypatch.chdir("/")
    assert tmp_path / "clip.mp4" == target.place


async def test_looking_leaves_nothing_behind(tmp_path: Path) -> None:
    await check_destination(tmp_path / "clip.mp4")
    await check_destination(tmp_path)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["missing/clip.mp4", "missing/", "file/clip.mp4", "file/"])
async def test_a_missing_folder_is_refused(tmp_path: Path, to: str) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"no folder|not a folder") as caught:
        await check_destination(f"{tmp_path}/{to}")
    assert "hoose" in caught.value.hint


async def test_an_existing_file_is_refused_unless_it_may_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists") as caught:
        await check_destination(tmp_path / "clip.mp4")
    assert "overwrite=True" in caught.value.hint
    assert (await check_destination(tmp_path / "clip.mp4", overwrite=True)).overwrite
    assert b"mine" == (tmp_path / "clip.mp4").read_bytes()


async def test_a_recovered_job_may_find_its_own_clip(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"perhaps this very clip")
    assert not (await check_destination(tmp_path / "clip.mp4", recovering=True)).overwrite


async def test_overwriting_through_a_symbolic_link_is_checked_where_it_leads(tmp_path: Path) -> None:
    for name, to in {"new": "clip.mp4", "no folder": "gone/clip.mp4", "circle": "circle"}.items():
        (tmp_path / name).symlink_to(tmp_path / to)
    assert tmp_path / "new" == (await check_destination(tmp_path / "new", overwrite=True)).place
    for name, says in {"no folder": "There is no folder", "circle": "cannot be written"}.items():
        with pytest.raises(UsageError, match=says):
            await check_destination(tmp_path / name, overwrite=True)
    with pytest.raises(UsageError, match="not a plain file"):
        await check_destination(tmp_path / "new")


async def test_what_is_not_a_plain_file_is_refused_even_for_overwriting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for to in (tmp_path / "pipe", tmp_path / "link", Path("/dev/null")):
        with pytest.raises(UsageError, match="not a plain file"):
            await check_destination(to, overwrite=True)


async def test_a_name_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the name is too long"):
        await check_destination(tmp_path / ("x" * 300))


async def test_a_name_as_long_as_the_file_system_takes_is_fine(tmp_path: Path) -> None:
    name = "é" * 125 + ".mp4"
    assert tmp_path / name == (await check_destination(tmp_path / name)).place


@pytest.mark.parametrize("to", ["", "a\0b", 7, b"clip.mp4", None])
async def test_what_is_no_path_is_refused(to: Any) -> None:
    with pytest.raises(UsageError, match="to="):
        await check_destination(to)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
async def test_a_folder_one_may_not_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fail(monkeypatch, "open", code)
    with pytest.raises(UsageError, match="cannot be written"):
        await check_destination(tmp_path / "clip.mp4")


async def test_the_file_of_another_user_in_a_sticky_folder_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"theirs")
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / "clip.mp4").stat().st_uid + 1)
    tmp_path.chmod(0o1777)
    assert (await check_destination(tmp_path / "new.mp4", overwrite=True)).overwrite
    with pytest.raises(UsageError, match="no permission"):
        await check_destination(tmp_path / "clip.mp4", overwrite=True)
    tmp_path.chmod(0o777)
    assert (await check_destination(tmp_path / "clip.mp4", overwrite=True)).overwrite


async def test_a_folder_one_may_not_look_into_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, "stat", errno.EACCES, when=lambda path: str(path).endswith("clip.mp4"))
    with pytest.raises(UsageError, match="no permission"):
        await check_destination(tmp_path / "clip.mp4")


class KilledError(Exception):
    """Stands for the end of the process."""


async def test_a_process_killed_in_the_check_leaves_no_file_or_one_that_the_next_check_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KilledError

    for unnamed in (True, False):
        with monkeypatch.context() as patch:
            if not unnamed:
                fail(patch, "open", errno.EOPNOTSUPP, when=lambda path: path == tmp_path)
            with monkeypatch.context() as dying:
                dying.setattr(os, "write", killed)
                dying.setattr(Path, "unlink", killed)
                with pytest.raises(KilledError):
                    await check_destination(tmp_path / "clip.mp4")
            assert (0 if unnamed else 1) == len(list(tmp_path.iterdir()))
            await check_destination(tmp_path / "another.mp4")
            assert [] == list(tmp_path.iterdir())


async def test_checks_of_one_folder_at_the_same_time_do_not_collide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, "open", errno.EOPNOTSUPP, when=lambda path: path == tmp_path)
    await asyncio.gather(*(check_destination(tmp_path / f"{number}.mp4") for number in range(200)))
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("unnamed", [True, False])
async def test_a_full_disk_is_refused_before_anything_is_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed: bool
) -> None:
    if not unnamed:
        fail(monkeypatch, "open", errno.EOPNOTSUPP, when=lambda path: path == tmp_path)
    fail(monkeypatch, "write", errno.ENOSPC)
    with pytest.raises(DownloadError, match="the disk is full"):
        await check_destination(tmp_path / "clip.mp4")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EIO, "the disk reports an error"),
    ],
)
async def test_a_disk_that_takes_nothing_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: str
) -> None:
    fail(monkeypatch, "open", code)
    with pytest.raises(DownloadError, match=reason) as caught:
        await check_destination(tmp_path / "clip.mp4")
    assert "resume" not in caught.value.hint, "nothing was paid for yet"


@given(st.text(), st.text())
def test_no_server_can_choose_a_path(model: str, queue_id: str) -> None:
    path = Path("/clips") / next(in_folder({"model": model}).names(queue_id))
    assert Path("/clips") == path.parent
    assert re.fullmatch(r"[^\W_][^\W_.-]?[^/\\\0]{0,200}\.mp4", path.name)


@pytest.mark.parametrize("queue_id", ["../../etc/passwd", ".hidden", "a/b", "", "x" * 300, "a b", "\ud800"])
def test_a_job_with_a_bad_name_gets_a_digest_of_its_own(queue_id: str) -> None:
    naming = in_folder({"model": "m"})
    name = next(naming.names(queue_id))
    assert re.fullmatch(r"m-[A-Za-z0-9-]*[0-9a-f]{16}\.mp4", name)
    assert name != next(naming.names(queue_id + "!"))


def test_a_part_file_is_hidden_unique_and_known_by_its_job() -> None:
    key = job_key("m", "q")
    parts = {part_path(Path("/clips/a.mp4"), key) for _ in range(50)}
    assert 50 == len(parts)
    assert all(part.parent == Path("/clips") and part.name.startswith(".a.mp4.") for part in parts)
    assert all(is_part_of(part.name, key) for part in parts)
    assert not any(is_part_of(part.name, job_key("m", "q2")) for part in parts)


def test_a_jobs_key_is_the_same_everywhere_and_its_own() -> None:
    assert "44e4406f414f7b62" == job_key("m", "q")
    assert job_key("a", "bc") != job_key("ab", "c")
