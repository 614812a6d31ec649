"""Virtual time over real sockets and real threads."""

from __future__ import annotations

import asyncio
import selectors
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from tests import virtual_time
from tests.virtual_time import START, VirtualTimeLoop, real_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.anyio

SOON = 0.000_1
"""A timeout in virtual seconds that no real wait may exhaust."""


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
def real_waits(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Note how long the selector was asked to wait in reality, in seconds, each time that it was."""
    waits, select = list[float | None](), selectors.DefaultSelector.select

    def noting(selector: selectors.DefaultSelector, timeout: float | None = None) -> virtual_time.Ready:
        waits.extend([] if timeout == 0 else [timeout])
        return select(selector, timeout)

    monkeypatch.setattr(selectors.DefaultSelector, "select", noting)
    return waits


async def test_an_hour_of_sleep_takes_no_time(real_waits: list[float | None]) -> None:
    began = now()
    for _ in range(3_600):
        await anyio.sleep(1)
    assert pytest.approx(3_600) == now() - began
    assert [] == real_waits


async def test_timers_fire_in_order_and_on_time() -> None:
    fired: list[tuple[float, float]] = []

    async def wait(seconds: float) -> None:
        began = now()
        await anyio.sleep(seconds)
        fired.append((seconds, round(now() - began, 6)))

    async with anyio.create_task_group() as tasks:
        for seconds in (500.0, 0.001, 86_400.0 * 30, 20.0):
            tasks.start_soon(wait, seconds)
    assert [(s, s) for s in (0.001, 20.0, 500.0, 86_400.0 * 30)] == fired


async def test_a_timeout_fires_when_nothing_comes() -> None:
    began = now()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30):
            await asyncio.Event().wait()
    assert pytest.approx(30) == now() - began


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.read(65_536):
        writer.write(line)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def with_echo_server(use: Callable[[int], Awaitable[None]]) -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        await use(server.sockets[0].getsockname()[1])


async def ask(port: int, times: int, size: int) -> None:
    for _ in range(times):
        async with asyncio.timeout(SOON):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x" * size)
            await reader.readexactly(size)
            writer.close()
            await writer.wait_closed()


async def test_no_timeout_overtakes_bytes_on_their_way() -> None:
    async def use(port: int) -> None:
        began = now()
        async with anyio.create_task_group() as tasks:
            for size in (1, 1_000, 300_000):
                tasks.start_soon(ask, port, 40, size)
        assert began == now()

    await with_echo_server(use)


async def test_no_timeout_overtakes_bytes_on_a_busy_machine() -> None:
    spin = "import time\nend = time.monotonic() + 30\nwhile time.monotonic() < end: pass"
    with ExitStack() as load:
        for _ in range(4):
            process = load.enter_context(subprocess.Popen([sys.executable, "-c", spin]))  # noqa: ASYNC220, S603 - ours
            load.callback(process.kill)
        await with_echo_server(partial(ask, times=150, size=50_000))


async def run_by_anyio(work: Callable[[], None]) -> None:
    await anyio.to_thread.run_sync(work)


async def run_with_a_limiter(work: Callable[[], None]) -> None:
    await anyio.to_thread.run_sync(work, limiter=anyio.CapacityLimiter(1))


async def run_by_asyncio(work: Callable[[], None]) -> None:
    await asyncio.to_thread(work)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold whatever looks like waiting or spinning to be so."""
    monkeypatch.setattr(virtual_time, "PATIENCE", 0)
    monkeypatch.setattr(virtual_time, "SPINNING", 100)


@pytest.mark.parametrize("run", [run_by_anyio, run_with_a_limiter, run_by_asyncio])
@pytest.mark.usefixtures("no_patience")
async def test_the_clock_stands_still_while_a_thread_works(
    run: Callable[[Callable[[], None]], Awaitable[None]],
) -> None:
    began = now()
    async with asyncio.timeout(SOON):
        for _ in range(3):
            await run(partial(time.sleep, 0.05))
    assert began == now()


async def test_the_clock_goes_on_once_a_thread_is_idle(real_waits: list[float | None]) -> None:
    await anyio.to_thread.run_sync(int)
    real_waits.clear()
    began = now()
    await anyio.sleep(1_000)
    assert pytest.approx(1_000) == now() - began
    assert [] == real_waits


async def test_a_thousand_short_errands_never_lose_a_race_with_a_timer() -> None:
    async with asyncio.timeout(SOON):
        for _ in range(500):
            await anyio.to_thread.run_sync(int)
            await asyncio.to_thread(int)


@pytest.mark.usefixtures("no_patience")
async def test_the_clock_stands_still_for_a_thread_whose_errand_was_cancelled() -> None:
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        time.sleep(0.05)
        ended.set()

    errand = asyncio.get_running_loop().run_in_executor(None, work)
    begun.wait()
    errand.cancel()
    await asyncio.sleep(3_600)
    assert ended.is_set()


@pytest.mark.usefixtures("no_patience")
async def test_the_clock_stands_still_however_slow_the_loop_is() -> None:
    began = now()
    for _ in range(50):
        time.sleep(0.002)  # noqa: ASYNC251 - blocks on purpose: only reality passes
        await asyncio.sleep(0)
    assert began == now()


@pytest.mark.parametrize("run", [run_by_anyio, run_by_asyncio])
@pytest.mark.usefixtures("no_patience")
async def test_a_thread_that_waits_for_the_clock_is_served(
    run: Callable[[Callable[[], None]], Awaitable[None]],
) -> None:
    loop, began = asyncio.get_running_loop(), now()
    await run(lambda: asyncio.run_coroutine_threadsafe(asyncio.sleep(0.02), loop).result())
    assert pytest.approx(0.02) == now() - began


@pytest.mark.usefixtures("no_patience")
async def test_a_task_that_spins_until_a_deadline_gets_there() -> None:
    deadline = now() + 0.05
    while now() < deadline:  # noqa: ASYNC110 - the very thing under test
        await asyncio.sleep(0)


async def test_without_a_timer_the_loop_waits_in_reality() -> None:
    loop, event, began = asyncio.get_running_loop(), asyncio.Event(), now()
    thread = threading.Timer(0.05, loop.call_soon_threadsafe, [event.set])
    thread.start()
    await event.wait()
    thread.join()
    assert began == now()


async def test_real_time_waits_for_another_process_and_counts_the_wait() -> None:
    began, real = now(), time.monotonic()
    with anyio.fail_after(60), real_time():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(0.1)")
        assert 0 == await process.wait()
    assert 0.1 < now() - began < time.monotonic() - real + 0.01


async def test_blocks_of_real_time_may_overlap() -> None:
    first, second = real_time(), real_time()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    real, began = time.monotonic(), now()
    await anyio.sleep(0.05)
    assert time.monotonic() - real >= 0.05
    second.__exit__(None, None, None)
    after = now()
    time.sleep(0.01)  # noqa: ASYNC251 - blocks on purpose: only reality passes
    assert began < after == now()


async def test_real_time_counts_all_of_its_block_and_nothing_before() -> None:
    time.sleep(0.1)  # noqa: ASYNC251 - blocks on purpose: only reality passes
    began = now()
    real = time.monotonic()
    with real_time():
        time.sleep(0.02)  # noqa: ASYNC251 - likewise
    assert 0.02 <= now() - began <= time.monotonic() - real


async def test_what_arrives_at_the_last_moment_comes_before_the_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)  # noqa: FBT003 - the socket's own signature
        loop.call_soon(theirs.send, b"1")
        assert b"1" == await loop.sock_recv(ours, 1)
        monkeypatch.setattr(time, "sleep", lambda _: theirs.send(b"2"))  # another thread gets its turn
        async with asyncio.timeout(SOON):
            assert b"2" == await loop.sock_recv(ours, 1)


