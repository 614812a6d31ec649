"""The parts of the command line that need no command: exit codes, files of requests, windows, words."""

from __future__ import annotations

import json
import re
import shlex
import sys
from errno import EACCES, ENOENT
from io import StringIO
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

import venice_async
from tests.cases import for_each
from venice_async import VeniceError
from venice_async.cli import main
from venice_async.cli.batch_file import read_batch, unknown_fields
from venice_async.cli.exit_codes import TABLE, exit_code, hint
from venice_async.cli.options import Output
from venice_async.cli.request_options import named_fields
from venice_async.cli.screen.board import Board, left, line, part
from venice_async.cli.screen.screen import Screen, at_words, printable
from venice_async.errors import BadRequestError, InvalidRequestError, TransportError, UsageError
from venice_async.media import Media
from venice_async.results import Ticket
from venice_async.sansio.job.states import Downloading, Waiting

TICKET = Ticket(model="m", queue_id="q")
PUBLIC = [getattr(venice_async, name) for name in venice_async.__all__]
ERRORS = [kind for kind in PUBLIC if isinstance(kind, type) and issubclass(kind, VeniceError)]


@for_each("kind", ERRORS)
def test_every_error_has_an_exit_code_of_the_table(kind: type[VeniceError]) -> None:
    assert exit_code(kind("it failed")) in {row.code for row in TABLE} - {0}


@for_each(
    "name, code",
    [
        ("JobFailedError", 1),
        ("ContentPolicyError", 1),
        ("UsageError", 2),
        ("InvalidRequestError", 2),
        ("PaymentRequiredError", 3),
        ("BudgetExceededError", 3),
        ("AuthenticationError", 4),
        ("PermissionDeniedError", 4),
        ("ConsentRequiredError", 5),
        ("ConsentDeclinedError", 5),
        ("JobTimeoutError", 6),
        ("QueueOutcomeUnknownError", 7),
        ("ConnectError", 8),
        ("ServerError", 8),
        ("TruncatedError", 9),
        ("JournalError", 9),
    ],
)
def test_the_exit_code_tells_what_went_wrong(name: str, code: int) -> None:
    assert code == exit_code(getattr(venice_async, name)("it failed"))


def test_an_output_that_cannot_be_written_ends_with_9_and_one_that_is_no_use_with_2() -> None:
    found = {}
    for name, cause in {
        "denied": PermissionError(EACCES, "no"),
        "missing": FileNotFoundError(ENOENT, "no"),
    }.items():
        error = UsageError("The clip cannot be written")
        error.__cause__ = cause
        found[name] = exit_code(error)
    assert {"denied": 9, "missing": 2} == found


def test_a_bad_request_is_a_usage_error_until_there_is_a_job() -> None:
    assert (2, 1) == (exit_code(BadRequestError("no")), exit_code(BadRequestError("no").with_ticket(TICKET)))


@for_each("kind", ERRORS)
def test_hints_speak_of_the_command_line_and_not_of_python(kind: type[VeniceError]) -> None:
    said = hint(kind("it failed"))
    assert [] == [
        word
        for word in ("max_usd", "resume(", "on_consent", "overwrite=", "VideoModel", "Media(")
        if word in said
    ]


def _read(tmp_path: Path, text: str, name: str = "jobs.jsonl", **defaults: Any) -> list[Any]:
    return read_batch(text, tmp_path / name, defaults)


@for_each("item, near", [("sed=7", "seed"), ("resolutoin=480p", "resolution")])
def test_a_field_that_is_like_a_known_one_is_refused_and_can_be_sent_all_the_same(
    item: str, near: str
) -> None:
    with pytest.raises(InvalidRequestError, match=f"is no known field, and '{near}' may be meant"):
        named_fields([item])
    name = item.partition("=")[0]
    assert {"extra": {name: "x"}} == named_fields([f'extra={{"{name}": "x"}}'])
    assert {"extra": {"seed": 7, "style": "ink"}} == named_fields(["seed=7", "style=ink"])


def test_lines_keep_their_numbers_past_blanks_and_comments(tmp_path: Path) -> None:
    text = '# mine\n\n{"model": "m", "prompt": "a"}\n{"model": "m", "prompt": "b", "id": 7}\n'
    assert [(3, None), (4, "7")] == [(item.number, item.key) for item in _read(tmp_path, text)]


def test_what_a_line_leaves_out_is_filled_in_and_what_it_says_stays(tmp_path: Path) -> None:
    text = '{"prompt": "a"}\n{"prompt": "b", "model": "own", "duration": 8}'
    requests = [item.request for item in _read(tmp_path, text, model="m", duration="5s")]
    assert [("m", "5s"), ("own", "8s")] == [(request.model, request.duration) for request in requests]


