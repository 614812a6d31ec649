"""`venice-async seedance …` and `venice-async upscale`: what they ask for, and what they refuse."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from venice_async import VideoRequest
from venice_async.cli.commands import generate

from .shell import Shell
from .venice import PUBLIC

MODEL = "seedance-2-0-reference-to-video"


@pytest.fixture
def asked(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> list[VideoRequest]:
    """The requests that commands come to, which are not sent."""
    found: list[VideoRequest] = []

    async def run_request(request: VideoRequest, *_: Any, **options: Any) -> int:
        found.append(request)
        return 0

    monkeypatch.setattr(generate, "run_request", run_request)
    for name in ("a.mp4", "b.mp4", "hero.png", "voice.mp3"):
        (shell.folder / name).write_bytes(b"x")
    return found


WORKFLOWS = {
    "reference": (
        ("reference", "a walk in rain", "--refer-to", "<Subject 1> in <Image 1>", "--image", "hero.png"),
        "Refer to <Subject 1> in <Image 1> to generate a walk in rain",
    ),
    "change": (
        ("edit", "a.mp4", "--change", "weather", "--to", "snow"),
        "Strictly edit <Video 1>, changing its weather to snow",
    ),
    "add": (("edit", "a.mp4", "--add", "a kite"), "Add a kite to <Video 1>"),
    "remove": (
        ("edit", "a.mp4", "--remove", "the car"),
        "Remove the car from <Video 1>, keeping the rest of the video content unchanged",
    ),
    "replace": (
        ("edit", "a.mp4", "--replace", "the cup", "--by", "the jar in <Image 1>", "--image", "hero.png"),
        "Replace the cup in <Video 1> with the jar in <Image 1>",
    ),
    "words of one's own": (("edit", "a.mp4", "make it night"), "Strictly edit <Video 1>: make it night"),
    "extend": (("extend", "a.mp4", "she waves"), "Extend <Video 1>, generate she waves"),
    "extend backward": (
        ("extend", "a.mp4", "she waves", "--backward"),
        "Extend <Video 1> backward, she waves",
    ),
    "stitch": (
        ("stitch", "a.mp4", "b.mp4", "--transition", "a whip pan"),
        "<Video 1> + a whip pan + followed by <Video 2>",
    ),
}


@pytest.mark.parametrize(("arguments", "prompt"), WORKFLOWS.values(), ids=WORKFLOWS.keys())
def test_each_workflow_writes_its_prompt(
    shell: Shell, asked: list[VideoRequest], arguments: tuple[str, ...], prompt: str
) -> None:
    said = shell("seedance", *arguments, "--duration", "5s")
    assert (0, [(MODEL, prompt, "5s")]) == (
        said.code,
        [(request.model, request.prompt, request.duration) for request in asked],
    ), said.err


def test_upscaling_passes_on_the_options_of_an_enhancement(shell: Shell, asked: list[VideoRequest]) -> None:
    clip = "https://example.com/a.mp4"
    options = ("--fps", "60", "--slowdown", "4", "--enhancement-model", "i-2", "--prores")
    assert 0 == shell("upscale", clip, "-m", "topaz-video-interpolate", *options).code
    extra = {"enhancement_model": "i-2", "target_fps": 60, "slowdown_factor": 4, "output_format": "prores"}
    assert [VideoRequest(model="topaz-video-interpolate", video_url=clip, extra=extra)] == asked


def test_upscaling_sends_the_clip_and_the_factor_only(shell: Shell, asked: list[VideoRequest]) -> None:
    assert 0 == shell("upscale", "https://example.com/a.mp4", "--factor", "4").code
    wanted = VideoRequest(
        model="topaz-video-upscale", video_url="https://example.com/a.mp4", upscale_factor=4
    )
    assert [wanted] == asked


def test_upscaling_sends_any_other_field(shell: Shell, asked: list[VideoRequest]) -> None:
    clip, fields = "https://example.com/a.mp4", ("--field", "bitrate_mode=high", "--field", "style=ink")
    assert 0 == shell("upscale", clip, "--factor", "2", *fields).code
    assert [("high", {"style": "ink"})] == [(request.bitrate_mode, request.extra) for request in asked]


BAD = {
    "a tag without its reference": ("seedance", "edit", "a.mp4", "put <Image 1> in"),
    "a reference never mentioned": ("seedance", "edit", "a.mp4", "--add", "a kite", "--image", "hero.png"),
    "no instruction": ("seedance", "edit", "a.mp4"),
    "two instructions": ("seedance", "edit", "a.mp4", "--add", "a kite", "--remove", "the car"),
    "a change to nothing": ("seedance", "edit", "a.mp4", "--change", "weather"),
    "a clip that is missing": ("seedance", "extend", "missing.mp4", "she waves"),
    "one clip to stitch": ("seedance", "stitch", "a.mp4"),
    "a factor that is none": ("upscale", "a.mp4", "--factor", "3"),
    "an unknown workflow": ("seedance", "melt", "a.mp4"),
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_clear_line_and_exit_code_2(
    shell: Shell, asked: list[VideoRequest], arguments: tuple[str, ...]
) -> None:
    said = shell(*arguments)
    assert (2, "", 1, []) == (said.code, said.out, len(said.err.splitlines()), asked), said.err
    assert ["a.mp4", "b.mp4", "hero.png", "voice.mp3"] == sorted(path.name for path in Path().iterdir())


def test_spend_is_told_by_model_day_and_folder_without_a_key(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 == shell("generate", "-m", PUBLIC, "-p", "a fox", "--duration", "5s", "-o", "fox.mp4").code
    monkeypatch.delenv("VENICE_API_KEY")
    said = shell("spend", "--since", "7d")
    assert (0, f"{PUBLIC}\t$0.75\n") == (said.code, said.out), said.err
    assert "$0.75 for 1 job." in said.err
    assert {str(shell.folder): 0.75} == shell("spend", "--by", "folder", "--json").json["spend"]
    assert 2 == shell("spend", "--by", "week").code
    assert 2 == shell("spend", "--since", "soon").code


def test_jobs_lists_what_ended_with_prices_and_times(shell: Shell) -> None:
    made = shell("generate", "-m", PUBLIC, "-p", "a fox", "--duration", "5s", "--key", "one", "-o", "fox.mp4")
    assert 0 == made.code, made.err
    assert 0 == shell("generate", "-m", PUBLIC, "-p", "an owl", "--duration", "5s", "-o", "owl.mp4").code
    assert "" == shell("jobs").out
    newest, oldest = shell("jobs", "--all", "--json").json
    assert ("an owl", None) == (newest["prompt"], newest["key"])
    assert ("a fox", "one", 0.75, "Succeeded") == tuple(
        oldest[name] for name in ("prompt", "key", "usd", "state")
    )
    assert str(shell.folder / "fox.mp4") == oldest["to"]
    began, ended = (datetime.fromisoformat(oldest[name]) for name in ("created", "ended"))
    assert began.tzinfo is not None
    assert began <= ended
    assert [oldest] == shell("jobs", "--all", "--key", "one", "--since", "1h", "--json").json
    assert [newest] == shell("jobs", "--state", "succeeded", "--all", "--limit", "1", "--json").json
    assert [] == shell("jobs", "--state", "failed", "--json").json
    assert {"one", "$0.75"} <= set(shell("jobs", "--all").out.split())
    assert 2 == shell("jobs", "--state", "lost").code


def test_a_daily_budget_of_the_environment_holds_for_commands(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENICE_DAILY_USD", "1")
    made = [
        shell("generate", "-m", PUBLIC, "-p", "a fox", "--duration", "5s", "-o", f"{name}.mp4")
        for name in ("one", "two")
    ]
    assert [0, 3] == [said.code for said in made], made
    assert "$0.25 of the daily $1.00 are left" in made[1].err
    assert "VENICE_DAILY_USD" in made[1].err
