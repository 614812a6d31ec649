"""One picture of a rendered clip: a scene, the words over it, and how far it has come."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .lettering import WHITE, Ink, Pixels, ink, own_font, paragraph
from .scene import Scene

LONGEST_FOOT = "00:00.000 / 00:00.000  0000 / 0000"
"""What must fit below the picture."""

TRACK = 90
"""Luma that the unfilled part of the progress bar tends to."""


class Picture:
    """Makes the frames of one clip."""

    def __init__(self, *, prompt: str, model: str, width: int, height: int) -> None:
        """Draw what stays the same; the sides are even."""
        self._width, self._height = width, height
        side = min(width, height)
        self._small = max(9, round(side * 0.036))
        self._margin = _even(max(6, side * 0.065))
        self._blur = max(1.0, side * 0.006)
        self._scene = Scene(subject=f"{model}\n{prompt}", width=width, height=height)
        self._digits = _Digits(_size_for(LONGEST_FOOT, width - 2 * self._margin, self._small))
        self._bar = slice(height - self._margin, height - self._margin + max(2, _even(side * 0.009)))
        self._foot = self._bar.start - _even(self._small * 1.7)
        self._words = self._model(model), self._prompt(prompt)

    def at(self, number: int, *, of: int, fps: int) -> Pixels:
        """Return frame `number` of `of`, counted from 0, as planar yuv420p: one array of 3/2 the height."""
        planes = self._scene.planes(number / fps)
        luma, *colours = self._split(planes)
        times = f"{clock(number / fps)} / {clock(of / fps)}"
        counter = f"{number + 1:0{len(str(of))}d} / {of}"
        for words in (*self._words, *self._footers(times, counter)):
            words.lay_over(luma, *colours)
        self._progress((number + 1) / of, luma)
        return planes

    def _split(self, planes: Pixels) -> tuple[Pixels, Pixels, Pixels]:
        """Return views of Y, Cb and Cr."""
        luma, colour = self._width * self._height, self._width * self._height // 4
        flat, half = planes.reshape(-1), (self._height // 2, self._width // 2)
        blue, red = flat[luma : luma + colour], flat[luma + colour :]
        return planes[: self._height], blue.reshape(half), red.reshape(half)

    def _model(self, model: str) -> Ink:
        width, height = _even(self._width - 2 * self._margin), _even(self._small * 1.5)
        mask = paragraph(model, width=width, height=height, largest=self._small)
        return ink(mask, top=self._margin, left=self._margin, blur=self._blur)

    def _prompt(self, prompt: str) -> Ink:
        top = self._margin + _even(self._small * 2.2)
        share = 0.66 if self._width > self._height else 1.0
        width = _even((self._width - 2 * self._margin) * share)
        height = _even(self._foot - top - self._small)
        largest = round(min(self._width, self._height) * 0.088)
        return ink(
            paragraph(prompt, width=width, height=height, largest=largest),
            top=top, left=self._margin, blur=self._blur,
        )  # fmt: skip

    def _footers(self, times: str, counter: str) -> tuple[Ink, Ink]:
        left, right = self._digits.draw(times), self._digits.draw(counter)
        end = _even(self._width - self._margin - right.width)
        return (
            ink(left, top=self._foot, left=self._margin, blur=self._blur),
            ink(right, top=self._foot, left=max(self._margin, end), blur=self._blur),
        )

    def _progress(self, done: float, luma: Pixels) -> None:
        track = luma[self._bar, self._margin : self._width - self._margin]
        reach = done * track.shape[1]
        track[...] = (track.astype(np.uint16) + 2 * TRACK) // 3
        track[:, : int(reach)] = WHITE
        if int(reach) < track.shape[1]:
            edge = track[:, int(reach)].astype(np.float32)
            track[:, int(reach)] = edge + (WHITE - edge) * (reach % 1)


class _Digits:
    """Figures of equal width, so that a running clock stands still; drawn once each."""

    def __init__(self, size: int) -> None:
        self._font = own_font(size)
        self._height = _even(size * 1.4)
        self._cell = max(self._font.getlength(digit) for digit in "0123456789")
        self._drawn: dict[str, Image.Image] = {}

    def draw(self, text: str) -> Image.Image:
        """Return a mask of even size."""
        glyphs = [self._glyph(letter) for letter in text]
        mask = Image.new("L", (_even(sum(glyph.width for glyph in glyphs)) + 2, self._height))
        left = 0
        for glyph in glyphs:
            mask.paste(glyph, (left, 0))
            left += glyph.width
        return mask

    def _glyph(self, letter: str) -> Image.Image:
        if letter not in self._drawn:
            width = self._font.getlength(letter)
            cell = self._cell if letter.isdigit() else width
            glyph = Image.new("L", (round(cell), self._height))
            ImageDraw.Draw(glyph).text(((cell - width) / 2, 0), letter, fill=255, font=self._font)
            self._drawn[letter] = glyph
        return self._drawn[letter]


def clock(seconds: float) -> str:
    """Return a time as minutes, seconds and thousandths, like 00:03.125."""
    minutes, thousandths = divmod(round(seconds * 1000), 60_000)
    return f"{minutes:02d}:{thousandths // 1000:02d}.{thousandths % 1000:03d}"


def _size_for(text: str, width: int, largest: int) -> int:
    """Return the font size at which `text` is at most `width` pixels long."""
    return max(5, min(largest, int(largest * width / own_font(largest).getlength(text))))


def _even(value: float) -> int:
    return round(value / 2) * 2
