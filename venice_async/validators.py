"""What a request field may hold: limits in one table, checks that name field and limit, and kinds of URLs."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, cast
from urllib.parse import unquote, urlsplit

from attrs import NOTHING, Attribute, field, fields
from attrs.validators import optional

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


def refuse(message: str, name: str, limit: object = None, hint: str = "", cli_hint: str = "") -> NoReturn:
    """Raise the error that names `name` as the field at fault."""
    error = InvalidRequestError(message, field=name, limit=limit, hint=hint)
    raise error.with_facts(cli_hint=cli_hint) if cli_hint else error


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


def is_postgres(journal: str | os.PathLike[str]) -> bool:
    """Tell whether a journal is a database of Postgres, by its URI."""
    return isinstance(journal, str) and journal.startswith(("postgresql://", "postgres://"))


def without_password(journal: str | os.PathLike[str]) -> str:
    """Return the path of a journal, or its URI as people may see it: without a password."""
    if not is_postgres(journal):
        return os.fspath(journal)
    uri = re.sub(r"(://[^/@:]*):(?:[^?]*|[^=]*)@", r"\1@", str(journal))

    def hidden(setting: re.Match[str]) -> str:
        return f"{setting[1]}..." if "password" in unquote(setting[1]) else setting[0]

    return re.sub(r"([?&][^=&]*=)[^&]*", hidden, uri)


def is_http(value: str) -> bool:
    """Tell whether `value` is an http(s) URL with a host and without blanks."""
    if not value[:8].lower().startswith(("http://", "https://")) or re.search(r"[\s\x00-\x1f]", value):
        return False
    try:
        parts = urlsplit(value)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def present(_: object, attribute: Attribute[Any], value: object) -> None:
    """Check that there is a value."""
    if value is None:
        refuse(f"{attribute.name} is missing", attribute.name)


def text(_: object, attribute: Attribute[Any], value: object) -> None:
    """Check a prompt: text, not empty, not over-long."""
    name = attribute.name
    if not isinstance(value, str):
        refuse(f"{name} must be text, not {type(value).__name__}", name)
    if name == "prompt" and not value.strip():
        refuse("prompt is empty", name, 1)
    if len(value) > LIMITS[name]:
        refuse(f"{name} has {len(value)} characters; the limit is {LIMITS[name]}", name, LIMITS[name])


def word(_: object, attribute: Attribute[Any], value: object) -> None:
    """Check an open enumeration: any text, for the vendor adds values every few weeks."""
    if not (isinstance(value, str) and value.strip()):
        what = "must not be empty" if isinstance(value, str) else f"must be text, not {value!r}"
        refuse(f"{attribute.name} {what}", attribute.name)


def flag(_: object, attribute: Attribute[Any], value: object) -> None:
    """Check a boolean."""
    if not isinstance(value, bool):
        refuse(f"{attribute.name} must be True or False, not {value!r}", attribute.name)


def number(
    low: float, high: float = math.inf, *, above: bool = False, whole: bool = False
) -> Callable[[object, Attribute[Any], object], None]:
    """Return the check of a finite number from `low` to `high`; with `above`, `low` itself is refused."""
    span = "a whole number" if whole else "a finite number"
    if high < math.inf:
        span += f" from {low:g} to {high:g}"
    elif low > -math.inf:
        span += f" {'above' if above else 'of at least'} {low:g}"

    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        sound = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if (
            not (sound and low <= cast("float", value) <= high)
            or abs(cast("float", value)) == math.inf
            or (above and value == low)
        ):
            limit = low if high == math.inf else (low, high)
            refuse(f"{attribute.name} must be {span}, not {value!r}", attribute.name, limit)

    return check


def one_of(*choices: int) -> Callable[[object, Attribute[Any], object], None]:
    """Return the check of one of a few whole numbers."""

    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        if isinstance(value, bool) or value not in choices:
            listed = ", ".join(map(str, choices))
            refuse(f"{attribute.name} must be one of {listed}, not {value!r}", attribute.name, choices)

    return check


def user_id(instance: object, attribute: Attribute[Any], value: object) -> None:
    """Check an id of an end user: printable ASCII that does not hold `||`."""
    word(instance, attribute, value)
    limit, known = LIMITS[attribute.name], str(value)
    if len(known) > limit or not known.isascii() or not known.isprintable() or "||" in known:
        message = f"{attribute.name} must be at most {limit} printable ASCII characters, without '||'"
        refuse(message, attribute.name, limit)


def media(_: object, attribute: Attribute[Any], value: object) -> None:
    """Check a media field: a URL that a server can use, or `Media`."""
    check_media(attribute.name, value)


def check_media(name: str, value: object) -> None:
    """Refuse what is neither a URL that a server can use nor `Media`."""
    if isinstance(value, Media):
        return
    if not isinstance(value, str):
        wrapped = isinstance(value, os.PathLike | bytes | bytearray | memoryview)
        message = f"{name} takes a URL or Media, not {type(value).__name__}"
        refuse(message, name, hint=_WRAP if wrapped else "")
    if not (is_http(value) or is_data(value)):
        message = f"{name} must be an http(s) or data: URL, not {brief(value)}"
        refuse(message, name, "http(s) or data: URL", _WRAP, "Name a file, or an http(s) URL")


def media_field() -> Any:
    """Return an optional media field."""
    return field(default=None, validator=optional(media), repr=brief)


def list_field(name: str, kind: type[Any] | None = None) -> Any:
    """Return a list field with the limit of that name, kept as a tuple: of media, or of `kind`.

    Of a `kind`, a mapping with its fields will do as well.
    """

    def to_tuple(value: Sequence[object] | None) -> tuple[object, ...]:
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            refuse(f"{name} takes a list or a tuple, not {type(value).__name__}", name)
        values = tuple(value)
        if kind is not None:
            values = tuple(_made(name, kind, item) for item in values)
        if len(values) > LIMITS[name]:
            refuse(f"{name} takes at most {LIMITS[name]}, not {len(values)}", name, LIMITS[name])
        for item in values if kind is None else ():
            check_media(name, item)
        return values

    item = "MediaInput" if kind is None else f"{kind.__name__} | Mapping[str, Any]"
    to_tuple.__annotations__["value"] = f"Sequence[{item}]"  # what the signature shows
    return field(default=(), converter=to_tuple, repr=brief)


def _made(name: str, kind: type[Any], item: object) -> object:
    """Return `item`, or the `kind` that the mapping `item` describes."""
    if isinstance(item, kind):
        return item
    if not isinstance(item, Mapping):
        refuse(f"{name} takes {kind.__name__}, not {type(item).__name__}", name)
    known = cast("Mapping[str, Any]", item)
    if unknown := sorted(map(str, known.keys() - {part.name for part in fields(kind)})):
        refuse(f"{name}: {kind.__name__} has no field {unknown[0]!r}", name)
    try:
        return kind(**known)
    except TypeError:
        needed = ", ".join(part.name for part in fields(kind) if part.default is NOTHING)
    refuse(f"{name}: {kind.__name__} needs {needed}", name)


def brief(value: Any) -> str:
    """Return a repr of media or text that is short and shows no query of a URL."""
    match value:
        case str():
            bare = value.lower().startswith(("http://", "https://")) and "?" in value
            shown = f"{value.partition('?')[0]}?…" if bare else value
            return repr(shown) if len(shown) <= _SHOWN else f"{shown[:_SHOWN]!r}…<{len(shown)} characters>"
        case list() | tuple():
            items = ", ".join(map(brief, cast("Sequence[Any]", value)))
            return f"[{items}]" if isinstance(value, list) else f"({items})"
        case dict():
            known = cast("dict[str, Any]", value)
            return f"{{{', '.join(f'{name!r}: {brief(item)}' for name, item in known.items())}}}"
        case _:
            return repr(value)
