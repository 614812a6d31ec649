"""A plain client for the sandbox: one request, one answer, nothing clever."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from attrs import frozen

from venice_async.sandbox import Sandbox, tiny_clip

TEXT = "wan-2-7-text-to-video"
IMAGE = "wan-2-7-image-to-video"
PRIVATE = "grok-imagine-text-to-video-private"
FACES = "seedance-2-0-reference-to-video"
UPSCALE = "topaz-video-upscale"
PICTURE = "data:image/png;base64,aGVsbG8="
CLIP = tiny_clip(2000)
CONFIRMED = {
    "confirmed_terms_and_privacy": True,
    "confirmed_legal_right": True,
    "confirmed_screening_acknowledged": True,
}


@frozen
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.content)


@frozen
class Talk:
    """A session with a sandbox."""

    sandbox: Sandbox
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, body: object = None, **options: Any) -> Answer:
        """Make one call to the API, with the key unless `headers` are given."""
        options.setdefault("headers", {"Authorization": f"Bearer {self.sandbox.api_key}"})
        if body is not None:
            options["json"] = body
        return await self.fetch(method, self.sandbox.base_url + path, **options)

    async def fetch(self, method: str, url: str, **options: Any) -> Answer:
        """Make one request to any URL."""
        async with self.session.request(method, url, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def quote(self, model: str = TEXT, **fields: Any) -> Answer:
        """Ask for a price."""
        return await self.call("POST", "/video/quote", order(model, **fields))

    async def queue(self, model: str = TEXT, **fields: Any) -> Answer:
        """Queue a job."""
        return await self.call("POST", "/video/queue", order(model, **fields))

    async def retrieve(self, ticket: Mapping[str, str], **fields: Any) -> Answer:
        """Poll a job."""
        body = {"model": ticket["model"], "queue_id": ticket["queue_id"], **fields}
        return await self.call("POST", "/video/retrieve", body)

    async def complete(self, ticket: Mapping[str, str]) -> Answer:
        """Delete a job's media."""
        body = {"model": ticket["model"], "queue_id": ticket["queue_id"]}
        return await self.call("POST", "/video/complete", body)


def order(model: str = TEXT, **fields: Any) -> dict[str, Any]:
    """Return a request that a model accepts; a field that is None is left out."""
    body: dict[str, Any] = {"model": model, "prompt": "a canal at dawn", "duration": "5s", **fields}
    return {name: value for name, value in body.items() if value is not None}


@asynccontextmanager
async def talk(**options: Any) -> AsyncGenerator[Talk]:
    """Run a sandbox with tiny clips, and talk to it."""
    options.setdefault("clips", CLIP)
    async with Sandbox(**options) as sandbox, aiohttp.ClientSession() as session:
        yield Talk(sandbox, session)