def test_fields_nobody_knows_yet_are_sent_as_they_are(tmp_path: Path) -> None:
    [item] = _read(tmp_path, '{"model": "m", "prompt": "a", "seed": 7, "extra": {"style": "ink"}}')
    assert {"seed": 7, "style": "ink"} == item.request.extra


def test_media_are_files_beside_the_batch_file_or_urls(tmp_path: Path) -> None:
    (tmp_path / "hero.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    text = json.dumps(
        {
            "model": "m",
            "image": "hero.png",
            "end_image_url": "https://example.com/b.png",
            "reference_image_urls": ["hero.png"],
            "elements": [{"frontal_image_url": "hero.png"}],
            "keyframes": [{"image_url": "hero.png", "frame_index": 0}],
            "video_references": [{"video_url": "hero.png", "ref_name": "hero"}],
        }
    )
    [item] = _read(tmp_path, text)
    hero = Media(tmp_path / "hero.png")
    request = item.request
    assert (hero, "https://example.com/b.png") == (request.image_url, request.end_image_url)
    assert hero == request.reference_image_urls[0] == request.elements[0].frontal_image_url
    assert hero == request.keyframes[0].image_url == request.video_references[0].video_url


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_tables_may_be_parted_by_commas_semicolons_or_tabs(tmp_path: Path, mark: str) -> None:
    text = (
        mark.join(("key", "model", "prompt", "duration", "audio"))
        + "\r\n"
        + mark.join(("a", "m", "fox", "5", "no"))
    )
    [item] = _read(tmp_path, text, name="jobs.csv")
    request = item.request
    assert ("a", "m", "fox", "5s", False) == (
        item.key,
        request.model,
        request.prompt,
        request.duration,
        request.audio,
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("jobs.csv", "model,prompt\nm,fox\nm,owl,7\n", "line 3: it has more cells than the first line"),
        ("jobs.csv", 'model,prompt\nm,fox\nm,"owl\n', "line 3: it is not CSV"),
        ("jobs.jsonl", '{"model": "m", "prompt": "a"}\n{"model":', "line 2: it is not a JSON object"),
        ("jobs.jsonl", "[" * 100_000, "line 1: it is not a JSON object"),
        ("jobs.jsonl", '{"model": "m", "image": "none.png"}', "line 1: image_url: there is no file"),
        ("jobs.jsonl", '{"model": "m", "prompt": "a", "extra": 5}', 'line 1: "extra" must be an object'),
    ],
)
def test_a_line_that_cannot_be_read_is_named_with_the_reason(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        _read(tmp_path, text, name=name)


def test_a_line_ends_at_a_line_feed_and_at_nothing_else_that_parts_text(tmp_path: Path) -> None:
    prompt = "first\u2028second\x85third"
    [item] = _read(tmp_path, json.dumps({"model": "m", "prompt": prompt}, ensure_ascii=False) + "\r\n")
    assert prompt == item.request.prompt


def test_a_field_that_nobody_knows_is_told_once(tmp_path: Path) -> None:
    line = '{"model": "m", "prompt": "a", "zoom": 1, "seed": 7}\n'
    assert [] == unknown_fields(_read(tmp_path, line.replace('"zoom": 1, ', "")))
    assert ["line 1: 'zoom' is sent as it is, for no field of that name is known"] == unknown_fields(
        found := _read(tmp_path, line * 2, extra={"seed": 1, "style": "ink"})
    )
    assert {"zoom": 1, "seed": 7, "style": "ink"} == found[0].request.extra


def test_a_field_that_is_likely_a_slip_stops_the_batch_before_it_costs_money(tmp_path: Path) -> None:
    line = '{"model": "m", "promtp": "a", "extra": {"promtp": 1}}\n'
    with pytest.raises(
        InvalidRequestError, match="line 1: 'promtp' is no known field, and 'prompt' may be meant"
    ):
        _read(tmp_path, line)
    [item] = _read(tmp_path, line.replace('"promtp": "a"', '"prompt": "a"'))
    assert {"promtp": 1} == item.request.extra


def test_a_bar_goes_on_between_two_answers_and_never_claims_to_be_done() -> None:
    state = Waiting(ticket=TICKET, elapsed=10.0, average=40.0, eta=30.0)
    assert [0.25, 0.5, 0.99] == [part(state, age) for age in (0.0, 10.0, 1000.0)]
    assert ["about 30 s left", "any moment now"] == [left(state, 0.0), left(state, 100.0)]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (Waiting(ticket=TICKET), "queued: job q on m"),
        (Waiting(ticket=TICKET, elapsed=1.0, average=90.0, eta=89.0), "working, about 1 min 29 s left"),
        (Downloading(ticket=TICKET, via="link"), "downloading"),
    ],
)
def test_a_state_is_one_line(state: Any, said: str) -> None:
    assert said == line(state)


