"""Media of your own: files and bytes."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.cases import for_each
from venice_async import InvalidRequestError, Media
from venice_async.media import sniff

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


def test_a_text_or_a_path_names_a_file_and_nothing_is_opened() -> None:
    expected = Path("no/such/cat.png")
    for media in (
        Media("no/such/cat.png"),
        Media(expected),
        Media(path="no/such/cat.png"),
    ):
        assert (expected, None, None, None) == (media.path, media.sha256, media.media_type, media.data)
        assert Media("no/such/cat.png") == media


@pytest.mark.parametrize("data", [PNG, bytearray(PNG), memoryview(PNG)])
def test_bytes_are_held_with_their_digest(data: bytes) -> None:
    media = Media(data, media_type="image/png")
    assert (None, hashlib.sha256(PNG).hexdigest(), "image/png", PNG) == (
        media.path,
        media.sha256,
        media.media_type,
        media.data,
    )
    assert Media(data=PNG, media_type="image/png") == media


def test_bytes_that_change_later_do_not_change_the_media() -> None:
    data = bytearray(PNG)
    media = Media(data)
    data[0] = 0
    assert PNG == media.data


def test_media_are_equal_by_digest_and_type() -> None:
    assert Media(PNG) == Media(PNG)
    assert hash(Media(PNG)) == hash(Media(PNG))
    assert Media(PNG) == Media(sha256=hashlib.sha256(PNG).hexdigest())
    assert Media(PNG) != Media(PNG + b"x")
    assert Media(PNG) != Media(PNG, media_type="image/png")
    assert Media("a.png") != Media("b.png")
    text: object = "a.png"
    assert Media("a.png") != text


def test_what_is_neither_the_path_of_a_file_nor_bytes_is_named() -> None:
    odd: list[tuple[Any, str]] = [(BytesIO(PNG), "BytesIO"), (5, "int"), (["a.png"], "list")]
    for source, name in odd:
        with pytest.raises(InvalidRequestError, match=f"path of a file or bytes, not {name}"):
            Media(source)
    text: Any = "an image"
    with pytest.raises(InvalidRequestError, match="path of a file or bytes, not str"):
        Media(data=text)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"path": "a", "data": b"b"}, {"source": b"b", "path": "a"}, {"source": "a", "data": b"b"}],
)
def test_media_are_one_thing(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="either the path of a file or bytes") as caught:
        Media(**arguments)
    assert "media" == caught.value.field


def test_no_bytes_are_bytes_too() -> None:
    assert b"" == Media(b"").data


def test_a_repr_is_short_and_shows_no_bytes() -> None:
    assert "Media('cat.png')" == repr(Media("cat.png"))
    assert f"Media(<16 bytes>, sha256={Media(PNG).sha256!r})" == repr(Media(PNG))
    assert "Media(<not kept>, sha256='00')" == repr(Media(sha256="00"))
    assert len(repr(Media(bytes(1_000_000)))) < 120


def test_media_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Media("cat.png").path = None  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue] - the very point


@for_each(
    "head, media_type",
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/wav"),
        (b"BM\x00\x00", "image/bmp"),
        (b"\x00\x00\x00\x14ftypqt  ", "video/quicktime"),
        (b"\x00\x00\x00\x18ftypisom", "video/mp4"),
        (b"\x00\x00\x00\x18ftypmp42", "video/mp4"),
        (b"\x00\x00\x00\x18ftypM4A ", "audio/mp4"),
        (b"\x00\x00\x00\x18ftypheic", "image/heic"),
        (b"\x00\x00\x00\x18ftypavif", "image/avif"),
        (b"\x1aE\xdf\xa3", "video/webm"),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90", "audio/mpeg"),
        (b"\xff\xf3\x90", "audio/mpeg"),
        (b"\xff\xf2\x90", "audio/mpeg"),
        (b"OggS", "audio/ogg"),
        (b"fLaC", "audio/flac"),
        (b"%PDF-1.7", "application/pdf"),
        (b"", None),
        (b"hello world, hello", None),
        (b"\x89PN", None),
    ],
)
def test_a_type_is_told_from_the_first_bytes(head: bytes, media_type: str | None) -> None:
    assert media_type == sniff(head)
