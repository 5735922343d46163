"""Patches: cut from target images, and the warp and the loss that body rotators are trained through on them."""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from thadistill.kernels.build import NativeUnavailable, load_native
from thadistill.kernels.patches import reference

_SOURCE = Path(__file__).with_name("patches.cpp")


def warp_patches(
    image: Float[Tensor, "c h w"],
    insets: Float[Tensor, "m c ih iw"],
    which: Int[Tensor, " n"],
    inset_corner: tuple[int, int],
    grid_change: Float[Tensor, "n 2 p p"],
    corner: Int[Tensor, "n 2"],
) -> Float[Tensor, "n c p p"]:
    """:func:`thadistill.warp.warp` on patches of images that share all but an inset, without building those images.

    Args:
        image: the shared image; what it holds under the inset does not matter.
        insets: rectangles pasted at pixel ``inset_corner`` (top, left), in any precision; only what is sampled is read.
        which: the inset of each sample.
        grid_change: each sample's offsets on its patch.
        corner: each patch's top and left pixel; beyond a square image its border pixel repeats.

    On a CPU a C++ kernel does it in one pass, where there is a compiler: torch's operations take a sixth of a step.
    """
    kernel = patch_kernels() if _is_native(image, insets, grid_change) else None
    if kernel is None:
        return reference.warp_patches(image, insets, which, inset_corner, grid_change, corner)
    return _Warp.apply(grid_change, kernel, _Scene.of(image, insets, which, inset_corner, corner))


def _is_native(image: Tensor, insets: Tensor, grid_change: Tensor) -> bool:
    types = (image.dtype, insets.dtype, grid_change.dtype) == (torch.float32, torch.float16, torch.float32)
    return (
        types
        and len(image) == 4
        and {image.device.type, insets.device.type, grid_change.device.type} == {"cpu"}
        and not (image.requires_grad or insets.requires_grad)
    )


@functools.cache
def patch_kernels() -> ctypes.CDLL | None:
    try:
        library = load_native(_SOURCE)
    except NativeUnavailable as error:
        logging.getLogger(__name__).info("patches are cut and warped without native kernels: %s", error)
        return None
    p, i, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    library.warp_patches.argtypes = [p, i, i, p, i, i, i, i, p, p, p, ctypes.POINTER(long), long, i, p, p, p]
    library.cut_patches.argtypes = [p, p, long, i, i, i, p]
    library.match_patches.argtypes = [p, i, i, p, i, i, i, i, p, p, p, p, p, long, i, p, p, p, i]
    for function in (library.warp_patches, library.cut_patches, library.match_patches):
        function.restype = None
    return library


def cut_patches(
    groups: Sequence[Float[Tensor, "g c h h"]], index: Int[Tensor, " n"], corner: Int[Tensor, "n 2"], size: int
) -> Float[Tensor, "n c p p"]:
    """Patches of ``size`` pixels at ``corner`` (top, left) of the images ``index``, which lie in groups of g.

    Beyond an image its border pixel repeats. In float32, whatever the images have; on a CPU, halves by a native kernel.
    """
    first = groups[0]
    channels, side = first.shape[1:3]
    on_cpu = {first.device.type, index.device.type, corner.device.type} == {"cpu"}
    kernel = patch_kernels() if on_cpu and first.dtype == torch.float16 else None
    if kernel is None or not all(group.is_contiguous() for group in groups):
        return reference.cut_patches(groups, index, corner, size)
    starts = torch.tensor([group.data_ptr() for group in groups])
    images = starts[index // len(first)] + index % len(first) * (channels * side * side * first.element_size())
    corner, out = corner.contiguous(), torch.empty(len(index), channels, size, size)
    kernel.cut_patches(images.data_ptr(), corner.data_ptr(), len(index), channels, side, size, out.data_ptr())
    return out


class _Scene(NamedTuple):
    """What the kernels sample, laid out as they read it: see :func:`warp_patches`."""

    pixels: Float[Tensor, "h w c"]
    insets: Float[Tensor, "m c ih iw"]
    which: Int[Tensor, " n"]
    inset_corner: tuple[int, int]
    corner: Int[Tensor, "n 2"]

    @classmethod
    def of(cls, image: Tensor, insets: Tensor, which: Tensor, inset_corner: tuple[int, int], corner: Tensor) -> _Scene:
        pixels = image.permute(1, 2, 0).contiguous()
        return cls(pixels, insets.contiguous(), which.contiguous(), inset_corner, corner.contiguous())

    def arguments(self) -> tuple[int, ...]:
        """The kernels' first, good for as long as this lives."""
        image = (self.pixels.data_ptr(), *self.pixels.shape[:2])
        insets = (self.insets.data_ptr(), *self.insets.shape[2:], *self.inset_corner)
        return (*image, *insets, self.which.data_ptr(), self.corner.data_ptr())


class _Warp(torch.autograd.Function):
    """The native warp; its slopes are taken on the way, since it has the four pixels at hand."""

    @staticmethod
    def forward(ctx, grid_change, kernel, scene):  # type: ignore[no-untyped-def]
        n, _, size, _ = grid_change.shape
        value = grid_change.new_empty(n, 4, size, size)
        slopes = grid_change.new_empty(2, n, 4, size, size) if ctx.needs_input_grad[0] else None
        kernel.warp_patches(
            *scene.arguments(),
            grid_change.data_ptr(),
            (ctypes.c_int64 * 4)(*grid_change.stride()),
            n,
            size,
            value.data_ptr(),
            *(slope.data_ptr() for slope in slopes) if slopes is not None else (None, None),
        )
        if slopes is not None:
            ctx.save_for_backward(slopes)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):  # type: ignore[no-untyped-def]
        (slopes,) = ctx.saved_tensors
        return (slopes * gradient).sum(2).transpose(0, 1), None, None


