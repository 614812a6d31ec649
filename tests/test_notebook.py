"""Notebook display: a clip shows itself as a player, a job as its progress."""

from __future__ import annotations

import base64
import re
import sys
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from tests.cases import for_each
from tests.clients import PUBLIC, client, until
from tests.venice import Venice
from venice_async.errors import ContentPolicyError, UsageError
from venice_async.formatting import as_bytes, as_seconds, as_usd
from venice_async.io.journal.entries import JournalEntry, Unfinished
from venice_async.markup import video_html
from venice_async.media import Media
from venice_async.models import AccountLimits, ModelLimit, VideoModel
from venice_async.notebook import Listing, state_html
from venice_async.requests import VideoRequest
from venice_async.results import ConsentRequest, Outcome, Quote, Ticket, Video
from venice_async.sansio.job.states import (
    AwaitingConsent,
    Downloading,
    Failed,
    Queueing,
    Quoting,
    Saved,
    State,
    Stopped,
    Succeeded,
    Waiting,
)

if TYPE_CHECKING:
    from pathlib import Path

LINK = "https://secret.example/abc?signature=s3cret"
TICKET = Ticket(model="<b>model</b>", queue_id="id-1", download_url=LINK)
REQUEST = VideoRequest(model="m", prompt="p")
VIDEO = Video(path=None, size=2_500_000, sha256="0" * 64, ticket=TICKET)


class Page(HTMLParser):
    """What a browser would make of some HTML: elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def one(self, tag: str) -> dict[str, str | None]:
        (found,) = (attributes for name, attributes in self.elements if name == tag)
        return found


def test_a_small_clip_is_put_into_the_page(tmp_path: Path) -> None:
    """It plays without the file, wherever the notebook goes."""
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"\0\0\0\x18ftypmp42")

    player = Page(video_html(clip, 12, inline_limit=12)).one("video")

    kind, _, data = str(player["src"]).partition(",")
    assert (kind, base64.b64decode(data)) == ("data:video/mp4;base64", clip.read_bytes())
    assert "controls" in player


def test_a_large_clip_is_named_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path is relative to the working folder and quoted, and the file is not read."""
    monkeypatch.chdir(tmp_path)
    clip = tmp_path / "cl ips" / 'a "b"#1%?.mp4'

    source = str(Page(video_html(clip, 13, inline_limit=12)).one("video")["src"])

    assert re.fullmatch(r"[\w%./-]+", source)
    assert unquote(source) == 'cl ips/a "b"#1%?.mp4'


def test_a_clip_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    """A streamed clip has no player, nor has one whose file is gone."""
    streamed, gone = Page(video_html(None, 2_500_000)), Page(video_html(tmp_path / "<gone>.mp4", 1))

    assert streamed.text == "A streamed clip of 2.5 MB"
    assert gone.text == f"{tmp_path / '<gone>.mp4'} cannot be read"
    assert {"div"} == {tag for page in (streamed, gone) for tag, _ in page.elements}


STATES: list[tuple[State, str, str | None]] = [
    (Quoting(request=REQUEST, max_usd=1), "Asking for the price", None),
    (Queueing(request=REQUEST), "Queueing", None),
    (
        AwaitingConsent(
            request=REQUEST,
            consent_request=ConsentRequest(flow="f", policy_text="t", consent_version="1"),
            asked=("f/1",),
        ),
        "Waiting for consentnothing is queued yet",
        None,
    ),
    (Waiting(ticket=TICKET), "Generating", None),
    (Waiting(ticket=TICKET, elapsed=45, eta=135), "Generating45 s so far, about 2 min 15 s left", "0.250"),
    (Waiting(ticket=TICKET, elapsed=0, eta=180), "Generating0 s so far, about 3 min 00 s left", "0.000"),
    (Downloading(ticket=TICKET, via="link", received=500_000), "Downloading500 KB", None),
    (
        Downloading(ticket=TICKET, via="poll", received=500_000, total=2_000_000),
        "Downloading500 KB of 2.0 MB",
        "0.250",
    ),
    (Saved(video=VIDEO), "Saved2.5 MB", "1.000"),
]


@for_each("state, text, value", STATES)
def test_a_job_under_way_shows_what_goes_on_and_how_far(state: State, text: str, value: str | None) -> None:
    """The bar has a value only where the part that is done is known."""
    page = Page(state_html(state))

    job = "<b>model</b>, job id-1" if getattr(state, "ticket", None) else ""
    assert page.text == text + job
    assert page.one("progress").get("value") == value


def test_a_job_that_ended_shows_how() -> None:
    """A failure says what happened, a stopped job that its ticket stays good, a success is its clip."""
    error = ContentPolicyError("No <script>alert(1)</script>", status=422).with_ticket(TICKET)
    failed = Page(state_html(Failed(error=error, ticket=TICKET)))

    assert failed.text.startswith(
        "Failed: ContentPolicyErrorNo <script>alert(1)</script>. The job has been paid for."
    )
    assert failed.text.endswith("[job id-1 on <b>model</b>]")
    assert "script" not in {tag for tag, _ in failed.elements}
    assert Page(state_html(Stopped())).text == "No longer watchednothing was queued"
    assert Page(state_html(Stopped(ticket=TICKET))).text.startswith(
        "No longer watchedits ticket is still valid"
    )
    assert state_html(Succeeded(video=VIDEO)) == video_html(None, VIDEO.size)


def test_no_link_is_ever_shown() -> None:
    """The link is a secret, and notebooks are shared."""
    states = [state for state, _, _ in STATES]
    shown = "".join(map(state_html, [*states, Stopped(ticket=TICKET), Succeeded(video=VIDEO)]))

    assert "secret" not in shown
    assert "s3cret" not in shown


