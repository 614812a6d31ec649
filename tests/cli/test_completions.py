"""What a shell completes: models by the catalogue, and jobs by the journal."""

from __future__ import annotations

import pytest

from venice_async.cli.app import app

from .shell import Shell
from .venice import NEVER, PUBLIC


def _offered(shell: Shell, *words: str) -> list[str]:
    said = shell("__complete", *words)
    assert 0 == said.code
    return [line.split("\t")[0] for line in said.out.splitlines() if line and not line.startswith("\x1f")]


def test_models_are_completed_and_kept_for_a_day(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(shell.folder / "cache"))
    found = _offered(shell, "generate", "--model", "wan")
    assert PUBLIC in found
    monkeypatch.setenv("VENICE_API_KEY", "wrong")
    assert found == _offered(shell, "quote", "-m", "")
    [kept] = (shell.folder / "cache" / "venice-async").iterdir()
    kept.unlink()
    assert [] == _offered(shell, "quote", "-m", "")
    assert PUBLIC in _offered(shell, "generate", "--sandbox", "--model", "")


def test_unfinished_jobs_and_keys_are_completed_where_they_are_meant(shell: Shell) -> None:
    assert [] == _offered(shell, "resume", "")
    cheap = ("--duration", "5s", "--resolution", "480p", "--timeout", "0.2", "--json")
    said = shell("generate", "-m", NEVER, "-p", "a fox", "-o", "fox.mp4", "--key", "order-1", *cheap)
    job = said.json["ticket"]["queue_id"]
    assert [job] == _offered(shell, "resume", "")
    assert [job] == _offered(shell, "jobs", "--forget", "")
    assert f"{job}\torder-1: a fox" in shell("__complete", "resume", "").out
    assert ["order-1"] == _offered(shell, "jobs", "--all", "--key", "ord")


def test_the_script_of_each_shell_asks_for_them() -> None:
    for shell in ("bash", "zsh", "fish"):
        script = app.generate_completion(prog_name="venice-async", shell=shell)  # pyright: ignore[reportArgumentType]
        assert "__complete" in script, shell
