"""Without a file descriptor one waits: those who have them give them back."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.io.answers import fail
from venice_async import UsageError
from venice_async.io.delivery.destination import check_destination
from venice_async.io.disk import deliveries_at_once
from venice_async.io.shielding import in_thread

pytestmark = pytest.mark.anyio


class Scarce:
    """Finds no descriptor so many times."""

    def __init__(self, times: int, code: int = errno.EMFILE) -> None:
        self.times, self.code, self.tried = times, code, 0

    def __call__(self) -> str:
        self.tried += 1
        if self.tried <= self.times:
            raise OSError(self.code, os.strerror(self.code))
        return "done"


async def test_what_finds_no_descriptor_is_tried_again_until_there_is_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for code in (errno.EMFILE, errno.ENFILE):
        scarce = Scarce(100, code)
        began = asyncio.get_running_loop().time()
        assert "done" == await in_thread(scarce)
        assert 90 < asyncio.get_running_loop().time() - began < 100
    assert 2 == len(caplog.records)
    assert "ulimit -n" in caplog.text


async def test_it_is_not_tried_for_ever_and_no_other_error_is_tried_again() -> None:
    for scarce, tried in ((Scarce(10_000), 606), (Scarce(1, errno.ENOSPC), 1)):
        with pytest.raises(OSError, match=os.strerror(scarce.code)):
            await in_thread(scarce)
        assert tried == scarce.tried


async def test_a_destination_is_not_refused_for_want_of_a_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([errno.EMFILE, errno.ENFILE])
    with monkeypatch.context() as patch:
        fail(patch, "open", errno.EMFILE, when=lambda _: next(left, None) is not None)
        assert tmp_path / "clip.mp4" == (await check_destination(tmp_path / "clip.mp4")).place
    with pytest.raises(UsageError):
        await check_destination(tmp_path / "gone" / "clip.mp4")


async def test_where_the_current_folder_is_gone_a_clip_that_would_be_in_it_is_refused(
    tmp_path: Path,
) -> None:
    here = Path.cwd()
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    try:
        (tmp_path / "gone").rmdir()
        with pytest.raises(UsageError, match="current folder is gone"):
            await check_destination("clip.mp4")
    finally:
        os.chdir(here)


def test_deliveries_take_half_of_the_descriptors_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    for limit in (2, 256, 1024, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        found.append(deliveries_at_once())
    assert [1, 64, 256, sys.maxsize] == found


BATCH = """
import asyncio, os, resource, sys, tempfile
from collections import Counter
from tests.venice import KEY, Venice, fault
from venice_async import Limits, VeniceClient, VideoRequest
from venice_async.sandbox import tiny_clip

JOBS, DESCRIPTORS = 60, 48
CLIP = tiny_clip(300_000)

async def serve(pipe):
    async def held(answer):
        yield answer[:200_000]
        await asyncio.sleep(0.4)
        yield answer[200_000:]

    async with Venice(clip=CLIP, polls=0, link=[fault(raw=held, times=JOBS)]) as server:
        os.write(pipe, server.base_url.encode())
        await asyncio.Event().wait()  # until it is killed

async def main(base_url):
    requests = [VideoRequest(model="model-private", prompt=f"p{i}", duration="5s") for i in range(JOBS)]
    limits = Limits(queue_per_minute=100_000, retrieve_per_minute=100_000)
    with tempfile.TemporaryDirectory() as folder:
        found = Counter()
        async with VeniceClient(KEY, base_url=base_url, limits=limits, journal=f"{folder}/jobs.db") as venice:
            async for outcome in venice.batch(requests, into=f"{folder}/clips"):
                found[str(outcome.error or "whole")] += 1
    print(dict(found))

read, write = os.pipe()
server = os.fork()
if server == 0:
    asyncio.run(serve(write))
    os._exit(0)
resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
try:
    asyncio.run(main(os.read(read, 100).decode()))
finally:
    os.kill(server, 9)
"""


def test_more_jobs_than_descriptors_all_bring_their_clip() -> None:
    found = subprocess.run(  # noqa: S603 - our own text
        [sys.executable, "-c", BATCH],
        capture_output=True,
        text=True,
        timeout=600,  # where it is stuck
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert ("{'whole': 60}\n", 0) == (found.stdout, found.returncode), found.stderr
