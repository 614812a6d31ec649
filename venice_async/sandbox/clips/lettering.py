"""Words for rendered clips: fitted, drawn once, and laid over each frame."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Pixels = NDArray[np.uint8]
Weights = NDArray[np.uint16]
Font = ImageFont.FreeTypeFont

WHITE, BLACK, GREY = 235, 16, 128
"""Luma of white and of black, chroma of grey (limited range)."""

FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NanumGothic.ttf",
    "AppleSDGothicNeo.ttc",
    "malgun.ttf",
    "Arial Unicode.ttf",
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "arial.ttf",
)
"""Tried, where installed, for prompts that Pillow's own font has no letters for."""

SOUND = re.compile(r"(?:HANGUL SYLLABLE|(?:HIRAGANA|KATAKANA) LETTER(?: SMALL)?) (\w+)")
"""Names of characters that end in how they are read."""

LONGEST = 3_000
"""Characters of a prompt that are looked at; more fit no picture."""

NO_LETTER = "\U0010fffe"
"""A code point that stays without a letter for ever: fonts draw their box."""

SMALLEST = 9
"""Pixels: below this height nobody can read."""


@frozen(eq=False)
class Ink:
    """Words, ready to be laid over the planes of a frame.

    Attributes:
        top: rows above it; even.
        left: columns left of it; even.
        keep: of each pixel's luma, how much stays, of 256.
        add: what is added to it, times 256.
        keep_colour: likewise for both chroma planes, at half the size.
    """

    top: int
    left: int
    keep: Weights
    add: Weights
    keep_colour: Weights

    def lay_over(self, luma: Pixels, *colours: Pixels) -> None:
        """Blend into a frame's planes, in place."""
        part = luma[self.top :, self.left :][: self.keep.shape[0], : self.keep.shape[1]]
        rows, columns = part.shape
        part[...] = (part * self.keep[:rows, :columns] + self.add[:rows, :columns]) >> 8
        for colour in colours:
            rows, columns = self.keep_colour.shape
            half = colour[self.top // 2 :, self.left // 2 :][:rows, :columns]
            keep = self.keep_colour[: half.shape[0], : half.shape[1]]
            half[...] = (half * keep + GREY * (256 - keep)) >> 8


def ink(mask: Image.Image, *, top: int, left: int, blur: float) -> Ink:
    """Turn a mask of even size into white words with a soft shadow as wide as `blur` pixels."""
    words = np.asarray(mask, dtype=np.uint16)
    shadow = np.asarray(mask.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32) * 1.6
    dark = shadow.clip(0, 150).astype(np.uint16)
    under = ((255 - words) * (255 - dark) // 255) + 1
    keep = np.where(words + dark == 0, 256, under).astype(np.uint16)
    white = words * 256 // 255
    add = (white * WHITE + (256 - white) * dark // 255 * BLACK).astype(np.uint16)
    halved = np.asarray(mask.reduce(2), dtype=np.uint16)
    return Ink(top, left, keep, add, (256 - halved * 256 // 255).astype(np.uint16))


def paragraph(text: str, *, width: int, height: int, largest: int) -> Image.Image:
    """Return a mask of `text`: wrapped, as large as fits, at most `largest` pixels high; else cut short."""
    words = drawable(text, font_for(text, SMALLEST)).split()
    low, high = SMALLEST, max(SMALLEST, largest)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(wrapped(words, font_for(text, middle), width)) * _leading(middle) <= height
        low, high = (middle, high) if fits else (low, middle - 1)
    font, leading = font_for(text, low), _leading(low)
    lines = _cut(wrapped(words, font, width), max(1, height // leading), font, width)
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    for number, line in enumerate(lines):
        draw.text((0, number * leading), line, fill=255, font=font)
    return mask


def wrapped(words: list[str], font: Font, width: float) -> list[str]:
    """Break words into lines of at most `width` pixels; a word wider than that is broken itself."""
    pieces = {word: _broken(word, font, width) for word in set(words)}
    widths = {piece: font.getlength(piece) for each in pieces.values() for piece in each}
    space, lines, left = font.getlength(" "), list[list[str]](), 0.0
    for piece in (piece for word in words for piece in pieces[word]):
        if widths[piece] + space > left:
            lines.append([])
            left = width + space
        lines[-1].append(piece)
        left -= widths[piece] + space
    return [" ".join(line) for line in lines]


def clean(text: str) -> str:
    """Return the beginning of `text` without what no font draws: controls, surrogates."""
    spaced = " ".join(text[:LONGEST].split())
    return "".join(letter for letter in spaced if not unicodedata.category(letter).startswith("C"))


def drawable(text: str, font: Font) -> str:
    """Return `clean(text)` as `font` can draw it.

    Symbols that it lacks, such as emoji, are left out; Korean and Japanese syllables are spelt in Latin
    letters; any other letter stays a box.
    """
    letters = clean(text)
    missing = {letter: _instead(letter) for letter in set(letters) if not _covers(font, letter)}
    return "".join(missing.get(letter, letter) for letter in letters)


def _instead(letter: str) -> str:
    if unicodedata.category(letter)[0] in "SM":
        return ""
    sound = SOUND.fullmatch(unicodedata.name(letter, ""))
    return sound[1].lower() if sound else letter


@cache
def own_font(size: int) -> Font:
    """Return Pillow's own font."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        msg = "this Pillow was built without FreeType"
        raise TypeError(msg)
    return font


def font_for(text: str, size: int) -> Font:
    """Return the font that can draw the most of `text`; Pillow's own unless another can draw more."""
    name = _best_font("".join(sorted(set(clean(text)))))
    return own_font(size) if name is None else ImageFont.truetype(name, size)


@cache
def _best_font(letters: str) -> str | None:
    best, covered = None, _coverage(own_font(16), letters)
    for name in FONTS if covered < len(letters) else ():
        try:
            coverage = _coverage(ImageFont.truetype(name, 16), letters)
        except OSError:
            continue
        if coverage > covered:
            best, covered = name, coverage
    return best


def _coverage(font: Font, letters: str) -> int:
    return sum(_covers(font, letter) for letter in letters)


def _covers(font: Font, letter: str) -> bool:
    return letter.isspace() or _shape(font, letter) != _shape(font, NO_LETTER)


def _shape(font: Font, letter: str) -> bytes:
    mask = Image.new("L", (32, 32))
    ImageDraw.Draw(mask).text((0, 0), letter, fill=255, font=font)
    return mask.tobytes()


def _broken(word: str, font: Font, width: float) -> list[str]:
    if font.getlength(word) <= width:
        return [word]
    parts = [""]
    for letter in word:
        if parts[-1] and font.getlength(parts[-1] + letter) > width:
            parts.append("")
        parts[-1] += letter
    return parts


def _cut(lines: list[str], room: int, font: Font, width: float) -> list[str]:
    """Keep the lines there is room for, the last with an ellipsis if it was not the last."""
    if len(lines) <= room:
        return lines
    last = lines[room - 1]
    while last and font.getlength(last + " …") > width:
        last = last[:-1]
    return [*lines[: room - 1], last.rstrip() + " …"]


def _leading(size: int) -> int:
    """Return the height of a line."""
    return round(size * 1.3)
