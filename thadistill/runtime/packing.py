"""Packing: the student's layers as the native kernels read them: folded, scaled to half-turns, quantised, in words.

Every level is a first layer (position, pose and upsampled features, whose products are a bias, a map and a plane),
hidden sine layers, and an output: the next level's first matrix on the features (it commutes with the upsampling), or
the last linear layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from thadistill.student.body_rotator import BodyRotator
from thadistill.student.character_model import CharacterModel
from thadistill.student.face_morpher import FACE_SIZE, FaceMorpher
from thadistill.student.siren import SineLayer

Format = Literal["f32", "i16"]
CODES = {"f32": 0, "i16": 1, "linear": 2}
_GROUP = {"f32": 1, "i16": 2}  # channels a 32-bit word holds
_ACTIVATION_ONE = 4095  # the integer that sin = 1 becomes; student.cpp has the same


@dataclass(frozen=True)
class Formats:
    """How the input of every matrix is held: the face's in order, and each level's of the body rotator."""

    face: tuple[Format, ...]
    body: tuple[tuple[Format, ...], ...]


def formats_of(model: CharacterModel, precision: str) -> Formats:
    """All alike, but for the body's last linear layer: grid changes need its products in float32."""
    form: Format = "f32" if precision == "float32" else "i16"
    depths = [len(level) for level in model.body_rotator.siren_layers]  # type: ignore[arg-type]
    body = [(form,) * depth for depth in depths]
    body[-1] = (*body[-1][:-1], "f32")
    return Formats((form,) * len(model.face_morpher.siren.sine_layers), tuple(body))


@dataclass
class PackedLayer:
    """One matrix and what follows it. ``weights`` are 32-bit words [block][input word][row]."""

    in_words: int
    rows: int
    blocks: int
    tail: bool
    in_format: str
    out_format: str
    weights: np.ndarray
    bias: np.ndarray
    scale: np.ndarray


@dataclass
class PackedStage:
    """One level (or the whole face): arrays the kernels point into."""

    size: int
    first_format: str
    pose_matrix: np.ndarray  # [first channels, pose values]
    pose_bias: np.ndarray
    wx: np.ndarray
    wy: np.ndarray
    layers: list[PackedLayer]

    @property
    def out_channels(self) -> int:
        last = self.layers[-1]
        return last.rows * last.blocks + 4 * last.tail


def _scaled(layer: SineLayer) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and bias with omega inside, in half-turns."""
    factor = layer.omega / math.pi
    return _numpy(layer.matrix) * factor, _numpy(layer.bias) * factor


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def _pad(array: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(array, [(0, rows - len(array))] + [(0, 0)] * (array.ndim - 1))


def _floats(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=np.float32)


def quantise(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Integer weights of 16 bits, and the scale per output channel that turns their products into phases.

    A row is scaled so that no sum of products leaves 32 bits, whatever the activations.
    """
    largest, whole = np.abs(matrix).max(axis=1), np.abs(matrix).sum(axis=1)
    step = np.maximum(largest / 32767, whole * _ACTIVATION_ONE / (2**31 - 2**22))
    step = np.where(step > 0, step, 1.0)
    return np.rint(matrix / step[:, None]).astype(np.int64), step / _ACTIVATION_ONE


def _words(integers: np.ndarray) -> np.ndarray:
    """Integer weights [out, in] -> [out, in / 2] words, the first channel in the low bits."""
    padded = np.pad(integers, [(0, 0), (0, integers.shape[1] % 2)])
    return np.ascontiguousarray(padded.astype(np.int16)).view(np.int32)


