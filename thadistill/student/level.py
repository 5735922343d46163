"""Level: the sine layers of one SIREN level at chosen pixels, as students are trained through them.

Pose and position enter as a plane, the level below is doubled on the way in. On a CPU C++ kernels do what is not a matrix
product, where there is a compiler; and where the processor multiplies bfloat16, the backward pass is made in it: gradients
may have three digits, values and weights remain float32.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from thadistill.native_build import NativeUnavailable, load_native, multiplies_bfloat16
from thadistill.student.products import linear
from thadistill.student.siren import sine_linear

_SOURCE = Path(__file__).with_name("level.cpp")


class Doubling(NamedTuple):
    """Bilinear doubling along an axis, from s pixels to t: each reads ``low`` and the next with its two weights."""

    matrix: Float[Tensor, "t s"]
    low: Int[Tensor, " t"]  # int32
    weight: Float[Tensor, "2 t"]

    @classmethod
    def of(cls, matrix: Float[Tensor, "t s"]) -> Doubling:
        """From the matrix, of which a row has one or two neighbouring entries."""
        low = (matrix > 0).int().argmax(1)
        following = torch.cat([matrix, matrix.new_zeros(len(matrix), 1)], dim=1).gather(1, low[:, None] + 1)
        return cls(matrix, low.int(), torch.cat([matrix.gather(1, low[:, None]), following], dim=1).T.contiguous())


class LayerWeights(NamedTuple):
    """A layer's matrix and bias; a sine layer's are times omega."""

    matrix: Float[Tensor, "d c"]
    bias: Float[Tensor, " d"]

    @classmethod
    def of(cls, layer: nn.Conv2d) -> LayerWeights:
        """Of a linear 1x1 convolution."""
        assert layer.bias is not None
        return cls(layer.weight[:, :, 0, 0], layer.bias)


def sine_level(
    below: Float[Tensor, "n s2 c"] | None,
    features: Float[Tensor, "d c"] | None,
    doubling: Doubling | None,
    coordinates: Float[Tensor, "n p 2"],
    plane: Float[Tensor, "m 3 d"],
    rest: Sequence[LayerWeights],
    last: LayerWeights | None = None,
) -> Float[Tensor, "n p e"]:
    """Sine layers at p pixels of each of n squares, n/m in a row for each of m poses.

    Args:
        below: the level below on the s by s pixels of each square, and ``features`` its matrix in the first layer.
        doubling: along either axis; None where the level below has the same pixels.
        coordinates: x, y of each pixel.
        plane: what the first layer's phase has of x, of y, and for itself, in each pose.
        rest: the sine layers after the first. last: a layer without a sine after those.
    """
    kernels = _kernels() if plane.device.type == "cpu" and plane.dtype == torch.float32 else None
    if kernels is None:
        x = _level_by_torch(below, features, doubling, coordinates, plane, rest)
        return x if last is None else F.linear(x, last.matrix, last.bias)
    layers = [*rest, *([] if last is None else [last])]
    weights = [tensor for layer in layers for tensor in layer]
    return _Level.apply(kernels, below, features, doubling, coordinates, plane, last is not None, *weights)


def _level_by_torch(
    below: Tensor | None,
    features: Tensor | None,
    doubling: Doubling | None,
    coordinates: Tensor,
    plane: Tensor,
    rest: Sequence[LayerWeights],
) -> Tensor:
    n, points, _ = coordinates.shape
    ones = coordinates.new_ones(1).expand(n, points, 1)
    given = torch.cat([coordinates, ones], dim=2).reshape(len(plane), -1, 3)  # all squares of a pose
    if below is None or features is None:
        phase = torch.bmm(given, plane)
    else:
        raised = F.linear(below, features)
        raised = raised if doubling is None else _double(raised, doubling.matrix)
        phase = torch.baddbmm(raised.reshape(len(plane), -1, raised.shape[-1]), given, plane)
    x = torch.sin(phase).view(n, points, -1)
    for layer in rest:
        x = sine_linear(x, layer.matrix, layer.bias, 1.0)
    return x


def _double(x: Float[Tensor, "n s2 c"], matrix: Float[Tensor, "t s"]) -> Float[Tensor, "n t2 c"]:
    """Doubles squares by products with the matrix: on a CPU several times faster than ``interpolate``."""
    side, given = matrix.shape
    n, _, channels = x.shape
    rows = torch.matmul(matrix, x.reshape(n, given, given * channels)).reshape(n * side, given, channels)
    return torch.matmul(matrix, rows).reshape(n, side * side, channels)


class LevelKernels:
    """The functions of level.cpp, for what the backward pass is made in."""

    def __init__(self, library: ctypes.CDLL, kept: torch.dtype) -> None:
        self.kept = kept
        name = "bf16" if kept == torch.bfloat16 else "f32"
        p, i, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
        self._enter, self._sine, self._turn, self._leave = (
            getattr(library, f"level_{verb}_{name}") for verb in ("enter", "sine", "turn", "leave")
        )
        self._enter.argtypes = [p, p, p, i, i, p, p, long, long, i, i, p, p, p, i]
        self._sine.argtypes = [p, p, long, i, p, p, i]
        self._turn.argtypes = [p, p, long, i, p, i]
        self._leave.argtypes = [p, p, p, p, i, i, p, long, long, i, i, p, p, i]
        for function in (self._enter, self._sine, self._turn, self._leave):
            function.restype = None

    def enter(
        self, raised: Tensor | None, doubling: Doubling | None, coordinates: Tensor, plane: Tensor, copied: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The first layer's output [n * p, d], its slopes, and the output as the backward pass has it, where ``copied``."""
        n, points, _ = coordinates.shape
        m, _, channels = plane.shape
        out = plane.new_empty(n * points, channels)
        slope, copy = self._beside(out, copied)
        self._enter(
            *(_address(raised), *_of(doubling), coordinates.data_ptr(), plane.data_ptr(), n, n // m, points, channels),
            *(out.data_ptr(), slope.data_ptr(), _address(copy), torch.get_num_threads()),
        )
        return out, slope, out if copy is None else copy

    def sine(self, phase: Tensor, bias: Tensor, copied: bool) -> tuple[Tensor, Tensor]:
        """Makes sin(phase + bias) of ``phase`` in place; gives its slopes, and it as the backward pass has it."""
        slope, copy = self._beside(phase, copied)
        self._sine(
            *(phase.data_ptr(), bias.data_ptr(), *phase.shape, slope.data_ptr(), _address(copy)),
            torch.get_num_threads(),
        )
        return slope, phase if copy is None else copy

    def _beside(self, out: Tensor, copied: bool) -> tuple[Tensor, Tensor | None]:
        slope = torch.empty_like(out, dtype=self.kept)
        return slope, torch.empty_like(slope) if copied and self.kept != out.dtype else None

    def turn(self, gradient: Tensor, slope: Tensor) -> Tensor:
        """Multiplies ``gradient`` by ``slope`` in place; gives the sum of its rows in float32."""
        sums = torch.empty(gradient.shape[1])
        self._turn(gradient.data_ptr(), slope.data_ptr(), *gradient.shape, sums.data_ptr(), torch.get_num_threads())
        return sums

    def leave(
        self, gradient: Tensor, slope: Tensor, doubling: Doubling | None, coordinates: Tensor, poses: int
    ) -> tuple[Tensor, Tensor | None]:
        """What the plane and the level below get."""
        n, points, _ = coordinates.shape
        channels = gradient.shape[1]
        to_plane = torch.empty(poses, 3, channels)
        given = 0 if doubling is None else doubling.matrix.shape[1]
        to_raised = None if doubling is None else gradient.new_empty(n * given**2, channels)
        self._leave(
            *(gradient.data_ptr(), slope.data_ptr(), *_of(doubling), coordinates.data_ptr(), poses, n // poses, points),
            *(channels, to_plane.data_ptr(), _address(to_raised), torch.get_num_threads()),
        )
        return to_plane, to_raised


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _of(doubling: Doubling | None) -> tuple[int | None, int | None, int, int]:
    if doubling is None:
        return None, None, 0, 0
    size, given = doubling.matrix.shape
    return doubling.low.data_ptr(), doubling.weight.data_ptr(), given, size


@functools.cache
def _kernels() -> LevelKernels | None:
    try:
        library = load_native(_SOURCE)
    except NativeUnavailable as error:
        logging.getLogger(__name__).info("students are trained without native kernels: %s", error)
        return None
    return LevelKernels(library, torch.bfloat16 if multiplies_bfloat16() else torch.float32)


@functools.cache
def _same(side: int) -> Doubling:
    return Doubling.of(torch.eye(side))


class _Level(torch.autograd.Function):
    """:func:`sine_level` by the kernels."""

    @staticmethod
    def forward(ctx, kernels, below, features, doubling, coordinates, plane, ends, *rest):  # type: ignore[no-untyped-def]
        n, points, _ = coordinates.shape
        coordinates, plane = coordinates.contiguous(), plane.contiguous()
        raised = None
        if below is not None:
            raised = linear(below.reshape(-1, below.shape[-1]), features)
            doubling = _same(math.isqrt(points)) if doubling is None else doubling
        x, slope, seen = kernels.enter(raised, doubling, coordinates, plane, copied=bool(rest))
        slopes, inputs = [slope], []
        for index in range(0, len(rest), 2):
            matrix, bias = rest[index : index + 2]
            inputs.append(seen)
            if ends and index + 2 == len(rest):
                x = linear(x, matrix, bias)
            else:
                x = linear(x, matrix)
                slope, seen = kernels.sine(x, bias, copied=index + 2 < len(rest))
                slopes.append(slope)
        given = (below, features) if below is not None else ()
        ctx.save_for_backward(*slopes, *inputs, *rest[::2], *given)
        ctx.kernels, ctx.doubling, ctx.coordinates, ctx.poses, ctx.ends = (
            kernels,
            doubling,
            coordinates,
            len(plane),
            ends,
        )
        ctx.layers = len(inputs)
        return x.view(n, points, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        kernels, layers = ctx.kernels, ctx.layers
        saved = iter(ctx.saved_tensors)
        slopes = list(islice(saved, 1 + layers - ctx.ends))
        inputs, matrices = list(islice(saved, layers)), list(islice(saved, layers))
        given = list(saved)
        gradient = gradient.reshape(-1, gradient.shape[-1])
        to_rest: list[Tensor] = []
        to_last_bias = gradient.sum(0)
        gradient = gradient.to(kernels.kept, copy=True)
        for index in reversed(range(layers)):
            linear_only = ctx.ends and index == layers - 1
            to_bias = to_last_bias if linear_only else kernels.turn(gradient, slopes.pop())
            to_rest = [(gradient.T @ inputs[index]).float(), to_bias, *to_rest]
            gradient = gradient @ matrices[index].to(kernels.kept)
        to_plane, to_raised = kernels.leave(gradient, slopes[0], ctx.doubling, ctx.coordinates, ctx.poses)
        to_below = to_features = None
        if given:
            below, features = given
            to_features = (to_raised.T @ below.reshape(-1, below.shape[-1]).to(kernels.kept)).float()
            to_below = (to_raised @ features.to(kernels.kept)).float().view(below.shape)
        return None, to_below, to_features, None, None, to_plane, None, *to_rest
