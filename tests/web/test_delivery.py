"""The player as it reaches people: from a static host, as one file from disk, and from thadistill serve."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.serve.test_serve import serving
from tests.students import toy_student
from thadistill.cli import main
from thadistill.data.poses import sample_poses
from thadistill.student import CharacterModel

POSES = sample_poses(2, seed=9)
FRAME = """async (pose) => {
  await thadistill.ready;
  thadistill.setPose(pose);
  const { width, height, data } = await thadistill.frame();
  let text = "";  // a million numbers would take the browser's protocol seconds
  for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
  return { width, height, data: btoa(text) };
}"""


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_student(4).save(tmp_path_factory.mktemp("students") / "toy")


def frame(page: Any, pose: torch.Tensor) -> np.ndarray:
    found = page.evaluate(FRAME, pose.tolist())
    return np.frombuffer(base64.b64decode(found["data"]), np.uint8).reshape(found["height"], found["width"], 4)


def close(found: np.ndarray, student: Path, pose: torch.Tensor) -> None:
    """Within a few of 255 levels, on white, where straight colours of faint pixels do not count."""
    with torch.inference_mode():
        expected = CharacterModel.load(student).compile(runtime="eager").rgba8(pose)

    def on_white(rgba: np.ndarray) -> np.ndarray:
        alpha = rgba[..., 3:] / 255
        return rgba[..., :3] * alpha + 255 * (1 - alpha)

    difference = np.abs(on_white(found) - on_white(expected))
    assert difference.mean() < 0.3
    assert np.quantile(difference, 0.999) <= 3


def test_exported_folder_on_a_static_host(
    student: Path, tmp_path: Path, static_server: Callable[[Path], str], browser: Any, watched: Any
) -> None:
    main(["export", f"model={student}", "format=web", f"out={tmp_path / 'site'}"])
    page = watched(browser.new_page())
    page.goto(static_server(tmp_path / "site"))
    about = page.evaluate("thadistill.ready")
    assert (about["engine"], about["character"]) == ("wasm", "toy")
    for pose in POSES:
        close(frame(page, pose), student, pose)
    page.close()


def test_one_file_from_disk(student: Path, tmp_path: Path, browser: Any, watched: Any) -> None:
    main(["export", f"model={student}", "format=web", "single=true", f"out={tmp_path / 'me.html'}"])
    page = watched(browser.new_page())
    page.goto((tmp_path / "me.html").as_uri())
    assert page.evaluate("thadistill.ready")["engine"] == "wasm"
    close(frame(page, POSES[1]), student, POSES[1])
    page.close()


def test_served_with_the_native_engine(student: Path, tmp_path: Path, browser: Any, watched: Any) -> None:
    with serving(tmp_path, f"model={student}") as (process, port):
        page = watched(browser.new_page())
        page.goto(f"http://127.0.0.1:{port}/?engine=native")
        assert page.evaluate("thadistill.ready")["engine"] == "native"
        close(frame(page, POSES[0]), student, POSES[0])
        assert page.evaluate("thadistill.stats()")["engine"] == "native"
        # the server ends, and with it everything that the page could still fetch: it says so
        process.terminate()
        process.wait(20)
        reason = page.evaluate(
            "pose => { thadistill.setPose(pose); return thadistill.frame().then(() => 'drawn', (e) => e.message); }",
            POSES[1].tolist(),
        )
        assert "is it still running?" in reason
        page.close()


def test_characters_that_are_broken_are_named(
    student: Path, tmp_path: Path, static_server: Callable[[Path], str], browser: Any
) -> None:
    main(["export", f"model={student}", "format=web", f"out={tmp_path / 'site'}"])
    file = next((tmp_path / "site" / "characters").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-100])
    page = browser.new_page()
    page.goto(static_server(tmp_path / "site"))
    reason = page.evaluate("thadistill.ready.then(() => 'ready', (error) => error.message)")
    assert "cut short" in reason
    assert json.loads((tmp_path / "site" / "characters" / "index.json").read_text())[0]["name"] == "toy"
    page.close()
