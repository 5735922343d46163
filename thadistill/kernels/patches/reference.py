"""Patches in plain PyTorch: the reference of :mod:`thadistill.kernels.patches.op`, and its stand-in on other devices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def cut_patches(
    groups: Sequence[Float[Tensor, "g c h h"]], index: Int[Tensor, " n"], corner: Int[Tensor, "n 2"], size: int
) -> Float[Tensor, "n c p p"]:
    """:func:`thadistill.kernels.patches.cut_patches`; a group at a time, as slicing each patch alone is slower."""
    first = groups[0]
    group = index // len(first)
    pixel = (corner[:, :, None] + torch.arange(size, device=corner.device)).clamp(0, first.shape[-1] - 1)
    row, column = pixel[:, 0, :, None], pixel[:, 1, None, :]
    out = torch.empty(len(index), size, size, first.shape[1], dtype=first.dtype, device=first.device)
    for number in group.unique().tolist():
        chosen = (group == number).nonzero()[:, 0]
        own = (index[chosen] % len(first))[:, None, None]
        out[chosen] = groups[number][own, :, row[chosen], column[chosen]]
    return out.permute(0, 3, 1, 2).float()


def warp_patches(
    image: Float[Tensor, "c h w"],
    insets: Float[Tensor, "m c ih iw"],
    which: Int[Tensor, " n"],
    inset_corner: tuple[int, int],
    grid_change: Float[Tensor, "n 2 p p"],
    corner: Int[Tensor, "n 2"],
) -> Float[Tensor, "n c p p"]:
    """:func:`thadistill.kernels.patches.warp_patches`, on any device and differentiable in all it samples."""
    _, height, width = image.shape
    inset_height, inset_width = insets.shape[-2:]
    size = grid_change.shape[-1]
    pixel = (corner[:, :, None] + torch.arange(size, device=corner.device)).clamp(0, height - 1)
    # in pixels, clamped to the outermost centres: there the border repeats
    row = (pixel[:, 0, :, None] + grid_change[:, 1] * (height / 2)).clamp(0, height - 1)
    column = (pixel[:, 1, None, :] + grid_change[:, 0] * (width / 2)).clamp(0, width - 1)
    # from 0, for what is not a number is the least of integers
    top, left = row.detach().long().clamp(0, height - 2), column.detach().long().clamp(0, width - 2)
    below, right = row - top, column - left
    y, x = torch.stack([top, top, top + 1, top + 1]), torch.stack([left, left + 1, left, left + 1])
    weight = torch.stack([(1 - below) * (1 - right), (1 - below) * right, below * (1 - right), below * right])
    inset_y, inset_x = y - inset_corner[0], x - inset_corner[1]
    inside = (inset_y >= 0) & (inset_y < inset_height) & (inset_x >= 0) & (inset_x < inset_width)
    place = inset_y.clamp(0, inset_height - 1) * inset_width + inset_x.clamp(0, inset_width - 1)
    own = insets.flatten(2)[which[:, None, None], :, place]
    shared = image.flatten(1)[:, y * width + x].permute(1, 2, 3, 4, 0)
    value = torch.where(inside[..., None], own, shared)
    return (value * weight[..., None]).sum(0).permute(0, 3, 1, 2)
