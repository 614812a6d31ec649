from __future__ import annotations

import pytest

from venice_async.errors import UsageError
from venice_async.sansio.naming import ObjectUrl, is_collapsed_url, is_object_url, parse_object_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/clips/a.mp4", ObjectUrl("s3", "bucket", "clips/a.mp4")),
        ("S3://bucket/a b#%20é.mp4", ObjectUrl("s3", "bucket", "a b#%20é.mp4")),
        ("gs://bucket/", ObjectUrl("gs", "bucket", "")),
        ("az://container", ObjectUrl("az", "container", "")),
        ("memory:///clips/", ObjectUrl("memory", "", "clips/")),
        ("memory://clips/a.mp4", ObjectUrl("memory", "", "clips/a.mp4")),
        ("file://localhost/srv/a.mp4", ObjectUrl("file", "", "srv/a.mp4")),
    ],
)
def test_a_url_is_taken_apart_and_its_key_is_what_it_says(text: str, expected: ObjectUrl) -> None:
    assert is_object_url(text)
    assert expected == parse_object_url(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("http://host/a.mp4", "schemes are"),
        ("s3://", "names no bucket"),
        ("s3://-/a.mp4", "not the name of a bucket"),
        ("s3://user:password@bucket/a.mp4", "no user, password or query"),
        ("s3://bucket/a.mp4?signature=1", "no user, password or query"),
        ("file://host/a.mp4", "absolute path"),
        ("s3://bucket//a.mp4", "not the name of an object"),
        ("s3://bucket/../a.mp4", "not the name of an object"),
        ("s3://bucket/a\nb", "not the name of an object"),
        ("s3://bucket/" + "a" * 1024, "at most"),
    ],
)
def test_what_is_no_place_for_a_clip_is_refused_without_its_secrets(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as raised:
        parse_object_url(text)
    assert "password@" not in str(raised.value)
    assert "signature=1" not in str(raised.value)


def test_a_folder_names_the_objects_in_it() -> None:
    folder, clip = ObjectUrl("s3", "bucket", "clips/"), ObjectUrl("s3", "bucket", "clips/a.mp4")
    assert (True, False) == (folder.is_folder, clip.is_folder)
    assert clip == folder.named("a.mp4") == clip.named("b.mp4")
    assert "clips/" == folder.folder == clip.folder
    assert "s3://bucket/clips/a.mp4" == str(clip)


def test_paths_are_no_urls_and_one_that_was_a_url_is_recognized() -> None:
    assert not any(map(is_object_url, ["clips/a.mp4", "C:\\clips", "c://clips", "s3:/bucket/a.mp4", None]))
    assert is_collapsed_url("s3:/bucket/a.mp4")
    assert not any(map(is_collapsed_url, ["s3://bucket/a.mp4", "clips/a.mp4", "/s3:/a.mp4"]))
