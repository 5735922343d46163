"""The webcam: a face before Chromium's fake camera, through MediaPipe in its worker, to poses; and what can go wrong."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thadistill import assets
from thadistill.errors import UserError
from thadistill.pose import POSE_PARAMETERS

from .conftest import WEB

FAKE_CAMERA = "--use-fake-device-for-media-stream"
NO_QUESTION = "--use-fake-ui-for-media-stream"
FPS, TURN_S, FACE_S, BLANK_S = 12, 4.0, 6.0, 3.5
LARGEST_ROLL = 13  # degrees; neck_z is full at 15
NO_FACE = 16  # the corner's brightness while there is no face; else 128 + 6 a degree of roll
POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; img-src 'self' blob: data:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'"
)
PAGE = f"""<!doctype html><meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>camera</title>
<script type="module" src="page.js"></script>"""
SCRIPT = """import { CameraDriver } from './drive/camera.js';
window.rows = [];
const corner = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
window.camera = new CameraDriver((pose) => {
  corner.drawImage(camera.video, 4, 4, 8, 8, 0, 0, 1, 1);
  rows.push([performance.now() / 1000, corner.getImageData(0, 0, 1, 1).data[0], camera.state === 'tracking', ...pose]);
}, { mirror: false, breathing: 0 });
window.states = [];
camera.addEventListener('change', () => states.at(-1) === camera.state || states.push(camera.state));
document.documentElement.append(camera.video);
window.start = () => camera.start().then(() => 'started', (error) => `${error.code}: ${error.message}`);
window.isReady = true;"""


@pytest.fixture(scope="session")
def face_tracking(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MediaPipe's files: the npm package as users pull it, and the reference's model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THADISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        try:
            return assets.pull("facetracking", reference / "models" / "face_landmarker.task")
        except UserError as error:
            if "could not be fetched" not in str(error) or os.environ.get("CI"):
                raise
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The player's modules with a page that does nothing but drive; without MediaPipe's files."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(WEB, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("index.html"))
    (folder / "index.html").write_text(PAGE)
    (folder / "page.js").write_text(SCRIPT)
    return folder


@pytest.fixture(scope="session")
def tracking_site(site: Path, face_tracking: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracking") / "site"
    shutil.copytree(site, folder)
    shutil.copytree(face_tracking, folder / "facetracking")
    return folder


@pytest.fixture(scope="session")
def turning_face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that turns, then nothing, over and over; the roll is written into the picture's corner as brightness."""
    data = pytest.importorskip("skimage.data")
    face = Image.fromarray(data.astronaut()).crop((60, 0, 380, 240))
    path = tmp_path_factory.mktemp("media") / "face.y4m"
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W320 H240 F{FPS}:1 Ip A1:1 C420jpeg\n".encode())
        for i in range(round(FPS * (FACE_S + BLANK_S))):
            roll = LARGEST_ROLL * np.sin(2 * np.pi * i / FPS / TURN_S)
            shown = i < FPS * FACE_S
            picture = face.rotate(roll, Image.Resampling.BICUBIC) if shown else Image.new("RGB", face.size, "gray")
            y, u, v = (np.array(plane) for plane in picture.convert("YCbCr").split())
            y[:16, :16] = round(128 + 6 * roll) if shown else NO_FACE
            u[:16, :16] = v[:16, :16] = 128
            halves = [plane.reshape(120, 2, 160, 2).mean((1, 3)).astype(np.uint8) for plane in (u, v)]
            file.write(b"FRAME\n" + y.tobytes() + b"".join(half.tobytes() for half in halves))
    return path


Open = Callable[..., Any]


@pytest.fixture
def open_page(static_server: Callable[[Path], str], watched: Callable[[Any], Any]) -> Iterator[Open]:
    """Opens a site's page in a browser, with a script that runs before it."""
    opened = []

    def open_page(browser: Any, folder: Path, before: str = "", permissions: tuple[str, ...] = ("camera",)) -> Any:
        context = browser.new_context(permissions=list(permissions))
        opened.append(context)
        page = watched(context.new_page())
        page.add_init_script(before)
        page.goto(static_server(folder))
        wait_until(page, "window.isReady")
        return page

    yield open_page
    for context in opened:
        context.close()