def pack_layer(
    matrix: np.ndarray, bias: np.ndarray, in_format: Format, out_format: str, multiple: int, largest_block: int
) -> PackedLayer:
    """Lays a matrix [out, in] out for the kernels; output channels padded with zeros to ``multiple`` and to a block."""
    channels = -(-len(matrix) // multiple) * multiple
    if largest_block >= 9 and in_format == "f32" and channels % 9 == 0 and _GROUP.get(out_format, 1) == 1:
        rows, blocks, tail = 9, channels // 9, False
    else:
        rows = 8 if largest_block >= 8 and channels > 4 else 4
        blocks = channels // rows
        left = channels - blocks * rows
        tail = 0 < left <= 4 and blocks > 0
        blocks += left > 0 and not tail
    channels = rows * blocks + 4 * tail
    scale = np.ones(len(matrix))
    if in_format == "f32":
        words = _floats(matrix).view(np.int32)
    else:
        integers, scale = quantise(matrix)
        words = _words(integers)
    words = _pad(words, channels)
    main = words[: rows * blocks].reshape(blocks, rows, -1).transpose(0, 2, 1)
    packed = np.concatenate([main.ravel(), words[rows * blocks :].T.ravel()])
    return PackedLayer(
        words.shape[1],
        rows,
        blocks,
        bool(tail),
        in_format,
        out_format,
        np.ascontiguousarray(packed),
        _floats(_pad(bias, channels)),
        _floats(_pad(scale, channels)),
    )


def _pack_stage(
    size: int,
    layers: Sequence[SineLayer],
    features: int,
    out: tuple[np.ndarray, np.ndarray],
    formats: Sequence[Format],
    out_multiple: int,
    largest_block: int,
) -> PackedStage:
    if len(formats) != len(layers):
        raise ValueError(f"{len(formats)} formats for {len(layers)} matrices; expected one a matrix")
    matrix, bias = _scaled(layers[0])
    first = -(-len(matrix) // _GROUP[formats[0]]) * _GROUP[formats[0]]
    matrix, bias = _pad(matrix, first), _pad(bias, first)
    packed = []
    for i, layer in enumerate(layers[1:]):
        packed.append(pack_layer(*_scaled(layer), formats[i], formats[i + 1], _GROUP[formats[i + 1]], largest_block))
    packed.append(pack_layer(*out, formats[-1], "linear", out_multiple, largest_block))
    return PackedStage(
        size,
        formats[0],
        _floats(matrix[:, features + 2 :]),
        _floats(bias),
        _floats(matrix[:, features]),
        _floats(matrix[:, features + 1]),
        packed,
    )


def pack_face(network: FaceMorpher, formats: Sequence[Format], largest_block: int) -> PackedStage:
    """The face morpher as one stage; ``formats`` says how each matrix's input is held, one a sine layer."""
    last = network.siren.last_linear
    assert last.bias is not None
    out = _numpy(last.weight[:, :, 0, 0]), _numpy(last.bias)
    layers: list[SineLayer] = list(network.siren.sine_layers)  # type: ignore[arg-type]
    return _pack_stage(FACE_SIZE, layers, 0, out, formats, 1, largest_block)


def pack_body(network: BodyRotator, formats: Sequence[Sequence[Format]], largest_block: int) -> list[PackedStage]:
    """The body rotator, a stage a level; ``formats[level]`` as in :func:`pack_face`."""
    stages = []
    levels: list[list[SineLayer]] = [list(level) for level in network.siren_layers]  # type: ignore[call-overload]
    last = network.last_linear
    assert last.bias is not None
    features = 0
    for i, layers in enumerate(levels):
        width = layers[-1].matrix.shape[0]
        multiple = 1
        if i + 1 < len(levels):
            matrix, bias = _scaled(levels[i + 1][0])
            out = matrix[:, :width], np.zeros(len(bias))  # the bias joins after the upsampling
            multiple = _GROUP[formats[i + 1][0]]  # the level above reads whole words of channels
        else:
            out = _numpy(last.weight[:, :, 0, 0]), _numpy(last.bias)
        stages.append(_pack_stage(network.sizes[i], layers, features, out, formats[i], multiple, largest_block))
        features = width
    return stages
