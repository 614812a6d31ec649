"""Commands as processes of their own, on pipes and on a terminal."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.programs import wait_until
from venice_async.cli.exit_codes import TABLE

from .shell import COMMAND, PATIENCE, ROOT, Shell, Terminal, beside, called, environment, read_until
from .venice import CONSENT, HELD, NEVER, PUBLIC, UNDER_WAY

CHEAP = ("-p", "a fox", "--duration", "5s", "--resolution", "480p")


def test_the_sandbox_prints_what_to_paste_at_once_does_what_a_file_says_and_ends_well(tmp_path: Path) -> None:
    (tmp_path / "faults.toml").write_text('[[faults]]\non = "models"\nstatus = 503\n')
    options = ("--port", "0", "--scenario", "faults.toml", "-v")
    process = beside("sandbox", *options, folder=tmp_path, env=environment(tmp_path))
    assert process.stdout is not None
    lines = [process.stdout.readline(), process.stdout.readline()]
    base_url = lines[0].strip().partition("=")[2]
    with pytest.raises(HTTPError, match="503") as answer:
        urlopen(f"{base_url}/models?key=venice-sandbox-key")  # noqa: S310 - http, on loopback
    answer.value.close()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert re.fullmatch(r"export VENICE_BASE_URL=http://127\.0\.0\.1:\d+/api/v1\n", lines[0])
    assert "export VENICE_API_KEY=venice-sandbox-key\n" == lines[1]
    assert re.search(r"debug: GET /api/v1/models: 503 in \d+ ms\n", err)
    assert 0 == process.returncode, err


def test_a_terminal_gets_a_bar_and_in_the_end_one_line(shell: Shell) -> None:
    with Terminal(
        "generate", "-m", UNDER_WAY, *CHEAP, "-o", "fox.mp4", folder=shell.folder, env=shell.environment()
    ) as it:
        it.until("working")
        it.until("━")
        shell.server.let_go.touch()
        assert 0 == it.end()
        assert "\x1b[" in it.text
        assert "✓ fox.mp4 · 20" in it.plain


def test_no_color_is_honoured_on_a_terminal(shell: Shell) -> None:
    env = shell.environment(NO_COLOR="1")
    with Terminal("generate", "-m", UNDER_WAY, *CHEAP, "-o", "fox.mp4", folder=shell.folder, env=env) as it:
        it.until("━")
        shell.server.let_go.touch()
        assert 0 == it.end()
        assert [] == re.findall(r"\x1b\[(?:3[0-9]|9[0-7])(?:;\d+)*m", it.text)


def test_ctrl_c_keeps_the_ticket_and_says_how_to_go_on(shell: Shell) -> None:
    process = beside(
        "generate", "-m", NEVER, *CHEAP, "-o", "fox.mp4", folder=shell.folder, env=shell.environment()
    )
    read_until(process.stderr, "queued: job")
    assert "1 unfinished is being watched by another process.\n" == shell("jobs").err
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (130, "") == (process.returncode, out)
    ticket = re.search(r"Ticket: job (\S+) on never-done, kept in the journal", err)
    assert ticket is not None
    assert f"Resume: venice-async resume {ticket[1]} -o fox.mp4" in err
    assert ticket[1] in shell("jobs").out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_sigterm_or_a_closed_terminal_does_the_same_with_an_exit_code_of_its_own(
    shell: Shell, number: int, code: int
) -> None:
    process = beside("generate", "-m", NEVER, *CHEAP, "--json", folder=shell.folder, env=shell.environment())
    read_until(process.stderr, "queued: job")
    process.send_signal(number)
    out, _ = process.communicate(timeout=PATIENCE)
    assert code == process.returncode
    assert '"stopped": true' in out
    assert "resume" in out


def test_ctrl_c_during_the_paid_request_waits_for_its_answer(shell: Shell) -> None:
    spent = shell.server.spent
    process = beside("generate", "-m", HELD, *CHEAP, folder=shell.folder, env=shell.environment())
    wait_until(lambda: process.poll() is not None or shell.server.spent > spent)  # the server has the request
    process.send_signal(signal.SIGINT)
    read_until(process.stderr, "its answer is awaited")
    shell.server.let_go.touch()
    _, err = process.communicate(timeout=PATIENCE)
    assert 130 == process.returncode
    assert f"on {HELD}, kept in the journal" in err


def test_a_second_ctrl_c_ends_at_once_and_says_that_the_outcome_is_unknown(shell: Shell) -> None:
    """The server never answers; what is left in the journal is the attempt."""
    spent = shell.server.spent
    process = beside("generate", "-m", HELD, *CHEAP, "--json", folder=shell.folder, env=shell.environment())
    wait_until(lambda: process.poll() is not None or shell.server.spent > spent)  # the server has the request
    process.send_signal(signal.SIGINT)
    read_until(process.stderr, "is awaited for up to 70 s after it is sent")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert (130, False) == (process.returncode, shell.server.let_go.exists())
    assert "It is not known whether the job was queued and paid for" in err
    assert "venice-async resume --all" in err
    assert {"ok": False, "stopped": True, "charged": None} == json.loads(out)
    assert "unknown" in shell("jobs").out


def test_a_batch_waits_for_the_answers_to_paid_requests_until_it_is_told_a_second_time(shell: Shell) -> None:
    spent = shell.server.spent
    lines = [json.dumps({"model": HELD, "prompt": f"a fox {n}", "duration": "5s"}) for n in range(2)]
    (shell.folder / "two.jsonl").write_text("\n".join(lines))
    options = ("--into", "clips", "--grace", "0", "--yes")
    process = beside("batch", "two.jsonl", *options, folder=shell.folder, env=shell.environment())
    wait_until(lambda: process.poll() is not None or shell.server.spent > spent + 1)
    process.send_signal(signal.SIGTERM)
    read_until(process.stderr, "Waiting for the answer to 2 paid requests, up to 70 s after sending")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert 143 == process.returncode
    assert "It is not known whether 2 jobs were queued and paid for" in err


def _face(folder: Path) -> str:
    (folder / "face.png").write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(64))
    return "face.png"


def test_the_policy_is_shown_whole_and_the_three_statements_are_asked_one_by_one(shell: Shell) -> None:
    arguments = ("generate", "-m", CONSENT, *CHEAP, "--image", _face(shell.folder), "-o", "fox.mp4")
    with Terminal(*arguments, folder=shell.folder, env=shell.environment()) as it:
        for question in ("accept the terms", "legal right", "will be screened"):
            it.until(question)
            it.until("[y/N] ")
            it.type("y\n")
        assert 0 == it.end()
        policy = " ".join(it.plain.split())
        assert (
            "By submitting media that shows a person you confirm that you accept the provider's terms"
            in policy
        )
        assert "and that it may be screened beforehand." in policy


@pytest.mark.parametrize(
    "answers", [["\n"], ["y\n", "n\n"], ["\x04"]], ids=["enter", "a late no", "end of input"]
)
def test_anything_but_three_times_yes_is_a_no(shell: Shell, answers: list[str]) -> None:
    before = shell.server.spent
    arguments = ("generate", "-m", CONSENT, *CHEAP, "--image", _face(shell.folder))
    with Terminal(*arguments, folder=shell.folder, env=shell.environment()) as it:
        for answer in answers:
            it.until("[y/N] ")
            it.type(answer)
        assert (5, before) == (it.end(), shell.server.spent)
        assert "declined" in it.plain


def test_who_declines_a_price_is_not_told_to_raise_it(shell: Shell) -> None:
    arguments = ("generate", "-m", PUBLIC, *CHEAP, "--ask-above", "0")
    with Terminal(*arguments, folder=shell.folder, env=shell.environment()) as it:
        it.until("[y/N] ")
        it.type("n\n")
        assert 3 == it.end()
        assert it.plain.split()[-5:] == ["was", "declined.", "Nothing", "was", "charged."]


def test_ctrl_c_at_a_question_ends_at_once_and_costs_nothing(shell: Shell) -> None:
    before = shell.server.spent
    arguments = ("generate", "-m", PUBLIC, *CHEAP, "--ask-above", "0")
    with Terminal(*arguments, folder=shell.folder, env=shell.environment()) as it:
        it.until("This costs $0.25. Go on? [y/N] ")
        it.process.send_signal(signal.SIGINT)
        assert (130, before) == (it.end(), shell.server.spent)
        assert re.search(r"\[y/N\] (\^C)?\r?\nInterrupted .* Nothing was charged", it.plain)


def test_help_lists_the_commands_the_exit_codes_and_how_to_begin(tmp_path: Path) -> None:
    said = called("--help", folder=tmp_path, env=environment(tmp_path)).out
    commands = (
        "generate",
        "batch",
        "quote",
        "models",
        "jobs",
        "resume",
        "upscale",
        "seedance",
        "doctor",
        "sandbox",
    )
    assert [] == [name for name in commands if not re.search(rf"^│ {name}\b", said, re.MULTILINE)]
    assert [] == [row for row in TABLE if f"{row.code:>3}  {row.text}" not in said]
    assert "  venice-async generate --sandbox -m wan-2-7-text-to-video" in said


def test_without_its_extra_the_command_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "cyclopts.py").write_text("raise ModuleNotFoundError(name='cyclopts')")
    env = {**environment(tmp_path), "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    said = called(folder=tmp_path, env=env)
    assert 2 == said.code
    assert "venice-async: the command line needs an extra: pip install 'venice-async[cli]'\n" == said.err


def test_the_command_line_alone_loads_neither_sandbox_nor_network_nor_database(tmp_path: Path) -> None:
    code = (
        "import sys; from venice_async.cli import main; main(['--version']);"
        "heavy = {'av', 'aiohttp', 'venice_async.sandbox', 'sqlite3'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code]
    said = subprocess.check_output(command, env=environment(tmp_path), text=True)  # noqa: S603 - ours
    assert ["venice-async 0.1.0", "[]"] == said.splitlines()


@pytest.mark.parametrize("command", [("batch", "-", "--into", "clips"), ("resume", "-")], ids=str)
def test_ctrl_c_ends_a_command_that_waits_for_stdin(shell: Shell, command: tuple[str, ...]) -> None:
    ours, theirs = os.pipe()
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*COMMAND, *command, "-v"],
        cwd=shell.folder,
        env=shell.environment(),
        stdin=ours,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(theirs, b"{")
    with process:
        wait_until(lambda: not select.select([ours], [], [], 0)[0])
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
        assert (130, "Interrupted.\n") == (process.wait(PATIENCE), said)
    os.close(ours)
    os.close(theirs)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize(
    "arguments",
    [("models",), ("models", "--json"), ("models", "--help"), ("generate", "-m", PUBLIC, *CHEAP, "-q")],
    ids=str,
)
def test_output_that_cannot_be_written_is_one_clear_line(shell: Shell, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        said = subprocess.run(  # noqa: S603 - our own command
            [*COMMAND, *arguments],
            env=shell.environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    line = "venice-async: The output cannot be written: No space left on device.\n"
    warnings = [one for one in said.stderr.splitlines(keepends=True) if one.startswith("warning: ")]
    assert (9, "".join([*warnings, line])) == (said.returncode, said.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_stderr_that_takes_nothing_costs_no_clip(shell: Shell, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        said = subprocess.run(  # noqa: S603 - our own command
            [*COMMAND, "generate", "-m", PUBLIC, *CHEAP, "-o", "fox.mp4"],
            env=shell.environment(PYTHONUNBUFFERED=unbuffered),
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            check=False,
        )
    assert (0, str(shell.folder / "fox.mp4")) == (said.returncode, said.stdout.strip())


def test_what_a_shell_started_in_the_background_is_interrupted_all_the_same(shell: Shell) -> None:
    line = f"trap '' INT; exec {shlex.join([*COMMAND, 'generate', '-m', NEVER, *CHEAP])}"
    with subprocess.Popen(  # noqa: S603 - our own command
        ["/bin/sh", "-c", line], env=shell.environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        read_until(process.stderr, "queued: job")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
        assert 130 == process.returncode


def test_what_ignores_the_end_of_its_terminal_goes_on(shell: Shell) -> None:
    line = f"trap '' HUP; exec {shlex.join([*COMMAND, 'generate', '-m', UNDER_WAY, *CHEAP, '-o', 'fox.mp4'])}"
    with subprocess.Popen(  # noqa: S603 - our own command
        ["/bin/sh", "-c", line], env=shell.environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        read_until(process.stderr, "queued: job")
        process.send_signal(signal.SIGHUP)
        shell.server.let_go.touch()
        process.communicate(timeout=PATIENCE)
        assert 0 == process.returncode


@pytest.mark.parametrize("module", ["venice_async", "venice_async.cli"])
def test_the_package_and_its_command_line_run_as_modules(module: str) -> None:
    command = [sys.executable, "-W", "error", "-m", module, "--version"]
    assert subprocess.check_output(command).startswith(b"venice-async ")  # noqa: S603 - our own command


def test_a_command_without_stdout_does_its_work(shell: Shell) -> None:
    line = f"exec {shlex.join([*COMMAND, 'quote', '-m', PUBLIC, '--duration', '5s'])} >&-"
    said = subprocess.run(  # noqa: S603 - our own command
        ["/bin/sh", "-c", line], env=shell.environment(), stderr=subprocess.PIPE, text=True, check=False
    )
    assert (0, "") == (said.returncode, said.stderr)
