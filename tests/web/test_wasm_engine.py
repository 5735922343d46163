"""The WebAssembly engine in Chromium: frames against PyTorch, workers, what it keeps between frames, what goes wrong."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.students import packed_student, posed_of, psnr, toy_student
from tests.web.conftest import WEB
from thadistill.data.poses import sample_poses
from thadistill.export.character_file import pack_character
from thadistill.images import to_rgba8
from thadistill.runtime.region import tiles_of
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher

LEAST = 70.0  # dB to PyTorch in float32
PREAMBLE = """
globalThis.textOf = (values) => new Promise((resolve) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.split(',')[1]);
  reader.readAsDataURL(new Blob([values]));
});
globalThis.open = async (file, workers) => {
  const { readCharacterFile } = await import('/character.js');
  const { wasm } = await import('/engines/wasm.js');
  const character = await readCharacterFile(Uint8Array.from(atob(file), (c) => c.charCodeAt(0)));
  return wasm.create(character, { workers });
};
globalThis.messageOf = (promise) => promise.then(() => null, (error) => error.message);
globalThis.buffersMade = 0;
const { postMessage } = Worker.prototype;
Worker.prototype.postMessage = function (message, ...rest) {
  if (message.buffer === null) globalThis.buffersMade++;
  return postMessage.call(this, message, ...rest);
};
"""


@pytest.fixture
def page(browser: Any, static_server: Callable[[Path], str], watched: Callable[[object], object]) -> Iterator[Any]:
    opened = browser.new_page()
    watched(opened)
    opened.route("**/blank.html", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    opened.add_init_script(PREAMBLE)
    opened.goto(static_server(WEB) + "blank.html")
    yield opened
    opened.close()


@cache
def student(name: str) -> tuple[str, CharacterModel, np.ndarray]:
    """A toy student: its character file in base64, the student that is in it, its visible pixels."""
    model = toy_student()
    size = 512
    if name == "256 pixels":  # odd widths, of which two channels are left over, or one
        torch.manual_seed(1)
        size = 256
        model = CharacterModel(model.image, FaceMorpher(21, 2), BodyRotator((64, 128, 256), (27, 14, 9), depth=2))
    elif name == "wide":  # and with weights that need more than int16 has: gains, a plane of float32 products
        torch.manual_seed(2)
        size = 64
        model = CharacterModel(model.image, FaceMorpher(8, 3), BodyRotator((32, 64), (64, 260), depth=3))
        with torch.no_grad():
            levels: Any = model.body_rotator.siren_layers
            levels[0][2].linear.weight[:, 0] = 0.06
            levels[1][0].linear.weight[:, :64] *= 3
    elif name == "one level":
        torch.manual_seed(3)
        size = 128
        model = CharacterModel(model.image, FaceMorpher(8, 2), BodyRotator((128,), (20,), depth=2))
    elif name == "large weights":  # phases of many half-turns, which need shifts
        with torch.no_grad():
            levels = model.body_rotator.siren_layers
            for below, level in itertools.pairwise(levels):
                below[1].linear.weight[0, :2] = 0.1
                level[0].linear.weight[:, : len(below[-1].linear.weight)] *= 8
            model.body_rotator.last_linear.weight[:2] *= 0.1
    if name not in ("512 pixels", "large weights"):
        with torch.no_grad():
            model.body_rotator.last_linear.weight[:2] *= 0.05  # grid changes of a few pixels
    return packed_student(model, name, size)


POSES = sample_poses(3, seed=4)


def posed_frames(page: Any, file: str, poses: torch.Tensor, workers: int, size: int) -> list[np.ndarray]:
    """The engine's frames in network space, [4, size, size]."""
    script = """async ([file, workers, poses]) => {
      const engine = await open(file, workers);
      const frames = [];
      for (const pose of poses) frames.push(await textOf(await engine.posed(Float32Array.from(pose))));
      engine.destroy();
      return frames;
    }"""
    frames = page.evaluate(script, [file, workers, poses.tolist()])
    return [np.frombuffer(base64.b64decode(frame), np.float32).reshape(4, size, size) for frame in frames]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("name", ["512 pixels", "256 pixels", "wide", "one level", "large weights"])
