"""Making a clip larger, or better at the size it has: upscaling, and Topaz's suite of enhancements."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypedDict, Unpack, get_type_hints

from attrs import asdict, field, make_class
from attrs.validators import optional

from .media import MediaInput
from .models import keeps_size
from .requests import Consent, VideoRequest
from .validators import flag, number, one_of, refuse, word

FACTORS: Final = (1, 2, 4)  # the vendor's OpenAPI file of 2026-08-21; 1 cleans without enlarging
_SILENT: Final = re.compile(r"topaz(?!.*astra)", re.IGNORECASE)  # of Topaz's, only Astra takes a prompt


class Enhancements(TypedDict, total=False):
    """Options of Topaz's suite, with their checks; each of its models takes some of them."""

    enhancement_model: Annotated[str, word]
    target_fps: Annotated[float, number(16, 120)]
    slowdown_factor: Annotated[int, one_of(1, 2, 4, 8)]
    creativity: Annotated[float, number(0, 1)]
    realism: Annotated[float, number(0, 1)]
    sharp: Annotated[float, number(0, 1)]
    compression: Annotated[float, number(0, 1)]
    noise: Annotated[float, number(0, 1)]
    halo: Annotated[float, number(0, 1)]
    recover_detail: Annotated[float, number(0, 1)]
    grain: Annotated[float, number(0, 0.1)]
    softness: Annotated[float, number(1, 5)]
    h264_output: Annotated[bool, flag]
    output_format: Annotated[str, word]


_Checked: Final = make_class(
    "_Checked",
    {
        name: field(default=None, validator=optional(hint.__metadata__[0]))
        for name, hint in get_type_hints(Enhancements, include_extras=True).items()
    },
)


def upscale(
    model: str,
    video: MediaInput,
    *,
    factor: int | None = None,
    prompt: str | None = None,
    consents: Consent | None = None,
    extra: Mapping[str, Any] | None = None,
    **options: Unpack[Enhancements],
) -> VideoRequest:
    """Return the request to upscale or enhance a clip.

    It takes no duration or resolution: the server reads length and size from the clip, an MP4, MOV or WebM of
    at most 300 seconds, which only the server checks. The price grows with the length, the frame rate and the
    size of the result, and many-fold with `enhancement_model`, `target_fps` and `slowdown_factor`.

    Args:
        model: the id of an upscaling or enhancement model, from `VeniceClient.models`.
        video: the clip: a URL, or `Media`.
        factor: by how much its sides grow: 2 or 4; 1 improves the clip at its size. Left out it is 2, or not
            sent where the model keeps the size, as Topaz Interpolate, Hyperion, Deblur and Colorize do.
        prompt: what to look for, for Topaz Astra only, which then takes at most 450 frames.
        consents: what was attested beforehand.
        extra: fields that this version does not know yet, sent as they are.
        options: `enhancement_model`; `target_fps`, 16 to 120; `slowdown_factor`, 1, 2, 4 or 8; `creativity`,
            `realism`, `sharp`, `compression`, `noise`, `halo` and `recover_detail`, 0 to 1; `grain`, 0 to
            0.1; `softness`, 1 to 5; `h264_output`; `output_format`, `"mp4"` or `"prores"`, which is a MOV.

    Raises:
        InvalidRequestError: with the field and the limit.
    """
    same_size = isinstance(model, str) and keeps_size(model)  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
    if factor is None and not same_size:
        factor = 2
    if factor is not None and (isinstance(factor, bool) or factor not in FACTORS):
        refuse(f"factor must be 1, 2 or 4, not {factor!r}", "upscale_factor", FACTORS)
    if factor is not None and same_size:
        msg = f"{model} keeps the size of a clip: it takes no factor"
        refuse(msg, "upscale_factor", None, "Leave factor out")
    if video is None:  # pyright: ignore[reportUnnecessaryComparison] - untyped callers
        refuse("upscaling needs a clip", "video_url", 1)
    if prompt is not None and _SILENT.search(model):
        refuse(f"{model} takes no prompt", "prompt", None, "Of Topaz's models only Astra takes one")
    for name in ("prompt", "duration", "resolution"):
        if name in (extra or {}):
            msg = f"an upscaler takes no {name} in extra"
            refuse(msg, name, None, "Length and size follow from the clip and the factor")
    if unknown := options.keys() - Enhancements.__annotations__:
        msg = f"upscale() takes no {min(unknown)!r}"
        refuse(msg, min(unknown), None, "Pass a field that is not known here in extra")
    chosen = asdict(_Checked(**options), filter=lambda _, value: value is not None)
    return VideoRequest(
        model=model,
        prompt=prompt,
        video_url=video,
        upscale_factor=factor,
        consents=consents,
        extra={**(extra or {}), **chosen},
    )
