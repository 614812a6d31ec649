"""Media on their way out: files are read and encoded in a worker thread, once per job."""

from __future__ import annotations

import hashlib
import mimetypes
from base64 import b64encode
from typing import Any, Final, TypeVar

from attrs import evolve, field, fields, frozen

from ..errors import InvalidRequestError
from ..media import Media, sniff
from ..requests import Element, Keyframe, VideoRequest
from ..sansio.http.wire import request_body
from ..sansio.job.commands import AskPrice, Price
from ..validators import LIMITS
from .shielding import in_thread

_T = TypeVar("_T", bound=VideoRequest | Element | Keyframe)
_MIB: Final = 1 << 20
_WANTED: Final = {
    "image": ("image/",),
    "audio": ("audio/", "video/"),  # sound alone may come in a clip's container
    "video": ("video/", "image/gif"),
}
_SMALL: Final = 64 * 1024  # characters of text and URLs that are encoded faster than a thread is reached


@frozen
class Prepared:
    """A paid request, ready to send and to send again.

    Attributes:
        body: the JSON, without consents.
        fingerprint: its SHA-256 in hexadecimal.
    """

    body: bytes = field(repr=False)
    fingerprint: str


async def prepare(request: VideoRequest) -> Prepared:
    """Return the body of a paid request, its media encoded.

    Raises:
        InvalidRequestError: a file cannot be read, or the body is above 35 MiB.
    """
    if _is_small(request):
        return _packed(request)
    return await in_thread(lambda: _packed(_with_urls(request)))


async def inline(query: AskPrice | Price) -> AskPrice | Price:
    """Return a request for a price with its media encoded, of which only `video_url` is sent."""
    if not isinstance(query.request.video_url, Media):
        return query
    video = await in_thread(_data_url, query.request.video_url, "video_url")
    return evolve(query, request=evolve(query.request, video_url=video))


def _is_small(request: VideoRequest) -> bool:
    total = 0
    for value in _leaves(request):
        if isinstance(value, Media):
            return False
        total += len(value) if isinstance(value, str) else 0
    return total < _SMALL and not request.extra


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in _leaves(item)]  # pyright: ignore[reportUnknownVariableType] - any
    if isinstance(value, VideoRequest | Element | Keyframe):
        return [leaf for item in fields(type(value)) for leaf in _leaves(getattr(value, item.name))]
    return [value]


def _packed(request: VideoRequest) -> Prepared:
    body = request_body(request)
    if len(body) > LIMITS["body"]:
        raise _too_large(len(body))
    return Prepared(body, hashlib.sha256(body).hexdigest())


def _with_urls(value: _T) -> _T:
    changes: dict[str, Any] = {}
    for item in fields(type(value)):
        old = getattr(value, item.name)
        new = _as_url(old, item.name)
        if new is not old:
            changes[item.name] = new
    return evolve(value, **changes) if changes else value


def _as_url(value: Any, name: str) -> Any:
    if isinstance(value, Media):
        return _data_url(value, name)
    if isinstance(value, Element | Keyframe):
        return _with_urls(value)
    if isinstance(value, tuple):
        return tuple(_as_url(item, name) for item in value)  # pyright: ignore[reportUnknownVariableType] - any tuple
    return value


def _data_url(media: Media, name: str) -> str:
    data = _read(media, name) if media.data is None else media.data
    if not data:
        msg = f"{name}: the media is empty"
        raise InvalidRequestError(msg, field=name)
    guessed = mimetypes.guess_type(media.path.name)[0] if media.path else None
    media_type = media.media_type or sniff(data[:16]) or guessed
    if media_type is None or media_type == "application/octet-stream":
        msg = f"{name}: the type of the media cannot be told from its content"
        raise InvalidRequestError(msg, field=name, hint="Say it: Media(..., media_type='image/png')")
    wanted = next((kinds for word, kinds in _WANTED.items() if word in name), ("",))
    if media.media_type is None and not media_type.startswith(wanted):
        msg = f"{name}: the media is {media_type}"
        raise InvalidRequestError(
            msg, field=name, limit=wanted, hint="Name another file, or say media_type= if it is wrong"
        )
    return f"data:{media_type};base64,{b64encode(data).decode()}"


def _read(media: Media, name: str) -> bytes:
    if media.path is None:
        msg = f"{name}: the bytes of this media were not kept"
        raise InvalidRequestError(msg, field=name, hint="Make the request anew with its media")
    try:
        size = media.path.stat().st_size
        if size * 4 // 3 > LIMITS["body"]:
            raise _too_large(size * 4 // 3, name)
        return media.path.read_bytes()
    except OSError as error:
        msg = f"{name}: {media.path} cannot be read: {error.strerror}"
        raise InvalidRequestError(msg, field=name) from error


def _too_large(size: int, name: str = "body") -> InvalidRequestError:
    message = f"The request would be {size / _MIB:.1f} MiB; the limit is {LIMITS['body'] / _MIB:.0f} MiB"
    return InvalidRequestError(
        message, field=name, limit=LIMITS["body"], hint="Send large media as an https URL"
    )