class Matched(NamedTuple):
    """How far patches are off: the weighted loss, its terms (RotatorTerms), and the root mean square of each blended one."""

    loss: Float[Tensor, ""]
    terms: Float[Tensor, "4"]
    rmse: Float[Tensor, " n"]


def match_patches(
    channels: Float[Tensor, "n p 7"],
    weights: Sequence[float],
    posed: Float[Tensor, "n 4 s s"],
    grid_change: Float[Tensor, "n 2 s s"],
    image: Float[Tensor, "c h w"],
    insets: Float[Tensor, "m c ih iw"],
    which: Int[Tensor, " n"],
    inset_corner: tuple[int, int],
    corner: Int[Tensor, "n 2"],
) -> Matched | None:
    """:func:`thadistill.lit.losses.rotator_terms` of patches, in one pass; None where there is no kernel for it.

    Args:
        channels: the student's, for each pixel of a patch: see RotatorOutput. weights: of the four terms.
        posed, grid_change: the targets, which the image is warped by as well.
        image, insets, which, inset_corner, corner: see :func:`warp_patches`.

    Torch has some forty operations for it, each of which reads and writes all of the patches.
    """
    given = (channels, posed, grid_change)
    fits = all(x.dtype == torch.float32 for x in given) and _is_native(image, insets, channels)
    kernel = patch_kernels() if fits else None
    if kernel is None:
        return None
    return Matched(*_Match.apply(*given, kernel, weights, _Scene.of(image, insets, which, inset_corner, corner)))


class _Match(torch.autograd.Function):
    """The native loss, and its gradient on the way."""

    @staticmethod
    def forward(ctx, channels, posed, grid_change, kernel, weights, scene):  # type: ignore[no-untyped-def]
        n, _, size, _ = posed.shape
        elements = torch.tensor([4.0, 4.0, 2.0, 4.0], dtype=torch.double) * (n * size * size)
        shares = torch.tensor(weights, dtype=torch.double)
        each = (shares / elements).float()
        channels, posed, grid_change = channels.contiguous(), posed.contiguous(), grid_change.contiguous()
        sums, gradient = channels.new_empty(n, 5), torch.empty_like(channels)
        kernel.match_patches(
            *scene.arguments(),
            *(channels.data_ptr(), posed.data_ptr(), grid_change.data_ptr()),
            *(n, size, each.data_ptr(), sums.data_ptr(), gradient.data_ptr(), torch.get_num_threads()),
        )
        terms = sums[:, :4].sum(0, dtype=torch.double) / elements
        loss = (terms * shares).sum().float()
        terms, rmse = terms.float(), (sums[:, 4] / (4 * size * size)).sqrt()
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(terms, rmse)
        return loss, terms, rmse

    @staticmethod
    @once_differentiable
    def backward(ctx, to_loss, *_):  # type: ignore[no-untyped-def]
        (gradient,) = ctx.saved_tensors
        return gradient * to_loss, None, None, None, None, None
