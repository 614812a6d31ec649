"""Consent for media that may show a face.

The sandbox looks at no picture. Every image and every video counts as showing a face, unless its URL contains
`no-face`; media whose exact bytes (or whose URL) were attested before is not asked about again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, cast

from .replies import Reply, json_reply
from .scenarios import Habit

CONSENT_VERSION = "sandbox-2026-01"
POLICY_TEXT = (
    "By submitting media that shows a person you confirm that you accept the provider's terms and privacy"
    " policy, that you have the legal right to use the media, and that it may be screened beforehand."
)
DOCS_URL = "https://docs.venice.ai/guides/media/seedance-face-media-consent"
CONFIRMATIONS = frozenset(
    {"confirmed_terms_and_privacy", "confirmed_legal_right", "confirmed_screening_acknowledged"}
)

_ROLES: Mapping[str, str] = {
    "image_url": "image",
    "end_image_url": "end_image",
    "reference_image_urls": "reference_image",
    "scene_image_urls": "reference_image",
    "elements": "reference_image",
    "keyframes": "reference_image",
    "video_url": "video",
    "reference_video_urls": "reference_video",
}


class ConsentRecord:
    """Whether consent is needed, and the media it was given for."""

    def __init__(self) -> None:
        self._attested: set[bytes] = set()

    def ask(self, body: Mapping[str, Any], habit: Habit) -> Reply | None:
        """Return the 409 that `body` meets, or None; consent in the body is remembered for its media."""
        if habit == "never":
            return None
        media: list[tuple[str, bytes]] = []
        for name, role in _ROLES.items():
            for text in _texts(body.get(name)):
                if text.startswith("data:") or "no-face" not in text:
                    payload = text.partition(",")[2] if text.startswith("data:") else text
                    digest = hashlib.sha256(payload.encode(errors="surrogatepass")).digest()
                    media.append((role, digest))
        if "seedance" in (body.get("consents") or {}):
            self._attested.update(digest for _, digest in media)
        fresh = [role for role, digest in media if habit == "always" or digest not in self._attested]
        if not fresh:
            return None
        content = {
            "error": {
                "code": "needs_consent",
                "message": "This request contains face media and needs consent before it can be queued",
            },
            "consent_flow": "seedance",
            "face_media_roles": list(dict.fromkeys(fresh)),
            "consent": {"consent_version": CONSENT_VERSION, "policy_text": POLICY_TEXT},
            "docs_url": DOCS_URL,
        }
        return json_reply(409, content)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _texts(item)
    elif isinstance(value, dict):
        for item in cast("dict[str, object]", value).values():
            yield from _texts(item)
