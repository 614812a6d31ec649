"""How the hosts of links are reached: which addresses, which proxy, whose certificates.

A link leads to another host than the API, and is fetched without the API's key, cookies and headers. But
where the API is reached through a company's proxy, certificates or resolver only, links are not reached
without them either. So what `Links` leaves out is taken from the session that was lent for the API.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from ssl import SSLContext
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import anyio
from aiohttp.abc import AbstractResolver, ResolveResult
from attrs import evolve
from yarl import URL

from ..errors import DownloadError, UsageError
from ..options import Links, check_kind
from ..sansio.http.links import MADE_UP, LinkRules, is_loopback, known_network, leads_inside

_LOOK: Final = 5.0  # seconds: a resolver that takes longer has nothing to tell before the paid request

log: logging.Logger = logging.getLogger(__name__)


class _SoundSocket(socket.socket):
    """A socket whose descriptor the collector does not close: by then the number may be that of a file."""

    def __del__(self) -> None:
        self.detach()


def connector(**options: Any) -> aiohttp.TCPConnector:
    """Return a new connector without a limit, safe to cancel on every event loop.

    uvloop before 0.23 closes the descriptor of a connect that is cancelled, and leaves it in the socket. All
    other ways close the socket itself.
    """
    is_uvloop = type(asyncio.get_running_loop()).__module__.startswith("uvloop")

    def sound(info: tuple[Any, ...]) -> socket.socket:
        return _SoundSocket(*info[:3])

    return aiohttp.TCPConnector(limit=0, socket_factory=sound if is_uvloop else None, **options)


class PrivateAddressError(OSError):
    """A name that leads to private addresses only; aiohttp takes it for a name that is not known."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address

    def explained(self) -> DownloadError:
        """Return it as one of our errors."""
        return leads_inside(self.address)


class LinkRoute(AbstractResolver):
    """How links are reached. As a resolver it leaves out the addresses that links may not lead to.

    Attributes:
        rules: where they may lead.
        session: the session to use, if one was lent for them.
    """

    def __init__(self, links: Links, *, api: str, lent: aiohttp.ClientSession | None) -> None:
        """Follow `links`, and beyond them what the session `lent` for the API at `api` does.

        Raises:
            UsageError: the session for links would hand its credentials to every host of a link.
        """
        what = "an aiohttp.ClientSession"
        check_kind("Links.session", links.session, aiohttp.ClientSession, what=what, or_none=True)
        check_kind("Links.ssl", links.ssl, SSLContext, what="an ssl.SSLContext", or_none=True)
        self.session: aiohttp.ClientSession | None = links.session
        own = links.session
        if own is not None and (own.auth is not None or "authorization" in own.headers):
            msg = "The session for links has credentials of its own, which every host of a link would see"
            raise UsageError(msg, hint="Pass a session without auth and without an authorization header")
        self._api_host = urlsplit(api).hostname or ""
        self.rules: LinkRules = LinkRules(loopback=is_loopback(self._api_host), allow=links.allow)
        self._links = links
        self._lent = lent if links.session is None else None
        self._looked = False
        if self._lent is not None and type(self._lent.connector) is not aiohttp.TCPConnector:
            log.warning(
                "Links are not fetched through the session's %s; if they must be, pass Links(session=...)",
                type(self._lent.connector).__name__,
            )

    def connector(self) -> aiohttp.TCPConnector:
        """Return a new connector for links, which leads to admitted addresses only."""
        family = self._of_lent("_family", socket.AF_UNSPEC)
        # A new connection for each GET: one that was kept alive may be dead, and the GET would count.
        return connector(resolver=self, use_dns_cache=False, family=family, force_close=True)

    def options(self, url: str) -> dict[str, Any]:
        """Return what a request to `url` takes beside its method and headers."""
        trust: Any = self._links.ssl or self._of_lent("_ssl", True)  # noqa: FBT003 - aiohttp's word for its default
        if isinstance(trust, aiohttp.Fingerprint):  # the API's own certificate, not a link's
            trust = True
        return {"ssl": trust, "proxy": self._proxy(url)}

    async def look_ahead(self) -> None:
        """Find out, once and before anything is paid, whether names lead where links may not.

        A local proxy that makes up an address for every name does so for the API's too: then links may lead
        to such addresses. Any other private address of the API is worth a warning.
        """
        api = self._api_host
        if self._looked or is_loopback(api) or self.session is not None or self._proxy(f"https://{api}"):
            return
        self._looked = True
        found: list[ResolveResult] = []
        with anyio.move_on_after(_LOOK), suppress(OSError):
            found = await self._addresses(api, 443, socket.AF_UNSPEC)
        addresses = [item["host"] for item in found if item["host"] != api]
        if not addresses or any(map(self.rules.admits, addresses)):
            return
        network, kind = known_network(addresses[0]) or ("", "")
        if network == MADE_UP:
            self.rules = evolve(self.rules, allow=(*self.rules.allow, MADE_UP))
        elif network:
            log.warning(
                "%s leads to %s (%s). A link that leads there is not followed, unless the client is made with"
                ' links=Links(allow=["%s"])',
                *(api, addresses[0], kind, network),
            )

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of `host` that may be connected to; a proxy may be anywhere.

        Raises:
            PrivateAddressError: there are none.
        """
        found = await self._addresses(host, port, family)
        kept = [item for item in found if self.rules.admits(item["host"])]
        proxies = [self._proxy(f"{scheme}://link.invalid") for scheme in ("http", "https")]
        if found and not kept and host not in {proxy.host for proxy in proxies if proxy is not None}:
            raise PrivateAddressError(found[0]["host"])
        return kept or found

    async def close(self) -> None:
        """Do nothing: there is nothing to close, and a lent resolver is not ours."""

    async def _addresses(self, host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
        resolver: AbstractResolver = self._of_lent("_resolver", None) or aiohttp.ThreadedResolver()
        return await resolver.resolve(host, port, family)

    def _proxy(self, url: str) -> URL | None:
        if self._links.proxy is not None:
            return URL(self._links.proxy)
        if self._lent is None:
            return None
        if (proxy := getattr(self._lent, "_default_proxy", None)) is not None:
            auth: Any = getattr(self._lent, "_default_proxy_auth", None)
            known = URL(proxy)
            return known if auth is None else known.with_user(auth.login).with_password(auth.password)
        parts = urlsplit(url)
        if not self._lent.trust_env or proxy_bypass(parts.hostname or ""):
            return None
        named = getproxies().get(parts.scheme)
        return URL(named) if named else None

    def _of_lent(self, name: str, default: Any) -> Any:
        """Return what the connector of the lent session was made with: aiohttp has no public word for it."""
        return getattr(self._lent and self._lent.connector, name, default)
