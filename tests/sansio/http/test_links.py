"""A link comes from outside and must not lead inside."""

from __future__ import annotations

import pytest

from venice_async.errors import DownloadError
from venice_async.sansio.http.links import check_link, is_loopback, may_connect, next_hop

INSIDE = [
    "https://127.0.0.1/clip.mp4",
    "https://localhost/clip.mp4",
    "https://LOCALHOST:8443/clip.mp4",
    "https://10.0.0.8/clip.mp4",
    "https://169.254.169.254/latest/meta-data",
    "https://0.0.0.0/",
    "https://[::1]/clip.mp4",
    "https://[fe80::1]/clip.mp4",
    "https://[fd00::1]/clip.mp4",
    "https://[::ffff:10.0.0.8]/clip.mp4",
    "https://[64:ff9b::a00:8]/clip.mp4",
    "https://[2002:a00:8::1]/clip.mp4",
    "https://224.0.0.1/clip.mp4",
]
UNREADABLE = [
    "",
    "clip.mp4",
    "https://",
    "https:///clip.mp4",
    "https://cdn.example:0/clip.mp4",
    "https://cdn.example:99999/clip.mp4",
    "https://[::1/clip.mp4",
    "https://cdn.example\\@10.0.0.8/",
    "https://user:password@cdn.example/clip.mp4",
    "https://①②⑦.⓪.⓪.①/clip.mp4",
    "https://%31%32%37.0.0.1/clip.mp4",
    "https://cdn.example/a b",
    "https://cdn.example/a\r\nx: y",
]


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example/clip.mp4?sig=s3cret",
        "HTTPS://CDN.example:8443/clip.mp4",
        "https://93.184.216.34/clip.mp4",
        "https://[2606:2800:220:1::1]/clip.mp4",
    ],
)
def test_a_public_https_link_is_followed(url: str) -> None:
    assert url == check_link(url, loopback_allowed=False)


@pytest.mark.parametrize("url", INSIDE)
def test_a_link_to_a_private_address_is_not_followed(url: str) -> None:
    with pytest.raises(DownloadError, match="private address"):
        check_link(url, loopback_allowed=False)


@pytest.mark.parametrize("url", UNREADABLE)
@pytest.mark.parametrize("loopback_allowed", [True, False])
def test_what_libraries_may_read_in_different_ways_is_no_link(url: str, loopback_allowed: bool) -> None:
    with pytest.raises(DownloadError, match="is not a URL"):
        check_link(url, loopback_allowed=loopback_allowed)


@pytest.mark.parametrize(
    "url", ["http://cdn.example/clip.mp4", "ftp://cdn.example/clip.mp4", "file://localhost/x"]
)
@pytest.mark.parametrize("loopback_allowed", [True, False])
def test_a_link_without_tls_is_not_followed(url: str, loopback_allowed: bool) -> None:
    with pytest.raises(DownloadError, match="not https"):
        check_link(url, loopback_allowed=loopback_allowed)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8787/x", "http://localhost/x", "http://[::1]:1/x", "https://localhost/x"]
)
def test_a_loopback_link_is_followed_only_where_the_api_itself_is_on_loopback(url: str) -> None:
    assert url == check_link(url, loopback_allowed=True)
    with pytest.raises(DownloadError):
        check_link(url, loopback_allowed=False)


def test_where_loopback_is_allowed_other_private_addresses_are_not() -> None:
    with pytest.raises(DownloadError, match="private address"):
        check_link("https://10.0.0.8/x", loopback_allowed=True)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://other.example/x", "https://other.example/x"),
        ("/y", "https://cdn.example/y"),
        ("?again=1", "https://cdn.example/x?again=1"),
        ("//third.example/z", "https://third.example/z"),
    ],
)
def test_a_redirect_is_followed_relative_to_where_it_came_from(location: str, target: str) -> None:
    assert target == next_hop("https://cdn.example/x", location, loopback_allowed=False)


@pytest.mark.parametrize(
    "location", [None, "", "https://[::1", "http://cdn.example/x", "https://10.0.0.8/", "javascript:1"]
)
def test_a_redirect_is_checked_like_the_link_itself(location: str | None) -> None:
    with pytest.raises(DownloadError):
        next_hop("https://cdn.example/x", location, loopback_allowed=False)


@pytest.mark.parametrize("url", [*INSIDE, *UNREADABLE, "http://cdn.example/s3cret"])
def test_a_link_that_is_refused_is_not_shown(url: str) -> None:
    with pytest.raises(DownloadError) as caught:
        check_link(url, loopback_allowed=False)
    assert not url or url not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("64:ff9b::5db8:d822", True),
        ("10.0.0.8", False),
        ("127.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("169.254.169.254", False),
        ("ff0e::1", False),
        ("not an address", False),
    ],
)
def test_only_public_addresses_are_connected_to(address: str, public: bool) -> None:
    assert public == may_connect(address, loopback_allowed=False)


def test_loopback_is_connected_to_where_it_is_allowed() -> None:
    assert may_connect("127.0.0.1", loopback_allowed=True)
    assert may_connect("::ffff:127.0.0.1", loopback_allowed=True)
    assert not may_connect("10.0.0.8", loopback_allowed=True)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("api.venice.ai", False),
        ("10.0.0.8", False),
        (None, False),
    ],
)
def test_loopback_is_told_by_name_and_address(host: str | None, here: bool) -> None:
    assert here == is_loopback(host)
