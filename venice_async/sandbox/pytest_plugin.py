"""The pytest plugin: a running sandbox as a fixture, for sync and async tests alike.

The sandbox runs on an event loop of its own in another thread, so any way
to run coroutines in a test will do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from . import Sandbox


@pytest.fixture
def venice_sandbox_options() -> dict[str, Any]:
    """Arguments of the `Sandbox`; override the fixture in a module, a class or a conftest."""
    return {}


@pytest.fixture
def venice_sandbox(venice_sandbox_options: dict[str, Any]) -> Iterator[Sandbox]:
    """Run a `Sandbox`; its recorded requests and charges may be read from any thread."""
    from anyio.from_thread import start_blocking_portal  # noqa: PLC0415 - other test runs pay nothing

    from . import Sandbox  # noqa: PLC0415 - other test runs pay nothing

    sandbox = Sandbox(**venice_sandbox_options)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(sandbox):
        yield sandbox
