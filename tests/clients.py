"""What tests of the client share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from tests.venice import KEY, Venice, named
from venice_async import VeniceClient, VideoRequest

PUBLIC = VideoRequest(model="public-model", prompt="A gondola at dawn", duration="5s")
PRIVATE = VideoRequest(model="model-private", prompt="A gondola at dawn", duration="5s")


def client(server: Venice, **options: Any) -> VeniceClient:
    """Return a client of `server`; without sidecars, unless they are asked for."""
    options.setdefault("sidecars", False)
    return VeniceClient(KEY, base_url=server.base_url, **options)


def wire(server: Venice) -> list[str]:
    """Return the calls that were made, in order, without what tells one link from another."""
    return [named(request) for request in server.requests]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    while not condition():  # noqa: ASYNC110 - what it waits for is in a server, which sets no event
        await anyio.sleep(0.01)
