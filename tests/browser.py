"""A real browser, driven over its DevTools protocol: Chromium without a window."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

PATIENCE: Final = 60.0  # seconds; what is waited for takes a fraction of one
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS: Final = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio"),
    *("--no-first-run", "--disable-extensions", "--disable-background-networking", "--hide-scrollbars"),
    *("--remote-debugging-port=0", "--autoplay-policy=no-user-gesture-required"),
)

_READ: Final = r"""selector => {
  const rendered = new CSSStyleSheet();
  rendered.replaceSync("* { content-visibility: visible !important }");
  document.adoptedStyleSheets.push(rendered);
  try {
    const found = [...document.querySelectorAll(selector)].filter(one => one.checkVisibility());
    return found.map(one => one.innerText.replace(/\s+/g, " ").trim());
  } finally {
    document.adoptedStyleSheets.pop();
  }
}"""


@contextmanager
def chromium() -> Generator[int]:
    """Run Chromium within the block, and give the port of its protocol; skip the test where there is none."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed: the page is not looked at")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        process = stack.enter_context(
            subprocess.Popen(  # noqa: S603 - a browser of the machine
                [program, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "HOME": folder},
            )
        )
        stack.callback(process.terminate)
        yield _port(Path(folder) / "DevToolsActivePort", process)


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        if file.exists() and (lines := file.read_text(encoding="utf-8").splitlines()):
            return int(lines[0])
        time.sleep(0.02)
    pytest.skip("Chromium does not start here: the page is not looked at")


class Tab:
    """A page in the browser.

    Attributes:
        trouble: what the page complained of: errors, and what its policy forbade.
        asked: the addresses that it asked for.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.trouble: list[str] = []
        self.asked: list[str] = []
        self._socket = socket
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._number = 0

    async def listen(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif said["method"] == "Runtime.exceptionThrown":
                self.trouble.append(json.dumps(said["params"]["exceptionDetails"])[:500])
            elif said["method"] == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
                self.trouble.append(said["params"]["entry"]["text"])
            elif said["method"] == "Network.requestWillBeSent":
                self.asked.append(said["params"]["request"]["url"])

    async def call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        said = await asyncio.wait_for(answer, PATIENCE)
        assert "error" not in said, said
        return said["result"]

    async def look(
        self, address: str, *, width: int = 1280, height: int = 900, dark: bool = False, still: bool = False
    ) -> None:
        """Open an address in a window of that size."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
        ]
        await self.call("Emulation.setEmulatedMedia", features=features)
        await self.call("Page.navigate", url=address)
        await self.until("document.readyState === 'complete'")

    async def run(self, script: str) -> Any:
        """Return what a script, or its promise, gives."""
        done = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait until a script gives something true, and return it."""
        deadline = time.monotonic() + PATIENCE
        while not (found := await self.run(script)):
            assert time.monotonic() < deadline, f"never true: {script}"
            await asyncio.sleep(0.02)
        return found

    async def texts(self, selector: str) -> list[str]:
        """Return what is to be read in the elements that a selector finds, by one who scrolls to each.

        The browser renders a card of `content-visibility: auto` in one of its next frames, and only near the
        window; until then there is no text to read in it.
        """
        found: list[str] = await self.run(f"({_READ})({json.dumps(selector)})")
        return found

    async def click(self, selector: str) -> None:
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")

    async def key(self, key: str) -> None:
        text = key if len(key) == 1 else ""
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)


@asynccontextmanager
async def tab(port: int) -> AsyncGenerator[Tab]:
    """Open a tab within the block, with cookies of its own."""
    async with aiohttp.ClientSession() as session:
        async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
            target = await answer.json(content_type=None)
        async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            page = Tab(socket)
            listening = asyncio.create_task(page.listen())
            try:
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await page.call(f"{domain}.enable")
                yield page
            finally:
                listening.cancel()
        async with session.get(f"http://127.0.0.1:{port}/json/close/{target['id']}"):
            pass