MODELS = Listing(
    [
        VideoModel(id="a-text-to-video", model_type="text-to-video", durations=("5s", "10s"), beta=True),
        VideoModel(id="<b>b</b>", model_type="text-to-video", audio=True),
    ]
)
ACCOUNT = AccountLimits(
    access_permitted=True,
    tier="paid",
    balances={"USD": 12.5, "DIEM": 3.0},
    limits=(
        ModelLimit(model="m", amount=40, type="RPM"),
        ModelLimit(model="m", amount=5000, type="RPD"),
        ModelLimit(model="", amount=20, type="RPM"),
    ),
)


def cells(html: str) -> list[str]:
    return re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", html)


def test_models_are_a_table_of_what_each_takes() -> None:
    html = MODELS._repr_html_()
    assert cells(html) == [
        *("model", "kind", "takes", "durations", "sound", ""),
        *("a-text-to-video", "text-to-video", "text", "5s, 10s", "", "beta"),
        *("&lt;b&gt;b&lt;/b&gt;", "text-to-video", "text", "", "yes", ""),
    ]
    assert Page(html).text.endswith("2 in all")
    assert re.findall(r"(?:color|background):(?!inherit|none)", html) == []  # those of a light or dark page


def test_limits_and_prices_can_be_read_in_a_notebook_and_a_terminal() -> None:
    first = "tier paid, $12.50 and 3 DIEM left, the key does not expire"
    assert str(ACCOUNT).splitlines() == [first, "m: 40 RPM, 5,000 RPD", "all models: 20 RPM"]
    assert Page(ACCOUNT._repr_html_()).text == f"{first}modellimitm40 RPM, 5,000 RPDall models20 RPM"
    assert Page(Quote(usd=0.75)._repr_html_()).text == "$0.75 at this moment; nothing is reserved"


def test_a_picture_in_memory_is_shown_and_a_file_is_not_read() -> None:
    png = b"\x89PNG\r\n\x1a\n..."
    assert Media(png)._repr_mimebundle_()["image/png"] == png
    assert (
        list(Media("cat.png")._repr_mimebundle_())
        == list(Media(b"GIF8")._repr_mimebundle_())
        == ["text/plain"]
    )


def test_outcomes_and_the_journal_are_tables_without_links() -> None:
    outcomes = Listing(
        [
            Outcome(index=0, request=REQUEST, video=VIDEO, usd=0.5),
            Outcome(index=1, request=VideoRequest(model="m", prompt="x" * 90), error=UsageError("<i>no</i>")),
        ]
    )
    head = ["#", "model", "prompt", "clip", "error", "price"]
    first = ["0", "m", "p", "2.5 MB", "", "$0.50"]
    second = ["1", "m", "x" * 80 + "…", "", "&lt;i&gt;no&lt;/i&gt;.", ""]
    assert cells(outcomes._repr_html_()) == [*head, *first, *second]
    entry = JournalEntry(state=Waiting(ticket=TICKET, elapsed=45), request=REQUEST, key="order-1", usd=0.5)
    html = Unfinished([entry])._repr_html_()
    assert {"id-1", "order-1", "Generating 45 s so far", "$0.50"} <= set(cells(html))
    assert "s3cret" not in html
    assert "None" in Unfinished()._repr_html_()


class Cell:
    """Stands for IPython: the one cell in which a job is shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def display(self, bundle: dict[str, str], *, raw: bool, display_id: bool) -> Cell:
        assert raw
        assert display_id
        self.update(bundle, raw=raw)
        return self

    def update(self, bundle: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown.append(Page(bundle["text/html"]).text)


@pytest.mark.anyio
async def test_a_job_redraws_itself_in_its_one_cell_until_its_clip_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    monkeypatch.setitem(sys.modules, "IPython.display", cell)
    async with Venice() as server, client(server) as venice:
        job = venice.generate(PUBLIC, to=tmp_path / "clip.mp4")
        job._ipython_display_()
        await job
        await until(lambda: "cannot be read" not in cell.shown[-1] and "clip.mp4" in cell.shown[-1])
        job._ipython_display_()  # again: there is nothing left to follow
    assert cell.shown[0] == "Queueing"
    assert cell.shown[-1] == cell.shown[-2]
    assert re.fullmatch(r"VideoJob \S+: Succeeded", job._repr_mimebundle_()["text/plain"].strip("<>"))


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (0, "$0.00"),
        (0.5, "$0.50"),
        (0.0125, "$0.0125"),
        (0.125, "$0.1250"),
        (1204, "$1,204.00"),
        (0.1 + 0.2, "$0.30"),
    ],
)
def test_money_is_shown_in_cents_unless_it_has_parts_of_one(usd: float, text: str) -> None:
    """A price is never rounded away."""
    assert text == as_usd(usd)


@for_each(
    "seconds, text",
    [
        (0, "0 s"),
        (4.25, "4.2 s"),
        (9.96, "10 s"),
        (42.4, "42 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (3840, "1 h 04 min"),
    ],
)
def test_time_is_shown_in_its_two_largest_units(seconds: float, text: str) -> None:
    """Rounding never gives sixty of a unit."""
    assert text == as_seconds(seconds)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (940, "940 B"),
        (1000, "1.0 KB"),
        (180_207, "180 KB"),
        (12_400_000, "12.4 MB"),
        (5e12, "5000 GB"),
    ],
)
def test_bytes_are_shown_in_decimal_units(size: float, text: str) -> None:
    """Three digits at most, but for what is beyond the largest unit."""
    assert text == as_bytes(size)
