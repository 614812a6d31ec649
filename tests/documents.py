"""The README and the guide as programs: their sections, code blocks, tables and links."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^(#+) (.+)$", re.MULTILINE)


@frozen(kw_only=True)
class Block:
    """A code block.

    Attributes:
        section: the heading above it.
        language: what it is marked as.
        code: what is in it.
        line: where it begins in its page, from 1.
    """

    section: str
    language: str
    code: str
    line: int


@frozen(slots=False)
class Page:
    """A page of Markdown."""

    path: Path

    @cached_property
    def text(self) -> str:
        """The page as it is."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def prose(self) -> str:
        """The page without its code blocks."""
        return re.sub(r"^ *```.*?```$", "", self.text, flags=re.DOTALL | re.MULTILINE)

    @property
    def headings(self) -> list[str]:
        """The headings, in order."""
        return [heading.strip() for _, heading in _HEADING.findall(self.prose)]

    @property
    def anchors(self) -> set[str]:
        """The anchors that the headings are given where the page is shown."""
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in self.headings}

    def blocks(self, language: str) -> list[Block]:
        """Return the code blocks in a language, in order."""
        return [
            Block(
                section=_HEADING.findall(_BLOCK.sub("", self.text[: found.start()]))[-1][1],
                language=found[1],
                code=found[2],
                line=self.text.count("\n", 0, found.start(2)) + 1,
            )
            for found in _BLOCK.finditer(self.text)
            if found[1] == language
        ]

    def table(self, first: str) -> list[list[str]]:
        """Return the rows of the tables whose first column has that title."""
        tables = re.findall(rf"^\| {first} \|.*\n.*\n((?:\|.*\n)*)", self.prose, re.MULTILINE)
        rows = "".join(tables).splitlines()
        return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


README = Page(ROOT / "README.md")
GUIDE = {path.stem: Page(path) for path in sorted((ROOT / ".docs").glob("*.md"))}
PAGES = {"README": README, **GUIDE}


def spans(text: str) -> list[str]:
    """Return what is set in code within a text."""
    return re.findall(r"`([^`]+)`", " ".join(text.split()))
