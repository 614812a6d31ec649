"""The options that commands share, as frozen groups: a field is an option, its docstring is the help."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from attrs import frozen
from cyclopts import Group, Parameter, Token
from cyclopts.validators import Number

from ..errors import UsageError
from ..options import BASE_URL
from ..sansio.naming import checked_pattern, is_object_url, is_pattern, with_number
from ..validators import is_postgres

MAIN: Final = Group("Main options", sort_key=1)
BATCH: Final = Group("Batch", sort_key=2)
PICTURE: Final = Group("More about the clip", sort_key=3)
MEDIA: Final = Group("Media (FILE or URL)", sort_key=4)
MORE: Final = Group("More fields", sort_key=5)
_MONEY: Final = Group("Money", sort_key=6)
_JOURNAL: Final = Group("Journal", sort_key=7)
_CONNECTION: Final = Group("Connection", sort_key=8)
_OUTPUT: Final = Group("Output", sort_key=9)
CHOOSE: Final = "Name a file for it with --journal or VENICE_JOURNAL, or add --no-journal"
_LONGEST: Final = 3600.0  # seconds: more than any model takes
_MOST_TAKES: Final = 1000
_ASK_ABOVE: Final = 1.0  # USD
_LIVE: Final = urlsplit(BASE_URL).hostname
_UNSEEN: Final = Parameter(show=False)


def _place(kind: object, tokens: Sequence[Token]) -> Path | str:
    text = tokens[0].value
    return text if is_object_url(text) else Path(text)


def _output(kind: object, tokens: Sequence[Token]) -> Path | str:
    """Return a place; a missing folder stays text, because a path drops the slash at its end."""
    text = tokens[0].value
    if text.endswith(("/", os.sep)) and not os.path.isdir(text):  # noqa: PTH112 - unlike Path's it never raises
        return text
    return _place(kind, tokens)


Place: TypeAlias = Annotated[Path | str, Parameter(converter=_place)]
"""A file, a folder, or the URL of one in an object store."""

Text = Annotated[str, Parameter(metavar="TEXT", allow_leading_hyphen=True)]
Medium = Annotated[str, Parameter(metavar="MEDIA")]
Usd = Annotated[float, Parameter(metavar="USD", validator=Number(gte=0))]
Seconds = Annotated[float, Parameter(metavar="SECONDS", validator=Number(gt=0))]
Port = Annotated[int, Parameter(metavar="PORT", show_default=True, validator=Number(gte=0, lte=65535))]
Fields = Annotated[tuple[str, ...], Parameter(metavar="NAME=JSON", allow_leading_hyphen=True)]
ReferenceSeconds = Annotated[
    float, Parameter(metavar="SECONDS", group=_MONEY, validator=Number(gte=0, lte=_LONGEST))
]


@Parameter(name="*", group=_OUTPUT)
@frozen(kw_only=True)
class Output:
    """How much is said, and to whom.

    Attributes:
        json: Print results and errors as JSON, for scripts.
        quiet: Print only errors and results.
        verbose: Log details.
    """

    json: bool = False
    quiet: Annotated[bool, Parameter(alias="-q")] = False
    verbose: Annotated[bool, Parameter(alias="-v")] = False


@Parameter(name="*", group=_CONNECTION)
@frozen(kw_only=True)
class Access:
    """Which Venice to talk to, and where tickets are kept through a crash.

    Attributes:
        base_url: Where the API is; VENICE_BASE_URL, or https://api.venice.ai/api/v1, by default.
        api_key: Better set VENICE_API_KEY: others on this machine can see a key that is given here.
        sandbox: Run on a simulated Venice: no key, no money, real clips.
        speed: How much faster than in reality the --sandbox works.
        allow: A private network that links of clips may lead to, such as 198.18.0.0/15. Repeatable.
        journal: Keeps tickets through a crash; by default VENICE_JOURNAL, or a file in your state folder.
        no_journal: Keep no journal.
        no_sidecar: Write no .json file beside each clip.
    """

    base_url: Annotated[str | None, Parameter(metavar="URL")] = None
    api_key: Annotated[str | None, Parameter(metavar="KEY")] = None
    sandbox: bool = False
    speed: Annotated[float, Parameter(metavar="X", show_default=True)] = 60.0
    allow: Annotated[tuple[str, ...], Parameter(metavar="NETWORK")] = ()
    journal: Annotated[str | None, Parameter(metavar="FILE|POSTGRES-URI", group=_JOURNAL)] = None
    no_journal: Annotated[bool, Parameter(group=_JOURNAL)] = False
    no_sidecar: Annotated[bool, Parameter(group=_JOURNAL)] = False

    def __repr__(self) -> str:
        """Show the URL, without the key."""
        return f"{type(self).__name__}({self.url!r})"

    @property
    def url(self) -> str:
        """The base URL, unless it is an embedded sandbox's."""
        return self.base_url or os.environ.get("VENICE_BASE_URL") or BASE_URL

    @property
    def host(self) -> str:
        """Host and port, as a part of a file's name.

        Raises:
            UsageError: the base URL is no URL.
        """
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.parts.netloc.rpartition("@")[2])

    @property
    def parts(self) -> SplitResult:
        """The base URL in parts.

        Raises:
            UsageError: it is no URL.
        """
        try:
            return urlsplit(self.url)
        except ValueError as error:
            msg = f"The base URL {self.url!r} is no URL: {error}"
            raise UsageError(msg, hint=f"It looks like {BASE_URL}") from error

    @property
    def journal_path(self) -> Path | str | None:
        """The journal's file, or the URI of its database, or None for none.

        Each service has one of its own, in the user's state folder by the XDG Base Directory Specification: a
        ticket is good only where it was given.

        Raises:
            UsageError: the options contradict each other, or the user has no home folder.
        """
        if self.no_journal:
            if self.journal is not None:
                msg = "--journal and --no-journal exclude each other"
                raise UsageError(msg)
            return None
        if named := self.journal or os.environ.get("VENICE_JOURNAL", ""):
            return named if is_postgres(named) else Path(named)
        if self.sandbox:
            return None
        state = os.environ.get("XDG_STATE_HOME", "")
        try:
            folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
        except RuntimeError:  # no HOME, and a user whom the machine does not know
            folder = Path()
        if not folder.is_absolute():
            msg = "There is no home folder, and so no place for the journal"
            raise UsageError(msg, hint=CHOOSE)
        name = "jobs.db" if self.parts.hostname == _LIVE else f"jobs-{self.host}.db"
        return folder / "venice-async" / name


