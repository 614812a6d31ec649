"""What clips are called where nobody names the file, and what is written beside them."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from tests.clients import PRIVATE, PUBLIC, client
from tests.test_batch import collect
from tests.venice import KEY, Venice, json_answer
from venice_async import Media, UsageError, __version__
from venice_async.engine.sidecar import write_sidecar
from venice_async.engine.spec import recovery
from venice_async.io.journal.entries import JournalEntry
from venice_async.sansio.job.states import Saved

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


async def test_in_a_folder_a_clip_is_called_by_its_prompt_and_its_job(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        video = await venice.generate(PUBLIC, to=tmp_path)
    assert f"A-gondola-at-dawn-{video.ticket.queue_id[:8]}.mp4" == Path(video).name


async def test_a_pattern_names_the_clip_and_its_folder_and_never_one_that_is_there(tmp_path: Path) -> None:
    pattern = str(tmp_path / "{tag.customer}" / "{key}-{model}-{n:03}.mp4")
    options: dict[str, Any] = {"to": pattern, "tags": {"customer": "Acme & Co"}, "overwrite": True}
    async with Venice() as server, client(server, journal=tmp_path / "jobs.db") as venice:
        made = [Path(await venice.generate(PUBLIC, key=key, **options)) for key in ("dawn", "dusk/../x")]
        plain = [Path(await venice.generate(PUBLIC, to=tmp_path / "{model}")) for _ in range(3)]
    folder = tmp_path / "Acme-Co"
    assert [folder / "dawn-public-model-001.mp4", folder / "dusk-x-public-model-001.mp4"] == made
    assert ["public-model.mp4", "public-model-2.mp4", "public-model-3.mp4"] == [path.name for path in plain]


async def test_a_batch_names_clips_by_key_and_number_and_finds_them_when_it_is_run_again(
    tmp_path: Path,
) -> None:
    requests = [evolve(PUBLIC, prompt=text) for text in ("fox", "owl", "fox")]
    async with Venice() as server, client(server, journal=tmp_path / "jobs.db") as venice:
        for _ in range(2):
            batch = venice.batch(
                requests,
                into=tmp_path / "clips",
                key=lambda request: request.prompt or "",
                name="{n:02}-{key}",
            )
            await collect(batch)
        assert 3 == len(server.charges)
    found = sorted(path.name for path in (tmp_path / "clips").iterdir())
    assert ["01-fox.mp4", "02-owl.mp4", "03-fox-2.mp4"] == found


async def test_a_pattern_that_makes_no_sense_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    async with Venice() as server, client(server) as venice:
        with pytest.raises(UsageError, match=re.escape("no field {promt}. Did you mean {prompt}?")):
            await venice.generate(PUBLIC, to=tmp_path / "{promt}.mp4")
        with pytest.raises(UsageError, match="brace"):
            venice.batch([PUBLIC], into=tmp_path, name="{key")
        assert [] == server.charges


async def test_a_path_with_braces_that_is_there_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "{odd}"
    folder.mkdir()
    async with Venice() as server, client(server) as venice:
        paths = [Path(await venice.generate(PUBLIC, to=to)) for to in (folder, folder / "{{a}}.mp4")]
    assert [folder, folder] == [path.parent for path in paths]
    assert "{a}.mp4" == paths[1].name


async def test_beside_each_clip_a_file_tells_how_it_came_about_and_no_secret(tmp_path: Path) -> None:
    url = "https://user:hush@example.com/a.png?X-Amz-Signature=hush#hush"
    request = evolve(
        PRIVATE, image_url=Media(PNG), end_image_url=url, extra={"reference": {"url": url, "take": 2}}
    )
    async with (
        Venice(polls=4) as server,
        client(server, journal=tmp_path / "j.db", sidecars=True) as venice,
    ):
        video = await venice.generate(
            request, to=tmp_path / "clip.mp4", max_usd=9, key="order-1", tags={"customer": "acme"}
        )
        text = (tmp_path / "clip.mp4.json").read_text(encoding="utf-8")
    said = json.loads(text)
    times = said.pop("began"), said.pop("saved")
    assert {
        "venice_async": __version__,
        "file": "clip.mp4",
        "size": video.size,
        "sha256": video.sha256,
        "ticket": {"model": request.model, "queue_id": video.ticket.queue_id},
        "key": "order-1",
        "tags": {"customer": "acme"},
        "request": {
            "model": request.model,
            "prompt": request.prompt,
            "duration": "5s",
            "image_url": {"sha256": Media(PNG).sha256},
            "end_image_url": "https://example.com/a.png",
            "reference": {"url": "https://example.com/a.png", "take": 2},
        },
        "usd": 0.25,
    } == said
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", time) for time in times)
    assert times[0] < times[1]
    link = video.ticket.download_url
    assert link is not None
    assert not any(secret in text for secret in (link, KEY, "hush"))


async def test_a_file_that_is_no_sidecar_is_left_alone_and_costs_nobody_a_clip(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = tmp_path / "clip.mp4.json"
    theirs.write_text("[]")
    (tmp_path / "folder.mp4.json").mkdir()
    async with Venice() as server, client(server, sidecars=True) as venice:
        for name in ("clip.mp4", "folder.mp4"):
            assert tmp_path / name == Path(await venice.generate(PUBLIC, to=tmp_path / name))
    assert "[]" == theirs.read_text()
    assert 2 == caplog.text.count("There is no sidecar")


async def test_a_name_too_long_for_a_sidecar_is_logged_and_the_clip_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Venice() as server, client(server, sidecars=True) as venice:
        await venice.generate(PUBLIC, to=tmp_path / ("x" * 251 + ".mp4"))
    assert f"x.mp4: {os.strerror(errno.ENAMETOOLONG)}" in caplog.text


async def test_the_draft_of_a_sidecar_that_a_killed_process_left_is_removed_with_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, clip = Path.replace, tmp_path / "clip.mp4"

    def replace(self: Path, target: Path) -> Path:
        text = self.read_bytes()
        done = real(self, target)
        if target.suffix == ".json":
            self.write_bytes(text)  # as if it had ended before this
        return done

    refusal = json_answer({"error": "Request ID is invalid."}, status=400)
    async with Venice(complete=[refusal]) as server, client(server, sidecars=True) as venice:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", replace)
            video = await venice.generate(PUBLIC, to=clip)
        assert 3 == len(list(tmp_path.iterdir()))
        await venice.resume(video.ticket, to=clip, overwrite=True)
    assert {"clip.mp4", "clip.mp4.json"} == {path.name for path in tmp_path.iterdir()}


async def test_what_was_left_by_a_kill_at_the_sidecar_of_a_clip_that_is_kept_already_goes_with_the_next_run(
    tmp_path: Path,
) -> None:
    clip = tmp_path / "clip.mp4"
    async with Venice() as server, client(server) as venice:
        video = await venice.generate(PUBLIC, to=clip)
    spec = recovery(JournalEntry(state=Saved(video=video), to=clip), 0.0)
    for killed in (True, True, False):
        with pytest.MonkeyPatch.context() as patch:
            if killed:
                patch.setattr(Path, "replace", lambda path, _: path)
            await write_sidecar(video, spec, usd=None, began=None, now=0.0)
        assert 2 == len(list(tmp_path.iterdir()))
    assert clip.with_name("clip.mp4.json").exists()


async def test_a_file_that_is_named_by_a_url_has_its_sidecar_too(tmp_path: Path) -> None:
    async with Venice() as server, client(server, sidecars=True) as venice:
        video = await venice.generate(PUBLIC, to=f"file://{tmp_path}/clips/{{model}}.mp4")
    assert f"file://{tmp_path}/clips/public-model.mp4" == video.url
    assert video.sha256 == json.loads((tmp_path / "clips/public-model.mp4.json").read_text())["sha256"]


async def test_the_sidecar_of_a_recovered_job_says_what_it_cost(tmp_path: Path) -> None:
    options: dict[str, Any] = {"journal": tmp_path / "jobs.db", "sidecars": True}
    async with Venice(polls=4) as server:
        async with client(server, **options) as venice:
            await venice.generate(PUBLIC, to=tmp_path / "clip.mp4", max_usd=9).queued()
            await venice.aclose()
        async with client(server, **options) as venice:
            (job,) = await venice.recover()
            await job
    assert 0.25 == json.loads((tmp_path / "clip.mp4.json").read_text())["usd"]
