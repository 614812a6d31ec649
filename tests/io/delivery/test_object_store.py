"""Clips in object stores: in memory for the rules, on a real S3 server over sockets for what goes wrong."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import AsyncMock

import pytest
from obstore.store import LocalStore, MemoryStore, S3Store

from tests.boxes import box
from tests.clients import PRIVATE, PUBLIC, client, until
from tests.s3 import CUT, KEY_ID, SECRET, S3Server
from tests.venice import Venice, fault
from tests.virtual_time import real_time
from venice_async import DownloadError, UsageError, VeniceClient, VideoRequest
from venice_async.io.delivery import object_store, stores
from venice_async.io.delivery.object_store import ObjectUpload
from venice_async.io.delivery.s3_requests import S3Requests
from venice_async.io.delivery.stores import place_in
from venice_async.sandbox import tiny_clip
from venice_async.sansio.http.secrets import Secret

pytestmark = pytest.mark.anyio

T = TypeVar("T")

URL = "s3://bucket/clips/a.mp4"
PART = 256 * 1024
LARGE = tiny_clip(3 * PART)


@pytest.fixture(scope="session")
def server_of_s3() -> Generator[S3Server]:
    server = S3Server()
    server.start()
    server.empty()
    yield server
    server.stop()


@pytest.fixture
def s3(server_of_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Generator[S3Server]:
    before = len([*Path("/proc/self/fd").glob("*")])
    server_of_s3.empty()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server_of_s3.environment().items():
        monkeypatch.setenv(name, value)
    yield server_of_s3
    for _ in range(200):  # its threads close what they have served
        if len([*Path("/proc/self/fd").glob("*")]) <= before:
            break
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def stores_take_real_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stores.asked

    async def in_real_time(call: Awaitable[T], place: Any, **before: Any) -> T:
        with real_time():
            return await asked(call, place, **before)

    monkeypatch.setattr(object_store, "asked", in_real_time)
    monkeypatch.setattr(stores, "asked", in_real_time)
    monkeypatch.setattr(stores, "_PATIENT", {"max_retries": 2})
    monkeypatch.setattr(object_store, "WHOLE", PART)
    monkeypatch.setattr(object_store, "PART", PART)


@pytest.fixture
async def server() -> AsyncGenerator[Venice]:
    async with Venice(polls=1) as server:
        yield server


@pytest.fixture
async def venice(server: Venice) -> AsyncGenerator[VeniceClient]:
    async with client(server) as venice:
        yield venice


async def test_a_clip_is_an_object_with_its_type_and_digest(
    s3: S3Server, server: Venice, venice: VeniceClient
) -> None:
    video = await venice.generate(PUBLIC, to=URL)
    assert (None, URL) == (video.path, video.url)
    assert {"clips/a.mp4": server.clip} == s3.objects()
    said = s3.headers("clips/a.mp4")
    assert ("video/mp4", video.sha256) == (said["content-type"], said["x-amz-meta-sha256"])
    assert [] == server.asked("GET /link")


async def test_a_large_clip_goes_in_parts_and_leaves_nothing_but_itself(
    s3: S3Server, server: Venice, venice: VeniceClient
) -> None:
    server.clip = LARGE
    video = await venice.generate(PRIVATE, to="s3://bucket/clips/")
    assert f"s3://bucket/clips/A-gondola-at-dawn-{video.ticket.queue_id[:8]}.mp4" == video.url
    assert [LARGE] == [*s3.objects().values()]
    said = s3.headers(f"clips/A-gondola-at-dawn-{video.ticket.queue_id[:8]}.mp4")
    assert ("video/mp4", video.sha256) == (said["content-type"], said["x-amz-meta-sha256"])
    assert [] == s3.uploads()
    assert 3 <= len([query for method, _, query in s3.requests if method == "PUT" and "partNumber" in query])


@pytest.mark.parametrize("clip", [tiny_clip(20_000), LARGE], ids=["whole", "in parts"])
async def test_what_appears_meanwhile_stays_and_so_does_the_copy_at_venice(
    s3: S3Server, server: Venice, venice: VeniceClient, clip: bytes
) -> None:
    server.clip = clip
    job = venice.generate(PUBLIC, to=URL)
    await job.queued()
    s3.put("clips/a.mp4", b"of somebody else")
    with pytest.raises(DownloadError, match="has appeared meanwhile") as raised:
        await job
    assert job.ticket == raised.value.ticket
    assert {"clips/a.mp4": b"of somebody else"} == s3.objects()
    assert [] == s3.uploads()
    assert [] == server.asked("POST /video/complete")
    video = await venice.resume(raised.value.ticket or "", to=URL, overwrite=True)
    assert {"clips/a.mp4": clip} == s3.objects()
    assert len(clip) == video.size


@pytest.mark.parametrize("clip", [tiny_clip(20_000), LARGE], ids=["whole", "in parts"])
async def test_the_very_clip_from_before_a_crash_is_accepted(
    s3: S3Server, server: Venice, tmp_path: Path, clip: bytes
) -> None:
    server.clip = clip
    async with client(server, journal=tmp_path / "jobs.db") as venice:
        job = venice.generate(PRIVATE, to=URL)
        await job.queued()
        job.cancel()
        await job.ended()
    s3.put("clips/a.mp4", clip)
    async with client(server, journal=tmp_path / "jobs.db") as venice:
        [entry] = await venice.pending()
        assert URL == entry.to
        [video] = [await job for job in await venice.recover()]
    assert (URL, 1) == (video.url, len(server.charges))
    assert {"clips/a.mp4": clip} == s3.objects()


async def test_before_anything_is_paid_the_place_is_refused_where_no_clip_can_go(
    s3: S3Server, server: Venice, venice: VeniceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("clips/a.mp4", b"there")
    refused = {
        URL: "exists",
        "s3://missing/a.mp4": "no such bucket",
        "s3://bucket/a//b.mp4": "not the name of an object",
        "s3://bucket/a.mp4?X-Amz-Signature=signed": "no user, password or query",
        f"s3://{KEY_ID}:{SECRET}@bucket/a.mp4": "no user, password or query",
        "s3:///a.mp4": "names no bucket",
        "ftp://host/a.mp4": "schemes are",
        "https://host/a.mp4": "schemes are",
    }
    for url, reason in refused.items():
        with pytest.raises(UsageError, match=reason) as raised:
            await venice.generate(PUBLIC, to=url)
        assert SECRET not in str(raised.value)
        assert "signed" not in str(raised.value)
    with pytest.raises(UsageError, match="lost one of its slashes"):
        venice.generate(PUBLIC, to=Path(URL))
    s3.spoil = lambda *_: 403
    with pytest.raises(UsageError, match="refuses the credentials"):
        await venice.generate(PUBLIC, to="s3://bucket/b.mp4")
    s3.spoil = lambda *_: None
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    stores._opened.cache_clear()
    with pytest.raises(UsageError, match="not installed") as raised:
        await venice.generate(PUBLIC, to=URL)
    assert "pip install 'venice-async[storage]'" == raised.value.hint
    assert [] == server.charges


@pytest.mark.parametrize("spoilt", [503, CUT, 403])
async def test_a_store_that_fails_leaves_a_paid_job_to_be_resumed(
    s3: S3Server, server: Venice, tmp_path: Path, spoilt: int | str
) -> None:
    server.clip = LARGE
    s3.spoil = lambda method, _, query: spoilt if method == "PUT" and "partNumber" in query else None
    async with client(server, journal=tmp_path / "jobs.db") as venice:
        with pytest.raises(DownloadError, match=r"cannot be written to 's3://bucket/clips/a\.mp4'") as raised:
            await venice.generate(PRIVATE, to=URL)
        assert SECRET not in "".join(traceback.format_exception(raised.value))
        assert raised.value.__cause__ is raised.value.__context__ is None
        assert ({}, []) == (s3.objects(), s3.uploads())
        s3.spoil = lambda *_: None
        [job] = await venice.recover()
        await job
    assert {"clips/a.mp4": LARGE} == s3.objects()
    assert (1, 2) == (len(server.charges), server.gets)
    assert SECRET.encode() not in (tmp_path / "jobs.db").read_bytes()


async def test_a_store_that_fails_for_a_moment_is_asked_again(
    s3: S3Server, server: Venice, venice: VeniceClient
) -> None:
    server.clip = LARGE
    trouble: list[int | str] = [CUT, 503]
    s3.spoil = lambda method, _, query: trouble.pop() if trouble and "partNumber" in query else None
    await venice.generate(PRIVATE, to=URL)
    assert {"clips/a.mp4": LARGE} == s3.objects()


async def test_a_download_that_is_cut_goes_on_and_keeps_the_parts_that_are_there(s3: S3Server) -> None:
    async with Venice(link=[fault(cut_at=2 * PART + 1000)], clip=LARGE) as server, client(server) as venice:
        await venice.generate(PRIVATE, to=URL)
        [_, onward] = server.asked("GET /link")
        assert onward.headers["range"].startswith("bytes=")
    assert {"clips/a.mp4": LARGE} == s3.objects()
    begun = [path for method, path, query in s3.requests if method == "POST" and query == "uploads="]
    assert ["/bucket/clips/.venice-async"] == [path[: len("/bucket/clips/.venice-async")] for path in begun][
        :1
    ]
    assert 1 == sum(".venice-async" in path for path in begun)


async def test_a_cancelled_job_leaves_no_object_and_no_part(s3: S3Server) -> None:
    stalled = fault(stall_at=2 * PART + 1000)
    async with Venice(link=[stalled], clip=LARGE) as server, client(server) as venice:
        job = venice.generate(PRIVATE, to=URL)
        await until(lambda: len(s3.uploads()) == 1)
        job.cancel()
        await job.ended()
        assert ({}, []) == (s3.objects(), s3.uploads())


async def test_a_batch_is_named_by_its_url_and_pays_for_each_clip_once(
    s3: S3Server, server: Venice, tmp_path: Path
) -> None:
    requests = [VideoRequest(model="public-model", prompt=f"Gondola {n}", duration="5s") for n in range(2)]
    urls: list[set[str | None]] = []
    for into in ("s3://bucket/clips/", "s3://bucket/clips"):
        async with client(server, journal=tmp_path / "jobs.db") as venice:
            outcomes = [outcome async for outcome in venice.batch(requests, into=into)]
        urls.append({outcome.video.url for outcome in outcomes if outcome.video})
    assert urls[0] == urls[1] == {f"s3://bucket/{key}" for key in s3.objects()}
    assert (2, 2) == (len(urls[0]), len(server.charges))
    s3.empty()
    async with client(server, journal=tmp_path / "jobs.db") as venice:
        outcomes = [outcome async for outcome in venice.batch(requests, into="s3://bucket/clips/")]
    assert all(isinstance(outcome.error, DownloadError) for outcome in outcomes)
    assert 2 == len(server.charges)


async def test_a_store_object_is_taken_beside_a_url_or_a_name(server: Venice, venice: VeniceClient) -> None:
    store = MemoryStore()
    jobs = [
        venice.generate(PUBLIC, to="memory:///a.mp4", store=store),
        venice.generate(PUBLIC, to="b.mp4", store=store),
        venice.generate(PUBLIC, to=(store, "c.mp4")),
    ]
    assert ["memory:///a.mp4", "memory:///b.mp4", "memory:///c.mp4"] == [(await job).url for job in jobs]
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        kept = store.get(name)
        assert server.clip == bytes(kept.bytes())
        assert hashlib.sha256(server.clip).hexdigest() == kept.attributes["sha256"]
    within = S3Store("bucket", prefix="films", access_key_id=KEY_ID, secret_access_key=SECRET)
    assert "s3://bucket/films/a.mp4" == str(place_in(within, "a.mp4"))
    assert "a.mp4" == place_in(within, "s3://bucket/films/a.mp4").key
    assert SECRET not in repr(place_in(within, "a.mp4"))
    with pytest.raises(UsageError, match="not within the store"):
        venice.generate(PUBLIC, to="s3://other/a.mp4", store=within)
    with pytest.raises(UsageError, match="sent to a str"):
        venice.generate(PUBLIC, to=("bucket", "a.mp4"))


async def test_two_jobs_are_not_bound_for_one_object(server: Venice, venice: VeniceClient) -> None:
    store = MemoryStore()
    first = venice.generate(PUBLIC, to="a.mp4", store=store)
    await first.queued()
    with pytest.raises(UsageError, match="Another job"):
        await venice.generate(PUBLIC, to="a.mp4", store=store)
    await first
    assert 1 == len(server.charges)


async def test_a_file_url_is_a_file_whose_folder_is_made(
    server: Venice, venice: VeniceClient, tmp_path: Path
) -> None:
    clip = tmp_path / "my clips" / "a.mp4"
    video = await venice.generate(PUBLIC, to=clip.as_uri())
    assert (None, clip.as_uri()) == (video.path, video.url)
    assert server.clip == clip.read_bytes()
    with pytest.raises(UsageError, match="exists"):
        await venice.generate(PUBLIC, to=clip.as_uri())
    named = await venice.generate(PUBLIC, to=f"{tmp_path.as_uri()}/new/")
    assert [Path(str(named.url)).name] == [path.name for path in (tmp_path / "new").iterdir()]
    within = await venice.generate(PUBLIC, to="100%/a.mp4", store=LocalStore(tmp_path))
    assert (tmp_path / "100%" / "a.mp4").as_uri() == within.url
    assert server.clip == (tmp_path / "100%" / "a.mp4").read_bytes()
    with pytest.raises(UsageError, match="absolute path"):
        await venice.generate(PUBLIC, to="file://a.mp4")


async def test_a_file_url_of_a_folder_that_exists_names_the_clip_in_it_with_or_without_a_slash(
    venice: VeniceClient, tmp_path: Path
) -> None:
    for folder, slash in (("with", "/"), ("without", ""), ("100% #{1}", "")):
        (tmp_path / folder).mkdir()
        video = await venice.generate(PUBLIC, to=(tmp_path / folder).as_uri() + slash)
        (clip,) = (tmp_path / folder).iterdir()
        assert (clip.as_uri(), None) == (video.url, video.path)


async def test_a_pattern_in_a_store_of_files_is_one(venice: VeniceClient, tmp_path: Path) -> None:
    video = await venice.generate(PUBLIC, to="{model}/{n:02}.mp4", store=LocalStore(tmp_path))
    assert (tmp_path / "public-model" / "01.mp4").as_uri() == video.url


async def test_quicktime_is_called_so(venice: VeniceClient, server: Venice) -> None:
    server.clip = server.clip.replace(server.clip[8:12], b"qt  ", 1)
    store = MemoryStore()
    await venice.generate(PUBLIC, to="a.mov", store=store)
    assert "video/quicktime" == store.get("a.mov").attributes["Content-Type"]
    assert ".mov" == Path(str((await venice.generate(PUBLIC, to="clips/", store=store)).url)).suffix


async def test_a_quicktime_file_is_known_as_one_however_little_of_it_came_first() -> None:
    store, clip = MemoryStore(), box(b"wide", b"") + box(b"ftyp", b"qt  " + bytes(4))
    for rest in (b"", bytes(object_store.WHOLE)):
        place = place_in(store, f"{len(rest)}.mov")
        upload = ObjectUpload(place, overwrite=False, job_key="key", resumed=False)
        await upload.write([clip[:12]])
        await upload.write([clip[12:], rest])
        await upload.commit()
    kinds = [store.get(f"{size}.mov").attributes["Content-Type"] for size in (0, object_store.WHOLE)]
    assert ["video/quicktime"] * 2 == kinds


async def test_what_a_killed_process_left_of_an_upload_goes_when_its_job_goes_on(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled = fault(stall_at=2 * PART + 1000)
    async with Venice(link=[stalled], clip=LARGE) as server:
        with monkeypatch.context() as killed:
            killed.setattr(ObjectUpload, "abort", AsyncMock())
            async with client(server, journal=tmp_path / "jobs.db") as venice:
                job = venice.generate(PRIVATE, to=URL)
                await until(lambda: len(s3.uploads()) == 1)
                job.cancel()
                await job.ended()
        [temporary] = s3.uploads()
        s3.put(temporary, LARGE)  # and one that got as far as being moved, and one of somebody else:
        s3.begin_upload("clips/a.mp4")
        s3.begin_upload("clips/b.mp4")
        assert {} == {key: data for key, data in s3.objects().items() if ".venice-async" not in key}
        async with client(server, journal=tmp_path / "jobs.db") as venice:
            [job] = await venice.recover()
            await job
    assert ({"clips/a.mp4": LARGE}, ["clips/b.mp4"]) == (s3.objects(), s3.uploads())
    assert 1 == len(server.charges)


async def test_with_credentials_that_only_obstore_knows_a_large_clip_lacks_its_digest_alone(
    s3: S3Server, server: Venice, venice: VeniceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(S3Requests, "of", AsyncMock(return_value=None))
    server.clip = LARGE
    await venice.generate(PRIVATE, to=URL)
    assert ({"clips/a.mp4": LARGE}, []) == (s3.objects(), s3.uploads())
    assert "video/mp4" == s3.headers("clips/a.mp4")["content-type"]


async def test_where_s3_refuses_what_only_we_ask_for_the_clip_is_moved_by_obstore(
    s3: S3Server, server: Venice, venice: VeniceClient
) -> None:
    server.clip = LARGE
    refusals = [403]
    s3.spoil = lambda _, path, query: (
        refusals.pop() if refusals and path.endswith("/clips/a.mp4") and "partNumber" in query else None
    )
    await venice.generate(PRIVATE, to=URL)
    assert ({"clips/a.mp4": LARGE}, []) == (s3.objects(), s3.uploads())


def test_requests_are_signed_as_in_the_example_of_the_vendor() -> None:
    requests = S3Requests(
        root="https://examplebucket.s3.amazonaws.com/",
        bucket="examplebucket",
        region="us-east-1",
        key_id="AKIAIOSFODNN7EXAMPLE",
        secret=Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    )
    at = datetime(2013, 5, 24, tzinfo=UTC)
    _, headers = requests._signed(at, "GET", "", query={"lifecycle": ""}, headers={}, body="")
    expected = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    assert headers["authorization"].endswith(f"Signature={expected}")
    assert "wJalr" not in repr(requests)
    assert "AKIA" not in repr(requests)


async def test_objects_never_take_the_name_of_another_and_have_their_sidecars() -> None:
    store = MemoryStore()
    async with Venice() as server, client(server, sidecars=True) as venice:
        videos = [await venice.generate(PUBLIC, to="clips/{prompt}.mp4", store=store) for _ in range(2)]
    names = ["clips/A-gondola-at-dawn-2.mp4", "clips/A-gondola-at-dawn.mp4"]
    assert [f"memory:///{name}" for name in reversed(names)] == [video.url for video in videos]
    assert sorted([*names, *(f"{name}.json" for name in names)]) == sorted(
        item["path"] for item in store.list().collect()
    )
    assert videos[0].sha256 == json.loads(bytes(store.get(f"{names[1]}.json").bytes()))["sha256"]
