"""What a server echoes is cleaned of secrets."""

from __future__ import annotations

import json
from html import escape
from time import thread_time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import for_each
from venice_async.sansio.http.secrets import Secret, redact, redact_headers

KEY = "vn-key/0123+456789"
LINK = "https://cdn.example/clips/0123456789abcdef.mp4?X-Signature=s3cret&X-Expires=60"


@for_each(
    "spelt",
    [
        KEY,
        quote(KEY),
        quote_plus(KEY),
        json.dumps(KEY).strip('"'),
        KEY.replace("/", "\\/"),
        f"Authorization: Bearer {KEY}",
        KEY.replace("/", "&#47;"),
        KEY.replace("/", "&#x2F;"),
        KEY.replace("/", "\\x2f"),
        KEY.replace("/", "\\\\u002f"),
        KEY.replace("/", "%252f"),
        KEY.replace("/", "&amp;#47;"),
        "&#233;&apos;" + KEY.replace("/", "&#47;") + "&quot;&lt;",
        "".join(f"\\u{ord(letter):04x}" for letter in KEY),
    ],
)
def test_the_key_is_masked_however_it_is_spelt(spelt: str) -> None:
    cleaned = redact(f"a {spelt} b".encode(), [KEY])
    assert b"0123" not in cleaned
    assert cleaned.startswith(b"a ")
    assert cleaned.endswith(b" b")


@for_each(
    "spelt",
    [
        LINK,
        LINK.upper().replace("S3CRET", "s3cret"),
        LINK.replace("/", "\\/"),
        LINK.replace("&", "\\u0026"),
        escape(LINK),
        quote(LINK),
        quote(LINK, safe=""),
        LINK[:-4],
        LINK.removeprefix("https://cdn.example"),
        LINK.partition("?")[2],
        f'<a href="{LINK}">',
    ],
)
def test_a_link_is_masked_however_it_is_spelt_and_in_part(spelt: str) -> None:
    cleaned = redact(f"no such clip: {spelt}".encode(), [LINK])
    assert b"s3cret" not in cleaned
    assert cleaned.startswith(b"no such clip: ")


@pytest.mark.parametrize(
    "path", ["/clips/0123456789abcdef.mp4", "https://cdn.example/clips/0123456789abcdef.mp4"]
)
def test_a_path_that_may_hold_a_token_is_masked(path: str) -> None:
    assert b"0123456789abcdef" not in redact(f"no {path}".encode(), [LINK])


def test_the_signature_of_a_link_is_masked_where_a_store_shows_it_alone() -> None:
    signature = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    link = f"https://store.example/a.mp4?X-Date=20261126T114805Z&X-Signature={signature}"
    said = f"<Date>20261126T114805Z</Date><SignatureProvided>{signature}</SignatureProvided>"
    expected = b"<Date>20261126T114805Z</Date><SignatureProvided>[redacted]</SignatureProvided>"
    assert expected == redact(said.encode(), [link])


def test_a_secret_that_begins_like_another_does_not_uncover_it() -> None:
    assert b"[redacted]" == redact(LINK.encode(), [LINK.partition("?")[0], LINK])
    assert b"[redacted]" == redact(LINK.encode(), [LINK, LINK.partition("?")[0]])


@pytest.mark.parametrize("secret", ["", "a", "12345"])
def test_what_is_too_short_for_a_secret_garbles_nothing(secret: str) -> None:
    assert b"a 12345 banana" == redact(b"a 12345 banana", [secret])


def test_any_signed_url_is_shown_by_its_host() -> None:
    body = b'{"a": "https://s3.example/x/y?sig=1#f", "b": "HTTP:\\/\\/b.example?c"}'
    assert b'{"a": "https://s3.example/[redacted]", "b": "HTTP:\\/\\/b.example/[redacted]"}' == redact(
        body, []
    )


def test_a_url_that_names_a_user_is_shown_by_its_host() -> None:
    assert b"see https://s3.example/[redacted]" == redact(b"see https://me:pass@s3.example/x", [])


def test_any_bearer_token_is_masked() -> None:
    assert b"Bearer [redacted] and bearer [redacted]" == redact(
        b"Bearer abcdefgh12 and bearer eyJ.a-b_c=", []
    )


@pytest.mark.parametrize(
    "body", [b"", b"What? No.", b"see https://docs.venice.ai/errors", b"a bearer of news"]
)
def test_what_holds_no_secret_stays_as_it_is(body: bytes) -> None:
    assert body == redact(body, [KEY, LINK])


def test_an_escape_that_hides_no_secret_stays_as_it_is() -> None:
    body = rb'{"a": "caf\u00e9 &amp; \"b\" 100%25 &#233;"}'
    assert body == redact(body, [KEY, LINK])


def test_escapes_nested_without_end_are_read_a_few_times_only() -> None:
    body = b"%" + b"25" * 1000 + b"2f"
    assert body == redact(body, [KEY])


@pytest.mark.parametrize("secret", ["https://[broken", "https://cdn.example", "https://cdn.example/x"])
def test_a_secret_may_be_any_text(secret: str) -> None:
    assert b"[redacted]!" == redact(f"{secret}!".encode(), [secret])


@pytest.mark.parametrize(
    "piece", [b"http://", b"http://a", b"https://a/b?", b"a", b"bearer ", b"http://a@", b"\\/"]
)
def test_a_megabyte_of_anything_is_cleaned_in_no_time(piece: bytes) -> None:
    body = piece * (1024 * 1024 // len(piece))
    start = thread_time()
    redact(body, [KEY, LINK])
    assert thread_time() - start < 5


def test_headers_are_cleaned_together_and_keep_their_places() -> None:
    headers = {"X-Request-Id": "r-1", "link": LINK, "Date": "today", "odd": f"\u00e9\udc80 {KEY}", "none": ""}
    expected = {"x-request-id": "r-1", "link": "[redacted]", "date": "today", "none": ""}
    cleaned = redact_headers(headers, [KEY, LINK])
    assert expected == {name: value for name, value in cleaned.items() if name != "odd"}
    assert cleaned["odd"].endswith(" [redacted]")
    hidden = "%0a" + "".join(f"%{ord(letter):02x}" for letter in KEY)
    assert {"a": "[redacted]", "b": "[redacted]"} == redact_headers({"a": hidden, "b": "x"}, [KEY])


@given(st.binary(max_size=20), st.binary(max_size=20), st.sampled_from([KEY, LINK]))
def test_no_surroundings_uncover_a_secret(before: bytes, after: bytes, secret: str) -> None:
    assert secret.encode() not in redact(before + secret.encode() + after, [KEY, LINK])


def test_a_secret_shows_itself_only_when_it_is_asked_to() -> None:
    secret = Secret("sk-0123456789")
    assert ("Secret(…)", "sk-0123456789") == (repr(secret), secret.reveal())
