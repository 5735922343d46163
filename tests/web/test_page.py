"""The player's page in a real browser: its interface for scripts, its controls, what it saves, and bad input."""

from __future__ import annotations

import base64
import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.runtime.runtime_frames import random_model
from thadistill.drive import read_track
from thadistill.export.character_file import file_name, pack_character
from thadistill.pose import POSE_PARAMETERS

from .conftest import WEB

HOSTILE = "<img src=x onerror=window.injected=1>"
QUIET = "motion=none"  # a page on which nothing moves by itself
Open = Callable[..., Any]


def packed_character(name: str, seed: int) -> bytes:
    """A small random student: milliseconds per frame."""
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    return pack_character(random_model(seed=seed), name, x**2 + y**2 < 0.6)


@pytest.fixture(scope="session")
def characters() -> dict[str, bytes]:
    return {name: packed_character(name, seed) for seed, name in enumerate(["first", "second", HOSTILE])}


def make_site(folder: Path, characters: dict[str, bytes]) -> None:
    shutil.copytree(WEB, folder)
    (folder / "characters").mkdir()
    for name, packed in characters.items():
        (folder / "characters" / file_name(name)).write_bytes(packed)
    index = [{"name": name, "file": file_name(name)} for name in characters]
    (folder / "characters" / "index.json").write_text(json.dumps(index))


@pytest.fixture(scope="session")
def site(
    characters: dict[str, bytes], static_server: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    folder = tmp_path_factory.mktemp("site") / "player"
    make_site(folder, characters)
    return static_server(folder)


@pytest.fixture
def open_page(browser: Any, site: str, watched: Callable[[object], object]) -> Iterator[Open]:
    """Opens the page: what comes after its address, options of the browser's context -> the page, once it is ready."""
    contexts = []
    messages: list[str] = []

    def open_(query: str = f"?{QUIET}", ready: bool = True, address: str = site, **options: object) -> Any:
        context = browser.new_context(**({"locale": "en-US"} | options))
        contexts.append(context)
        page = context.new_page()
        watched(page)
        page.on("console", lambda message: _is_expected(message) or messages.append(message.text))
        page.goto(address + query)
        if ready:
            page.evaluate("async () => { await thadistill.ready; }")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not messages, f"the browser complains: {messages}"


def _is_expected(message: Any) -> bool:
    """Whether it is no error, or the one that browsers report of each file that is not there."""
    return message.type != "error" or "facetracking" in message.location.get("url", "")


def pose_of(page: Any) -> dict[str, float]:
    """The pose that is shown: the values that are not zero."""
    values = page.evaluate("thadistill.pose")
    assert len(values) == len(POSE_PARAMETERS)
    return {name: round(value, 2) for name, value in zip(POSE_PARAMETERS, values, strict=True) if round(value, 2)}


def settle(page: Any) -> dict[str, float]:
    """The pose once it has been reached: when it stays, for longer than a busy machine takes for a frame."""
    before, stayed = pose_of(page), 0
    while stayed < 4:
        page.wait_for_timeout(60)
        pose = pose_of(page)
        stayed = stayed + 1 if pose == before else 0
        before = pose
    return before


def frame_of(page: Any) -> np.ndarray:
    script = """async () => {
      const { width, height, data } = await thadistill.frame();
      if (!(data instanceof Uint8ClampedArray)) throw new Error('no pixels');
      return [width, height, btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(''))];
    }"""
    width, height, text = page.evaluate(script)
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)


def drop(page: Any, *files: tuple[str, bytes]) -> None:
    page.evaluate(
        """(files) => {
          const data = new DataTransfer();
          for (const [name, text] of files) {
            data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
          }
          document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));
        }""",
        [[name, base64.b64encode(content).decode()] for name, content in files],
    )