def wait_until(page: Any, condition: str, seconds: float = 30) -> None:
    """As Playwright's own wait_for_function, which the page's policy forbids: it evaluates in the page."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"{condition} is still not so after {seconds} s: {page.evaluate('states')}"
        page.wait_for_timeout(50)


def wait_for_state(page: Any, state: str) -> None:
    wait_until(page, f"camera.state === '{state}'")


def columns(rows: list[list[float]]) -> dict[str, np.ndarray]:
    table = np.array(rows, dtype=float)
    return dict(zip(("time", "corner", "tracking", *POSE_PARAMETERS), table.T, strict=True))


def test_a_head_turns_with_the_face_and_rests_without_it(
    launch: Callable[..., Any], tracking_site: Path, turning_face: Path, open_page: Open, static_server: Any, site: Path
) -> None:
    browser = launch(NO_QUESTION, FAKE_CAMERA, f"--use-file-for-fake-video-capture={turning_face}")
    page = open_page(browser, tracking_site)
    assert page.evaluate("start()") == "started"
    wait_for_state(page, "tracking")
    page.evaluate("document.documentElement.append(window.canvas = document.createElement('canvas'))")
    drawn = """camera.drawPreview(canvas); [...canvas.getContext('2d').getImageData(0, 0, 320, 240).data]
        .filter((value, i) => i % 4 === 3 && value > 0).length"""
    assert page.evaluate(drawn) > 300  # outlines

    # a worker from a blob has the page's policy: it cannot reach another address, even on this machine
    (worker,) = page.workers
    elsewhere = static_server(site)
    reached = "(address) => fetch(address, {mode: 'no-cors'}).then(() => true, () => false)"
    assert not worker.evaluate(reached, elsewhere)
    assert worker.evaluate(reached, page.url)

    wait_for_state(page, "lost")
    wait_for_state(page, "tracking")
    page.evaluate("rows.length = 0")
    wait_for_state(page, "lost")
    wait_for_state(page, "tracking")
    rows = page.evaluate("rows")
    stats = page.evaluate("camera.stats()")
    assert stats["trackerMs"] > 0
    assert stats["trackedPerSecond"] > 0
    assert page.evaluate("camera.devices()")[0]["label"]
    assert page.evaluate("[camera.calibrate(), camera.calibrated]") == [True, True]
    page.evaluate("camera.stop()")
    assert page.evaluate("[camera.state, camera.video.srcObject, camera.calibrate()]") == ["off", None, False]
    states = page.evaluate("states")
    assert (states[:4], states[-2:]) == (["starting", "lost", "tracking", "lost"], ["tracking", "off"])

    seen = columns(rows)
    shown = (seen["corner"] > 30) & (seen["tracking"] == 1)
    times, roll, neck = seen["time"][shown], (seen["corner"][shown] - 128) / 6, seen["neck_z"][shown]
    assert np.ptp(roll) > LARGEST_ROLL
    lags = np.arange(0, 0.7, 0.05)  # tracking and smoothing take their time, more where the machine is busy
    follows = [np.corrcoef(np.interp(times - lag, times, roll), neck)[0, 1] for lag in lags]
    assert max(follows) > 0.9
    assert np.ptp(neck) > 0.6 * np.ptp(roll) / 15  # as far as it turned, less what smoothing takes

    lost = (seen["tracking"] == 0) & (seen["corner"] < 30)
    away = np.abs(np.stack([seen[name] for name in POSE_PARAMETERS])[:, lost]).max(axis=0)
    assert away[-1] < 0.1  # at rest
    assert (np.diff(away) < 1e-6).all()  # and gently all the way: nothing moves further out
    assert away[0] > away[-1]


def refusal(page: Any) -> str:
    said = page.evaluate("start()")
    code, _, message = said.partition(": ")
    assert page.evaluate("[camera.state, camera.error, camera.errorCode]") == ["error", message, code]
    assert "\n" not in message
    return str(said)


def test_a_refused_camera(launch: Callable[..., Any], tracking_site: Path, open_page: Open) -> None:
    page = open_page(launch(FAKE_CAMERA), tracking_site, permissions=())
    assert refusal(page).startswith("refused: the camera was refused: allow it")


def test_no_camera(browser: Any, tracking_site: Path, open_page: Open) -> None:
    page = open_page(browser, tracking_site)
    assert refusal(page).startswith("none: no camera was found")
    assert page.evaluate("camera.devices()") == []


def test_an_insecure_page(browser: Any, site: Path, open_page: Open) -> None:
    hidden = "Object.defineProperty(Navigator.prototype, 'mediaDevices', {get: () => undefined})"
    page = open_page(browser, site, before=hidden)
    assert refusal(page).startswith("insecure: browsers give pages the camera only over https")
    assert page.evaluate("camera.devices()") == []


@pytest.fixture(scope="module")
def with_camera(launch: Callable[..., Any]) -> Any:
    """A browser with Chromium's own test picture before its camera."""
    return launch(NO_QUESTION, FAKE_CAMERA)


def test_missing_files_are_named_before_anybody_is_asked(with_camera: Any, site: Path, open_page: Open) -> None:
    asked = "navigator.mediaDevices.getUserMedia = () => { throw new Error('asked'); }"
    said = refusal(open_page(with_camera, site, before=asked))
    assert said.startswith("files: the face tracker's files are missing: run 'thadistill assets pull=facetracking'")


def test_a_missing_part_and_a_broken_one(
    with_camera: Any, tracking_site: Path, open_page: Open, tmp_path: Path
) -> None:
    folder = tmp_path / "site"
    shutil.copytree(tracking_site, folder)
    part = folder / "facetracking" / "vision_wasm_module_internal.wasm"
    part.unlink()
    said = refusal(open_page(with_camera, folder))
    assert said.startswith("files: ")
    assert part.name in said
    part.write_bytes(b"\0asm broken")
    assert refusal(open_page(with_camera, folder)).startswith("tracker: the face tracker doesn't run in this browser")


def test_an_unplugged_camera_and_a_new_start(with_camera: Any, tracking_site: Path, open_page: Open) -> None:
    page = open_page(with_camera, tracking_site)
    assert page.evaluate("start()") == "started"
    page.evaluate("camera.video.srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))")
    assert page.evaluate("[camera.state, camera.errorCode, camera.video.srcObject]") == ["error", "unplugged", None]
    assert page.evaluate("start()") == "started"
    assert page.evaluate("[camera.state, camera.error, camera.errorCode]") == ["lost", None, None]
    # the test picture has no face; a start that is overtaken by another, or by a stop, leaves no camera on
    page.evaluate("void camera.start(), camera.start().then(() => { window.second = true; })")
    wait_until(page, "window.second")
    assert page.evaluate("camera.video.srcObject.getVideoTracks()[0].readyState") == "live"
    page.evaluate("void camera.start(), camera.stop()")
    page.wait_for_timeout(500)
    assert page.evaluate("[camera.state, camera.video.srcObject]") == ["off", None]
    with page.workers[0].expect_event("close"):
        page.evaluate("camera.destroy()")
