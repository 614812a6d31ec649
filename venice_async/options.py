"""How a client behaves; every default says where it comes from. All times are seconds."""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args
from urllib.parse import urlsplit

from attrs import Attribute, field, frozen

from .errors import UsageError

if TYPE_CHECKING:
    from ssl import SSLContext

    from aiohttp import ClientSession

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

BASE_URL: Final = "https://api.venice.ai/api/v1"


def check_number(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: bool = False,
    whole: bool = False,
    or_none: bool = False,
) -> None:
    """Refuse what is no number from `low` to `high`; with `above`, `low` itself is refused too.

    Raises:
        UsageError: it is none; the message says what `name` takes.
    """
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:  # a whole number beyond all floats
        number = math.nan
    if low <= number <= high and not (above and number == low) and not (whole and not number.is_integer()):
        return
    if value is None and or_none:
        return
    least = f" {'above' if above else 'at least'} {low:g}" if low > -math.inf else ""
    most = f" and at most {high:g}" if high < math.inf else ""
    msg = f"{name} must be a {'whole ' if whole else ''}number{least}{most}, not {value!r}"
    raise UsageError(msg)


def check_kind(name: str, value: object, *kinds: Any, what: str, or_none: bool = False) -> None:
    """Refuse what is of none of `kinds`. The value itself is not shown: it may be a secret.

    Raises:
        UsageError: it is of another kind; the message says that `name` must be `what`.
    """
    if isinstance(value, kinds) or (value is None and or_none):
        return
    msg = f"{name} must be {what}, not {type(value).__name__}"
    raise UsageError(msg)


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False, such as the text "no", which Python takes for true.

    Raises:
        UsageError: it is something else.
    """
    check_kind(name, value, bool, what="True or False")


def bound(low: float, **more: Any) -> Any:
    """Return the validator of a number; see `check_number`."""

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        check_number(f"{type(instance).__name__}.{attribute.name}", value, low=low, **more)

    return check


def kind(*kinds: Any, what: str, or_none: bool = False) -> Any:
    """Return the validator of a value of one of `kinds`; see `check_kind`."""

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        name = f"{type(instance).__name__}.{attribute.name}"
        check_kind(name, value, *kinds, what=what, or_none=or_none)

    return check


def one_of(literal: Any) -> Any:
    """Return the validator of a literal type; None is taken where it is the default."""
    values = get_args(literal)

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        if value not in values and not (value is None and attribute.default is None):
            listed = ", ".join(map(repr, values))
            msg = f"{type(instance).__name__}.{attribute.name} must be one of {listed}, not {value!r}"
            raise UsageError(msg)

    return check


def flag() -> Any:
    """Return the validator of a boolean; see `check_flag`."""
    return kind(bool, what="True or False")


@frozen(kw_only=True)
class Timeouts:
    """How long to wait, in seconds.

    Attributes:
        connect: for a connection, TLS included.
        read: without a byte from the server; our choice, about twice the slowest healthy first byte.
        queue: for a paid request to be accepted: its turn, and the pauses that the server asks for when the
            rate is limited or the model has no capacity. After it a `RateLimitError` says that nothing was
            charged.
        job: from queued to done; None means max(10 x the model's P80, 30 minutes), which a healthy job never
            meets.
    """

    connect: float = field(default=10.0, validator=bound(0, above=True))
    read: float = field(default=30.0, validator=bound(0, above=True))
    queue: float = field(default=600.0, validator=bound(0, above=True))
    job: float | None = field(default=None, validator=bound(0, or_none=True, above=True))


@frozen(kw_only=True)
class Limits:
    """What the key allows, until the server's headers say otherwise.

    Attributes:
        queue_per_minute: paid requests a minute; 40 by the vendor's rate limit page.
        retrieve_per_minute: polls a minute; 120 by the vendor's rate limit page.
        share: the part of both that this client may use, in (0, 1]: below 1 for a key that is used elsewhere
            too.
        account: names the account for several keys of it, which then share its limits where they share a
            journal; None for the key by itself.
        failures: failed requests (4xx but 429) in 30 s to stay under. The vendor's page blocks the key for 30
            s above 20; above 50 is what has been seen, so up to 50 is accepted.
    """

    queue_per_minute: float = field(default=40.0, validator=bound(0, above=True))
    retrieve_per_minute: float = field(default=120.0, validator=bound(0, above=True))
    share: float = field(default=1.0, validator=bound(0, above=True, high=1))
    account: str | None = None
    failures: int = field(default=20, validator=bound(2, high=50, whole=True))

    def __attrs_post_init__(self) -> None:
        name: Any = self.account
        if name is not None and not (isinstance(name, str) and name.strip()):
            msg = f"Limits.account must be a name or None, not {name!r}"
            raise UsageError(msg)


@frozen(kw_only=True)
class Budget:
    """The most that all jobs of a journal may cost, whichever processes queue them. Days and months are UTC.

    What is reserved counts from the moment it is sent, and a request of unknown outcome counts; what was
    refused or refunded does not.

    Attributes:
        daily: USD a day; None for no limit.
        monthly: USD a calendar month; None for no limit.
    """

    daily: float | None = field(default=None, validator=bound(0, or_none=True))
    monthly: float | None = field(default=None, validator=bound(0, or_none=True))

    def __bool__(self) -> bool:
        """Tell whether there is any limit."""
        return self.daily is not None or self.monthly is not None

    @classmethod
    def meant_by(cls, given: Budget | float | None) -> Budget:
        """Return the budget that a caller has given; None stands for that of the environment.

        Raises:
            UsageError: it is no budget and no number.
        """
        if given is None:
            return cls.of_environment()
        if not isinstance(given, Budget):
            check_number("budget", given, low=0)
        return given if isinstance(given, Budget) else cls(daily=given)

    @classmethod
    def of_environment(cls) -> Budget:
        """Return what `VENICE_DAILY_USD` and `VENICE_MONTHLY_USD` say.

        Raises:
            UsageError: one of them is no sum.
        """
        said = {name: os.environ.get(f"VENICE_{name.upper()}_USD", "") for name in ("daily", "monthly")}
        try:
            return cls(**{name: float(text) for name, text in said.items() if text.strip()})
        except ValueError:
            msg = "VENICE_DAILY_USD and VENICE_MONTHLY_USD must be numbers of at least 0"
            raise UsageError(msg) from None


@frozen(kw_only=True)
class Polling:
    """How often to poll.

    Attributes:
        price: seconds of delay that one poll is worth: a job is polled once waiting has cost more than that.
            0.03 keeps a single job's mean delay near one second; take 0.1 when the key is shared.
        min_gap: least seconds between two polls of one job.
        max_gap: most seconds between two polls of one job that is past half of its model's P80.
    """

    price: float = field(default=0.03, validator=bound(0, above=True))
    min_gap: float = field(default=1.0, validator=bound(0, above=True))
    max_gap: float = field(default=30.0, validator=bound(0, above=True))

    def __attrs_post_init__(self) -> None:
        if self.min_gap > self.max_gap:
            msg = f"Polling.min_gap ({self.min_gap:g}) is above Polling.max_gap ({self.max_gap:g})"
            raise UsageError(msg)


@frozen(kw_only=True)
class Retries:
    """How retries are rationed across a client, so that an outage is not made worse by them.

    Attributes:
        quota: tokens to start with and to hold at most; 50, the order of botocore's standard retry quota.
        cost: tokens one retry takes.
        refund: tokens one success gives back.
        refunded: whether a job that failed is queued once more where Venice says that its price was given
            back: the same request under the same key, once. Its ticket is another one then.
    """

    quota: float = field(default=50.0, validator=bound(0))
    cost: float = field(default=5.0, validator=bound(0))
    refund: float = field(default=1.0, validator=bound(0))
    refunded: bool = field(default=False, validator=flag())


def _networks(value: str | Network | Iterable[str | Network]) -> tuple[Network, ...]:
    several = [value] if isinstance(value, str | Network) else value
    try:
        return tuple(ipaddress.ip_network(network, strict=False) for network in several)
    except (ValueError, TypeError):
        msg = f"Links.allow must be networks such as '198.18.0.0/15', not {value!r}"
        raise UsageError(msg) from None


@frozen(kw_only=True)
class Links:
    """How download links are reached.

    What is left out is taken from the client's borrowed `session`, where there is one: its TLS context, name
    resolver and proxy, never its headers, cookies or middlewares.

    Attributes:
        allow: networks that links may lead to although they are not public, as text: `"198.18.0.0/15"` for
            the addresses that Clash and Surge make up, `"100.64.0.0/10"` for those of Tailscale.
        proxy: the http(s) URL of a proxy; it is not shown. The proxy resolves names.
        ssl: the TLS context that says whom to trust, such as a company's own authority.
        session: an `aiohttp.ClientSession` for what only its connector can do, such as SOCKS; it is not
            closed. Where names lead is decided there: only addresses written in links are checked. Its
            headers and cookies reach the hosts of links; its middlewares are not used.
    """

    allow: tuple[Network, ...] = field(default=(), converter=_networks)
    proxy: str | None = field(default=None, repr=False)
    ssl: SSLContext | None = None
    session: ClientSession | None = None

    def __attrs_post_init__(self) -> None:
        try:
            parts = urlsplit(self.proxy or "http://none")
            sound = parts.scheme in {"http", "https"} and bool(parts.hostname)
        except (ValueError, AttributeError, TypeError):
            sound = False
        if not sound:  # it is not shown: it may hold a password
            msg = "Links.proxy must be the http(s) URL of a proxy, such as 'http://proxy.example:3128'"
            raise UsageError(msg, hint="For SOCKS pass a session= whose connector speaks it")
