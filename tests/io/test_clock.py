"""Time that only counts while the loop runs."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from venice_async.io.clock import running_time

pytestmark = pytest.mark.anyio


async def test_what_rounding_leaves_of_a_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, looks = asyncio.get_running_loop(), list[float]()
    call_later = loop.call_later

    def noting(delay: float, *rest: Any, **more: Any) -> asyncio.TimerHandle:
        looks.append(delay)
        return call_later(delay, *rest, **more)

    monkeypatch.setattr(loop, "call_later", noting)
    times = [0.1, 5.3, 33.3, 90.0, 100.1]
    for seconds in times:
        with pytest.raises(TimeoutError), running_time(seconds):
            await anyio.sleep_forever()
    assert 22 * len(times) >= len(looks)
