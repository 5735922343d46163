"""Fixtures: a real Chromium, the player's files on a server of this machine, and a watch over what a page asks for."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

WEB = Path(__file__).parents[2] / "thadistill" / "web"
# Chromium's software WebGPU adapter paints canvases with these; see "--use-vulkan" in its documentation of switches.
FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
WEBGPU_FLAGS = (
    "--enable-unsafe-webgpu",
    "--use-angle=swiftshader",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
)


def chromium_path() -> str:
    """Debian's Chromium, or one on the path; skips without it, except in CI, which installs it."""
    found = os.environ.get("THADISTILL_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        message = "no Chromium: apt-get install chromium, or set THADISTILL_CHROMIUM"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return found


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves folders without a word, with the types that browsers insist on."""

    extensions_map: ClassVar = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="session")
def static_server() -> Iterator[Callable[[Path], str]]:
    """Serves a folder with nothing but Python's own server: folder -> address ending in a slash."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[..., object]]:
    """Opens Chromium headless with further flags; closed at the end."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = chromium_path()
    with playwright.sync_playwright() as driver:
        opened = []

        def open_browser(*flags: str) -> object:
            browser = driver.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
            opened.append(browser)
            return browser

        yield open_browser
        for browser in opened:
            browser.close()


@pytest.fixture(scope="session")
def browser(launch: Callable[..., object]) -> object:
    """A plain Chromium: no WebGPU adapter but WebAssembly."""
    return launch()


@pytest.fixture(scope="session")
def webgpu_browser(launch: Callable[..., object]) -> object:
    """A Chromium with the software WebGPU adapter."""
    return launch(*WEBGPU_FLAGS)


@pytest.fixture
def watched() -> Iterator[Callable[[object], object]]:
    """Watches pages: after the test nothing may have left the machine, and no script may have failed."""
    outside: list[str] = []
    errors: list[str] = []

    def watch(page: object) -> object:
        page.on("request", lambda request: _is_here(request.url) or outside.append(request.url))  # type: ignore[attr-defined]
        page.on("pageerror", lambda error: errors.append(str(error)))  # type: ignore[attr-defined]
        return page

    yield watch
    assert not outside, f"the page asked for {outside}"
    assert not errors, f"the page's scripts failed: {errors}"


def _is_here(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "file:"))
