"""The WebGPU engine's plan: which pixels it computes, and what a frame costs, as plain arithmetic."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.students import toy_student
from tests.web.conftest import WEB
from thadistill.export.character_file import pack_character
from thadistill.runtime.region import read_by_doubling
from thadistill.student import BodyRotator, CharacterModel, FaceMorpher

FACE, FRAME = 128 * 128, 512 * 512

BLOCKS = """async ([size, visible]) => {
  const { blocksBelow, blocksOf } = await import('/engines/webgpu_blocks.js');
  const above = blocksOf(Uint8Array.from(visible), size);
  const below = blocksBelow(above);
  return [above, below].map(({ places }) => Array.from(places));
}"""

COST = """async ([file, precision]) => {
  const { readCharacterFile } = await import('/character.js');
  const { cost } = await import('/engines/webgpu_plan.js');
  return cost(await readCharacterFile(Uint8Array.from(atob(file), (c) => c.charCodeAt(0))), precision);
}"""


@pytest.fixture(scope="module")
def page(browser: Any, static_server: Callable[[Path], str]) -> Iterator[Any]:
    opened = browser.new_page()
    opened.route("**/blank.html", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    opened.goto(static_server(WEB) + "blank.html")
    yield opened
    opened.close()


def pixels_of(places: np.ndarray) -> np.ndarray:
    """x and y of each pixel by its number: eight in a row for each block."""
    corner = places[:, None, 12:14]
    return (corner + np.array([(i % 4, i // 4) for i in range(8)])).reshape(-1, 2)


@pytest.mark.parametrize("share", [0.002, 0.1, 1.0])
def test_blocks_hold_what_doubling_reads(page: Any, share: float) -> None:
    size = 32
    visible = np.random.default_rng(3).random((size, size)) < share
    visible[0, -1] = True
    above, below = (np.array(p).reshape(-1, 16) for p in page.evaluate(BLOCKS, [size, visible.flatten().tolist()]))
    fine, coarse = pixels_of(above), pixels_of(below)
    shown = (above[:, 14:15] >> np.arange(8) & 1).astype(bool).reshape(-1)
    again = np.zeros_like(visible)
    again[fine[shown][:, 1], fine[shown][:, 0]] = True
    np.testing.assert_array_equal(again, visible)
    # all pixels of a block are computed, and need the pixels below them, which their blocks hold
    computed = np.zeros_like(visible)
    computed[fine[:, 1], fine[:, 0]] = True
    held = np.zeros((size // 2, size // 2), bool)
    held[coarse[:, 1], coarse[:, 0]] = True
    assert held[read_by_doubling(computed)].all()
    if share < 0.01:
        assert len(coarse) < size * size / 8
    steps = np.array([(i % 4 - 1, i // 4 - 1) for i in range(12)])
    expected = np.clip(above[:, None, 12:14] // 2 + steps, 0, size // 2 - 1)
    np.testing.assert_array_equal(coarse[above[:, :12]], expected)


def cost_of(page: Any, model: CharacterModel, visible: np.ndarray, precision: str = "half") -> dict[str, Any]:
    file = base64.b64encode(pack_character(model, "student", visible)).decode()
    return page.evaluate(COST, [file, precision])  # type: ignore[no-any-return]


def test_the_papers_student_costs_what_its_layers_say(page: Any) -> None:
    model = CharacterModel(toy_student().image, FaceMorpher(), BodyRotator())
    everything = np.ones((512, 512), bool)
    cost = cost_of(page, model, everything)
    face = FACE * (7 * 128 * 128 + 128 * 4)
    levels = [
        128**2 * (360 * 360 + 360 * 180 + 180 * 180),  # each level's last product is the next one's first, below it
        256**2 * (180 * 180 + 180 * 90 + 90 * 90),
        512**2 * (90 * 90 + 90 * 90 + 90 * 7),
    ]
    assert cost["faceKept"]["multiplyAdds"] == sum(levels)
    assert cost["faceNew"]["multiplyAdds"] == sum(levels) + face
    assert cost["faceKept"]["sines"] == 128**2 * (360 * 2 + 180) + 256**2 * (180 * 2 + 90) + 512**2 * 90 * 3
    # two levels of four layers, then all of the last level with the painting; nine layers of the face
    assert (cost["faceKept"]["dispatches"], cost["faceNew"]["dispatches"]) == (9, 18)
    # each written once and read once, sines in two bytes and the phases between levels in four, 90 channels filled up to
    # 92; then a pixel of the picture and one of the frame
    sines = 128**2 * (360 + 360 + 180) + 256**2 * (180 + 180 + 92)
    phases = 128**2 * 180 + 256**2 * 92
    assert cost["faceKept"]["bytes"] == pytest.approx(2 * 2 * sines + 2 * 4 * phases + FRAME * 32, rel=0.03)
    assert cost["memory"] < 100e6


def test_invisible_pixels_cost_nothing(page: Any) -> None:
    model = toy_student()
    part = np.zeros((512, 512), bool)
    part[96:352, 128:384] = True  # a quarter, away from the edges
    whole, quarter = (cost_of(page, model, visible) for visible in (np.ones((512, 512), bool), part))
    assert quarter["pixels"] == part.sum()
    # and a few pixels around it at the coarser levels
    assert 0.25 < quarter["faceKept"]["multiplyAdds"] / whole["faceKept"]["multiplyAdds"] < 0.27
    face = [cost["faceNew"]["multiplyAdds"] - cost["faceKept"]["multiplyAdds"] for cost in (whole, quarter)]
    assert face[0] == face[1]


def test_half_precision_moves_fewer_bytes(page: Any) -> None:
    model = toy_student()
    everything = np.ones((512, 512), bool)
    half, full = (cost_of(page, model, everything, precision)["faceNew"] for precision in ("half", "float32"))
    assert half["multiplyAdds"] == full["multiplyAdds"]
    assert half["bytes"] < 0.8 * full["bytes"]
