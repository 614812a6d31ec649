"""One line of a batch becomes several, and what all of them would cost is known before the first dollar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cases import for_each
from venice_async import InvalidRequestError, UsageError
from venice_async.cli.batch_file import Line, Variants, read_batch

from .shell import Shell
from .venice import PUBLIC


def _lines(
    *rows: dict[str, Any],
    template: str | None = None,
    vary: tuple[str, ...] = (),
    count: int = 1,
    seed: Any = None,
) -> list[Line]:
    text = "\n".join(map(json.dumps, rows))
    wanted = Variants(prompt=template, vary=vary, count=count)
    defaults = {"model": "m", **({} if seed is None else {"extra": {"seed": seed}})}
    return read_batch(text, Path("jobs.jsonl"), defaults, wanted)


def test_every_combination_of_values_is_made_under_a_key_of_its_own() -> None:
    lines = _lines({"prompt": "a fox", "key": "fox"}, vary=("seed=1,2", "aspect_ratio=16:9,9:16"))
    assert [
        ("fox seed=1 aspect_ratio=16:9", 1, "16:9"),
        ("fox seed=1 aspect_ratio=9:16", 1, "9:16"),
        ("fox seed=2 aspect_ratio=16:9", 2, "16:9"),
        ("fox seed=2 aspect_ratio=9:16", 2, "9:16"),
    ] == [(line.key, line.request.extra["seed"], line.request.aspect_ratio) for line in lines]


def test_a_list_in_a_line_stands_for_several_where_a_field_takes_one_value() -> None:
    urls = ["https://example.com/a.png", "https://example.com/b.png"]
    lines = _lines({"prompt": ["a fox", "an owl"], "duration": [5, 8], "reference_image_urls": urls})
    assert [("a fox", "5s"), ("a fox", "8s"), ("an owl", "5s"), ("an owl", "8s")] == [
        (line.request.prompt, line.request.duration) for line in lines
    ]
    assert {2} == {len(line.request.reference_image_urls) for line in lines}


def test_takes_have_keys_of_their_own_and_seeds_that_follow_each_other() -> None:
    row = {"prompt": "a fox", "key": "fox"}
    assert [("fox", {}), ("fox take 2", {}), ("fox take 3", {})] == [
        (line.key, line.request.extra) for line in _lines(row, count=3)
    ]
    assert [{"seed": 7}, {"seed": 8}] == [line.request.extra for line in _lines(row, count=2, seed=7)]
    assert [{"seed": 1}, {"seed": 2}] == [line.request.extra for line in _lines({**row, "seed": 1}, count=2)]


def test_a_prompt_is_made_of_columns_which_are_not_sent() -> None:
    rows = {"animal": "fox", "place": "Venice", "duration": "5s"}, {"prompt": "its own {one}"}
    lines = _lines(*rows, template="A {animal} in {place}, {duration} long {{sic}}")
    assert [("A fox in Venice, 5s long {sic}", "5s", {}), ("its own {one}", None, {})] == [
        (line.request.prompt, line.request.duration, line.request.extra) for line in lines
    ]
    assert ["A fox", "A owl"] == [
        line.request.prompt for line in _lines({}, template="A {animal}", vary=("animal=fox,owl",))
    ]


@for_each(
    "options",
    [
        {"template": "A {animal"},
        {"template": "A {}"},
        {"template": "A {a.b}"},
        {"vary": ("seed",)},
        {"vary": ("seed=",)},
        {"vary": ("seed=1", "seed=2")},
        {"template": "A {animal}"},
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(options: dict[str, Any]) -> None:
    with pytest.raises((UsageError, InvalidRequestError)):
        _lines({"duration": "5s"}, **options)


def test_the_columns_name_and_max_usd_are_for_us_and_not_sent() -> None:
    [line] = _lines({"prompt": "a fox", "name": "fox", "max_usd": "$0.50"})
    assert ("fox", 0.5, {}) == (line.key, line.max_usd, line.request.extra)
    with pytest.raises(InvalidRequestError, match="max_usd is no sum"):
        _lines({"prompt": "a fox", "max_usd": "cheap"})


def test_a_dry_run_prices_all_by_model_and_queues_nothing(shell: Shell) -> None:
    before = shell.server.spent
    rows = [
        {"model": PUBLIC, "duration": "5s"},
        {"model": "no-such-model", "duration": "5s", "prompt": "a fox"},
    ]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ("--into", "clips", "--resolution", "480p", "-p", "a fox", "--count", "4", "--dry-run")
    said = shell("batch", "jobs.jsonl", *arguments)
    assert (2, f"{PUBLIC}\t4\t$0.25\t$1.00\nno-such-model\t4\t?\t?\n") == (said.code, said.out)
    assert "4 of 8 clips have a price: $1.00 in all" in said.err
    assert 1 == said.err.count(
        "line 2 cannot be priced: Invalid request parameters: model: Specified model not"
    )
    Path("jobs.jsonl").write_text(json.dumps(rows[0]))
    said = shell("batch", "jobs.jsonl", *arguments, "--budget", "0.75", "--json")
    assert (3, 1.0, 4) == (said.code, said.json["usd"], said.json["clips"])
    assert "$0.25 above the budget of $0.75" in said.err
    assert 0 == shell("batch", "jobs.jsonl", *arguments).code
    assert (before, False) == (shell.server.spent, Path("clips").exists())


def test_takes_become_clips_and_a_line_may_have_a_limit_of_its_own(shell: Shell) -> None:
    rows = [{"prompt": "a fox", "key": "fox"}, {"prompt": "an owl", "key": "owl", "max_usd": 0.1}]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shared = ("--into", "clips", "-m", PUBLIC, "--duration", "5s", "--resolution", "480p", "--budget", "9")
    said = shell("batch", "jobs.jsonl", *shared, "--count", "2")
    outcomes = {outcome["key"]: outcome for outcome in map(json.loads, said.out.splitlines())}
    assert {"fox": True, "fox take 2": True, "owl": False, "owl take 2": False} == {
        key: outcome["ok"] for key, outcome in outcomes.items()
    }
    assert "above the limit of $0.10 for this request" in outcomes["owl"]["error"]["message"]
    assert (3, 2) == (said.code, len(list(Path("clips").glob("*.mp4"))))