def test_interface_for_scripts(open_page: Open, characters: dict[str, bytes]) -> None:
    page = open_page("")
    about = page.evaluate("thadistill.ready")
    assert about["character"] == "first"
    assert about["engine"] == "wasm"  # this browser has no WebGPU adapter, and the site no server behind it
    assert {engine["name"]: engine["obstacle"] is None for engine in about["engines"]} == {
        "webgpu": False,
        "native": False,
        "wasm": True,
    }
    assert "webgpu" in about["reason"]

    page.evaluate("(pose) => thadistill.setPose(pose)", [0.25] * 45)
    assert page.evaluate("thadistill.pose") == [0.25] * 45  # at once, and nothing moves by itself any more
    first = frame_of(page)
    assert first.shape == (512, 512, 4)
    assert (first[0, 0] == 0).all()
    assert first[256, 256, 3] > 0
    page.evaluate("thadistill.setPose(new Float32Array(45))")
    assert not np.array_equal(first, frame_of(page))

    page.evaluate("thadistill.stats()")
    page.evaluate(
        """async () => {
          for (let i = 0; i < 8; i++) {
            thadistill.setPose(new Array(45).fill(i / 10));
            await new Promise((done) => setTimeout(done, 60));
          }
        }"""
    )
    stats = page.evaluate("thadistill.stats()")
    assert stats["engine"] == "wasm"
    assert 4 <= stats["frames"] <= 9
    assert 0 < stats["msMedian"] <= stats["msP95"]
    assert 0 < stats["fps"] < 60
    assert page.evaluate("thadistill.stats()")["frames"] <= 1

    rejected = "(pose) => { try { thadistill.setPose(pose); return null; } catch (error) { return error.message; } }"
    assert "44" in page.evaluate(rejected, [0] * 44)
    assert "breathing" in page.evaluate(rejected, [0] * 44 + ["1"])
    page.evaluate("thadistill.setPose(new Array(45).fill(-7))")
    assert page.evaluate("thadistill.pose[0]") == 0
    assert page.evaluate("thadistill.pose[39]") == -1

    assert page.evaluate("thadistill.camera.state") == "off"
    page.evaluate("thadistill.load('characters/second.safetensors')")
    assert page.locator("#character-menu").input_value() == "second"
    failed = page.evaluate("thadistill.load(new File(['no'], 'a.safetensors')).catch((error) => error.message)")
    assert failed == "the character file is cut short"
    assert page.locator("#character-menu").input_value() == "second"


def test_sliders_by_keyboard_linked_and_apart(open_page: Open) -> None:
    page = open_page()
    group = page.locator("#groupEyes")
    group.get_by_label("Wink", exact=True).focus()
    page.keyboard.press("End")
    assert settle(page) == {"eye_wink_left": 1, "eye_wink_right": 1}
    page.keyboard.press("ArrowLeft")
    assert settle(page) == {"eye_wink_left": 0.99, "eye_wink_right": 0.99}
    group.get_by_label("Left and right together: Eyes").press("Space")
    group.get_by_label("Wink, left", exact=True).press("Home")
    assert settle(page) == {"eye_wink_right": 0.99}
    group.get_by_label("Wink, right", exact=True).press("Delete")
    assert settle(page) == {}

    page.get_by_label("Head down / up").press("Home")
    assert settle(page) == {"head_x": -1}
    page.get_by_label("Head down / up").press("Delete")
    for _ in range(4):  # through the middle, which only a dragged slider holds on to
        page.get_by_label("Head down / up").press("ArrowRight")
    assert settle(page) == {"head_x": 0.04}
    group.get_by_label("Wink, left", exact=True).press("End")
    page.get_by_label("Reset Head & body").click()
    assert settle(page) == {"eye_wink_left": 1}
    page.get_by_role("button", name="Reset all").click()
    assert settle(page) == {}

    # every parameter has a slider of its own once the pairs are apart
    for linked in page.locator("input[aria-label^='Left and right together']").all():
        linked.evaluate("(input) => input.checked && input.click()")
    moved = page.eval_on_selector_all(
        "#sliders input[type=range]",
        "(inputs) => inputs.filter((e) => !e.parentElement.hidden).map((e) => e.dataset.parameter)",
    )
    assert sorted(moved) == sorted(POSE_PARAMETERS)


