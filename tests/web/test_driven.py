"""The page that follows ``thadistill drive``: a real Chromium, the real server and sink, poses from a test's own source."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.drive.live_sources import pose_with
from tests.students import toy_student
from thadistill.drive.sinks import Shown, SinkOptions, open_sink
from thadistill.drive.sinks.browser import BrowserSink
from thadistill.export.students import open_students
from thadistill.pose import POSE_PARAMETERS

from .waiting import wait_until

HEAD_Y = POSE_PARAMETERS.index("head_y")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driven") / "one"
    toy_student(0).save(folder)
    return folder


def sink_of(model: Path, port: int = 0) -> BrowserSink:
    sink = open_sink("browser", SinkOptions(students=open_students([str(model)]), port=port))
    assert isinstance(sink, BrowserSink)
    return sink


@pytest.fixture
def sink(model: Path) -> Iterator[BrowserSink]:
    with sink_of(model) as opened:
        yield opened


@pytest.fixture
def open_page(browser: Any, watched: Callable[[object], object]) -> Iterator[Callable[..., Any]]:
    contexts = []

    def open_(address: str, **options: object) -> Any:
        context = browser.new_context(**({"locale": "en-US"} | options))
        contexts.append(context)
        page = context.new_page()
        watched(page)
        page.goto(address)
        page.evaluate("async () => { await thadistill.ready; }")
        return page

    yield open_
    for context in contexts:
        context.close()


def show(sink: BrowserSink, head_y: float) -> None:
    now = time.monotonic()
    sink.take(Shown(pose_with(head_y=head_y), None, now, now))


def until(page: Any, value: float) -> None:
    wait_until(page, f"Math.abs(thadistill.pose[{HEAD_Y}] - {value}) < 0.002")


def test_the_page_follows_and_says_what_drives_it(sink: BrowserSink, open_page: Callable[..., Any]) -> None:
    page = open_page(f"{sink.address}?engine=wasm")
    sink.tell("iFacialMocap", "waiting")
    wait_until(page, "document.querySelector('#driven-text').textContent === 'Waiting for iFacialMocap'")
    sink.tell("iFacialMocap", "driven")
    for value in (0.5, -0.75):
        show(sink, value)
        until(page, value)
    assert page.inner_text("#driven") == "Driven by iFacialMocap"
    assert page.evaluate("thadistill.driven") == {"source": "iFacialMocap", "state": "driven", "following": True}
    assert page.evaluate("(async () => (await thadistill.ready).engine)()") == "wasm"
    deadline = time.monotonic() + 10
    while not sink.drawn_ms and time.monotonic() < deadline:
        show(sink, 0.1)
        page.wait_for_timeout(50)
    assert 0 < sink.drawn_ms[-1] < 10_000  # the page said when a frame was on its canvas
    assert sink.status().startswith("1 page, drawn after")

    # the hand takes over, and gives back
    page.evaluate("(pose) => thadistill.setPose(pose)", pose_with(head_y=0.25).tolist())
    show(sink, 0.9)
    page.wait_for_timeout(300)
    until(page, 0.25)
    assert page.inner_text("#driven-text") == "You move the character, not iFacialMocap"
    page.click("#driven-resume")
    show(sink, 0.9)
    until(page, 0.9)

    page.click("#language")
    assert page.inner_text("#driven-text") == "iFacialMocap で動作中"


def test_the_page_comes_back_after_the_server_went(model: Path, open_page: Callable[..., Any]) -> None:
    with sink_of(model) as first:
        page = open_page(first.address)
        port = int(first.address.rstrip("/").rsplit(":", 1)[1])
        first.tell("vmc", "driven")
        show(first, 0.5)
        until(page, 0.5)
    wait_until(page, "document.querySelector('#driven').dataset.state === 'away'")
    with sink_of(model, port) as second:
        second.tell("vmc", "driven")
        show(second, -0.5)
        until(page, -0.5)
        assert page.inner_text("#driven-text") == "Driven by VMC"


def test_clean_views_follow_without_a_word(sink: BrowserSink, open_page: Callable[..., Any]) -> None:
    page = open_page(f"{sink.address}?view=clean&background=transparent")
    sink.tell("vmc", "driven")
    show(sink, 0.5)
    until(page, 0.5)
    assert not page.is_visible("#driven")


def test_a_page_of_serve_has_nothing_to_follow(model: Path) -> None:
    from thadistill.export.site import player_files
    from thadistill.serve.app import Server

    server = Server(player_files(), open_students([str(model)]), "127.0.0.1")
    assert b"thadistill-drive" not in server._files["index.html"]
    assert "/drive" not in {
        route.resource.canonical for route in server.application().router.routes() if route.resource
    }
