"""Where a link may lead, and how it is sent. A link from outside must not lead to a private address.

A host that signs a link signs its text. So a link, and where it redirects to, is sent as it was given, and
nothing is decoded, re-encoded or tidied up. Only what no request can carry, blanks and letters beyond ASCII,
is percent-encoded, as browsers do.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from attrs import frozen

from ...errors import DownloadError
from ...options import Network

# What every library reads alike: no control characters, and a host of plain letters. Others fold "①" to "1",
# or take a backslash for a slash, and would go elsewhere than was checked.
_AMBIGUOUS: Final = re.compile(r"[\x00-\x1f\x7f\\]")
_UNSENDABLE: Final = re.compile(r"[^\x21-\x7e]+")
_HOST: Final = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+", re.ASCII)
_ABSOLUTE: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE | re.ASCII)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

MADE_UP: Final = ipaddress.IPv4Network("198.18.0.0/15")
"""Set aside for benchmarks, so it leads nowhere; local proxies (Clash, Surge) answer every name with it."""

_NAMED: Final[tuple[tuple[Network, str], ...]] = (
    (MADE_UP, "made up by a local proxy such as Clash or Surge"),
    (ipaddress.IPv4Network("100.64.0.0/10"), "of a VPN such as Tailscale, or of a carrier's NAT"),
    (ipaddress.IPv4Network("10.0.0.0/8"), "of a local network"),
    (ipaddress.IPv4Network("172.16.0.0/12"), "of a local network"),
    (ipaddress.IPv4Network("192.168.0.0/16"), "of a local network"),
    (ipaddress.IPv6Network("fc00::/7"), "of a local network"),
)
"""What a user may know to be right. Not this machine, and not what is link-local, where clouds keep keys."""


@frozen(kw_only=True)
class LinkRules:
    """Where links may lead: to public addresses, and where else.

    Attributes:
        loopback: to this machine, over plain http too; so where the API itself is on this machine.
        allow: to these networks.
    """

    loopback: bool = False
    allow: tuple[Network, ...] = ()

    def admits(self, address: str) -> bool:
        """Tell whether an IP address may be connected to."""
        parsed = _ip_address(address)
        if parsed is None or any(parsed in network for network in self.allow):
            return parsed is not None
        if isinstance(parsed, ipaddress.IPv6Address):  # which may stand for an IPv4 address
            inner = parsed.ipv4_mapped or parsed.sixtofour
            if parsed in _NAT64:
                inner = ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF)
            if inner is not None:
                return self.admits(str(inner))
        return (parsed.is_global and not parsed.is_multicast) or (self.loopback and parsed.is_loopback)

    def check(self, url: str) -> str:
        """Return the text of `url` to be sent, if it is https on a public host, or where the rules allow.

        Raises:
            DownloadError: it is not. The link is not shown.
        """
        url = url.strip()
        try:
            sent = _UNSENDABLE.sub(lambda part: quote(part[0], safe="", errors="surrogateescape"), url)
            parts = urlsplit(sent)
            host, port = parts.hostname, parts.port
        except ValueError:
            sent, parts, host, port = "", urlsplit(""), None, None
        # Libraries might read anything else in different ways.
        sound = not _AMBIGUOUS.search(url) and port != 0 and "@" not in parts.netloc
        if not host or not sound or not _HOST.fullmatch(host):
            msg = "The server's link is not a URL"
            raise DownloadError(msg, unsent=True)
        here = is_loopback(host)
        if parts.scheme != "https" and not (self.loopback and parts.scheme == "http" and here):
            msg = "The server's link is not https, and was not followed"
            raise DownloadError(msg, unsent=True)
        is_name = _ip_address(host) is None
        if not (not here or self.admits("127.0.0.1") if is_name else self.admits(host)):
            raise leads_inside(host)
        return sent

    def next_hop(self, url: str, location: str | None) -> str:
        """Return where a redirect of `url` leads, checked like the link itself.

        The text of `location` is kept: only a path like `../clip.mp4` is worked out.

        Raises:
            DownloadError: it leads nowhere, or where it must not.
        """
        if not location or not location.strip():
            msg = "The link redirects to nowhere"
            raise DownloadError(msg)
        there = location.strip()
        try:
            base = urlsplit(url)
            if there.startswith("//"):
                there = f"{base.scheme}:{there}"
            elif there.startswith("/"):
                there = f"{base.scheme}://{base.netloc}{there}"
            elif there.startswith("?"):
                there = re.split("[?#]", url, maxsplit=1)[0] + there
            elif not _ABSOLUTE.match(there):
                there = urljoin(url, there)
        except ValueError:
            there = ""
        return self.check(there)


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def is_loopback(host: str | None) -> bool:
    """Tell whether `host` is this machine, by name or address."""
    parsed = _ip_address(host or "")
    return (host or "").lower() == "localhost" if parsed is None else parsed.is_loopback


def known_network(address: str) -> tuple[Network, str] | None:
    """Return the private network that an address belongs to, and what it is; None for any other address."""
    parsed = _ip_address(address)
    return next((known for known in _NAMED if parsed is not None and parsed in known[0]), None)


def leads_inside(address: str) -> DownloadError:
    """Return the error for a link that leads to a private `address`, and how to allow it."""
    found = known_network(address)
    if found is None:
        msg = "The server's link leads to a private address, and was not followed"
        return DownloadError(msg, unsent=True)
    network, kind = found
    return DownloadError(
        f"The server's link leads to a private address ({address}, {kind}), and was not followed",
        hint=f'If that is right here, make the client with links=Links(allow=["{network}"]), and call'
        " resume(ticket, to=...): nothing needs to be paid again",
        cli_hint=f"If that is right here, resume it with --allow {network}: nothing needs to be paid again",
        unsent=True,
    )
