"""The sidecar of a clip: a JSON file beside it that tells what was asked for, what it cost and what came.

It holds no secrets: no link, no key, media by their digests, and URLs without what follows the `?`, which is
often a signature.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from ..errors import VeniceError
from ..io.delivery.destination import file_of
from ..io.delivery.part_file import job_key, part_path
from ..io.delivery.stores import ObjectPlace, put_text
from ..io.shielding import in_thread
from ..media import Media
from ..sansio.converter import request_fields, set_fields
from ..sansio.naming import own_key, parse_object_url
from ..validators import bare_url
from ..version import __version__

if TYPE_CHECKING:
    from ..results import Video
    from .spec import JobSpec

SUFFIX: Final = ".json"
"""What a sidecar's name adds to that of its clip."""

MAKER: Final = "venice_async"
"""The member that tells a sidecar from another JSON file, and holds the version that wrote it."""

_LONGEST: Final = 64 * 1024  # characters of a text, such as a prompt, that is no medium

log: logging.Logger = logging.getLogger(__name__)


async def write_sidecar(
    video: Video, spec: JobSpec, *, usd: float | None, began: float | None, now: float
) -> None:
    """Write the sidecar of a clip that is kept, beside it. It never raises: the clip is what was paid for.

    A file or an object of its name that is no sidecar stays as it is, unless the clip, too, may be replaced.
    `usd` is the price where it was asked; `began` and `now` are in seconds since the Unix epoch.
    """

    def contents() -> str:  # in a thread: files that are media of the request are read for their digests
        times = {"began": began, "saved": now}
        known = {
            MAKER: __version__,
            "file": (str(video.path or video.url)).replace("\\", "/").rpartition("/")[2],
            "size": video.size,
            "sha256": video.sha256,
            "ticket": {"model": video.ticket.model, "queue_id": video.ticket.queue_id},
            "key": own_key(spec.key),
            "tags": dict(spec.tags) or None,
            "request": None if spec.request is None else _without_secrets(request_fields(spec.request)),
            "usd": usd,
            **{
                name: datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
                for name, at in times.items()
                if at is not None
            },
        }
        made = {item: value for item, value in known.items() if value is not None}
        return json.dumps(made, indent=2, ensure_ascii=False) + "\n"

    def write(path: Path) -> None:
        if not spec.overwrite and os.path.lexists(path):
            try:
                ours = MAKER in json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, TypeError):
                ours = False
            if not ours:
                log.warning("There is no sidecar %s: another file has its name", path)
                return
        # Always of the same name: what a process left that was killed here is overwritten, and gets its name.
        draft = part_path(path, job_key(video.ticket.model, video.ticket.queue_id), "0" * 8)
        try:
            draft.write_text(contents(), encoding="utf-8", errors="replace")
            draft.replace(path)
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise

    place = spec.to if isinstance(spec.to, ObjectPlace) else None
    try:
        if place is not None and place.url.scheme != "file" and video.url is not None:
            await put_text(place, video.url + SUFFIX, await in_thread(contents), overwrite=spec.overwrite)
        elif path := video.path or (video.url and Path(file_of(parse_object_url(video.url)))):
            await in_thread(write, path.with_name(path.name + SUFFIX))
    except (OSError, VeniceError) as error:
        reason = error.message if isinstance(error, VeniceError) else error.strerror or type(error).__name__
        log.warning("There is no sidecar beside %s: %s", video.path or video.url, reason)


def _without_secrets(value: Any) -> Any:
    match value:
        case Media():
            digest = value.sha256
            with suppress(OSError):  # it may be gone by now
                if not digest and value.path is not None:
                    with value.path.open("rb") as file:
                        digest = hashlib.file_digest(file, "sha256").hexdigest()
            known = {"path": value.path and str(value.path), "sha256": digest, "media_type": value.media_type}
            return {name: part for name, part in known.items() if part is not None}
        case str() if value.startswith("data:"):
            return {"sha256": hashlib.sha256(value.encode()).hexdigest(), "of": "a data: URL"}
        case str() if value.startswith(("http://", "https://")):
            return bare_url(value)
        case str():
            return value[:_LONGEST]
        case dict():
            return {name: _without_secrets(part) for name, part in cast("dict[str, Any]", value).items()}
        case list() | tuple():
            return [_without_secrets(part) for part in cast("list[Any]", value)]
        case bool() | int() | float() | None:
            return value
        case _:
            return _without_secrets(set_fields(value))
