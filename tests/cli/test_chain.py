"""`venice-async last-frame`, `thumbnail` and `concat`, within this process."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from venice_async.sandbox.clips.render import render_clip

from .shell import Shell


@pytest.fixture
def clip(shell: Shell) -> str:
    data = render_clip(prompt="a boat", model="m", seconds=0.2, width=128, height=128)
    (shell.folder / "boat.mp4").write_bytes(data)
    return "boat.mp4"


def test_frames_of_a_clip_are_saved_in_the_format_that_the_name_says(shell: Shell, clip: str) -> None:
    assert f"{shell.folder / 'end.png'}\n" == shell("last-frame", clip, "-o", "end.png").out
    assert 0 == shell("thumbnail", clip, "-o", "small.jpg", "--width", "64").code
    with Image.open("end.png") as end, Image.open("small.jpg") as small:
        assert ("PNG", (128, 128), "JPEG", (64, 64)) == (end.format, end.size, small.format, small.size)
    again = shell("last-frame", clip, "-o", "end.png")
    assert (2, True) == (again.code, "pass --overwrite" in again.err)
    assert "Let the name end in .png or .jpg" in shell("thumbnail", clip, "-o", "small.gif").err


def test_clips_are_joined_and_what_cannot_be_joined_is_told(shell: Shell, clip: str) -> None:
    said = shell("concat", clip, clip, "-o", "film.mp4", "--json").json
    film = Path("film.mp4").resolve()
    assert (True, str(film), film.stat().st_size) == (said["ok"], said["path"], said["size"])
    Path("other.mp4").write_bytes(b"no video")
    refused = shell("concat", clip, "other.mp4", "-o", "more.mp4")
    assert (2, "") == (refused.code, refused.out)
    assert "other.mp4' cannot be read as a video" in refused.err
