"""Media on their way out: in small pieces, and measured without being decoded."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from venice_async import InvalidRequestError, Media, VideoRequest
from venice_async.io import uploads
from venice_async.io.uploads import encode_media, identify, prepare, reference_seconds
from venice_async.sandbox import tiny_clip
from venice_async.validators import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio


def request(**media: Any) -> VideoRequest:
    return VideoRequest(model="m", prompt="p", duration="5s", **media)


async def test_no_call_encodes_or_decodes_much_at_once_so_that_other_threads_run_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    for name in ("b64encode", "b64decode"):
        function = getattr(base64, name)

        def noting(data: bytes | str, function: Any = function) -> bytes:
            sizes.append(len(data))
            done: bytes = function(data)
            return done

        monkeypatch.setattr(uploads, name, noting)
    data = tiny_clip(2_000_001)
    (tmp_path / "clip.mp4").write_bytes(data)
    url = f"data:video/mp4;base64,{base64.b64encode(data).decode()}"
    for source in (Media(data), Media(tmp_path / "clip.mp4"), url):
        body = (await prepare(await encode_media(request(video_url=source)))).body
        assert url == json.loads(body)["video_url"]
        assert (5.0, 0) == await reference_seconds(request(reference_video_urls=[source]))
    assert len(sizes) > 2 * 2_000_000 / (256 * 1024)
    assert max(sizes) <= 256 * 1024


async def test_the_same_clip_is_the_same_request_in_a_file_as_bytes_and_as_a_url(tmp_path: Path) -> None:
    data = tiny_clip(600_001)
    (tmp_path / "clip.mp4").write_bytes(data)
    url = f"data:video/mp4;base64,{base64.b64encode(data).decode()}"
    sources = (Media(data), Media(tmp_path / "clip.mp4"), url)
    builds: tuple[Callable[[Any], dict[str, Any]], ...] = (
        lambda clip: {"video_url": clip},
        lambda clip: {"elements": [{"video_url": clip}]},
        lambda clip: {"extra": {"newer": {"b": 1, "clip": clip}}},
    )
    for build in builds:
        known = {await identify(await encode_media(request(**build(source)))) for source in sources}
        other = await identify(await encode_media(request(**build(Media(data[:-1])))))
        assert (1, True) == (len(known), other not in known)


async def test_the_length_of_a_clip_in_a_url_is_told_wherever_its_index_is_and_in_lines() -> None:
    for noise in (0, 1, 2, 50_000):
        clip = tiny_clip(400, seconds=7.25)
        moved = clip[:24] + (8 + noise).to_bytes(4, "big") + b"free" + os.urandom(noise) + clip[24:]
        for text in (base64.b64encode(moved), base64.encodebytes(moved)):
            url = f"data:video/mp4;base64,{text.decode()}"
            assert (7.25, 0) == await reference_seconds(request(reference_video_urls=[url]))
    for nothing in ("AAAA", "?", "AAAAA", base64.b64encode(b"no clip").decode()):
        url = f"data:video/mp4;base64,{nothing}"
        assert (0.0, 1) == await reference_seconds(request(reference_video_urls=[url]))


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no device without an end")  # noqa: PTH110 - a device
async def test_a_device_without_an_end_is_refused_and_a_pipe_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "body", 4_000)
    with pytest.raises(InvalidRequestError, match="the limit is"):
        await encode_media(request(image_url=Media("/dev/zero")))
    os.mkfifo(tmp_path / "pipe")
    assert (0, 1) == await reference_seconds(request(reference_video_urls=[Media(tmp_path / "pipe")]))
