"""Seedance's four workflows as requests: refer to media, edit a clip, extend a clip, stitch clips together.

One reference-to-video model does all four and tells them apart by the prompt alone. The builders write the
canonical openings and refuse, before anything is sent, a prompt and references that do not fit each other:

    from venice_async.seedance import audio, change, edit, image, reference, subject

    reference(
        model,
        "the same character walking through a neon-lit street at night",
        refer_to=[f"{subject(1)} in {image(1)}", f"the timbre in {audio(1)}"],
        images=["https://example.com/hero.png"],
        audios=["https://example.com/voice.mp3"],
        duration="5s",
    )
    edit(model, "https://example.com/sunny.mp4", change("weather", to="a heavy rainstorm"), duration="5s")

Checked here: the tags, how many references there are, and the seconds of output, by the family that the
model's id tells. Only the server sees the media itself: reference clips and sounds of 2-15 s (2.5: 2-30),
at most 15 s of either together (30); MP4 or MOV of at most 50 MB; WAV or MP3 of at most 15 MB; images of at
least 300 px a side with a ratio within (0.4, 2.5). Sizes and the length of a prompt: `VideoModel.check`.
"""

from .builders import (
    Fields,
    add,
    audio,
    change,
    edit,
    extend,
    image,
    reference,
    remove,
    replace,
    stitch,
    subject,
    video,
)
from .rules import FAMILIES, Family, family_of

__all__ = [
    "FAMILIES",
    "Family",
    "Fields",
    "add",
    "audio",
    "change",
    "edit",
    "extend",
    "family_of",
    "image",
    "reference",
    "remove",
    "replace",
    "stitch",
    "subject",
    "video",
]