def test_presets_random_and_keys(open_page: Open) -> None:
    page = open_page()
    expected = {
        "Smile": "mouth_raised_corner_left",
        "Wink": "eye_wink_left",
        "Surprised": "eye_surprised_right",
        "Angry": "eyebrow_angry_left",
        "Sad": "eyebrow_troubled_right",
    }
    for name, parameter in expected.items():
        button = page.get_by_role("button", name=name, exact=True)
        button.click()
        assert settle(page)[parameter] == 1
        assert button.get_attribute("aria-pressed") == "true"
    assert "eye_wink_right" not in settle(page)
    page.get_by_role("button", name="Talking").click()
    mouths = set()
    for _ in range(10):
        page.wait_for_timeout(120)
        mouths.add(tuple(sorted((k, v) for k, v in pose_of(page).items() if k.startswith("mouth_"))))
    assert len(mouths) > 5
    page.get_by_role("button", name="Random").click()
    assert len(settle(page)) > 5
    page.keyboard.press("1")
    assert settle(page) == {}
    page.keyboard.press("3")
    assert settle(page)["eye_wink_left"] == 1
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Help").is_visible()
    page.keyboard.press("Escape")


def test_it_moves_at_once_and_follows_the_pointer(open_page: Open) -> None:
    page = open_page("", viewport={"width": 1200, "height": 800})
    before = pose_of(page)
    page.wait_for_timeout(700)
    assert {"head_y", "breathing"} <= {*pose_of(page), *before}
    assert pose_of(page) != before
    for name in ("Breathing", "Blinking", "Swaying"):
        page.get_by_role("switch", name=name).click(force=True)
    page.get_by_role("switch", name="Follow pointer").click(force=True)
    page.mouse.move(10, 400)
    page.wait_for_timeout(2500)
    pose = pose_of(page)
    assert pose["head_y"] > 0.5  # to the picture's left
    assert pose["iris_rotation_y"] > 0.5
    page.evaluate("thadistill.setPose(new Array(45).fill(0))")
    assert pose_of(page) == {}
    assert page.get_by_text("A script has set the pose").is_visible()


def test_reduced_motion_is_respected(open_page: Open) -> None:
    page = open_page("", reduced_motion="reduce")
    assert pose_of(page) == {}
    page.get_by_role("button", name="Angry").click()
    assert pose_of(page)["eyebrow_angry_left"] == 1  # at once


def test_menu_and_address(open_page: Open) -> None:
    page = open_page("?character=second&motion=none#pose=" + json.dumps({"head_y": 0.5}))
    assert page.evaluate("thadistill.ready")["character"] == "second"
    assert pose_of(page) == {"head_y": 0.5}
    menu = page.get_by_label("Character", exact=True)
    assert menu.locator("option").all_text_contents() == ["first", "second", HOSTILE]
    second = frame_of(page)
    menu.select_option("first")
    page.get_by_text("first is here").wait_for()
    assert not np.array_equal(second, frame_of(page))
    assert "character=first" in page.url
    menu.select_option(HOSTILE)
    page.get_by_text("is here").nth(1).wait_for()
    assert page.locator("#character-name").inner_text() == HOSTILE
    page.evaluate("location.hash = 'pose=' + encodeURIComponent('{\"body_z\": -1}')")
    assert settle(page) == {"body_z": -1}
    page.evaluate("location.hash = 'pose={\"no_such\": 1}'")
    page.get_by_text("no pose parameter is called 'no_such'").wait_for()
    assert settle(page) == {"body_z": -1}

    other = open_page("?character=nobody&background=zzz&motion=none#pose=7")
    assert other.evaluate("thadistill.ready")["character"] == "first"
    for problem in ("No character is called nobody", "background=zzz", "expected an object of pose parameters"):
        other.get_by_text(problem).wait_for()
    assert other.evaluate("window.injected") is None
    assert page.evaluate("window.injected") is None


def test_copy_and_paste(open_page: Open) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Sad").click()
    pose = settle(page)
    page.locator("#copy-pose").click()
    page.get_by_text("The pose is copied").wait_for()
    text = page.evaluate("navigator.clipboard.readText()")
    assert json.loads(text) == pytest.approx(pose)
    page.get_by_role("button", name="Reset all").click()
    page.locator("#paste-pose").click()
    page.get_by_text("The pose is set").wait_for()
    assert settle(page) == pose

    page.evaluate("navigator.clipboard.writeText('no pose')")
    page.locator("#paste-pose").click()
    field = page.get_by_role("textbox", name="Paste a pose")
    field.fill('{"head_z": 1}')
    page.get_by_role("button", name="Set pose").click()
    assert "No pose parameter is called 'head_z'" in page.locator("#paste-problem").inner_text()
    field.fill('{"neck_z": 1}')
    page.get_by_role("button", name="Set pose").click()
    assert settle(page) == {"neck_z": 1}


