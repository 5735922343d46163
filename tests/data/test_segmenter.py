"""Segmenter: toy ONNX networks with the published ones' inputs, each answering by one colour channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from thadistill.data.cutout import cut_out
from thadistill.data.segmenter import segment
from thadistill.errors import UserError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def write(path: Path, side: int | str, name: str, channels: int = 3) -> Path:
    """A network whose mask is the input's first channel."""
    helper, kind = onnx.helper, onnx.TensorProto
    starts, ends, axes = (
        helper.make_tensor(key, kind.INT64, [1], [value]) for key, value in (("s", 0), ("e", 1), ("a", 1))
    )
    graph = helper.make_graph(
        [helper.make_node("Slice", [name, "s", "e", "a"], ["mask"])],
        "toy",
        [helper.make_tensor_value_info(name, kind.FLOAT, [1, channels, side, side])],
        [helper.make_tensor_value_info("mask", kind.FLOAT, [1, 1, side, side])],
        [starts, ends, axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def picture() -> np.ndarray:
    rgb = np.random.default_rng(0).integers(0, 60, (120, 90, 3), dtype=np.uint8)  # no flat background
    rgb[30:100, 20:70, 0] = 255
    return rgb


@pytest.mark.parametrize(("side", "name"), [(320, "input.1"), (1024, "input_image"), (1024, "img"), ("side", "img")])
def test_networks_get_their_input_and_give_a_mask(side: int | str, name: str, tmp_path: Path) -> None:
    mask = segment(picture(), write(tmp_path / "net.onnx", side, name))
    assert mask.shape == (120, 90)
    assert float(mask[35:95, 25:65].min()) > 0.95
    assert float(mask[:25].max()) < 0.3
    rgba = np.dstack([picture(), np.full((120, 90), 255, np.uint8)])
    made = cut_out(rgba, "x", tmp_path / "net.onnx")
    assert (made.rgba[35:95, 25:65, 3] > 240).all()


def test_what_is_no_segmentation_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        segment(picture(), tmp_path / "absent.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(UserError, match="expected an ONNX model"):
        segment(picture(), tmp_path / "text.onnx")
    with pytest.raises(UserError, match="expected one RGB picture"):
        segment(picture(), write(tmp_path / "one.onnx", 320, "x", channels=1))
    with pytest.raises(UserError, match="expected one RGB picture"):
        segment(picture(), write(tmp_path / "vast.onnx", 100_000, "x"))
