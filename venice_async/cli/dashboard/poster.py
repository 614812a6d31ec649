"""What a clip looks like: its size, its length, and one frame as a JPEG."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

from attrs import frozen

from ...chaining import frame_at, image_of, opened, telling_moment
from ...errors import UsageError

_WIDTH: Final = 480  # pixels: sharp on a card of the report, some 15 KB each
_MICROSECONDS: Final = 1_000_000


@frozen(kw_only=True)
class Look:
    """What was found in a clip.

    Attributes:
        width: pixels.
        height: pixels.
        seconds: how long it plays; None when the file does not say.
        jpeg: one frame of it, at most 480 pixels wide.
    """

    width: int
    height: int
    seconds: float | None
    jpeg: bytes

    @property
    def poster(self) -> str:
        """The frame as a `data:` URL."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


def look(clip: Path) -> Look | None:
    """Return what a clip looks like; None where it cannot be decoded, or PyAV and Pillow are missing."""
    try:
        with opened(clip.absolute()) as container:
            frame = frame_at(container, telling_moment(container))
            return Look(
                width=frame.width,
                height=frame.height,
                seconds=container.duration / _MICROSECONDS if container.duration else None,
                jpeg=image_of(frame, "jpeg", _WIDTH).data or b"",
            )
    except UsageError:
        return None