async def test_the_default_executor_ends_in_real_time() -> None:
    loop, may_end = asyncio.get_running_loop(), threading.Event()
    abandoned = loop.run_in_executor(None, may_end.wait)
    abandoned.cancel()
    threading.Timer(0.05, may_end.set).start()
    async with asyncio.timeout(600):
        await loop.shutdown_default_executor()


async def test_time_never_goes_back() -> None:
    seen = [now()]
    for seconds in (0, 0.01, 0.001, 5):
        with real_time():
            await anyio.sleep(min(seconds, 0.01))
            seen.append(now())
        await anyio.sleep(seconds)
        seen.append(now())
    assert sorted(seen) == seen


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_real_time_on_an_ordinary_loop_changes_nothing(anyio_backend: object) -> None:
    with real_time():
        assert not isinstance(asyncio.get_running_loop(), VirtualTimeLoop)


async def test_a_refused_name_lookup_does_not_lose_to_its_timeout() -> None:
    async with asyncio.timeout(SOON):
        found = await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    assert found


def test_anyio_takes_the_loop_as_its_factory() -> None:
    options: dict[str, Any] = {"loop_factory": VirtualTimeLoop}

    async def main() -> float:
        await anyio.to_thread.run_sync(int)
        await asyncio.to_thread(int)
        return now()

    assert pytest.approx(START, abs=0.5) == anyio.run(main, backend_options=options)
