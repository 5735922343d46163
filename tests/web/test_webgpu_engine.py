"""The WebGPU engine in Chromium, on its software adapter: frames against PyTorch, and what it asks of the GPU."""

from __future__ import annotations

import base64
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
from thadistill.images import to_rgba8
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher

# What every page begins with. GPU calls are counted where the browser has them, so the engine cannot miscount.
PREAMBLE = """
globalThis.counts = {};
for (const [owner, methods] of [
  [GPUDevice, ['createBuffer', 'createTexture', 'createBindGroup', 'createShaderModule', 'createComputePipelineAsync',
    'createRenderPipelineAsync', 'createComputePipeline', 'createRenderPipeline']],
  [GPUQueue, ['submit', 'writeBuffer', 'onSubmittedWorkDone']],
  [GPUComputePassEncoder, ['dispatchWorkgroups']],
  [GPURenderPassEncoder, ['draw']],
  [GPUAdapter, ['requestDevice']],
]) {
  for (const method of methods) {
    const original = owner.prototype[method];
    owner.prototype[method] = function (...given) {
      counts[method] = (counts[method] ?? 0) + 1;
      const result = original.apply(this, given);
      if (method === 'requestDevice') result.then((device) => { globalThis.device = device; });
      return result;
    };
  }
}
globalThis.taken = () => { const taken = globalThis.counts; globalThis.counts = {}; return taken; };
globalThis.bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
globalThis.textOf = (values) => new Promise((resolve) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.split(',')[1]);
  reader.readAsDataURL(new Blob([values]));
});
globalThis.open = async (file, precision) => {
  const { readCharacterFile } = await import('/character.js');
  const { webgpu } = await import('/engines/webgpu.js');
  globalThis.character = await readCharacterFile(bytesOf(file));
  globalThis.engine = await webgpu.create(character, precision ? { precision } : undefined);
};
globalThis.messageOf = (promise) => promise.then(() => null, (error) => error.message);
"""


@pytest.fixture
def page(
    webgpu_browser: Any, static_server: Callable[[Path], str], watched: Callable[[object], object]
) -> Iterator[Any]:
    opened = webgpu_browser.new_page()
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
    if name == "256 pixels":
        torch.manual_seed(1)
        size = 256
        model = CharacterModel(model.image, FaceMorpher(18, 2), BodyRotator((64, 128, 256), (24, 14, 10), depth=2))
    elif name == "wide":  # too wide for a fused last level
        torch.manual_seed(2)
        size = 64
        model = CharacterModel(model.image, FaceMorpher(8, 1), BodyRotator((32, 64), (12, 260), depth=2))
    elif name == "one level":
        torch.manual_seed(3)
        size = 128
        model = CharacterModel(model.image, FaceMorpher(8, 1), BodyRotator((128,), (20,), depth=1))
    if name != "512 pixels":
        with torch.no_grad():
            model.body_rotator.last_linear.weight[:2] *= 0.05  # grid changes of a few pixels
    return packed_student(model, name, size)


POSES = sample_poses(2, seed=4)


@pytest.mark.parametrize("name", ["512 pixels", "256 pixels", "wide", "one level"])
@pytest.mark.parametrize(("precision", "least"), [("float32", 70), ("half", 60)])
def test_frames_are_pytorchs(page: Any, name: str, precision: str, least: float) -> None:
    file, model, visible = student(name)
    script = """async ([file, precision, poses]) => {
      await open(file, precision);
      const frames = [];
      for (const pose of poses) frames.push(await textOf(await engine.posed(Float32Array.from(pose))));
      return frames;
    }"""
    frames = page.evaluate(script, [file, precision, POSES.tolist()])
    for pose, frame in zip(POSES, frames, strict=True):
        posed = np.frombuffer(base64.b64decode(frame), np.float32).reshape(*visible.shape, 4)
        expected = posed_of(model, pose).transpose(1, 2, 0)
        assert psnr(posed[visible], expected[visible]) >= least
        assert (posed[~visible] == -1).all()


def test_pixels_and_canvas_show_the_frame(page: Any) -> None:
    file, model, visible = student("512 pixels")
    script = """async ([file, pose]) => {
      await open(file, 'float32');
      pose = Float32Array.from(pose);
      const { width, height, data } = await engine.pixels(pose);
      const context = new OffscreenCanvas(width, height).getContext('2d');
      let painted = 0;
      await engine.render(pose, (source) => {
        painted++;
        context.drawImage(source, 0, 0);
      });
      const shown = context.getImageData(0, 0, width, height).data;
      return { width, height, painted, kind: data.constructor.name, data: await textOf(data), shown: await textOf(shown) };
    }"""
    pose = POSES[1]
    found = page.evaluate(script, [file, pose.tolist()])
    assert (found["width"], found["height"], found["painted"], found["kind"]) == (512, 512, 1, "Uint8ClampedArray")
    data, shown = (
        np.frombuffer(base64.b64decode(found[key]), np.uint8).reshape(512, 512, 4).astype(int)
        for key in ("data", "shown")
    )
    with torch.inference_mode():
        expected = to_rgba8(model(pose[None]).posed[0]).astype(int)
    assert (data[~visible] == 0).all()
    assert (shown[~visible] == 0).all()
    difference = np.abs(data - expected)[visible]
    assert difference[:, 3].max() <= 1
    # where hardly anything is left of a colour, a rounding of alpha changes it by levels
    assert difference[expected[visible][:, 3] > 32].max() <= 1
    solid = data[..., 3] == 255
    assert solid.sum() > 1000
    assert np.abs(shown - data)[solid].max() <= 1
    assert np.abs(shown - data)[..., 3].max() <= 1


