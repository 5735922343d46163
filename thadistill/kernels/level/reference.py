"""Level in plain PyTorch: the reference of :mod:`thadistill.kernels.level.op`, and its stand-in on other devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


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
    """:func:`thadistill.kernels.level.sine_level` in plain PyTorch, on any device."""
    n, points, _ = coordinates.shape
    ones = coordinates.new_ones(1).expand(n, points, 1)
    given = torch.cat([coordinates, ones], dim=2).reshape(len(plane), -1, 3)  # all patches of a pose
    if below is None or features is None:
        phase = torch.bmm(given, plane)
    else:
        raised = F.linear(below, features)
        raised = raised if doubling is None else _double(raised, doubling.matrix)
        phase = torch.baddbmm(raised.reshape(len(plane), -1, raised.shape[-1]), given, plane)
    x = torch.sin(phase).view(n, points, -1)
    for layer in rest:
        x = sine_linear(x, layer.matrix, layer.bias, 1.0)
    return x if last is None else F.linear(x, last.matrix, last.bias)


def _double(x: Float[Tensor, "n s2 c"], matrix: Float[Tensor, "t s"]) -> Float[Tensor, "n t2 c"]:
    """Doubles patches by products with the matrix: on a CPU several times faster than ``interpolate``."""
    side, given = matrix.shape
    n, _, channels = x.shape
    rows = torch.matmul(matrix, x.reshape(n, given, given * channels)).reshape(n * side, given, channels)
    return torch.matmul(matrix, rows).reshape(n, side * side, channels)


class _SineLinear(torch.autograd.Function):
    """sin(omega * (x W^T + b)) with a gradient that makes few passes over memory, which is what it costs on a CPU."""

    @staticmethod
    def forward(ctx, x, matrix, bias, omega):  # type: ignore[no-untyped-def]
        rows = x.reshape(-1, x.shape[-1])
        phase = torch.addmm(bias * omega, rows, (matrix * omega).T)
        ctx.save_for_backward(rows, matrix, phase)
        ctx.omega, ctx.shape = omega, x.shape
        return torch.sin(phase).view(*x.shape[:-1], len(matrix))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        rows, matrix, phase = ctx.saved_tensors
        gradient = torch.cos(phase).mul_(gradient.reshape(phase.shape))
        ones = gradient.new_ones(1, len(gradient))
        to_x = (gradient @ (matrix * ctx.omega)).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return to_x, (gradient.T @ rows).mul_(ctx.omega), (ones @ gradient)[0].mul_(ctx.omega), None


def sine_linear(
    x: Float[Tensor, "*n c"], matrix: Float[Tensor, "d c"], bias: Float[Tensor, " d"], omega: float
) -> Float[Tensor, "*n d"]:
    """sin(omega * (W x + b)) of rows of features; the sine layer for channels-last data, once differentiable."""
    return _SineLinear.apply(x, matrix, bias, omega)
