"""The commands that spend nothing: quote, models, jobs and doctor; and resume."""

from __future__ import annotations

import json
import re
import shlex
import socket
import stat
from pathlib import Path

import pytest

from venice_async import AccountLimits
from venice_async.cli.commands import doctor
from venice_async.cli.commands.doctor import _check_account

from .shell import KEY, Shell
from .venice import LOST, LOST_ONCE, NEVER, ODD, PRIVATE, PUBLIC

CHEAP = ("-p", "a fox", "--duration", "5s", "--resolution", "480p")


def _left_behind(shell: Shell, *more: str, to: str = "fox.mp4") -> str:
    """Return the id of a job that was queued and then given up."""
    said = shell("generate", "-m", NEVER, *CHEAP, "-o", to, "--timeout", "0.2", "--json", *more)
    job: str = said.json["ticket"]["queue_id"]
    return job


def test_the_doctor_soon_knows_that_nothing_answers(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api/v1"
        quiet = shell("doctor", "--base-url", url)
    refused = shell("doctor", "--base-url", url)
    assert (8, True) == (quiet.code, "✗ service  http://127.0.0.1" in quiet.out), quiet.out
    assert (8, True) == (refused.code, "✗ service  No connection was made" in refused.out), refused.out


def test_a_quote_is_the_price_alone(shell: Shell) -> None:
    assert "$0.25\n" == shell("quote", "-m", PUBLIC, "--duration", "5", "--resolution", "480p").out


def test_a_quote_for_upscaling_needs_the_clip_only(shell: Shell) -> None:
    said = shell(
        "quote", "-m", "topaz-video-upscale", "--video", "https://example.com/a.mp4", "--upscale-factor", "2"
    )
    assert 0 == said.code, said.err
    assert re.fullmatch(r"\$\d+\.\d+\n", said.out)


def test_models_can_be_filtered_and_priced(shell: Shell) -> None:
    found = shell("models", "--type", "text-to-video", "--private", "--json").json
    assert [(PRIVATE, 0.05)] == [(model["id"], model["from_usd"]) for model in found]


def test_models_without_a_terminal_are_lines_for_cut_and_grep(shell: Shell) -> None:
    lines = shell("models", "--search", "WAN-2-7", "--under", "0.2").out.splitlines()
    assert [PUBLIC, "wan-2-7-image-to-video"] == [line.split("\t")[0] for line in lines]


def test_models_are_chosen_by_what_they_accept_and_misspelt_names_get_suggestions(shell: Shell) -> None:
    found = shell("models", "--accepts", "image", "--under", "0.5", "--json").json
    assert found
    assert all("image" in model["accepts"] and model["from_usd"] <= 0.5 for model in found)
    said = shell("models", "--accepts", "imagee")
    assert (2, "Did you mean 'image'" in said.err) == (said.code, True), said.err
    assert (
        f"No model fits. Did you mean '{PUBLIC}'" in shell("models", "--search", "wan-2-7-txt-to-video").err
    )


def test_reconcile_says_what_became_of_a_lost_answer_and_resume_brings_its_clip(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 7 == shell("generate", "-m", LOST_ONCE, *CHEAP, "-o", "fox.mp4").code
    said = shell("reconcile")
    assert (2, True) == (said.code, "VENICE_ADMIN_KEY" in said.err)
    monkeypatch.setenv("VENICE_ADMIN_KEY", "venice-sandbox-admin-key")
    [found] = shell("reconcile", "--json").json
    assert ("charged", 0.25, LOST_ONCE) == (found["outcome"], found["usd"], found["ticket"]["model"])
    assert 0 == shell("resume", "--all").code
    assert 20_000 == Path("fox.mp4").stat().st_size
    assert "No paid request is of unknown outcome" in shell("reconcile").err


def test_models_that_are_offline_are_shown_when_asked_for(shell: Shell) -> None:
    assert "hunyuan" not in shell("models").out
    assert "hunyuan" in shell("models", "--all").out


def test_no_jobs_is_no_error_and_makes_no_journal(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VENICE_API_KEY")
    said = shell("jobs")
    assert (0, "", "Nothing is unfinished.\n") == (said.code, said.out, said.err)
    assert not shell.journal.exists()


def test_jobs_lists_what_is_unfinished_without_a_key_or_a_link(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _left_behind(shell)
    monkeypatch.delenv("VENICE_API_KEY")
    said = shell("jobs", "--json")
    assert [(job, "Waiting", str(shell.folder / "fox.mp4"))] == [
        (entry["ticket"]["queue_id"], entry["state"], entry["to"]) for entry in said.json
    ]
    assert "download_url" not in said.out
    assert job in shell("jobs").out


def test_a_request_whose_outcome_is_unknown_is_listed_as_such(shell: Shell) -> None:
    shell("generate", "-m", LOST, *CHEAP)
    assert "perhaps paid for" in shell("jobs").out
    assert 7 == shell("resume", "--all").code


def test_an_answer_that_nobody_understood_is_shown_with_how_to_make_a_ticket_of_it(shell: Shell) -> None:
    assert 7 == shell("generate", "-m", ODD, *CHEAP, "-o", "fox.mp4").code
    said = shell("jobs")
    assert '{"as": "job seventeen"}' in said.err
    ticket = shlex.quote(json.dumps({"model": ODD, "queue_id": "JOB"}))
    assert f"echo {ticket} | venice-async resume - -o {shell.folder / 'fox.mp4'}" in said.err
    assert ['{"as": "job seventeen"}'] == [entry["answer"] for entry in shell("jobs", "--json").json]


def test_a_paid_request_of_unknown_outcome_is_struck_once_a_person_says_so(shell: Shell) -> None:
    shell("generate", "-m", LOST, *CHEAP)
    [entry] = shell("jobs", "--json").json
    assert (0, "") == (shell("jobs", "--forget", entry["id"]).code, shell("jobs").out)
    said = shell("jobs", "--forget", entry["id"])
    assert (2, 1) == (said.code, len(said.err.splitlines()))
    assert "no paid request of unknown outcome" in said.err


def test_a_job_is_resumed_by_its_id_to_where_it_was_bound(shell: Shell) -> None:
    job = _left_behind(shell)
    before = shell.server.spent
    said = shell("resume", job, "--timeout", "0.2")
    assert (6, before) == (said.code, shell.server.spent)
    assert f"venice-async resume {job} -o {shell.folder / 'fox.mp4'}" in said.err


def test_a_ticket_is_resumed_from_a_file_and_from_stdin(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    _left_behind(shell, "--no-journal")
    text = Path("fox.mp4.ticket.json").read_text()
    assert 6 == shell("resume", "fox.mp4.ticket.json", "-o", "fox.mp4", "--timeout", "0.2").code
    monkeypatch.setattr("sys.stdin.read", lambda: text, raising=False)
    assert 6 == shell("resume", "-", "-o", "fox.mp4", "--timeout", "0.2").code


def test_everything_unfinished_is_resumed_at_once(shell: Shell) -> None:
    _left_behind(shell)
    _left_behind(shell, to="owl.mp4")
    said = shell("resume", "--all", "--timeout", "0.2", "--json")
    errors = [json.loads(line)["error"]["type"] for line in said.out.splitlines()]
    assert (6, ["JobTimeoutError"] * 2) == (said.code, errors)


@pytest.mark.parametrize(
    "arguments", [(), ("no-such-job",), ("--all", "job"), ("text.txt",), ("empty.txt",)], ids=str
)
def test_a_resume_of_nothing_is_one_clear_line(shell: Shell, arguments: tuple[str, ...]) -> None:
    Path("text.txt").write_text("not a ticket")
    Path("empty.txt").touch()
    said = shell("resume", *arguments, "-q")
    assert (2, "", 1) == (said.code, said.out, len(said.err.splitlines())), said.err


def test_the_doctor_finds_all_in_order(shell: Shell) -> None:
    said = shell("doctor")
    assert 0 == said.code, said.out
    assert ["journal", "key", "balance", "limits", "delivery", "models", "clock"] == re.findall(
        r"^[✓!✗] (\w+)", said.out, re.MULTILINE
    )


def test_the_doctor_says_what_to_do_about_a_wrong_key(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENICE_API_KEY", "wrong-key-123456")
    said = shell("doctor", "--json")
    key = next(finding for finding in said.json["findings"] if finding["what"] == "key")
    assert (4, False) == (said.code, key["ok"])
    assert key["advice"].startswith("Check the API key")
    assert KEY not in said.out


def test_the_doctor_tells_a_setting_that_makes_no_sense_from_a_key(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENICE_DAILY_USD", "five")
    said = shell("doctor")
    assert (2, True) == (said.code, "✗ settings VENICE_DAILY_USD" in said.out)
    monkeypatch.delenv("VENICE_API_KEY")
    said = shell("doctor")
    assert (4, True) == (said.code, "✗ key      There is no API key" in said.out)


def test_the_doctor_sees_a_journal_that_others_can_read(shell: Shell) -> None:
    _left_behind(shell)
    shell.journal.chmod(0o644)
    said = shell("doctor")
    assert "1 unfinished" in said.out or 9 == said.code
    assert 0o600 == stat.S_IMODE(shell.journal.stat().st_mode) or "chmod 600" in said.out


def test_the_doctor_compares_a_price_with_the_largest_balance_for_a_job_is_charged_to_one_currency() -> None:
    balances = {"DIEM": 0.4, "BUNDLED_CREDITS": 0.5, "USD": 0.6}
    _, poor, _ = _check_account(AccountLimits(access_permitted=True, balances=balances))
    _, rich, _ = _check_account(AccountLimits(access_permitted=True, balances=balances | {"USD": 1.0}))
    _, empty, _ = _check_account(AccountLimits(access_permitted=True, balances=dict.fromkeys(balances, 0.0)))
    assert [None, True, False] == [poor.ok, rich.ok, empty.ok]
    assert "one currency" in poor.advice
