"""Requests as a fleet keeps them."""

from __future__ import annotations

import json

from attrs import fields

from ..requests import Consent, VideoRequest
from ..sansio.converter import converter, request_fields, set_fields


def pack_request(encoded: VideoRequest) -> str:
    """Return a request whose media are URLs, whole, as JSON."""
    consents = encoded.consents and converter().unstructure(encoded.consents)
    return json.dumps({"fields": request_fields(encoded), "consents": consents}, default=set_fields)


def unpack_request(text: str) -> VideoRequest:
    """Return the request that `pack_request` wrote."""
    record = json.loads(text)
    known = {item.name for item in fields(VideoRequest)}
    named = {name: value for name, value in record["fields"].items() if name in known}
    extra = {name: value for name, value in record["fields"].items() if name not in known}
    consents = record["consents"] and converter().structure(record["consents"], Consent)
    return VideoRequest(**named, extra=extra, consents=consents)


def shown(text: str) -> VideoRequest:
    """Return a request as people see it, large media by digest only."""
    return converter().structure(json.loads(text), VideoRequest)
