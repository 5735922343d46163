"""Level: the sine layers of one SIREN level at chosen pixels, as students are trained through them.

Pose and position enter as a plane, the level below is doubled on the way in. On a CPU C++ kernels do what is not a matrix
product, where there is a compiler. Where the processor multiplies bfloat16, the factors of products are rounded to it: in
the backward pass, and where there is one to come, in the forward pass, whose sums are float32. Weights, and values that
nobody wants gradients of, remain float32.
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
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from thadistill.kernels.build import NativeUnavailable, load_native, multiplies_bfloat16
from thadistill.kernels.level import reference
from thadistill.kernels.level.reference import Doubling, LayerWeights
from thadistill.kernels.matmul import linear

_SOURCE = Path(__file__).with_name("level.cpp")


def sine_level(
    below: Float[Tensor, "n s2 c"] | None,
    features: Float[Tensor, "d c"] | None,
    doubling: Doubling | None,
    coordinates: Float[Tensor, "n p 2"],
    plane: Float[Tensor, "m 3 d"],
    rest: Sequence[LayerWeights],
    last: LayerWeights | None = None,
) -> Float[Tensor, "n p e"]:
    """Sine layers at p pixels of each of n patches, n/m in a row for each of m poses.

    Args:
        below: the level below on the s by s pixels of each patch, and ``features`` its matrix in the first layer.
        doubling: along either axis; None where the level below has the same pixels.
        coordinates: x, y of each pixel.
        plane: what the first layer's phase has of x, of y, and for itself, in each pose.
        rest: the sine layers after the first. last: a layer without a sine after those.

    Where it rounds (see above), values that no last layer ends, for another level, are bfloat16.
    """
    on_cpu = {x.device.type for x in (below, features, coordinates, plane) if x is not None} == {"cpu"}
    kernels = level_kernels() if on_cpu and plane.dtype == torch.float32 else None
    if kernels is None:
        return reference.sine_level(below, features, doubling, coordinates, plane, rest, last)
    layers = [*rest, *([] if last is None else [last])]
    weights = [tensor for layer in layers for tensor in layer]
    rounded = kernels.multiplies and torch.is_grad_enabled() and any(x.requires_grad for x in (plane, *weights))
    how = _How(kernels, rounded, last is not None)
    return _Level.apply(how, below, features, doubling, coordinates, plane, *weights)


class Sines(NamedTuple):
    """What a sine layer gives at n pixels, as far as it is wanted: its values, in float32 and as products have them."""

    out: Float[Tensor, "n c"] | None
    seen: Float[Tensor, "n c"] | None
    derivative: Float[Tensor, "n c"]


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
        functions = [self._enter, self._sine, self._turn, self._leave]
        self.multiplies = kept == torch.bfloat16 and bool(library.level_multiplies())
        if self.multiplies:
            self._layer, self._back = library.level_layer, library.level_back
            self._layer.argtypes = [p, long, i, p, i, p, p, p, p, i]
            self._back.argtypes = [p, long, i, p, i, p, p, p, i]
            functions += [self._layer, self._back]
        for function in functions:
            function.restype = None

    def enter(
        self,
        raised: Tensor | None,
        doubling: Doubling | None,
        coordinates: Tensor,
        plane: Tensor,
        *,
        whole: bool = True,
        copied: bool,
    ) -> Sines:
        """The first layer, at n patches of p pixels each."""
        n, points, _ = coordinates.shape
        m, _, channels = plane.shape
        to = self._room(n * points, channels, whole, copied)
        self._enter(
            *(_address(raised), *_of(doubling), coordinates.data_ptr(), plane.data_ptr(), n, n // m, points, channels),
            *(_address(to.out), to.derivative.data_ptr(), self._copy(to), torch.get_num_threads()),
        )
        return to

    def sine(self, phase: Tensor, bias: Tensor, *, copied: bool) -> Sines:
        """sin(phase + bias), in the place of ``phase``."""
        rows, channels = phase.shape
        to = self._room(rows, channels, False, copied)._replace(out=phase)
        to = to if self.kept != phase.dtype else to._replace(seen=phase)
        self._sine(
            *(phase.data_ptr(), bias.data_ptr(), *phase.shape, to.derivative.data_ptr(), self._copy(to)),
            torch.get_num_threads(),
        )
        return to

    def layer(self, x: Float[Tensor, "n c"], weights: LayerWeights, *, whole: bool, copied: bool) -> Sines:
        """A whole sine layer of what is bfloat16."""
        to = self._room(len(x), len(weights.matrix), whole, copied)
        self._multiply(x, weights.matrix, weights.bias, to.out, to.derivative, to.seen)
        return to

    def product(self, x: Float[Tensor, "n c"], matrix: Float[Tensor, "d c"]) -> Float[Tensor, "n d"]:
        """x W^T of what is bfloat16, in float32."""
        out = torch.empty(len(x), len(matrix))
        self._multiply(x, matrix, None, out, None, None)
        return out

    def _multiply(
        self,
        x: Tensor,
        matrix: Tensor,
        bias: Tensor | None,
        out: Tensor | None,
        derivative: Tensor | None,
        seen: Tensor | None,
    ) -> None:
        assert x.dtype == torch.bfloat16
        x, matrix = x.contiguous(), matrix.contiguous()
        self._layer(
            *(x.data_ptr(), *x.shape, matrix.data_ptr(), len(matrix), _address(bias)),
            *(_address(out), _address(derivative), _address(seen), torch.get_num_threads()),
        )

    def _room(self, rows: int, channels: int, whole: bool, copied: bool) -> Sines:
        own = self.kept == torch.float32  # then one tensor is both
        out = torch.empty(rows, channels) if whole or own else None
        derivative = torch.empty(rows, channels, dtype=self.kept)
        return Sines(out, out if own else torch.empty_like(derivative) if copied else None, derivative)

    def _copy(self, to: Sines) -> int | None:
        return None if self.kept == torch.float32 else _address(to.seen)

    def turn(self, gradient: Tensor, derivative: Tensor) -> Tensor:
        """Multiplies ``gradient`` by ``derivative`` in place; gives the sum of its rows in float32."""
        sums = torch.empty(gradient.shape[1])
        self._turn(
            gradient.data_ptr(), derivative.data_ptr(), *gradient.shape, sums.data_ptr(), torch.get_num_threads()
        )
        return sums

    def back(
        self, gradient: Float[Tensor, "n d"], matrix: Float[Tensor, "d c"], derivative: Float[Tensor, "n c"] | None
    ) -> tuple[Float[Tensor, "n c"], Float[Tensor, " c"] | None]:
        """Through a product to the phases of the layer before it: ``gradient`` W ``derivative``, and the sum of its rows.

        Without ``derivative``, to the layer's values, and no sum.
        """
        if not self.multiplies:
            gradient = gradient @ matrix.to(self.kept)
            return gradient, None if derivative is None else self.turn(gradient, derivative)
        gradient, matrix = gradient.contiguous(), matrix.contiguous()
        rows, channels = len(gradient), matrix.shape[1]
        out = torch.empty(rows, channels, dtype=self.kept)
        sums = None if derivative is None else torch.empty(channels)
        self._back(
            *(gradient.data_ptr(), rows, len(matrix), matrix.data_ptr(), channels),
            *(_address(derivative), out.data_ptr(), _address(sums), torch.get_num_threads()),
        )
        return out, sums

    def leave(
        self, gradient: Tensor, derivative: Tensor, doubling: Doubling | None, coordinates: Tensor, poses: int
    ) -> tuple[Tensor, Tensor | None]:
        """What the plane and the level below get."""
        n, points, _ = coordinates.shape
        channels = gradient.shape[1]
        to_plane = torch.empty(poses, 3, channels)
        given = 0 if doubling is None else doubling.matrix.shape[1]
        to_raised = None if doubling is None else gradient.new_empty(n * given**2, channels)
        self._leave(
            *(
                gradient.data_ptr(),
                derivative.data_ptr(),
                *_of(doubling),
                coordinates.data_ptr(),
                poses,
                n // poses,
                points,
            ),
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
def level_kernels() -> LevelKernels | None:
    try:
        library = load_native(_SOURCE)
    except NativeUnavailable as error:
        logging.getLogger(__name__).info("students are trained without native kernels: %s", error)
        return None
    return LevelKernels(library, torch.bfloat16 if multiplies_bfloat16() else torch.float32)


@functools.cache
def _same(side: int) -> Doubling:
    return Doubling.of(torch.eye(side))


class _How(NamedTuple):
    """How a level is run: whether the products' factors are rounded in the forward pass too, and a linear layer ends it."""

    kernels: LevelKernels
    rounded: bool
    ends: bool


