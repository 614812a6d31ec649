"""What a rendered clip shows behind its words: a sun over drifting dunes, in colours of its own."""

from __future__ import annotations

import colorsys
import hashlib
import math

import numpy as np
from av import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Field = NDArray[np.floating]

COARSENESS = 6
"""Pixels of the picture to one of the sketch it is enlarged from; the scene is soft."""

SKETCH = 128, 384
"""Pixels of the sketch's longer side at least and at most."""

DUNES = ((0.66, 0.050, 2.1, 0.10), (0.76, 0.045, 3.3, -0.22), (0.87, 0.040, 4.7, 0.45))
"""Of each dune, far to near: height from the top, height and number of its waves, drift a second."""


class Scene:
    """The backgrounds of one clip; the same `subject` gives the same pictures."""

    def __init__(self, *, subject: str, width: int, height: int) -> None:
        """Choose the colours and lay out the grid for pictures of `width` by `height`, both even."""
        self._size = width, height
        seed = hashlib.sha256(subject.encode(errors="replace")).digest()
        self._phase = seed[1] / 255 * math.tau
        self._colours = _palette(seed[0] / 256)
        longer = max(width, height)
        scale = min(max(longer / COARSENESS, SKETCH[0]), SKETCH[1]) / longer
        columns, rows = max(8, round(width * scale)), max(8, round(height * scale))
        self._across = width / height
        self._wide = width > height
        self._x = np.linspace(0, self._across, columns, dtype=np.float32)[None, :]
        self._y = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
        self._pixel = 1 / rows
        top, low = self._colours[:2]
        self._heaven: Field = top + (low - top) * np.clip(self._y / 0.7, 0, 1)[..., None] ** 1.4
        self._light = _light(self._x / self._across, self._y, wide=self._wide)
        self._scaler = VideoReformatter()

    def planes(self, second: float) -> Pixels:
        """Return the picture at a moment as planar yuv420p (BT.709): one array of 3/2 the height."""
        sketch = VideoFrame.from_ndarray(self._picture(second).clip(0, 255).astype(np.uint8), format="rgb24")
        width, height = self._size
        frame = self._scaler.reformat(
            sketch, width, height, "yuv420p",
            dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC, threads=1,
        )  # fmt: skip
        return frame.to_ndarray().astype(np.uint8, copy=False)

    def _picture(self, second: float) -> Field:
        picture = self._sky(second)
        for number, (base, height, waves, drift) in enumerate(DUNES):
            angle = waves * self._x + drift * second + self._phase * (number + 1)
            depth = self._y - base - height * (np.sin(angle) + 0.4 * np.sin(2.3 * angle + 1))
            solid = np.clip(depth / (1.5 * self._pixel) + 0.5, 0, 1)
            shade = solid * (1 - np.clip(1.4 * depth, 0, 0.35))
            picture *= (1 - solid)[..., None]
            picture += shade[..., None] * self._colours[3 + number]
        picture *= self._light
        return picture

    def _sky(self, second: float) -> Field:
        sun = self._colours[2]
        wave = 0.24 + 0.07 * np.sin(1.7 * self._x + 0.6 * second + self._phase)
        glow = 0.28 * (0.6 + 0.4 * np.sin(3 * self._x - 0.9 * second))
        band = np.exp(-(((self._y - wave) / 0.11) ** 2)) * glow
        radius = 0.105 * min(1.0, self._across)
        column = self._across * (0.72 + 0.06 * math.sin(0.35 * second + self._phase))
        row = (0.42 if self._wide else 0.54) + 0.02 * math.sin(0.5 * second)
        distance = np.hypot(self._x - column, self._y - row)
        disc = np.clip((radius - distance) / (1.5 * self._pixel) + 0.5, 0, 1)
        halo = np.maximum(disc, band + 0.45 * np.exp(-distance / (1.5 * radius)))
        picture: Field = self._heaven + halo.clip(0, 1)[..., None] * (sun - self._heaven)
        return picture


def _palette(mood: float) -> Field:
    """Return sky, horizon, sun and the dunes from far to near as RGB rows, 0 to 255.

    The mood, 0 to 1, goes from a teal sky over gold by a blue one over orange to a violet one over pink.
    """
    sky, horizon = 0.50 + 0.32 * mood, 0.115 - 0.19 * mood
    shades = ((sky, 0.70, 0.34), (horizon, 0.58, 0.86), (horizon + 0.03, 0.30, 1.0))
    dunes = ((horizon - 0.06, 0.50, 0.50), (sky + 0.14, 0.48, 0.31), (sky + 0.04, 0.62, 0.16))
    rows = [colorsys.hsv_to_rgb(hue % 1, richness, light) for hue, richness, light in shades + dunes]
    return np.array(rows, dtype=np.float32) * 255


def _light(across: Field, down: Field, *, wide: bool) -> Field:
    """Return how much light is left, so that words stay readable: less where they stand and at the edges."""
    edges = 0.45 * np.exp(-(((down - 0.97) / 0.16) ** 2)) + 0.25 * np.exp(-((down / 0.16) ** 2))
    words = 0.34 * (1 - across) if wide else np.full_like(across, 0.24)
    light: Field = 1 - np.clip(edges + words, 0, 0.7)
    return light[..., None]