@Parameter(name="*", group=_CONNECTION)
@frozen(kw_only=True, repr=False)
class Connection(Access):
    """Which Venice to talk to, without a journal."""

    journal: Annotated[str | None, Parameter(parse=False)] = None
    no_journal: Annotated[bool, Parameter(parse=False)] = True
    no_sidecar: Annotated[bool, Parameter(parse=False)] = False


# Options that a command does not use are accepted but hidden: only the command's name needs to be changed.
@Parameter(name="*", group=_CONNECTION)
@frozen(kw_only=True, repr=False)
class CheckedAccess(Access):
    """For a command that makes no clip."""

    no_journal: Annotated[bool, _UNSEEN] = False
    no_sidecar: Annotated[bool, _UNSEEN] = False


@Parameter(name="*", group=_CONNECTION)
@frozen(kw_only=True, repr=False)
class LastingAccess(CheckedAccess):
    """For a command that needs a Venice which outlives it, as an embedded sandbox does not."""

    sandbox: Annotated[bool, _UNSEEN] = False
    speed: Annotated[float, _UNSEEN] = 60.0


@Parameter(name="*", group=_CONNECTION)
@frozen(kw_only=True, repr=False)
class JournalAccess(LastingAccess):
    """For a command that reads the journal and sends nothing; each Venice has a journal of its own."""

    api_key: Annotated[str | None, _UNSEEN] = None
    allow: Annotated[tuple[str, ...], _UNSEEN] = ()


