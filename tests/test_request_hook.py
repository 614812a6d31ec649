"""Headers that the caller adds to each request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cases import for_each
from tests.clients import PRIVATE, client
from tests.venice import Venice, json_answer
from venice_async import APIError, ConnectError, UsageError, VeniceClient

pytestmark = pytest.mark.anyio


async def test_a_hook_adds_headers_to_every_request_to_the_api_and_to_no_link(
    tmp_path: Path,
) -> None:
    seen: list[tuple[str, str, bytes]] = []

    async def sign(method: str, path: str, body: bytes) -> Mapping[str, str]:
        seen.append((method, path, body))
        return {"X-Signature": f"signature-{len(seen)}"}

    async with Venice() as server, client(server, on_request=sign) as venice:
        await venice.generate(PRIVATE, to=tmp_path / "clip.mp4", max_usd=1.0)
    api = [request for request in server.requests if request.origin == "api"]
    assert [(request.method, request.target, request.body) for request in api] == seen
    assert [f"signature-{number + 1}" for number in range(len(seen))] == [
        request.headers["x-signature"] for request in api
    ]
    assert all("authorization" in request.headers for request in api)
    assert [200] * len(api) == [request.status for request in api]  # as no other key is answered
    links = [request for request in server.requests if request not in api]
    assert links
    assert not any("x-signature" in request.headers for request in links)


def _fails(_: str, path: str, __: bytes) -> Mapping[str, str]:
    if path.endswith("/queue"):
        msg = "the wallet is locked"
        raise RuntimeError(msg)
    return {}


async def test_a_hook_that_fails_before_the_paid_request_charges_nothing(tmp_path: Path) -> None:
    async with Venice() as server, client(server, on_request=_fails) as venice:
        with pytest.raises(ConnectError, match="RuntimeError: the wallet is locked") as raised:
            await venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
    assert (False, []) == (raised.value.charged, server.asked("POST /video/queue"))


async def test_a_hook_that_is_cancelled_on_its_own_charges_nothing_and_says_so(tmp_path: Path) -> None:
    async def is_cancelled(*_: object) -> dict[str, str]:
        raise asyncio.CancelledError

    journal = tmp_path / "jobs.db"
    async with Venice() as server, client(server, on_request=is_cancelled, journal=journal) as venice:
        with pytest.raises(ConnectError, match="on_request failed: CancelledError") as raised:
            await venice.generate(PRIVATE, to=tmp_path / "clip.mp4")
        assert (False, [], []) == (raised.value.charged, server.requests, await venice.pending())


@for_each(
    "answer",
    [{"Authorization": "Bearer mine"}, {"host": "evil.example"}, {"x-a": "b\r\nc: d"}, {"x-a": 7}, None, "x"],
)
async def test_a_hook_cannot_touch_what_is_not_its_own(answer: Any) -> None:
    async with Venice() as server, client(server, on_request=lambda *_: answer) as venice:
        with pytest.raises(ConnectError, match="on_request failed"):
            await venice.models()
    assert [] == server.requests


async def test_a_hook_may_authorize_requests_in_place_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VENICE_API_KEY", raising=False)
    async with Venice() as server:
        own = {"sign-in-with-x": "signed-by-a-wallet"}
        async with VeniceClient(
            base_url=server.base_url, on_request=lambda *_: own, send_key=False
        ) as venice:
            await venice.quote(PRIVATE)
    assert ("signed-by-a-wallet", None) == (
        server.requests[0].headers["sign-in-with-x"],
        server.requests[0].headers.get("authorization"),
    )
    with pytest.raises(UsageError, match="nothing authorizes"):
        VeniceClient(send_key=False)


async def test_what_a_hook_added_is_in_no_error() -> None:
    echo = json_answer({"error": "bad signature signature-of-mine"}, status=400)
    async with (
        Venice(quote=[echo]) as server,
        client(server, on_request=lambda *_: {"x-signature": "signature-of-mine"}) as venice,
    ):
        with pytest.raises(APIError, match="bad signature") as raised:
            await venice.quote(PRIVATE)
    assert "signature-of-mine" not in f"{raised.value} {raised.value.details!r}"
