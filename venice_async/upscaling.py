"""Making a clip larger, or cleaner at the size it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .media import MediaInput
from .requests import Consent, VideoRequest
from .validators import refuse

FACTORS: Final = (1, 2, 4)  # the vendor's OpenAPI file of 2026-08-21; 1 cleans without enlarging


def upscale(
    model: str,
    video: MediaInput,
    *,
    factor: int = 2,
    consents: Consent | None = None,
    extra: Mapping[str, Any] | None = None,
) -> VideoRequest:
    """Return the request to upscale a clip.

    An upscaler takes no prompt, duration or resolution: the server reads length and size from the clip, an
    MP4, MOV or WebM of at most 300 seconds, which only the server checks. The price grows with the length,
    the frame rate and the size of the result.

    Args:
        model: the id of an upscaling model, from `VeniceClient.models`.
        video: the clip: a URL, or `Media`.
        factor: by how much its sides grow: 2 or 4; 1 improves the clip at its size.
        consents: what was attested beforehand.
        extra: fields that this version does not know yet, sent as they are.

    Raises:
        InvalidRequestError: with the field and the limit.
    """
    if isinstance(factor, bool) or factor not in FACTORS:
        msg = f"factor must be 1, 2 or 4, not {factor!r}"
        raise refuse(msg, "upscale_factor", FACTORS)
    if video is None:  # pyright: ignore[reportUnnecessaryComparison] - untyped callers
        msg = "upscaling needs a clip"
        raise refuse(msg, "video_url", 1)
    return VideoRequest(
        model=model,
        video_url=video,
        upscale_factor=factor,
        consents=consents,
        extra=_unsaid(dict(extra or {})),
    )


def _unsaid(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("prompt", "duration", "resolution"):
        if name in extra:
            msg = f"an upscaler takes no {name}"
            raise refuse(msg, name, None, "It follows from the clip and the factor")
    return extra
