"""What comes compressed although it was asked for plain is read all the same."""

from __future__ import annotations

import gzip
import importlib
import json
import zlib
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venice_async.sansio.http import replies as codings

BODY = json.dumps({"model": "m", "queue_id": "job-1", "words": "gondola " * 99}).encode()
LIMIT = 1 << 20


def decoded(body: bytes, label: str, limit: int) -> bytes:
    return codings.decoded(body, label, limit)[0]


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def members(data: bytes) -> bytes:
    cuts = [0, 1, len(data) // 2, len(data)]
    return b"".join(gzip.compress(data[start:end]) for start, end in pairwise(cuts))


def test_every_coding_of_the_standard_library_is_read_under_any_of_its_names() -> None:
    sent = {
        "": BODY,
        "identity": BODY,
        "gzip": gzip.compress(BODY),
        "x-gzip": gzip.compress(BODY),
        " GZip ": members(BODY),
        "gzip, identity": gzip.compress(BODY),
        "deflate": zlib.compress(BODY),
        "deflate,": raw(BODY),
        "deflate, gzip": gzip.compress(raw(BODY)),
        "gzip, gzip": gzip.compress(gzip.compress(BODY)),
    }
    assert dict.fromkeys(sent, BODY) == {name: decoded(body, name, LIMIT) for name, body in sent.items()}


def test_a_label_that_the_bytes_contradict_does_not_count() -> None:
    for label in ("gzip", "x-gzip", "deflate", "br", "zstd", "gzip, br", "zstd, deflate", "compress", "?"):
        assert BODY == decoded(BODY, label, LIMIT), label
    assert BODY == decoded(gzip.compress(BODY), "", LIMIT)
    assert BODY == decoded(gzip.compress(BODY) + b"\n\n", "gzip", LIMIT)


def test_brotli_and_zstandard_are_read_where_there_is_a_decoder() -> None:
    brotli = pytest.importorskip("brotli")
    zstd = pytest.importorskip("backports.zstd")
    assert BODY == decoded(brotli.compress(BODY), "br", LIMIT)
    assert BODY == decoded(zstd.compress(BODY), "zstd", LIMIT)
    assert BODY == decoded(zstd.compress(BODY[:9]) + zstd.compress(BODY[9:]), "", LIMIT)
    assert BODY == decoded(gzip.compress(brotli.compress(BODY)), "br, gzip", LIMIT)
    assert 1000 == len(decoded(brotli.compress(bytes(9_000_000)), "br", 1000))
    assert 1000 == len(decoded(zstd.compress(bytes(9_000_000)), "zstd", 1000))


def test_without_a_decoder_the_bytes_stay_as_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    zstandard = b"\x28\xb5\x2f\xfd\x20\x02\x11\x00\x00{}"
    assert [zstandard, b"\x0b\x00"] == [decoded(zstandard, "zstd", LIMIT), decoded(b"\x0b\x00", "br", LIMIT)]


def test_a_small_body_does_not_become_a_huge_text() -> None:
    for label, body in (("gzip", gzip.compress(bytes(9_000_000))), ("deflate", raw(bytes(9_000_000)))):
        assert bytes(1000) == decoded(body, label, 1000)


CODED = [
    ("gzip", gzip.compress(BODY)),
    ("gzip", members(BODY)),
    ("deflate", zlib.compress(BODY)),
    ("deflate", raw(BODY)),
]


@given(st.integers(0, 20), st.sampled_from(CODED))  # less than a member
def test_of_a_stream_that_is_cut_the_beginning_is_kept(left_out: int, coded: tuple[str, bytes]) -> None:
    label, body = coded
    cut = body[: len(body) - left_out]
    found, whole = codings.decoded(cut, label, LIMIT)
    assert found == cut or BODY.startswith(found)
    assert (left_out == 0) == whole


@given(st.binary(max_size=64), st.text(max_size=20) | st.sampled_from(["gzip", "deflate", "br", "zstd"]))
def test_nothing_raises_anything(body: bytes, label: str) -> None:
    for prefix in (b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"):
        assert isinstance(decoded(prefix + body, label, 50), bytes)


def test_no_more_is_decoded_than_the_limit_asks_for() -> None:
    class Decompressor:
        def process(self, data: bytes) -> bytes:
            return data * 2

        def is_finished(self) -> bool:
            return False

    module = SimpleNamespace(Decompressor=Decompressor, error=ValueError)
    found, whole = codings._brotli(cast("ModuleType", module), bytes(10 * codings._BROTLI_PIECE), 1)
    assert (2 * codings._BROTLI_PIECE, False) == (len(found), whole)
