"""A server on loopback that behaves like Venice: no key, no money, real clips.

    async with Sandbox(speed=60.0) as sandbox:
        async with VeniceClient(sandbox.api_key, base_url=sandbox.base_url) as venice:
            ...

Names are imported when they are first used, so that the pytest plugin costs a test run nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .catalogue import CATALOGUE, CatalogueModel
    from .clips.media import ClipMaker, tiny_clip
    from .options import RateLimits
    from .records import Charge, RecordedRequest
    from .scenarios import Fault, Outcome, Point, Scenario
    from .server import Sandbox, serve

__all__ = [
    "CATALOGUE",
    "CatalogueModel",
    "Charge",
    "ClipMaker",
    "Fault",
    "Outcome",
    "Point",
    "RateLimits",
    "RecordedRequest",
    "Sandbox",
    "Scenario",
    "serve",
    "tiny_clip",
]

_NAMES = {
    "catalogue": ("CATALOGUE", "CatalogueModel"),
    "clips.media": ("ClipMaker", "tiny_clip"),
    "options": ("RateLimits",),
    "records": ("Charge", "RecordedRequest"),
    "scenarios": ("Fault", "Outcome", "Point", "Scenario"),
    "server": ("Sandbox", "serve"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name from the module that has it."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value: object = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    """Return the public names, without those that only serve their import."""
    return [*__all__]
