"""`venice-async generate`, within this process."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from pathlib import Path

import pytest

from tests.cases import for_each
from venice_async.io.clock import SystemClock
from venice_async.sandbox import tiny_clip

from .shell import COMMAND, Shell
from .venice import BROKE, CONSENT, LOST, NEVER, PRIVATE, PUBLIC, REFUSED

CHEAP = ("--prompt", "a fox", "--duration", "5s", "--resolution", "480p")


@pytest.mark.parametrize("model", [PUBLIC, PRIVATE])
def test_a_clip_is_saved_and_its_path_is_all_that_goes_to_stdout(shell: Shell, model: str) -> None:
    said = shell("generate", "--model", model, *CHEAP, "-o", "fox.mp4")
    assert (0, f"{shell.folder / 'fox.mp4'}\n") == (said.code, said.out)
    assert tiny_clip(20_000) == Path("fox.mp4").read_bytes()


def test_without_a_terminal_each_change_is_a_plain_line(shell: Shell) -> None:
    said = shell("generate", "--model", PUBLIC, *CHEAP, "-o", "fox.mp4")
    assert "\x1b" not in said.err + said.out
    words = [line.partition("] ")[2].split(":")[0].split(",")[0] for line in said.err.splitlines()]
    assert ["", "asking the price", "queueing", "queued"] == words[:4]
    assert len(words) == len(said.err.splitlines())
    assert "saved and verified" in words


def test_a_clip_goes_to_stdout_alone_when_asked(shell: Shell) -> None:
    command = [*COMMAND, "generate", "-m", PUBLIC, *CHEAP, "-o", "-"]
    done = subprocess.run(command, env=shell.environment(), capture_output=True, check=False)  # noqa: S603 - our own command
    assert (0, tiny_clip(20_000)) == (done.returncode, done.stdout), done.stderr
    assert b"sent to stdout: 20.0 KB" in done.stderr
    assert 2 == shell("generate", "-m", PUBLIC, *CHEAP, "-o", "-", "--json").code
    assert [] == list(shell.folder.glob("*.mp4"))


def test_json_is_one_object_with_the_price_and_the_ticket_without_its_link(shell: Shell) -> None:
    said = shell("generate", "-m", PRIVATE, *CHEAP, "-o", "fox.mp4", "--json", "--quiet")
    assert (0, "") == (said.code, said.err)
    assert {"ok": True, "path": str(shell.folder / "fox.mp4"), "size": 20_000, "usd": 0.25} == {
        name: said.json[name] for name in ("ok", "path", "size", "usd")
    }
    assert {"sha256", "model", "queue_id", "seconds"} <= said.json.keys()
    assert "download_url" not in said.out


def test_the_journal_is_kept_for_its_owner_only_and_each_service_has_one_of_its_own(shell: Shell) -> None:
    shell("generate", "-m", PUBLIC, *CHEAP, "-o", "fox.mp4")
    assert 0o600 == stat.S_IMODE(shell.journal.stat().st_mode)
    assert 0o700 == stat.S_IMODE(shell.journal.parent.stat().st_mode)


def test_without_journal_and_sidecar_there_is_the_clip_alone(shell: Shell) -> None:
    shell("generate", "-m", PUBLIC, *CHEAP, "-o", "fox.mp4", "--no-journal", "--no-sidecar")
    assert ["fox.mp4"] == [path.name for path in shell.folder.iterdir()]
    shell(
        "generate", "-m", PUBLIC, *CHEAP, "--name", "{model}-{tag.mood}", "--tag", "mood=calm", "--no-journal"
    )
    name = f"{PUBLIC}-calm.mp4"
    assert ["fox.mp4", name, f"{name}.json"] == sorted(path.name for path in shell.folder.iterdir())


def test_a_refused_job_is_one_line_with_what_was_spent_and_exit_code_1(shell: Shell) -> None:
    said = shell("generate", "-m", REFUSED, *CHEAP, "-q")
    assert (1, "") == (said.code, said.out)
    assert 1 == len(said.err.splitlines())
    assert "Change the prompt or media" in said.err


def test_a_failure_is_an_object_for_scripts(shell: Shell) -> None:
    said = shell("generate", "-m", REFUSED, *CHEAP, "--json")
    assert (False, "ContentPolicyError", 422, 1) == (
        said.json["ok"],
        said.json["error"]["type"],
        said.json["error"]["status"],
        said.json["error"]["exit_code"],
    )
    assert REFUSED == said.json["ticket"]["model"]


def test_an_order_with_a_key_is_paid_for_once_and_jobs_shows_key_and_tags(shell: Shell) -> None:
    before = shell.server.spent
    order = ("--key", "order-4711", "--tag", "customer=acme", "--json", "-q")
    first = shell("generate", "-m", PUBLIC, *CHEAP, *order, "-o", "fox.mp4")
    again = shell("generate", "-m", PUBLIC, *CHEAP, *order, "-o", "other.mp4", "--max-usd", "0")
    assert (0, str(shell.folder / "fox.mp4")) == (again.code, again.json["path"]) == (0, first.json["path"])
    assert 0.25 == pytest.approx(shell.server.spent - before)
    other = ("--key", "order-4712", "--tag", "customer=acme", "-q")
    shell("generate", "-m", NEVER, *CHEAP, *other, "-o", "owl.mp4", "--timeout", "0.2")
    (job,) = shell("jobs", "--json").json
    assert ("order-4712", {"customer": "acme"}) == (job["key"], job["tags"])
    assert {"order-4712", "customer=acme"} <= set(shell("jobs").out.split())


@pytest.mark.parametrize("count", ["1", "2"])
def test_an_output_that_ends_with_a_slash_is_a_folder_and_one_that_is_missing_costs_nothing(
    shell: Shell, count: str
) -> None:
    before = shell.server.spent
    words = ("generate", "-m", PUBLIC, *CHEAP, "-o", "takes/", "--count", count)
    said = shell(*words)
    assert (2, before) == (said.code, shell.server.spent)
    assert "There is no folder" in said.err
    Path("takes").mkdir()
    assert 0 == shell(*words).code
    assert int(count) == len(list(Path("takes").glob("*.mp4")))


def test_takes_have_files_and_seeds_of_their_own_and_one_limit_for_their_price(shell: Shell) -> None:
    """More takes of an order with a key add to those that are paid for."""
    before = shell.server.spent
    takes = ("generate", "-m", PUBLIC, *CHEAP, "--field", "seed=7", "--key", "fox", "-o", "fox.mp4")
    assert 3 == shell(*takes, "--count", "3", "--max-usd", "0.74").code
    said = shell(*takes, "--count", "2", "--max-usd", "0.5")
    paths = [str(shell.folder / f"fox-{number}.mp4") for number in (1, 2)]
    assert (0, paths) == (said.code, sorted(said.out.splitlines()))
    assert f"{PUBLIC} · 2 takes · $0.25 each · $0.50 in all" == said.err.splitlines()[0]
    assert "2 made" == said.err.splitlines()[-1]
    shell(*takes, "--count", "3", "--max-usd", "0.25")
    seeds = [
        json.loads(Path(f"fox-{number}.mp4.json").read_text())["request"]["seed"] for number in (1, 2, 3)
    ]
    assert [7, 8, 9] == seeds
    assert 0.75 == pytest.approx(shell.server.spent - before)
    assert "takes one clip" in shell(*takes[:-1], "-", "--count", "2").err


def test_a_timeout_says_how_to_go_on_and_ends_with_6(shell: Shell) -> None:
    said = shell("generate", "-m", NEVER, *CHEAP, "-o", "fox.mp4", "--timeout", "0.2", "--json")
    job = said.json["ticket"]["queue_id"]
    assert 6 == said.code
    assert f"venice-async resume {job} -o fox.mp4" == said.json["resume"]
    assert f"Ticket: job {job} on {NEVER}, kept in the journal {shell.journal}" in said.err


def test_without_a_journal_the_ticket_goes_to_a_file_for_its_owner_only(shell: Shell) -> None:
    said = shell("generate", "-m", NEVER, *CHEAP, "-o", "fox.mp4", "--timeout", "0.2", "--no-journal")
    path = shell.folder / "fox.mp4.ticket.json"
    assert 6 == said.code
    assert "Resume: venice-async resume fox.mp4.ticket.json -o fox.mp4" in said.err
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert NEVER == json.loads(path.read_text())["model"]


def test_a_paid_request_without_an_answer_ends_with_7_and_is_not_sent_again(shell: Shell) -> None:
    before = shell.server.spent
    said = shell("generate", "-m", LOST, *CHEAP)
    assert 7 == said.code
    assert "It is not known whether the job was charged" in said.err
    assert 0.25 == pytest.approx(shell.server.spent - before)


def test_an_empty_balance_ends_with_3(shell: Shell) -> None:
    said = shell("generate", "-m", BROKE, *CHEAP, "-q")
    assert 3 == said.code
    assert "Nothing was charged" in said.err


def test_consent_is_refused_without_a_terminal(shell: Shell) -> None:
    before = shell.server.spent
    Path("face.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    said = shell("generate", "-m", CONSENT, *CHEAP, "--image", "face.png", "-q")
    assert (5, before) == (said.code, shell.server.spent)
    assert "Run this in a terminal" in said.err
    assert 1 == len(said.err.splitlines())


def test_a_price_above_the_threshold_needs_a_word_where_nobody_can_be_asked(shell: Shell) -> None:
    before = shell.server.spent
    said = shell("generate", "-m", PUBLIC, *CHEAP, "--ask-above", "0.2", "-q")
    assert (3, before) == (said.code, shell.server.spent)
    assert "The price is $0.25" in said.err
    assert "--yes" in said.err


@pytest.mark.parametrize("options", [("--yes",), ("--max-usd", "0.25")])
def test_with_that_word_it_goes_on(shell: Shell, options: tuple[str, ...]) -> None:
    assert 0 == shell("generate", "-m", PUBLIC, *CHEAP, "--ask-above", "0.2", *options).code


def test_a_price_above_the_limit_queues_nothing(shell: Shell) -> None:
    before = shell.server.spent
    said = shell("generate", "-m", PUBLIC, *CHEAP, "--max-usd", "0.24", "-q")
    assert (3, before) == (said.code, shell.server.spent)
    assert "The price of $0.25 is above the limit of $0.24" in said.err


BAD = {
    "no model": ("--prompt", "a fox"),
    "no prompt": ("-m", PUBLIC),
    "an unknown option": ("-m", PUBLIC, *CHEAP, "--durtion", "5s"),
    "an unknown model": ("-m", "no-such-model", *CHEAP),
    "an empty prompt": ("-m", PUBLIC, "-p", "", "--duration", "5s"),
    "a duration the model does not take": ("-m", PUBLIC, "-p", "a fox", "--duration", "7s"),
    "a missing file": ("-m", PUBLIC, *CHEAP, "--image", "missing.png"),
    "a folder that is missing": ("-m", PUBLIC, *CHEAP, "-o", "missing/fox.mp4"),
    "a file that exists": ("-m", PUBLIC, *CHEAP, "-o", "here.mp4"),
    "a field without a value": ("-m", PUBLIC, *CHEAP, "--field", "seed"),
    "a keyframe without a frame": ("-m", PUBLIC, *CHEAP, "--keyframe", "here.mp4"),
    "an element that is none": ("-m", PUBLIC, *CHEAP, "--element", "[1]"),
    "a timeout of nothing": ("-m", PUBLIC, *CHEAP, "--timeout", "0"),
    "a price that is no number": ("-m", PUBLIC, *CHEAP, "--max-usd", "much"),
    "two journals": ("-m", PUBLIC, *CHEAP, "--journal", "j.db", "--no-journal"),
    "two services": ("-m", PUBLIC, *CHEAP, "--sandbox", "--base-url", "http://127.0.0.1:1"),
    "a base URL that is none": ("-m", PUBLIC, *CHEAP, "--base-url", "nowhere"),
    "a speed of nothing": ("-m", PUBLIC, *CHEAP, "--sandbox", "--speed", "0"),
    "resolution with upscaling": ("-m", PUBLIC, *CHEAP, "--upscale-factor", "2"),
    "audio alone": ("-m", PUBLIC, *CHEAP, "--reference-audio", "https://example.com/a.mp3"),
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_clear_line_exit_code_2_and_nothing_spent(
    shell: Shell, arguments: tuple[str, ...]
) -> None:
    before = shell.server.spent
    Path("here.mp4").write_bytes(b"mine")
    said = shell("generate", *arguments, "-q")
    assert (2, "", 1, before) == (said.code, said.out, len(said.err.splitlines()), shell.server.spent)
    assert b"mine" == Path("here.mp4").read_bytes()


def test_no_key_ends_with_4_and_says_where_to_get_one(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VENICE_API_KEY")
    said = shell("generate", "-m", PUBLIC, *CHEAP)
    assert 4 == said.code
    assert "Set VENICE_API_KEY" in said.err


def test_a_wrong_key_ends_with_4_and_is_not_shown(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENICE_API_KEY", "wrong-key-123456")
    said = shell("generate", "-m", PUBLIC, *CHEAP, "--verbose")
    assert 4 == said.code
    assert "wrong-key" not in said.err + said.out


def test_a_wrong_option_is_json_too_where_json_is_asked_for(shell: Shell) -> None:
    said = shell("quote", "-m", PUBLIC, "--reference-seconds", "-1", "--json")
    assert (2, "UsageError", 2) == (said.code, said.json["error"]["type"], said.json["error"]["exit_code"])


@pytest.mark.parametrize(
    ("url", "said"),
    [("http://[::1", "is no URL"), ("http://localhost:x", "is no URL|must be"), ("nowhere", "must be")],
)
def test_a_base_url_that_is_none_is_one_clear_line(shell: Shell, url: str, said: str) -> None:
    answer = shell("generate", "-m", PUBLIC, "-p", "a fox", "--base-url", url, "-o", "fox.mp4")
    assert (2, 1) == (answer.code, len(answer.err.splitlines()))
    assert re.search(said, answer.err)


def test_a_place_that_is_not_the_api_is_called_wrongly_and_says_so(shell: Shell) -> None:
    wrong = shell.server.base_url.replace("/api/v1", "/v2")
    said = shell("quote", "-m", PUBLIC, "--duration", "5s", "--base-url", wrong)
    assert 2 == said.code
    assert "/api/v1" in said.err


@for_each(
    "url, code, said",
    [
        ("http://no-such-host.invalid/api/v1", 8, "and VENICE_BASE_URL, which leads to no-such-host.invalid"),
        ("{server}/", 1, "VENICE_BASE_URL, which leads to 127.0.0.1: a base URL usually ends in /api/v1"),
    ],
)
def test_a_base_url_that_leads_astray_is_named_with_its_host(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, url: str, code: int, said: str
) -> None:
    server = shell.server.base_url.removesuffix("/api/v1")
    monkeypatch.setenv("VENICE_BASE_URL", url.format(server=server))
    monkeypatch.setattr(SystemClock, "chance", lambda _: 0.0)  # so that a retry follows at once
    answer = shell("quote", "-m", PUBLIC, "--duration", "5s")
    assert (code, True) == (answer.code, said in answer.err), answer.err


def test_the_length_of_reference_clips_counts_in_the_price_that_is_agreed_to(shell: Shell) -> None:
    clip = (
        "--reference-video",
        "https://example.com/a.mp4",
        "--reference-image",
        "https://example.com/a.png",
    )
    wanted = ("-m", PUBLIC, "-p", "a fox", "--duration", "5s", *clip, "-o", "fox.mp4", "--max-usd", "0")
    assert "leaves out the reference clips" in shell("generate", *wanted).err
    assert "leaves out" not in shell("generate", *wanted, "--reference-seconds", "10").err


def test_a_clip_goes_to_a_url_which_is_what_stdout_says(shell: Shell) -> None:
    url = f"{shell.folder.as_uri()}/films/fox.mp4"
    said = shell("generate", "--model", PUBLIC, *CHEAP, "-o", url)
    assert (0, f"{url}\n") == (said.code, said.out)
    assert tiny_clip(20_000) == Path("films/fox.mp4").read_bytes()
    again = shell("generate", "--model", PUBLIC, *CHEAP, "-o", url, "--overwrite", "--json")
    assert (url, False) == (again.json["url"], "path" in again.json)
    assert 2 == shell("generate", "--model", PUBLIC, *CHEAP, "-o", "ftp://host/fox.mp4").code
