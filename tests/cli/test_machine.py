"""The machine the user has: no home folder, poor encodings, tables that spreadsheets wrote."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest

from venice_async.cli.batch_file import read_batch
from venice_async.cli.stdio import as_command

from .shell import COMMAND, Shell
from .venice import PUBLIC

CHEAP = ("-m", PUBLIC, "-p", "a fox", "--duration", "5s", "--resolution", "480p")


def _nobody(_: int) -> Any:
    raise KeyError


def test_without_a_home_folder_the_journal_is_asked_for_in_one_line_and_nothing_is_paid(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(pwd, "getpwuid", _nobody)
    before, wrong = shell.server.spent, []
    for home in (None, "relative", "/dev/null", "/proc/1"):
        monkeypatch.delenv("HOME", raising=False)
        if home is not None:
            monkeypatch.setenv("HOME", home)
        said = shell("generate", *CHEAP, "-q")
        if said.code not in {2, 9} or len(said.err.splitlines()) != 1 or "--no-journal" not in said.err:
            wrong.append((home, said))
        found = shell("doctor")
        if found.code not in {2, 9} or "✗ journal" not in found.out or "--no-journal" not in found.out:
            wrong.append((home, found))
    assert ([], before) == (wrong, shell.server.spent)
    assert 0 == shell("generate", *CHEAP, "--no-journal").code
    assert 0 == shell("models").code


def test_a_path_comes_back_byte_by_byte_whatever_stdout_can_encode(shell: Shell) -> None:
    wrong = []
    for number, (name, encoding) in enumerate(
        [
            ("雪".encode(), "utf-8"),
            ("雪".encode(), "cp1252"),
            ("é雪".encode(), "latin-1"),
            ("é雪".encode(), "ascii"),
            (b"caf\xe9", "utf-8"),
            (b"caf\xe9", "ascii"),
        ]
    ):
        for option in ([], ["--json"]):
            wanted = os.fsencode(shell.folder) + b"/" + name + f"-{number}{len(option)}.mp4".encode()
            command = ("generate", *CHEAP, "--no-journal", "-o", os.fsdecode(wanted), *option)
            code, out, err = shell.encoded(encoding, *command)
            said = os.fsencode(json.loads(out)["path"]) if option else out.removesuffix(b"\n")
            if (code, said) != (0, wanted) or (option and encoding != "utf-8" and not out.isascii()):
                wrong.append((wanted, encoding, option, code, out, err))
    assert [] == wrong


def test_what_an_encoding_lacks_is_written_in_another_way(shell: Shell) -> None:
    Path("jobs.jsonl").write_text(json.dumps({"model": PUBLIC, "prompt": "雪 \ud83e", "duration": "5s"}))
    commands = (
        ("--help",),
        ("doctor",),
        ("batch", "jobs.jsonl", "--into", "clips", "--yes", "--json"),
    )
    for command in commands:
        for encoding in ("ascii", "cp1252", "utf-16"):
            code, _, err = shell.encoded(encoding, *command)
            assert (0, False) == (code, b"Traceback" in err), (command, encoding, err)
    doctor = subprocess.run(  # noqa: S603 - our own command
        [*COMMAND, "doctor"], env=shell.environment(PYTHONIOENCODING="ascii"), capture_output=True, check=True
    )
    assert doctor.stdout.startswith(b"+ journal")


def test_a_command_line_to_paste_leads_a_shell_to_the_same_bytes() -> None:
    names = [b"a b.mp4", b"caf\xe9.mp4", b'it\'s \xe9 \\ "x".mp4', "雪.mp4".encode()]
    line = as_command(["printf", "%s\\n", *map(os.fsdecode, names)])
    ran = subprocess.run(["/bin/bash", "-c", line], capture_output=True, check=True)  # noqa: S603 - our own words
    assert names == ran.stdout.splitlines()


def _table(*rows: list[str], delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue()


def test_tables_are_read_as_spreadsheets_write_them(tmp_path: Path) -> None:
    header, row = ["key", "model", "prompt", "duration"], ["a", "m", "a fox, in snow; at noon", "5s"]
    plain = _table(header, row)
    tables = {
        "commas": plain,
        "semicolons": _table(header, row, delimiter=";"),
        "tabs": _table(header, row, delimiter="\t"),
        "a first line that tells the separator": "sep=;\r\n" + _table(header, row, delimiter=";"),
        "the same, quoted, and a tab": '"sep=\t"\n' + _table(header, row, delimiter="\t"),
        "empty rows": plain + ",,,\r\n\r\n,,,,\r\n",
        "blanks around names": _table([f" {name} " for name in header], row),
        "the line ends of an old Mac": plain.replace("\r\n", "\r"),
        "one column more that is empty": _table([*header, ""], [*row, ""]),
    }
    wanted = [("a", "m", "a fox, in snow; at noon", "5s")]
    found = {
        name: [
            (line.key, line.request.model, line.request.prompt, line.request.duration)
            for line in read_batch(text, tmp_path / "jobs.csv", {})
        ]
        for name, text in tables.items()
    }
    assert dict.fromkeys(tables, wanted) == found


def test_a_cell_may_hold_a_whole_picture_and_the_limit_of_others_stays(tmp_path: Path) -> None:
    picture = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(400_000)).decode()
    limit = csv.field_size_limit()
    text = _table(["model", "prompt", "image_url"], ["m", "rain", picture])
    [line] = read_batch(text, tmp_path / "jobs.csv", {})
    assert (picture, limit) == (line.request.image_url, csv.field_size_limit())


def test_the_number_of_a_line_counts_the_one_that_tells_the_separator(tmp_path: Path) -> None:
    [line] = read_batch("sep=;\nmodel;prompt\nm;fox\n", tmp_path / "jobs.csv", {})
    assert 3 == line.number


def test_files_in_utf_16_are_read_and_others_are_refused_with_what_to_do(shell: Shell) -> None:
    codes = []
    for encoding in ("utf-16", "utf-8-sig"):
        Path("jobs.txt").write_text(
            _table(["model", "prompt", "duration"], [PUBLIC, "雪", "5s"], delimiter="\t"), encoding=encoding
        )
        Path("jobs.jsonl").write_text(
            json.dumps({"model": PUBLIC, "prompt": "雪", "duration": "5s"}), encoding=encoding
        )
        codes += [
            shell("batch", name, "--into", "clips", "--yes").code for name in ("jobs.txt", "jobs.jsonl")
        ]
    assert [0, 0, 0, 0] == codes
    Path("jobs.csv").write_text("model,prompt\nm,caf\xe9", encoding="latin-1")
    said = shell("batch", "jobs.csv", "--into", "clips", "--yes")
    assert (2, True) == (said.code, "it is not UTF-8 text" in said.err and "Save it as UTF-8" in said.err)


def test_a_prompt_that_the_locale_cannot_read_is_sent_as_it_was_typed_or_not_at_all(shell: Shell) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    codes = []
    for prompt in ("雪".encode(), b"caf\xe9"):
        command: list[str | bytes] = [
            *COMMAND,
            "generate",
            "-m",
            PUBLIC,
            "-p",
            prompt,
            "--duration",
            "5s",
            "-o",
            "x.mp4",
            "--yes",
        ]
        done = subprocess.run(  # noqa: S603 - our own command
            command, env=shell.environment(**plain), cwd=shell.folder, capture_output=True, check=False
        )
        codes.append(
            (done.returncode, b"The prompt is no text in UTF-8. Nothing was charged." in done.stderr)
        )
    assert [(0, False), (2, True)] == codes
