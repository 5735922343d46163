"""ONNX graph of the folded student: pose -> named outputs; ``runtime=onnx`` runs it, ``thadistill export`` writes it.

All operators are of opset 17 and found in ONNX Runtime's CPU, CUDA, DirectML, CoreML and web builds: Conv, Gemm, Sin,
Resize and GridSample do the work. The picture is in the graph as 8-bit sRGB; position maps grow out of one axis a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import thadistill
from thadistill.errors import UserError
from thadistill.images import IMAGE_SIZE, STUDENT_FACE_REGION, Region, srgb_to_linear, to_rgba8
from thadistill.outputs import StudentOutput
from thadistill.pose import FACIAL_SIZE, POSE_PARAMETERS, POSE_SIZE
from thadistill.runtime.base import WHOLE
from thadistill.student import CharacterModel
from thadistill.student.face_morpher import FACE_SIZE
from thadistill.student.siren import SineLayer
from thadistill.warp import axis_positions

try:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise UserError(f"ONNX needs a package that is missing ({error}): pip install 'thadistill[export]'") from None

OUTPUTS = ("rgba", *StudentOutput._fields)
_OPSET, _IR_VERSION = 17, 8
_LINEAR = 0.003130804953560372  # where the sRGB curve leaves its linear part, as in images.linear_to_srgb
_FACE = Region(0, FACE_SIZE, 0, FACE_SIZE)


class Area(NamedTuple):
    """The rectangle of a level that is computed."""

    region: Region
    size: int  # of the level's whole image

    def below(self, size: int) -> Area:
        """The rectangle of a level of ``size``, half as large or equal, that bilinear upsampling reads for this one."""
        if size == self.size:
            return self
        top, bottom, left, right = self.region
        rows, columns = (
            (max(0, (top - 1) // 2), min(size, bottom // 2 + 1)),
            (max(0, (left - 1) // 2), min(size, right // 2 + 1)),
        )
        return Area(Region(*rows, *columns), size)


class _Graph:
    """Collects nodes and constants. Weights and activations are float32, or float16 where ``half``."""

    def __init__(self, half: bool) -> None:
        self.half = half
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: Tensor | np.ndarray | list[int] | float, half: bool = False) -> str:
        """A constant as it is; a tensor in float16 where ``half``; a list as int64, a number as float32."""
        if isinstance(values, Tensor):
            values = values.detach().cpu().contiguous().numpy().astype(np.float16 if half else np.float32)
        elif isinstance(values, float):
            values = np.array(values, np.float32)
        elif isinstance(values, list):
            values = np.array(values, np.int64)
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def reshape(self, value: str, *shape: int) -> str:
        return self.node("Reshape", value, self.constant([*shape]))

    def slice(self, value: str, start: int, stop: int, axis: int) -> str:
        return self.node("Slice", value, *(self.constant([number]) for number in (start, stop, axis)))

    def crop(self, value: str, region: Region) -> str:
        return self.slice(self.slice(value, region.top, region.bottom, 2), region.left, region.right, 3)

    def stored(self, value: str) -> str:
        """A float32 value as activations are stored."""
        return self.node("Cast", value, to=TensorProto.FLOAT16) if self.half else value

    def full(self, value: str) -> str:
        """Stored activations in float32."""
        return self.node("Cast", value, to=TensorProto.FLOAT) if self.half else value

    def convolve(self, value: str, matrix: Tensor, bias: Tensor | None) -> str:
        """A 1x1 convolution of stored activations."""
        weights = [self.constant(matrix[:, :, None, None], self.half)]
        weights += [] if bias is None else [self.constant(bias, self.half)]
        return self.node("Conv", value, *weights, kernel_shape=[1, 1])


def _sine_layers(graph: _Graph, layers: Sequence[SineLayer], pose: str, area: Area, below: str | None) -> str:
    """A level's sines, stored [1, channels, h, w]; ``below`` is what the level below gives to the first phases."""
    first, *rest = layers
    matrix, bias = first.scaled()
    at = 0 if below is None else matrix.shape[1] - 2 - POSE_SIZE  # of the position among the inputs
    shift = graph.node("Gemm", pose, graph.constant(matrix[:, at + 2 :]), graph.constant(bias), transB=1)
    top, bottom, left, right = area.region
    axis = axis_positions(area.size)
    x = graph.node("Mul", graph.constant(matrix[None, :, at, None, None]), graph.constant(axis[left:right]))
    y = graph.node("Mul", graph.constant(matrix[None, :, at + 1, None, None]), graph.constant(axis[top:bottom, None]))
    phase = graph.node("Add", graph.node("Add", y, graph.reshape(shift, 1, len(matrix), 1, 1)), x)
    if below is not None:
        phase = graph.node("Add", phase, graph.full(below))
    value = graph.stored(graph.node("Sin", phase))
    for layer in rest:
        value = graph.node("Sin", graph.convolve(value, *layer.scaled()))
    return value


