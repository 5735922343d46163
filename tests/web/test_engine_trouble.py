"""Engines that fail while they draw, and going from one to another: what is drawn, and what the reader is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.students import toy_student
from thadistill.export.site import player_files
from thadistill.export.students import open_students
from thadistill.serve.app import Server, listening

from .test_page import frame_of
from .waiting import wait_until

# The page's GPU devices, so that a test can lose one, and a switch that lets no more be had
DEVICES = """
  window.devices = [];
  window.refuse = false;
  if (window.GPUAdapter) {
    const request = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...given) {
      if (window.refuse) throw new Error('no more devices');
      const device = await request.apply(this, given);
      window.devices.push(device);
      return device;
    };
  }
"""
MOVING = "motion=breathing,sway"  # something is to be drawn at any time


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server of ``thadistill serve``, with a small student."""
    folder = tmp_path_factory.mktemp("trouble") / "one"
    toy_student(0).save(folder)
    server = Server(player_files(), open_students([str(folder)]), "127.0.0.1")
    found: list[str] = []
    ready, ended = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def answer() -> None:
        async with listening(server, "127.0.0.1", 0) as where:
            found.append(where)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(answer(),))
    thread.start()
    assert ready.wait(20)
    yield found[0]
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    server.close()


@pytest.fixture
def open_page(webgpu_browser: Any, watched: Callable[[object], object], address: str) -> Iterator[Callable[..., Any]]:
    contexts = []

    def open_(query: str, locale: str = "en-US") -> Any:
        context = webgpu_browser.new_context(locale=locale)
        contexts.append(context)
        page = context.new_page()
        watched(page)
        page.add_init_script(DEVICES)
        page.goto(address + query)
        page.evaluate("async () => { await thadistill.ready; }")
        return page

    yield open_
    for context in contexts:
        context.close()


def engine(page: Any) -> str:
    return str(page.evaluate("thadistill.stats().engine"))


def draws(page: Any, name: str) -> None:
    wait_until(page, f"(() => {{ const s = thadistill.stats(); return s.engine === '{name}' && s.frames > 0; }})()", 60)


@pytest.mark.slow
def test_a_lost_gpu_is_asked_once_more(open_page: Callable[..., Any]) -> None:
    page = open_page(f"?engine=webgpu&{MOVING}")
    draws(page, "webgpu")
    page.evaluate("devices.at(-1).destroy()")
    page.wait_for_selector(".notice.problem", timeout=30_000)
    assert page.inner_text(".notice.problem p").startswith(
        "The engine failed; WebGPU goes on. (webgpu: the GPU was lost"
    )
    draws(page, "webgpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("locale", "expected"),
    [("en-US", "The engine failed; {engine} goes on. (webgpu: the GPU was lost"), ("ja-JP", "GPU が失われました")],
)
def test_a_gpu_that_is_gone_hands_over(open_page: Callable[..., Any], locale: str, expected: str) -> None:
    page = open_page(f"?engine=webgpu&{MOVING}", locale)
    draws(page, "webgpu")
    page.evaluate("refuse = true")
    page.evaluate("devices.at(-1).destroy()")
    page.wait_for_selector(".notice.problem", timeout=60_000)
    now = engine(page)
    assert now in ("native", "wasm")
    names = {"native": "Native (thadistill serve)", "wasm": "WebAssembly"}
    assert expected.format(engine=names[now]) in page.inner_text(".notice.problem p")
    draws(page, now)
    assert not page.is_visible("#blocked")


@pytest.mark.slow
def test_from_engine_to_engine_the_frame_stays(open_page: Callable[..., Any]) -> None:
    page = open_page("?engine=wasm&motion=none#pose=%7B%22head_y%22%3A0.5%7D")
    frames = {"wasm": frame_of(page)}
    for name in ("native", "webgpu", "native", "wasm"):
        page.click("#engine")
        page.click(f"#engine-list input[value={name}]")
        wait_until(page, f"thadistill.stats().engine === '{name}'")
        page.keyboard.press("Escape")
        frames[name] = frame_of(page)
        off = np.abs(frames[name].astype(int) - frames["wasm"]).mean()
        assert off < 1, name
        assert f"engine={name}" in page.url
