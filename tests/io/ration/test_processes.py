"""Processes with the same journal share what the account may send; seen at the server, in real time."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Literal

import pytest

from tests.clients import until
from tests.forks import ROOT, start
from venice_async import Limits, VeniceClient, VeniceError
from venice_async.sandbox import RateLimits, Sandbox

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio
PATIENCE = 600.0  # seconds until a test that is stuck gives up; it takes two


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("window", ["fixed", "sliding"])
@pytest.mark.usefixtures("nursery")
async def test_two_processes_with_one_journal_use_up_a_limit_and_are_never_refused(
    tmp_path: Path, window: Literal["fixed", "sliding"]
) -> None:
    async with Sandbox(limits=RateLimits(queue=8, retrieve=12, window=window), speed=1000) as sandbox:

        def queued() -> list[int | None]:
            return [one.status for one in sandbox.requests if one.point == "queue"]

        command = [sys.executable, "-m", "tests.io.ration.sharer"]
        arguments = [str(tmp_path), sandbox.base_url, sandbox.api_key, "9"]
        processes = [start([*command, *arguments], cwd=ROOT, env=os.environ) for _ in range(2)]
        async with asyncio.timeout(PATIENCE):
            await until(lambda: len(queued()) >= 8)
        await asyncio.sleep(1)  # in which ten more jobs would like to be queued
        for process in processes:
            process.kill()
            process.wait()
        assert {200} == set(queued())  # more than eight if a slow machine got into another window
        assert [] == [one.point for one in sandbox.requests if one.status == 429]


async def test_several_keys_share_a_ration_where_they_are_named_as_of_one_account(tmp_path: Path) -> None:
    async with Sandbox() as sandbox:
        for key, account in (("k-1", "team"), ("k-2", "team"), ("k-3", None), ("k-4", None)):
            limits, journal = Limits(account=account), tmp_path / "jobs.db"
            async with VeniceClient(key, base_url=sandbox.base_url, journal=journal, limits=limits) as venice:
                with suppress(VeniceError):  # the sandbox does not know these keys
                    await venice.rate_limits()
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        assert 3 == len(connection.execute("SELECT account FROM rations").fetchall())