def _upsampled(graph: _Graph, value: str, given: Area, wanted: Area) -> str:
    if given.size == wanted.size:
        return value
    scales = graph.constant(torch.tensor([1.0, 1.0, 2.0, 2.0]))
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    doubled = graph.node("Resize", value, "", scales, **attributes)
    top, bottom, left, right = wanted.region
    inside = Region(
        *(top - 2 * given.region.top, bottom - 2 * given.region.top),
        *(left - 2 * given.region.left, right - 2 * given.region.left),
    )
    whole = Region(0, 2 * (given.region.bottom - given.region.top), 0, 2 * (given.region.right - given.region.left))
    return doubled if inside == whole else graph.crop(doubled, inside)


def _paint_face(graph: _Graph, model: CharacterModel, pose: str) -> str:
    """Face crop [1, 4, 128, 128], float32."""
    siren = model.face_morpher.siren
    layers: list[SineLayer] = list(siren.sine_layers)  # type: ignore[arg-type]
    value = _sine_layers(graph, layers, graph.slice(pose, 0, FACIAL_SIZE, 1), Area(_FACE, FACE_SIZE), None)
    return graph.full(graph.convolve(value, siren.last_linear.weight[:, :, 0, 0], siren.last_linear.bias))


def _channels(graph: _Graph, model: CharacterModel, pose: str, crop: Region) -> str:
    """Grid change 2, alpha 1, colour change 4 of the crop, float32."""
    body = model.body_rotator
    levels: list[list[SineLayer]] = [list(level) for level in body.siren_layers]  # type: ignore[call-overload]
    areas = [Area(crop, body.sizes[-1])]
    for size in body.sizes[-2::-1]:
        areas.insert(0, areas[0].below(size))
    below = None
    for (layers, area), (following, next_area) in pairwise(zip(levels, areas, strict=True)):
        value = _sine_layers(graph, layers, pose, area, below)
        matrix, _ = following[0].scaled()
        # a 1x1 convolution commutes with the upsampling: before it there are a quarter of the pixels
        value = graph.convolve(value, matrix[:, : len(layers[-1].bias)], None)
        below = _upsampled(graph, value, area, next_area)
    value = _sine_layers(graph, levels[-1], pose, areas[-1], below)
    return graph.full(graph.convolve(value, body.last_linear.weight[:, :, 0, 0], body.last_linear.bias))


def _character(graph: _Graph, model: CharacterModel, face: str) -> str:
    """The character image with the face pasted, network space [1, 4, 512, 512]."""
    picture = graph.constant(to_rgba8(model.image).transpose(2, 0, 1)[None].copy())
    value = graph.node("Cast", picture, to=TensorProto.INT32)
    unit = torch.from_numpy(np.arange(256, dtype=np.float32) / 255)
    alpha = graph.node("Gather", graph.constant(unit), graph.slice(value, 3, 4, 1), axis=0)
    color = graph.node("Gather", graph.constant(srgb_to_linear(unit)), graph.slice(value, 0, 3, 1), axis=0)
    image = graph.node("Concat", graph.node("Mul", color, alpha), alpha, axis=1)
    image = graph.node("Sub", graph.node("Mul", image, graph.constant(2.0)), graph.constant(1.0))
    top, bottom, left, right = STUDENT_FACE_REGION
    sides = [Region(top, bottom, 0, left), Region(top, bottom, right, IMAGE_SIZE)]
    middle = graph.node("Concat", graph.crop(image, sides[0]), face, graph.crop(image, sides[1]), axis=3)
    return graph.node(
        "Concat", graph.slice(image, 0, top, 2), middle, graph.slice(image, bottom, IMAGE_SIZE, 2), axis=2
    )


def _pixels(graph: _Graph, posed: str, crop: Region) -> str:
    """Network space to straight 8-bit sRGB, [h, w, 4]; what images.to_rgba8 does."""
    zero, one = graph.constant(0.0), graph.constant(1.0)
    unit = graph.node("Add", graph.node("Mul", posed, graph.constant(0.5)), graph.constant(0.5))
    unit = graph.node("Clip", unit, zero, one)
    alpha = graph.slice(unit, 3, 4, 1)
    color = graph.node("Div", graph.slice(unit, 0, 3, 1), graph.node("Max", alpha, graph.constant(1e-6)))
    color = graph.node("Mul", graph.node("Min", color, one), graph.node("Ceil", alpha))  # black where alpha is 0
    # The curve's two parts meet at _LINEAR, below which the linear one is the smaller, and above it the power.
    power = graph.node("Pow", graph.node("Max", color, graph.constant(_LINEAR)), graph.constant(1 / 2.4))
    power = graph.node("Sub", graph.node("Mul", power, graph.constant(1.055)), graph.constant(0.055))
    encoded = graph.node("Min", graph.node("Mul", color, graph.constant(12.92)), power)
    straight = graph.node("Mul", graph.node("Concat", encoded, alpha, axis=1), graph.constant(255.0))
    levels = graph.node("Cast", graph.node("Round", straight), to=TensorProto.UINT8)
    height, width = crop.bottom - crop.top, crop.right - crop.left
    return graph.reshape(graph.node("Transpose", levels, perm=[0, 2, 3, 1]), height, width, 4)