def test_frames_are_pytorchs(page: Any, name: str, workers: int) -> None:
    file, model, visible = student(name)
    frames = posed_frames(page, file, POSES, workers, len(visible))
    for pose, posed in zip(POSES, frames, strict=True):
        expected = posed_of(model, pose)
        assert psnr(posed[:, visible], expected[:, visible]) >= LEAST
        assert (posed[:, ~visible] == -1).all()


def test_the_papers_student(page: Any, reference: Path) -> None:
    model = CharacterModel.load(reference / "students" / "lambda_00")
    poses = sample_poses(8, seed=6)
    expected = [posed_of(model, pose) for pose in poses]
    visible = tiles_of(np.max([np.abs(frame + 1).max(0) for frame in expected], 0) > 2e-4, 4)
    file = base64.b64encode(pack_character(model, "lambda_00", visible)).decode()
    for frame, posed in zip(posed_frames(page, file, poses, 2, 512), expected, strict=True):
        assert psnr(frame, posed) >= LEAST  # everywhere: nothing is to be seen outside


def test_pixels_and_canvas_show_the_frame(page: Any) -> None:
    file, model, visible = student("512 pixels")
    script = """async ([file, pose]) => {
      const engine = await open(file, 2);
      pose = Float32Array.from(pose);
      const { width, height, data } = await engine.pixels(pose);
      const context = new OffscreenCanvas(width, height).getContext('2d');
      await new Promise((painted) => engine.render(pose, (source) => painted(context.drawImage(source, 0, 0))));
      const shown = context.getImageData(0, 0, width, height).data;
      return { width, height, kind: data.constructor.name, data: await textOf(data), shown: await textOf(shown) };
    }"""
    pose = POSES[1]
    found = page.evaluate(script, [file, pose.tolist()])
    assert (found["width"], found["height"], found["kind"]) == (512, 512, "Uint8ClampedArray")
    data, shown = (
        np.frombuffer(base64.b64decode(found[key]), np.uint8).reshape(512, 512, 4).astype(int)
        for key in ("data", "shown")
    )
    with torch.inference_mode():
        expected = to_rgba8(model(pose[None]).posed[0]).astype(int)
    assert (data[~visible] == 0).all()
    assert (shown[..., 3] == data[..., 3]).all()
    difference = np.abs(data - expected)[visible]
    assert difference[:, 3].max() <= 1
    # where hardly anything is left of a colour, a rounding of alpha changes it by levels
    assert difference[expected[visible][:, 3] > 32].max() <= 1


def test_workers_and_what_was_drawn_before_change_nothing(page: Any) -> None:
    """Every number of workers gives the same pixels, also of a pose whose face is the last one's."""
    file, _, _ = student("512 pixels")
    script = """async ([file, poses]) => {
      const turned = Float32Array.from(poses[0]);
      turned.set(poses[1].slice(39), 39);
      const frames = [];
      for (const workers of [1, 2, 4]) {
        const fresh = await open(file, workers);
        frames.push(await textOf((await fresh.pixels(turned)).data));
        const used = await open(file, workers);
        for (const pose of [poses[2], poses[0]]) await used.render(Float32Array.from(pose), () => {});
        frames.push(await textOf((await used.pixels(turned)).data));
        frames.push(used.detail);
        fresh.destroy();
        used.destroy();
      }
      return frames;
    }"""
    frames = page.evaluate(script, [file, POSES.tolist()])
    assert frames[2::3] == ["1 worker", "2 workers", "4 workers"]
    assert len({*frames[0::3], *frames[1::3]}) == 1