def test_ctrl_c_while_the_command_line_is_loaded_ends_it_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class PressesCtrlC:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "venice_async.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "venice_async.cli.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [PressesCtrlC(), *sys.meta_path])
    assert (130, ("", "\nInterrupted.\n")) == (main(["jobs"]), capsys.readouterr())


def test_what_a_server_says_cannot_steer_the_terminal() -> None:
    assert "a[31mb\nc" == printable("a\x1b[31m\x07b\n\u202ec\x9b")


def test_a_transport_error_without_a_job_says_that_nothing_was_charged() -> None:
    assert 8 == exit_code(TransportError("it broke"))


def test_what_is_said_while_a_person_is_asked_comes_after_the_questions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen(Output())
    with screen.alone():
        screen.note("a clip came")
        screen.complain("another failed")
        assert "" == capsys.readouterr().err
    assert "a clip came\nanother failed\n" == capsys.readouterr().err


def test_a_picture_leaves_room_for_the_ctrl_c_that_a_narrow_terminal_echoes() -> None:
    """In a line that is full the echo would move the cursor, and a line of the picture would stay behind."""
    screen, drawn = Screen(Output()), StringIO()
    screen.err, screen.live = Console(width=40, height=10, force_terminal=True, file=drawn), True
    with screen.drawing(Text("x" * 100)):
        pass
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.getvalue()).replace("\r", "\n").split("\n")
    assert 36 == max(map(len, lines))


@for_each(
    "said, lines",
    [
        ("one two three four", ["one two", "    three", "    four"]),
        ("a /very/long/path b", ["a /very/long/path b"]),
        ("go on: venice-async resume --all", ["go on: venice-async resume --all"]),
        ("  1 ✓ 一二三四", ["  1 ✓", "    一二三四"]),
    ],
)
def test_lines_are_broken_at_words_and_what_is_copied_stays_whole(said: str, lines: list[str]) -> None:
    assert lines == at_words(said, 12, 4).split("\n")


@pytest.mark.parametrize("width", [20, 80, 120])
def test_a_table_drops_columns_that_do_not_fit_and_never_cuts_a_cell(
    capsys: pytest.CaptureFixture[str], width: int
) -> None:
    ids = [f"grok-imagine-{name}-to-video-private" for name in ("text", "image", "reference")]
    screen = Screen(Output())
    screen.out = Console(width=width, force_terminal=True, file=sys.stdout)
    screen.table([{"id": name, "type": "text-to-video", "durations": "5s 10s"} for name in ids])
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert ids == [name for name in ids if name in text]
    assert (width > 20) == ("5s 10s" in text)


@for_each(
    "line, said",
    [
        ("generate -p fox", "--model is missing."),
        ("generate -m m --modle m -o", "-o needs a value."),
        ("thumbnail", "CLIP is missing."),
        ("generate -m m -p a fox", "Unexpected: fox. A text of several words needs quotation marks."),
        ("jobs list", "Unexpected: list."),
        ("generate -m m -p fox --sandbox --key order-1", "--key needs a journal."),
        ("batch jobs.jsonl --into clips --max-usd many", '"many" is not a number.'),
    ],
)
def test_a_mistyped_line_is_answered_in_plain_words(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == main(shlex.split(line))
    assert f": {said}" in capsys.readouterr().err


@for_each(
    "command, shown, hidden",
    [
        ("doctor", ["--journal", "--api-key", "--sandbox"], ["--no-journal", "--no-sidecar"]),
        ("worker", ["--journal", "--api-key", "--allow"], ["--no-journal", "--sandbox", "--speed"]),
        ("jobs", ["--journal", "--base-url"], ["--no-journal", "--api-key", "--sandbox", "--allow"]),
        ("dashboard", ["--journal", "--base-url"], ["--no-sidecar", "--api-key", "--sandbox", "--allow"]),
        ("models", ["--api-key", "--sandbox"], ["--journal", "--no-journal", "--no-sidecar"]),
        ("resume", ["--journal", "--no-journal", "--no-sidecar", "--sandbox"], []),
    ],
)
def test_the_help_of_a_command_hides_the_options_that_it_does_not_use(
    command: str, shown: list[str], hidden: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == main([command, "--help"])
    options = re.findall(r"^│[ *]+(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    assert (set(shown), set()) == ({*shown, *hidden} & {*options}, {*hidden} & {*options})


def test_the_requests_of_the_last_minute_are_one_line_of_a_narrow_terminal() -> None:
    board = Board(Screen(Output()), 300)
    board._polled.extend([monotonic()] * 120)
    board._queued.extend([monotonic()] * 40)
    drawn = StringIO()
    Console(width=50, file=drawn).print(board)
    lines = [line.rstrip() for line in drawn.getvalue().splitlines()]
    assert "last minute: 120 of 120 polls, 40 of 40 queued · …" == lines[-1]
