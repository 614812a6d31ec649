"""What a request field may hold: the limits in one table, and the checks that name field and limit."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast
from urllib.parse import urlsplit

from attrs import NOTHING, Attribute, field, fields

from .errors import InvalidRequestError
from .media import Media

LIMITS: Final[Mapping[str, int]] = {
    # Where the vendor's documents disagree, the larger value: only the server knows if the smaller applies.
    "prompt": 20_000,  # characters; OpenAPI file of 2026-08-21 (10 000 in the older reference page)
    "negative_prompt": 20_000,
    "reference_image_urls": 30,  # 9 in the older page
    "reference_video_urls": 10,  # 3 in the older page
    "reference_audio_urls": 10,  # 3 in the older page
    "reference_document_urls": 1,
    "elements": 4,
    "elements.reference_image_urls": 3,
    "scene_image_urls": 4,
    "keyframes": 10,
    "keyframes.per_second": 24,  # frames: an index is at most duration x 24
    "camera_trajectory": 12,  # points; at least 2
    "camera_trajectory.azimuth": 11_520,  # degrees that all moves together may turn: 32 turns
    "image_references": 30,  # not documented: as reference_image_urls
    "video_references": 10,  # not documented: as reference_video_urls
    "anon_user_id": 128,  # characters
    "body": 35 * 1024 * 1024,  # bytes of JSON; video generation guide
}

_WRAP: Final = "For a file on this machine, pass Media(path); for bytes, Media(data)"
_SHOWN: Final = 60  # characters of a media URL or prompt that a repr shows
_DATA_URL: Final = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[\w.+=\"-]+)*,.", re.ASCII | re.DOTALL)

Check: TypeAlias = "Callable[[object, Attribute[Any], Any], None]"


def refuse(message: str, name: str, limit: object = None, hint: str = "") -> InvalidRequestError:
    """Return the error that names `name` as the field at fault."""
    return InvalidRequestError(message, field=name, limit=limit, hint=hint)


def check_media(name: str, value: object) -> None:
    """Refuse what is neither a URL that a server can use nor `Media`."""
    if isinstance(value, Media):
        return
    if not isinstance(value, str):
        msg = f"{name} takes a URL or Media, not {type(value).__name__}"
        wrapped = isinstance(value, os.PathLike | bytes | bytearray | memoryview)
        raise refuse(msg, name, None, _WRAP if wrapped else "")
    if not (is_http(value) or is_data(value)):
        msg = f"{name} must be an http(s) or data: URL, not {brief(value)}"
        error = refuse(msg, name, "http(s) or data: URL", _WRAP)
        raise error.with_facts(cli_hint="Name a file, or an http(s) URL")


def is_data(value: str) -> bool:
    """Tell whether `value` is a `data:` URL."""
    return _DATA_URL.match(value) is not None


def bare_url(url: str) -> str:
    """Return a URL without what may be a secret: user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return re.split("[?#]", url, maxsplit=1)[0]


def is_http(value: str) -> bool:
    """Tell whether `value` is an http(s) URL with a host and without blanks."""
    if not value[:8].lower().startswith(("http://", "https://")) or re.search(r"[\s\x00-\x1f]", value):
        return False
    try:
        parts = urlsplit(value)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def check_count(name: str, values: Sequence[object]) -> None:
    """Refuse more values than the limit of that name."""
    if len(values) > LIMITS[name]:
        msg = f"{name} takes at most {LIMITS[name]}, not {len(values)}"
        raise refuse(msg, name, LIMITS[name])


def present(instance: object, attribute: Attribute[Any], value: object) -> None:
    """Check that there is a value."""
    if value is None:
        msg = f"{attribute.name} is missing"
        raise refuse(msg, attribute.name)


def text(instance: object, attribute: Attribute[Any], value: object) -> None:
    """Check a prompt: text, not empty, not over-long."""
    if value is None:
        return
    name = attribute.name
    if not isinstance(value, str):
        msg = f"{name} must be text, not {type(value).__name__}"
        raise refuse(msg, name)
    if name == "prompt" and not value.strip():
        msg = "prompt is empty"
        raise refuse(msg, name, 1)
    if len(value) > LIMITS[name]:
        msg = f"{name} has {len(value)} characters; the limit is {LIMITS[name]}"
        raise refuse(msg, name, LIMITS[name])


def word(instance: object, attribute: Attribute[Any], value: object) -> None:
    """Check an open enumeration: any text, for the vendor adds values every few weeks."""
    if value is not None and not (isinstance(value, str) and value.strip()):
        msg = f"{attribute.name} must be a word, not {value!r}"
        raise refuse(msg, attribute.name)