def test_recorded_poses_are_a_track(open_page: Open, tmp_path: Path) -> None:
    page = open_page("?motion=none")
    page.locator("#tab-scene").click()
    page.get_by_role("switch", name="Save a recording’s poses, too").check()
    page.locator("#record").click()
    page.wait_for_timeout(800)
    page.evaluate(f"thadistill.setPose({[0.0] * 44 + [1.0]})")
    page.wait_for_timeout(400)
    downloads: list[Any] = []
    page.on("download", lambda one: downloads.append(one))
    page.locator("#record").click()
    deadline = time.monotonic() + 30
    while len(downloads) < 2:
        assert time.monotonic() < deadline, f"{len(downloads)} files"
        page.wait_for_timeout(50)
    video, poses = downloads
    assert poses.suggested_filename == str(Path(video.suggested_filename).with_suffix(".json"))
    poses.save_as(tmp_path / "track.json")
    track = read_track(tmp_path / "track.json")
    assert track.times[0] < 0.2
    assert 1.2 <= track.seconds < 10
    breathing = track.poses[:, POSE_PARAMETERS.index("breathing")]
    assert (breathing[track.times < 0.7] == 0).all(), "a pose that is held is not a slope to the next"
    assert breathing[-1] == 1


def test_recording_keeps_transparency(open_page: Open, tmp_path: Path) -> None:
    page = open_page("?motion=sway")
    page.locator("#record").click()
    page.wait_for_timeout(1500)
    assert page.locator("#record-time").inner_text() == "0:01"
    with page.expect_download() as download:
        page.locator("#record").click()
    assert download.value.suggested_filename.startswith("first_")
    download.value.save_as(tmp_path / "moving.webm")
    video = (tmp_path / "moving.webm").read_bytes()
    assert bytes.fromhex("53c0 81 01") in video[:4096]  # AlphaMode
    script = """async (text) => {
      const video = document.createElement('video');
      video.muted = true;
      video.src = URL.createObjectURL(new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]));
      await new Promise((done, failed) => { video.onloadeddata = done; video.onerror = failed; });
      video.currentTime = 1;
      await new Promise((done) => { video.onseeked = done; });
      const context = new OffscreenCanvas(512, 512).getContext('2d');
      context.drawImage(video, 0, 0);
      const at = (x, y) => context.getImageData(x, y, 1, 1).data[3];
      return [video.videoWidth, video.videoHeight, video.duration, at(2, 2), at(256, 256)];
    }"""
    width, height, seconds, outside, inside = page.evaluate(script, base64.b64encode(video).decode())
    assert (width, height) == (512, 512)
    assert 1.4 < seconds < 10  # a busy machine takes its time to stop
    assert outside == 0
    assert inside > 100


def test_picture_of_the_moment(open_page: Open, tmp_path: Path) -> None:
    page = open_page(viewport={"width": 800, "height": 700})

    def picture() -> np.ndarray:
        with page.expect_download() as download:
            page.locator("#photo").click()
        assert download.value.suggested_filename.endswith(".png")
        download.value.save_as(tmp_path / "moment.png")
        return np.asarray(Image.open(tmp_path / "moment.png").convert("RGBA"))

    moment, frame = picture(), frame_of(page)
    assert moment.shape == (512, 512, 4)
    assert np.abs(moment[..., 3].astype(int) - frame[..., 3]).max() <= 1
    opaque = frame[..., 3] == 255
    assert np.abs(moment.astype(int) - frame)[opaque].max() <= 1

    page.get_by_role("tab", name="Scene").click()
    page.locator("input[value=colour]").check(force=True)
    page.locator("#colour").fill("#102030")
    assert tuple(picture()[2, 2]) == (16, 32, 48, 255)
    page.locator("input[value=screen]").check(force=True)
    canvas = page.evaluate("[document.getElementById('canvas').width, document.getElementById('canvas').height]")
    assert picture().shape[1::-1] == tuple(side - side % 2 for side in canvas)


