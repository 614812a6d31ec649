"""A link comes from outside and must not lead inside."""

from __future__ import annotations

import pytest

from tests.cases import for_each
from venice_async.errors import DownloadError
from venice_async.options import Links
from venice_async.sansio.http.links import LinkRules, is_loopback

PUBLIC = LinkRules()
LOCAL = LinkRules(loopback=True)

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
    "https://cdn.example/a\r\nx: y",
    "https://cdn.example/\ud8ff",
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
    assert url == PUBLIC.check(url)


@for_each("url", INSIDE)
def test_a_link_to_a_private_address_is_not_followed(url: str) -> None:
    with pytest.raises(DownloadError, match="private address"):
        PUBLIC.check(url)


@for_each("url", UNREADABLE)
@for_each("loopback_allowed", [True, False])
def test_what_libraries_may_read_in_different_ways_is_no_link(url: str, loopback_allowed: bool) -> None:
    with pytest.raises(DownloadError, match="is not a URL"):
        LinkRules(loopback=loopback_allowed).check(url)


@pytest.mark.parametrize(
    "url", ["http://cdn.example/clip.mp4", "ftp://cdn.example/clip.mp4", "file://localhost/x"]
)
@pytest.mark.parametrize("loopback_allowed", [True, False])
def test_a_link_without_tls_is_not_followed(url: str, loopback_allowed: bool) -> None:
    with pytest.raises(DownloadError, match="not https"):
        LinkRules(loopback=loopback_allowed).check(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8787/x", "http://localhost/x", "http://[::1]:1/x", "https://localhost/x"]
)
def test_a_loopback_link_is_followed_only_where_the_api_itself_is_on_loopback(url: str) -> None:
    assert url == LOCAL.check(url)
    with pytest.raises(DownloadError):
        PUBLIC.check(url)


def test_where_loopback_is_allowed_other_private_addresses_are_not() -> None:
    with pytest.raises(DownloadError, match="private address"):
        LOCAL.check("https://10.0.0.8/x")


def test_a_redirect_is_followed_relative_to_where_it_came_from_and_its_text_is_kept() -> None:
    targets = {
        "https://other.example/x": "https://other.example/x",
        "HTTPS://Other.example:443/%2e%2E/a%2fb/?": "HTTPS://Other.example:443/%2e%2E/a%2fb/?",
        "/y": "https://CDN.example:8443/y",
        "/a/../b//c;d=1?e=%2F&f=+": "https://CDN.example:8443/a/../b//c;d=1?e=%2F&f=+",
        "?again=1%3A": "https://CDN.example:8443/x/y?again=1%3A",
        "//third.example/z%7e": "https://third.example/z%7e",
        "../clip%20.mp4?a=/..": "https://CDN.example:8443/clip%20.mp4?a=/..",
        " /my clip.mp4 ": "https://CDN.example:8443/my%20clip.mp4",
        "/naïve ☃.mp4?größe=1": "https://CDN.example:8443/na%C3%AFve%20%E2%98%83.mp4?gr%C3%B6%C3%9Fe=1",
        "/latin-\udce9.mp4": "https://CDN.example:8443/latin-%E9.mp4",
    }
    found = {
        location: PUBLIC.next_hop("https://CDN.example:8443/x/y?sig=1", location) for location in targets
    }
    assert targets == found


def test_a_link_is_sent_as_it_was_given() -> None:
    for url in (
        "https://cdn.example/a%2Fb%7e?x=%3a+%20&y=a%40b%7Ec&&z",
        "https://CDN.example/%C3%A9/./../x;y?q='(*)!|\"{}",
        "https://cdn.example?sig=1",
    ):
        assert url == PUBLIC.check(url)
    assert "https://cdn.example/a%20b" == PUBLIC.check("https://cdn.example/a b")


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        " ",
        "https://[::1",
        "http://cdn.example/x",
        "https://10.0.0.8/",
        "//10.0.0.8/x",
        "javascript:1",
    ],
)
def test_a_redirect_is_checked_like_the_link_itself(location: str | None) -> None:
    with pytest.raises(DownloadError):
        PUBLIC.next_hop("https://cdn.example/x", location)


@for_each("url", [*INSIDE, *UNREADABLE, "http://cdn.example/s3cret"])
def test_a_link_that_is_refused_is_not_shown(url: str) -> None:
    with pytest.raises(DownloadError) as caught:
        PUBLIC.check(url)
    assert not url or url not in str(caught.value)


@for_each(
    "address, public",
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
    assert public == PUBLIC.admits(address)


def test_loopback_is_connected_to_where_it_is_allowed() -> None:
    assert LOCAL.admits("127.0.0.1")
    assert LOCAL.admits("::ffff:127.0.0.1")
    assert not LOCAL.admits("10.0.0.8")


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


def test_what_a_user_allows_is_admitted_and_nothing_else() -> None:
    rules = LinkRules(allow=Links(allow=["198.18.0.0/15", "fd00:64::/96", "100.64.7.7"]).allow)
    inside = ["198.18.0.7", "198.19.255.255", "::ffff:198.18.0.7", "fd00:64::5db8:d70e", "100.64.7.7"]
    outside = ["10.0.0.8", "127.0.0.1", "100.64.7.8", "fd00:65::1", "169.254.169.254"]
    assert inside == [address for address in inside + outside if rules.admits(address)]
    assert "https://198.18.0.7/x" == rules.check("https://198.18.0.7/x")


def test_one_address_of_this_machine_that_is_allowed_admits_no_other() -> None:
    rules = LinkRules(allow=Links(allow=["127.0.0.1/32"]).allow)
    assert "https://localhost/c" == rules.check("https://localhost/c")
    for url in ("https://[::1]/c", "https://127.0.0.2/c"):
        with pytest.raises(DownloadError, match="leads to a private address"):
            rules.check(url)


def test_plain_http_stays_refused_where_only_the_network_is_allowed() -> None:
    rules = LinkRules(allow=Links(allow="127.0.0.0/8").allow)
    assert "https://127.0.0.1/x" == rules.check("https://127.0.0.1/x")
    with pytest.raises(DownloadError, match="not https"):
        rules.check("http://127.0.0.1/x")


def test_a_refusal_says_how_to_allow_what_a_user_may_know_and_never_this_machine_or_a_clouds_keys() -> None:
    hints: dict[str, bool] = {}
    for address in ("198.18.0.7", "100.100.3.4", "192.168.1.1", "127.0.0.1", "169.254.169.254"):
        with pytest.raises(DownloadError) as caught:
            PUBLIC.check(f"https://{address}/x")
        hints[address] = "links=Links(allow=[" in caught.value.hint
    expected = {"198.18.0.7": True, "100.100.3.4": True, "192.168.1.1": True}
    assert expected | {"127.0.0.1": False, "169.254.169.254": False} == hints


def test_a_redirect_may_name_only_a_query_and_one_that_is_no_address_leads_nowhere() -> None:
    assert "https://cdn.example/x?b=2" == PUBLIC.next_hop("https://cdn.example/x?a=1", "?b=2")
    with pytest.raises(DownloadError):
        PUBLIC.next_hop("https://[cdn.example/x", "clip.mp4")
