"""A clip on its way to disk: it takes its name whole, at once and for good, or leaves nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.boxes import box
from tests.io.answers import fail
from venice_async.errors import DownloadError
from venice_async.io.delivery.part_file import PartFile, job_key, part_path
from venice_async.sansio.naming import in_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.anyio

KEY = job_key("m", "q")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return tmp_path / "clip.mp4"


def part_file(clip: Path, *, overwrite: bool = False, key: str = KEY) -> PartFile:
    return PartFile(clip, overwrite=overwrite, job_key=key)


async def written(clip: Path, *chunks: bytes, overwrite: bool = False) -> PartFile:
    part = part_file(clip, overwrite=overwrite)
    await part.open()
    await part.write(chunks)
    return part


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_committed_clip_is_under_its_name_and_nothing_else_is_left(clip: Path) -> None:
    part = await written(clip, b"one", b"", b"two")
    await part.write([b"three"])
    assert clip == await part.commit()
    assert b"onetwothree" == clip.read_bytes()
    assert ["clip.mp4"] == names(clip.parent)


async def test_nothing_is_under_the_final_name_before_commit(clip: Path) -> None:
    part = await written(clip, b"data")
    (name,) = names(clip.parent)
    assert name.startswith(".clip.mp4.")
    assert name.endswith(".part")
    await part.abort()
    assert [] == names(clip.parent)


async def test_a_clip_has_the_permissions_of_any_new_file(clip: Path) -> None:
    await (await written(clip, b"data")).commit()
    other = clip.with_name("other")
    other.touch()
    assert other.stat().st_mode == clip.stat().st_mode


async def test_a_restart_forgets_what_was_written(clip: Path) -> None:
    part = await written(clip, b"a long first try")
    await part.restart()
    await part.write([b"second"])
    await part.commit()
    assert b"second" == clip.read_bytes()


async def test_short_writes_are_completed(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def short(descriptor: int, data: memoryview) -> int:
        return real(descriptor, data[:3])

    monkeypatch.setattr(os, "write", short)
    await (await written(clip, b"0123456789", b"abcd")).commit()
    assert b"0123456789abcd" == clip.read_bytes()


async def test_abort_may_come_at_any_time_and_again(clip: Path) -> None:
    never_opened = part_file(clip)
    await never_opened.abort()
    part = await written(clip, b"data")
    await part.commit()
    await part.abort()
    await part.abort()
    assert b"data" == clip.read_bytes()


async def test_after_abort_nothing_more_is_written(clip: Path) -> None:
    part = await written(clip, b"data")
    await part.abort()
    for operation in (part.restart, part.commit, lambda: part.write([b"more"])):
        with pytest.raises(DownloadError, match="has ended"):
            await operation()
    assert [] == names(clip.parent)


async def test_an_existing_file_is_replaced_only_if_asked(clip: Path) -> None:
    clip.write_bytes(b"old")
    await (await written(clip, b"new", overwrite=True)).commit()
    assert b"new" == clip.read_bytes()


async def test_what_replaces_a_file_is_as_private_as_that_was_while_it_comes_and_after(clip: Path) -> None:
    for mode in (0o600, 0o640, 0o444, 0o755):
        clip.write_bytes(b"old")
        clip.chmod(mode)
        part = await written(clip, b"new", overwrite=True)
        (coming,) = (path for path in clip.parent.iterdir() if path.name.endswith(".part"))
        assert 0 == coming.stat().st_mode & 0o777 & ~mode
        await part.commit()
        assert (mode, b"new") == (clip.stat().st_mode & 0o777, clip.read_bytes())
        clip.unlink()


async def test_a_symbolic_link_is_followed_to_the_file_it_names_and_stays(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "a.mp4").write_bytes(b"old")
    (store / "a.mp4").chmod(0o600)
    for name, to in {
        "link": store / "a.mp4",
        "link of link": tmp_path / "link",
        "dangling": store / "b.mp4",
    }.items():
        link = tmp_path / name
        link.symlink_to(to)
        assert link == await (await written(link, name.encode(), overwrite=True)).commit()
        assert link.is_symlink()
        assert name.encode() == link.read_bytes()
    assert ["a.mp4", "b.mp4"] == names(store)
    assert 0o600 == (store / "a.mp4").stat().st_mode & 0o777


async def test_a_symbolic_link_is_not_replaced_unasked(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for links in (True, False):
        part = await written(clip, b"new")
        clip.symlink_to("nowhere")
        with monkeypatch.context() as patch:
            if not links:
                fail(patch, "link", errno.EPERM)
            with pytest.raises(DownloadError, match="appeared meanwhile"):
                await part.commit()
        await part.abort()
        assert "nowhere" == str(clip.readlink())
        clip.unlink()


@pytest.mark.parametrize("first", [12, 16, 19])
async def test_a_quicktime_file_is_named_as_one_however_little_of_it_came_first(
    tmp_path: Path, first: int
) -> None:
    clip = box(b"wide", b"") + box(b"ftyp", b"qt  " + bytes(4)) + box(b"mdat", b"media")
    part = PartFile(tmp_path, overwrite=False, job_key=KEY, naming=in_folder({"model": "m"}), queue_id="q")
    await part.write([clip[:first]])
    await part.write([clip[first:]])
    assert tmp_path / "m-q.mov" == await part.commit()


# What could not be verified


async def test_what_is_set_aside_says_so_in_its_name_and_is_never_written_over(clip: Path) -> None:
    for content in (b"one", b"two", b"one", b"two"):
        part = await written(clip, content)
        kept = await part.set_aside(known_only=False)
        await part.abort()
        assert kept is not None
        assert content == kept.read_bytes()
    assert ["clip.mp4.2.unverified", "clip.mp4.unverified"] == names(clip.parent)


async def test_only_what_was_set_aside_before_is_known(clip: Path) -> None:
    clip.with_name("clip.mp4.unverified").write_bytes(b"one")
    for content, expected in ((b"one", clip.with_name("clip.mp4.unverified")), (b"two", None)):
        part = await written(clip, content)
        assert expected == await part.set_aside(known_only=True)
        await part.abort()
    assert ["clip.mp4.unverified"] == names(clip.parent)


async def test_what_is_set_aside_stays_beside_the_file_that_a_symbolic_link_leads_to(clip: Path) -> None:
    store = clip.with_name("store")
    store.mkdir()
    clip.symlink_to(store / "real.mp4")
    part = await written(clip, b"data", overwrite=True)
    assert store / "real.mp4.unverified" == await part.set_aside(known_only=False)
    assert ["real.mp4.unverified"] == names(store)


async def test_a_disk_that_cannot_set_aside_is_no_other_error(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = await written(clip, b"data")
    with monkeypatch.context() as patch:
        fail(patch, "link", errno.ENOSPC)
        assert await part.set_aside(known_only=False) is None
    await part.abort()
    assert [] == names(clip.parent)


async def test_a_long_name_leaves_room_for_what_says_that_it_is_not_verified(tmp_path: Path) -> None:
    part = await written(tmp_path / ("ü" * 125 + ".mp4"), b"data")
    kept = await part.set_aside(known_only=False)
    assert kept is not None
    assert [kept.name] == names(tmp_path)


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
async def test_a_file_that_appeared_meanwhile_is_left_as_it_is(
    clip: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    if not links:
        fail(monkeypatch, "link", errno.EPERM)
    part = await written(clip, b"new!")
    clip.write_bytes(b"mine")
    with pytest.raises(DownloadError, match="appeared meanwhile") as caught:
        await part.commit()
    assert "resume" in caught.value.hint
    await part.abort()
    assert b"mine" == clip.read_bytes()
    assert ["clip.mp4"] == names(clip.parent)


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
async def test_the_very_same_clip_under_the_name_is_success(
    clip: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    """A process may die between publishing a clip and recording that it did."""
    if not links:
        fail(monkeypatch, "link", errno.EPERM)
    part = await written(clip, b"data")
    clip.write_bytes(b"data")
    assert clip == await part.commit()
    assert ["clip.mp4"] == names(clip.parent)


async def test_a_folder_that_appeared_meanwhile_is_left_as_it_is(clip: Path) -> None:
    part = await written(clip, b"data")
    clip.mkdir()
    with pytest.raises(DownloadError, match="appeared meanwhile"):
        await part.commit()
    await part.abort()
    assert ["clip.mp4"] == names(clip.parent)


async def test_whatever_a_file_system_without_links_calls_it_it_will_do(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enotsup_of_macos = 45
    for code in (
        enotsup_of_macos,
        errno.EPERM,
        errno.EOPNOTSUPP,
        errno.ENOSYS,
        errno.EMLINK,
        errno.EIO,
        errno.EXDEV,
    ):
        with monkeypatch.context() as patch:
            fail(patch, "link", code)
            await (await written(clip, b"data")).commit()
        assert ["clip.mp4"] == names(clip.parent)
        assert b"data" == clip.read_bytes()
        clip.unlink()


async def test_a_platform_without_links_will_do(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(self: Path, target: Path) -> None:
        raise NotImplementedError  # as pathlib does where there is no os.link

    monkeypatch.setattr(Path, "hardlink_to", unsupported)
    await (await written(clip, b"data")).commit()
    assert ["clip.mp4"] == names(clip.parent)


@pytest.mark.parametrize(
    ("function", "overwrite"), [("open", False), ("write", False), ("fsync", False), ("replace", True)]
)
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, "reports an error"),
        (errno.ESTALE, os.strerror(errno.ESTALE)),
    ],
)
async def test_a_failing_disk_is_named_and_leaves_nothing_half_done(
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    *,
    overwrite: bool,
    code: int,
    reason: str,
) -> None:
    part = part_file(clip, overwrite=overwrite)
    with monkeypatch.context() as patch:
        fail(patch, function, code)
        with pytest.raises(DownloadError, match=reason) as caught:
            await use(part, [b"data"])
    assert str(clip) in caught.value.message
    assert "resume" in caught.value.hint
    assert [] == names(clip.parent)


async def test_a_part_file_that_cannot_be_removed_does_not_take_the_clip_back(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail(patch, "unlink", errno.EIO)
        await (await written(clip, b"data")).commit()
    assert b"data" == clip.read_bytes()
    assert 2 == clip.stat().st_nlink, "a second name of the same file, which takes no room"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
async def test_a_name_that_there_is_no_room_for_is_an_error_and_leaves_nothing_half_done(
    clip: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    fail(monkeypatch, "link", code)
    with pytest.raises(DownloadError, match=r"full|read-only"):
        await use(part_file(clip), [b"data"])
    assert [] == names(clip.parent)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
async def test_a_part_file_that_cannot_be_made_is_an_error(
    clip: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with monkeypatch.context() as patch:
        fail(patch, "open", code)
        with pytest.raises(DownloadError, match="cannot be written"):
            await written(clip, b"data")
    assert [] == names(clip.parent)


async def test_the_clip_and_then_its_name_are_brought_to_stable_storage(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    for function in ("fsync", "link"):
        monkeypatch.setattr(os, function, noting(steps, function, getattr(os, function)))
    await (await written(clip, b"data")).commit()
    assert ["fsync file", "link", "fsync folder"] == steps


def noting(steps: list[str], name: str, real: Callable[..., None]) -> Callable[..., None]:
    def noted(*args: int) -> None:
        folder = os.path.isdir(f"/proc/self/fd/{args[0]}")  # noqa: PTH112 - a descriptor's name
        steps.append(f"{name} {'folder' if folder else 'file'}" if name == "fsync" else name)
        return real(*args)

    return noted


async def test_a_failing_sync_of_the_name_is_an_error(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = await written(clip, b"data")
    fail(monkeypatch, "fsync", errno.EIO, when=lambda _: clip.exists())
    with pytest.raises(DownloadError, match="reports an error"):
        await part.commit()


async def test_a_folder_that_cannot_be_synced_at_all_will_do(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enotsup_of_macos = 45
    for code in (enotsup_of_macos, errno.EINVAL, errno.EACCES, errno.ENOSYS, errno.EISDIR, errno.EPERM):
        part = await written(clip, b"data")
        with monkeypatch.context() as patch:
            fail(patch, "fsync", code, when=lambda _: clip.exists())
            await part.commit()
        assert b"data" == clip.read_bytes()
        clip.unlink()


async def test_a_folder_that_may_be_written_but_not_read_will_do(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = await written(clip, b"data")
    fail(monkeypatch, "open", errno.EACCES, when=lambda path: path == clip.parent)
    await part.commit()
    assert b"data" == clip.read_bytes()


async def test_a_file_system_that_knows_no_sync_will_do(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        with monkeypatch.context() as patch:
            fail(patch, "fsync", code)
            await (await written(clip, b"data")).commit()
        assert b"data" == clip.read_bytes()
        clip.unlink()


async def test_a_large_clip_is_flushed_while_it_arrives(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, size, __: told.append((start, size)))
    part = await written(clip, bytes(5 << 20))
    assert [] == told
    await part.write([bytes(5 << 20), bytes(7 << 20)])
    await part.restart()
    await part.write([bytes(9 << 20)])
    await part.commit()
    assert [(0, 16 << 20), (0, 8 << 20)] == told


async def test_a_clip_is_written_on_a_system_without_early_flushes(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for refused in (True, False):
        if refused:
            fail(monkeypatch, "posix_fadvise", errno.ENOSYS)
        else:
            monkeypatch.delattr(os, "posix_fadvise")
        await (await written(clip, bytes(9 << 20), overwrite=True)).commit()
        assert 9 << 20 == clip.stat().st_size


async def test_no_system_call_runs_on_the_event_loop(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: dict[str, threading.Thread] = {}
    for function in ("open", "write", "fsync", "link", "unlink", "close", "ftruncate"):
        real = getattr(os, function)

        def noted(*args: object, _name: str = function, _real: Callable[..., object] = real) -> object:
            threads[_name] = threading.current_thread()
            return _real(*args)

        monkeypatch.setattr(os, function, noted)
    part = await written(clip, b"data")
    await part.restart()
    await part.write([b"data"])
    await part.commit()
    assert {"open", "write", "fsync", "link", "unlink", "close", "ftruncate"} == set(threads)
    assert threading.current_thread() not in threads.values()


class Stuck:
    """Holds a system call until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
        self.entered = threading.Event()
        self.free = threading.Event()
        real = getattr(os, function)

        def held(*args: object) -> object:
            self.entered.set()
            assert self.free.wait(10)
            return real(*args)

        monkeypatch.setattr(os, function, held)

    async def begun(self) -> None:
        while not self.entered.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0)