def test_frames_are_painted_once_and_in_order(page: Any) -> None:
    file, _, _ = student("512 pixels")
    script = """async ([file, poses]) => {
      const engine = await open(file, 2);
      const painted = [];
      for (let i = 0; i < 12; i++) {
        await engine.render(Float32Array.from(poses[i % 3]), () => painted.push(i));
        if (painted.length < i) throw new Error('more than two frames under way');
      }
      await engine.pixels(Float32Array.from(poses[0]));
      return painted;
    }"""
    assert page.evaluate(script, [file, POSES.tolist()]) == list(range(12))


def test_memory_does_not_grow(page: Any, browser: Any) -> None:
    file, _, _ = student("256 pixels")
    script = """async ([file, poses, frames]) => {
      globalThis.engine ??= await open(file, 2);
      for (let i = 0; i < frames; i++) await engine.render(Float32Array.from(poses[i % 3]), () => {});
      return buffersMade;
    }"""
    session = page.context.new_cdp_session(page)

    def heap() -> float:
        session.send("HeapProfiler.collectGarbage")
        usage = session.send("Runtime.getHeapUsage")
        return float(usage["usedSize"] + usage.get("backingStorageSize", 0))

    page.evaluate(script, [file, POSES.tolist(), 20])
    before = heap()
    made = page.evaluate(script, [file, POSES.tolist(), 500])
    assert made <= 4  # two frames under way, of two bands each
    assert heap() - before < 2**20


def test_what_cannot_be_drawn_is_one_line(page: Any) -> None:
    model = toy_student()
    with torch.no_grad():
        levels: Any = model.body_rotator.siren_layers
        levels[1][1].linear.weight[0, 0] = 1e4
    visible = np.ones((512, 512), bool)
    heavy = base64.b64encode(pack_character(model, "heavy", visible)).decode()
    assert "weights are too large" in page.evaluate("(file) => messageOf(open(file, 1))", heavy)
    image = toy_student().image
    shallow = CharacterModel(image, FaceMorpher(8, 1), BodyRotator((256, 512), (8, 8), depth=2))
    with torch.no_grad():
        shallow.face_morpher.siren.last_linear.weight *= 30
    packed = base64.b64encode(pack_character(shallow, "shallow", visible)).decode()
    assert "expected two or more" in page.evaluate("(file) => messageOf(open(file, 1))", packed)
    huge = CharacterModel(image, FaceMorpher(8, 2), BodyRotator((256, 512), (8, 1500), depth=2))
    packed = base64.b64encode(pack_character(huge, "huge", visible)).decode()
    assert "too large for this engine" in page.evaluate("(file) => messageOf(open(file, 1))", packed)


def test_workers_that_fail_are_one_line(page: Any) -> None:
    file, _, _ = student("256 pixels")
    script = """async ([file, pose]) => {
      const engine = await open(file, 2);
      const waiting = messageOf(engine.pixels(Float32Array.from(pose)));
      engine.destroy();
      return [await waiting, await messageOf(engine.render(Float32Array.from(pose), () => {}))];
    }"""
    assert page.evaluate(script, [file, POSES[0].tolist()]) == ["the engine was closed"] * 2
    broken = "self.onmessage = () => self.postMessage({ error: 'out of memory' });"
    page.route("**/wasm_worker.js", lambda route: route.fulfill(body=broken, content_type="text/javascript"))
    message = page.evaluate("(file) => messageOf(open(file, 2))", file)
    assert message == "a WebAssembly worker has failed: out of memory"
    page.route("**/wasm_worker.js", lambda route: route.fulfill(status=404))
    assert page.evaluate("(file) => messageOf(open(file, 2))", file).startswith("a WebAssembly worker has failed")
    page.route("**/kernels.wasm", lambda route: route.fulfill(status=404))
    assert "kernels.wasm cannot be fetched (404)" in page.evaluate("(file) => messageOf(open(file, 2))", file)


def test_obstacles(page: Any) -> None:
    script = """async () => {
      const { wasm } = await import('/engines/wasm.js');
      const here = await wasm.obstacle();
      WebAssembly.validate = () => false;
      return [here, await wasm.obstacle()];
    }"""
    assert page.evaluate(script) == [None, "this browser's WebAssembly has no SIMD"]
