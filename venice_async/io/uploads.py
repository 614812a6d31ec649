"""Encodes media for upload: files are read and encoded in a worker thread, once per job."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import mimetypes
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn, TypeVar, cast

from attrs import asdict, evolve, field, frozen

from ..errors import InvalidRequestError
from ..media import Media, sniff
from ..options import check_number
from ..requests import Part, VideoRequest
from ..results import Quote
from ..sansio.clip.mp4 import movie_seconds
from ..sansio.converter import request_fields
from ..sansio.http.wire import (
    STATED_LENGTH,
    EncodedMedia,
    Query,
    json_pieces,
    price,
    request_body,
)
from ..validators import LIMITS, refuse
from .shielding import in_thread

_MIB: Final = 1 << 20
_PIECE: Final = 3 << 16  # bytes encoded at once, while no other thread runs; a multiple of three
_WANTED: Final = {
    "image": ("image/",),
    "audio": ("audio/", "video/"),  # sound alone may come in a clip's container
    "video": ("video/", "image/gif"),
}
_SMALL: Final = 64 * 1024  # characters; less is encoded faster than a thread is started

_T = TypeVar("_T")

log: logging.Logger = logging.getLogger(__name__)


@frozen
class Prepared:
    """A paid request, ready to send and to send again.

    Attributes:
        body: the JSON, without consents.
        fingerprint: its SHA-256 in hexadecimal.
    """

    body: bytes = field(repr=False)
    fingerprint: str


async def encode_media(request: VideoRequest) -> VideoRequest:
    """Return a request whose media are URLs, those of files and bytes included.

    Raises:
        InvalidRequestError: a file cannot be read.
    """
    return request if _is_small(request) else await in_thread(_with_urls, request)


async def prepare(request: VideoRequest) -> Prepared:
    """Return the body of a paid request; files and bytes are encoded that are not URLs yet.

    Raises:
        InvalidRequestError: a file cannot be read, or the body is above 35 MiB.
    """

    def pack(encoded: VideoRequest) -> Prepared:
        body = request_body(encoded)
        if len(body) > LIMITS["body"]:
            _refuse_size(len(body), "body")
        return Prepared(body, hashlib.sha256(body).hexdigest())

    return pack(request) if _is_small(request) else await in_thread(lambda: pack(_with_urls(request)))


async def identify(encoded: VideoRequest) -> str:
    """Return the identity of a request whose media are URLs: a digest of each field that is sent.

    It is JSON by field, so that an error can name the fields that differ. Consents are left out. `Media`
    and the equal `data:` URL have the same digest.
    """

    def digest(encoded: VideoRequest) -> str:
        digests: dict[str, str] = {}
        for name, value in sorted(request_fields(encoded).items()):
            found = hashlib.sha256()
            for piece in json_pieces(value, sort_keys=True):
                found.update(piece)
            digests[name] = found.hexdigest()[:32]
        return json.dumps(digests)

    return await beside_the_loop(digest, encoded)


async def beside_the_loop(work: Callable[[VideoRequest], _T], request: VideoRequest) -> _T:
    """Return what `work` makes of a request: in a thread, if its media or texts are large."""
    return work(request) if _is_small(request) else await in_thread(work, request)


async def price_query(
    request: VideoRequest,
    reference_video_seconds: float | None = None,
    *,
    encoded: VideoRequest | None = None,
) -> Query[Quote]:
    """Return the question for a price, with the clip to work on encoded, and the reference clips measured.

    `encoded` is the request with its media as URLs, where that is known. Clips whose length only the server
    can see, behind a URL, are left out of the price; a warning says so.

    Raises:
        InvalidRequestError: a file cannot be read.
        UsageError: the seconds are no number.
    """
    check_number("reference_video_seconds", reference_video_seconds, low=0, or_none=True)
    seconds = reference_video_seconds
    if seconds is None and STATED_LENGTH not in request.extra:
        seconds, unknown = await reference_seconds(request)
        if unknown:
            message = (
                "The price leaves out %d reference clip(s) of unknown length: pass reference_video_seconds"
            )
            log.warning(message, unknown)

    def question(whole: VideoRequest) -> Query[Quote]:
        video = request_fields(whole).get("video_url")
        if isinstance(video, Media):
            url = _data_url(video, "video_url")
            place: dict[str, Any] = (
                {"video_url": url} if whole.video_url else {"extra": {**whole.extra, "video_url": url}}
            )
            whole = evolve(whole, **place)
        return price(whole, seconds or None)

    return await beside_the_loop(question, encoded or request)


async def reference_seconds(request: VideoRequest) -> tuple[float, int]:
    """Return how long the reference clips last together, in seconds, and of how many the length is unknown.

    It is known of an MP4 or MOV in bytes, in a file or in a `data:` URL, but not behind an http URL.
    """
    known = request_fields(request)
    clips: list[object] = [
        *(known.get("reference_video_urls") or ()),
        *(getattr(item, "video_url", None) for item in known.get("video_references") or ()),
    ]
    lengths = await in_thread(lambda: [_seconds(clip) for clip in clips]) if clips else []
    found = [length for length in lengths if length is not None]
    return round(math.fsum(found), 3), len(lengths) - len(found)


def _seconds(clip: object) -> float | None:
    """Return the length of a clip in seconds, None if unknown; of Base64 only the index is decoded."""
    try:
        if isinstance(clip, Media) and clip.path is not None:
            if not clip.path.is_file():
                return None  # a pipe can be read only once
            with clip.path.open("rb") as file:

                def read_file(place: int, count: int) -> bytes:
                    file.seek(place)
                    return file.read(count)

                return movie_seconds(read_file, clip.path.stat().st_size)
        if isinstance(clip, Media) and (data := clip.data) is not None:
            return movie_seconds(lambda place, count: data[place : place + count], len(data))
        if isinstance(clip, str) and clip[:5].lower() == "data:" and ";base64," in clip[:256]:
            begin = clip.index(",") + 1
            in_lines = len(clip[begin : begin + 256].split()) > 1
            text, begin = ("".join(clip[begin:].split()), 0) if in_lines else (clip, begin)

            def read_text(place: int, count: int) -> bytes:
                first, last = place // 3, -(-(place + count) // 3)
                return b64decode(text[begin + 4 * first : begin + 4 * last])[place - 3 * first :][:count]

            return movie_seconds(read_text, (len(text) - begin) // 4 * 3 - text[-2:].count("="))
    except (OSError, ValueError):
        pass  # the error is raised when it is sent
    return None


def _is_small(request: VideoRequest) -> bool:
    """Tell whether a request has no media of its own, and texts that are encoded in no time."""
    total, left = 0, list[Any]([request])
    while left:
        value = left.pop()
        match value:
            case Media() | EncodedMedia():
                return False
            case str():
                total += len(value)
            case [*items]:
                left += items
            case {**items}:
                left += items.values()
            case Part():
                left += asdict(value, recurse=False).values()
            case _:
                total += 16
    return total < _SMALL


def _with_urls(value: Any, name: str = "") -> Any:
    """Return `value`, of the field `name`, with its media encoded."""
    match value:
        case Media():
            return _data_url(value, name)
        case list() | tuple():
            return [_with_urls(item, name) for item in cast("Sequence[object]", value)]
        case dict():
            return {part: _with_urls(item, part) for part, item in cast("dict[str, object]", value).items()}
        case Part():
            return evolve(value, **_with_urls(asdict(value, recurse=False)))
        case _:
            return value


def _data_url(media: Media, name: str) -> str:
    data = media.data
    if data is None:
        if media.path is None:
            hint = "Make the request anew with its media"
            refuse(f"{name}: the bytes of this media were not kept", name, hint=hint)
        most = LIMITS["body"] * 3 // 4
        try:
            with media.path.open("rb") as file:
                size = media.path.stat().st_size
                data = file.read(most + 1) if size <= most else b""  # a device may have no end
        except OSError as error:
            msg = f"{name}: {media.path} cannot be read: {error.strerror}"
            raise InvalidRequestError(msg, field=name) from error
        if max(size, len(data)) > most:
            _refuse_size(max(size, len(data)) * 4 // 3, name)
    if not data:
        refuse(f"{name}: the media is empty", name)
    guessed = mimetypes.guess_type(media.path.name)[0] if media.path else None
    media_type = media.media_type or sniff(data[:16]) or guessed
    if media_type is None or media_type == "application/octet-stream":
        msg = f"{name}: the type of the media cannot be told from its content"
        hint = "Say it: Media(..., media_type='image/png')"
        refuse(msg, name, None, hint, "Use a PNG, JPEG, WebP, MP4, MOV, WAV or MP3 file")
    wanted = next((kinds for word, kinds in _WANTED.items() if word in name), ("",))
    if media.media_type is None and not media_type.startswith(wanted):
        hint = "Name another file, or say media_type= if it is wrong"
        refuse(f"{name}: the media is {media_type}", name, wanted, hint, "Name another file")
    pieces = [b64encode(data[start : start + _PIECE]) for start in range(0, len(data), _PIECE)]
    return EncodedMedia(media_type, media.sha256 or hashlib.sha256(data).hexdigest(), pieces)


def _refuse_size(size: int, name: str) -> NoReturn:
    message = f"The request would be {size / _MIB:.1f} MiB; the limit is {LIMITS['body'] / _MIB:.0f} MiB"
    refuse(message, name, LIMITS["body"], "Send large media as an https URL")