def test_a_frame_is_one_submit_and_allocates_nothing(page: Any) -> None:
    file, _, _ = student("512 pixels")
    script = """async ([file, poses]) => {
      const { cost } = await import('/engines/webgpu_plan.js');
      await open(file);
      const [rest, moved, face] = poses.map((pose) => Float32Array.from(pose));
      const counted = { made: taken() };
      for (const [name, pose] of [['first', rest], ['moved', moved], ['same', moved], ['face', face]]) {
        await engine.render(pose, () => {});
        counted[name] = taken();
      }
      await engine.pixels(face);
      counted.pixels = taken();
      return [counted, cost(character)];
    }"""
    rest, face = torch.zeros(45), torch.zeros(45)
    moved = rest.clone()
    moved[39:] = 0.5
    face[20] = 1.0
    counted, cost = page.evaluate(script, [file, [rest.tolist(), moved.tolist(), face.tolist()]])
    new, kept = cost["faceNew"]["dispatches"], cost["faceKept"]["dispatches"]
    assert (new, kept) == (4 + 9, 9)
    for name, dispatches in (("first", new), ("moved", kept), ("same", kept), ("face", new)):
        assert counted[name] == {
            "writeBuffer": 1,
            "dispatchWorkgroups": dispatches,
            "draw": 1,
            "submit": 1,
            "onSubmittedWorkDone": 1,
        }
    assert counted["pixels"] == {"writeBuffer": 1, "dispatchWorkgroups": kept + 1, "submit": 1}
    assert counted["made"]["createBuffer"] > 0  # what is counted, is counted


def test_a_lost_device_is_reported(page: Any) -> None:
    script = """async ([file, pose]) => {
      pose = Float32Array.from(pose);
      const seen = [];
      await open(file);
      await engine.render(pose, () => {});
      const pending = messageOf(engine.render(pose, () => device.destroy()));
      seen.push(await pending, await messageOf(engine.render(pose, () => {})), await messageOf(engine.pixels(pose)));
      await open(file);
      device.createBuffer({ size: 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
      seen.push(await messageOf(engine.render(pose, () => {})));
      await open(file);
      engine.destroy();
      seen.push(await messageOf(engine.render(pose, () => {})));
      return seen;
    }"""
    seen = page.evaluate(script, [student("256 pixels")[0], POSES[0].tolist()])
    assert seen[0].startswith("the GPU was lost")
    assert seen[:3] == [seen[0]] * 3
    assert seen[3].startswith("the GPU refuses to draw: ")
    assert seen[4] == "the engine was closed"


def test_the_software_adapter_is_an_obstacle_that_works(page: Any) -> None:
    script = """async (file) => {
      const { webgpu } = await import('/engines/webgpu.js');
      await open(file);
      return [webgpu.name, await webgpu.obstacle(), engine.name, engine.isSoftware, engine.detail];
    }"""
    kind, obstacle, name, is_software, detail = page.evaluate(script, student("256 pixels")[0])
    assert (kind, name, is_software) == ("webgpu", "webgpu", True)
    assert "software" in obstacle
    assert "half" in detail


def test_obstacles_are_named(browser: Any, static_server: Callable[[Path], str]) -> None:
    page = browser.new_page()
    page.route("**/blank.html", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    page.goto(static_server(WEB) + "blank.html")
    script = """async (gpu) => {
      const { webgpu } = await import('/engines/webgpu.js');
      if (gpu === 'none') Object.defineProperty(navigator, 'gpu', { value: undefined, configurable: true });
      if (gpu === 'no adapter') {
        Object.defineProperty(navigator, 'gpu', { value: { requestAdapter: async () => null }, configurable: true });
      }
      if (gpu === 'insecure') Object.defineProperty(globalThis, 'isSecureContext', { value: false });
      return [await webgpu.obstacle(), await webgpu.create({}).then(() => null, (error) => error.message)];
    }"""
    for gpu, words in (("none", "no WebGPU"), ("no adapter", "no WebGPU adapter"), ("insecure", "https")):
        obstacle, refusal = page.evaluate(script, gpu)
        assert words in obstacle
        assert refusal == obstacle
    page.close()


def test_a_student_that_does_not_fit_is_refused(page: Any) -> None:
    script = """async (file) => {
      await open(file);
      const { webgpu } = await import('/engines/webgpu.js');
      const width = 400;
      const [level] = character.levels;
      const first = { ...level.first, outputs: width, byX: new Float32Array(width), byY: new Float32Array(width) };
      const wide = { outputs: width, inputs: width, weight: new Float32Array(width ** 2), bias: new Float32Array(width) };
      const visible = new Uint8Array(512 * 512).fill(1);
      const levels = [{ ...level, size: 512, first, hidden: [wide, wide], out: wide }];
      return messageOf(webgpu.create({ ...character, size: 512, visible, levels }));
    }"""
    message = page.evaluate(script, student("one level")[0])
    assert "MB" in message
    assert "\n" not in message
