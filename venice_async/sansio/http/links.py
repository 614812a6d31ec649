"""Which addresses may be asked: a link comes from outside, and must not lead inside."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urljoin, urlsplit

from ...errors import DownloadError

# What every library reads alike: no blanks or control characters, and a host of plain letters. Others fold
# "①" to "1", or take a backslash for a slash, and would go elsewhere than was checked.
_PLAIN: Final = re.compile(r"[^\s\x00-\x1f\x7f\\]+")
_HOST: Final = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+", re.ASCII)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def is_loopback(host: str | None) -> bool:
    """Tell whether `host` is this machine, by name or address."""
    if host is None:
        return False
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_connect(address: str, *, loopback_allowed: bool) -> bool:
    """Tell whether an IP address is public, or loopback where that is allowed."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    inner = _inner(parsed) if isinstance(parsed, ipaddress.IPv6Address) else None
    if inner is not None:
        return may_connect(str(inner), loopback_allowed=loopback_allowed)
    return (parsed.is_global and not parsed.is_multicast) or (loopback_allowed and parsed.is_loopback)


def check_link(url: str, *, loopback_allowed: bool) -> str:
    """Return `url` if it is https on a public host, or on loopback where the API itself is.

    Raises:
        DownloadError: it is not. The link is not shown.
    """
    scheme, host = _parsed(url)
    if host is None:
        msg = "The server's link is not a URL"
        raise DownloadError(msg)
    if scheme != "https" and not (loopback_allowed and scheme == "http" and is_loopback(host)):
        msg = "The server's link is not https, and was not followed"
        raise DownloadError(msg)
    if not _may_be_public(host, loopback_allowed=loopback_allowed):
        msg = "The server's link leads to a private address, and was not followed"
        raise DownloadError(msg)
    return url


def next_hop(url: str, location: str | None, *, loopback_allowed: bool) -> str:
    """Return where a redirect of a link leads, checked like the link itself.

    Raises:
        DownloadError: it leads nowhere, or where it must not.
    """
    if not location:
        msg = "The link redirects to nowhere"
        raise DownloadError(msg)
    try:
        target = urljoin(url, location)
    except ValueError:
        target = ""
    return check_link(target, loopback_allowed=loopback_allowed)


def _parsed(url: str) -> tuple[str, str | None]:
    """Return the scheme and host of a URL; no host for one that another library might read in another way."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "", None
    sound = _PLAIN.fullmatch(url) and host and _HOST.fullmatch(host) and port != 0 and "@" not in parts.netloc
    return parts.scheme, host if sound else None


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for, if it does."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _may_be_public(host: str, *, loopback_allowed: bool) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return not is_loopback(host) or loopback_allowed
    return may_connect(host, loopback_allowed=loopback_allowed)
