"""`venice-async last-frame`, `thumbnail` and `concat`: clips that follow one another."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Final

import anyio
from cyclopts import Parameter

from ...chaining import ImageFormat, save_image
from ...chaining import concat as joined
from ...chaining import last_frame as frame_at_the_end
from ...chaining import thumbnail as small_picture
from ...errors import UsageError
from ...formatting import as_bytes
from ...media import Media
from .. import exit_codes
from ..options import Output, Seconds
from ..run_jobs import destination
from ..screen.screen import Screen, ScreenHere
from ..stdio import STDOUT, StandardOutput
from . import command

LAST_FRAME_EXAMPLES: Final = """\
venice-async last-frame dawn.mp4 -o next.png
venice-async generate -m wan-2-7-image-to-video -p "noon comes" --image next.png --duration 5s -o noon.mp4
"""
THUMBNAIL_EXAMPLES: Final = """\
venice-async thumbnail dawn.mp4 -o dawn.jpg
venice-async thumbnail dawn.mp4 --at 2.5 --width 320 -o dawn.png
"""
CONCAT_EXAMPLES: Final = """\
venice-async concat dawn.mp4 noon.mp4 night.mp4 -o day.mp4
"""
_FORMATS: Final[dict[str, ImageFormat]] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}

Clip = Annotated[Path, Parameter(metavar="CLIP")]
Made = Annotated[Path, Parameter(name=["--output", "-o"], metavar="FILE", allow_leading_hyphen=True)]


@command(LAST_FRAME_EXAMPLES)
async def last_frame(
    clip: Clip, /, *, image: Made, overwrite: bool = False, output: Output = Output(), screen: ScreenHere
) -> int:
    """Save the last frame of a clip as an image: the first one of the clip that follows.

    Args:
        clip: The clip.
        image: The image: PNG or JPEG, as its name ends; - for stdout, as PNG.
        overwrite: Replace a file that exists.
    """
    form = _format(image, screen, "png")
    return await _saved(await frame_at_the_end(clip, format=form), image, screen, overwrite=overwrite)


@command(THUMBNAIL_EXAMPLES)
async def thumbnail(
    clip: Clip,
    /,
    *,
    image: Made,
    at: Seconds | None = None,
    width: Annotated[int, Parameter(metavar="PIXELS", show_default=True)] = 480,
    overwrite: bool = False,
    output: Output = Output(),
    screen: ScreenHere,
) -> int:
    """Save a small picture of a clip.

    Args:
        clip: The clip.
        image: The image: PNG or JPEG, as its name ends; - for stdout, as JPEG.
        at: Where in the clip; three tenths of it by default.
        width: The most pixels across.
        overwrite: Replace a file that exists.
    """
    form = _format(image, screen, "jpeg")
    picture = await small_picture(clip, at=at, width=width, format=form)
    return await _saved(picture, image, screen, overwrite=overwrite)


@command(CONCAT_EXAMPLES)
async def concat(
    *clips: Clip, to: Made, overwrite: bool = False, output: Output = Output(), screen: ScreenHere
) -> int:
    """Join clips into one file, without encoding them again.

    The clips must have the same codec, size and time base, as clips of one
    model and one setting do.

    Args:
        clips: The clips, in order.
        to: The joined clip; - for stdout.
        overwrite: Replace a file that exists.
    """
    destination(to, screen)
    if to != STDOUT:
        video = await joined(clips, to, overwrite=overwrite)
        return _tell(screen, video.path, video.size, sha256=video.sha256)
    with tempfile.TemporaryDirectory() as folder:
        video = await joined(clips, Path(folder, "joined.mp4"))
        await StandardOutput().write(await anyio.Path(video.path).read_bytes())
    return exit_codes.OK


def _format(image: Path, screen: Screen, usual: ImageFormat) -> ImageFormat:
    """Return the format that the name of an image says, before anything is decoded."""
    destination(image, screen)
    form = usual if image == STDOUT else _FORMATS.get(image.suffix.lower())
    if form is None:
        msg = f"{str(image)!r} names no format"
        raise UsageError(msg, hint="Let the name end in .png or .jpg")
    return form


async def _saved(picture: Media, image: Path, screen: Screen, *, overwrite: bool) -> int:
    data = picture.data or b""
    if image != STDOUT:
        return _tell(screen, await save_image(picture, image, overwrite=overwrite), len(data))
    await StandardOutput().write(data)
    return exit_codes.OK


def _tell(screen: Screen, path: Path, size: int, **more: str) -> int:
    if screen.as_json:
        screen.emit({"ok": True, "path": str(path), "size": size, **more})
    else:
        screen.path(path)
        screen.note(f"saved {path} · {as_bytes(size)}", "dim")
    return exit_codes.OK
