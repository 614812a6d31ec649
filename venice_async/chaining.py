"""Clips that follow one another: a frame of one for the next, and several as one. Needs the extra `media`."""

# pyright: reportUnknownMemberType=false
# PyAV leaves the kind of a packet open in its annotations.

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from fractions import Fraction
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_args

from attrs import frozen

from .errors import DownloadError, UsageError
from .io.delivery.destination import check_destination
from .io.delivery.part_file import PartFile, disk_error
from .io.shielding import in_thread
from .markup import video_html
from .media import Media
from .options import check_number
from .sansio.clip.mp4 import BoxWalk

if TYPE_CHECKING:
    from av import AudioStream, Packet, VideoFrame, VideoStream
    from av.container import InputContainer, OutputContainer
    from PIL.Image import Image

ClipInput: TypeAlias = str | os.PathLike[str]
"""A clip in a file: its path, or a `Video`, which is one."""

ImageFormat: TypeAlias = Literal["png", "jpeg"]

_SETTINGS: Final = ("settings of the video encoder", "settings of the audio encoder")
_MICROSECONDS: Final = 1_000_000
_WIDTH: Final = 480  # pixels
_PIECE: Final = 1 << 20  # bytes


@frozen(kw_only=True)
class VideoFile:
    """A whole clip on disk that was made here; it can be passed as a path.

    Attributes:
        path: the file.
        size: bytes.
        sha256: the digest of the file, in hexadecimal.
    """

    path: Path
    size: int
    sha256: str

    def _repr_html_(self) -> str:
        """Show the clip as a player, in a notebook."""
        return video_html(self.path, self.size)

    def __fspath__(self) -> str:
        """Return the path."""
        return str(self.path)


async def last_frame(video: ClipInput, *, format: ImageFormat = "png") -> Media:  # noqa: A002 - as Pillow calls it
    """Return the last frame of a clip, in its own size, as the image that the next clip begins with.

    `video` is a `Video` or a path. It is decoded in a worker thread. `format` is `png`, which loses nothing,
    or `jpeg`.

    Raises:
        UsageError: the file cannot be read, or no video in it decoded; or the extra `media` is missing.
    """
    return await in_thread(_frame, _path(video), math.inf, format)


async def thumbnail(
    video: ClipInput,
    *,
    at: float | None = None,
    width: int = _WIDTH,
    format: ImageFormat = "jpeg",  # noqa: A002 - as Pillow calls it
) -> Media:
    """Return a small picture of a clip.

    Args:
        video: a `Video` or a path. It is decoded in a worker thread.
        at: seconds into the clip; by default three tenths of it. Past the end it is the last frame.
        width: the most pixels across. A smaller clip is not enlarged.
        format: `jpeg` or `png`.

    Raises:
        UsageError: the file cannot be read, or no video in it decoded; or the extra `media` is missing.
    """
    check_number("width", width, low=1)
    check_number("at", at, low=0, or_none=True)
    return await in_thread(_frame, _path(video), at, format, width)


async def concat(
    videos: Iterable[ClipInput], to: str | os.PathLike[str], *, overwrite: bool = False
) -> VideoFile:
    """Join clips into one file, one after another, without encoding them again.

    Their first video and audio streams are copied, so the clips must agree in codec, size, time base and the
    like, as clips of one model and one setting do. The new file is verified, has its index in front and
    appears whole or not at all.

    Args:
        videos: each a `Video` or a path, in order.
        to: the file, MP4 or, if its name ends so, MOV.
        overwrite: whether a file that exists may be replaced, also one of `videos`.

    Raises:
        UsageError: a clip cannot be read; the streams differ, and the message says in what; `to` exists or
            cannot be written; or the extra `media` is missing.
        DownloadError: the disk is full or fails.
    """
    paths = [_path(video) for video in ([videos] if isinstance(videos, str | os.PathLike) else videos)]
    if not paths:
        msg = "There are no clips to join"
        raise UsageError(msg)
    async with _sink(to, overwrite=overwrite) as sink:
        with tempfile.TemporaryDirectory(prefix="venice-") as folder:
            joined = Path(folder, "joined").with_suffix(Path(to).suffix)
            walk, digest = BoxWalk(), hashlib.sha256()

            def read() -> bytes:
                with joined.open("rb") as file:
                    file.seek(walk.offset)
                    piece = file.read(_PIECE)
                walk.feed(piece)
                digest.update(piece)
                return piece

            await in_thread(_join, paths, joined)
            await sink.open()
            while piece := await in_thread(read):
                await sink.write([piece])
            walk.check_end(announced=True)
            path = Path(await sink.commit())
            return VideoFile(path=path, size=walk.offset, sha256=digest.hexdigest())