async def use(part: PartFile, chunks: Sequence[bytes]) -> None:
    try:
        await part.open()
        await part.write(chunks)
        await part.commit()
    except BaseException:
        await part.abort()
        raise


async def cancelled_in(stuck: Stuck, part: PartFile, *, native: bool) -> None:
    """Use `part`, and cancel that while a thread is in the middle of a system call."""
    with anyio.CancelScope() as scope:
        task = asyncio.ensure_future(use(part, [b"data"])) if native else None
        async with anyio.create_task_group() as group:
            if task is None:
                group.start_soon(use, part, [b"data"])
            await stuck.begun()
            threading.Timer(0.02, stuck.free.set).start()
            (task or scope).cancel()
        if task is not None:
            with pytest.raises(asyncio.CancelledError):
                await task


@pytest.mark.parametrize("native", [True, False], ids=["task.cancel()", "cancel scope"])
@pytest.mark.parametrize("function", ["open", "write"])
async def test_a_cancelled_delivery_leaves_nothing_even_from_the_middle_of_a_system_call(
    clip: Path, monkeypatch: pytest.MonkeyPatch, function: str, *, native: bool
) -> None:
    with monkeypatch.context() as patch:
        await cancelled_in(Stuck(patch, function), part_file(clip), native=native)
    assert [] == names(clip.parent)


