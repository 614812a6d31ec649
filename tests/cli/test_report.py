"""The report: one page beside the clips that needs nothing else and says what happened to each request."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import av
import pytest
from PIL import Image, ImageStat

from tests.browser import Tab, tab
from venice_async.cli.dashboard.page import write_report
from venice_async.cli.dashboard.rows import report_row

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = (
    "</script><script>alert(\"x\")</script> & 'quotes' <img src=x onerror=alert(1)> $title <!--head--> \u202e"
)
Item = tuple[int, dict[str, Any]]
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


class Page:
    """A page that was written: its text, and the data that lies in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.html = path.read_text(encoding="utf-8")
        self.data: dict[str, Any] = json.loads(DATA.findall(self.html)[0])
        self.rows: list[dict[str, Any]] = self.data["rows"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of two seconds, black at first and red from a quarter on."""
    path = tmp_path_factory.mktemp("clips") / 'a clip "1"#50%?:é.mp4'
    container: Any  # PyAV leaves the parameter of its Packet open
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for number in range(20):
            picture = Image.new("RGBA", (640, 360), (230, 0, 0) if number >= 5 else 0)
            frame: Any = av.VideoFrame.from_bytes(picture.tobytes(), 640, 360, format="rgba")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def written(folder: Path, *items: Item, title: str = "Batch", **keywords: Any) -> Page:
    rows = [report_row(folder, index, **facts) for index, facts in items]
    write_report(folder / "report.html", {"title": title, "rows": rows, **keywords})
    return Page(folder / "report.html")


def item(index: int = 0, **facts: Any) -> Item:
    return index, {"model": "model", "prompt": "a fox", **facts}


@asynccontextmanager
async def seen(
    browser: int, folder: Path, *items: Item, width: int = 1280, **facts: Any
) -> AsyncGenerator[Tab]:
    path = written(folder, *items, **facts).path
    async with tab(browser) as page:
        await page.look(path.as_uri(), width=width)
        yield page
        assert {path.as_uri()} >= {
            address for address in page.asked if not re.match(r"data:|file:.*mp4$", address)
        }


async def ids(page: Tab) -> list[str]:
    found: list[str] = await page.run("[...document.querySelectorAll('.card')].map(one => one.id)")
    return found


def test_every_clip_is_named_by_its_place_beside_the_page(tmp_path: Path, clip: Path) -> None:
    """The player's address is relative to the page and leads to the file, whatever its name."""
    (row,) = written(tmp_path, item(clip=clip, size=180_207)).rows

    assert re.fullmatch(r"[\w%.-][\w%./-]*", row["clip"])
    assert clip.samefile(tmp_path / unquote(row["clip"]))
    assert (clip.name, 180_207, "done") == (row["name"], row["size"], row["status"])


def test_a_poster_shows_a_frame_from_within_the_clip(tmp_path: Path, clip: Path) -> None:
    """Not the first, which is often black; with it the browser need not open the file before it is played."""
    (row,) = written(tmp_path, item(clip=clip)).rows

    kind, _, data = row["poster"].partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (480, 270))
        red, green, _ = ImageStat.Stat(picture.convert("RGB")).mean
    assert red > 200
    assert green < 60
    assert (640, 360, 2.0) == (row["width"], row["height"], row["length"])


def test_the_page_asks_nothing_of_any_network(tmp_path: Path, clip: Path) -> None:
    """Its policy allows its own style and script alone, and the clips beside it."""
    page = written(tmp_path, item(clip=clip, prompt=HOSTILE), title=HOSTILE)

    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page.html)[0]
    assert policy.startswith("default-src 'none'; ")
    style, script = (
        re.findall(rf"<{tag}>(.*?)</{tag}>", page.html, re.DOTALL) for tag in ("style", "script")
    )
    for tag, (text,) in {"style": style, "script": script}.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"url\(|@import", style[0])
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval", script[0])
    assert not re.search(r"""<[^>]*\s(?:style|on\w+)=|(?:src|href)=["'](?!data:)""", DATA.sub("", page.html))


@pytest.mark.parametrize("content", [b"", b"\0\0\0\x18ftypmp42 broken", b"<html>"])
def test_a_damaged_clip_does_not_keep_the_report_from_being_written(tmp_path: Path, content: bytes) -> None:
    """It has no poster, and the rest of the page is there."""
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)

    (row,) = written(tmp_path, item(clip=damaged)).rows
    assert ("damaged.mp4", None) == (row["clip"], row.get("poster"))