async def save_image(image: Media, to: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Write an image that is in memory to a file, whole or not at all, and return its path.

    Raises:
        UsageError: `to` exists or cannot be written.
        DownloadError: the disk is full or fails.
    """
    async with _sink(to, overwrite=overwrite) as sink:
        await sink.open()
        await sink.write([image.data or b""])
        return Path(await sink.commit())


@asynccontextmanager
async def _sink(to: str | os.PathLike[str], *, overwrite: bool) -> AsyncGenerator[PartFile]:
    """Give what writes a file, and remove what it has left if it was not committed."""
    target = await check_destination(to, overwrite=overwrite)
    if target.naming is not None or not isinstance(target.place, Path):
        msg = f"{os.fspath(to)!r} is a folder"
        raise UsageError(msg, hint="Name a file in it")
    sink = PartFile(target.place, overwrite=overwrite, job_key="made", resumed=False)
    try:
        yield sink
    except DownloadError as error:  # its hint is about a job
        raise DownloadError(error.message, hint="Make room or choose another place") from error
    finally:
        await sink.abort()


def _path(video: ClipInput) -> Path:
    try:
        return Path(os.fspath(video)).absolute()
    except TypeError:
        msg = f"A clip is a Video or the path of a file, not {type(video).__name__}"
        raise UsageError(msg) from None


@contextmanager
def opened(path: Path) -> Generator[InputContainer]:
    """Open a clip; an error within the block is reported as one of this clip."""
    if not (find_spec("av") and find_spec("PIL")):
        msg = "Frames and joined clips need PyAV and Pillow"
        raise UsageError(msg, hint="Install them: pip install 'venice-async[media]'")
    import av  # noqa: PLC0415 - it is in an extra, and takes a while to load

    try:
        with av.open(path.as_posix()) as container:
            if not container.streams.video:
                msg = f"{str(path)!r} has no video stream"
                raise UsageError(msg)
            yield container
    except (OSError, ValueError) as error:  # PyAV's errors are both
        reason = getattr(error, "strerror", None) or str(error)
        msg = f"{str(path)!r} cannot be read as a video: {reason}"
        raise UsageError(msg) from error


def frame_at(container: InputContainer, at: float | None = None) -> VideoFrame:
    """Return the frame at a moment, in seconds; the last one if the clip ends before.

    By default it is that at three tenths of the clip: the first frames are often black.

    Raises:
        UsageError: no frame of the clip decoded.
    """
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    start, base, length = stream.start_time or 0, stream.time_base or Fraction(1), stream.duration or 0
    if at is None:
        at = 0.3 * (container.duration or 0) / _MICROSECONDS
    container.seek(start + (length if at == math.inf else min(length, int(at / base))), stream=stream)
    found: VideoFrame | None = None
    for _ in range(2):
        for found in container.decode(stream):
            if found.pts is not None and found.time >= at:
                break
        if found is not None:
            return found
        container.seek(0)  # its times are wrong
    msg = f"{container.name!r} has no frame that can be decoded"
    raise UsageError(msg)


def _frame(path: Path, at: float | None, form: ImageFormat, width: int | None = None) -> Media:
    if form not in get_args(ImageFormat):
        msg = f"format must be 'png' or 'jpeg', not {form!r}"
        raise UsageError(msg)
    with opened(path) as container:
        return image_of(frame_at(container, at), form, width)


def image_of(frame: VideoFrame, form: ImageFormat, width: int | None = None) -> Media:
    """Return a frame as an image: upright, with square pixels, at most `width` pixels across."""
    across = frame.height if frame.rotation % 180 else frame.width
    part = 1.0 if width is None else min(1.0, width / across)
    size = {"width": max(1, round(frame.width * part)), "height": max(1, round(frame.height * part))}
    picture = cast("Image", frame.to_image(**size))  # type: ignore[no-untyped-call]
    if frame.rotation:
        picture = picture.rotate(frame.rotation, expand=True)
    content = BytesIO()
    picture.save(content, form.upper(), **({"quality": 90} if form == "jpeg" else {}))
    return Media(data=content.getvalue(), media_type=f"image/{form}")


@contextmanager
def _written(path: Path) -> Generator[OutputContainer]:
    """Write a file with its index in front."""
    import av  # noqa: PLC0415 - see `opened`

    form = "mov" if path.suffix.lower() == ".mov" else "mp4"
    try:
        with av.open(path.as_posix(), "w", format=form, options={"movflags": "+faststart"}) as out:
            yield out
    except OSError as error:
        raise disk_error(path, error) from error


def _join(paths: Sequence[Path], to: Path) -> None:
    """Copy the packets of each clip behind those of the one before."""
    with opened(paths[0]) as first, _written(to) as out:
        expected = _described(first)
        written = {stream.type: out.add_stream_from_template(stream) for stream in _copied(first)}
        end, last = Fraction(0), dict[str, int]()  # seconds; the time of the last packet of each stream
        for path in paths:
            with opened(path) as container:
                found = _described(container)
                differing = [name for name in expected if name in found and expected[name] != found[name]]
                if differing := [name for name in differing if name not in _SETTINGS] or differing:
                    said = "; ".join(f"{name}: {expected[name]} and {found[name]}" for name in differing)
                    what = f"{str(paths[0])!r} and {str(path)!r}"
                    msg = f"{what} cannot be joined without encoding them again. {said}"
                    hint = "Make the clips with the same model and settings, or convert one of them"
                    raise UsageError(msg, hint=hint)
                begin = end
                for packet in _moved(container, begin, last):
                    end = max(
                        end, ((packet.pts or 0) + (packet.duration or 0)) * (packet.time_base or Fraction(0))
                    )
                    packet.stream = written[packet.stream.type]
                    try:
                        out.mux(packet)
                    except OSError as error:
                        raise disk_error(to, error) from error


def _copied(container: InputContainer) -> list[VideoStream | AudioStream]:
    """Return the streams that are joined."""
    return [*container.streams.video[:1], *container.streams.audio[:1]]


def _described(container: InputContainer) -> dict[str, object]:
    """Return what must be the same in all clips, by name."""
    video, audio = container.streams.video[0], next(iter(container.streams.audio), None)
    context = video.codec_context
    facts: dict[str, object] = {
        "video codec": context.name,
        "size": f"{context.width}x{context.height}",
        "pixel format": context.pix_fmt,
        "shape of a pixel": video.sample_aspect_ratio or 1,
        "time base": video.time_base,
        "sound": "none" if audio is None else audio.codec_context.name,
    }
    if audio is not None:
        facts["sample rate"] = audio.codec_context.sample_rate
        facts["channels"] = audio.codec_context.layout.name
        facts["time base of the sound"] = audio.time_base
    for stream in _copied(container):
        said = hashlib.sha256(stream.codec_context.extradata or b"").hexdigest()[:8]
        facts[_SETTINGS[stream.type == "audio"]] = said
    return facts


def _moved(container: InputContainer, begin: Fraction, last: dict[str, int]) -> Iterator[Packet[Any]]:
    """Yield the packets of a clip that is to begin at `begin`, in seconds of the joined clip.

    `last` has the decoding time of the last packet of each stream, which must increase.
    """
    starts = [Fraction(each.start_time or 0) * (each.time_base or 1) for each in _copied(container)]
    begin -= max(Fraction(0), min(starts))
    for packet in container.demux(_copied(container)):
        kind, base = packet.stream.type, packet.stream.time_base
        if not packet.size:  # the end of a stream
            continue
        if packet.dts is None or packet.pts is None or base is None:
            msg = f"{container.name!r} does not say when its frames are to be decoded"
            raise UsageError(msg, hint="Convert it to MP4, then join it")
        shift = round(begin / base)
        packet.dts, packet.pts = packet.dts + shift, packet.pts + shift
        if packet.dts <= last.get(kind, packet.dts - 1):
            if kind == "audio":  # priming samples of the encoder
                continue
            packet.dts = last[kind] + 1
        last[kind] = packet.dts
        yield packet