@pytest.mark.parametrize("native", [True, False], ids=["task.cancel()", "cancel scope"])
@pytest.mark.parametrize("function", ["fsync", "link"])
async def test_a_commit_that_is_cancelled_half_way_comes_about_as_a_whole(
    clip: Path, monkeypatch: pytest.MonkeyPatch, function: str, *, native: bool
) -> None:
    with monkeypatch.context() as patch:
        await cancelled_in(Stuck(patch, function), part_file(clip), native=native)
    assert ["clip.mp4"] == names(clip.parent)
    assert b"data" == clip.read_bytes()


async def test_a_commit_whose_scope_is_cancelled_half_way_still_returns_the_final_path(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, found = part_file(clip), list[Path | str]()

    async def commit() -> None:
        found.append(await part.commit())

    await part.write([b"data"])
    with monkeypatch.context() as patch:
        stuck = Stuck(patch, "fsync")
        async with anyio.create_task_group() as group:
            group.start_soon(commit)
            await stuck.begun()
            threading.Timer(0.02, stuck.free.set).start()
            group.cancel_scope.cancel()
    assert [clip] == found


async def test_a_task_cancelled_twice_still_tidies_up(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that shuts down cancels tasks that are already ending."""
    with monkeypatch.context() as patch:
        stuck = Stuck(patch, "write")
        task = asyncio.ensure_future(use(part_file(clip), [b"data"]))
        await stuck.begun()
        task.cancel()
        await asyncio.sleep(0)
        threading.Timer(0.05, stuck.free.set).start()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [] == names(clip.parent)


KILLED = """
import anyio, os, sys
from pathlib import Path
from venice_async.io.delivery.part_file import PartFile
async def main():
    part = PartFile(Path(sys.argv[1]), overwrite=False, job_key=sys.argv[2])
    await part.open()
    await part.write([b"half"])
    os.kill(os.getpid(), 9)
anyio.run(main)
"""


async def test_what_a_killed_process_left_is_removed_when_its_job_goes_on(clip: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(clip), KEY], check=False)  # noqa: S603, ASYNC221 - our own text; nothing else runs
    (left,) = names(clip.parent)
    part = await written(clip, b"whole")
    assert left not in names(clip.parent)
    await part.commit()
    assert ["clip.mp4"] == names(clip.parent)


async def test_what_another_job_left_or_a_living_one_writes_is_not_touched(clip: Path) -> None:
    other = part_path(clip, job_key("m", "other"))
    other.write_bytes(b"not ours")
    living = await written(clip, b"first")
    second = await written(clip, b"second")
    assert 3 == len(names(clip.parent))
    await living.abort()
    await second.abort()
    assert [other.name] == names(clip.parent)


async def test_part_files_are_kept_where_they_cannot_be_locked(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lock a dead file looks like a living one."""
    left = part_path(clip, KEY)
    left.write_bytes(b"half")

    def no_locks(*_: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.flock", no_locks)
    await (await written(clip, b"data")).commit()
    assert sorted(["clip.mp4", left.name]) == names(clip.parent)