def test_half_a_character_does_not_keep_the_report_from_being_written(tmp_path: Path) -> None:
    """JSON can hold half of a surrogate pair, which no file can."""
    assert "a \ud83e fox" == written(tmp_path, item(prompt="a \ud83e fox")).rows[0]["prompt"]
    assert '<h1 dir="auto">a ? fox</h1>' in written(tmp_path, title="a \ud83e fox").html


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure leaves the former page, and nothing beside it."""
    before = written(tmp_path, title="before").html

    def full(_: int) -> None:
        raise OSError(28, "disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path / "report.html", {"title": "after", "rows": []})

    assert before == (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ["report.html"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
class TestInABrowser:
    """What a person sees and does."""

    async def test_a_clip_plays_and_the_one_before_it_stops(
        self, browser: int, tmp_path: Path, clip: Path
    ) -> None:
        async with seen(browser, tmp_path, item(0, clip=clip), item(1, clip=clip)) as page:
            assert ["Play clip 1", "Play clip 2"] == await page.run(
                "[...document.querySelectorAll('.stage button')].map(one => one.ariaLabel)"
            )
            await page.click("#clip-1 .stage button")
            await page.until("document.querySelector('#clip-1 video')?.currentTime > 0")
            await page.click("#clip-2 .stage button")
            await page.until("document.querySelector('#clip-2 video')?.currentTime > 0")
            assert await page.run("document.querySelector('#clip-1 video').paused")
            assert [] == page.trouble

    async def test_totals_failures_and_facts_are_said_in_words(
        self, browser: int, tmp_path: Path, clip: Path
    ) -> None:
        """Money that was surely spent is told apart from money that may have been."""
        items = (
            item(0, clip=clip, usd=0.5, took=100, charged=True, key="dawn", tags={"set": "a"}, seed=7),
            item(1, clip=clip, usd=0.0125, took=200, charged=True),
            item(2, clip=clip, charged=True),
            item(3, error="refused", hint="Change it", usd=0.5, charged=False, duration="5s"),
            item(4, error="lost", usd=0.25, charged=None),
            item(5),
        )
        started = datetime(2026, 11, 22, 10, 7).timestamp()  # noqa: DTZ001 - the page shows local times
        finished = started + 150
        async with seen(browser, tmp_path, *items, started=started, finished=finished) as page:
            assert [
                "Clips 3 of 6 1 not ended",
                "Spent $0.5125 and up to $0.25 unknown, price known for 2 of 3",
                "Time 2 min 30 s 5 min 00 s one by one",
                "Failed 2",
            ] == await page.texts(".totals > div")
            assert ["22 November 2026, 10:07 to 10:09"] == await page.texts(".when")
            assert [
                "Failed nothing charged refused Change it",
                "Failed charge unknown lost",
            ] == await page.texts(".failed .stage")
            assert (
                "Price $0.50 Length 2 s Size 640\u00d7360 Took 1 min 40 s Seed 7"
                == (await page.texts(".facts"))[0]
            )
            assert "Quote $0.50 Length 5 s" in await page.texts(".facts")
            assert ["dawn model", "set: a"] == [
                *(await page.texts(".head"))[:1],
                *await page.texts(".tags li"),
            ]

    async def test_filters_and_the_search_narrow_what_is_shown(
        self, browser: int, tmp_path: Path, clip: Path
    ) -> None:
        items = (
            item(0, clip=clip, prompt="a fox"),
            item(1, error="no", key="dawn-1"),
            item(2, prompt="an owl"),
        )
        async with seen(browser, tmp_path, *items) as page:
            assert ["All 3", "Clips 1", "Failed 1", "Not ended 1"] == await page.texts(".shown button")
            await page.click("[data-show=failed]")
            assert ["clip-2"] == await ids(page)
            assert "#failed" == await page.run("location.hash")
            await page.click("[data-show=all]")
            await page.key("/")
            for letter in "DAWN":
                await page.key(letter)
            assert ["clip-2"] == await ids(page)
            await page.key("x")
            assert ["Nothing matches."] == await page.texts(".empty")
            await page.key("Escape")
            assert ["clip-1", "clip-2", "clip-3"] == await ids(page)

    async def test_no_text_becomes_part_of_the_page(self, browser: int, tmp_path: Path) -> None:
        """Prompts, models, titles, reasons and names are shown letter by letter."""
        clip = tmp_path / "<img src=x onerror=alert(1)>.mp4"
        clip.write_bytes(b"no clip")
        items = (
            item(0, prompt=HOSTILE, model=HOSTILE, key=HOSTILE, clip=clip, duration=HOSTILE),
            item(1, prompt=HOSTILE * 20, error=HOSTILE, hint=HOSTILE, tags={HOSTILE: HOSTILE}),
        )
        async with seen(browser, tmp_path, *items, title=HOSTILE) as page:
            assert (
                HOSTILE
                == await page.run("document.title")
                == await page.run("document.querySelector('h1').textContent")
            )
            texts = (
                "[...document.querySelectorAll('.prompt, .head code, .reason')].map(one => one.textContent)"
            )
            assert [HOSTILE, HOSTILE, HOSTILE, "model", HOSTILE * 20] == sorted(
                await page.run(texts), key=lambda text: (len(text) > 999, text == "model")
            )
            assert (0, 2) == (
                await page.run("document.querySelectorAll('img').length"),
                await page.run("document.scripts.length"),
            )
            assert [] == page.trouble

    async def test_thousands_of_jobs_are_shown_as_one_scrolls(self, browser: int, tmp_path: Path) -> None:
        """Compact, without scrolling sideways on a phone, and with few elements at a time."""
        items = [item(index, prompt=f"shot {index}", tags={"set": "a"}) for index in range(5000)]
        async with seen(browser, tmp_path, *items, width=390) as page:
            assert (True, 390) == (
                await page.run("document.querySelector('main').classList.contains('compact')"),
                await page.run("document.documentElement.scrollWidth"),
            )
            assert await page.run("document.querySelectorAll('*').length") < 5000
            before = len(await ids(page))
            await page.run("scrollTo(0, document.documentElement.scrollHeight)")
            await page.until(f"document.querySelectorAll('.card').length > {before}")