def test_clean_view_is_transparent(open_page: Open) -> None:
    page = open_page("?view=clean&background=transparent&motion=none", color_scheme="dark")
    page.wait_for_timeout(200)
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot(omit_background=True))).convert("RGBA"))
    assert shot[3, 3, 3] == 0
    assert shot[-3, -3, 3] == 0
    assert shot[shot.shape[0] // 2, shot.shape[1] // 2, 3] > 100
    for selector in (".bar", ".dock", ".panel", "#notices"):
        assert not page.locator(selector).is_visible()

    page.goto(page.url.replace("transparent", "00ff00"))
    page.evaluate("async () => { await thadistill.ready; }")
    page.wait_for_timeout(200)
    shot = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    assert tuple(shot[3, 3]) == (0, 255, 0)


def test_address_for_obs_gives_the_same_view(open_page: Open) -> None:
    page = open_page("?motion=blinking", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Sad").click()
    page.get_by_role("tab", name="Scene").click()
    page.locator("#zoom").press("ArrowRight")
    page.locator("#copy-obs").click()
    page.get_by_text("The address is copied").wait_for()
    address = page.evaluate("navigator.clipboard.readText()")
    assert "view=clean&background=transparent&motion=blinking&zoom=1.0" in address
    clean = open_page("", address=address)
    assert pose_of(clean)["eyebrow_troubled_left"] == 1


def test_dropped_files(open_page: Open, characters: dict[str, bytes]) -> None:
    page = open_page()
    good = characters["second"]
    drop(page, ("mine.safetensors", good))
    page.get_by_text("second is here").wait_for()
    bad = {
        "cut.safetensors": (good[: len(good) // 2], "cut short"),
        "empty.safetensors": (b"", "cut short"),
        "other.safetensors": (b"\x02" + b"\0" * 7 + b"{}", "not a character file"),
        "huge.safetensors": (b"\xff" * 16, "cut short, or not a character file"),
        f"{HOSTILE}.txt": (b"<script>window.injected = 1</script>", HOSTILE),
    }
    for name, (content, reason) in bad.items():
        drop(page, (name, content))
        notice = page.get_by_role("alert").filter(has_text=reason)
        notice.wait_for()
        assert "This character cannot be shown" in notice.inner_text()
        assert "second stays" in notice.inner_text()
        notice.get_by_role("button", name="Close").click()
    assert page.locator("#character-menu").input_value() == "second"
    drop(page, ("hostile.safetensors", characters[HOSTILE]))
    page.get_by_text(f"{HOSTILE} is here").wait_for()
    assert page.evaluate("window.injected") is None
    assert page.locator("img").count() == 0


def test_nothing_is_drawn_while_nothing_changes_or_nobody_looks(open_page: Open) -> None:
    page = open_page()
    page.wait_for_timeout(300)
    page.evaluate("thadistill.stats()")
    page.wait_for_timeout(500)
    assert page.evaluate("thadistill.stats()")["frames"] == 0
    page.evaluate(
        """() => {
          Object.defineProperty(document, 'hidden', { value: true, configurable: true });
          document.dispatchEvent(new Event('visibilitychange'));
        }"""
    )
    page.evaluate("thadistill.setPose(new Array(45).fill(0.5))")
    page.wait_for_timeout(300)
    assert page.evaluate("thadistill.stats()")["frames"] == 0
    page.evaluate("() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); }")
    page.wait_for_timeout(300)
    assert page.evaluate("thadistill.stats()")["frames"] == 1


def test_languages_themes_and_memory(open_page: Open) -> None:
    page = open_page(locale="ja-JP")
    assert page.get_by_role("button", name="ウインク", exact=True).is_visible()
    assert page.evaluate("document.documentElement.lang") == "ja"
    texts = """async () => {
      const [{ en }, { ja }] = await Promise.all([import('./ui/texts_en.js'), import('./ui/texts_ja.js')]);
      const holes = (text) => (text.match(/\\{\\w+\\}/g) ?? []).sort().join();
      return Object.keys(en).filter((key) => !ja[key] || holes(en[key]) !== holes(ja[key]));
    }"""
    assert page.evaluate(texts) == []
    page.locator("#language").click()
    page.locator("#theme").click()
    assert page.get_by_role("button", name="Wink", exact=True).is_visible()
    page.reload()
    page.evaluate("async () => { await thadistill.ready; }")
    assert page.evaluate("[document.documentElement.lang, document.documentElement.dataset.theme]") == ["en", "dark"]


@pytest.mark.parametrize(("width", "height"), [(320, 640), (390, 844), (844, 390), (1440, 900)])
def test_all_is_reachable_at_any_size(open_page: Open, width: int, height: int) -> None:
    page = open_page(viewport={"width": width, "height": height})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for selector in ("#record", "#photo", "#engine", "#tab-camera", "#toggle-panel", "#character-menu"):
        box = page.locator(selector).bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= height
    assert page.locator("#stage").bounding_box()["height"] >= 0.25 * height
    page.get_by_role("tab", name="Webcam").click()
    assert page.get_by_text("Nothing leaves this page").first.is_visible()
    unnamed = """() => [...document.querySelectorAll('button, input, select, textarea')].filter((e) =>
      !e.closest('[hidden]') && e.checkVisibility() && !e.ariaLabel && !e.innerText?.trim()
      && ![...(e.labels ?? [])].some((label) => label.innerText.trim())).map((e) => e.outerHTML)"""
    assert page.evaluate(unnamed) == []


def test_buttons_are_called_what_they_show(open_page: Open) -> None:
    """Speech control presses what is read on a button; what is more than that is a tooltip."""
    page = open_page()
    for name in ("Record", "Save picture", "Copy pose", "Paste pose"):
        button = page.get_by_role("button", name=name, exact=True)
        assert button.get_attribute("title")
        assert button.get_attribute("title") != name
    assert "WebAssembly" in page.locator("#engine").aria_snapshot()


def test_a_part_of_the_address_that_is_wrong_keeps_nothing_from_showing(open_page: Open) -> None:
    page = open_page(f"?{QUIET}&engine=warp&background=puce")
    assert page.evaluate("(async () => (await thadistill.ready).engine)()") == "wasm"
    notices = page.get_by_role("alert").filter(has_text="The address was not understood")
    assert notices.count() == 2
    assert "No engine is called 'warp'" in notices.last.inner_text()
    assert page.get_by_text("so WebAssembly draws").count() == 1
    assert open_page(f"?{QUIET}&engine=wasm").get_by_text("so WebAssembly draws").count() == 0  # it was asked for


def test_engines_are_listed_with_what_keeps_them(open_page: Open) -> None:
    page = open_page()
    page.locator("#engine").click()
    rows = page.locator("#engine-list label")
    assert rows.count() == 3
    assert page.locator("#engine-list input:disabled").count() == 2
    assert "thadistill serve" in rows.filter(has_text="Native").inner_text()
    assert "WebAssembly" in page.locator("#engine-name").inner_text()


def test_webcam_without_its_files_says_what_to_run(open_page: Open) -> None:
    page = open_page("")
    page.get_by_role("tab", name="Webcam").click()
    page.get_by_role("button", name="Start webcam").click()
    page.get_by_text("thadistill assets pull=facetracking").wait_for()
    assert page.evaluate("thadistill.camera.state") == "error"
    assert "facetracking" in page.evaluate("thadistill.camera.start().catch((error) => error.message)")
    page.locator("#language").click()
    assert page.get_by_text("顔を検出するためのファイルがありません").is_visible()


def test_a_site_without_characters_says_so(
    open_page: Open, static_server: Callable[[Path], str], tmp_path: Path, characters: dict[str, bytes]
) -> None:
    make_site(tmp_path / "player", {})
    page = open_page("", ready=False, address=static_server(tmp_path / "player"))
    assert "no characters" in page.evaluate("thadistill.ready.catch((error) => error.message)")
    page.get_by_text("No character here yet").wait_for()
    drop(page, ("mine.safetensors", characters["first"]))
    page.get_by_text("first is here").wait_for()
    assert not page.get_by_text("No character here yet").is_visible()