def flag(instance: object, attribute: Attribute[Any], value: object) -> None:
    """Check a boolean."""
    if value is not None and not isinstance(value, bool):
        msg = f"{attribute.name} must be True or False, not {value!r}"
        raise refuse(msg, attribute.name)


def whole(low: int) -> Check:
    """Return the check of a whole number of at least `low`."""
    return number(low, whole=True)


def number(low: float, high: float = math.inf, *, above: bool = False, whole: bool = False) -> Check:
    """Return the check of a finite number from `low` to `high`; with `above`, `low` itself is refused."""
    span = "a whole number" if whole else "a finite number"
    if high < math.inf:
        span += f" from {low:g} to {high:g}"
    elif low > -math.inf:
        span += f" {'above' if above else 'of at least'} {low:g}"

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        if value is None:
            return
        sound = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if (
            not (sound and low <= cast("float", value) <= high)
            or abs(cast("float", value)) == math.inf
            or (above and value == low)
        ):
            msg = f"{attribute.name} must be {span}, not {value!r}"
            raise refuse(msg, attribute.name, low if high == math.inf else (low, high))

    return check


def one_of(*choices: int) -> Check:
    """Return the check of one of a few whole numbers."""

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        if value is not None and (isinstance(value, bool) or value not in choices):
            msg = f"{attribute.name} must be one of {', '.join(map(str, choices))}, not {value!r}"
            raise refuse(msg, attribute.name, choices)

    return check


def user_id(instance: object, attribute: Attribute[Any], value: object) -> None:
    """Check an id of an end user: printable ASCII that does not hold `||`."""
    word(instance, attribute, value)
    limit = LIMITS[attribute.name]
    if isinstance(value, str) and (
        len(value) > limit or not value.isascii() or not value.isprintable() or "||" in value
    ):
        msg = f"{attribute.name} must be at most {limit} printable ASCII characters, without '||'"
        raise refuse(msg, attribute.name, limit)


def duration(instance: object, attribute: Attribute[Any], value: object) -> None:
    """Check a duration: a word, and not a negative or empty span."""
    word(instance, attribute, value)
    if isinstance(value, str) and (value.startswith("-") or value == "0s") and value != "-1":
        msg = f"duration must be at least one second, not {value!r}"
        raise refuse(msg, "duration", 1)


def media_field() -> Any:
    """Return an optional media field."""

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        if value is not None:
            check_media(attribute.name, value)

    return field(default=None, validator=check, repr=brief)


def list_field(name: str, kind: type[Any] | None = None) -> Any:
    """Return a list field with the limit of that name, kept as a tuple: of media, or of `kind`.

    Of a `kind`, a mapping with its fields will do as well.
    """

    def made(item: object) -> object:
        if kind is None or not isinstance(item, Mapping):
            return item
        known = cast("Mapping[str, Any]", item)
        if unknown := sorted(str(key) for key in known if key not in {part.name for part in fields(kind)}):
            msg = f"{name}: {kind.__name__} has no field {unknown[0]!r}"
            raise refuse(msg, name)
        try:
            return kind(**known)
        except TypeError:
            needed = ", ".join(part.name for part in fields(kind) if part.default is NOTHING)
            msg = f"{name}: {kind.__name__} needs {needed}"
            raise refuse(msg, name) from None

    def to_tuple(value: object) -> tuple[object, ...]:
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            msg = f"{name} takes a list or a tuple, not {type(value).__name__}"
            raise refuse(msg, name)
        return tuple(made(item) for item in cast("Sequence[object]", value))

    def check(instance: object, attribute: Attribute[Any], values: tuple[object, ...]) -> None:
        check_count(name, values)
        for value in values:
            if kind is None:
                check_media(name, value)
            elif not isinstance(value, kind):
                msg = f"{name} takes {kind.__name__}, not {type(value).__name__}"
                raise refuse(msg, name)

    return field(default=(), converter=to_tuple, validator=check, repr=brief)


def brief(value: Any) -> str:
    """Return a repr of media or text that is short and shows no query of a URL."""
    match value:
        case str():
            bare = value.lower().startswith(("http://", "https://")) and "?" in value
            shown = f"{value.partition('?')[0]}?…" if bare else value
            return repr(shown) if len(shown) <= _SHOWN else f"{shown[:_SHOWN]!r}…<{len(shown)} characters>"
        case list():
            return f"[{_brief_items(value)}]"  # pyright: ignore[reportUnknownArgumentType] - any list will do
        case tuple():
            return f"({_brief_items(value)})"  # pyright: ignore[reportUnknownArgumentType] - any tuple will do
        case dict():
            known = cast("dict[str, Any]", value)
            return f"{{{', '.join(f'{name!r}: {brief(item)}' for name, item in known.items())}}}"
        case _:
            return repr(value)


def _brief_items(values: Sequence[Any]) -> str:
    return ", ".join(brief(value) for value in values)
