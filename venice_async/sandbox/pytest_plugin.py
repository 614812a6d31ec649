"""The pytest plugin: a running sandbox as a fixture, for sync and async tests alike, and its environment.

The sandbox runs on an event loop of its own in another thread, so any way
to run coroutines in a test will do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from . import Sandbox


FAST_SPEED = 10_000_000.0
"""How much faster than in reality jobs run, unless the options say otherwise."""
FAST_SIZE = 100_000
"""Bytes of each clip, unless the options say otherwise."""


@pytest.fixture
def venice_sandbox_options() -> dict[str, Any]:
    """Arguments of the `Sandbox`; override the fixture in a module, a class or a conftest."""
    return {}


@pytest.fixture
def venice_sandbox(venice_sandbox_options: dict[str, Any]) -> Iterator[Sandbox]:
    """Run a `Sandbox`; its recorded requests and charges may be read from any thread.

    Unless `venice_sandbox_options` say otherwise, jobs are done at once and clips are 100,000 bytes without a
    picture; `{"clips": None}` renders real ones.
    """
    from anyio.from_thread import start_blocking_portal  # noqa: PLC0415 - other test runs pay nothing

    from . import Sandbox, tiny_clip  # noqa: PLC0415 - other test runs pay nothing

    options: dict[str, Any] = {"clips": tiny_clip(FAST_SIZE), "speed": FAST_SPEED, **venice_sandbox_options}
    sandbox = Sandbox(**options)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(sandbox):
        yield sandbox


@pytest.fixture
def venice_env(venice_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """Point the environment at `venice_sandbox`, and return it: `VeniceClient()` needs no arguments.

    VENICE_API_KEY and VENICE_BASE_URL are set for the test and its child processes. All other variables that
    begin with VENICE_ are removed, so that your own journal and limits do not reach the test.
    """
    for name in [name for name in os.environ if name.startswith("VENICE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VENICE_API_KEY", venice_sandbox.api_key)
    monkeypatch.setenv("VENICE_BASE_URL", venice_sandbox.base_url)
    return venice_sandbox