def build_graph(
    model: CharacterModel,
    outputs: Sequence[str],
    half: bool = False,
    crop: Region = WHOLE,
    face_given: bool = False,
) -> onnx.ModelProto:
    """The folded student as one graph, from ``pose`` float32 [1, 45].

    Args:
        model: the student.
        outputs: which of OUTPUTS, in this order: ``rgba`` is uint8 [h, w, 4], straight sRGB; the others are StudentOutput's,
            float32 in network space, [1, channels, h, w] (the face [1, 4, 128, 128]). What none of them needs is left out.
        half: keep weights and stored activations in float16. First phases, in which pose and position are summed, the
            warp and the painting stay in float32.
        crop: what of the frame is computed: h x w.
        face_given: the graph has a second input ``face`` in place of the face morpher.
    """
    graph = _Graph(half)
    pose = "pose"
    values: dict[str, str] = {}
    inputs = [helper.make_tensor_value_info(pose, TensorProto.FLOAT, [1, POSE_SIZE])]
    if face_given:
        values["face"] = "face"
        inputs.append(helper.make_tensor_value_info("face", TensorProto.FLOAT, [1, 4, FACE_SIZE, FACE_SIZE]))
    elif {"face", "warped", "posed", "rgba"} & {*outputs}:
        values["face"] = _paint_face(graph, model, pose)
    if {*outputs} - {"face"}:
        channels = _channels(graph, model, pose, crop)
        for name, start, stop in (("grid_change", 0, 2), ("alpha", 2, 3), ("color_change", 3, 7)):
            values[name] = graph.slice(channels, start, stop, 1)
    if {"warped", "posed", "rgba"} & {*outputs}:
        values["warped"] = _warp(graph, _character(graph, model, values["face"]), values["grid_change"], crop)
        painted = graph.node("Sub", values["color_change"], values["warped"])
        values["posed"] = graph.node("Add", graph.node("Mul", painted, values["alpha"]), values["warped"])
    if "rgba" in outputs:
        values["rgba"] = _pixels(graph, values["posed"], crop)
    return _finish(graph, inputs, [(name, values[name]) for name in outputs], crop)


def _warp(graph: _Graph, character: str, grid_change: str, crop: Region) -> str:
    axis = axis_positions(IMAGE_SIZE)
    place = [graph.constant(axis[crop.left : crop.right]), graph.constant(axis[crop.top : crop.bottom, None])]
    moved = [graph.node("Add", graph.slice(grid_change, i, i + 1, 1), place[i]) for i in range(2)]
    grid = graph.node("Transpose", graph.node("Concat", *moved, axis=1), perm=[0, 2, 3, 1])
    return graph.node("GridSample", character, grid, mode="bilinear", padding_mode="border", align_corners=0)


def _finish(
    graph: _Graph, inputs: list[onnx.ValueInfoProto], results: list[tuple[str, str]], crop: Region
) -> onnx.ModelProto:
    """The graph with its results under their names, checked."""
    height, width = crop.bottom - crop.top, crop.right - crop.left
    outputs = []
    for name, value in results:
        graph.nodes.append(helper.make_node("Identity", [value], [name]))
        channels = {"grid_change": 2, "alpha": 1}.get(name, 4)
        side = (FACE_SIZE, FACE_SIZE) if name == "face" else (height, width)
        pixels = name == "rgba"
        shape = [height, width, 4] if pixels else [1, channels, *side]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8 if pixels else TensorProto.FLOAT, shape))
    model = helper.make_model(
        helper.make_graph(graph.nodes, "student", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="thadistill",
        producer_version=thadistill.__version__,
    )
    helper.set_model_props(model, {"pose": ",".join(POSE_PARAMETERS)})
    onnx.checker.check_model(model, full_check=True)
    return model


def open_session(graph: onnx.ModelProto | bytes) -> onnxruntime.InferenceSession:
    """The graph in ONNX Runtime on the CPU, with as many threads as PyTorch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    content = graph if isinstance(graph, bytes) else graph.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