@Parameter(name="*", group=_MONEY)
@frozen(kw_only=True)
class ConfirmOptions:
    """When to ask before money is spent.

    Attributes:
        yes: Do not ask, whatever it costs.
        ask_above: Ask before spending more than this; VENICE_ASK_ABOVE, or 1, by default.
    """

    yes: Annotated[bool, Parameter(alias="-y")] = False
    ask_above: Usd | None = None

    @property
    def threshold(self) -> float:
        """USD above which a person is asked.

        Raises:
            UsageError: the environment names no sum.
        """
        if self.yes:
            return math.inf
        said = (
            self.ask_above if self.ask_above is not None else os.environ.get("VENICE_ASK_ABOVE") or _ASK_ABOVE
        )
        try:
            threshold = float(said)
        except ValueError:
            threshold = math.nan
        if not threshold >= 0:
            msg = f"VENICE_ASK_ABOVE must be a number of at least 0, not {said!r}"
            raise UsageError(msg)
        return threshold


@Parameter(name="*", group=PICTURE)
@frozen(kw_only=True)
class Target:
    """Where the clip goes.

    Attributes:
        output: The clip's file; or a folder, here by default; or s3://bucket/clips/; or - for stdout.
        name: The clip's name in the folder, such as '{key}-{model}'; by default its prompt and a short id.
        overwrite: Replace a file that exists.
        timeout: How long to wait for the clip; by default ten times the usual time, at least 30 minutes.
    """

    output: Annotated[
        Path | str,
        Parameter(alias="-o", metavar="FILE", group=MAIN, allow_leading_hyphen=True, converter=_output),
    ] = Path()
    name: Text | None = None
    overwrite: bool = False
    timeout: Seconds | None = None

    @property
    def place(self) -> Path | str:
        """The file, the folder, or the pattern in it."""
        if self.name is None:
            return self.output
        if isinstance(self.output, Path):
            return self.output / checked_pattern(self.name)
        return f"{self.output.rstrip('/')}/{checked_pattern(self.name)}"

    def of_take(self, number: int, count: int) -> Path | str:
        """Return the file, or the folder, of one of several takes, counted from 1."""
        place = self.place
        text, name = str(place), os.path.basename(place)  # noqa: PTH119 - it may be a URL, of which no part is changed
        is_folder = self.name is None and isinstance(place, Path) and place.is_dir()
        if count == 1 or not name or is_folder:
            return place
        if is_pattern(name):
            taken = with_number(name, number)
        else:
            stem, suffix = os.path.splitext(name)  # noqa: PTH122 - see above
            taken = f"{stem}-{number}{suffix}"
        whole = text[: len(text) - len(name)] + taken
        return Path(whole) if isinstance(place, Path) else whole


@Parameter(name="*")
@frozen(kw_only=True)
class ClipOptions:
    """How one clip is made: where it goes, what it may cost, and which Venice makes it.

    Attributes:
        count: Takes to make, as FILE-1, FILE-2 ...; a seed counts up from take to take.
        max_usd: The most it may cost, all takes together.
        key: Names the order, such as order-4711, paid for once however often it comes; needs the journal.
        tag: A note for the journal, such as --tag customer=acme. Repeatable.
    """

    target: Target = Target()
    count: Annotated[int, Parameter(metavar="N", group=MAIN, validator=Number(gte=1, lte=_MOST_TAKES))] = 1
    max_usd: Annotated[Usd | None, Parameter(group=MAIN)] = None
    key: Annotated[str | None, Parameter(metavar="KEY", group=_JOURNAL)] = None
    tag: Annotated[tuple[str, ...], Parameter(metavar="NAME=TEXT", group=_JOURNAL)] = ()
    confirm: ConfirmOptions = ConfirmOptions()
    access: Access = Access()

    @property
    def tags(self) -> dict[str, str]:
        """The notes, by name.

        Raises:
            UsageError: one has no name.
        """
        pairs = [item.partition("=") for item in self.tag]
        if not all(name and equals for name, equals, _ in pairs):
            msg = "--tag takes NAME=TEXT"
            raise UsageError(msg, hint="Such as --tag customer=acme")
        return {name: text for name, _, text in pairs}
