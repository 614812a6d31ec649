"""The README as a program: its sections, code blocks, tables and links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = Path(__file__).parents[1] / "README.md"
TEXT = PATH.read_text(encoding="utf-8")

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@frozen(kw_only=True)
class Block:
    """A code block.

    Attributes:
        section: the heading above it.
        language: what it is marked as.
        code: what is in it.
        line: where it begins in the README, from 1.
    """

    section: str
    language: str
    code: str
    line: int


def blocks(language: str) -> list[Block]:
    """Return the code blocks in a language, in order."""
    return [block for block in _blocks() if block.language == language]


def section(heading: str) -> str:
    """Return the text below a heading, up to the next one of its rank."""
    return TEXT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def prose() -> str:
    """Return the README without its code blocks."""
    return _BLOCK.sub("", TEXT)


def headings() -> list[str]:
    """Return the headings, in order."""
    return [heading.strip() for heading in _HEADING.findall(prose())]


def anchors() -> set[str]:
    """Return the anchors that the headings are given where the README is shown."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings()}


def table(heading: str) -> list[list[str]]:
    """Return the rows of the table in a section, without its head."""
    rows = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def spans(text: str) -> list[str]:
    """Return what is set in code within a text."""
    return re.findall(r"`([^`]+)`", " ".join(text.split()))


def _blocks() -> Iterator[Block]:
    for found in _BLOCK.finditer(TEXT):
        above = _HEADING.findall(_BLOCK.sub("", TEXT[: found.start()]))
        line = TEXT.count("\n", 0, found.start(2)) + 1
        yield Block(section=above[-1], language=found[1], code=found[2], line=line)
