"""The report: one page beside the clips that needs nothing else and says what happened to each request."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from datetime import datetime
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import av
import pytest
from PIL import Image, ImageStat

from venice_async.cli.report.report import ReportItem, write_report

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = (
    "</script><script>alert(\"x\")</script> & 'quotes' <img src=x onerror=alert(1)> $title ${cards} 🦊 \u202e"
)
VOID = {"meta", "link", "input", "img", "br"}


class Page(HTMLParser):
    """What a browser would make of the page: its elements, and the text of each by class and tag."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[list[str]] = []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        assert [] == self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag not in VOID:
            names = [tag, *attributes.get("class", "").split()]
            self._open.append(names)
            for name in names:
                self.texts.setdefault(name, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert tag == self._open.pop()[0]

    def handle_data(self, data: str) -> None:
        for name in {name for names in self._open for name in names}:
            self.texts[name][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


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


def written(folder: Path, *items: ReportItem, title: str = "Batch", **keywords: Any) -> Page:
    write_report(folder / "report.html", items, title=title, **keywords)
    return Page(folder / "report.html")


def item(index: int = 0, **facts: Any) -> ReportItem:
    every: dict[str, Any] = {"model": "model", "prompt": "a fox", **facts}
    return ReportItem(index=index, **every)


def test_every_clip_is_playable_from_the_page(tmp_path: Path, clip: Path) -> None:
    """The player's address is relative to the page and leads to the file, whatever its name."""
    page = written(tmp_path, item(clip=clip, size=180_207))

    (player,) = page.all("video")
    assert re.fullmatch(r"[\w%.-][\w%./-]*", player["src"])
    assert clip.samefile(tmp_path / unquote(player["src"]))
    assert "controls" in player
    assert [player["src"]] == [link["href"] for link in page.all("a")]
    assert page.texts["file"] == [f"{clip.name} 180 KB"]


def test_a_poster_shows_a_frame_from_within_the_clip(tmp_path: Path, clip: Path) -> None:
    """Not the first, which is often black; with it the browser need not open the file before it is played."""
    (player,) = written(tmp_path, item(clip=clip)).all("video")

    kind, _, data = player["poster"].partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (480, 270))
        red, green, _ = ImageStat.Stat(picture.convert("RGB")).mean
    assert red > 200
    assert green < 60
    assert (player["width"], player["height"], player["preload"]) == ("640", "360", "none")


def test_a_failure_shows_its_reason_and_what_became_of_the_money(tmp_path: Path) -> None:
    """Paid for, not charged, or not known: it is said beside the reason."""
    page = written(
        tmp_path,
        item(0, error="refused", charged=False, usd=0.5, duration="5s"),
        item(1, error="lost", charged=True),
        item(2, error="unknown", charged=None),
    )

    assert page.texts["reason"] == ["refused", "lost", "unknown"]
    assert page.texts["verdict"] == ["Failed nothing charged", "Failed paid for", "Failed charge unknown"]
    assert page.texts["facts"] == ["Quote$0.50Length5 s", "", ""]
    assert [] == page.all("video")


def test_the_totals_count_clips_money_time_and_failures(tmp_path: Path, clip: Path) -> None:
    """Money that was surely spent is told apart from money that may have been."""
    page = written(
        tmp_path,
        item(0, clip=clip, usd=0.5, seconds=100, charged=True),
        item(1, clip=clip, usd=0.0125, seconds=200, charged=True),
        item(2, clip=clip, charged=True),
        item(3, error="no", usd=0.5, charged=False),
        item(4, error="lost", usd=0.25, charged=None),
        item(5),
        started=datetime(2026, 11, 22, 10, 7, 0),  # noqa: DTZ001 - a report shows the times it is given
        finished=datetime(2026, 11, 22, 10, 9, 30),  # noqa: DTZ001 - as above
    )

    assert re.sub(r"\s*\n\s*", "|", page.texts["totals"][0].strip()) == (
        "Clips3 of 61 not ended"
        "|Spent$0.5125and up to $0.25 unknown, price known for 2 of 3"
        "|Time2 min 30 s5 min 00 s one by one"
        "|Failed2"
    )
    assert page.texts["when"] == ["22 November 2026, 10:07 to 10:09"]
    assert page.texts["button"] == ["All 6", "Clips 3", "Failed 2", "Not ended 1"]


def test_no_text_becomes_part_of_the_page(tmp_path: Path) -> None:
    """Prompts, models, titles, reasons and names are shown letter by letter."""
    clip = tmp_path / "<img src=x onerror=alert(1)>.mp4"
    clip.write_bytes(b"no clip")

    page = written(
        tmp_path,
        item(0, prompt=HOSTILE, model=HOSTILE, clip=clip, duration=HOSTILE),
        item(1, prompt=HOSTILE * 20, error=HOSTILE),
        title=HOSTILE,
    )

    assert page.texts["title"] == page.texts["h1"] == [HOSTILE]
    assert page.texts["prompt"] == [HOSTILE, HOSTILE * 20]
    assert page.texts["code"] == [HOSTILE, "model"]
    assert page.texts["reason"] == [HOSTILE]
    assert (1, 1, 0) == tuple(len(page.all(tag)) for tag in ("script", "style", "img"))


def test_the_page_asks_nothing_of_any_network(tmp_path: Path, clip: Path) -> None:
    """Whatever it refers to lies beside it or within it, and its policy forbids the rest."""
    page = written(tmp_path, item(clip=clip), title="x")

    addresses = [
        value for _, found in page.elements for name, value in found.items() if name in {"src", "href"}
    ]
    assert all(not re.match(r"(?!data:)[a-z]+:|//", address) for address in addresses)
    assert "url(" not in page.texts["style"][0]
    assert "@import" not in page.texts["style"][0]
    assert not re.search(r"fetch|XMLHttp|import|innerHTML|eval", page.texts["script"][0])
    policy = next(found["content"] for found in page.all("meta") if "http-equiv" in found)
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.texts[tag][0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not [
        found for _, found in page.elements if "style" in found or any(n.startswith("on") for n in found)
    ]


@pytest.mark.parametrize("content", [b"", b"\0\0\0\x18ftypmp42 broken", b"<html>"])
def test_a_damaged_clip_does_not_keep_the_report_from_being_written(tmp_path: Path, content: bytes) -> None:
    """It has no poster, and the rest of the page is there."""
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)

    assert "poster" not in written(tmp_path, item(clip=damaged)).all("video")[0]


def test_half_a_character_does_not_keep_the_report_from_being_written(tmp_path: Path) -> None:
    """JSON can hold half of a surrogate pair, which no file can."""
    assert written(tmp_path, item(prompt="a \ud83e fox")).texts["prompt"] == ["a ? fox"]


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure leaves the former page, and nothing beside it."""
    before = written(tmp_path, title="before").html

    def full(_: int) -> None:
        raise OSError(28, "disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path / "report.html", [], title="after")

    assert before == (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ["report.html"] == [path.name for path in tmp_path.iterdir()]