class _Level(torch.autograd.Function):
    """:func:`sine_level` by the kernels."""

    @staticmethod
    def forward(ctx, how, below, features, doubling, coordinates, plane, *rest):  # type: ignore[no-untyped-def]
        kernels, rounded = how.kernels, how.rounded
        n, points, _ = coordinates.shape
        coordinates, plane = coordinates.contiguous(), plane.contiguous()
        layers = [LayerWeights(*rest[index : index + 2]) for index in range(0, len(rest), 2)]
        sines = layers[:-1] if how.ends else layers
        raised = None
        ctx.below_type = None if below is None else below.dtype
        if below is not None:
            below = below.reshape(-1, below.shape[-1]).to(kernels.kept if rounded else torch.float32)
            raised = kernels.product(below, features) if rounded else linear(below, features)
            doubling = _same(math.isqrt(points)) if doubling is None else doubling
        handed = rounded and not how.ends  # to another level, which would round it
        whole = not rounded or (not sines and not handed)
        x = kernels.enter(raised, doubling, coordinates, plane, whole=whole, copied=handed or bool(layers))
        passed = [x]
        for number, layer in enumerate(sines, 1):
            if rounded:
                x = kernels.layer(x.seen, layer, whole=number == len(sines) and not handed, copied=True)
            else:
                x = kernels.sine(linear(x.out, layer.matrix), layer.bias, copied=number < len(layers))
            passed.append(x)
        out = linear(x.out, *layers[-1]) if how.ends else x.seen if handed else x.out
        derivatives, inputs = [x.derivative for x in passed], [x.seen for x in passed[: len(layers)]]
        given = (below, features) if below is not None else ()
        ctx.save_for_backward(*derivatives, *inputs, *rest[::2], *given)
        ctx.how, ctx.doubling, ctx.coordinates = how, doubling, coordinates
        ctx.poses, ctx.layers = len(plane), len(layers)
        return out.view(n, points, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (kernels, _, ends), layers = ctx.how, ctx.layers
        saved = iter(ctx.saved_tensors)
        derivatives = list(islice(saved, 1 + layers - ends))
        inputs, matrices = list(islice(saved, layers)), list(islice(saved, layers))
        given = list(saved)
        gradient = gradient.reshape(-1, gradient.shape[-1])
        to_bias = gradient.sum(0) if ends else None
        gradient = gradient.to(kernels.kept, copy=True)
        if layers and not ends:
            to_bias = kernels.turn(gradient, derivatives.pop())
        to_rest: list[Tensor | None] = []
        for index in reversed(range(layers)):
            to_rest = [(gradient.T @ inputs[index]).float(), to_bias, *to_rest]
            gradient, to_bias = kernels.back(gradient, matrices[index], derivatives.pop() if index else None)
        to_plane, to_raised = kernels.leave(gradient, derivatives[0], ctx.doubling, ctx.coordinates, ctx.poses)
        to_below = to_features = None
        if given:
            below, features = given
            to_features = (to_raised.T @ below.to(kernels.kept)).float()
            if ctx.needs_input_grad[1]:
                to_below, _ = kernels.back(to_raised, features, None)
                to_below = to_below.to(ctx.below_type).view(len(ctx.coordinates), -1, below.shape[-1])
        return None, to_below, to_features, None, None, to_plane, *to_rest
