"""`venice-async batch`: from a file to clips, within a budget, and on again after an end."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.programs import wait_until

from .shell import PATIENCE, Said, Shell, beside, read_until
from .venice import NEVER, PRIVATE, PUBLIC, REFUSED, UNDONE

SHARED = ("--duration", "5s", "--resolution", "480p", "--into", "clips")


def _file(*lines: dict[str, Any] | str, name: str = "jobs.jsonl") -> str:
    Path(name).write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return name


def _outcomes(said: Said) -> list[dict[str, Any]]:
    return sorted((json.loads(line) for line in said.out.splitlines()), key=lambda outcome: outcome["line"])


def test_each_line_becomes_a_clip_and_an_outcome(shell: Shell) -> None:
    jobs = _file({"model": PUBLIC, "prompt": "a fox", "key": "fox"}, {"model": PRIVATE, "prompt": "an owl"})
    said = shell("batch", jobs, *SHARED, "--budget", "1")
    assert 0 == said.code, said.err
    assert [(1, "fox", True, 0.25), (2, None, True, 0.25)] == [
        (outcome["line"], outcome.get("key"), outcome["ok"], outcome["usd"]) for outcome in _outcomes(said)
    ]
    assert {Path(outcome["path"]) for outcome in _outcomes(said)} == set(
        (shell.folder / "clips").glob("*.mp4")
    )
    assert "2 made · $0.50 of $1.00" in said.err


def test_a_failure_is_an_outcome_and_stops_nothing_else(shell: Shell) -> None:
    jobs = _file({"model": REFUSED, "prompt": "a fox"}, {"model": PUBLIC, "prompt": "an owl"})
    said = shell("batch", jobs, *SHARED, "--budget", "1", "--results", "results.jsonl")
    assert (1, "") == (said.code, said.out)
    outcomes = sorted(
        map(json.loads, Path("results.jsonl").read_text().splitlines()), key=lambda o: o["line"]
    )
    assert [False, True] == [outcome["ok"] for outcome in outcomes]
    assert "ContentPolicyError" == outcomes[0]["error"]["type"]
    assert "1 made, 1 failed" in said.err


def test_a_line_above_a_limit_other_than_the_budget_is_told_by_itself(shell: Shell) -> None:
    dear = {"model": PUBLIC, "prompt": "a fox", "max_usd": 0.01}
    said = shell("batch", _file(dear, {"model": PUBLIC, "prompt": "an owl"}), *SHARED, "--budget", "0.1")
    assert 3 == said.code
    assert "1 ✗ The quote is $0.25, above the limit of $0.01 for this request" in said.err
    assert "1 would cost more than is left of $0.10, and were not charged: raise --budget." in said.err


def test_a_second_run_pays_for_nothing_that_is_there(shell: Shell) -> None:
    jobs = _file(*({"model": PUBLIC, "prompt": f"fox {number}"} for number in range(4)))
    before = shell.server.spent
    first = shell("batch", jobs, *SHARED, "--budget", "1")
    second = shell("batch", jobs, *SHARED, "--budget", "1")
    assert (0, 0) == (first.code, second.code)
    assert 1.0 == pytest.approx(shell.server.spent - before)
    assert ("4 made · $1.00 of $1.00", "4 were there already, $0.00 now · $1.00 of $1.00") == (
        first.err.splitlines()[-1],
        second.err.splitlines()[-1],
    )
    assert [o["path"] for o in _outcomes(first)] == [o["path"] for o in _outcomes(second)]


def test_the_budget_is_never_exceeded_and_what_it_does_not_reach_ends_with_3(shell: Shell) -> None:
    jobs = _file(*({"model": PUBLIC, "prompt": f"fox {number}"} for number in range(6)))
    before = shell.server.spent
    said = shell("batch", jobs, *SHARED, "--budget", "0.80")
    assert 3 == said.code
    assert 0.75 == pytest.approx(shell.server.spent - before)
    assert 3 == sum(outcome["ok"] for outcome in _outcomes(said))
    assert {"Raise --budget, or ask for less"} == {
        outcome["error"]["hint"] for outcome in _outcomes(said) if not outcome["ok"]
    }
    assert 1 == said.err.count("3 would cost more than is left of $0.80, and were not charged")


def test_without_a_budget_a_dear_batch_needs_a_word(shell: Shell) -> None:
    jobs = _file(*({"model": PUBLIC, "prompt": f"fox {number}"} for number in range(5)))
    before = shell.server.spent
    said = shell("batch", jobs, *SHARED)
    assert (3, before) == (said.code, shell.server.spent)
    assert "The price is $1.25" in said.err


def test_interrupted_and_run_again_every_clip_is_there_and_none_is_paid_twice(shell: Shell) -> None:
    models = [PUBLIC] + [UNDONE] * 11  # so that one is done, and two are under way, when it is interrupted
    jobs = _file(*({"model": model, "prompt": f"fox {number}"} for number, model in enumerate(models)))
    before = shell.server.spent
    arguments = ("batch", jobs, *SHARED, "--budget", "3", "--concurrency", "3", "--grace", "0")
    process = beside(*arguments, folder=shell.folder, env=shell.environment())
    read_until(process.stdout, "")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert 130 == process.returncode, err
    assert "Run the same command again to go on" in err
    shell.server.let_go.touch()
    again = shell("batch", jobs, *SHARED, "--budget", "3")
    assert (0, [True] * 12) == (again.code, [outcome["ok"] for outcome in _outcomes(again)]), again.err
    assert 3.0 == pytest.approx(shell.server.spent - before)


def test_without_a_journal_the_tickets_that_are_handed_over_go_to_a_file(shell: Shell) -> None:
    jobs = _file({"model": NEVER, "prompt": "a fox"}, {"model": NEVER, "prompt": "an owl"})
    arguments = ("batch", jobs, *SHARED, "--budget", "1", "--no-journal", "--grace", "0", "--verbose")
    process = beside(*arguments, folder=shell.folder, env=shell.environment())
    for _ in range(2):
        read_until(process.stderr, "Queued as")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert 143 == process.returncode, err
    assert "Resume: venice-async resume clips/venice.ticket.json -o clips" in err
    tickets = (shell.folder / "clips" / "venice.ticket.json").read_text().splitlines()
    assert [NEVER, NEVER] == [json.loads(ticket)["model"] for ticket in tickets]


def test_the_report_is_written_beside_the_clips(shell: Shell) -> None:
    jobs = _file(
        {"model": PUBLIC, "prompt": "a picture of a fox in <snow>"}, {"model": REFUSED, "prompt": "an owl"}
    )
    said = shell("batch", jobs, *SHARED, "--budget", "1", "--report")
    page = Path("clips/report.html").read_text(encoding="utf-8")
    assert f"Report: {Path('clips/report.html')}" in said.err
    assert "a picture of a fox in \\u003csnow>" in page
    assert "an owl" in page


def test_the_report_of_a_second_run_has_the_times_of_the_first(shell: Shell) -> None:
    jobs = _file({"model": PUBLIC, "prompt": "a fox", "key": "fox", "tags": {"film": "dawn"}})
    reports = []
    for _ in range(2):
        assert 0 == shell("batch", jobs, *SHARED, "--budget", "1", "--report").code
        page = Path("clips/report.html").read_text(encoding="utf-8")
        reports.append(json.loads(page.partition('id="data">')[2].partition("</script>")[0]))
    (first,), (second,) = (report["rows"] for report in reports)
    assert ("fox", {"film": "dawn"}) == (second["key"], second["tags"])
    assert abs(first["took"] - second["took"]) < 1
    assert reports[1]["finished"] <= reports[0]["finished"]
    assert second["took"] <= reports[1]["finished"] - reports[1]["started"] + 0.01


def test_a_table_does_as_well(shell: Shell) -> None:
    table = _file("key,model,prompt,audio", f'one,{PUBLIC},"a fox, running",no', name="jobs.csv")
    said = shell("batch", table, *SHARED, "--budget", "1")
    assert (0, "one") == (said.code, _outcomes(said)[0]["key"]), said.err


BAD = {
    "no such file": ("missing.jsonl",),
    "an empty file": (_EMPTY := "empty.jsonl",),
    "a line that is no JSON": ("broken.jsonl",),
    "a line without a model": ("nameless.jsonl",),
    "two lines of one name": ("twins.jsonl",),
    "a file that is missing": ("pictureless.jsonl",),
    "results where nothing can be": ("good.jsonl", "--results", "missing/results.jsonl"),
    "a folder that is a file": ("good.jsonl", "--into", "empty.jsonl"),
    "no jobs at once": ("good.jsonl", "--concurrency", "0"),
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_clear_line_exit_code_2_and_nothing_spent(
    shell: Shell, arguments: tuple[str, ...]
) -> None:
    before = shell.server.spent
    good = {"model": PUBLIC, "prompt": "a fox", "duration": "5s"}
    _file(good, name="good.jsonl")
    _file(name=_EMPTY)
    _file(good, "{", name="broken.jsonl")
    _file(good, {"prompt": "an owl"}, name="nameless.jsonl")
    _file({**good, "key": "a"}, {**good, "key": "a"}, name="twins.jsonl")
    _file({**good, "image_url": "missing.png"}, name="pictureless.jsonl")
    into = () if "--into" in arguments else ("--into", "clips")
    said = shell("batch", *arguments, *into, "-q")
    assert (2, "", 1, before) == (said.code, said.out, len(said.err.splitlines()), shell.server.spent), (
        said.err
    )


def test_every_bad_line_is_named(shell: Shell) -> None:
    jobs = _file(
        {"prompt": "a"}, {"model": PUBLIC, "prompt": ""}, {"model": PUBLIC, "prompt": "b", "audio": "maybe"}
    )
    said = shell("batch", jobs, *SHARED)
    assert ["line 1", "line 2", "line 3"] == [f"line {n}" for n in (1, 2, 3) if f"line {n}: " in said.err]


@pytest.mark.parametrize("journal", [(), ("--no-journal",)], ids=["journal", "tickets"])
def test_ctrl_c_hands_over_every_job_that_is_paid_for(shell: Shell, journal: tuple[str, ...]) -> None:
    jobs = _file(*({"model": NEVER, "prompt": f"fox {number}"} for number in range(40)))
    before = shell.server.spent
    arguments = ("batch", jobs, *SHARED, "--budget", "99", "--grace", "0.1", "--concurrency", "30", *journal)
    process = beside(*arguments, folder=shell.folder, env=shell.environment())
    wait_until(lambda: process.poll() is not None or shell.server.spent - before > 29.5 * 0.25)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert 130 == process.returncode, err
    assert "30 go on at Venice, 10 were not queued." in err
    if journal:
        assert 30 == len(Path("clips/venice.ticket.json").read_text().splitlines())
    else:
        assert 30 == len(shell("jobs", "--json").json)


def test_a_batch_goes_to_a_url_and_a_second_run_pays_for_nothing(shell: Shell) -> None:
    jobs = _file({"model": PUBLIC, "prompt": "a fox"}, {"model": PRIVATE, "prompt": "an owl"})
    into = f"{shell.folder.as_uri()}/films/"
    first = shell("batch", jobs, *SHARED[:-2], "-o", into, "--budget", "1")
    second = shell("batch", jobs, *SHARED[:-2], "--into", into, "--budget", "1")
    urls = {(shell.folder / "films" / path.name).as_uri() for path in Path("films").glob("*.mp4")}
    assert (0, 0, 2) == (first.code, second.code, len(urls))
    assert urls == {o["url"] for o in _outcomes(first)} == {o["url"] for o in _outcomes(second)}
    refused = shell("batch", jobs, *SHARED[:-2], "--into", into, "--budget", "1", "--report")
    assert 2 == refused.code
    assert "--report needs a folder" in refused.err
