"""The only converter between classes and JSON. It omits what is unset, and tags the journal's states."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final, cast

from attrs import fields, has
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.strategies import configure_tagged_union

from ..errors import VeniceError
from ..media import Media, MediaInput
from ..requests import Part, VideoRequest
from ..results import ConsentRequest, Ticket
from .job.states import Downloading, State, Waiting

LARGE_DATA_URL: Final = 64 * 1024  # characters; a longer data: URL is journalled by its digest
_DATA_URL: Final = "text/x-data-url"  # what such a digest is of
_MEDIA: Final = "$media"  # marks a record of `Media` where the type of the field does not


def _media_record(value: object) -> Any:
    """Return `Media`, or a long `data:` URL, as JSON with its digest; anything else as it is."""
    if isinstance(value, str) and len(value) > LARGE_DATA_URL:
        value = Media(data=value.encode(), media_type=_DATA_URL)
    if not isinstance(value, Media):
        return value
    path = None if value.path is None else str(value.path)
    known = {"path": path, "sha256": value.sha256, "media_type": value.media_type}
    return {name: part for name, part in known.items() if part is not None}


def _extra_record(value: Any) -> Any:
    match value:
        case Media():
            return {_MEDIA: _media_record(value)}
        case dict():
            return {name: _extra_record(part) for name, part in cast("dict[str, Any]", value).items()}
        case list():
            return [_extra_record(part) for part in value]  # pyright: ignore[reportUnknownVariableType] - JSON
        case _:
            return value


def _extra(value: Any, _: object = None) -> Any:
    match value:
        case {"$media": {"path": str()} | {"sha256": str()} as record, **more} if not more:
            return Media(**cast("dict[str, Any]", record))
        case dict():
            return {name: _extra(part) for name, part in cast("dict[str, Any]", value).items()}
        case list():
            return [_extra(part) for part in value]  # pyright: ignore[reportUnknownVariableType] - JSON
        case _:
            return value


def _by_name(kind: type[VeniceError]) -> dict[str, type[VeniceError]]:
    below = (item for child in kind.__subclasses__() for item in _by_name(child).items())
    return {kind.__name__: kind, **dict(below)}


_ERRORS: Final = _by_name(VeniceError)
_ERROR_PARTS: Final[Mapping[str, type[Any]]] = {"ticket": Ticket, "consent_request": ConsentRequest}


def error_name(error: VeniceError) -> str:
    """Return the name of an error's class, or, where that is not public, of the nearest one that is."""
    return next(kind.__name__ for kind in type(error).__mro__ if _ERRORS.get(kind.__name__) is kind)


@cache
def converter() -> Converter:
    """Return the converter, built when it is first needed."""
    built = Converter()
    built.register_structure_hook(cast("type[Any]", str | int | None), lambda value, _: value)

    def media(value: Any, _: object) -> MediaInput | None:
        return value if value is None or isinstance(value, str) else Media(**value)

    for shape in (MediaInput, MediaInput | None):
        built.register_unstructure_hook(shape, _media_record)
        built.register_structure_hook(cast("type[Any]", shape), media)

    def error_record(error: VeniceError) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for name, value in error.facts.items():
            known = built.unstructure(value) if has(cast("type[Any]", value.__class__)) else value
            try:
                json.dumps(known)
            except (TypeError, ValueError):
                known = str(known)
            facts[name] = known
        return {"kind": error_name(error), "facts": facts}

    def error(value: Mapping[str, Any], _: object) -> VeniceError:
        kind = _ERRORS.get(value["kind"], VeniceError)  # a name that this version does not know
        kept = {
            name: fact for name, fact in value["facts"].items() if name == "message" or hasattr(kind, name)
        }
        for name, shape in _ERROR_PARTS.items():
            if kept.get(name) is not None:
                kept[name] = built.structure(kept[name], shape)
        return kind(**kept)

    built.register_unstructure_hook_func(_is_a(VeniceError), error_record)
    built.register_structure_hook_func(_is_a(VeniceError), error)

    def omit_unset(kind: type[Part]) -> Callable[[Any], Any]:
        extra = override(unstruct_hook=_extra_record)
        return make_dict_unstructure_fn(kind, built, _cattrs_omit_if_default=True, extra=extra)

    built.register_unstructure_hook_factory(_is_a(Part), omit_unset)
    built.register_structure_hook(
        VideoRequest, make_dict_structure_fn(VideoRequest, built, extra=override(struct_hook=_extra))
    )
    for state in (Waiting, Downloading):  # a process that goes on with a job tries anew
        omitting = make_dict_unstructure_fn(state, built, attempts=override(omit=True))
        built.register_unstructure_hook(state, omitting)
    configure_tagged_union(State, built, tag_name="state")
    return built


def _is_a(base: type[Any]) -> Callable[[Any], bool]:
    return lambda kind: isinstance(kind, type) and issubclass(kind, base)


_UNSET: Final[tuple[object, ...]] = (None, (), {})


def request_fields(request: VideoRequest) -> dict[str, Any]:
    """Return the fields of a request that are set, by wire name, without consents; `extra` is merged in."""
    known = set_fields(request)
    extra: dict[str, Any] = known.pop("extra", {})
    return known | extra


def set_fields(value: Part) -> dict[str, Any]:
    """Return the fields that are set, as they are: unlike in a record for the journal, media are whole."""
    found = {item.name: getattr(value, item.name) for item in fields(type(value))}
    return {name: part for name, part in found.items() if part not in _UNSET and name != "consents"}


def dump_state(state: State) -> str:
    """Return a state as JSON."""
    return json.dumps(converter().unstructure(state, unstructure_as=State))


def load_state(text: str | bytes) -> State:
    """Return the state that `dump_state` wrote."""
    return converter().structure(json.loads(text), cast("type[State]", State))


def media_in(record: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield each medium in a record of a request with the name of its field, for a list without its `s`."""
    if name.endswith("_url"):
        yield name, record
    elif isinstance(record, dict):
        known = cast("dict[str, Any]", record)
        if _MEDIA in known:
            yield name, known
        for key, part in known.items():
            yield from media_in(part, key)
    elif isinstance(record, list | tuple):
        for part in cast("list[Any]", record):
            yield from media_in(part, name.removesuffix("s"))


def request_key(request: VideoRequest) -> str:
    """Return the identity of a request: the SHA-256 of its fields in hexadecimal.

    A field that used to go in `extra` and becomes known keeps the key that it had there: else a batch that is
    run again after an update would pay again.
    """
    record = converter().unstructure(request)
    if newer := {name: record.pop(name) for name in _ONCE_IN_EXTRA if name in record}:
        record["extra"] = {**record.get("extra", {}), **newer}
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()


_ONCE_IN_EXTRA: Final = (
    "anon_user_id",
    "camera_trajectory",
    "image_references",
    "image_strength",
    "video_references",
    "voice_id",
)
